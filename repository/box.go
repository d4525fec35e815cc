package repository

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"

	"github.com/zeebo/blake3"
)

// A box is a piece of an object that is encrypted and authenticated as a
// whole: AES-256-GCM under the object's key, with the offset of the box in the
// object as nonce and the letter of its kind as additional data. Boxes of one
// object begin at different offsets, and no two objects share a key.

// boxKind says what is in a box.
type boxKind byte

const (
	boxFrame     boxKind = 'F'
	boxDirectory boxKind = 'D'
	boxPage      boxKind = 'P'
	boxTail      boxKind = 'T'
	boxRecord    boxKind = 'R'
	boxNote      boxKind = 'N'
	boxKeys      boxKind = 'K'
	boxIntent    boxKind = 'I'
	boxMark      boxKind = 'L'
)

// boxOverhead is how much longer a box is than what it holds.
const boxOverhead = 16

// derivedCipher gives AES-256-GCM under a key derived for the purpose.
func derivedCipher(purpose string, material []byte) cipher.AEAD {
	var key secret
	blake3.DeriveKey(derivation(purpose), material, key[:])
	c := newCipher(key)
	clear(material)
	clear(key[:])
	return c
}

// newCipher gives AES-256-GCM.
func newCipher(key secret) cipher.AEAD {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic("aes: a key of 32 bytes was refused: " + err.Error())
	}
	c, err := cipher.NewGCM(block)
	if err != nil {
		panic("gcm: the AES cipher was refused: " + err.Error())
	}
	return c
}

// nonceAt is the nonce of the box at an offset of its object.
func nonceAt(offset int64) (nonce [12]byte) {
	binary.BigEndian.PutUint64(nonce[4:], uint64(offset))
	return nonce
}

// appendBox appends the box holding plain to the object made so far, which
// must be whole up to there: its length is the nonce.
func appendBox(object []byte, c cipher.AEAD, kind boxKind, plain []byte) []byte {
	nonce := nonceAt(int64(len(object)))
	return c.Seal(object, nonce[:], plain, []byte{byte(kind)})
}

// openBox opens the box that lies at the offset, into its own memory.
func openBox(c cipher.AEAD, kind boxKind, offset int64, box []byte) ([]byte, error) {
	nonce := nonceAt(offset)
	plain, err := c.Open(box[:0], nonce[:], box, []byte{byte(kind)})
	if err != nil {
		return nil, damagef("what lies at offset %d does not authenticate", offset)
	}
	return plain, nil
}

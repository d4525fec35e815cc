package repository

import (
	"bytes"
	"crypto/cipher"
	"crypto/hpke"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/zeebo/blake3"
)

// secret is one symmetric key.
type secret [32]byte

// keyring holds the keys of an open repository: those a slot keeps, and those
// derived from them.
type keyring struct {
	repo ID

	// private opens packs, records and notes. A write-only slot has none.
	private hpke.PrivateKey
	// public is what their keys are sealed to.
	public hpke.PublicKey
	// id names chunks and cuts content; index protects the index.
	id, index secret

	// dataID and metaID name the chunks of files and of blocks.
	dataID, metaID secret
	// gear is the chunker's table, split decides where blocks of lists and
	// tables end.
	gear  [256]uint64
	split secret
	// writer goes into the key of every sealed object, so that only who holds
	// the id key can make one.
	writer secret
	// prints is of what a machine keeps of blocks, see blockPrint.
	prints secret
	// config authenticates the config object.
	config secret

	// dataHash, metaHash and splitHash pool keyed hashers.
	dataHash, metaHash, splitHash sync.Pool
}

// kem is the key encapsulation: post-quantum and classical at once, so that
// what is stored today stays closed if either falls.
func kem() hpke.KEM { return hpke.MLKEM768X25519() }

// The sizes of the encapsulated and sealed object key.
const (
	encSize       = 1120
	sealedKeySize = encSize + 32 + 16
)

// derivation gives the BLAKE3 key derivation context for a purpose.
func derivation(purpose string) string { return "sombra-backup repository v1 " + purpose }

// newKeyring makes the keys of a new repository.
func newKeyring() (*keyring, error) {
	k := &keyring{}
	private, err := kem().GenerateKey()
	if err != nil {
		return nil, fmt.Errorf("generate key pair: %w", err)
	}
	k.private, k.public = private, private.PublicKey()
	rand.Read(k.repo[:])
	rand.Read(k.id[:])
	rand.Read(k.index[:])
	k.derive()
	return k, nil
}

// derive fills in what follows from the id key.
func (k *keyring) derive() {
	for _, d := range []struct {
		purpose string
		out     []byte
	}{
		{"data chunk id", k.dataID[:]},
		{"meta chunk id", k.metaID[:]},
		{"block split", k.split[:]},
		{"writer", k.writer[:]},
		{"config", k.config[:]},
		{"block prints", k.prints[:]},
	} {
		blake3.DeriveKey(derivation(d.purpose), k.id[:], d.out)
	}
	var table [256 * 8]byte
	blake3.DeriveKey(derivation("gear table"), k.id[:], table[:])
	for i := range k.gear {
		k.gear[i] = binary.LittleEndian.Uint64(table[8*i:])
	}
	k.dataHash.New = func() any { return newHasher(k.dataID) }
	k.metaHash.New = func() any { return newHasher(k.metaID) }
	k.splitHash.New = func() any { return newHasher(k.split) }
}

// wipe forgets the keys as far as the language lets us.
func (k *keyring) wipe() {
	k.private, k.public = nil, nil
	for _, s := range []*secret{&k.id, &k.index, &k.dataID, &k.metaID, &k.split, &k.writer, &k.config, &k.prints} {
		clear(s[:])
	}
	clear(k.gear[:])
	k.dataHash, k.metaHash, k.splitHash = sync.Pool{}, sync.Pool{}, sync.Pool{}
}

// newHasher gives a keyed BLAKE3.
func newHasher(key secret) *blake3.Hasher {
	h, err := blake3.NewKeyed(key[:])
	if err != nil {
		panic("blake3: a key of 32 bytes was refused: " + err.Error())
	}
	return h
}

// keyedHash is the keyed BLAKE3 hash of the parts, one after the other.
func keyedHash(key secret, parts ...[]byte) (sum ID) {
	h := newHasher(key)
	for _, p := range parts {
		h.Write(p)
	}
	h.Sum(sum[:0])
	return sum
}

// chunkID names a chunk that is stored in packs of the given kind.
func (k *keyring) chunkID(kind objectKind, data []byte) (id ID) {
	pool := &k.dataHash
	if kind == kindMetaPack {
		pool = &k.metaHash
	}
	h := pool.Get().(*blake3.Hasher)
	h.Reset()
	h.Write(data)
	h.Sum(id[:0])
	pool.Put(h)
	return id
}

// hpkeInfo binds a sealed key to its repository and the kind of its object.
func (k *keyring) hpkeInfo(kind objectKind) []byte {
	return append([]byte(derivation("object key "+string(kind))), k.repo[:]...)
}

// sealObject begins an object sealed to the public key: it gives the object's
// first bytes and the cipher for its boxes, under a key that was never used
// before and never will be again.
func (k *keyring) sealObject(kind objectKind) (header []byte, c cipher.AEAD, err error) {
	var fresh secret
	rand.Read(fresh[:])
	sealed, err := hpke.Seal(k.public, hpke.HKDFSHA256(), hpke.AES256GCM(), k.hpkeInfo(kind), fresh[:])
	if err != nil {
		return nil, nil, fmt.Errorf("seal object key: %w", err)
	}
	if len(sealed) != sealedKeySize {
		return nil, nil, fmt.Errorf("seal object key: %d bytes, want %d", len(sealed), sealedKeySize)
	}
	return append([]byte(magic(kind)), sealed...), k.objectCipher(kind, fresh), nil
}

// headerSize is the length of the header sealObject gives.
const headerSize = magicSize + sealedKeySize

// openObject reads the header of a sealed object.
func (k *keyring) openObject(kind objectKind, header []byte) (cipher.AEAD, error) {
	if k.private == nil {
		return nil, ErrWriteOnly
	}
	if len(header) < headerSize {
		return nil, damagef("%d bytes are too few for a header", len(header))
	}
	if string(header[:magicSize]) != magic(kind) {
		return nil, damagef("it does not begin with %q", magic(kind))
	}
	fresh, err := hpke.Open(k.private, hpke.HKDFSHA256(), hpke.AES256GCM(), k.hpkeInfo(kind), header[magicSize:headerSize])
	if err != nil || len(fresh) != len(secret{}) {
		return nil, damagef("the object key does not open")
	}
	return k.objectCipher(kind, secret(fresh)), nil
}

// objectCipher gives the cipher for an object's random key. The writer key in
// it keeps those who know only the public key from making objects.
func (k *keyring) objectCipher(kind objectKind, fresh secret) cipher.AEAD {
	material := make([]byte, 0, 2*len(fresh)+IDSize+1)
	material = append(material, fresh[:]...)
	material = append(material, k.writer[:]...)
	material = append(material, k.repo[:]...)
	material = append(material, byte(kind))
	return derivedCipher("object", material)
}

// sharedObject makes an object of one box that every machine can read, also one
// with a write-only slot: under the index key and a fresh salt.
func (k *keyring) sharedObject(kind objectKind, box boxKind, plain []byte) []byte {
	salt := make([]byte, saltSize)
	rand.Read(salt)
	object := append([]byte(magic(kind)), salt...)
	return appendBox(object, k.sharedCipher(kind, salt), box, plain)
}

// openShared reads such an object.
func (k *keyring) openShared(kind objectKind, box boxKind, object []byte) ([]byte, error) {
	if len(object) < sharedHeaderSize || string(object[:magicSize]) != magic(kind) {
		return nil, damagef("it does not begin with %q", magic(kind))
	}
	return openBox(k.sharedCipher(kind, object[magicSize:sharedHeaderSize]), box, sharedHeaderSize, bytes.Clone(object[sharedHeaderSize:]))
}

// sharedHeaderSize is where the box of such an object begins.
const sharedHeaderSize = magicSize + saltSize

// sharedCipher gives its cipher. The kind keeps one from passing for another.
func (k *keyring) sharedCipher(kind objectKind, salt []byte) cipher.AEAD {
	material := make([]byte, 0, len(k.index)+len(salt)+IDSize+1)
	material = append(material, k.index[:]...)
	material = append(material, salt...)
	material = append(material, k.repo[:]...)
	material = append(material, byte(kind))
	return derivedCipher("shared object", material)
}

// indexCipher gives the cipher for the index object with that salt.
func (k *keyring) indexCipher(salt []byte) cipher.AEAD {
	material := make([]byte, 0, len(k.index)+len(salt)+IDSize)
	material = append(material, k.index[:]...)
	material = append(material, salt...)
	material = append(material, k.repo[:]...)
	return derivedCipher("index object", material)
}

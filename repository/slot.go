package repository

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/argon2"

	"github.com/sombra-backup/sombra/repository/store"
)

// KDF holds the cost of turning a password into a key with argon2id.
type KDF struct {
	// Time is the number of passes, 1 to 32.
	Time uint32
	// Memory is in KiB, at least 8 a thread and at most 1 GiB; Time times
	// Memory is at most 4 GiB.
	Memory uint32
	// Threads is the number of lanes, 1 to 64.
	Threads uint8
}

// defaultKDF is what RFC 9106 recommends where memory is scarce.
func defaultKDF() KDF { return KDF{Time: 3, Memory: 64 << 10, Threads: 4} }

// valid bounds what opening a slot can cost, in memory and in time: a slot is
// read before anything is known to be genuine.
func (k KDF) valid() bool {
	return k.Time >= 1 && k.Time <= 32 && k.Threads >= 1 && k.Threads <= 64 && k.Memory >= 8*uint32(k.Threads) && k.Memory <= 1<<20 &&
		k.cost() <= 4<<20
}

// cost is how much memory the passes go through together, in KiB.
func (k KDF) cost() uint64 { return uint64(k.Time) * uint64(k.Memory) }

// key derives the key of a slot. The salt is never used twice, so the key
// encrypts one message.
func (k KDF) key(password, salt []byte) (key secret) {
	readyMemory(k.Memory)
	derived := argon2.IDKey(password, salt, k.Time, k.Memory, k.Threads, uint32(len(key)))
	copy(key[:], derived)
	clear(derived)
	return key
}

// The kinds of slots.
const (
	slotFull      = 1
	slotWriteOnly = 2
)

// slotHeader is the part of a slot that anyone can read.
type slotHeader struct {
	Repo    []byte `cbor:"1,keyasint"`
	Kind    uint   `cbor:"2,keyasint"`
	Time    uint32 `cbor:"3,keyasint"`
	Memory  uint32 `cbor:"4,keyasint"`
	Threads uint8  `cbor:"5,keyasint"`
	Salt    []byte `cbor:"6,keyasint"`
	Created int64  `cbor:"7,keyasint,omitempty"`
	Label   string `cbor:"8,keyasint,omitempty"`
}

// slotKeys is the part that the password opens.
type slotKeys struct {
	// Private is the private key; absent in a write-only slot.
	Private []byte `cbor:"1,keyasint,omitempty"`
	Public  []byte `cbor:"2,keyasint"`
	ID      []byte `cbor:"3,keyasint"`
	Index   []byte `cbor:"4,keyasint"`
}

// saltSize is the length of a slot's and of an index object's salt.
const saltSize = 32

// encodeSlot makes a key slot object. A write-only one lacks the private key.
func encodeSlot(k *keyring, password []byte, kdf KDF, writeOnly bool, label string, created time.Time) ([]byte, error) {
	h := slotHeader{
		Repo: k.repo[:], Kind: slotFull, Time: kdf.Time, Memory: kdf.Memory, Threads: kdf.Threads,
		Salt: make([]byte, saltSize), Created: created.Unix(), Label: label,
	}
	rand.Read(h.Salt)
	keys := slotKeys{Public: k.public.Bytes(), ID: k.id[:], Index: k.index[:]}
	if writeOnly {
		h.Kind = slotWriteOnly
	} else {
		private, err := k.private.Bytes()
		if err != nil {
			return nil, fmt.Errorf("encode private key: %w", err)
		}
		// The key may hand out its own memory, which must outlive this call.
		keys.Private = bytes.Clone(private)
	}
	header := format.marshal(h)
	object := []byte(magic(kindSlot))
	object = binary.LittleEndian.AppendUint32(object, uint32(len(header)))
	object = append(object, header...)

	plain := format.marshal(keys)
	key := kdf.key(password, h.Salt)
	nonce := nonceAt(0)
	object = newCipher(key).Seal(object, nonce[:], plain, append([]byte{byte(boxKeys)}, object...))
	clear(key[:])
	clear(plain)
	clear(keys.Private)
	return object, nil
}

// slot is a key slot taken apart but not opened.
type slot struct {
	slotHeader
	// clear are the bytes before the box, which the box authenticates.
	clear, box []byte
}

// decodeSlot takes a key slot apart.
func decodeSlot(object []byte) (*slot, error) {
	const fixed = magicSize + 4
	if len(object) < fixed || !bytes.HasPrefix(object, []byte(magic(kindSlot))) {
		return nil, damagef("it does not begin with %q", magic(kindSlot))
	}
	n := binary.LittleEndian.Uint32(object[magicSize:])
	if uint64(n) > uint64(len(object)-fixed) {
		return nil, damagef("its header of %d bytes does not fit", n)
	}
	s := &slot{clear: object[:fixed+n], box: object[fixed+n:]}
	if err := format.unmarshal(object[fixed:fixed+n], &s.slotHeader); err != nil {
		return nil, err
	}
	if len(s.Repo) != IDSize || len(s.Salt) != saltSize || !s.kdf().valid() || (s.Kind != slotFull && s.Kind != slotWriteOnly) {
		return nil, damagef("its header is impossible")
	}
	return s, nil
}

func (s *slot) kdf() KDF { return KDF{Time: s.Time, Memory: s.Memory, Threads: s.Threads} }

// open gives the keys in the slot, ErrWrongPassword if the password (or a
// byte of the slot) is not right.
func (s *slot) open(password []byte) (*keyring, error) {
	key := s.kdf().key(password, s.Salt)
	defer clear(key[:])
	nonce := nonceAt(0)
	plain, err := newCipher(key).Open(nil, nonce[:], s.box, append([]byte{byte(boxKeys)}, s.clear...))
	if err != nil {
		return nil, ErrWrongPassword
	}
	defer clear(plain)
	var keys slotKeys
	if err := format.unmarshal(plain, &keys); err != nil {
		return nil, err
	}
	return s.keyring(&keys)
}

// keyring makes the keys usable.
func (s *slot) keyring(keys *slotKeys) (*keyring, error) {
	k := &keyring{}
	if len(keys.ID) != len(k.id) || len(keys.Index) != len(k.index) {
		return nil, damagef("its keys have the wrong length")
	}
	copy(k.repo[:], s.Repo)
	copy(k.id[:], keys.ID)
	copy(k.index[:], keys.Index)
	public, err := kem().NewPublicKey(keys.Public)
	if err != nil {
		return nil, damagef("its public key: %v", err)
	}
	k.public = public
	if s.Kind == slotFull {
		private, err := kem().NewPrivateKey(keys.Private)
		if err != nil {
			return nil, damagef("its private key: %v", err)
		}
		if !bytes.Equal(private.PublicKey().Bytes(), keys.Public) {
			return nil, damagef("its private and public keys do not belong together")
		}
		k.private = private
	}
	k.derive()
	return k, nil
}

// unlock tries the slots of the repository until one opens, and says which.
// Slots of another repository id are remains of a creation that lost; damaged
// ones are told from a wrong password by their name, which is their hash. The
// cheap ones come first: anybody who can write to the medium can add a slot that
// takes long.
func unlock(ctx context.Context, st store.Store, repo, password []byte) (*keyring, string, error) {
	names, err := slotNames(ctx, st)
	if err != nil {
		return nil, "", err
	}
	var failed []error
	if len(names) > maxSlots {
		failed = append(failed, &ObjectError{"open", prefixKeys, damagef("there are more than %d key slots, and only as many were looked at", maxSlots)})
		names = names[:maxSlots]
	}
	slots := map[string]*slot{}
	for _, name := range names {
		s, err := readSlot(ctx, st, name)
		if err != nil {
			failed = append(failed, err)
		} else if bytes.Equal(s.Repo, repo) {
			slots[name] = s
		}
	}
	order := slices.SortedFunc(maps.Keys(slots), func(a, b string) int {
		return cmp.Or(cmp.Compare(slots[a].kdf().cost(), slots[b].kdf().cost()), strings.Compare(a, b))
	})
	wrong := false
	for _, name := range order {
		if err := ctx.Err(); err != nil {
			return nil, "", err
		}
		k, err := slots[name].open(password)
		if err == nil {
			return k, name, nil
		}
		if errors.Is(err, ErrWrongPassword) {
			wrong = true
		} else {
			failed = append(failed, &ObjectError{"decode", name, err})
		}
	}
	switch {
	case wrong && len(failed) > 0:
		return nil, "", fmt.Errorf("%w: %w", ErrWrongPassword, errors.Join(failed...))
	case wrong:
		return nil, "", ErrWrongPassword
	case len(failed) == 0:
		failed = append(failed, &ObjectError{"open", prefixKeys, damagef("no key slot is of the repository that %s names", configName)})
	}
	return nil, "", errors.Join(failed...)
}

// slotNames lists the key slots, one more than are looked at at most.
func slotNames(ctx context.Context, st store.Store) ([]string, error) {
	var names []string
	err := st.List(ctx, prefixKeys, func(info store.Info) error {
		if o, ok := parseName(info.Name); ok && o.kind == kindSlot && len(names) <= maxSlots {
			names = append(names, info.Name)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list key slots: %w", err)
	}
	if len(names) == 0 {
		return nil, &ObjectError{"open", prefixKeys, damagef("there is no key slot")}
	}
	return names, nil
}

// readSlot reads a slot and takes it apart.
func readSlot(ctx context.Context, st store.Store, name string) (*slot, error) {
	object, err := readObject(ctx, st, name, maxSlot)
	if err != nil {
		return nil, err
	}
	if slotName(hashObject(object)) != name {
		return nil, &ObjectError{"verify", name, damagef("its bytes do not match its name")}
	}
	s, err := decodeSlot(object)
	if err != nil {
		return nil, &ObjectError{"decode", name, err}
	}
	return s, nil
}

package repository

import (
	"encoding/hex"
	"fmt"
)

// IDSize is the length in bytes of every identifier of the format.
const IDSize = 32

// ID names something in a repository. A chunk's is the keyed BLAKE3 hash of
// its bytes, an object's (a record among them) the plain BLAKE3 hash of the
// object as stored, the repository's own is random.
type ID [IDSize]byte

// String gives the id as 64 hexadecimal digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Short gives the first 8 hexadecimal digits, for people to read.
func (id ID) Short() string { return hex.EncodeToString(id[:4]) }

// IsZero says whether id is the zero value, which names nothing.
func (id ID) IsZero() bool { return id == ID{} }

// ParseID reads the 64 hexadecimal digits that String wrote. The error wraps
// ErrInvalid.
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) != 2*IDSize {
		return ID{}, fmt.Errorf("%w: id %q has not 64 digits", ErrInvalid, s)
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil || id.String() != s {
		return ID{}, fmt.Errorf("%w: id %q is not 64 lower-case hexadecimal digits", ErrInvalid, s)
	}
	return id, nil
}

package vss

import (
	"crypto/rand"
	"encoding/hex"
	"strings"
)

// GUID is VSS_ID: the sixteen bytes in the order of the text form (big-endian
// throughout, as RFC 9562 has it), not in the mixed order of a Windows
// structure in memory.
type GUID [16]byte

// NewGUID makes a random (version 4) GUID.
func NewGUID() GUID {
	var g GUID
	rand.Read(g[:]) // never fails: crypto/rand ends the program instead
	g[6] = g[6]&0x0f | 0x40
	g[8] = g[8]&0x3f | 0x80
	return g
}

// ParseGUID reads "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx" in any case, with or
// without braces. Anything else is [ErrInvalidArgument].
func ParseGUID(s string) (GUID, error) {
	var g GUID
	t := s
	if len(t) == 38 && t[0] == '{' && t[37] == '}' {
		t = t[1:37]
	}
	if len(t) != 36 || t[8] != '-' || t[13] != '-' || t[18] != '-' || t[23] != '-' {
		return GUID{}, badGUID(s)
	}
	plain := t[:8] + t[9:13] + t[14:18] + t[19:23] + t[24:]
	if _, err := hex.Decode(g[:], []byte(plain)); err != nil {
		return GUID{}, badGUID(s)
	}
	return g, nil
}

func badGUID(s string) error {
	const show = 64
	if len(s) > show {
		s = s[:show] + "..."
	}
	return Errorf(ErrInvalidArgument, "parse", "identifier", "%q is no GUID, which looks like 5affb034-969f-4919-8875-88f830d0ef89", s)
}

// MustParseGUID is ParseGUID for constants in source; it panics on bad text.
func MustParseGUID(s string) GUID {
	g, err := ParseGUID(s)
	if err != nil {
		panic(err)
	}
	return g
}

// String gives the lower-case form without braces, as both documents have it.
func (g GUID) String() string {
	var b [36]byte
	hex.Encode(b[0:8], g[0:4])
	hex.Encode(b[9:13], g[4:6])
	hex.Encode(b[14:18], g[6:8])
	hex.Encode(b[19:23], g[8:10])
	hex.Encode(b[24:36], g[10:16])
	b[8], b[13], b[18], b[23] = '-', '-', '-', '-'
	return string(b[:])
}

// IsZero reports whether g is GUID_NULL, which calls take for "none" or
// "default".
func (g GUID) IsZero() bool { return g == GUID{} }

// Compare orders GUIDs as their text forms are ordered.
func (g GUID) Compare(h GUID) int { return strings.Compare(string(g[:]), string(h[:])) }

// MarshalText implements [encoding.TextMarshaler].
func (g GUID) MarshalText() ([]byte, error) { return []byte(g.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler]; it accepts what
// ParseGUID accepts.
func (g *GUID) UnmarshalText(text []byte) error {
	v, err := ParseGUID(string(text))
	if err != nil {
		return err
	}
	*g = v
	return nil
}

// Identifiers the model itself fixes.
var (
	// SystemProviderID is the id of Windows' own provider.
	SystemProviderID = GUID{0xb5, 0x94, 0x61, 0x37, 0x7b, 0x9f, 0x49, 0x25, 0xaf, 0x80, 0x51, 0xab, 0xd6, 0x0b, 0x20, 0xd5}
	// TestWriterClass is the class id of the VSS Test Writer.
	TestWriterClass = GUID{0x5a, 0xff, 0xb0, 0x34, 0x96, 0x9f, 0x49, 0x19, 0x88, 0x75, 0x88, 0xf8, 0x30, 0xd0, 0xef, 0x89}
)

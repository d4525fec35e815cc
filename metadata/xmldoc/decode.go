package xmldoc

import (
	"encoding/binary"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// decode turns the bytes of a document into UTF-8 without a byte order mark.
// UTF-16 is known by its mark or, without one, by the form its first "<" has,
// as Windows writes it.
func decode(data []byte) (string, error) {
	switch {
	case len(data) >= 3 && data[0] == 0xEF && data[1] == 0xBB && data[2] == 0xBF:
		return checkChars(string(data[3:]))
	case len(data) >= 2 && data[0] == 0xFF && data[1] == 0xFE:
		return decode16(data[2:], binary.LittleEndian)
	case len(data) >= 2 && data[0] == 0xFE && data[1] == 0xFF:
		return decode16(data[2:], binary.BigEndian)
	case len(data) >= 2 && data[0] != 0 && data[1] == 0:
		return decode16(data, binary.LittleEndian)
	case len(data) >= 2 && data[0] == 0 && data[1] != 0:
		return decode16(data, binary.BigEndian)
	}
	return checkChars(string(data))
}

func decode16(data []byte, order binary.ByteOrder) (string, error) {
	var b strings.Builder
	b.Grow(len(data) / 2)
	for i := 0; i+1 < len(data); i += 2 {
		r := rune(order.Uint16(data[i:]))
		if utf16.IsSurrogate(r) {
			low := rune(0)
			if i+3 < len(data) {
				low = rune(order.Uint16(data[i+2:]))
			}
			if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
				return "", errorAt(b.String(), b.Len(), "half a surrogate pair, so this is no UTF-16")
			}
			i += 2
		}
		b.WriteRune(r)
	}
	if len(data)%2 != 0 {
		return "", errorAt(b.String(), b.Len(), "UTF-16 text ends within a character")
	}
	return checkChars(b.String())
}

// checkChars refuses text that is no UTF-8 and characters XML does not allow,
// once for the whole document, so that nothing later needs to look again.
func checkChars(src string) (string, error) {
	for i := 0; i < len(src); {
		c := src[i]
		if c < utf8.RuneSelf {
			if c < 0x20 && c != '\t' && c != '\n' && c != '\r' {
				return "", errorAt(src, i, "control character U+%04X, which XML does not allow", c)
			}
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(src[i:])
		if r == utf8.RuneError && n == 1 {
			return "", errorAt(src, i, "byte 0x%02X, so this is no UTF-8", c)
		}
		if !isChar(r) {
			return "", errorAt(src, i, "character U+%04X, which XML does not allow", r)
		}
		i += n
	}
	return src, nil
}

// isChar is production [2] Char.
func isChar(r rune) bool {
	return r == '\t' || r == '\n' || r == '\r' || 0x20 <= r && r <= 0xD7FF ||
		0xE000 <= r && r <= 0xFFFD || 0x10000 <= r && r <= 0x10FFFF
}

// IsText reports whether XML can hold s: valid UTF-8 without control characters
// other than tab and line breaks.
func IsText(s string) bool {
	for i, r := range s {
		if !isChar(r) {
			return false
		}
		if r == utf8.RuneError {
			if _, n := utf8.DecodeRuneInString(s[i:]); n == 1 {
				return false
			}
		}
	}
	return true
}

// isNameStart is production [4] NameStartChar.
func isNameStart(r rune) bool {
	switch {
	case r < utf8.RuneSelf:
		return r == ':' || r == '_' || 'a' <= r|0x20 && r|0x20 <= 'z'
	case r == 0xD7, r == 0xF7, r == 0x37E:
		return false
	}
	return 0xC0 <= r && r <= 0x2FF || 0x370 <= r && r <= 0x1FFF || 0x200C <= r && r <= 0x200D ||
		0x2070 <= r && r <= 0x218F || 0x2C00 <= r && r <= 0x2FEF || 0x3001 <= r && r <= 0xD7FF ||
		0xF900 <= r && r <= 0xFDCF || 0xFDF0 <= r && r <= 0xFFFD || 0x10000 <= r && r <= 0xEFFFF
}

// isNameChar is production [4a] NameChar.
func isNameChar(r rune) bool {
	return isNameStart(r) || r == '-' || r == '.' || '0' <= r && r <= '9' || r == 0xB7 ||
		0x300 <= r && r <= 0x36F || 0x203F <= r && r <= 0x2040
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

package vss

import (
	"fmt"
	"strings"
)

// entry binds one value of an enumeration to the constant name in Microsoft's
// headers and to the word documents and command lines use for it. The word may
// be empty where no document holds the enumeration.
type entry[T ~int32 | ~uint32] struct {
	value T
	name  string
	word  string
}

// enumeration is the table of one enumeration. Order is that of the headers.
// Tables are short, so a search from the front is as fast as a map.
type enumeration[T ~int32 | ~uint32] struct {
	typeName string
	entries  []entry[T]
}

// name gives the constant's name, or "VSS_TYPE(17)" for a value no header has.
func (e *enumeration[T]) name(v T) string {
	for i := range e.entries {
		if e.entries[i].value == v {
			return e.entries[i].name
		}
	}
	return fmt.Sprintf("%s(%d)", e.typeName, v)
}

// word gives the spelling used in documents, or the decimal number for a value
// that has none, so that writing it down never loses it.
func (e *enumeration[T]) word(v T) string {
	for i := range e.entries {
		if e.entries[i].value == v && e.entries[i].word != "" {
			return e.entries[i].word
		}
	}
	return fmt.Sprintf("%d", v)
}

// parse finds a value by word or constant name, in any case.
func (e *enumeration[T]) parse(s string) (T, error) {
	for i := range e.entries {
		if (e.entries[i].word != "" && strings.EqualFold(e.entries[i].word, s)) || strings.EqualFold(e.entries[i].name, s) {
			return e.entries[i].value, nil
		}
	}
	var zero T
	return zero, Errorf(ErrInvalidArgument, "parse", e.typeName, "%q is none of %s", s, e.words())
}

func (e *enumeration[T]) words() string {
	var words []string
	for i := range e.entries {
		w := e.entries[i].word
		if w == "" {
			w = e.entries[i].name
		}
		words = append(words, w)
	}
	return strings.Join(words, ", ")
}

// maskName joins the names of the bits that are set, a name of several bits
// before those of each; bits without a name are given in hexadecimal at the
// end, and no bits at all give zero's own name.
func (e *enumeration[T]) maskName(v T) string {
	var parts []string
	rest := uint32(v)
	zero := "0"
	for _, several := range []bool{true, false} {
		for i := range e.entries {
			bits := uint32(e.entries[i].value)
			switch {
			case bits == 0:
				zero = e.entries[i].name
			case several == (bits&(bits-1) != 0) && rest&bits == bits:
				parts = append(parts, e.entries[i].name)
				rest &^= bits
			}
		}
	}
	if rest != 0 {
		parts = append(parts, fmt.Sprintf("0x%x", rest))
	}
	if len(parts) == 0 {
		return zero
	}
	return strings.Join(parts, "|")
}

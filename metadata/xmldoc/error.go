package xmldoc

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/sombra-backup/sombra/vss"
)

// SyntaxError says where a document is broken. Line and column count from one,
// the column in characters of the decoded text.
type SyntaxError struct {
	Line   int
	Column int
	Msg    string
}

// Error gives "line 3, column 9: what is wrong".
func (e *SyntaxError) Error() string {
	return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Msg)
}

// Unwrap makes every SyntaxError the code the model has for it.
func (e *SyntaxError) Unwrap() error { return vss.ErrInvalidXMLDocument }

// errorAt makes the error for a byte offset of the decoded text.
func errorAt(src string, offset int, format string, args ...any) *SyntaxError {
	line, column := position(src, offset)
	return &SyntaxError{line, column, fmt.Sprintf(format, args...)}
}

// position counts lines as XML does: CR LF, CR and LF each end one.
func position(src string, offset int) (line, column int) {
	head := src[:min(max(offset, 0), len(src))]
	line = 1 + strings.Count(head, "\n")
	start := 0
	for i := 0; i < len(head); i++ {
		switch {
		case head[i] == '\n':
			start = i + 1
		case head[i] == '\r' && (i+1 == len(src) || src[i+1] != '\n'):
			line++
			start = i + 1
		}
	}
	return line, 1 + utf8.RuneCountInString(head[start:])
}

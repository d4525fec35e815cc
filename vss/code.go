package vss

import (
	"errors"
	"fmt"
	"strings"
)

// Code is an HRESULT: what a call of the service ended with. The zero Code is
// [OK]. As an error it is found with errors.Is(err, vss.ErrBadState), however
// deep it lies; programs act on codes and never on texts.
type Code uint32

var codeIndex = func() map[Code]int {
	m := make(map[Code]int, len(codeTable))
	for i := range codeTable {
		m[codeTable[i].code] = i
	}
	return m
}()

// Name gives the constant's name, such as "VSS_E_BAD_STATE", or "HRESULT" for
// a code without one.
func (c Code) Name() string {
	if i, ok := codeIndex[c]; ok {
		return codeTable[i].name
	}
	return "HRESULT"
}

// Meaning says in one clause, lower case and without a full stop, what the
// code means.
func (c Code) Meaning() string {
	if i, ok := codeIndex[c]; ok {
		return codeTable[i].meaning
	}
	if c.Succeeded() {
		return "success with an unknown code"
	}
	return "failure with an unknown code"
}

// Succeeded reports whether the code is a success (its highest bit is clear).
func (c Code) Succeeded() bool { return c&0x80000000 == 0 }

// String gives name and number, such as "VSS_E_BAD_STATE 0x80042301".
func (c Code) String() string { return fmt.Sprintf("%s 0x%08X", c.Name(), uint32(c)) }

// Error implements error: "meaning (NAME 0x...)".
func (c Code) Error() string { return c.Meaning() + " (" + c.String() + ")" }

// ParseCode finds a code by its name, such as "VSS_E_WRITERERROR_RETRYABLE".
func ParseCode(name string) (Code, error) {
	for i := range codeTable {
		if codeTable[i].name == name {
			return codeTable[i].code, nil
		}
	}
	return 0, Errorf(ErrInvalidArgument, "parse", "code", "no code is named %q", name)
}

// WriterFailureCodes are the codes a writer may report with SetWriterFailure.
// ErrWriterErrorPartialFailure and OK are allowed in SetWriterFailureEx and
// SetFailure too.
func WriterFailureCodes() []Code {
	return []Code{
		ErrWriterErrorInconsistentSnapshot, ErrWriterErrorOutOfResources, ErrWriterErrorTimeout,
		ErrWriterErrorRetryable, ErrWriterErrorNonRetryable,
	}
}

// Error is a failed operation: what was done, to what, the code, and the cause
// if there is one. errors.Is finds both the code and the cause.
type Error struct {
	Op     string // the operation, such as "AddComponent"; may be empty
	Object string // what it was done to, such as a component or a volume; may be empty
	Code   Code   // why, as the model says it
	Err    error  // why, in particular; may be nil
}

// Error gives "Op Object: meaning (NAME 0x...): cause".
func (e *Error) Error() string {
	about, code := "", e.Code.Error()
	switch {
	case e.Op != "" && e.Object != "":
		about = e.Op + " " + e.Object + ": "
	case e.Op != "" || e.Object != "":
		about = e.Op + e.Object + ": "
	}
	if e.Err == nil {
		return about + code
	}
	// What the cause says of the same matter is not said twice.
	cause := strings.TrimPrefix(e.Err.Error(), about)
	if cause == code {
		return about + code
	}
	return about + code + ": " + strings.TrimPrefix(cause, code+": ")
}

// Unwrap gives the code and, if there is one, the cause.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Code}
	}
	return []error{e.Code, e.Err}
}

// Errorf makes an [*Error] whose cause is the formatted text; a %w in it is
// kept as a cause that errors.Is and errors.As find. An empty format means no
// cause.
func Errorf(code Code, op, object, format string, args ...any) error {
	e := &Error{Op: op, Object: object, Code: code}
	if format != "" {
		e.Err = fmt.Errorf(format, args...)
	}
	return e
}

// CodeOf gives the first code found in err: OK for nil, [ErrUnexpected] for an
// error that carries none.
func CodeOf(err error) Code {
	if err == nil {
		return OK
	}
	var c Code
	if errors.As(err, &c) {
		return c
	}
	return ErrUnexpected
}

package pipe

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"runtime"
	"syscall"

	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// sentinels are the errors callers compare with, besides the model's codes.
var sentinels = []error{
	fs.ErrNotExist, fs.ErrExist, fs.ErrPermission, fs.ErrInvalid, fs.ErrClosed,
	io.EOF, io.ErrUnexpectedEOF, context.Canceled, context.DeadlineExceeded,
}

// errorKind is what an error is made of.
type errorKind uint8

const (
	otherError     errorKind = iota // its text, and what it wraps
	sentinelError                   // one of sentinels
	codeError                       // a vss.Code by itself
	modelError                      // a *vss.Error
	attributeError                  // a *session.AttributeError
	pathError                       // a *fs.PathError
	errnoError                      // a syscall.Errno
)

// wireError is an error on its way, with what it wraps.
type wireError struct {
	Kind errorKind
	Text string
	// Number is a sentinel's place or an errno, which means the same only on
	// the operating system OS.
	Number     int
	OS         string
	Code       vss.Code
	Op, Object string
	Attributes []string // of an attributeError, one for each of Wraps
	Wraps      []*wireError
	// Is are the sentinels that an otherError says it is without wrapping them.
	Is []int
}

const (
	// maxErrorDepth and maxErrorParts bound what is carried of an error beyond
	// its text.
	maxErrorDepth = 32
	maxErrorParts = 4096
)

func toWire(err error) *wireError {
	parts := maxErrorParts
	return encodeError(err, maxErrorDepth, &parts)
}

func encodeError(err error, depth int, parts *int) *wireError {
	if err == nil {
		return nil
	}
	w := &wireError{Text: err.Error()}
	if depth--; depth < 0 || *parts <= 0 {
		return w
	}
	*parts--
	wrap := func(errs ...error) {
		for _, e := range errs {
			if s := encodeError(e, depth, parts); s != nil {
				w.Wraps = append(w.Wraps, s)
			}
		}
	}
	switch e := err.(type) {
	case vss.Code:
		w.Kind, w.Code = codeError, e
	case *vss.Error:
		w.Kind, w.Op, w.Object, w.Code = modelError, e.Op, e.Object, e.Code
		wrap(e.Err)
	case *session.AttributeError:
		w.Kind, w.Object = attributeError, e.Name
		for _, p := range e.Problems {
			why := encodeError(p.Err, depth, parts)
			if why == nil {
				why = &wireError{Text: "for no reason given"}
			}
			w.Attributes = append(w.Attributes, p.Attribute)
			w.Wraps = append(w.Wraps, why)
		}
	case *fs.PathError:
		w.Kind, w.Op, w.Object = pathError, e.Op, e.Path
		wrap(e.Err)
	case syscall.Errno:
		w.Kind, w.Number, w.OS = errnoError, int(e), runtime.GOOS
		w.Is = same(err)
	default:
		for i, s := range sentinels {
			if err == s {
				w.Kind, w.Number = sentinelError, i
				return w
			}
		}
		switch e := err.(type) {
		case interface{ Unwrap() error }:
			wrap(e.Unwrap())
		case interface{ Unwrap() []error }:
			wrap(e.Unwrap()...)
		}
		w.Is = same(err)
	}
	return w
}

// same lists the sentinels that an error says it is by its own word.
func same(err error) (list []int) {
	if _, ok := err.(interface{ Is(error) bool }); !ok {
		return nil
	}
	for i, s := range sentinels {
		if errors.Is(err, s) {
			list = append(list, i)
		}
	}
	return list
}

// fromWire makes an error that reads the same, compares the same, and is found
// by the same types.
func fromWire(w *wireError) error { return decodeError(w, maxErrorDepth) }

func decodeError(w *wireError, depth int) error {
	if w == nil {
		return nil
	}
	other := &remoteError{text: w.Text}
	if depth--; depth < 0 {
		return other
	}
	for _, s := range w.Wraps {
		other.wraps = append(other.wraps, decodeError(s, depth))
	}
	var first error
	if len(other.wraps) > 0 {
		first = other.wraps[0]
	}
	switch w.Kind {
	case codeError:
		return w.Code
	case modelError:
		return &vss.Error{Op: w.Op, Object: w.Object, Code: w.Code, Err: first}
	case attributeError:
		e := &session.AttributeError{Name: w.Object}
		for i := range min(len(w.Attributes), len(other.wraps)) {
			e.Problems = append(e.Problems, session.AttributeProblem{Attribute: w.Attributes[i], Err: other.wraps[i]})
		}
		return e
	case pathError:
		if first != nil {
			return &fs.PathError{Op: w.Op, Path: w.Object, Err: first}
		}
	case errnoError:
		if w.OS == runtime.GOOS {
			return syscall.Errno(w.Number)
		}
	case sentinelError:
		if w.Number >= 0 && w.Number < len(sentinels) {
			return sentinels[w.Number]
		}
	}
	for _, i := range w.Is {
		if i >= 0 && i < len(sentinels) {
			other.wraps = append(other.wraps, sentinels[i])
		}
	}
	return other
}

// remoteError is an error of a type that this side need not know.
type remoteError struct {
	text  string
	wraps []error
}

func (e *remoteError) Error() string   { return e.text }
func (e *remoteError) Unwrap() []error { return e.wraps }

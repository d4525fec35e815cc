package pipe

import (
	"context"
	"errors"
	"io"
	"io/fs"

	"github.com/sombra-backup/sombra/vss"
)

// sentinels are the errors callers compare with, besides the model's codes.
var sentinels = []error{
	fs.ErrNotExist, fs.ErrExist, fs.ErrPermission, fs.ErrInvalid, fs.ErrClosed,
	io.EOF, io.ErrUnexpectedEOF, context.Canceled, context.DeadlineExceeded,
}

// wireError is an error on its way: its text, its code if it has one, and which
// of the sentinels it is.
type wireError struct {
	Text string
	Code vss.Code
	// Coded: the error carries Code, rather than having none.
	Coded bool
	Is    []int
}

func toWire(err error) *wireError {
	if err == nil {
		return nil
	}
	w := &wireError{Text: err.Error()}
	var code vss.Code
	if errors.As(err, &code) {
		w.Code, w.Coded = code, true
	}
	for i, s := range sentinels {
		if errors.Is(err, s) {
			w.Is = append(w.Is, i)
		}
	}
	return w
}

// fromWire makes an error that reads the same and compares the same.
func fromWire(w *wireError) error {
	if w == nil {
		return nil
	}
	e := &remoteError{text: w.Text}
	if w.Coded {
		e.is = append(e.is, w.Code)
	}
	for _, i := range w.Is {
		if i >= 0 && i < len(sentinels) {
			e.is = append(e.is, sentinels[i])
		}
	}
	if len(e.is) == 1 && e.is[0].Error() == w.Text {
		return e.is[0]
	}
	return e
}

type remoteError struct {
	text string
	is   []error
}

func (e *remoteError) Error() string   { return e.text }
func (e *remoteError) Unwrap() []error { return e.is }

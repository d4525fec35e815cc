package pipe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// across sends an error to the other side.
func across(t *testing.T, err error) error {
	t.Helper()
	data, perr := pack(toWire(err))
	if perr != nil {
		t.Fatal(perr)
	}
	w := new(wireError)
	if perr := unpack(data, w); perr != nil {
		t.Fatal(perr)
	}
	return fromWire(w)
}

// TestErrorsReadAndCompareTheSame on both sides.
func TestErrorsReadAndCompareTheSame(t *testing.T) {
	attributes := &session.AttributeError{Name: "f", Problems: []session.AttributeProblem{
		{Attribute: "owner", Err: &fs.PathError{Op: "chown", Path: "f", Err: syscall.EPERM}}, {Attribute: "user.x", Err: syscall.ENOSPC}}}
	model := vss.Errorf(vss.ErrProviderVeto, "CommitSnapshots", "/srv", "%w", vss.Errorf(vss.ErrInsufficientStorage, "write", "x", "%w", syscall.ENOSPC))
	for _, err := range []error{
		model, attributes, vss.ErrBadState, io.EOF, fs.ErrNotExist, syscall.ENOSPC, context.Canceled,
		&fs.PathError{Op: "open", Path: "/x", Err: syscall.ENOENT},
		fmt.Errorf("copy %s: %w", "f", model), errors.Join(model, attributes, io.ErrUnexpectedEOF),
		errors.New("plain"), fmt.Errorf("two: %w and %w", vss.ErrVolumeInUse, fs.ErrExist),
		vss.Errorf(vss.ErrUnexpected, "op", "object", ""),
		fmt.Errorf("syscall: %w", &syscallError{syscall.EROFS}),
	} {
		got := across(t, err)
		if got.Error() != err.Error() {
			t.Errorf("reads %q, want %q", got, err)
		}
		if vss.CodeOf(got) != vss.CodeOf(err) {
			t.Errorf("%v: code %v, want %v", err, vss.CodeOf(got), vss.CodeOf(err))
		}
		for _, is := range []error{syscall.ENOSPC, syscall.EPERM, syscall.EROFS, fs.ErrNotExist, fs.ErrExist, fs.ErrPermission, io.EOF,
			io.ErrUnexpectedEOF, context.Canceled, vss.ErrProviderVeto, vss.ErrInsufficientStorage, vss.ErrVolumeInUse} {
			if errors.Is(got, is) != errors.Is(err, is) {
				t.Errorf("%v: is %v: %v, want %v", err, is, errors.Is(got, is), errors.Is(err, is))
			}
		}
		sameAs[*vss.Error](t, got, err, func(e *vss.Error) string { return e.Op + "|" + e.Object + "|" + e.Code.Name() })
		sameAs[*session.AttributeError](t, got, err, func(e *session.AttributeError) string {
			s := e.Name
			for _, p := range e.Problems {
				s += fmt.Sprintf("|%s %v %v", p.Attribute, p.Err, errors.Is(p.Err, fs.ErrPermission))
			}
			return s
		})
		sameAs[*fs.PathError](t, got, err, func(e *fs.PathError) string { return e.Op + "|" + e.Path })
	}
	if across(t, io.EOF) != io.EOF {
		t.Error("io.EOF is compared with ==, and is another")
	}
}

// syscallError stands for types that the other side does not know.
type syscallError struct{ errno syscall.Errno }

func (e *syscallError) Error() string { return "call: " + e.errno.Error() }
func (e *syscallError) Unwrap() error { return e.errno }

func sameAs[T error](t *testing.T, got, want error, text func(T) string) {
	t.Helper()
	var g, w T
	gok, wok := errors.As(got, &g), errors.As(want, &w)
	if gok != wok || wok && text(g) != text(w) {
		t.Errorf("%v: found as %T: %v, want %v", want, w, gok, wok)
		if gok && wok {
			t.Errorf("it is %q, want %q", text(g), text(w))
		}
	}
}

// TestErrorsAreBounded: an error of any depth and width is carried, less deep.
func TestErrorsAreBounded(t *testing.T) {
	deep := errors.New("bottom")
	for range 10_000 {
		deep = fmt.Errorf("%w", deep)
	}
	if got := across(t, deep); got.Error() != "bottom" {
		t.Errorf("reads %q", got)
	}
	wide := make([]error, 100_000)
	for i := range wide {
		wide[i] = fs.ErrExist
	}
	if got := across(t, errors.Join(wide...)); !errors.Is(got, fs.ErrExist) || !strings.HasPrefix(got.Error(), fs.ErrExist.Error()) {
		t.Errorf("reads %.40q", got)
	}
	// What a broken peer may send.
	for _, w := range []*wireError{{Kind: sentinelError, Number: -1, Text: "x"}, {Kind: sentinelError, Number: 1 << 30, Text: "x"}, {Kind: pathError, Text: "x"},
		{Kind: attributeError, Attributes: []string{"a", "b"}}, {Kind: 200, Text: "x"}, {Kind: otherError, Is: []int{-1, 99}, Text: "x"}} {
		if err := fromWire(w); err == nil || err.Error() == "" {
			t.Errorf("%+v gives %v", w, err)
		}
	}
}

package vss

import (
	"errors"
	"fmt"
	"testing"
)

// TestErrorsSayNothingTwice: an error of the same matter within an error adds what
// it has to say, and neither the matter nor the code once more.
func TestErrorsSayNothingTwice(t *testing.T) {
	for _, test := range []struct {
		err  error
		want string
	}{
		{Errorf(ErrBadState, "Freeze", "app", "%w", Errorf(ErrBadState, "Freeze", "app", "not now")), "Freeze app: " + ErrBadState.Error() + ": not now"},
		{Errorf(ErrBadState, "Freeze", "app", "%w", ErrBadState), "Freeze app: " + ErrBadState.Error()},
		// As it comes out of another process: text alone.
		{Errorf(ErrBadState, "Freeze", "app", "%w", errors.New(Errorf(ErrBadState, "Freeze", "app", "not now").Error())), "Freeze app: " + ErrBadState.Error() + ": not now"},
		{Errorf(ErrBadState, "Freeze", "app", "%w", Errorf(ErrUnexpected, "Freeze", "app", "why")), "Freeze app: " + ErrBadState.Error() + ": " + ErrUnexpected.Error() + ": why"},
		{Errorf(ErrBadState, "Freeze", "app", "%w", Errorf(ErrBadState, "stop", "unit", "why")), "Freeze app: " + ErrBadState.Error() + ": stop unit: " + ErrBadState.Error() + ": why"},
		{Errorf(ErrBadState, "", "", "%w", fmt.Errorf("why")), ErrBadState.Error() + ": why"},
	} {
		if got := test.err.Error(); got != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
}

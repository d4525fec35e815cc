package systemd

import (
	"context"
	"slices"
	"testing"

	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// overtakenUnit is a unit that a Thaw has started which ended before it had noted so.
type overtakenUnit struct {
	writer.ServiceHolder
	calls []string
}

func (u *overtakenUnit) LetGo(context.Context) (bool, error) {
	u.calls = append(u.calls, "let go")
	return true, vss.Errorf(vss.ErrWriterErrorInconsistentSnapshot, "let service go on", "app.service", "somebody else started it")
}

func (u *overtakenUnit) Thaw(context.Context) error {
	u.calls = append(u.calls, "thaw")
	return nil
}

// TestAbortSeesAUnitRunThatWasOvertaken: only then its note goes.
func TestAbortSeesAUnitRunThatWasOvertaken(t *testing.T) {
	u := &overtakenUnit{}
	w := &unitWriter{unit: u}
	if err := w.Abort(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(u.calls, []string{"let go", "thaw"}) {
		t.Errorf("the unit was asked to %v", u.calls)
	}
}

package requester_test

import (
	"context"
	"errors"
	"os"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/session"
)

// writeZeros makes a file of stored zeros, which are no hole.
func (w *world) writeZeros(name string, mib int) {
	w.t.Helper()
	f, err := os.Create(w.path(name))
	if err != nil {
		w.t.Fatal(err)
	}
	defer f.Close()
	zeros := make([]byte, 1<<20)
	for range mib {
		if _, err := f.Write(zeros); err != nil {
			w.t.Fatal(err)
		}
	}
}

// failingSync is a target whose file system tells once that it could not write,
// as one does.
type failingSync struct {
	session.Session
	calls *atomic.Int64
}

func (s failingSync) Target(ctx context.Context, dir string, roots []string) (session.Target, error) {
	t, err := s.Session.Target(ctx, dir, roots)
	return failingTarget{t, s.calls}, err
}

type failingTarget struct {
	session.Target
	calls *atomic.Int64
}

func (t failingTarget) Sync(ctx context.Context) error {
	if t.calls.Add(1) == 1 {
		return syscall.EIO
	}
	return t.Target.Sync(ctx)
}

// TestARestoreIsWrittenOutWhileItGoesOn: the file system is not left with all of
// it until the end.
func TestARestoreIsWrittenOutWhileItGoesOn(t *testing.T) {
	w := newWorld(t)
	w.writeZeros("large", 300)
	res := w.backup(w.paths())
	w.wipe()
	log := &callLog{}
	open := func(ctx context.Context) (session.Session, error) {
		s, err := w.open(ctx)
		return loggedSession{s, log}, err
	}
	back, err := requester.Restore(t.Context(), open, w.repo, res.Record, requester.RestoreRequest{}, nil)
	if err != nil || back.Outcome != requester.Complete {
		t.Fatalf("%v: %v", back.Outcome, err)
	}
	syncs := 0
	for _, call := range log.calls {
		if call == "sync" {
			syncs++
		}
	}
	if last := log.calls[len(log.calls)-1]; syncs < 2 || last != "sync" {
		t.Errorf("%d syncs for 300 MiB; the last call is %q", syncs, last)
	}
}

// TestAFailureToWriteOutThatIsToldOnceFailsTheRestore: what a call in the middle
// is told, the one at the end is not told again.
func TestAFailureToWriteOutThatIsToldOnceFailsTheRestore(t *testing.T) {
	w := newWorld(t)
	w.writeZeros("large", 300)
	res := w.backup(w.paths())
	w.wipe()
	calls := new(atomic.Int64)
	open := func(ctx context.Context) (session.Session, error) {
		s, err := w.open(ctx)
		return failingSync{s, calls}, err
	}
	back, err := requester.Restore(t.Context(), open, w.repo, res.Record, requester.RestoreRequest{}, nil)
	if !errors.Is(err, syscall.EIO) || back.Outcome != requester.Failed {
		t.Errorf("%v after %d syncs: %v", back.Outcome, calls.Load(), err)
	}
}

// TestWhatFailedToBeWrittenIsNeverTakenForDurable: whoever asks after another one
// was told, or while he is, must not put a file in the place of one that is whole.
func TestWhatFailedToBeWrittenIsNeverTakenForDurable(t *testing.T) {
	target := requester.OnceTold(failingTarget{blankTarget{}, new(atomic.Int64)})
	errs := make(chan error)
	for range 3 {
		go func() { errs <- target.Sync(t.Context()) }()
	}
	for range 3 {
		if err := <-errs; !errors.Is(err, syscall.EIO) {
			t.Errorf("told %v of bytes that were not written", err)
		}
	}
}

// blankTarget is one that writes everything out.
type blankTarget struct{ session.Target }

func (blankTarget) Sync(context.Context) error { return nil }

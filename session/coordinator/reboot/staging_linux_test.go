package reboot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/internal/voltest"
	"github.com/sombra-backup/sombra/vss"
)

// TestWhatIsNotCommittedGoes: when the set is closed, and when its process died.
func TestWhatIsNotCommittedGoes(t *testing.T) {
	r := newRig(t)
	s := r.begin("closed")
	staged, err := s.Stage(t.Context(), "a")
	r.must(err)
	r.write(staged, "x")
	r.must(s.Close())
	r.reads(staged, "")
	if _, err := s.Stage(t.Context(), "a"); !errors.Is(err, vss.ErrBadState) {
		t.Errorf("stage after Close: %v", err)
	}

	dead := r.begin("dead").(*staging)
	left, err := dead.Stage(t.Context(), "a")
	r.must(err)
	r.write(left, "x")
	alive := r.begin("alive")
	mine, err := alive.Stage(t.Context(), "b")
	r.must(err)
	r.write(mine, "y")
	dead.log.Close() // as its process's end does
	third := r.begin("third")
	r.reads(left, "")
	r.reads(mine, "y")
	r.must(third.Close())
	r.must(alive.Close())
	r.clean()
}

// TestCommitNeedsWhatWasStaged: what is missing, or not to be swapped in, is named,
// and nothing waits.
func TestCommitNeedsWhatWasStaged(t *testing.T) {
	r := newRig(t)
	s := r.begin("w")
	if _, err := s.Commit(t.Context()); !errors.Is(err, vss.ErrBadState) {
		t.Errorf("an empty set: %v", err)
	}
	staged, err := s.Stage(t.Context(), "a")
	r.must(err)
	if _, err := s.Commit(t.Context()); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), r.path("a")) {
		t.Errorf("a file that is not there: %v", err)
	}
	r.must(os.Mkdir(r.path(staged), 0o755))
	if _, err := s.Commit(t.Context()); err == nil {
		t.Error("a directory is committed")
	}
	r.must(os.Remove(r.path(staged)))
	r.write(staged, "x")
	r.must(os.Mkdir(r.path("a"), 0o755))
	if _, err := s.Commit(t.Context()); err == nil || !strings.Contains(err.Error(), "directory") {
		t.Errorf("a directory in the place: %v", err)
	}
	r.must(s.Close())
	r.must(os.Remove(r.path("a")))
	r.clean()
}

// TestStagingIsRefusedWhereItWouldBeInVain: VSS_E_NOT_SUPPORTED with the reason.
func TestStagingIsRefusedWhereItWouldBeInVain(t *testing.T) {
	wants := func(t *testing.T, r *rig, why string) {
		t.Helper()
		_, err := r.store.Begin(t.Context(), "w", nil)
		if !errors.Is(err, vss.ErrNotSupported) || !strings.Contains(err.Error(), why) {
			t.Errorf("%v, want VSS_E_NOT_SUPPORTED and %q", err, why)
		}
	}
	r := newRig(t)
	r.store.booted = func() bool { return false }
	wants(t, r, "systemd does not run here")

	r = newRig(t)
	r.store.opts.Command = nil
	wants(t, r, "this program")

	r = newRig(t)
	r.store.opts.Command = []string{"/no/such/sombra"}
	wants(t, r, "/no/such/sombra")

	r = newRig(t)
	r.must(os.Symlink("/dev/null", r.store.unitPath()))
	wants(t, r, "unmask")

	v := voltest.Tmpfs(t, 1<<20)
	r = newRig(t)
	r.store.opts.StateDir = v.Root
	wants(t, r, "memory")

	r = newRig(t)
	r.dir = v.Root
	s := r.begin("w")
	defer s.Close()
	staged, err := s.Stage(t.Context(), "a")
	r.must(err)
	r.write(staged, "x")
	if _, err := s.Commit(t.Context()); !errors.Is(err, vss.ErrNotSupported) {
		t.Errorf("files on tmpfs: %v", err)
	}
}

// TestNoRoomForTheJournalMeansNothingWaits: the state's file system is full.
func TestNoRoomForTheJournalMeansNothingWaits(t *testing.T) {
	voltest.Need(t, "ext4")
	v := voltest.Ext4(t, 0)
	r := newRig(t)
	r.store.opts.StateDir = v.Root
	r.store.dir = filepath.Join(v.Root, "reboot")
	s := r.begin(strings.Repeat("w", 1000))
	for i := range 200 {
		staged, err := s.Stage(t.Context(), fmt.Sprint(i))
		r.must(err)
		r.write(staged, "x")
	}
	v.Fill(t, 0)
	_, err := s.Commit(t.Context())
	if !errors.Is(err, unix.ENOSPC) {
		t.Errorf("%v, want ENOSPC", err)
	}
	v.Empty(t)
	r.must(s.Close())
	if p := r.pending(); len(p) > 0 {
		t.Errorf("waiting: %+v", p)
	}
	if h := r.hidden(); len(h) > 0 {
		t.Errorf("left behind: %v", h)
	}
}

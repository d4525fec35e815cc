package reboot

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/internal/voltest"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// TestASetTakesItsPlaces (R-RES-10): files that were there and files that were
// not, links and hard links, with their names, of any bytes.
func TestASetTakesItsPlaces(t *testing.T) {
	r := newRig(t)
	r.write("a", "old a")
	r.write("sub/\xff\xfe", "old name")
	r.must(os.Symlink("nowhere", r.path("link")))
	s := r.begin("Writer: component")
	names := []string{"a", "b", "sub/\xff\xfe"}
	for _, n := range names {
		staged, err := s.Stage(t.Context(), n)
		r.must(err)
		r.write(staged, "new "+n)
	}
	link, err := s.Stage(t.Context(), "link")
	r.must(err)
	r.must(os.Symlink("a", r.path(link)))
	again, err := s.Stage(t.Context(), "link")
	if err != nil || again != link {
		t.Errorf("staged again: %q, %v, want %q", again, err, link)
	}
	first, err := s.Stage(t.Context(), "sub/first")
	r.must(err)
	r.write(first, "hard")
	second, err := s.Stage(t.Context(), "sub/second")
	r.must(err)
	r.must(os.Link(r.path(first), r.path(second)))
	id, err := s.Commit(t.Context())
	r.must(err)
	r.must(s.Close())

	r.reads("a", "old a")
	p := r.pending()
	if len(p) != 1 || p[0].ID != id || p[0].State != session.RebootPending || p[0].What != "Writer: component" || len(p[0].Files) != 6 {
		t.Fatalf("waiting: %+v", p)
	}
	if p[0].Files[0].Path != r.path("a") || p[0].Files[0].Size != 5 || p[0].Files[3].Type != "symlink" {
		t.Errorf("files: %+v", p[0].Files)
	}
	if _, err := os.Stat(filepath.Join(r.store.opts.UnitDir, "sysinit.target.wants", r.store.UnitName())); err != nil {
		t.Errorf("the unit is not enabled: %v", err)
	}

	// Whoever starts the unit before the host is started anew does no harm.
	if o := r.apply(); len(o) != 1 || !o[0].Waiting {
		t.Errorf("in the same run: %+v", o)
	}
	r.reads("a", "old a")

	r.reboot()
	if o := r.apply(); len(o) != 1 || !o[0].Swapped || o[0].Err != nil {
		t.Fatalf("%+v", o)
	}
	for _, n := range names {
		r.reads(n, "new "+n)
	}
	if to, err := os.Readlink(r.path("link")); to != "a" {
		t.Errorf("link leads to %q, %v", to, err)
	}
	x, err := os.Stat(r.path("sub/first"))
	r.must(err)
	if y, err := os.Stat(r.path("sub/second")); err != nil || !os.SameFile(x, y) {
		t.Errorf("hard links are two files: %v", err)
	}
	r.clean()
}

// failing are what keeps a set from its places.
var failing = map[string]struct {
	spoil func(r *rig, staged string)
	why   string
}{
	"content":   {func(r *rig, staged string) { r.write(staged, "NEW b") }, "damaged"},
	"size":      {func(r *rig, staged string) { r.write(staged, "longer than before") }, "bytes"},
	"gone":      {func(r *rig, staged string) { r.must(os.Remove(r.path(staged))) }, "not there any more"},
	"mode":      {func(r *rig, staged string) { r.must(os.Chmod(r.path(staged), 0o4755)) }, "mode"},
	"owner":     {func(r *rig, staged string) { r.must(os.Chown(r.path(staged), 1234, 0)) }, "belongs"},
	"directory": {func(r *rig, _ string) { r.must(os.Remove(r.path("b"))); r.must(os.Mkdir(r.path("b"), 0o755)) }, "directory"},
	"link instead": {func(r *rig, staged string) {
		r.must(os.Rename(r.path(staged), r.path("elsewhere")))
		r.must(os.Symlink(r.path("elsewhere"), r.path(staged)))
	}, "symlink"},
	"link on the way": {func(r *rig, _ string) {
		r.must(os.Rename(r.path("sub"), r.path("moved")))
		r.must(os.Symlink("moved", r.path("sub")))
	}, "symbolic link"},
	"directory gone": {func(r *rig, _ string) { r.must(os.Rename(r.path("sub"), r.path("moved"))) }, "no such file"},
}

// TestASetThatCannotTakeItsPlacesChangesNothing: it is kept with the reason, not
// tried again, and can be withdrawn.
func TestASetThatCannotTakeItsPlacesChangesNothing(t *testing.T) {
	for name, c := range failing {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.write("a", "old a")
			r.write("b", "old b")
			id := r.stage("w", "a", "b", "sub/c")
			staged, err := filepath.Rel(r.dir, r.pending()[0].Files[1].Staged)
			r.must(err)
			c.spoil(r, staged)
			r.reboot()
			o := r.apply()
			if len(o) != 1 || o[0].Swapped || o[0].Half || o[0].Err == nil || !strings.Contains(o[0].Err.Error(), c.why) {
				t.Fatalf("%+v, want an error with %q", o, c.why)
			}
			r.reads("a", "old a")
			r.reads("sub/c", "")
			p := r.pending()
			if len(p) != 1 || p[0].State != session.RebootFailed || !strings.Contains(p[0].Error, c.why) || p[0].Attempted.IsZero() {
				t.Errorf("%+v", p)
			}
			if _, err := os.Lstat(r.store.unitPath()); err == nil {
				t.Error("the unit is there, and has nothing to do")
			}
			if o := r.apply(); len(o) > 0 {
				t.Errorf("tried again: %+v", o)
			}
			r.must(r.store.Cancel(t.Context(), id[:8]))
			if p := r.pending(); len(p) > 0 {
				t.Errorf("waiting: %+v", p)
			}
			if err := r.store.Cancel(t.Context(), id); !errors.Is(err, vss.ErrObjectNotFound) {
				t.Errorf("withdrawn twice: %v", err)
			}
		})
	}
}

// TestAFailureInTheMiddlePutsBackWhatWasSwapped: a file that cannot be replaced
// shows only when it is tried.
func TestAFailureInTheMiddlePutsBackWhatWasSwapped(t *testing.T) {
	r := newRig(t)
	for _, n := range []string{"a", "b", "sub/c"} {
		r.write(n, "old "+n)
	}
	if out, err := exec.Command("chattr", "+i", r.path("sub/c")).CombinedOutput(); err != nil {
		voltest.Skip(t, "no file can be made immutable: %v: %s", err, out)
	}
	defer exec.Command("chattr", "-i", r.path("sub/c")).Run()
	id := r.stage("w", "a", "new", "b", "sub/c")
	r.reboot()
	o := r.apply()
	if len(o) != 1 || o[0].Swapped || o[0].Half || !errors.Is(o[0].Err, unix.EPERM) {
		t.Fatalf("%+v", o)
	}
	for _, n := range []string{"a", "b", "sub/c"} {
		r.reads(n, "old "+n)
	}
	r.reads("new", "")
	if p := r.pending(); len(p) != 1 || p[0].State != session.RebootFailed || !strings.Contains(p[0].Error, "sub/c") {
		t.Errorf("%+v", p)
	}
	r.must(r.store.Cancel(t.Context(), id))
	r.clean()
}

// TestALaterSetComesLater: two sets for one file.
func TestALaterSetComesLater(t *testing.T) {
	r := newRig(t)
	r.write("a", "old a")
	for _, text := range []string{"first", "second"} {
		s := r.begin(text)
		staged, err := s.Stage(t.Context(), "a")
		r.must(err)
		r.write(staged, text)
		_, err = s.Commit(t.Context())
		r.must(err)
		r.must(s.Close())
	}
	r.reboot()
	if o := r.apply(); len(o) != 2 || !o[0].Swapped || !o[1].Swapped {
		t.Fatalf("%+v", o)
	}
	r.reads("a", "second")
	r.clean()
}

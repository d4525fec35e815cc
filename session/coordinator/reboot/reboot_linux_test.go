package reboot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/internal/voltest"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// rig is a host whose state, units and data lie in a directory.
type rig struct {
	t     *testing.T
	store *Store
	dir   string // of the data
}

func newRig(t *testing.T) *rig {
	t.Helper()
	if os.Geteuid() != 0 {
		voltest.Skip(t, "files are swapped in by root alone")
	}
	top, err := os.MkdirTemp("/var/tmp", "sombra-reboot-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(top) })
	if top, err = filepath.EvalSymlinks(top); err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, dir: filepath.Join(top, "data")}
	for _, d := range []string{"state", "units", "run", "data", "data/sub"} {
		r.must(os.Mkdir(filepath.Join(top, d), 0o755))
	}
	r.store = Open(Options{StateDir: filepath.Join(top, "state"), Command: []string{"/bin/true", "at-reboot"},
		UnitDir: filepath.Join(top, "units"), RunDir: filepath.Join(top, "run", "marks")})
	r.store.booted = func() bool { return true }
	r.store.reload = func(context.Context) error { return nil }
	return r
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// reboot makes the marks of this run go, as a start of the host does.
func (r *rig) reboot() { r.must(os.RemoveAll(r.store.opts.RunDir)) }

func (r *rig) path(name string) string { return filepath.Join(r.dir, name) }

func (r *rig) write(name, text string) {
	r.t.Helper()
	r.must(os.WriteFile(r.path(name), []byte(text), 0o640))
}

// reads checks the content of a file; "" means that it is not there.
func (r *rig) reads(name, want string) {
	r.t.Helper()
	got, err := os.ReadFile(r.path(name))
	if want == "" && errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil || string(got) != want {
		r.t.Errorf("%s reads %q, %v, want %q", name, got, err, want)
	}
}

func (r *rig) begin(what string) session.RebootSet {
	r.t.Helper()
	s, err := r.store.Begin(r.t.Context(), what, func(name, elem string) (string, string, string, error) {
		dir, last := filepath.Split(r.path(name))
		return filepath.Join(filepath.Dir(name), elem), filepath.Clean(dir), last, nil
	})
	r.must(err)
	return s
}

// stage stages "new NAME" for each name and commits.
func (r *rig) stage(what string, names ...string) string {
	r.t.Helper()
	s := r.begin(what)
	for _, n := range names {
		staged, err := s.Stage(r.t.Context(), n)
		r.must(err)
		r.write(staged, "new "+n)
	}
	id, err := s.Commit(r.t.Context())
	r.must(err)
	r.must(s.Close())
	return id
}

// apply works the sets off and gives what became of them.
func (r *rig) apply() []Outcome {
	r.t.Helper()
	var list []Outcome
	r.must(r.store.Apply(r.t.Context(), func(o Outcome) { list = append(list, o) }))
	return list
}

func (r *rig) pending() []session.PendingReboot {
	r.t.Helper()
	list, err := r.store.Pending(r.t.Context())
	r.must(err)
	return list
}

// hidden are the names of staged files in the data.
func (r *rig) hidden() []string {
	r.t.Helper()
	var list []string
	r.must(filepath.WalkDir(r.dir, func(p string, d fs.DirEntry, err error) error {
		if strings.HasPrefix(d.Name(), ".sombra-") {
			list = append(list, p)
		}
		return err
	}))
	return list
}

// clean checks that nothing is left of any set.
func (r *rig) clean() {
	r.t.Helper()
	if p := r.pending(); len(p) > 0 {
		r.t.Errorf("waiting: %+v", p)
	}
	if h := r.hidden(); len(h) > 0 {
		r.t.Errorf("left behind: %v", h)
	}
	entries, err := os.ReadDir(r.store.dir)
	r.must(err)
	for _, e := range entries {
		if e.Name() != "lock" {
			r.t.Errorf("left in the journal: %s", e.Name())
		}
	}
	if units, _ := os.ReadDir(r.store.opts.UnitDir); len(units) > 0 {
		r.t.Errorf("left of the unit: %v", units)
	}
}

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

// cut is what a power cut does to a process.
type cut struct{}

// cutAt applies, and ends at the nth step.
func (r *rig) cutAt(n int) (ended bool) {
	left := n
	r.store.step = func(string) {
		if left--; left == 0 {
			panic(cut{})
		}
	}
	defer func() {
		r.store.step = func(string) {}
		if p := recover(); p != nil {
			if _, ok := p.(cut); !ok {
				panic(p)
			}
			ended = true
		}
	}()
	r.store.Apply(r.t.Context(), func(Outcome) {})
	return false
}

// TestASetCutShortIsFinishedAtTheNextStart: at whatever step it ended, on file
// systems that can exchange two names and on those that cannot.
func TestASetCutShortIsFinishedAtTheNextStart(t *testing.T) {
	for _, can := range []bool{true, false} {
		t.Run(fmt.Sprintf("exchange=%v", can), func(t *testing.T) {
			canExchange = can
			defer func() { canExchange = true }()
			steps := 0
			for n := 1; ; n++ {
				r := newRig(t)
				r.write("a", "old a")
				r.write("sub/c", "old c")
				id := r.stage("w", "a", "b", "sub/c")
				r.reboot()
				if !r.cutAt(n) {
					break
				}
				steps++
				half := 0
				for _, name := range []string{"a", "b", "sub/c"} {
					if data, _ := os.ReadFile(r.path(name)); string(data) == "new "+name {
						half++
					}
				}
				p := r.pending()
				if half > 0 && half < 3 {
					if len(p) != 1 || p[0].State != session.RebootHalf {
						t.Errorf("step %d: half done, and it says %+v", n, p)
					}
					if err := r.store.Cancel(t.Context(), id); !errors.Is(err, vss.ErrBadState) {
						t.Errorf("step %d: half done, and withdrawn: %v", n, err)
					}
				}
				r.reboot()
				for _, o := range r.apply() {
					if !o.Swapped || o.Err != nil {
						t.Errorf("step %d: %+v", n, o)
					}
				}
				for _, name := range []string{"a", "b", "sub/c"} {
					r.reads(name, "new "+name)
				}
				r.clean()
			}
			if steps < 8 {
				t.Errorf("it was cut at %d steps only", steps)
			}
		})
	}
}

// TestAnExchangeCutShortIsSettled: each state that the three steps of an exchange
// on a file system that has none can leave.
func TestAnExchangeCutShortIsSettled(t *testing.T) {
	staged := session.NewStagedName()
	for name, c := range map[string]struct{ before, after map[string]string }{
		"after the first step":  {map[string]string{staged: "new", aside(staged): "old"}, map[string]string{staged: "new", "a": "old"}},
		"after the second step": {map[string]string{"a": "new", aside(staged): "old"}, map[string]string{"a": "new", staged: "old"}},
		"at its end":            {map[string]string{"a": "new", staged: "old"}, map[string]string{"a": "new", staged: "old"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			for n, text := range c.before {
				r.write(n, text)
			}
			dir, err := openDir(r.dir)
			r.must(err)
			defer unix.Close(dir)
			r.must(settleAside(dir, staged, "a"))
			for _, n := range []string{"a", staged, aside(staged)} {
				r.reads(n, c.after[n])
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

// TestAHalfDoneSetThatCannotGoOnIsPutBack: begun with before a power cut, and
// what is still staged was damaged by it.
func TestAHalfDoneSetThatCannotGoOnIsPutBack(t *testing.T) {
	r := newRig(t)
	r.write("a", "old a")
	r.write("b", "old b")
	r.stage("w", "a", "b")
	staged := r.pending()[0].Files[1].Staged
	r.reboot()
	if !r.cutAt(2) {
		t.Fatal("it was not cut short")
	}
	r.reads("a", "new a")
	r.must(os.WriteFile(staged, []byte("NEW b"), 0o640))
	r.reboot()
	o := r.apply()
	if len(o) != 1 || o[0].Swapped || o[0].Half || o[0].Err == nil {
		t.Fatalf("%+v", o)
	}
	r.reads("a", "old a")
	r.reads("b", "old b")
}

// TestAHalfDoneSetSaysSo: neither on nor back.
func TestAHalfDoneSetSaysSo(t *testing.T) {
	r := newRig(t)
	r.write("a", "old a")
	r.write("b", "old b")
	r.stage("w", "a", "b")
	r.reboot()
	if !r.cutAt(2) {
		t.Fatal("it was not cut short")
	}
	r.must(os.Remove(r.pending()[0].Files[1].Staged))
	r.must(os.Remove(r.path("b")))
	r.reboot()
	o := r.apply()
	if len(o) != 1 || !o[0].Half || o[0].Err == nil {
		t.Fatalf("%+v", o)
	}
	if p := r.pending(); len(p) != 1 || p[0].State != session.RebootHalf || !strings.Contains(p[0].Error, r.path("b")) {
		t.Errorf("%+v", p)
	}
	if _, err := os.Lstat(r.store.unitPath()); err != nil {
		t.Errorf("the unit is gone, and there is something to do: %v", err)
	}
}

// TestWhatRunsMayChangeFilesBeforeAHalfDoneSetIsFinished: the host went on after
// the unit was killed.
func TestWhatRunsMayChangeFilesBeforeAHalfDoneSetIsFinished(t *testing.T) {
	r := newRig(t)
	r.write("a", "old a")
	r.write("b", "old b")
	r.stage("w", "a", "b")
	r.reboot()
	if !r.cutAt(2) {
		t.Fatal("it was not cut short")
	}
	r.write("save", "saved a")
	r.must(os.Rename(r.path("save"), r.path("a"))) // another inode
	r.reboot()
	if o := r.apply(); len(o) != 1 || !o[0].Swapped || o[0].Err != nil {
		t.Fatalf("%+v", o)
	}
	r.reads("a", "saved a")
	r.reads("b", "new b")
	r.clean()
}

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
	r.store.opts.Command = []string{"/var/tmp/no/such/sombra"}
	wants(t, r, "/var/tmp/no/such/sombra")

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

// TestTheJournalIsRootsAlone: a directory or file that others may write to says
// nothing.
func TestTheJournalIsRootsAlone(t *testing.T) {
	r := newRig(t)
	r.write("a", "old a")
	id := r.stage("w", "a")
	name := filepath.Join(r.store.dir, id+".json")
	r.must(os.Chmod(name, 0o666))
	if list, err := r.store.Pending(t.Context()); err == nil || len(list) > 0 {
		t.Errorf("a file that others may write to: %v, %v", list, err)
	}
	r.must(os.Chmod(name, 0o600))
	r.must(os.Chmod(r.store.dir, 0o777))
	if _, err := r.store.Pending(t.Context()); err == nil {
		t.Error("a directory that others may write to")
	}
	r.reboot()
	if err := r.store.Apply(t.Context(), func(Outcome) {}); err == nil {
		t.Error("it is worked off")
	}
	r.reads("a", "old a")
}

// TestAJournalThatIsNotThereIsNoEmptyOne: its file system is not mounted.
func TestAJournalThatIsNotThereIsNoEmptyOne(t *testing.T) {
	r := newRig(t)
	r.write("a", "old a")
	r.stage("w", "a")
	r.reboot()
	away := r.store.dir + "-away"
	r.must(os.Rename(r.store.dir, away))
	if err := r.store.Apply(t.Context(), func(Outcome) {}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	r.must(os.Rename(away, r.store.dir))
	if _, err := os.Lstat(r.store.unitPath()); err != nil {
		t.Errorf("the unit is gone: %v", err)
	}
	r.apply()
	r.reads("a", "new a")
	r.clean()
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

// TestTheUnitIsOneThatSystemdTakes, with names that need quoting.
func TestTheUnitIsOneThatSystemdTakes(t *testing.T) {
	r := newRig(t)
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		voltest.Skip(t, "no systemd-analyze here")
	}
	program := filepath.Join(filepath.Dir(r.dir), "a pro$gram with% blanks")
	r.must(os.WriteFile(program, []byte("#!/bin/sh\n"), 0o755))
	r.store.opts.Command = []string{program, "at-reboot", "--state-dir", `/a b$HOME%h"\`}
	text, err := r.store.unit([]string{"/", "/srv/a b", "/var"})
	r.must(err)
	name := filepath.Join(filepath.Dir(r.dir), "sombra-at-reboot.service")
	r.must(os.WriteFile(name, []byte(text), 0o644))
	if out, err := exec.Command("systemd-analyze", "verify", "--man=no", name).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v: %s\n%s", err, out, text)
	}
	if !strings.Contains(text, `After=local-fs.target srv-a\x20b.mount var.mount`) {
		t.Errorf("mounts:\n%s", text)
	}
	for _, program := range []string{"/bin/x\ny", `/bin/x"y`, `/bin/x\y`} {
		r.store.opts.Command = []string{program}
		if _, err := r.store.unit(nil); err == nil {
			t.Errorf("%q stands in a unit", program)
		}
	}
}

// TestMountsAreFound: a directory's own mount, not one above it.
func TestMountsAreFound(t *testing.T) {
	v := voltest.Tmpfs(t, 1<<20)
	sub := filepath.Join(v.Root, "sub")
	if err := os.Mkdir(sub, 0o755); err != nil {
		t.Fatal(err)
	}
	root, err := filepath.EvalSymlinks(v.Root)
	if err != nil {
		t.Fatal(err)
	}
	if m, err := mountAt(sub); err != nil || m.point != root || !volatileFS(m.fsType) {
		t.Errorf("%+v, %v, want %s", m, err, root)
	}
	if m, err := mountAt("/"); err != nil || m.point != "/" {
		t.Errorf("%+v, %v", m, err)
	}
}

func FuzzParseSet(f *testing.F) {
	good := `{"format":1,"id":"8f7d3c10-0000-4000-8000-000000000001","created":"2026-11-22T08:00:00Z","what":"w","state":"pending","files":[` +
		`{"directory":"/srv","name":"a","staged":".sombra-at-reboot-ABCDEFGHIJKLMNOPQRSTUVWXYZ","type":"file","size":1,"sha256":"` + strings.Repeat("ab", 32) + `","mode":420,"uid":0,"gid":0,"inode":7}]}`
	f.Add([]byte(good))
	f.Add([]byte(strings.Replace(good, `"a"`, `{"base64":"/w=="}`, 1)))
	f.Add([]byte(strings.Replace(good, `"a"`, `"../a"`, 1)))
	f.Add([]byte(`{"format":2}`))
	if _, err := parseSet([]byte(good)); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := parseSet(data)
		if err != nil {
			return
		}
		for _, x := range s.Files {
			if !filepath.IsAbs(string(x.Directory)) || strings.Contains(string(x.Name), "/") || !session.IsStagedName(string(x.Staged)) ||
				slices.Contains([]string{"", ".", ".."}, string(x.Name)) {
				t.Errorf("taken: %+v", x)
			}
		}
		s.shown()
	})
}

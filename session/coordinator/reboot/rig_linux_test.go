package reboot

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/internal/voltest"
	"github.com/sombra-backup/sombra/session"
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

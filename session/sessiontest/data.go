package sessiontest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// testTree: the shadow copy shows what was there at Freeze, and the live tree
// what is there now; names lead nowhere else.
func testTree(t *testing.T, h Harness) {
	r := newRig(t, h, Options{}, "one")
	c := ctx(t)
	w := r.writers[0]
	file := filepath.Join(w.Dir, "one")
	w.On[writer.EventFreeze] = Behaviour{Do: func(context.Context, *writer.Event) error {
		return os.WriteFile(file, []byte("at freeze"), 0o640)
	}}
	w.On[writer.EventThaw] = Behaviour{Do: func(context.Context, *writer.Event) error {
		return os.WriteFile(file, []byte("after thaw, and longer"), 0o640)
	}}
	must(t, os.Symlink("one", filepath.Join(w.Dir, "link")))
	must(t, os.Symlink("/etc", filepath.Join(w.Dir, "out")))
	must(t, r.run(snapshotTaken))
	loc, err := r.s.ResolvePath(c, w.Dir)
	must(t, err)

	tree, err := r.s.Tree(c, r.snap)
	must(t, err)
	defer tree.Close()
	wantFile(t, tree, path.Join(loc.Name, "one"), "at freeze")
	live, err := r.s.Live(c, loc.Volume)
	must(t, err)
	defer live.Close()
	wantFile(t, live, path.Join(loc.Name, "one"), "after thaw, and longer")

	names := map[string]session.Entry{}
	must(t, tree.ReadDir(c, loc.Name, func(e session.Entry, err error) error {
		names[e.Name] = e
		return err
	}))
	if len(names) != 3 {
		t.Errorf("%d names in the directory, want 3", len(names))
	}
	if e := names["one"]; e.Source != session.FromShadow || e.Size != int64(len("at freeze")) || !e.Mode.IsRegular() {
		t.Errorf("entry %+v", e)
	}
	if e := names["link"]; e.Mode&fs.ModeSymlink == 0 || e.Target != "one" {
		t.Errorf("link is %v to %q", e.Mode, e.Target)
	}
	if _, err := tree.Lstat(c, path.Join(loc.Name, "nothing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Lstat of nothing: %v", err)
	}
	for _, bad := range []string{path.Join(loc.Name, "out/passwd"), "../etc/passwd", "/etc/passwd", loc.Name + "/../one"} {
		if _, err := tree.Lstat(c, bad); err == nil {
			t.Errorf("Lstat(%q) succeeds", bad)
		}
		if f, err := tree.Open(c, bad); err == nil {
			f.Close()
			t.Errorf("Open(%q) succeeds", bad)
		}
	}
	stop := errors.New("enough")
	if err := tree.ReadDir(c, loc.Name, func(session.Entry, error) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("ReadDir goes on: %v", err)
	}
	_, err = r.s.Tree(c, vss.NewGUID())
	wantCode(t, err, vss.ErrObjectNotFound)
}

func wantFile(t *testing.T, tree session.Tree, name, want string) {
	t.Helper()
	f, err := tree.Open(ctx(t), name)
	must(t, err)
	defer f.Close()
	e, err := f.Stat(ctx(t))
	must(t, err)
	got, err := io.ReadAll(io.NewSectionReader(f, 0, e.Size))
	must(t, err)
	if string(got) != want {
		t.Errorf("%s reads %q, want %q", name, got, want)
	}
	data, err := f.Data(ctx(t))
	must(t, err)
	var sum uint64
	for _, d := range data {
		sum += d.Length
	}
	if sum != uint64(len(want)) {
		t.Errorf("%s has %d bytes of data, want %d", name, sum, len(want))
	}
}

// testTarget: what a restore may do below a directory, and what it may not.
func testTarget(t *testing.T, h Harness) {
	r := newRig(t, h, Options{}, "one")
	c := ctx(t)
	must(t, r.run(initialized))
	dir := filepath.Join(r.dir, "target")
	must(t, os.Mkdir(dir, 0o755))
	outside := filepath.Join(r.dir, "outside")
	must(t, os.Mkdir(outside, 0o755))
	must(t, os.Symlink(outside, filepath.Join(dir, "escape")))

	tg, err := r.s.Target(c, dir, nil)
	must(t, err)
	defer tg.Close()
	existed, err := tg.Mkdir(c, "a/b")
	must(t, err)
	if existed {
		t.Error("a/b existed before it was made")
	}
	when := time.Unix(1_700_000_000, 123456789)
	e := session.Entry{Name: "f", Perm: 0o640, UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), Size: 1 << 20, Modified: when, Accessed: when}
	f, err := tg.Create(c, "a/b/f")
	must(t, err)
	if _, err := os.Lstat(filepath.Join(dir, "a/b/f")); err == nil {
		t.Error("the file has its name before Commit")
	}
	if _, err := f.WriteAt([]byte("tail"), 1<<20-4); err != nil {
		t.Fatal(err)
	}
	must(t, f.Truncate(1<<20))
	must(t, f.Commit(c, e))
	must(t, f.Close())
	info, err := os.Stat(filepath.Join(dir, "a/b/f"))
	must(t, err)
	if info.Size() != 1<<20 || info.Mode().Perm() != 0o640 || !info.ModTime().Equal(when) {
		t.Errorf("restored file: %d bytes, %v, %v", info.Size(), info.Mode(), info.ModTime())
	}
	got, err := os.ReadFile(filepath.Join(dir, "a/b/f"))
	must(t, err)
	if !bytes.HasSuffix(got, []byte("\x00tail")) {
		t.Error("restored bytes are not those written")
	}
	change, err := tg.OpenFile(c, "a/b/f")
	must(t, err)
	if _, err := change.WriteAt([]byte("head"), 0); err != nil {
		t.Fatal(err)
	}
	e.Perm, e.Modified = 0o600, when.Add(time.Hour)
	must(t, change.SetAttributes(c, e))
	must(t, change.Sync())
	must(t, change.Close())
	if there, err := tg.Lstat(c, "a/b/f"); err != nil || there.Perm != 0o600 || !there.Modified.Equal(e.Modified) || there.Size != 1<<20 {
		t.Errorf("changed in place: %+v, %v", there, err)
	}
	must(t, tg.Link(c, "a/b/f", "a/hard"))
	must(t, tg.Symlink(c, session.Entry{Target: "b/f", Mode: fs.ModeSymlink | 0o777, UID: e.UID, GID: e.GID}, "a/soft"))

	dropped, err := tg.Create(c, "a/dropped")
	must(t, err)
	must(t, dropped.Close())
	left, err := os.ReadDir(filepath.Join(dir, "a"))
	must(t, err)
	if len(left) != 3 {
		t.Errorf("%d names where b, hard and soft should be", len(left))
	}
	for _, bad := range []string{"escape/f", "../outside/f", "/etc/f", "a/../../outside/f", "", "a//f", "a/./f"} {
		if f, err := tg.Create(c, bad); err == nil {
			f.Close()
			t.Errorf("Create(%q) succeeds", bad)
		}
		if _, err := tg.Mkdir(c, bad); err == nil && bad != "" {
			t.Errorf("Mkdir(%q) succeeds", bad)
		}
	}
	must(t, tg.Sync(c))
	testHostWork(t, tg)
	if list, _ := os.ReadDir(outside); len(list) > 0 {
		t.Errorf("%d files outside the target", len(list))
	}
}

// testErrors: errors are found by code and by type, wherever the session is.
func testErrors(t *testing.T, h Harness) {
	r := newRig(t, h, Options{}, "one")
	c := ctx(t)
	must(t, r.run(initialized))
	var model *vss.Error
	if err := r.s.PreRestore(c, nil); !errors.As(err, &model) || model.Op != "PreRestore" || model.Code != vss.ErrBadState || model.Err == nil {
		t.Errorf("call out of order: %#v", err)
	}
	dir := filepath.Join(r.dir, "target")
	must(t, os.Mkdir(dir, 0o755))
	tg, err := r.s.Target(c, dir, nil)
	must(t, err)
	defer tg.Close()
	if _, err := tg.Lstat(c, "nothing"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Lstat of nothing: %v", err)
	}
	f, err := tg.Create(c, "f")
	must(t, err)
	defer f.Close()
	e := session.Entry{Perm: 0o600, UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), Modified: time.Now(), Accessed: time.Now(),
		XAttrs: map[string][]byte{"nosuchnamespace.a": []byte("1"), "nosuchnamespace.b": []byte("2")}}
	err = f.Commit(c, e)
	var lacks *session.AttributeError
	if !errors.As(err, &lacks) || lacks.Name != "f" || len(lacks.Problems) != 2 {
		t.Fatalf("attributes that cannot be given: %#v", err)
	}
	for _, p := range lacks.Problems {
		if _, ok := e.XAttrs[p.Attribute]; !ok || p.Err == nil || p.Err.Error() == "" {
			t.Errorf("problem %+v", p)
		}
	}
	if got, err := os.ReadFile(filepath.Join(dir, "f")); err != nil || len(got) > 0 {
		t.Errorf("the file has its name all the same: %q, %v", got, err)
	}
}

// testLargeDirectory: a directory is read to its end, and whoever reads it may
// make other calls meanwhile, or stop.
func testLargeDirectory(t *testing.T, h Harness) {
	const n = 3000
	r := newRig(t, h, Options{}, "one")
	c := ctx(t)
	must(t, r.run(initialized))
	dir := filepath.Join(r.dir, "large")
	must(t, os.Mkdir(dir, 0o755))
	for i := range n {
		must(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("%05d", i)), nil, 0o644))
	}
	loc, err := r.s.ResolvePath(c, dir)
	must(t, err)
	tree, err := r.s.Live(c, loc.Volume)
	must(t, err)
	defer tree.Close()
	seen := 0
	err = tree.ReadDir(c, loc.Name, func(e session.Entry, err error) error {
		if err != nil || e.Name != fmt.Sprintf("%05d", seen) {
			return fmt.Errorf("entry %d is %q, %w", seen, e.Name, err)
		}
		if seen%500 == 0 {
			if _, err := tree.Lstat(c, path.Join(loc.Name, e.Name)); err != nil {
				return err
			}
		}
		seen++
		return nil
	})
	if err != nil || seen != n {
		t.Errorf("%d entries, %v; want %d", seen, err, n)
	}
	stop := errors.New("enough")
	seen = 0
	err = tree.ReadDir(c, loc.Name, func(session.Entry, error) error {
		if seen++; seen == 7 {
			return stop
		}
		return nil
	})
	if !errors.Is(err, stop) || seen != 7 {
		t.Errorf("stopped after %d entries with %v", seen, err)
	}
	c2, cancel := context.WithCancel(c)
	defer cancel()
	err = tree.ReadDir(c2, loc.Name, func(session.Entry, error) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

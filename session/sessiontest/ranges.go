package sessiontest

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"testing"

	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// ChangedRanges checks what a session tells of the differences between a kept
// shadow copy and a later one. It is part of [Run]; by itself it is for
// directories on other file systems than the rest of the suite uses.
func ChangedRanges(t *testing.T, h Harness) {
	state := t.TempDir()
	dir := h.Dir(t)
	h.Dir = func(*testing.T) string { return dir }

	r := newRig(t, h, Options{State: state}, "one")
	c := ctx(t)
	file := filepath.Join(r.writers[0].Dir, "large")
	data := make([]byte, 4<<20)
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	must(t, os.WriteFile(file, data, 0o644))
	must(t, r.s.InitializeForBackup(c, nil))
	must(t, r.s.SetContext(c, vss.ContextAppRollback))
	must(t, r.s.SetBackupState(c, session.BackupState{Type: vss.BackupTypeFull, Purpose: "suite"}))
	must(t, r.resume(initialized, snapshotTaken))
	base := r.snap
	t.Cleanup(func() { forget(t, h, state, base) })
	able := r.comparable()
	must(t, r.s.Close())

	copy(data[1<<20:], "changed in the first place")
	copy(data[3<<20+77:], "changed in the second place")
	must(t, os.WriteFile(file+".first", data, 0o644)) // the same name in neither
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	must(t, err)
	for _, at := range []int64{1 << 20, 3<<20 + 77} {
		_, err := f.WriteAt(data[at:at+30], at)
		must(t, err)
	}
	must(t, f.Close())

	r = newRig(t, h, Options{State: state}, "one")
	must(t, r.run(snapshotTaken))
	p, err := r.s.SnapshotProperties(c, base)
	must(t, err)
	if p.Purpose != "suite" {
		t.Errorf("the kept copy is for %q, want %q", p.Purpose, "suite")
	}
	space, err := r.s.SnapshotSpace(c, base)
	if !able {
		wantCode(t, err, vss.ErrNotSupported)
	} else if must(t, err); space.Bytes > 1<<20 || space.Least {
		t.Errorf("the kept copy takes %+v, and two blocks were changed since", space)
	}
	if _, err := r.s.SnapshotSpace(c, vss.NewGUID()); err == nil {
		t.Error("the space of no copy is known")
	}
	loc, err := r.s.ResolvePath(c, r.writers[0].Dir)
	must(t, err)
	name := path.Join(loc.Name, "large")
	tree, err := r.s.Tree(c, r.snap)
	must(t, err)
	defer tree.Close()
	told, err := tree.ChangedRanges(c, base, name)
	if !able {
		wantCode(t, err, vss.ErrNotSupported)
	} else {
		must(t, err)
		r.wantCovered(tree, base, name, told)
	}
	for what, ask := range map[string]struct {
		base vss.GUID
		name string
	}{
		"no such copy":      {vss.NewGUID(), name},
		"not in the base":   {base, name + ".first"},
		"not in either":     {base, name + ".none"},
		"a directory":       {base, loc.Name},
		"a set, not a copy": {p.SetID, name},
	} {
		if told, err := tree.ChangedRanges(c, ask.base, ask.name); vss.CodeOf(err) != vss.ErrNotSupported || err == nil {
			t.Errorf("%s: %v, %v; want VSS_E_NOT_SUPPORTED", what, told, err)
		}
	}
	for _, bad := range []string{"../etc/passwd", "/etc/passwd", loc.Name + "/../x", ""} {
		if told, err := tree.ChangedRanges(c, base, bad); err == nil {
			t.Errorf("%q: %v", bad, told)
		}
	}
	live, err := r.s.Live(c, loc.Volume)
	must(t, err)
	defer live.Close()
	_, err = live.ChangedRanges(c, base, name)
	wantCode(t, err, vss.ErrNotSupported)

	n, err := r.s.DeleteSnapshots(c, base, vss.ObjectSnapshot)
	if n != 1 || err != nil {
		t.Errorf("%d deleted, %v", n, err)
	}
	_, err = tree.ChangedRanges(c, base, name)
	wantCode(t, err, vss.ErrNotSupported)
}

// comparable reports whether the rig's volume has a provider that compares.
func (r *rig) comparable() bool {
	r.t.Helper()
	sup, err := r.s.IsVolumeSupported(ctx(r.t), vss.GUID{}, r.volume)
	must(r.t, err)
	v, err := r.s.Volume(ctx(r.t), r.volume)
	must(r.t, err)
	return sup.Capabilities.ChangedRanges && v.Persistent
}

// wantCovered compares ranges with what is read from both copies.
func (r *rig) wantCovered(tree session.Tree, base vss.GUID, name string, told []vss.Range) {
	t, c := r.t, ctx(r.t)
	t.Helper()
	old, err := r.s.Tree(c, base)
	must(t, err)
	defer old.Close()
	was, is := contents(t, old, name), contents(t, tree, name)
	if bytes.Equal(was, is) {
		t.Fatal("the copies do not differ")
	}
	var sum uint64
	for _, rg := range told {
		sum += rg.Length
		copy(was[rg.Offset:rg.End()], is[rg.Offset:rg.End()])
	}
	if !bytes.Equal(was, is) {
		t.Errorf("the file is not what it was with %v changed", told)
	}
	if sum == 0 || sum > 256<<10 {
		t.Errorf("%d bytes are told to differ, and 60 do", sum)
	}
}

func contents(t *testing.T, tree session.Tree, name string) []byte {
	t.Helper()
	f, err := tree.Open(ctx(t), name)
	must(t, err)
	defer f.Close()
	e, err := f.Stat(ctx(t))
	must(t, err)
	b, err := io.ReadAll(io.NewSectionReader(f, 0, e.Size))
	must(t, err)
	return b
}

// forget deletes a kept copy that the test did not get to.
func forget(t *testing.T, h Harness, state string, id vss.GUID) {
	s := h.Open(t, Options{State: state})
	defer s.Close()
	s.DeleteSnapshots(ctx(t), id, vss.ObjectSnapshot)
}

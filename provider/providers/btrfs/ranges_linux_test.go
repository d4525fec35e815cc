package btrfs

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/internal/voltest"
	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/vss"
)

// snap makes a finished snapshot.
func snap(t *testing.T, v *voltest.Volume, root string) (provider.Ref, string) {
	t.Helper()
	req := provider.Request{
		Ref: provider.Ref{SnapshotID: vss.NewGUID(), Area: filepath.Join(v.Root, provider.AreaName),
			Volume: provider.Volume{ID: v.UUID, Root: root, FSType: v.FSType}},
		HoldLimit: 10 * time.Second,
	}
	s, err := New().BeginPrepare(t.Context(), req)
	must(t, err)
	must(t, s.EndPrepare(t.Context()))
	must(t, s.PreCommit(t.Context()))
	must(t, s.Commit(t.Context()))
	c, err := s.PostCommit(t.Context())
	must(t, err)
	return req.Ref, c.Root
}

func setReadOnly(t *testing.T, root string, on bool) {
	t.Helper()
	d, err := os.Open(root)
	must(t, err)
	defer d.Close()
	if !on {
		must(t, makeWritable(int(d.Fd())))
		return
	}
	flags := uint64(subvolReadOnly)
	must(t, ioctl(int(d.Fd()), iocSubvolSetFlags, &flags))
}

// TestASnapshotThatWasWrittenToVouchesForNothing: what the base holds must be
// what it held when it was read.
func TestASnapshotThatWasWrittenToVouchesForNothing(t *testing.T) {
	v := voltest.Btrfs(t, 0)
	for _, name := range []string{"a", "b"} {
		must(t, os.WriteFile(filepath.Join(v.Root, name), bytes.Repeat([]byte("x"), 1<<20), 0o600))
	}
	base, root := snap(t, v, v.Root)
	now, _ := snap(t, v, v.Root)
	ask := func(name string) error {
		_, err := New().ChangedRanges(t.Context(), base, now, name)
		return err
	}
	must(t, ask("a"))
	setReadOnly(t, root, false)
	if err := ask("a"); !errors.Is(err, vss.ErrNotSupported) {
		t.Errorf("a base that can be written to: %v, want VSS_E_NOT_SUPPORTED", err)
	}
	f, err := os.OpenFile(filepath.Join(root, "a"), os.O_RDWR, 0)
	must(t, err)
	_, err = f.WriteAt([]byte("changed in the snapshot"), 5000)
	must(t, err)
	must(t, f.Close())
	setReadOnly(t, root, true)
	if err := ask("a"); !errors.Is(err, vss.ErrNotSupported) {
		t.Errorf("a file that was written to in the base: %v, want VSS_E_NOT_SUPPORTED", err)
	}
	must(t, ask("b"))
}

// TestFilesDeletedWhileOpenDoNotSpoilASnapshot: the kernel removes them from it
// right after it is made, which changes the snapshot but no file in it.
func TestFilesDeletedWhileOpenDoNotSpoilASnapshot(t *testing.T) {
	v := voltest.Btrfs(t, 0)
	must(t, os.WriteFile(filepath.Join(v.Root, "a"), bytes.Repeat([]byte("x"), 1<<20), 0o600))
	gone, err := os.Create(filepath.Join(v.Root, "gone"))
	must(t, err)
	defer gone.Close()
	must(t, os.Remove(gone.Name()))
	base, root := snap(t, v, v.Root)
	v.Sync(t)
	d, err := os.Open(root)
	must(t, err)
	defer d.Close()
	var info subvolInfo
	must(t, ioctl(int(d.Fd()), iocGetSubvolInfo, &info))
	if info.generation <= info.otransid {
		t.Fatalf("the snapshot was not changed: made in %d, changed in %d", info.otransid, info.generation)
	}
	f, err := os.OpenFile(filepath.Join(v.Root, "a"), os.O_RDWR, 0)
	must(t, err)
	_, err = f.WriteAt([]byte("changed"), 500_000)
	must(t, err)
	must(t, f.Close())
	now, _ := snap(t, v, v.Root)
	got, err := New().ChangedRanges(t.Context(), base, now, "a")
	if err != nil || len(got) != 1 || got[0].Offset > 500_000 || got[0].End() < 500_007 || got[0].Length > 64<<10 {
		t.Errorf("told %v, %v; want one block around 500000", got, err)
	}
}

// TestSnapshotsOfDifferentSubvolumesAreNotCompared, though a file of one name is
// in both.
func TestSnapshotsOfDifferentSubvolumesAreNotCompared(t *testing.T) {
	v := voltest.Btrfs(t, 0)
	var refs []provider.Ref
	for _, name := range []string{"one", "two"} {
		root := filepath.Join(v.Root, name)
		voltest.Subvolume(t, root)
		must(t, os.WriteFile(filepath.Join(root, "a"), bytes.Repeat([]byte(name), 1<<20), 0o600))
		ref, _ := snap(t, v, root)
		refs = append(refs, ref)
	}
	if got, err := New().ChangedRanges(t.Context(), refs[0], refs[1], "a"); !errors.Is(err, vss.ErrNotSupported) {
		t.Errorf("told %v, %v; want VSS_E_NOT_SUPPORTED", got, err)
	}
}

// TestBlocksGivenToOthersAreNotMistaken: a file replaced in the base shares
// nothing with what was read from it, whatever blocks the new one was given.
func TestBlocksGivenToOthersAreNotMistaken(t *testing.T) {
	v := voltest.Btrfs(t, 0)
	name := filepath.Join(v.Root, "a")
	must(t, os.WriteFile(name, bytes.Repeat([]byte("x"), 1<<20), 0o600))
	base, root := snap(t, v, v.Root)
	now, _ := snap(t, v, v.Root)
	setReadOnly(t, root, false)
	// The file in the base becomes the very one that is in the other copy's
	// volume later: same place, other history.
	must(t, os.Remove(filepath.Join(root, "a")))
	src, err := os.Open(name)
	must(t, err)
	defer src.Close()
	dst, err := os.Create(filepath.Join(root, "a"))
	must(t, err)
	must(t, unix.IoctlFileClone(int(dst.Fd()), int(src.Fd())))
	must(t, dst.Close())
	setReadOnly(t, root, true)
	if got, err := New().ChangedRanges(t.Context(), base, now, "a"); !errors.Is(err, vss.ErrNotSupported) {
		t.Errorf("told %v, %v; want VSS_E_NOT_SUPPORTED", got, err)
	}
}

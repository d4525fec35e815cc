package btrfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sombra-backup/sombra/internal/voltest"
	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/vss"
)

func requestFor(root string, set vss.GUID) provider.Request {
	return provider.Request{HoldLimit: 10 * time.Second, Ref: provider.Ref{Provider: ID, SetID: set, SnapshotID: vss.NewGUID(),
		Volume: provider.Volume{Root: root, FSType: "btrfs"}, Area: filepath.Join(root, provider.AreaName)}}
}

// dirty writes without making anything durable until the context ends.
func dirty(ctx context.Context, name string, size int64) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	block := make([]byte, 1<<20)
	for off := int64(0); ctx.Err() == nil; off = (off + 1<<20) % size {
		block[0]++
		if _, err := f.WriteAt(block, off); err != nil {
			return err
		}
	}
	return nil
}

// TestCommitIsShortAfterMuchWasWritten: what is dirty when the copy is prepared
// is written back before the hold and not in it. Right after 256 MiB of dirty
// data the ioctl alone takes most of a second.
func TestCommitIsShortAfterMuchWasWritten(t *testing.T) {
	voltest.Need(t, "btrfs")
	v := voltest.Btrfs(t, 4<<30)
	var holds []time.Duration
	for range 2 {
		s, err := New().BeginPrepare(t.Context(), requestFor(v.Root, vss.NewGUID()))
		must(t, err)
		writing, stop := context.WithCancel(t.Context())
		var g errgroup.Group
		g.Go(func() error { return dirty(writing, filepath.Join(v.Root, "big"), 128<<20) })
		time.Sleep(300 * time.Millisecond)
		must(t, s.EndPrepare(t.Context()))
		time.Sleep(300 * time.Millisecond)
		must(t, s.(provider.Refresher).Refresh(t.Context()))
		stop() // frozen
		must(t, g.Wait())
		must(t, s.PreCommit(t.Context()))
		begin := time.Now()
		must(t, s.Commit(t.Context()))
		holds = append(holds, time.Since(begin))
		_, err = s.PostCommit(t.Context())
		must(t, err)
		must(t, s.Abort(t.Context()))
	}
	slices.Sort(holds)
	t.Logf("Commit took %v", holds)
	// What has to be written in the hold is only what was written since the
	// last flush; a deadline far above that, for a disk that others use too.
	if holds[len(holds)/2] > 2*time.Second {
		t.Errorf("Commit took %v", holds)
	}
}

// TestManyVolumesOfOneSet: as many as a set may have, all at the same time and
// beside a program that writes, stay within the hold.
func TestManyVolumesOfOneSet(t *testing.T) {
	voltest.Need(t, "btrfs")
	const volumes = 64
	v := voltest.Btrfs(t, 1<<30)
	roots := []string{v.Root}
	for i := range volumes - 1 {
		// Some nested in others.
		root := filepath.Join(roots[max(0, len(roots)-1-i%3*10)], fmt.Sprint("sub", i))
		voltest.Subvolume(t, root)
		roots = append(roots, root)
	}
	writing, stop := context.WithCancel(t.Context())
	var writer errgroup.Group
	writer.Go(func() error { return dirty(writing, filepath.Join(v.Root, "big"), 64<<20) })
	set := vss.NewGUID()
	var copies []provider.Snapshot
	for _, root := range roots {
		must(t, os.WriteFile(filepath.Join(root, "file"), []byte(root), 0o600))
		s, err := New().BeginPrepare(t.Context(), requestFor(root, set))
		must(t, err)
		copies = append(copies, s)
	}
	all := func(what string, f func(provider.Snapshot) error) time.Duration {
		t.Helper()
		var g errgroup.Group
		begin := time.Now()
		for _, s := range copies {
			g.Go(func() error { return f(s) })
		}
		if err := g.Wait(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		return time.Since(begin)
	}
	all("EndPrepare", func(s provider.Snapshot) error { return s.EndPrepare(t.Context()) })
	refresh := all("Refresh", func(s provider.Snapshot) error { return s.(provider.Refresher).Refresh(t.Context()) })
	all("PreCommit", func(s provider.Snapshot) error { return s.PreCommit(t.Context()) })
	took := all("Commit", func(s provider.Snapshot) error { return s.Commit(t.Context()) })
	all("PostCommit", func(s provider.Snapshot) error {
		c, err := s.PostCommit(t.Context())
		if err != nil {
			return err
		}
		// The copy of this volume, and nothing of those nested in it.
		b, err := os.ReadFile(filepath.Join(c.Root, "file"))
		if want := filepath.Dir(filepath.Dir(filepath.Dir(c.Root))); err == nil && string(b) != want {
			err = fmt.Errorf("%s holds the file of %s", c.Root, b)
		}
		return err
	})
	stop()
	must(t, writer.Wait())
	t.Logf("refreshing %d volumes took %v, committing %v", volumes, refresh, took)
	if took > 10*time.Second {
		t.Errorf("committing %d volumes took %v, longer than any hold", volumes, took)
	}
	all("Abort", func(s provider.Snapshot) error { return s.Abort(t.Context()) })
	for _, root := range roots {
		if _, err := os.Lstat(filepath.Join(root, provider.AreaName)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the area of %s is left: %v", root, err)
		}
	}
}

// TestCopiesOfTheDeadWithCopiesInThem: a copy that a killed run left behind may
// hold the place of an older one, and the volume the copies of volumes nested in
// it. Each is deleted by its Ref alone, in any order.
func TestCopiesOfTheDeadWithCopiesInThem(t *testing.T) {
	voltest.Need(t, "btrfs")
	for _, backwards := range []bool{false, true} {
		v := voltest.Btrfs(t, 0)
		nested := filepath.Join(v.Root, "nested")
		voltest.Subvolume(t, nested)
		var refs []provider.Ref
		var made []provider.Snapshot
		for _, root := range []string{v.Root, nested, v.Root, nested, v.Root} {
			req := requestFor(root, vss.NewGUID())
			s, err := New().BeginPrepare(t.Context(), req)
			must(t, err)
			must(t, s.EndPrepare(t.Context()))
			must(t, s.PreCommit(t.Context()))
			must(t, s.Commit(t.Context()))
			refs, made = append(refs, req.Ref), append(made, s) // and it is killed
		}
		if list, err := Subvolumes(t.Context(), v.Root); err != nil || len(list) != 1 {
			t.Errorf("copies are taken for volumes: %+v, %v", list, err)
		}
		if backwards {
			slices.Reverse(refs)
		}
		for i, ref := range refs {
			must(t, New().Delete(t.Context(), ref))
			for _, other := range refs[i+1:] {
				if _, err := New().Locate(t.Context(), other); err != nil {
					t.Errorf("deleting one copy took another: %v", err)
				}
			}
		}
		for _, s := range made {
			must(t, s.Abort(t.Context())) // only frees what this process holds
		}
		for _, root := range []string{v.Root, nested} {
			if _, err := os.Lstat(filepath.Join(root, provider.AreaName)); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the area of %s is left: %v", root, err)
			}
		}
	}
}

// TestQuotaThatIsUsedUp: a snapshot that the quota does not allow is want of
// room, and whatever it is, nothing is left of it.
func TestQuotaThatIsUsedUp(t *testing.T) {
	voltest.Need(t, "btrfs")
	if _, err := exec.LookPath("btrfs"); err != nil {
		voltest.Skip(t, "btrfs-progs are not installed: %v", err)
	}
	v := voltest.Btrfs(t, 0)
	root := filepath.Join(v.Root, "limited")
	voltest.Subvolume(t, root)
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("btrfs", args...).CombinedOutput(); err != nil {
			t.Fatalf("btrfs %q: %v\n%s", args, err, out)
		}
	}
	run("quota", "enable", v.Root)
	run("quota", "rescan", "-w", v.Root)
	req := requestFor(root, vss.NewGUID())
	s, err := New().BeginPrepare(t.Context(), req)
	must(t, err)
	must(t, s.EndPrepare(t.Context()))
	must(t, os.WriteFile(filepath.Join(root, "file"), make([]byte, 8<<20), 0o600))
	v.Sync(t)
	run("qgroup", "limit", "1M", root)
	must(t, s.PreCommit(t.Context()))
	err = s.Commit(t.Context())
	if err != nil && !errors.Is(err, vss.ErrInsufficientStorage) {
		t.Errorf("Commit: %v; want none or VSS_E_INSUFFICIENT_STORAGE", err)
	}
	t.Logf("with the quota used up: %v", err)
	must(t, s.Abort(t.Context()))
	if _, err := os.Lstat(req.Ref.Area); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the area is left: %v", err)
	}
}

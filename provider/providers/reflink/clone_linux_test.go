package reflink

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/internal/voltest"
	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/provider/staging"
	"github.com/sombra-backup/sombra/vss"
)

func request(v *voltest.Volume) provider.Request {
	return provider.Request{
		Ref: provider.Ref{SnapshotID: vss.NewGUID(), Area: filepath.Join(v.Root, provider.AreaName),
			Volume: provider.Volume{ID: v.UUID, Root: v.Root, FSType: v.FSType}},
		Scope:     provider.Scope{Claims: []provider.Claim{{Writer: "w", Files: []provider.FileSet{{Dir: ".", Pattern: "db"}}}}},
		HoldLimit: 10 * time.Second,
	}
}

// fragmented makes a file of n extents by leaving holes between blocks.
func fragmented(t *testing.T, name string, n int) {
	t.Helper()
	f, err := os.Create(name)
	must(t, err)
	defer f.Close()
	block := make([]byte, 4096)
	for i := range n {
		block[0] = byte(i)
		_, err := f.WriteAt(block, int64(i)*8192)
		must(t, err)
	}
	must(t, f.Sync())
}

func TestFragmentedFilesAreRefusedBeforehand(t *testing.T) {
	v := voltest.XFS(t, 512<<20)
	const extents = 4000
	fragmented(t, filepath.Join(v.Root, "db"), extents)
	req := request(v)
	s, err := New().BeginPrepare(t.Context(), req)
	must(t, err)
	defer s.Abort(t.Context())
	e, err := s.Estimate(t.Context())
	must(t, err)
	// What lies between the blocks may be extents too, allocated beforehand.
	if e.Extents < extents || e.Extents > 2*extents+10 || e.Hold < time.Duration(e.Extents)*10*time.Microsecond {
		t.Errorf("estimated %d extents and %v of hold; the file has %d blocks apart", e.Extents, e.Hold, extents)
	}
	req.HoldLimit, req.Ref.SnapshotID = e.Hold/2, vss.NewGUID()
	s2, err := New().BeginPrepare(t.Context(), req)
	must(t, err)
	defer s2.Abort(t.Context())
	if _, err := s2.Estimate(t.Context()); !errors.Is(err, vss.ErrHoldWritesTimeout) {
		t.Errorf("half the time it takes: %v, want VSS_E_HOLD_WRITES_TIMEOUT", err)
	}
}

func TestExtentsClonedInTheHoldAreCounted(t *testing.T) {
	for _, fstype := range []string{"xfs", "btrfs"} {
		v := voltest.Make(t, fstype, 512<<20)
		name := filepath.Join(v.Root, "db")
		fragmented(t, name, 500)
		s, err := New().BeginPrepare(t.Context(), request(v))
		must(t, err)
		defer s.Abort(t.Context())
		must(t, s.EndPrepare(t.Context()))
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		must(t, err)
		_, err = f.WriteAt([]byte("changed"), 8192*100)
		must(t, err)
		must(t, f.Close())
		must(t, s.PreCommit(t.Context()))
		must(t, s.Commit(t.Context()))
		c, err := s.PostCommit(t.Context())
		must(t, err)
		if c.Files != 1 || c.Extents < 490 || c.Extents > 520 {
			t.Errorf("%s: %d files with %d extents in the hold, want 1 with about 500", fstype, c.Files, c.Extents)
		}
	}
}

// TestFilesWithoutChecksums: databases on btrfs are often chattr +C, and share
// blocks only with files that are too.
func TestFilesWithoutChecksums(t *testing.T) {
	v := voltest.Btrfs(t, 0)
	name := filepath.Join(v.Root, "db")
	noCow := func(name string, on bool) {
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
		must(t, err)
		defer f.Close()
		flags := 0
		if on {
			flags = flagNoCow
		}
		must(t, unix.IoctlSetPointerInt(int(f.Fd()), iocSetFlags, flags))
		_, err = f.WriteString(strings.Repeat("no checksums ", 1000))
		must(t, err)
	}
	noCow(name, true)
	s, err := New().BeginPrepare(t.Context(), request(v))
	must(t, err)
	defer s.Abort(t.Context())
	must(t, s.EndPrepare(t.Context()))
	// Before the hold it becomes a file of the other kind, under its old name.
	noCow(name+".new", false)
	must(t, os.Rename(name+".new", name))
	if r, ok := s.(provider.Refresher); ok {
		must(t, r.Refresh(t.Context()))
	}
	noCow(name+".new", true)
	must(t, os.Rename(name+".new", name))
	must(t, s.PreCommit(t.Context()))
	must(t, s.Commit(t.Context()))
	c, err := s.PostCommit(t.Context())
	must(t, err)
	b, err := os.ReadFile(filepath.Join(c.Root, "db"))
	if err != nil || string(b) != strings.Repeat("no checksums ", 1000) {
		t.Errorf("the copy holds %d bytes, %v", len(b), err)
	}
}

func TestXFSWithoutReflinksIsRefused(t *testing.T) {
	v := voltest.XFS(t, 0)
	must(t, unix.Unmount(v.Root, 0))
	image := filepath.Join(filepath.Dir(v.Root), "old")
	must(t, os.WriteFile(image, nil, 0o600))
	must(t, os.Truncate(image, voltest.SmallXFS))
	if out, err := exec.Command("mkfs.xfs", "-q", "-m", "reflink=0", image).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := exec.Command("mount", "-o", "loop", image, v.Root).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	_, err := New().Supports(t.Context(), provider.Volume{Root: v.Root, FSType: "xfs"}, filepath.Join(v.Root, provider.AreaName))
	if !errors.Is(err, vss.ErrVolumeNotSupportedByProvider) || !strings.Contains(err.Error(), "reflink=1") {
		t.Errorf("%v; want VSS_E_VOLUME_NOT_SUPPORTED_BY_PROVIDER with the way out", err)
	}
}

func TestRoomIsKeptForWhatIsOverwritten(t *testing.T) {
	m := method{costOf(unix.XFS_SUPER_MAGIC)}
	small, large := m.Expect(staging.Totals{Files: 1}), m.Expect(staging.Totals{Files: 1, Data: 100 << 30})
	if large.Room-small.Room != 5<<30 {
		t.Errorf("for 100 GiB of data %d bytes more are wanted, want 5 GiB", large.Room-small.Room)
	}
	if large.Hold != small.Hold {
		t.Errorf("the hold depends on bytes: %v and %v", small.Hold, large.Hold)
	}
}

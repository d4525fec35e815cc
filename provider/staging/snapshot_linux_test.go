package staging

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/internal/voltest"
	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/vss"
)

// plain is a Method that copies bytes, with hooks.
type plain struct {
	flush  func(src *os.File)
	copied func(src *os.File)
	expect func(Totals) Expectation
	copies *atomic.Int64
}

func (plain) Name() string                  { return "plain" }
func (plain) Unclaimed() bool               { return true }
func (plain) Workers() int                  { return 4 }
func (plain) Renew(int64) bool              { return true }
func (plain) Examine(*os.File) (int, error) { return 1, nil }

func (p plain) Expect(t Totals) Expectation {
	if p.expect != nil {
		return p.expect(t)
	}
	return Expectation{Hold: time.Duration(t.Files) * time.Microsecond, Room: t.Bytes}
}

func (p plain) Flush(src *os.File) error {
	if err := unix.Fdatasync(int(src.Fd())); err != nil {
		return err
	}
	if p.flush != nil {
		p.flush(src)
	}
	return nil
}

func (p plain) Copy(ctx context.Context, src, dst *os.File, size int64, fresh bool) (uint64, error) {
	if p.copies != nil {
		p.copies.Add(1)
	}
	n, err := io.Copy(dst, src)
	if p.copied != nil {
		p.copied(src)
	}
	return uint64(n), err
}

func everything() provider.Scope {
	return provider.Scope{Claims: []provider.Claim{{Writer: "w", Files: []provider.FileSet{{Dir: "data", Pattern: "*", Recursive: true}}}}}
}

// volume makes a volume of a directory, with a file in data.
func volume(t *testing.T) (root string, req provider.Request) {
	t.Helper()
	root = t.TempDir()
	must(t, os.Mkdir(filepath.Join(root, "data"), 0o755))
	must(t, os.WriteFile(filepath.Join(root, "data", "file"), []byte("content"), 0o644))
	return root, provider.Request{
		Ref: provider.Ref{SnapshotID: vss.NewGUID(), Volume: provider.Volume{Root: root, FSType: "ext4"},
			Area: filepath.Join(t.TempDir(), "area")},
		Scope: everything(), HoldLimit: 10 * time.Second,
	}
}

func begin(t *testing.T, req provider.Request, m Method) *Snapshot {
	t.Helper()
	s, err := New(t.Context(), req, m)
	must(t, err)
	t.Cleanup(func() { s.Abort(t.Context()) })
	return s
}

func finish(t *testing.T, s *Snapshot) provider.Copied {
	t.Helper()
	must(t, s.PreCommit(t.Context()))
	must(t, s.Commit(t.Context()))
	c, err := s.PostCommit(t.Context())
	must(t, err)
	return c
}

// age makes a file's times those of some time ago, so that the two ticks say
// nothing about it.
func age() { time.Sleep(50 * time.Millisecond) }

// TestStoreBetweenFlushAndReadIsFound: the page is dirty again when it is read,
// so that the next store to it sets no time. What was remembered must be the
// state from before the flush.
func TestStoreBetweenFlushAndReadIsFound(t *testing.T) {
	root, req := volume(t)
	name := filepath.Join(root, "data", "file")
	must(t, os.WriteFile(name, make([]byte, 8192), 0o644))
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	b, err := unix.Mmap(int(f.Fd()), 0, 8192, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	must(t, err)
	defer unix.Munmap(b)
	age()
	stored := false
	s := begin(t, req, plain{flush: func(*os.File) {
		if !stored {
			b[0] = 1
			age()
			stored = true
		}
	}})
	must(t, s.EndPrepare(t.Context()))
	b[1] = 2
	c := finish(t, s)
	got, err := os.ReadFile(filepath.Join(c.Root, "data", "file"))
	must(t, err)
	if got[0] != 1 || got[1] != 2 {
		t.Errorf("the copy has %d and %d, want 1 and 2", got[0], got[1])
	}
}

func TestOnlyWhatChangedIsCopiedInTheHold(t *testing.T) {
	root, req := volume(t)
	for i := range 50 {
		must(t, os.WriteFile(filepath.Join(root, "data", fmt.Sprint(i)), []byte("x"), 0o644))
	}
	age()
	var copies atomic.Int64
	s := begin(t, req, plain{copies: &copies})
	if !s.trusted {
		t.Skipf("the file system of %s is not one whose times are trusted", root)
	}
	must(t, s.EndPrepare(t.Context()))
	must(t, os.WriteFile(filepath.Join(root, "data", "7"), []byte("y"), 0o644))
	before := copies.Load()
	c := finish(t, s)
	if n := copies.Load() - before; n != 1 || c.Files != 1 || c.Bytes != 1 || c.Extents != 1 {
		t.Errorf("%d files copied in the hold, reported %d of %d bytes; want the one that changed", n, c.Files, c.Bytes)
	}
}

func TestAFileThatMovesInTheHoldIsReported(t *testing.T) {
	root, req := volume(t)
	name := filepath.Join(root, "data", "file")
	s := begin(t, req, plain{copied: func(src *os.File) {
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
		if err == nil {
			f.WriteString("more")
			f.Close()
		}
	}})
	must(t, s.EndPrepare(t.Context()))
	if c := finish(t, s); len(c.Moved) != 1 || c.Moved[0] != "data/file" {
		t.Errorf("moved are %q, want data/file", c.Moved)
	}
}

// TestWaysToAFileSetAreNotListed: what leads to a file set's directory need
// not be readable, and is not looked through. To root everything is readable.
func TestWaysToAFileSetAreNotListed(t *testing.T) {
	if os.Geteuid() == 0 {
		asOrdinary(t)
		return
	}
	root, req := volume(t)
	must(t, os.MkdirAll(filepath.Join(root, "way", "to", "set"), 0o755))
	must(t, os.WriteFile(filepath.Join(root, "way", "to", "set", "f"), nil, 0o644))
	must(t, os.WriteFile(filepath.Join(root, "way", "beside"), nil, 0o644))
	must(t, os.MkdirAll(filepath.Join(root, "way", "other"), 0o755))
	must(t, os.Chmod(filepath.Join(root, "way"), 0o311))
	defer os.Chmod(filepath.Join(root, "way"), 0o755)
	req.Scope.Claims[0].Files = []provider.FileSet{{Dir: "way/to/set", Pattern: "f"}, {Dir: "way/never", Pattern: "*"}}
	s := begin(t, req, plain{})
	must(t, s.EndPrepare(t.Context()))
	c := finish(t, s)
	m, err := provider.ReadManifest(c.Root)
	must(t, err)
	var got []string
	for _, e := range m.All() {
		got = append(got, e.Path)
	}
	if want := ". way way/to way/to/set way/to/set/f"; strings.Join(got, " ") != want {
		t.Errorf("the copy has %q, want %q", got, want)
	}
}

func TestCaseIsFoldedWhereAsked(t *testing.T) {
	root, req := volume(t)
	must(t, os.WriteFile(filepath.Join(root, "data", "UPPER.LOG"), nil, 0o644))
	req.Scope.Fold = true
	req.Scope.Claims[0].Files = []provider.FileSet{{Dir: "DATA", Pattern: "*.log"}}
	s := begin(t, req, plain{})
	must(t, s.EndPrepare(t.Context()))
	c := finish(t, s)
	if _, err := os.Lstat(filepath.Join(c.Root, "data", "UPPER.LOG")); err != nil {
		t.Error(err)
	}
}

func TestUnclaimedDataIsLeftOutIfItWouldTakeMoreThanHalfTheHold(t *testing.T) {
	root, req := volume(t)
	must(t, os.Mkdir(filepath.Join(root, "home"), 0o755))
	for i := range 20 {
		must(t, os.WriteFile(filepath.Join(root, "home", fmt.Sprint(i)), nil, 0o644))
	}
	req.Unclaimed = true
	req.Scope.Unclaimed = []provider.FileSet{{Dir: ".", Pattern: "*", Recursive: true}}
	seen := 0
	expect := func(t Totals) Expectation {
		seen = max(seen, t.Files)
		return Expectation{Hold: time.Duration(t.Files) * time.Second}
	}
	for limit, want := range map[time.Duration]bool{41 * time.Second: false, 42 * time.Second: true} {
		req.HoldLimit, req.Ref.SnapshotID = limit, vss.NewGUID()
		s := begin(t, req, plain{expect: expect})
		e, err := s.Estimate(t.Context())
		must(t, err)
		if e.Unclaimed != want || (e.Files == 21) != want {
			t.Errorf("limit %v: unclaimed %v with %d files, want %v", limit, e.Unclaimed, e.Files, want)
		}
	}
	req.HoldLimit, seen = 4*time.Second, 0
	s := begin(t, req, plain{expect: expect})
	if _, err := s.Estimate(t.Context()); err != nil || seen > 4 {
		t.Errorf("%v; it looked at %d files to know that 2 are the most", err, seen)
	}
}

func TestHoldThatOutlastsItsLimitFails(t *testing.T) {
	root, req := volume(t)
	req.HoldLimit = 200 * time.Millisecond
	slow := atomic.Bool{}
	s := begin(t, req, plain{copied: func(*os.File) {
		if slow.Load() {
			time.Sleep(300 * time.Millisecond)
		}
	}})
	must(t, s.EndPrepare(t.Context()))
	slow.Store(true)
	for i := range 3 {
		must(t, os.WriteFile(filepath.Join(root, "data", fmt.Sprint(i)), nil, 0o644))
	}
	must(t, s.PreCommit(t.Context()))
	if err := s.Commit(t.Context()); !errors.Is(err, vss.ErrHoldWritesTimeout) {
		t.Errorf("%v, want VSS_E_HOLD_WRITES_TIMEOUT", err)
	}
}

// TestChangesFasterThanCopyingAreRefused: if each pass leaves as much to do as
// the one before, and that is more than the hold allows, freezing helps nobody.
func TestChangesFasterThanCopyingAreRefused(t *testing.T) {
	root, req := volume(t)
	name := filepath.Join(root, "data", "file")
	req.HoldLimit = 50 * time.Millisecond
	s := begin(t, req, plain{copied: func(*os.File) {
		time.Sleep(80 * time.Millisecond)
		os.WriteFile(name, []byte("changed again"), 0o644)
	}})
	err := s.EndPrepare(t.Context())
	if !errors.Is(err, vss.ErrHoldWritesTimeout) {
		t.Fatalf("%v, want VSS_E_HOLD_WRITES_TIMEOUT", err)
	}
	must(t, s.Abort(t.Context()))
	if _, err := os.Lstat(req.Ref.Area); !os.IsNotExist(err) {
		t.Errorf("the area is left: %v", err)
	}
}

// TestPassesAreRepeatedWhileTheyGetShorter and no longer.
func TestPassesAreRepeatedWhileTheyGetShorter(t *testing.T) {
	root, req := volume(t)
	name := filepath.Join(root, "data", "file")
	pause := 200 * time.Millisecond
	s := begin(t, req, plain{copied: func(*os.File) {
		if pause > 10*time.Millisecond {
			time.Sleep(pause)
			pause /= 4
			os.WriteFile(name, []byte(fmt.Sprint(pause)), 0o644)
		}
	}})
	must(t, s.EndPrepare(t.Context()))
	if s.passes < 3 || s.passes > maxPasses {
		t.Errorf("%d passes, want about four", s.passes)
	}
	finish(t, s)
}

func TestPersistentCopiesAndOthersAreFound(t *testing.T) {
	for _, context := range []vss.SnapshotContext{vss.ContextBackup, vss.ContextAppRollback} {
		_, req := volume(t)
		req.Context = context
		s := begin(t, req, plain{})
		must(t, s.EndPrepare(t.Context()))
		c := finish(t, s)
		if got, err := Locate(t.Context(), req.Ref); err != nil || got.Root != c.Root {
			t.Errorf("context %v: %+v, %v", context, got, err)
		}
	}
}

// TestUnreadableFiles runs as an ordinary user: root can read everything.
func TestUnreadableFiles(t *testing.T) {
	if os.Geteuid() == 0 {
		asOrdinary(t)
		return
	}
	root, req := volume(t)
	name := filepath.Join(root, "data", "closed")
	must(t, os.WriteFile(name, []byte("x"), 0o000))
	must(t, os.Mkdir(filepath.Join(root, "data", "dir"), 0o000))
	defer os.Chmod(filepath.Join(root, "data", "dir"), 0o700)
	listed := filepath.Join(root, "data", "listed") // can be listed and not entered
	must(t, os.Mkdir(listed, 0o700))
	must(t, os.WriteFile(filepath.Join(listed, "file"), nil, 0o600))
	must(t, os.Chmod(listed, 0o400))
	defer os.Chmod(listed, 0o700)

	req.Unclaimed = true
	req.Scope.Unclaimed, req.Scope.Claims = req.Scope.Claims[0].Files, nil
	s := begin(t, req, plain{})
	_, err := s.Estimate(t.Context())
	must(t, err)
	must(t, s.EndPrepare(t.Context()))
	m, err := provider.ReadManifest(finish(t, s).Root)
	must(t, err)
	for _, p := range []string{"data/closed", "data/dir", "data/listed/file"} {
		if e, ok := m.Lookup(p); !ok || !strings.Contains(e.Missing, "permission denied") {
			t.Errorf("data of no writer that cannot be read: the manifest says %+v, %v", e, ok)
		}
	}

	req.Scope = everything()
	must(t, os.Chmod(listed, 0o700))
	for _, bad := range []string{name, filepath.Join(root, "data", "dir")} {
		for _, step := range []string{"Estimate", "EndPrepare"} {
			req.Ref.SnapshotID = vss.NewGUID()
			s := begin(t, req, plain{})
			if step == "Estimate" {
				_, err = s.Estimate(t.Context())
			} else {
				err = s.EndPrepare(t.Context())
			}
			if !errors.Is(err, vss.ErrProviderVeto) || !strings.Contains(err.Error(), bad) {
				t.Errorf("%s: %v; want VSS_E_PROVIDER_VETO that names %s", step, err, bad)
			}
			must(t, s.Abort(t.Context()))
		}
		must(t, os.Chmod(name, 0o600)) // now only the directory is in the way
	}
}

func TestAnotherFileMountedOnAClaimedOneIsAnError(t *testing.T) {
	voltest.Need(t)
	root, req := volume(t)
	other := filepath.Join(t.TempDir(), "other")
	must(t, os.WriteFile(other, []byte("not of this volume"), 0o600))
	voltest.Bind(t, other, filepath.Join(root, "data", "file"))
	s := begin(t, req, plain{})
	if _, err := s.Estimate(t.Context()); !errors.Is(err, vss.ErrProviderVeto) || !strings.Contains(err.Error(), "data/file") {
		t.Errorf("%v; want VSS_E_PROVIDER_VETO that names the file", err)
	}
}

// TestAMountNotSeenInTheListingIsNotEntered: something may be mounted between
// the listing of a directory and its opening.
func TestAMountNotSeenInTheListingIsNotEntered(t *testing.T) {
	voltest.Need(t)
	root, _ := volume(t)
	must(t, os.MkdirAll(filepath.Join(root, "data", "point"), 0o755))
	voltest.Bind(t, t.TempDir(), filepath.Join(root, "data", "point"))
	f, err := os.Open(root)
	must(t, err)
	defer f.Close()
	st, err := statAt(int(f.Fd()), "")
	must(t, err)
	scope := everything()
	var seen []*object
	w := &walk{root: f, rootDev: st.dev, scope: provider.NewMatcher(&scope), visit: func(o *object) error { seen = append(seen, o); return nil }}
	if sub, err := w.directory(t.Context(), "data/point"); err != nil || len(sub) != 0 || len(seen) != 1 || !seen[0].mount {
		t.Errorf("%v, %v, visited %+v; want the mount point alone", sub, err, seen)
	}
}

// TestAVolumeWithoutClaimsNeedsNoRoom: a small volume that is nearly full, such
// as the one a machine starts from, must not end a set it has no file in.
func TestAVolumeWithoutClaimsNeedsNoRoom(t *testing.T) {
	v := voltest.Ext4(t, 0)
	v.Fill(t, 400<<10)
	req := provider.Request{HoldLimit: time.Second,
		Ref: provider.Ref{SnapshotID: vss.NewGUID(), Volume: provider.Volume{Root: v.Root, FSType: "ext4"},
			Area: filepath.Join(v.Root, provider.AreaName)}}
	s := begin(t, req, plain{})
	must(t, s.EndPrepare(t.Context()))
	c := finish(t, s)
	m, err := provider.ReadManifest(c.Root)
	if err != nil || m.Len() != 1 {
		t.Errorf("%v; %d entries, want the root alone", err, m.Len())
	}
}

package localfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/internal/voltest"
	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/provider/providers/btrfs"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

func list(t *testing.T, tr session.Tree, dir string) (names []string, entries map[string]session.Entry) {
	t.Helper()
	entries = map[string]session.Entry{}
	err := tr.ReadDir(context.Background(), dir, func(e session.Entry, err error) error {
		if err != nil {
			t.Errorf("%s: %v", e.Name, err)
		}
		names = append(names, e.Name)
		entries[e.Name] = e
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names, entries
}

func TestMountsAndSubvolumesAreShownAndNotEntered(t *testing.T) {
	v := voltest.Btrfs(t, voltest.SmallBtrfs)
	other := voltest.Tmpfs(t, 1<<20)
	fill(t, v.Root, map[string]string{"a/f": "x", "mounted/below": "x", provider.AreaName + "/copy/f": "x", "bound/f": "x", "file": "x"})
	voltest.Subvolume(t, v.Root+"/sub")
	fill(t, v.Root, map[string]string{"sub/f": "x", "sub/d/f": "x"})
	fill(t, other.Root, map[string]string{"f": "x"})
	voltest.Bind(t, other.Root, v.Root+"/mounted")
	voltest.Bind(t, v.Root+"/a", v.Root+"/bound")
	voltest.Bind(t, other.Root+"/f", v.Root+"/file")
	eachWay(t, func(t *testing.T, stepwise bool) {
		tr := openTestTree(t, v.Root, stepwise)
		names, entries := list(t, tr, ".")
		if want := []string{"a", "bound", "file", "mounted", "sub"}; !slices.Equal(names, want) {
			t.Errorf("got %q, want %q", names, want)
		}
		ctx := context.Background()
		for name, e := range entries {
			if e.MountPoint != (name != "a") {
				t.Errorf("%s: %+v", name, e)
			}
			if again, err := tr.Lstat(ctx, name); err != nil || again.MountPoint != e.MountPoint {
				t.Errorf("%s: %+v, %v", name, again, err)
			}
		}
		if e, err := tr.Lstat(ctx, "."); err != nil || e.MountPoint || !e.Mode.IsDir() {
			t.Errorf("root: %+v, %v", e, err)
		}
		for _, name := range []string{"mounted", "sub", "bound", "sub/d"} {
			if err := tr.ReadDir(ctx, name, func(session.Entry, error) error { return nil }); !errors.Is(err, fs.ErrInvalid) {
				t.Errorf("list %s: %v", name, err)
			}
			if _, err := tr.Open(ctx, name+"/f"); !errors.Is(err, fs.ErrInvalid) {
				t.Errorf("open %s/f: %v", name, err)
			}
			if _, err := tr.Lstat(ctx, name+"/f"); !errors.Is(err, fs.ErrInvalid) {
				t.Errorf("describe %s/f: %v", name, err)
			}
		}
		if _, err := tr.Open(ctx, "file"); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("open a file that is mounted: %v", err)
		}
		for _, name := range []string{provider.AreaName, provider.AreaName + "/copy", provider.AreaName + "/copy/f"} {
			if _, err := tr.Lstat(ctx, name); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s is shown: %v", name, err)
			}
		}
	})
}

// In a snapshot of a subvolume a nested one is an empty directory.
func TestNestedSubvolumeInASnapshotIsAMountPoint(t *testing.T) {
	v := voltest.Btrfs(t, voltest.SmallBtrfs)
	voltest.Subvolume(t, v.Root+"/top")
	voltest.Subvolume(t, v.Root+"/top/nested")
	fill(t, v.Root, map[string]string{"top/f": "x"})
	if err := os.Mkdir(v.Root+"/top/empty", 0o755); err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	p := btrfs.New()
	ref := provider.Ref{Provider: p.Info().ID, SetID: vss.NewGUID(), SnapshotID: vss.NewGUID(), Area: v.Root + "/top/" + provider.AreaName,
		Volume: provider.Volume{ID: "test", Root: v.Root + "/top", FSType: "btrfs"}}
	s, err := p.BeginPrepare(ctx, provider.Request{Ref: ref})
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []func(context.Context) error{s.EndPrepare, s.PreCommit, s.Commit} {
		if err := step(ctx); err != nil {
			t.Fatal(err)
		}
	}
	c, err := s.PostCommit(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.Delete(ctx, ref); err != nil {
			t.Error(err)
		}
	}()
	tr := openTestTree(t, c.Root, false)
	defer tr.Close()
	_, entries := list(t, tr, ".")
	if len(entries) != 3 || !entries["nested"].MountPoint || entries["empty"].MountPoint {
		t.Errorf("%+v", entries)
	}
}

func TestAutomaticEntryAttributes(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, map[string]string{"f": strings.Repeat("x", 10000)})
	e, err := openTestTree(t, dir, false).Lstat(context.Background(), "f")
	if err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir+"/f", &st); err != nil {
		t.Fatal(err)
	}
	if e.Inode != st.Ino || e.Size != 10000 || e.Links != 1 || e.Allocated != st.Blocks*512 || e.Changed.UnixNano() != st.Ctim.Nano() ||
		e.Mode != 0o640 || e.Perm != 0o640 || time.Since(e.Created) > time.Hour {
		t.Errorf("%+v", e)
	}
	if os.Geteuid() == 0 && (e.User != "root" || e.Group != "root") {
		t.Errorf("owner %q %q", e.User, e.Group)
	}
}

func TestLargeDirectoriesComeInOrder(t *testing.T) {
	dir := t.TempDir()
	const many = 3*batchSize + 7
	var want []string
	for i := range many {
		name := fmt.Sprintf("%x", i*7919%many)
		want = append(want, name)
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(want)
	tr := openTestTree(t, dir, false)
	if got, _ := list(t, tr, "."); !slices.Equal(got, want) {
		t.Errorf("%d names of %d, or not in order", len(got), len(want))
	}
	// The first error of the caller's ends it, also while more is being read.
	n, mine := 0, errors.New("enough")
	err := tr.ReadDir(context.Background(), ".", func(session.Entry, error) error {
		if n++; n == batchSize-1 {
			return mine
		}
		return nil
	})
	if err != mine || n != batchSize-1 {
		t.Errorf("%v after %d", err, n)
	}
	ctx, cancel := context.WithCancel(context.Background())
	err = tr.ReadDir(ctx, ".", func(session.Entry, error) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestVanishedObjectsAreLeftOut(t *testing.T) {
	dir := t.TempDir()
	for i := range 2 * batchSize {
		if err := os.WriteFile(fmt.Sprintf("%s/%06d", dir, i), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	stop := make(chan bool)
	done := make(chan bool)
	go func() {
		defer close(done)
		for i := 2*batchSize - 1; i >= 0; i-- {
			select {
			case <-stop:
				return
			default:
				os.Remove(fmt.Sprintf("%s/%06d", dir, i))
			}
		}
	}()
	list(t, openTestTree(t, dir, false), ".") // fails at any error
	close(stop)
	<-done
}

// What an ordinary user may not read is given with its error and nothing else.
func TestUnreadableObjectsAreGivenWithTheirError(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	for d := dir; d != "/" && d != os.TempDir(); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	fill(t, dir, map[string]string{"open/f": "x", "secret": "x", "xattr": "x", "listonly/f": "x"})
	if err := unix.Setxattr(dir+"/xattr", "user.x", []byte("x"), 0); err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]fs.FileMode{"open": 0o755, "open/f": 0o644, "secret": 0o600, "xattr": 0o600, "listonly": 0o744} {
		if err := os.Chmod(filepath.Join(dir, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	asUser(t, "TestHelperReadAsUser", dir)
}

func TestHelperReadAsUser(t *testing.T) {
	dir := os.Getenv("LOCALFS_TEST_USER")
	if dir == "" {
		return // only for TestUnreadableObjectsAreGivenWithTheirError
	}
	tr := openTestTree(t, dir, false)
	ctx := context.Background()
	failed := map[string]bool{}
	read := func(at string) error {
		return tr.ReadDir(ctx, at, func(e session.Entry, err error) error {
			if err != nil {
				if !errors.Is(err, fs.ErrPermission) || e.Size != 0 || e.Inode != 0 {
					t.Errorf("%+v, %v", e, err)
				}
				failed[join(at, e.Name)] = true
			}
			return nil
		})
	}
	for _, at := range []string{".", "open", "listonly"} {
		if err := read(at); err != nil {
			t.Error(err)
		}
	}
	if len(failed) != 2 || !failed["xattr"] || !failed["listonly/f"] {
		t.Errorf("errors for %v", failed)
	}
	if _, err := tr.Open(ctx, "secret"); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("%v", err)
	}
	f, err := tr.Open(ctx, "open/f") // not the owner: O_NOATIME is refused
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
}

// Nothing but regular files is ever opened, so nothing waits or is set off.
func TestOnlyRegularFilesAreOpened(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mkfifo(dir+"/pipe", 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mknod(dir+"/socket", unix.S_IFSOCK|0o600, 0); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("pipe", dir+"/link"); err != nil {
		t.Fatal(err)
	}
	tr := openTestTree(t, dir, false)
	ctx := context.Background()
	for _, name := range []string{"pipe", "socket", "link", "."} {
		done := make(chan error, 1)
		go func() { _, err := tr.Open(ctx, name); done <- err }()
		select {
		case err := <-done:
			if !errors.Is(err, fs.ErrInvalid) {
				t.Errorf("%s: %v", name, err)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: it is being waited for", name)
		}
	}
	if _, err := tr.Open(ctx, "none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

func TestClosedTreeRefuses(t *testing.T) {
	tr := openTestTree(t, t.TempDir(), false)
	if err := tr.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := tr.Lstat(context.Background(), "."); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("%v", err)
	}
	if err := tr.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
}

func TestChangedRangesAskWhoeverKnows(t *testing.T) {
	dir := t.TempDir()
	want := []vss.Range{{Offset: 1, Length: 2}}
	base := vss.NewGUID()
	tr, err := OpenTree(dir, TreeOptions{Changed: func(_ context.Context, b vss.GUID, name string) ([]vss.Range, error) {
		if b != base || name != "a/b" {
			t.Errorf("asked for %v %s", b, name)
		}
		return want, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	if got, err := tr.ChangedRanges(context.Background(), base, "a/b"); err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := openTestTree(t, dir, false).ChangedRanges(context.Background(), base, "a"); !errors.Is(err, vss.ErrNotSupported) {
		t.Errorf("%v", err)
	}
}

// Reading leaves no trace in access times.
func TestReadingKeepsAccessTimes(t *testing.T) {
	v := voltest.Ext4(t, voltest.SmallExt4, "lazytime")
	if err := unix.Mount("", v.Root, "", unix.MS_REMOUNT|unix.MS_STRICTATIME, ""); err != nil {
		t.Fatal(err)
	}
	fill(t, v.Root, map[string]string{"d/f": "x"})
	old := time.Unix(1000, 0)
	for _, name := range []string{"/d/f", "/d"} {
		if err := os.Chtimes(v.Root+name, old, old); err != nil {
			t.Fatal(err)
		}
	}
	tr := openTestTree(t, v.Root, false)
	list(t, tr, "d")
	f, err := tr.Open(context.Background(), "d/f")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.ReadAt(make([]byte, 1), 0); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"d", "d/f"} {
		if e, err := tr.Lstat(context.Background(), name); err != nil || !e.Accessed.Equal(old) {
			t.Errorf("%s was accessed at %v, %v", name, e.Accessed, err)
		}
	}
}

func FuzzCheckName(f *testing.F) {
	for _, s := range []string{".", "a", "a/b", "", "/", "..", "a/..", "../a", "a//b", "\xff", "a\x00", "...", "-rf"} {
		f.Add(s)
	}
	dir := f.TempDir()
	tr, err := OpenTree(dir, TreeOptions{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if checkName("", name) == nil && name != "." && (filepath.IsAbs(name) || !filepath.IsLocal(name) || filepath.Clean(name) != name) {
			t.Errorf("%q passes", name)
		}
		if e, err := tr.Lstat(context.Background(), name); err == nil && name != "." {
			t.Errorf("%q leads to %+v in an empty directory", name, e)
		}
	})
}

func FuzzDirents(f *testing.F) {
	f.Add([]byte("\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x18\x00\x08abc\x00\x00"))
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 8})
	f.Fuzz(func(t *testing.T, block []byte) {
		d := &dirNames{}
		d.add(block, "")
		for i := range d.refs {
			if s := d.at(i); s == "" || s == "." || s == ".." || strings.IndexByte(s, 0) >= 0 {
				t.Errorf("%q", s)
			}
		}
	})
}

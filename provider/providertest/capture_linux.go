package providertest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/provider"
)

// state is what a test compares of one object.
type state struct {
	mode        uint32
	uid, gid    uint32
	ino, links  uint64
	size        int64
	mtime       time.Time
	ctime       time.Time
	target      string
	xattrs      string
	content     [32]byte
	data        string // where a sparse file has data
	missing     string
	mountedHere bool
}

// capture describes what a scope says of a directory tree: the claimed files
// and the directories on the way to them. It is what a copy must show.
func capture(t *testing.T, root string, s provider.Scope, unclaimed bool) map[string]state {
	t.Helper()
	all := map[string]state{}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		if rel == provider.AreaName {
			return fs.SkipDir
		}
		if d.IsDir() {
			if rel != "." && !s.Enter(rel, unclaimed) {
				return fs.SkipDir
			}
		} else if !s.Claimed(rel) && !(unclaimed && s.IsUnclaimed(rel)) {
			return nil
		}
		st, err := look(p)
		if err != nil {
			return err
		}
		all[rel] = st
		return nil
	})
	if err != nil {
		t.Fatalf("look at %s: %v", root, err)
	}
	return all
}

// look describes the object at a path.
func look(p string) (state, error) {
	info, err := os.Lstat(p)
	if err != nil {
		return state{}, err
	}
	sys := info.Sys().(*syscall.Stat_t)
	s := state{mode: sys.Mode, uid: sys.Uid, gid: sys.Gid, ino: sys.Ino, links: uint64(sys.Nlink), size: sys.Size,
		mtime: info.ModTime(), ctime: time.Unix(sys.Ctim.Unix()), xattrs: xattrsOf(p)}
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		s.target, err = os.Readlink(p)
	case info.Mode().IsRegular():
		s.content, s.data, err = contentOf(p)
	}
	return s, err
}

func contentOf(p string) (sum [32]byte, data string, err error) {
	f, err := os.Open(p)
	if err != nil {
		return sum, "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return sum, "", err
	}
	h.Sum(sum[:0])
	for off := int64(0); ; {
		from, err := f.Seek(off, unix.SEEK_DATA)
		if err != nil {
			return sum, data, nil
		}
		if off, err = f.Seek(from, unix.SEEK_HOLE); err != nil {
			return sum, data, nil
		}
		data += fmt.Sprintf("%d-%d ", from, off)
	}
}

func xattrsOf(p string) string {
	list := make([]byte, 64<<10)
	n, err := unix.Llistxattr(p, list)
	if err != nil {
		return ""
	}
	all := map[string][]byte{}
	for name := range strings.SplitSeq(string(list[:n]), "\x00") {
		value := make([]byte, 64<<10)
		if n, err := unix.Lgetxattr(p, name, value); name != "" && err == nil {
			all[name] = value[:n]
		}
	}
	return xattrString(all)
}

func xattrString(all map[string][]byte) string {
	s := ""
	for _, k := range slices.Sorted(maps.Keys(all)) {
		s += fmt.Sprintf("%s=%x;", k, all[k])
	}
	return s
}

// shown describes a copy as a reader sees it: the tree, and if there is a
// manifest the attributes in it.
func shown(t *testing.T, c provider.Copied, s provider.Scope, unclaimed bool) map[string]state {
	t.Helper()
	m, err := provider.ReadManifest(c.Root)
	if errors.Is(err, fs.ErrNotExist) {
		return capture(t, c.Root, s, unclaimed)
	}
	if err != nil {
		t.Fatalf("the copy's manifest: %v", err)
	}
	tree := map[string]state{}
	err = filepath.WalkDir(c.Root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(c.Root, p)
		if err == nil {
			tree[rel], err = look(p)
		}
		return err
	})
	if err != nil {
		t.Fatalf("look at the copy: %v", err)
	}
	all := map[string]state{}
	for _, e := range m.All() {
		got, there := tree[e.Path]
		delete(tree, e.Path)
		if !there && e.Missing == "" {
			t.Errorf("%q is in the manifest, but not in the copy", e.Path)
		}
		checkCopied(t, e, got, there)
		got.mode, got.uid, got.gid, got.ino, got.links = e.Mode, e.UID, e.GID, e.Inode, e.Links
		got.mtime, got.ctime, got.xattrs, got.missing, got.mountedHere = e.Modified, e.Changed, xattrString(e.XAttrs), e.Missing, e.MountPoint
		if e.Target != got.target {
			t.Errorf("%q: the manifest says it links to %q, the copy %q", e.Path, e.Target, got.target)
		}
		if e.Mode&unix.S_IFMT == unix.S_IFDIR {
			got.size = e.Size
		}
		all[e.Path] = got
	}
	for p := range tree {
		t.Errorf("%q is in the copy, but not in the manifest", p)
	}
	return all
}

// checkCopied checks what the copied file itself must show.
func checkCopied(t *testing.T, e provider.ManifestEntry, got state, there bool) {
	t.Helper()
	if !there || e.Missing != "" {
		return
	}
	if got.mode&unix.S_IFMT != e.Mode&unix.S_IFMT {
		t.Errorf("%q: type %o in the copy, %o in the manifest", e.Path, got.mode, e.Mode)
	}
	if e.Mode&unix.S_IFMT == unix.S_IFREG && got.size != e.Size {
		t.Errorf("%q: %d bytes in the copy, %d in the manifest", e.Path, got.size, e.Size)
	}
	if !got.mtime.Equal(e.Modified) {
		t.Errorf("%q: modified %v in the copy, %v in the manifest", e.Path, got.mtime, e.Modified)
	}
	if os.Geteuid() != 0 {
		return
	}
	if got.uid != e.UID || got.gid != e.GID {
		t.Errorf("%q: owner %d:%d in the copy, %d:%d in the manifest", e.Path, got.uid, got.gid, e.UID, e.GID)
	}
	if got.mode != e.Mode && e.Mode&unix.S_IFMT != unix.S_IFLNK {
		t.Errorf("%q: mode %o in the copy, %o in the manifest", e.Path, got.mode, e.Mode)
	}
	if got.xattrs != xattrString(e.XAttrs) {
		t.Errorf("%q: attributes %q in the copy, %q in the manifest", e.Path, got.xattrs, xattrString(e.XAttrs))
	}
}

// sameState compares what a copy shows with what was there. Times and sizes of
// directories are left out: the area appears in one of them.
func sameState(t *testing.T, got, want map[string]state) {
	t.Helper()
	for _, p := range slices.Sorted(maps.Keys(want)) {
		g, ok := got[p]
		w := want[p]
		if !ok {
			t.Errorf("%q is not in the copy", p)
			continue
		}
		if w.mode&unix.S_IFMT == unix.S_IFDIR {
			g.mtime, g.ctime, g.size, g.links = w.mtime, w.ctime, w.size, w.links
		}
		if !g.mtime.Equal(w.mtime) || !g.ctime.Equal(w.ctime) {
			t.Errorf("%q: modified %v, changed %v; want %v and %v", p, g.mtime, g.ctime, w.mtime, w.ctime)
		}
		g.mtime, g.ctime = w.mtime, w.ctime
		if g != w {
			t.Errorf("%q is\n%+v in the copy, want\n%+v", p, g, w)
		}
	}
	for _, p := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[p]; !ok {
			t.Errorf("%q is in the copy and should not be", p)
		}
	}
}

package e2e

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// makeTree makes a tree with one of everything that must come back.
func makeTree(t *testing.T, dir string) {
	t.Helper()
	write(t, filepath.Join(dir, "plain"), "plain")
	write(t, filepath.Join(dir, "sub", "deep", "large"), strings.Repeat("0123456789abcdef", 200_000))
	write(t, filepath.Join(dir, "a\nname \xff no UTF-8"), "odd")
	write(t, filepath.Join(dir, "others"), "another's")
	write(t, filepath.Join(dir, "run-as-root"), "setuid")
	write(t, filepath.Join(dir, "locked", "inside"), "in a directory that cannot be written")
	sparse := filepath.Join(dir, "sparse")
	write(t, sparse, "begin")
	for _, err := range []error{
		os.Truncate(sparse, 64<<20),
		os.Symlink("/etc/passwd", filepath.Join(dir, "absolute")),
		os.Symlink("../../nowhere", filepath.Join(dir, "sub", "dangling")),
		os.Link(filepath.Join(dir, "plain"), filepath.Join(dir, "sub", "second-name")),
		os.Mkdir(filepath.Join(dir, "empty"), 0o700),
		unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600),
		unix.Setxattr(filepath.Join(dir, "plain"), "user.colour", []byte("blue"), 0),
		os.Chmod(filepath.Join(dir, "run-as-root"), 0o755|fs.ModeSetuid),
		os.Chmod(filepath.Join(dir, "locked"), 0o500),
		os.Chtimes(filepath.Join(dir, "sub", "deep"), time.Unix(1e9, 5), time.Unix(1e9, 7)),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(filepath.Join(dir, "others"), 1234, 2345); err != nil {
			t.Fatal(err)
		}
	}
}

// treeOf describes everything below a directory, and the directory, one line
// each, by paths relative to it. With strict it includes what no restore brings
// back, so that any change at all shows.
func treeOf(t *testing.T, root string, strict bool) map[string]string {
	t.Helper()
	lines := map[string]string{}
	err := filepath.WalkDir(root, func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		lines[rel], err = describe(p, strict)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func describe(p string, strict bool) (string, error) {
	var st unix.Stat_t
	if err := unix.Lstat(p, &st); err != nil {
		return "", err
	}
	s := fmt.Sprintf("mode %o owner %d:%d mtime %d", st.Mode, st.Uid, st.Gid, st.Mtim.Nano())
	if strict {
		s += fmt.Sprintf(" ctime %d inode %d", st.Ctim.Nano(), st.Ino)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		data, err := os.ReadFile(p)
		if err != nil {
			return "", err
		}
		s += fmt.Sprintf(" links %d size %d sum %x", st.Nlink, st.Size, sha256.Sum256(data))
	case unix.S_IFLNK:
		to, err := os.Readlink(p)
		if err != nil {
			return "", err
		}
		s += " to " + to
	}
	names := make([]byte, 4096)
	n, err := unix.Llistxattr(p, names)
	if err != nil {
		return s, nil
	}
	for name := range strings.SplitSeq(strings.TrimRight(string(names[:n]), "\x00"), "\x00") {
		value := make([]byte, 4096)
		if n, err := unix.Lgetxattr(p, name, value); err == nil && name != "" {
			s += fmt.Sprintf(" %s=%q", name, value[:n])
		}
	}
	return s, nil
}

// same compares two trees.
func same(t *testing.T, what string, got, want map[string]string) {
	t.Helper()
	for _, p := range slices.Sorted(maps.Keys(want)) {
		if got[p] != want[p] {
			t.Errorf("%s: %q is\n%s\nwant\n%s", what, p, got[p], want[p])
		}
	}
	for p := range got {
		if _, ok := want[p]; !ok {
			t.Errorf("%s: %q was not there", what, p)
		}
	}
}

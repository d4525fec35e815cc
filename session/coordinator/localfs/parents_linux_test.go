package localfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/internal/voltest"
	"github.com/sombra-backup/sombra/session"
)

// anACL gives user 4242 all rights.
var anACL = []byte{2, 0, 0, 0,
	1, 0, 7, 0, 255, 255, 255, 255,
	2, 0, 7, 0, 0x92, 0x10, 0, 0,
	4, 0, 5, 0, 255, 255, 255, 255,
	16, 0, 7, 0, 255, 255, 255, 255,
	32, 0, 5, 0, 255, 255, 255, 255}

func privateDir(perm uint32) session.Entry {
	e := regular(perm)
	e.Mode |= fs.ModeDir
	return e
}

// aclOf gives a file's access ACL, nil if it has none.
func aclOf(t *testing.T, path string) []byte {
	t.Helper()
	buf := make([]byte, 1<<10)
	n, err := unix.Lgetxattr(path, accessACL, buf)
	if err == unix.ENODATA {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return buf[:n]
}

// TestNothingIsInheritedInDirectoriesThatAreKeptOpen: files get what they had and
// no default ACL of their directory, whether the directory had one when it was
// first used or was given it later.
func TestNothingIsInheritedInDirectoriesThatAreKeptOpen(t *testing.T) {
	dir := t.TempDir()
	tg := openTestTarget(t, dir, false)
	for _, name := range []string{"before", "after"} {
		if _, err := tg.Mkdir(context.Background(), name); err != nil {
			t.Fatal(err)
		}
	}
	switch err := unix.Setxattr(dir+"/before", defaultACL, anACL, 0); err {
	case nil:
	case unix.EOPNOTSUPP:
		voltest.Skip(t, "the file system of the temporary directory has no ACLs")
	default:
		t.Fatal(err)
	}
	for _, name := range []string{"before", "after"} {
		for i := range 3 {
			mustPut(t, tg, fmt.Sprintf("%s/f%d", name, i), regular(0o640), "x")
		}
		e := privateDir(0o700)
		e.XAttrs = map[string][]byte{defaultACL: anACL}
		if err := tg.SetAttributes(context.Background(), name, e); err != nil {
			t.Fatal(err)
		}
		mustPut(t, tg, name+"/late", regular(0o640), "x")
		for _, f := range []string{"f0", "f1", "f2", "late"} {
			path := dir + "/" + name + "/" + f
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if acl := aclOf(t, path); acl != nil || info.Mode().Perm() != 0o640 {
				t.Errorf("%s/%s has mode %v and the ACL %x", name, f, info.Mode(), acl)
			}
		}
	}
}

// TestDirectoriesKeptOpenAreFewAndFollowTheirNames: only so many are open, none
// when the target is closed, and what was removed and made again is not
// mistaken for what it was.
func TestDirectoriesKeptOpenAreFewAndFollowTheirNames(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	tg := openTestTarget(t, dir, false)
	open := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	begin := open()
	for i := range 3 * maxParents {
		name := fmt.Sprintf("d%d", i)
		if _, err := tg.Mkdir(ctx, name); err != nil {
			t.Fatal(err)
		}
		mustPut(t, tg, name+"/f", regular(0o600), name)
	}
	if n := open() - begin; n > maxParents+10 {
		t.Errorf("%d descriptors more are open than before", n)
	}
	last := fmt.Sprintf("d%d", 3*maxParents-1)
	f, err := tg.Create(ctx, last+"/unfinished")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{last + "/f", last} {
		if err := tg.Remove(ctx, name); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Commit(ctx, regular(0o600)); err == nil {
		t.Error("a file got a name in a directory that was removed")
	}
	f.Close()
	if _, err := tg.Mkdir(ctx, last); err != nil {
		t.Fatal(err)
	}
	mustPut(t, tg, last+"/f", regular(0o600), "again")
	if got, err := os.ReadFile(dir + "/" + last + "/f"); string(got) != "again" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if err := tg.Close(); err != nil {
		t.Fatal(err)
	}
	if n := open() - begin; n > 0 {
		t.Errorf("%d descriptors were left open", n)
	}
}

// TestAClosedFileTakesNothingMore: its descriptor may be another file's by then.
func TestAClosedFileTakesNothingMore(t *testing.T) {
	tg := openTestTarget(t, t.TempDir(), false)
	f, err := tg.Create(context.Background(), "f")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt([]byte("x"), 0)
	for what, err := range map[string]error{"write": err, "truncate": f.Truncate(1), "commit": f.Commit(context.Background(), regular(0o600))} {
		if !errors.Is(err, fs.ErrClosed) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

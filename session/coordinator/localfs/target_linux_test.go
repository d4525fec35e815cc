package localfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/internal/voltest"
	"github.com/sombra-backup/sombra/session"
)

// eachWay runs a test with openat2 and without.
func eachWay(t *testing.T, test func(t *testing.T, stepwise bool)) {
	for _, stepwise := range []bool{false, true} {
		name := "openat2"
		if stepwise {
			name = "one element at a time"
		}
		t.Run(name, func(t *testing.T) { test(t, stepwise) })
	}
}

func openTestTarget(t *testing.T, dir string, stepwise bool) *target {
	t.Helper()
	opened, err := OpenTarget(dir, TargetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	tg := opened.(*target)
	tg.host.stepwise = tg.host.stepwise || stepwise
	t.Cleanup(func() { tg.Close() })
	return tg
}

func openTestTree(t *testing.T, dir string, stepwise bool) *tree {
	t.Helper()
	opened, err := OpenTree(dir, TreeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	tr := opened.(*tree)
	tr.base.stepwise = tr.base.stepwise || stepwise
	t.Cleanup(func() { tr.Close() })
	return tr
}

func regular(perm uint32) session.Entry {
	return session.Entry{Mode: fs.FileMode(perm & 0o777), Perm: perm, UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}
}

func put(tg session.FileTarget, name string, e session.Entry, data string) error {
	f, err := tg.Create(context.Background(), name)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte(data), 0); err != nil {
		return err
	}
	return f.Commit(context.Background(), e)
}

func mustPut(t *testing.T, tg session.FileTarget, name string, e session.Entry, data string) {
	t.Helper()
	if err := put(tg, name, e, data); err != nil {
		t.Fatal(err)
	}
}

func TestFileIsInvisibleUntilCommit(t *testing.T) {
	eachWay(t, func(t *testing.T, stepwise bool) {
		dir := t.TempDir()
		tg := openTestTarget(t, dir, stepwise)
		ctx := context.Background()
		if err := os.WriteFile(dir+"/a", []byte("old"), 0o644); err != nil {
			t.Fatal(err)
		}
		f, err := tg.Create(ctx, "a")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte("new"), 0); err != nil {
			t.Fatal(err)
		}
		if b, _ := os.ReadFile(dir + "/a"); string(b) != "old" {
			t.Fatalf("before Commit the file holds %q", b)
		}
		if err := f.Commit(ctx, regular(0o640)); err != nil {
			t.Fatal(err)
		}
		if b, _ := os.ReadFile(dir + "/a"); string(b) != "new" {
			t.Fatalf("after Commit the file holds %q", b)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		if err := f.Commit(ctx, regular(0o640)); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("second Commit: %v", err)
		}
	})
}

func TestUncommittedFileLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	tg := openTestTarget(t, dir, false)
	f, err := tg.Create(context.Background(), "a")
	if err != nil {
		t.Fatal(err)
	}
	f.WriteAt([]byte("x"), 0)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestNoNameLeadsThroughALink(t *testing.T) {
	eachWay(t, func(t *testing.T, stepwise bool) {
		outside, dir := t.TempDir(), t.TempDir()
		if err := os.WriteFile(outside+"/secret", []byte("secret"), 0o600); err != nil {
			t.Fatal(err)
		}
		for link, goal := range map[string]string{"out": outside, "in": "sub", "file": outside + "/secret", "self": "."} {
			if err := os.Symlink(goal, filepath.Join(dir, link)); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Mkdir(dir+"/sub", 0o755); err != nil {
			t.Fatal(err)
		}
		tg := openTestTarget(t, dir, stepwise)
		tr := openTestTree(t, dir, stepwise)
		ctx := context.Background()
		open := func(_ any, err error) error { return err }
		for _, c := range []struct {
			what string
			err  error
		}{
			{"create through a link out", put(tg, "out/x", regular(0o600), "x")},
			{"create through a link inside", put(tg, "in/x", regular(0o600), "x")},
			{"create through a link to itself", put(tg, "self/x", regular(0o600), "x")},
			{"make a directory through a link", open(tg.Mkdir(ctx, "out/d/e"))},
			{"make a directory where a link is", open(tg.Mkdir(ctx, "out"))},
			{"open a link to a file", open(tg.OpenFile(ctx, "file"))},
			{"open through a link", open(tg.OpenFile(ctx, "out/secret"))},
			{"link to what is behind a link", tg.Link(ctx, "out/secret", "stolen")},
			{"link behind a link", tg.Link(ctx, "sub", "out/x")},
			{"symbolic link behind a link", tg.Symlink(ctx, session.Entry{Mode: fs.ModeSymlink, Target: "x"}, "out/x")},
			{"pipe behind a link", tg.Mknod(ctx, session.Entry{Mode: fs.ModeNamedPipe}, "out/x")},
			{"attributes behind a link", tg.SetAttributes(ctx, "out/secret", regular(0o777))},
			{"attributes of a link's target", tg.SetAttributes(ctx, "file", regular(0o777))},
			{"remove behind a link", tg.Remove(ctx, "out/secret")},
			{"room behind a link", open(tg.Free(ctx, "out/x"))},
			{"describe behind a link", open(tr.Lstat(ctx, "out/secret"))},
			{"read a link to a file", open(tr.Open(ctx, "file"))},
			{"read through a link inside", open(tr.Open(ctx, "self/sub"))},
			{"list a link", tr.ReadDir(ctx, "in", func(session.Entry, error) error { return nil })},
		} {
			if c.err == nil {
				t.Errorf("%s: allowed", c.what)
			} else if !errors.Is(c.err, fs.ErrInvalid) && !errors.Is(c.err, fs.ErrExist) {
				t.Errorf("%s: %v, which is neither ErrInvalid nor ErrExist", c.what, c.err)
			}
		}
		if list, _ := os.ReadDir(outside); len(list) != 1 {
			t.Errorf("outside the target there are now %v", list)
		}
		if st, _ := os.Stat(outside + "/secret"); st.Mode() != 0o600 {
			t.Errorf("outside the target a mode is now %v", st.Mode())
		}
		if list, _ := os.ReadDir(dir + "/sub"); len(list) != 0 {
			t.Errorf("a link inside the target was followed: %v", list)
		}
	})
}

func TestBadNamesAreRefused(t *testing.T) {
	tg := openTestTarget(t, t.TempDir(), false)
	tr := openTestTree(t, t.TempDir(), false)
	ctx := context.Background()
	for _, name := range []string{"", "/", "/etc", "..", "../x", "a/../../x", "a//b", "a/", "./a", "a/.", "a\x00b"} {
		if err := put(tg, name, regular(0o600), "x"); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("create %q: %v", name, err)
		}
		if _, err := tg.Mkdir(ctx, name); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("make directory %q: %v", name, err)
		}
		if _, err := tr.Open(ctx, name); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("open %q: %v", name, err)
		}
	}
}

func TestAttributesAreRestored(t *testing.T) {
	eachWay(t, func(t *testing.T, stepwise bool) {
		if os.Geteuid() != 0 {
			voltest.Skip(t, "not root")
		}
		dir := t.TempDir()
		tg, tr := openTestTarget(t, dir, stepwise), openTestTree(t, dir, stepwise)
		ctx := context.Background()
		when := time.Unix(981173106, 123456789)
		acl := []byte{2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 6, 0, 232, 3, 0, 0, 4, 0, 4, 0, 255, 255, 255, 255, 16, 0, 6, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255}
		capNetBind := []byte{1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
		x := map[string][]byte{"user.note": []byte("a\x00b"), "user.empty": {}, "trusted.t": []byte("t")}
		with := func(name string, v []byte) map[string][]byte {
			m := map[string][]byte{name: v}
			for k, v := range x {
				m[k] = v
			}
			return m
		}
		base := session.Entry{UID: 1234, GID: 5678, Modified: when, Accessed: when.Add(time.Nanosecond)}
		kinds := map[string]func() (session.Entry, error){
			"setuid": func() (session.Entry, error) {
				e := base
				e.Mode, e.Perm, e.XAttrs = 0o755, 0o6755, with(capability, capNetBind)
				return e, put(tg, "setuid", e, "program")
			},
			"acl": func() (session.Entry, error) {
				e := base
				e.Mode, e.Perm, e.XAttrs = 0o660, 0o660, with(accessACL, acl)
				return e, put(tg, "acl", e, "")
			},
			"dir": func() (session.Entry, error) {
				e := base
				e.Mode, e.Perm, e.XAttrs = fs.ModeDir|0o770, 0o3770, with(defaultACL, acl)
				if existed, err := tg.Mkdir(ctx, "dir"); err != nil || existed {
					return e, fmt.Errorf("Mkdir: existed %v, %w", existed, err)
				}
				return e, tg.SetAttributes(ctx, "dir", e)
			},
			"link": func() (session.Entry, error) {
				e := base
				e.Mode, e.Perm, e.Target = fs.ModeSymlink|0o777, 0o777, "../\xff nowhere"
				return e, tg.Symlink(ctx, e, "link")
			},
			"pipe": func() (session.Entry, error) {
				e := base
				e.Mode, e.Perm = fs.ModeNamedPipe|0o620, 0o620
				return e, tg.Mknod(ctx, e, "pipe")
			},
			"socket": func() (session.Entry, error) {
				e := base
				e.Mode, e.Perm = fs.ModeSocket|0o620, 0o620
				return e, tg.Mknod(ctx, e, "socket")
			},
			"device": func() (session.Entry, error) {
				e := base
				e.Mode, e.Perm, e.Device = fs.ModeDevice|fs.ModeCharDevice|0o600, 0o600, unix.Mkdev(1, 3)
				return e, tg.Mknod(ctx, e, "device")
			},
		}
		for name, make := range kinds {
			want, err := make()
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			got, err := tr.Lstat(ctx, name)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if got.Perm != want.Perm || got.Mode.Type() != want.Mode.Type() || got.UID != want.UID || got.GID != want.GID ||
				got.Target != want.Target || got.Device != want.Device {
				t.Errorf("%s: got %+v, want %+v", name, got, want)
			}
			if !got.Modified.Equal(want.Modified) || !got.Accessed.Equal(want.Accessed) {
				t.Errorf("%s: times %v %v, want %v %v", name, got.Modified, got.Accessed, want.Modified, want.Accessed)
			}
			if len(got.XAttrs) != len(want.XAttrs) {
				t.Errorf("%s: extended attributes %q, want %q", name, got.XAttrs, want.XAttrs)
			}
			for k, v := range want.XAttrs {
				if g, ok := got.XAttrs[k]; !ok || !bytes.Equal(g, v) {
					t.Errorf("%s: %s is %q, want %q", name, k, g, v)
				}
			}
		}
		// What the directory hands down is not what the file had.
		mustPut(t, tg, "dir/plain", regular(0o600), "")
		if got, err := tr.Lstat(ctx, "dir/plain"); err != nil || len(got.XAttrs) != 0 || got.Perm != 0o600 {
			t.Errorf("file below a default ACL: %+v, %v", got, err)
		}
	})
}

func TestAnyNameIsKept(t *testing.T) {
	eachWay(t, func(t *testing.T, stepwise bool) {
		dir := t.TempDir()
		tg, tr := openTestTarget(t, dir, stepwise), openTestTree(t, dir, stepwise)
		ctx := context.Background()
		names := []string{"-rf", "...", "....", " ", "a\nb", "\xff\xfe", "*?[", "~", strings.Repeat("x", 255), "\\", "%PATH%", "$(x)"}
		for _, name := range names {
			mustPut(t, tg, name, regular(0o600), name)
		}
		found := 0
		if err := tr.ReadDir(ctx, ".", func(e session.Entry, err error) error {
			found++
			f, err := tr.Open(ctx, e.Name)
			if err != nil {
				return err
			}
			defer f.Close()
			buf := make([]byte, 300)
			n, _ := f.ReadAt(buf, 0)
			if string(buf[:n]) != e.Name {
				t.Errorf("%q holds %q", e.Name, buf[:n])
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if found != len(names) {
			t.Errorf("%d names of %d", found, len(names))
		}
		for _, n := range []int{256, 4095, 4096, 100000} {
			if err := put(tg, strings.Repeat("x", n), regular(0o600), ""); !errors.Is(err, unix.ENAMETOOLONG) {
				t.Errorf("%d bytes: %v", n, err)
			}
			if _, err := tr.Lstat(ctx, strings.Repeat("x", n)+"/y"); !errors.Is(err, unix.ENAMETOOLONG) {
				t.Errorf("%d bytes: %v", n, err)
			}
		}
	})
}

func TestNamesLongerThanPathMax(t *testing.T) {
	eachWay(t, func(t *testing.T, stepwise bool) {
		dir := t.TempDir()
		tg, tr := openTestTarget(t, dir, stepwise), openTestTree(t, dir, stepwise)
		ctx := context.Background()
		deep := strings.TrimSuffix(strings.Repeat(strings.Repeat("d", 100)+"/", 200), "/")
		if _, err := tg.Mkdir(ctx, deep); err != nil {
			t.Fatal(err)
		}
		mustPut(t, tg, deep+"/file", regular(0o600), "deep")
		if err := tg.Link(ctx, deep+"/file", deep+"/other"); err != nil {
			t.Fatal(err)
		}
		f, err := tr.Open(ctx, deep+"/other")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		buf := make([]byte, 4)
		if _, err := f.ReadAt(buf, 0); err != nil || string(buf) != "deep" {
			t.Fatalf("%q, %v", buf, err)
		}
		if e, err := tr.Lstat(ctx, deep+"/file"); err != nil || e.Links != 2 {
			t.Errorf("%+v, %v", e, err)
		}
		// t.TempDir could not remove this: take it away from below.
		for name := deep; ; {
			for _, elem := range []string{"/file", "/other"} {
				if name == deep {
					if err := tg.Remove(ctx, name+elem); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := tg.Remove(ctx, name); err != nil {
				t.Fatal(err)
			}
			up, _ := splitName(name)
			if up == "." {
				break
			}
			name = up
		}
	})
}

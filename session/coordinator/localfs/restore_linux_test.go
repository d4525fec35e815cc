package localfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/internal/voltest"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// needRoot skips a test that only root can do, loudly.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		voltest.Skip(t, "not root")
	}
}

// Every file system a restore may go to, with and without nameless files.
func TestRestoreOnEachFileSystem(t *testing.T) {
	needRoot(t)
	for name, make := range map[string]func(t *testing.T) string{
		"ext4":  func(t *testing.T) string { return voltest.Ext4(t, voltest.SmallExt4).Root },
		"xfs":   func(t *testing.T) string { return voltest.XFS(t, voltest.SmallXFS).Root },
		"btrfs": func(t *testing.T) string { return voltest.Btrfs(t, voltest.SmallBtrfs).Root },
		"tmpfs": func(t *testing.T) string { return voltest.Tmpfs(t, 16<<20).Root },
	} {
		t.Run(name, func(t *testing.T) {
			dir := make(t)
			tg, tr := openTestTarget(t, dir, false), openTestTree(t, dir, false)
			ctx := context.Background()
			e := regular(0o4750)
			e.UID, e.GID, e.Modified = 1234, 1234, time.Unix(1<<31, 999_999_999)
			e.XAttrs = map[string][]byte{"trusted.x": bytes.Repeat([]byte("x"), 500)}
			mustPut(t, tg, "f", e, "one")
			mustPut(t, tg, "f", e, "two") // replaces
			got, err := tr.Lstat(ctx, "f")
			if err != nil || got.Perm != 0o4750 || got.UID != 1234 || !got.Modified.Equal(e.Modified) || len(got.XAttrs["trusted.x"]) != 500 {
				t.Errorf("%+v, %v", got, err)
			}
			if data, _ := os.ReadFile(dir + "/f"); string(data) != "two" {
				t.Errorf("holds %q", data)
			}
			if err := tg.Sync(ctx); err != nil {
				t.Error(err)
			}
			if free, err := tg.Free(ctx, "none/at/all"); err != nil || free == 0 {
				t.Errorf("free: %d, %v", free, err)
			}
			assertNames(t, dir, "f")
		})
	}
}

// assertNames checks that nothing but these is in a directory: no temporary
// name stays.
func assertNames(t *testing.T, dir string, want ...string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range list {
		if d.Name() != "lost+found" {
			got = append(got, d.Name())
		}
	}
	if strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("%s holds %q, want %q", dir, got, want)
	}
}

// Where nameless files do not exist a file has a temporary name meanwhile.
func TestTemporaryNameIsTakenAway(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	tg := openTestTarget(t, dir, false)
	dfd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	begin := func() *newFile {
		t.Helper()
		temp := temporary()
		fd, err := unix.Openat(dfd, temp, unix.O_CREAT|unix.O_EXCL|unix.O_RDWR, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		own, err := unix.Dup(dfd)
		if err != nil {
			t.Fatal(err)
		}
		return &newFile{target: tg, dir: &parentDir{fd: own}, name: "f", elem: "f", temp: temp, fd: fd}
	}
	defer unix.Close(dfd)
	f := begin()
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	assertNames(t, dir)
	f = begin()
	if err := f.Commit(context.Background(), regular(0o600)); err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	assertNames(t, dir, "f")
	if err := os.Remove(dir + "/f"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir+"/f", 0o700); err != nil {
		t.Fatal(err)
	}
	f = begin()
	if err := f.Commit(context.Background(), regular(0o600)); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a directory came into the way: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	assertNames(t, dir, "f")
}

func TestWhatIsInTheWayIsNamed(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, map[string]string{"file": "x", "dir/in": "x"})
	tg := openTestTarget(t, dir, false)
	ctx := context.Background()
	link := session.Entry{Mode: fs.ModeSymlink, Target: "x"}
	for what, err := range map[string]error{
		"a file over a directory":      put(tg, "dir", regular(0o600), ""),
		"a link over a directory":      tg.Symlink(ctx, link, "dir"),
		"a hard link over a directory": tg.Link(ctx, "file", "dir"),
		"a directory over a file":      func() error { _, err := tg.Mkdir(ctx, "file"); return err }(),
		"a directory below a file":     func() error { _, err := tg.Mkdir(ctx, "file/d"); return err }(),
		"a file below a file":          put(tg, "file/f", regular(0o600), ""),
	} {
		if err == nil || !strings.Contains(err.Error(), "dir") && !strings.Contains(err.Error(), "file") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := tg.Remove(ctx, "dir"); !errors.Is(err, unix.ENOTEMPTY) {
		t.Errorf("removing a directory that is not empty: %v", err)
	}
	if existed, err := tg.Mkdir(ctx, "dir"); err != nil || !existed {
		t.Errorf("a directory that exists: %v, %v", existed, err)
	}
	for _, err := range []error{put(tg, ".", regular(0o600), ""), tg.Remove(ctx, "."), tg.Symlink(ctx, link, ".")} {
		if !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("the target itself: %v", err)
		}
	}
	// A link, or anything but a directory, makes way.
	if err := os.Symlink("dir", dir+"/l"); err != nil {
		t.Fatal(err)
	}
	mustPut(t, tg, "l", regular(0o600), "new")
	if st, err := os.Lstat(dir + "/l"); err != nil || !st.Mode().IsRegular() {
		t.Errorf("%v, %v", st, err)
	}
}

func TestHardLinks(t *testing.T) {
	dir := t.TempDir()
	tg := openTestTarget(t, dir, false)
	ctx := context.Background()
	mustPut(t, tg, "a", regular(0o600), "x")
	for range 2 { // the second time the names are the same file already
		if err := tg.Link(ctx, "a", "b"); err != nil {
			t.Fatal(err)
		}
	}
	mustPut(t, tg, "c", regular(0o600), "y")
	if err := tg.Link(ctx, "a", "c"); err != nil {
		t.Fatal(err)
	}
	if e, err := tg.Lstat(ctx, "c"); err != nil || e.Links != 3 {
		t.Errorf("%+v, %v", e, err)
	}
	if err := tg.Symlink(ctx, session.Entry{Mode: fs.ModeSymlink, Target: "nowhere"}, "s"); err != nil {
		if _, ok := errors.AsType[*session.AttributeError](err); !ok {
			t.Fatal(err)
		}
	}
	if err := tg.Link(ctx, "s", "s2"); err != nil {
		t.Fatal(err)
	}
	if got, err := os.Readlink(dir + "/s2"); err != nil || got != "nowhere" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := tg.Mkdir(ctx, "d"); err != nil {
		t.Fatal(err)
	}
	if err := tg.Link(ctx, "d", "d2"); err == nil {
		t.Error("a directory was linked")
	}
	assertNames(t, dir, "a", "b", "c", "d", "s", "s2")
}

func TestHolesStayHoles(t *testing.T) {
	dir := t.TempDir()
	tg, tr := openTestTarget(t, dir, false), openTestTree(t, dir, false)
	ctx := context.Background()
	const size, unit = 1 << 40, 1 << 20 // a TiB takes no room
	f, err := tg.Create(ctx, "sparse")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	want := []vss.Range{{Offset: 0, Length: unit}, {Offset: 1 << 30, Length: unit}, {Offset: size - unit, Length: unit}}
	var wg sync.WaitGroup
	for _, r := range want { // by several goroutines
		wg.Go(func() {
			if _, err := f.WriteAt(bytes.Repeat([]byte{1}, unit), int64(r.Offset)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := f.Commit(ctx, regular(0o600)); err != nil {
		t.Fatal(err)
	}
	r, err := tr.Open(ctx, "sparse")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got, err := r.Data(ctx)
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("data at %v, %v; want %v", got, err, want)
	}
	if e, err := r.Stat(ctx); err != nil || e.Size != size || e.Allocated > 8*unit {
		t.Errorf("%+v, %v", e, err)
	}
	buf := make([]byte, 2)
	if _, err := r.ReadAt(buf, 1<<30-1); err != nil || buf[0] != 0 || buf[1] != 1 {
		t.Errorf("%v, %v", buf, err)
	}
	if empty, err := os.Create(dir + "/empty"); err == nil {
		empty.Close()
	}
	if e, err := tr.Open(ctx, "empty"); err != nil {
		t.Error(err)
	} else {
		if got, err := e.Data(ctx); err != nil || len(got) != 0 {
			t.Errorf("an empty file has data %v, %v", got, err)
		}
		e.Close()
	}
}

func TestChangeInPlace(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, map[string]string{"f": "0123456789"})
	tg := openTestTarget(t, dir, false)
	ctx := context.Background()
	before, err := tg.Lstat(ctx, "f")
	if err != nil {
		t.Fatal(err)
	}
	f, err := tg.OpenFile(ctx, "f")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("xy"), 3); err != nil {
		t.Error(err)
	}
	if err := f.Truncate(6); err != nil {
		t.Error(err)
	}
	if err := f.Sync(); err != nil {
		t.Error(err)
	}
	if e, err := f.Stat(ctx); err != nil || e.Size != 6 || e.Inode != before.Inode || e.Name != "f" {
		t.Errorf("%+v, %v", e, err)
	}
	data, err := io.ReadAll(io.NewSectionReader(f, 0, 100))
	if err != nil || string(data) != "012xy5" {
		t.Errorf("%q, %v", data, err)
	}
	// Attributes are given to the file that is open, whatever has its name.
	if err := os.Rename(dir+"/f", dir+"/g"); err != nil {
		t.Fatal(err)
	}
	fill(t, dir, map[string]string{"f": "another"})
	dress := before
	dress.Perm, dress.Modified = 0o751, time.Unix(1_700_000_000, 5)
	if err := f.SetAttributes(ctx, dress); err != nil {
		t.Error(err)
	}
	for name, want := range map[string]bool{"g": true, "f": false} {
		if e, err := tg.Lstat(ctx, name); err != nil || (e.Perm == 0o751) != want || e.Modified.Equal(dress.Modified) != want {
			t.Errorf("%s: %o, %v, %v", name, e.Perm, e.Modified, err)
		}
	}
	dress.Mode |= fs.ModeDir
	if err := f.SetAttributes(ctx, dress); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("attributes of a directory: %v", err)
	}
	if _, err := tg.OpenFile(ctx, "none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	if err := unix.Mkfifo(dir+"/pipe", 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := tg.OpenFile(ctx, "pipe"); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("a pipe: %v", err)
	}
}

// The tools' own idea of an ACL and of capabilities survives the way there and
// back.
func TestToolsSeeTheSameAttributes(t *testing.T) {
	needRoot(t)
	for _, tool := range []string{"setfacl", "getfacl", "setcap", "getcap"} {
		if _, err := exec.LookPath(tool); err != nil {
			voltest.Skip(t, "%s is not installed", tool)
		}
	}
	from, to := t.TempDir(), t.TempDir()
	run := func(dir string, args ...string) string {
		t.Helper()
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
		return string(out)
	}
	fill(t, from, map[string]string{"f": "x", "p": "x"})
	run(from, "setfacl", "-m", "u:1234:rw,g:5678:r,m::rw", "f")
	run(from, "setcap", "cap_net_bind_service+ep", "p")
	if err := os.Mkdir(from+"/d", 0o750); err != nil {
		t.Fatal(err)
	}
	run(from, "setfacl", "-m", "u:1234:rwx,d:u:1234:rx", "d")
	tr, tg := openTestTree(t, from, false), openTestTarget(t, to, false)
	ctx := context.Background()
	if err := tr.ReadDir(ctx, ".", func(e session.Entry, err error) error {
		if err != nil {
			return err
		}
		if e.Mode.IsDir() {
			if _, err := tg.Mkdir(ctx, e.Name); err != nil {
				return err
			}
			return tg.SetAttributes(ctx, e.Name, e)
		}
		return put(tg, e.Name, e, "x")
	}); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"getfacl", "-np", "f", "d", "p"}, {"getcap", "f", "p"}, {"stat", "-c", "%n %A %u %g %Y", "f", "d", "p"}} {
		if a, b := run(from, args...), run(to, args...); a != b {
			t.Errorf("%v: was\n%s\nis\n%s", args, a, b)
		}
	}
}

func TestModeWithoutItsACL(t *testing.T) {
	acl := []byte{2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 6, 0, 232, 3, 0, 0, 4, 0, 4, 0, 255, 255, 255, 255, 16, 0, 6, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255}
	if got := withoutACL(0o4660, acl); got != 0o4640 {
		t.Errorf("%o: the group must keep what it had and not what the mask says", got)
	}
	for _, bad := range [][]byte{nil, {1}, {3, 0, 0, 0}, acl[:12]} {
		if got := withoutACL(0o664, bad); got != 0o604 {
			t.Errorf("%v: %o", bad, got)
		}
	}
}

func TestUntakeableAttributesAreListedAndTheFileKept(t *testing.T) {
	dir := t.TempDir()
	tg := openTestTarget(t, dir, false)
	e := regular(0o600)
	e.XAttrs = map[string][]byte{"user.ok": []byte("x"), "nonsense": []byte("x"), "user.big": make([]byte, 1<<17), "user.\x00": {}}
	e.Modified = time.Unix(1<<62, 0)
	err := put(tg, "f", e, "data")
	failed, ok := errors.AsType[*session.AttributeError](err)
	if !ok {
		t.Fatalf("%v", err)
	}
	for _, p := range failed.Problems {
		if p.Err == nil || p.Attribute == "user.ok" {
			t.Errorf("%+v", p)
		}
	}
	if len(failed.Problems) < 3 || failed.Name != "f" {
		t.Errorf("%v", failed)
	}
	if data, err := os.ReadFile(dir + "/f"); err != nil || string(data) != "data" {
		t.Errorf("%q, %v", data, err)
	}
}

// An ordinary user cannot give files away, and what would run with the rights
// of another must then not run with his.
func TestOrdinaryUserRestoresWithoutForeignRights(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	for d := dir; d != "/" && d != os.TempDir(); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(dir, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	asUser(t, "TestHelperRestoreAsUser", dir)
	for name, want := range map[string]uint32{"own": 0o4755, "foreign": 0o755, "acl": 0o640} {
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(dir, name), &st); err != nil {
			t.Error(err)
			continue
		}
		if st.Mode&0o7777 != want || st.Uid != 65534 {
			t.Errorf("%s: mode %o of user %d, want %o", name, st.Mode&0o7777, st.Uid, want)
		}
	}
}

// asUser runs one test of this program again as nobody.
func asUser(t *testing.T, test, dir string) {
	t.Helper()
	program := filepath.Join(filepath.Dir(dir), "program")
	data, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, data, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-test.run=^"+test+"$", "-test.v")
	cmd.Env = append(os.Environ(), "LOCALFS_TEST_USER="+dir)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: "+test)) {
		t.Fatalf("%v\n%s", err, out)
	}
}

func TestHelperRestoreAsUser(t *testing.T) {
	dir := os.Getenv("LOCALFS_TEST_USER")
	if dir == "" {
		return // only for TestOrdinaryUserRestoresWithoutForeignRights
	}
	tg := openTestTarget(t, dir, false)
	e := session.Entry{Mode: 0o755, Perm: 0o4755, UID: 65534, GID: 65534}
	if err := put(tg, "own", e, "x"); err != nil {
		t.Errorf("own file: %v", err)
	}
	e.UID, e.GID, e.Perm = 0, 0, 0o6755
	e.XAttrs = map[string][]byte{capability: {1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}}
	var failed *session.AttributeError
	if err := put(tg, "foreign", e, "x"); !errors.As(err, &failed) || len(failed.Problems) != 3 || !errors.Is(err, fs.ErrPermission) {
		t.Errorf("foreign file: %v", err)
	}
	e = session.Entry{Mode: 0o660, Perm: 0o660, UID: 65534, GID: 65534, XAttrs: map[string][]byte{accessACL: {2, 0, 0, 0, 9, 9}}}
	e.XAttrs[accessACL] = append([]byte{2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 4, 0, 4, 0, 255, 255, 255, 255}, 99, 0, 6, 0, 255, 255, 255, 255)
	if err := put(tg, "acl", e, "x"); !errors.As(err, &failed) {
		t.Errorf("file with an ACL that cannot be set: %v", err)
	}
	// A restore stopped half-way can be run again.
	d := session.Entry{Mode: fs.ModeDir | 0o555, Perm: 0o555, UID: 65534, GID: 65534}
	for range 2 {
		if _, err := tg.Mkdir(context.Background(), "d"); err != nil {
			t.Error(err)
		}
		if err := put(tg, "d/f", regular(0o400), "x"); err != nil {
			t.Error(err)
		}
		if err := tg.SetAttributes(context.Background(), "d", d); err != nil {
			t.Error(err)
		}
	}
	if err := tg.Mknod(context.Background(), session.Entry{Mode: fs.ModeDevice, Device: unix.Mkdev(1, 3)}, "device"); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("device: %v", err)
	}
}

package providertest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/vss"
)

// write makes a file and the directories above it.
func (f *fixture) write(t testing.TB, name, content string) {
	t.Helper()
	p := f.path(name)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// populate makes one of everything.
func (f *fixture) populate(t testing.TB) {
	t.Helper()
	f.write(t, "data/plain", "content")
	f.write(t, "data/empty", "")
	f.write(t, "data/a/b/c/deep", strings.Repeat("deep ", 10000))
	f.write(t, "data/secret", "for the owner")
	must(t, os.Chmod(f.path("data/secret"), 0o600))
	f.write(t, "data/setuid", "x")
	must(t, os.Chmod(f.path("data/setuid"), 0o755|os.ModeSetuid))
	if os.Geteuid() == 0 {
		must(t, os.Chown(f.path("data/secret"), 1234, 5678))
		must(t, os.Chown(f.path("data/a"), 1234, 5678))
		// Reading it would never end.
		must(t, unix.Mknod(f.path("data/zero"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))))
	}
	must(t, os.MkdirAll(f.path("data/a/empty"), 0o700))
	must(t, os.Chmod(f.path("data/a/b"), 0o2750))
	must(t, os.Symlink("../../../../../etc/passwd", f.path("data/link")))
	must(t, os.Symlink("a", f.path("data/dirlink")))
	must(t, os.Link(f.path("data/plain"), f.path("data/a/hard")))
	must(t, unix.Mkfifo(f.path("data/pipe"), 0o640))
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	must(t, err)
	// By way of the descriptor, for a socket's path may be short only.
	dir, err := os.Open(f.path("data"))
	must(t, err)
	must(t, unix.Bind(fd, &unix.SockaddrUnix{Name: fmt.Sprintf("/proc/self/fd/%d/socket", dir.Fd())}))
	unix.Close(fd)
	dir.Close()
	// Not every file system has user attributes; those that do must show them.
	unix.Setxattr(f.path("data/plain"), "user.colour", []byte("red\x00"), 0)
	unix.Setxattr(f.path("data/a"), "user.dir", []byte{}, 0)
	sparse(t, f.path("data/sparse"), 20<<20, 5<<20, 12<<20)
	old := time.Unix(1000000000, 123456789)
	must(t, os.Chtimes(f.path("data/plain"), old, old))
	f.write(t, "var/log/app.log", "line\n")

	f.write(t, "data/x.skip", "EXCLUDED")
	f.write(t, "data/a/b/y.skip", "EXCLUDED")
	f.write(t, "data/cache/big", "EXCLUDED")
	f.write(t, "data/cache/sub/big", "EXCLUDED")
	f.write(t, "var/log/app.txt", "EXCLUDED")
	f.write(t, "var/log/sub/app.log", "EXCLUDED")
	f.write(t, "home/notes", "EXCLUDED")
}

// sparse makes a file of a size with a little data at the given places.
func sparse(t testing.TB, name string, size int64, at ...int64) {
	t.Helper()
	g, err := os.Create(name)
	must(t, err)
	defer g.Close()
	must(t, g.Truncate(size))
	for _, off := range at {
		_, err := g.WriteAt([]byte("island"), off)
		must(t, err)
	}
}

func testInfo(t *testing.T, f *fixture) {
	a, b := f.h.New().Info(), f.p.Info()
	if a != b {
		t.Errorf("two values say %+v and %+v", a, b)
	}
	if a.ID.IsZero() || a.Name == "" || strings.ContainsAny(a.Name, " \t\n") || a.Version == "" {
		t.Errorf("incomplete: %+v", a)
	}
	switch a.Type {
	case vss.ProviderHardware, vss.ProviderSoftware, vss.ProviderSystem:
	default:
		t.Errorf("type %v is not one a provider is chosen by", a.Type)
	}
}

func testUnserved(t *testing.T, h Harness, v Volume) {
	before := treeOf(t, v.Root)
	_, err := h.New().Supports(t.Context(), v.Volume, v.Area)
	wantCode(t, "Supports", err, vss.ErrVolumeNotSupportedByProvider)
	f := &fixture{h: h, p: h.New(), v: v}
	s, err := f.p.BeginPrepare(t.Context(), f.request())
	wantCode(t, "BeginPrepare", err, vss.ErrVolumeNotSupportedByProvider)
	if s != nil {
		t.Errorf("BeginPrepare gave a snapshot beside the error")
	}
	if after := treeOf(t, v.Root); after != before {
		t.Errorf("refusing left something behind:\n%s\nbefore:\n%s", after, before)
	}
}

// treeOf lists what is below a directory.
func treeOf(t *testing.T, root string) string {
	var b strings.Builder
	filepath.WalkDir(root, func(p string, d os.DirEntry, err error) error {
		fmt.Fprintln(&b, p)
		return nil
	})
	return b.String()
}

func testCopy(t *testing.T, f *fixture) {
	f.populate(t)
	req := f.request()
	m := f.begin(t, req)
	e, err := m.snap.Estimate(t.Context())
	must(t, err)
	m.must(t, "EndPrepare")
	want := capture(t, f.v.Root, req.Scope, false)
	files, size := 0, uint64(0)
	for _, s := range want {
		if s.mode&unix.S_IFMT != unix.S_IFDIR {
			files++
		}
		if s.mode&unix.S_IFMT == unix.S_IFREG {
			size += uint64(s.size)
		}
	}
	if f.caps.NeedsScope && (e.Files != files || e.Bytes != size) {
		t.Errorf("Estimate says %d files of %d bytes, the scope has %d of %d", e.Files, e.Bytes, files, size)
	}
	if e.Hold <= 0 || e.Hold > holdLimit || e.Free == 0 || e.Room == 0 || e.Room > e.Free {
		t.Errorf("Estimate: %+v", e)
	}
	c := m.finish(t)
	sameState(t, shown(t, c, req.Scope, false), want)
	if len(c.Moved) != 0 {
		t.Errorf("says that %q moved, and nothing did", c.Moved)
	}
	if s := want["data/sparse"]; s.size != 20<<20 || len(strings.Fields(s.data)) != 2 {
		t.Fatalf("the sparse file is not sparse: %+v", s)
	}
}

func testLater(t *testing.T, f *fixture) {
	f.populate(t)
	req := f.request()
	m := f.prepared(t, req)
	m.must(t, "PreCommit")
	want := capture(t, f.v.Root, req.Scope, false)
	m.must(t, "Commit")
	f.write(t, "data/plain", "changed after Commit")
	must(t, os.Truncate(f.path("data/a/b/c/deep"), 3))
	must(t, os.Remove(f.path("data/secret")))
	f.write(t, "data/new", "made after Commit")
	must(t, os.Rename(f.path("data/a"), f.path("data/renamed")))
	must(t, writeAt(f.path("data/sparse"), []byte("later"), 0))
	m.must(t, "PostCommit")
	sameState(t, shown(t, m.copied, req.Scope, false), want)
}

func testComeAndGo(t *testing.T, f *fixture) {
	f.populate(t)
	req := f.request()
	m := f.prepared(t, req)
	f.write(t, "data/new", "new")
	f.write(t, "data/newdir/sub/new", "new")
	f.write(t, "var/log/new.log", "new")
	f.write(t, "data/new.skip", "EXCLUDED")
	must(t, os.Remove(f.path("data/secret")))
	must(t, os.RemoveAll(f.path("data/a/b")))
	must(t, os.Rename(f.path("data/a"), f.path("data/moved")))
	// A file becomes a directory, a directory a file, a link a file.
	must(t, os.Remove(f.path("data/plain")))
	f.write(t, "data/plain/inside", "x")
	must(t, os.RemoveAll(f.path("data/moved/empty")))
	f.write(t, "data/moved/empty", "now a file")
	must(t, os.Remove(f.path("data/link")))
	f.write(t, "data/link", "now a file")
	must(t, os.Remove(f.path("data/empty")))
	must(t, os.Symlink("elsewhere", f.path("data/empty")))
	must(t, os.Chmod(f.path("data/setuid"), 0o400))
	must(t, os.RemoveAll(f.path("data/cache")))
	want := capture(t, f.v.Root, req.Scope, false)
	c := m.finish(t)
	sameState(t, shown(t, c, req.Scope, false), want)
}

// testHidden changes files so that their times or sizes tell little.
func testHidden(t *testing.T, f *fixture) {
	names := []string{"sametick", "reset", "replaced", "samesize", "truncated", "appended", "punched", "swapped1", "swapped2", "recreated"}
	content := strings.Repeat("before! ", 1<<15)
	for _, n := range names {
		f.write(t, "data/"+n, content+n)
	}
	old := time.Unix(1500000000, 0)
	for _, n := range names {
		must(t, os.Chtimes(f.path("data/"+n), old, old))
	}
	req := f.request()
	m := f.begin(t, req)
	m.must(t, "Estimate")
	must(t, writeAt(f.path("data/sametick"), []byte("1"), 7))
	m.must(t, "EndPrepare")
	must(t, writeAt(f.path("data/sametick"), []byte("2"), 7))
	must(t, writeAt(f.path("data/reset"), []byte("changed"), 100))
	must(t, os.Chtimes(f.path("data/reset"), old, old)) // as touch -r and tar do
	f.write(t, "data/other", strings.Repeat("after!! ", 1<<15)+"replaced")
	must(t, os.Chtimes(f.path("data/other"), old, old))
	must(t, os.Rename(f.path("data/other"), f.path("data/replaced")))
	must(t, writeAt(f.path("data/samesize"), []byte("x"), int64(len(content))))
	must(t, os.Truncate(f.path("data/truncated"), 5000))
	must(t, writeAt(f.path("data/appended"), []byte("appended"), int64(len(content))+100))
	punch(t, f.path("data/punched"), 8192, 65536)
	must(t, unix.Renameat2(unix.AT_FDCWD, f.path("data/swapped1"), unix.AT_FDCWD, f.path("data/swapped2"), unix.RENAME_EXCHANGE))
	must(t, os.Remove(f.path("data/recreated")))
	f.write(t, "data/recreated", strings.Repeat("after!! ", 1<<15)+"recreated")
	must(t, os.Chtimes(f.path("data/recreated"), old, old))
	want := capture(t, f.v.Root, req.Scope, false)
	c := m.finish(t)
	sameState(t, shown(t, c, req.Scope, false), want)
}

func punch(t testing.TB, name string, off, n int64) {
	t.Helper()
	g, err := os.OpenFile(name, os.O_RDWR, 0)
	must(t, err)
	defer g.Close()
	must(t, unix.Fallocate(int(g.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n))
}

// testMapped stores through a mapping into pages that were dirty before the
// first pass: the times alone do not tell of that.
func testMapped(t *testing.T, f *fixture) {
	const size = 1 << 20
	f.write(t, "data/mapped", strings.Repeat("m", size))
	g, err := os.OpenFile(f.path("data/mapped"), os.O_RDWR, 0)
	must(t, err)
	defer g.Close()
	b, err := unix.Mmap(int(g.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	must(t, err)
	defer unix.Munmap(b)
	req := f.request()
	for round := range 5 {
		for i := 0; i < size; i += 4096 {
			b[i]++ // dirty before the pass
		}
		// Long enough ago for the time of change to say nothing.
		time.Sleep(100 * time.Millisecond)
		req.Ref.SnapshotID = vss.NewGUID()
		m := f.prepared(t, req)
		b[100]++
		if round%2 == 1 {
			// The page is dirty and the time of change old when the
			// last pass before the hold begins; the store after it
			// is to the same page.
			time.Sleep(100 * time.Millisecond)
			m.must(t, "Refresh")
			time.Sleep(20 * time.Millisecond)
			b[101]++
		}
		want := bytes.Clone(b)
		c := m.finish(t)
		got, err := os.ReadFile(filepath.Join(c.Root, "data/mapped"))
		must(t, err)
		if !f.caps.NeedsScope {
			// A copy of a volume shows what is in memory only as far as
			// it was written back, which Commit does.
			must(t, unix.Msync(b, unix.MS_SYNC))
		}
		if !bytes.Equal(got, want) {
			t.Errorf("round %d: the copy lacks a store through a mapping", round)
		}
	}
}

// testLarge changes single blocks of a file that is large enough to be
// compared rather than copied.
func testLarge(t *testing.T, f *fixture) {
	const size = 70 << 20
	f.write(t, "data/large", "")
	sparse(t, f.path("data/large"), size, 0, 1<<20, 10<<20, 30<<20, 69<<20)
	must(t, writeAt(f.path("data/large"), bytes.Repeat([]byte("old data "), 1<<18), 40<<20))
	for round, change := range []func(){
		func() { must(t, writeAt(f.path("data/large"), []byte("changed"), 50<<20)) },
		func() { punch(t, f.path("data/large"), 40<<20, 1<<20) },
		func() { must(t, os.Truncate(f.path("data/large"), size-10<<20)) },
		func() { must(t, os.Truncate(f.path("data/large"), size+10<<20)) },
		func() { must(t, writeAt(f.path("data/large"), []byte("at the end"), size+11<<20)) },
		func() { must(t, os.Truncate(f.path("data/large"), 3)) },
	} {
		req := f.request()
		m := f.prepared(t, req)
		change()
		want := capture(t, f.v.Root, req.Scope, false)
		c := m.finish(t)
		got := shown(t, c, req.Scope, false)
		for _, s := range []map[string]state{got, want} {
			for p, v := range s {
				if round > 0 {
					v.data = "" // where exactly holes begin is not promised
				}
				s[p] = v
			}
		}
		sameState(t, got, want)
		must(t, f.p.Delete(t.Context(), req.Ref))
	}
}

func testScope(t *testing.T, f *fixture) {
	f.populate(t)
	m := f.prepared(t, f.request())
	c := m.finish(t)
	if !f.caps.NeedsScope {
		return
	}
	err := filepath.WalkDir(c.Root, func(p string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		if b, err := os.ReadFile(p); err != nil || string(b) == "EXCLUDED" {
			t.Errorf("%s is in the copy (%v)", p, err)
		}
		return nil
	})
	must(t, err)
	for _, name := range []string{"home", "data/x.skip", "var/log/sub", provider.AreaName} {
		if _, err := os.Lstat(filepath.Join(c.Root, name)); !os.IsNotExist(err) {
			t.Errorf("%s is in the copy (%v)", name, err)
		}
	}
}

func testUnclaimed(t *testing.T, f *fixture) {
	f.populate(t)
	req := f.request()
	req.Unclaimed = true
	req.Scope.Unclaimed = []provider.FileSet{{Dir: ".", Pattern: "*", Recursive: true}}
	req.Scope.Foreign = []provider.Claim{{Writer: "other", Files: []provider.FileSet{{Dir: "foreign", Pattern: "*", Recursive: true}}}}
	req.Scope.Exclude = []provider.FileSet{{Dir: "home", Pattern: "*.tmp", Recursive: true}}
	f.write(t, "foreign/db", "claimed by a component that was not chosen")
	f.write(t, "home/x.tmp", "excluded by the requester")
	m := f.begin(t, req)
	e, err := m.snap.Estimate(t.Context())
	must(t, err)
	m.must(t, "EndPrepare")
	f.write(t, "home/late", "made later")
	want := capture(t, f.v.Root, req.Scope, e.Unclaimed)
	c := m.finish(t)
	if c.Unclaimed != e.Unclaimed {
		t.Errorf("Estimate says %v of data of no writer, the copy %v", e.Unclaimed, c.Unclaimed)
	}
	if f.caps.ClaimedOnly && e.Unclaimed {
		t.Error("data of no writer will be in the copy, which Supports says it never is")
	}
	sameState(t, shown(t, c, req.Scope, e.Unclaimed), want)
	if _, ok := want["home/late"]; ok != e.Unclaimed {
		t.Errorf("home/late is wanted: %v", ok)
	}
}

func testNames(t *testing.T, f *fixture) {
	long := strings.Repeat("n", 255)
	for i, name := range []string{"\n", " ", "-rf", "\xff\xfe", "a\tb", "*", "?", "[x]", "\\", "'\"$(id)`", "..x", "...", "%s%n", "é", "e\u0301",
		"tree", "manifest", "aside", ".removed-1", provider.AreaName, long, "\x01\x7f", "COM1", "a:b", ".new"} {
		f.write(t, "data/"+name+"/file", fmt.Sprint(i))
		f.write(t, "data/names/"+name, fmt.Sprint(i))
	}
	// A path far longer than the kernel takes at once.
	long = strings.Repeat("d", 255)
	deep := "data"
	cwd, err := os.Open(f.path("data"))
	must(t, err)
	for range 40 {
		must(t, unix.Mkdirat(int(cwd.Fd()), long, 0o755))
		fd, err := unix.Openat(int(cwd.Fd()), long, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		must(t, err)
		cwd.Close()
		cwd = os.NewFile(uintptr(fd), "deep")
		deep += "/" + long
	}
	fd, err := unix.Openat(int(cwd.Fd()), "bottom", unix.O_WRONLY|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	must(t, err)
	_, err = unix.Write(fd, []byte("reached"))
	must(t, err)
	unix.Close(fd)
	cwd.Close()

	req := f.request()
	m := f.prepared(t, req)
	c := m.finish(t)
	for i, name := range []string{"\n", " ", "-rf", "\xff\xfe"} {
		for _, p := range []string{"data/" + name + "/file", "data/names/" + name} {
			if b, err := os.ReadFile(filepath.Join(c.Root, p)); err != nil || string(b) != fmt.Sprint(i) {
				t.Errorf("%q: %q, %v", p, b, err)
			}
		}
	}
	if got := readDeep(t, c.Root, deep, "bottom"); got != "reached" {
		t.Errorf("at the bottom of a deep tree: %q", got)
	}
	if man, err := provider.ReadManifest(c.Root); err == nil {
		if _, ok := man.Lookup(deep + "/bottom"); !ok {
			t.Error("the bottom of a deep tree is not in the manifest")
		}
	}
	must(t, f.p.Delete(t.Context(), req.Ref))
	f.nothingLeft(t, "after Delete")
	removeDeep(t, f, long)
}

// readDeep reads a file at a path longer than the kernel takes.
func readDeep(t *testing.T, root, dir, name string) string {
	t.Helper()
	fd, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	for d := range strings.SplitSeq(dir, "/") {
		next, err := unix.Openat(fd, d, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		unix.Close(fd)
		must(t, err)
		fd = next
	}
	defer unix.Close(fd)
	file, err := unix.Openat(fd, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(file)
	b := make([]byte, 100)
	n, err := unix.Read(file, b)
	must(t, err)
	return string(b[:n])
}

// removeDeep makes the deep tree one that ordinary clean-up can remove.
func removeDeep(t *testing.T, f *fixture, name string) {
	t.Helper()
	must(t, os.RemoveAll(f.path("data", name)))
}

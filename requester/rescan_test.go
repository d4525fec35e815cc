//go:build linux

package requester_test

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/session/coordinator/localfs"
)

// young is for how long a change counts as one that may have come after the
// reading.
const young = 2100 * time.Millisecond

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// entries are those of a record's file table by path, without what differs from
// one reading to the next, and with the bytes of files.
func (w *world) entries(rec *repository.Record) map[string]string {
	w.t.Helper()
	out := map[string]string{}
	last := ""
	for e, err := range rec.Table().All(w.t.Context()) {
		w.must(err)
		if last != "" && repository.ComparePaths("/", last, "/", e.Path) >= 0 {
			w.t.Errorf("%s comes after %s", e.Path, last)
		}
		last = e.Path
		if !strings.HasPrefix("/"+e.Path, w.dir+"/") {
			continue // a directory above the data
		}
		c := e.Clone()
		c.AccessTime, c.Content = time.Time{}, repository.Content{}
		delete(c.Attrs, requester.AttrRead)
		line := fmt.Sprintf("%+v", c)
		if e.Type == repository.Regular {
			f, err := w.repo.OpenContent(w.t.Context(), e.Content)
			w.must(err)
			data, err := io.ReadAll(io.NewSectionReader(f, 0, f.Size()))
			w.must(err)
			line += fmt.Sprintf(" %x", data[:min(len(data), 64)])
		}
		out[strings.TrimPrefix("/"+e.Path, w.dir+"/")] = line
	}
	return out
}

// sameAsReread makes a backup on the last one and one that reads everything, and
// compares all that they say.
func (w *world) sameAsReread(r requester.Request) *requester.Result {
	w.t.Helper()
	res := w.backup(r)
	r.Reread = true
	whole := w.backup(r)
	if res.Outcome != whole.Outcome || res.Totals.Files != whole.Totals.Files || res.Totals.Dirs != whole.Totals.Dirs || res.Totals.Bytes != whole.Totals.Bytes {
		w.t.Errorf("%v %+v, and reading everything %v %+v", res.Outcome, res.Totals, whole.Outcome, whole.Totals)
	}
	diffTrees(w.t, w.entries(res.Record), w.entries(whole.Record))
	return res
}

// touchLike gives a file the times of another's description, as touch -r does.
func (w *world) touchLike(name string, st unix.Stat_t) {
	w.t.Helper()
	w.must(unix.UtimesNanoAt(unix.AT_FDCWD, w.path(name), []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW))
}

func (w *world) lstat(name string) (st unix.Stat_t) {
	w.t.Helper()
	w.must(unix.Lstat(w.path(name), &st))
	return st
}

// setXAttr sets an attribute, where the file system has such.
func (w *world) setXAttr(name, value string) {
	w.t.Helper()
	if err := unix.Lsetxattr(w.path(name), "user.sombra", []byte(value), 0); err != nil && err != unix.EOPNOTSUPP {
		w.t.Fatal(err)
	}
}

// hidden are changes that leave name, size and modification time as they were,
// or as little else as can be, each of a thing of its own: what is made before
// the first backup, and what is done to it after.
var hidden = []struct {
	name         string
	make, change func(w *world, name string)
}{
	{"bytes", nil, func(w *world, n string) {
		st := w.lstat(n)
		w.write(n, strings.Repeat("Y", int(st.Size)))
		w.touchLike(n, st)
	}},
	{"chmod", nil, func(w *world, n string) { w.must(os.Chmod(w.path(n), 0o600)) }},
	{"chmod-dir", (*world).mkdirOld, func(w *world, n string) { w.must(os.Chmod(w.path(n), 0o700)) }},
	{"xattr-new", nil, func(w *world, n string) { w.setXAttr(n, "new") }},
	{"xattr-changed", func(w *world, n string) { w.write(n, "x"); w.setXAttr(n, "old") }, func(w *world, n string) { w.setXAttr(n, "new") }},
	{"xattr-gone", func(w *world, n string) { w.write(n, "x"); w.setXAttr(n, "old") }, func(w *world, n string) {
		if err := unix.Lremovexattr(w.path(n), "user.sombra"); err != nil && err != unix.EOPNOTSUPP {
			w.t.Fatal(err)
		}
	}},
	{"xattr-dir", (*world).mkdirOld, func(w *world, n string) { w.setXAttr(n, "new") }},
	{"renamed-over", nil, func(w *world, n string) {
		st := w.lstat(n)
		w.write(n+".new", strings.Repeat("Z", int(st.Size)))
		w.touchLike(n+".new", st)
		w.must(os.Rename(w.path(n+".new"), w.path(n)))
	}},
	{"exchanged", func(w *world, n string) { w.write(n+"/a", "aaa"); w.write(n+"/b", "bbb"); w.age(n+"/a", n+"/b") }, func(w *world, n string) {
		w.must(unix.Renameat2(unix.AT_FDCWD, w.path(n+"/a"), unix.AT_FDCWD, w.path(n+"/b"), unix.RENAME_EXCHANGE))
	}},
	{"dirs-exchanged", func(w *world, n string) {
		w.write(n+"/a/f", "aaa")
		w.write(n+"/b/f", "bbb")
		w.age(n+"/a/f", n+"/b/f")
	}, func(w *world, n string) {
		w.must(unix.Renameat2(unix.AT_FDCWD, w.path(n+"/a"), unix.AT_FDCWD, w.path(n+"/b"), unix.RENAME_EXCHANGE))
	}},
	{"dir-replaced", func(w *world, n string) { w.write(n+"/d/f", "old") }, func(w *world, n string) {
		f, d := w.lstat(n+"/d/f"), w.lstat(n+"/d")
		w.must(os.RemoveAll(w.path(n + "/d")))
		w.write(n+"/d/f", "new")
		w.touchLike(n+"/d/f", f)
		w.touchLike(n+"/d", d)
	}},
	{"link-target", func(w *world, n string) { w.must(os.Symlink("aaa", w.path(n))) }, func(w *world, n string) {
		st := w.lstat(n)
		w.must(os.Remove(w.path(n)))
		w.must(os.Symlink("bbb", w.path(n)))
		w.touchLike(n, st)
	}},
	{"file-to-link", nil, func(w *world, n string) { w.must(os.Remove(w.path(n))); w.must(os.Symlink("x", w.path(n))) }},
	{"file-to-dir", nil, func(w *world, n string) { w.must(os.Remove(w.path(n))); w.write(n+"/in", "it") }},
	{"dir-to-file", func(w *world, n string) { w.write(n+"/in", "it") }, func(w *world, n string) { w.must(os.RemoveAll(w.path(n))); w.write(n, "file") }},
	{"fifo", func(w *world, n string) { w.must(unix.Mkfifo(w.path(n), 0o600)) }, func(w *world, n string) { w.must(os.Chmod(w.path(n), 0o640)) }},
	{"name-added", nil, func(w *world, n string) { w.must(os.Link(w.path(n), w.path(n+".2"))) }},
	{"name-removed", func(w *world, n string) { w.write(n, "x"); w.must(os.Link(w.path(n), w.path(n+".2"))) }, func(w *world, n string) { w.must(os.Remove(w.path(n + ".2"))) }},
	{"name-broken", func(w *world, n string) { w.write(n, "x"); w.must(os.Link(w.path(n), w.path(n+".2"))) }, func(w *world, n string) {
		st := w.lstat(n)
		w.must(os.Remove(w.path(n)))
		w.write(n, "y")
		w.touchLike(n, st)
	}},
	{"names-written", func(w *world, n string) { w.write(n, "x"); w.must(os.Link(w.path(n), w.path(n+".2"))) }, func(w *world, n string) {
		st := w.lstat(n)
		w.write(n+".2", "y")
		w.touchLike(n, st)
	}},
	{"removed", nil, func(w *world, n string) { w.must(os.Remove(w.path(n))) }},
	{"added", func(*world, string) {}, func(w *world, n string) { w.write(n, "new"); w.age(n) }},
	{"dir-added", func(*world, string) {}, func(w *world, n string) { w.write(n+"/a/b/c", "new") }},
}

func (w *world) mkdirOld(name string) { w.write(name+"/in", "it") }

func TestRescanSeesWhatReadingEverythingSees(t *testing.T) {
	w := newWorld(t)
	for _, h := range hidden {
		if h.make != nil {
			h.make(w, h.name)
		} else {
			w.write(h.name, "what "+h.name+" holds at first")
		}
	}
	w.write("calm/file", "calm")
	w.must(os.Link(w.path("calm/file"), w.path("calm/again")))
	w.must(os.Symlink("file", w.path("calm/link")))
	w.write("calm/attributes", "x")
	w.setXAttr("calm/attributes", "kept")
	time.Sleep(young)
	w.backup(w.paths())
	if res := w.sameAsReread(w.paths()); res.Totals.Unchanged != res.Totals.Files {
		t.Errorf("%d of %d files are told to be unchanged, and all are", res.Totals.Unchanged, res.Totals.Files)
	}
	before := w.entries(w.backup(w.paths()).Record)
	for _, h := range hidden {
		h.change(w, h.name)
	}
	res := w.sameAsReread(w.paths())
	after := w.entries(res.Record)
	for _, h := range hidden {
		if same := func(n string) bool { return before[n] == after[n] }; !strings.HasPrefix(h.name, "xattr") && same(h.name) && same(h.name+".2") &&
			same(h.name+"/a") && same(h.name+"/a/f") && same(h.name+"/d/f") {
			t.Errorf("%s: nothing of the change is in the record", h.name)
		}
	}
	for _, n := range []string{"calm/file", "calm/again", "calm/link", "calm/attributes"} {
		if before[n] == "" || before[n] != after[n] {
			t.Errorf("%s changed from %s to %s", n, before[n], after[n])
		}
	}
	w.sameAsReread(w.paths())
}

func TestEntriesSayWhichBackupReadTheData(t *testing.T) {
	w := newWorld(t)
	w.write("old", "old")
	w.write("new", "old")
	time.Sleep(young)
	first := w.backup(w.paths())
	w.write("new", "new")
	second := w.backup(w.paths())
	for name, from := range map[string]*requester.Result{"old": first, "new": second} {
		e, err := second.Record.Table().Lookup(t.Context(), "/", w.path(name)[1:])
		w.must(err)
		if got, want := e.Attrs[requester.AttrRead], from.Record.Started.UTC().Format(time.RFC3339Nano); got != want {
			t.Errorf("%s was read by the backup of %s, want %s", name, got, want)
		}
	}
}

func TestRescanOfAYoungTreeReadsItAgain(t *testing.T) {
	w := newWorld(t)
	w.write("file", "one")
	first := w.backup(w.paths())
	// The same size and, as the clock may be a coarse one, the same times.
	if res := w.backup(w.paths()); res.Totals.Unchanged != 0 {
		t.Errorf("%d files are told to be unchanged that were written right before %s", res.Totals.Unchanged, first.ID)
	}
}

func TestRescanOfADirectoryTooLargeForMemory(t *testing.T) {
	w := newWorld(t)
	const many = requester.MaxListing + 300
	for _, d := range []string{"big/a", "big/m", "big/z"} {
		w.write(d+"/one", d)
		w.write(d+"/below/two", d)
	}
	for i := range many {
		w.must(os.WriteFile(w.path(fmt.Sprintf("big/%06d", i)), nil, 0o600))
	}
	w.write("last", "last")
	time.Sleep(young)
	first := w.backup(w.paths())
	if first.Totals.Files != many+7 {
		t.Fatalf("totals %+v", first.Totals)
	}
	second := w.backup(w.paths())
	if second.Totals.Unchanged != many+7 || second.Totals.Dirs != first.Totals.Dirs {
		t.Errorf("totals %+v, want all unchanged", second.Totals)
	}
	diffTrees(t, w.entries(second.Record), w.entries(first.Record))
}

func TestWalkVisitsEverythingOnceInTheOrderOfATable(t *testing.T) {
	dir := scratch(t)
	var want []string
	for _, d := range []string{"a", "a.b", "a/b", "a/b/c/d/e", "b", "a-", "z/y", "z/y.x", "z/y/x"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
		for i := range 40 {
			if err := os.WriteFile(filepath.Join(dir, d, fmt.Sprintf("f%d", i)), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	err := filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
		if rel, _ := filepath.Rel(dir, p); rel != "." {
			want = append(want, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(want, func(a, b string) int { return repository.ComparePaths("/", a, "/", b) })
	tr, err := localfs.OpenTree(dir, localfs.TreeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	for _, ahead := range []int{0, 1, 16} {
		var got []string
		err := requester.Walk(t.Context(), tr, ".", ahead, func(name string, e session.Entry, err error) error {
			got = append(got, name)
			return err
		})
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("listing %d ahead: %v\ngot  %v\nwant %v", ahead, err, got, want)
		}
		got = nil
		err = requester.Walk(t.Context(), tr, ".", ahead, func(name string, e session.Entry, err error) error {
			got = append(got, name)
			if name == "a" || name == "z/y" {
				return requester.ErrSkip
			}
			return err
		})
		out := slices.DeleteFunc(slices.Clone(want), func(n string) bool { return strings.HasPrefix(n, "a/") || strings.HasPrefix(n, "z/y/") })
		if err != nil || !slices.Equal(got, out) {
			t.Errorf("listing %d ahead, and skipping: %v\ngot  %v\nwant %v", ahead, err, got, out)
		}
		for _, stop := range []int{1, 50, 100, len(want)} {
			n := 0
			err := requester.Walk(t.Context(), tr, ".", ahead, func(string, session.Entry, error) error {
				if n++; n == stop {
					return io.ErrClosedPipe
				}
				return nil
			})
			if err != io.ErrClosedPipe || n != stop {
				t.Errorf("listing %d ahead: it ends after %d objects with %v, want %d", ahead, n, err, stop)
			}
		}
	}
}

func TestWalkEndsWithItsContext(t *testing.T) {
	dir := scratch(t)
	for i := range 50 {
		if err := os.MkdirAll(filepath.Join(dir, fmt.Sprint(i), "x"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	tr, err := localfs.OpenTree(dir, localfs.TreeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	err = requester.Walk(ctx, tr, ".", 16, func(string, session.Entry, error) error {
		if n++; n == 10 {
			cancel()
		}
		return nil
	})
	if err != context.Canceled || n > 12 {
		t.Errorf("%v after %d objects", err, n)
	}
}

func TestNumbersOfLinkedFilesNeverMeet(t *testing.T) {
	list := [][2]uint64{{1, 7}, {1, 7 + 1<<48}, {2, 7}, {1, 8}, {1, 0}, {3, 7}, {2, 8}}
	numbers := requester.LinkNumbers(list)
	for i, n := range numbers {
		if n == 0 || slices.Index(numbers, n) != i {
			t.Errorf("file %v has number %d of %v", list[i], n, numbers)
		}
	}
	if again := requester.LinkNumbers([][2]uint64{{2, 8}, {1, 8}}); again[0] == again[1] || again[1] != 8 {
		t.Errorf("numbers %v", again)
	}
}

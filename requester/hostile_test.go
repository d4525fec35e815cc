package requester

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// bentHost is a host in memory whose trees a test bends.
type bentHost struct {
	*memHost
	bend func(session.Tree) session.Tree
}

func (h *bentHost) open(ctx context.Context) (session.Session, error) {
	_, err := h.memHost.open(ctx)
	return h, err
}

func (h *bentHost) Tree(ctx context.Context, id vss.GUID) (session.Tree, error) {
	t, err := h.memHost.Tree(ctx, id)
	return h.bend(t), err
}

func (h *bentHost) backup(t *testing.T, r Request) (*Result, map[string]string) {
	t.Helper()
	repo := memRepo(t)
	res, err := Backup(t.Context(), h.open, repo, r, nil)
	if err != nil {
		t.Fatalf("backup: %v", err)
	}
	content, _ := readRecord(t, repo, res.Record)
	return res, content
}

// liar is a tree that lists more objects than there are.
type liar struct {
	session.Tree
	dir   string
	lists []session.Entry
}

func (l *liar) ReadDir(ctx context.Context, name string, fn func(session.Entry, error) error) error {
	if name == l.dir {
		for _, e := range l.lists {
			if err := fn(e, nil); err != nil {
				return err
			}
		}
	}
	return l.Tree.ReadDir(ctx, name, fn)
}

func TestNamesThatAreNoneAreNotBelieved(t *testing.T) {
	for _, name := range []string{"", ".", "..", "../../etc/shadow", "a/b", "/etc/shadow", "x\x00y"} {
		for _, claimed := range []bool{false, true} {
			h := &bentHost{memHost: newMemHost(volume("srv/app/db", "srv/other/x", "etc/shadow"))}
			h.bend = func(tr session.Tree) session.Tree {
				return &liar{Tree: tr, dir: "srv/app", lists: []session.Entry{{Name: name, Source: session.FromShadow}}}
			}
			if claimed {
				h.writer(t, "app", func(m *metadata.WriterMetadata) []error {
					return []error{fileGroup(m, "all", true, spec("/srv/app", "*", true))}
				})
			}
			res, content := h.backup(t, Request{Paths: []string{"/srv"}})
			if res.Outcome != Incomplete || len(res.Failures) != 1 || res.Failures[0].Path != "/srv/app" {
				t.Errorf("%q: outcome %v, failures %+v", name, res.Outcome, res.Failures)
			}
			for f := range content {
				if f != "srv/app/db" && f != "srv/other/x" && !strings.HasSuffix(f, "/") {
					t.Errorf("%q: %s is in the record", name, f)
				}
			}
			if content["srv/other/x"] == "" || claimed && h.succeeded["all"] {
				t.Errorf("%q: content %v, succeeded %v", name, content, h.succeeded)
			}
		}
	}
}

func TestNameThatIsListedTwiceIsOneEntry(t *testing.T) {
	h := &bentHost{memHost: newMemHost(volume("srv/b", "srv/a", "srv/c"))}
	h.bend = func(tr session.Tree) session.Tree {
		twice, _ := tr.Lstat(t.Context(), "srv/c")
		return &liar{Tree: tr, dir: "srv", lists: []session.Entry{twice, twice}} // and out of order
	}
	res, content := h.backup(t, Request{Paths: []string{"/srv"}})
	if res.Outcome != Complete || keysOf(content) != "srv/a srv/b srv/c" {
		t.Errorf("outcome %v, content %q", res.Outcome, keysOf(content))
	}
}

// endless is a tree with a directory in which there is always another one.
type endless struct {
	session.Tree
	open, most *atomic.Int32
}

func (e *endless) ReadDir(ctx context.Context, name string, fn func(session.Entry, error) error) error {
	if name != "srv/deep" && !strings.HasPrefix(name, "srv/deep/") {
		return e.Tree.ReadDir(ctx, name, fn)
	}
	e.most.Store(max(e.most.Load(), e.open.Add(1)))
	defer e.open.Add(-1)
	return fn(session.Entry{Name: "d", Mode: fs.ModeDir, Perm: 0o755}, nil)
}

// TestTreeWithoutEndCostsOneFailure: a user who nests directories without end
// spoils nobody else's backup, and no directory is kept open for another.
func TestTreeWithoutEndCostsOneFailure(t *testing.T) {
	var open, most atomic.Int32
	h := &bentHost{memHost: newMemHost(volume("srv/deep/x", "srv/later/y"))}
	h.bend = func(tr session.Tree) session.Tree { return &endless{tr, &open, &most} }
	res, content := h.backup(t, Request{Paths: []string{"/srv"}})
	if res.Outcome != Incomplete || res.Failed != 1 || !strings.Contains(res.Failures[0].Error, "directories deep") {
		t.Errorf("outcome %v, %d failures %.300v", res.Outcome, res.Failed, res.Failures)
	}
	if content["srv/later/y"] == "" {
		t.Error("what lies beside it is not saved")
	}
	if most.Load() > 1 {
		t.Errorf("%d directories were being listed at once", most.Load())
	}
}

// bentFile is a file that does not tell the truth.
type bentFile struct {
	session.File
	stat func(session.Entry) session.Entry
	data []vss.Range
	read func()
}

func (f *bentFile) Stat(ctx context.Context) (session.Entry, error) {
	e, err := f.File.Stat(ctx)
	if f.stat != nil {
		e = f.stat(e)
	}
	return e, err
}

func (f *bentFile) Data(ctx context.Context) ([]vss.Range, error) { return f.data, nil }

func (f *bentFile) ReadAt(p []byte, off int64) (int, error) {
	if f.read != nil {
		f.read()
	}
	return f.File.ReadAt(p, off)
}

type bentFiles struct {
	session.Tree
	name string
	file *bentFile
}

func (b *bentFiles) Open(ctx context.Context, name string) (session.File, error) {
	f, err := b.Tree.Open(ctx, name)
	if err != nil || name != b.name {
		return f, err
	}
	bent := *b.file
	bent.File = f
	return &bent, nil
}

func TestFilesThatMakeNoSenseFailAlone(t *testing.T) {
	grow := func(size int64) func(session.Entry) session.Entry {
		return func(e session.Entry) session.Entry { e.Size, e.Allocated = size, 0; return e }
	}
	for name, f := range map[string]*bentFile{
		"a negative size":             {stat: grow(-1)},
		"a size that is far too much": {stat: grow(1 << 62), data: []vss.Range{{Offset: 0, Length: 1 << 62}}},
		"ranges out of order":         {stat: grow(20), data: []vss.Range{{Offset: 10, Length: 5}, {Offset: 0, Length: 5}}},
		"ranges beyond all":           {stat: grow(20), data: []vss.Range{{Offset: 1, Length: 1<<64 - 1}, {Offset: 1<<64 - 1, Length: 9}}},
		"it is no file any more":      {stat: func(e session.Entry) session.Entry { e.Mode = fs.ModeNamedPipe; return e }},
	} {
		t.Run(name, func(t *testing.T) {
			h := &bentHost{memHost: newMemHost(volume("srv/bad", "srv/good"))}
			h.bend = func(tr session.Tree) session.Tree { return &bentFiles{tr, "srv/bad", f} }
			res, content := h.backup(t, Request{Paths: []string{"/srv"}})
			bad := res.Outcome == Incomplete && content["srv/bad"] == "FAILED" && len(res.Failures) == 1
			fine := res.Outcome == Complete && len(content["srv/bad"]) == 20 // ranges are merged, and what is not in them is a hole
			if !bad && !fine || content["srv/good"] == "" {
				t.Errorf("outcome %v, failures %+v, content %v", res.Outcome, res.Failures, keysOf(content))
			}
		})
	}
}

func TestLinksAreKeptAndNeverFollowed(t *testing.T) {
	v := volume("srv/real/file")
	for name, target := range map[string]string{"srv/self": "self", "srv/up": "..", "srv/real/round": "../real", "srv/away": "/etc"} {
		v.files[name] = "-> " + target
	}
	h := newMemHost(v)
	res, content, _ := backedUp(t, h, Request{Paths: []string{"/srv"}})
	if res.Outcome != Complete || keysOf(content) != "srv/real/file" {
		t.Errorf("outcome %v, content %q", res.Outcome, keysOf(content))
	}
}

// TestInodesOfTwoVolumesAreTwo: a file read at an alternate path on another
// volume is not another name of the file that has its inode number here.
func TestInodesOfTwoVolumesAreTwo(t *testing.T) {
	v, spit := volume("srv/db", "srv/alias", "srv/other"), volume("db", "kept")
	spit.id, spit.root = "spit", "/spit"
	v.inodes["srv/alias"], v.inodes["srv/other"] = 7, 7
	spit.inodes["db"], spit.inodes["kept"] = 7, 7
	h := newMemHost(v, spit)
	h.writer(t, "app", func(m *metadata.WriterMetadata) []error {
		return []error{fileGroup(m, "a", true),
			m.AddFilesToFileGroup("", "a", spec("/srv", "db", false), "/spit", vss.DefaultFileSpecBackupType)}
	})
	_, content, _ := backedUp(t, h, Request{Paths: []string{"/srv"}})
	if content["srv/db"] != "content of db" || content["srv/alias"] != "content of srv/alias" {
		t.Errorf("srv/db holds %q, srv/alias %q", content["srv/db"], content["srv/alias"])
	}
}

// TestPlacesThatShowTheKernelHoldNoData: a writer that names them fails in the
// plan, also where its files need no shadow copy.
func TestPlacesThatShowTheKernelHoldNoData(t *testing.T) {
	h := newMemHost(volume("srv/db"), &memVolume{id: "p", root: "/proc", files: map[string]string{"kmsg": "never read"}})
	w := h.writer(t, "app", func(m *metadata.WriterMetadata) []error {
		return []error{fileGroup(m, "a", true, spec("/srv", "db", false)),
			m.AddFilesToFileGroup("", "a", spec("/proc", "kmsg", false), "", vss.FullBackupRequired)}
	})
	w.Discovered = true
	proc := &procHost{h}
	res, err := Backup(t.Context(), proc.open, memRepo(t), Request{Paths: []string{"/srv"}, AsPlainFiles: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Components) != 0 || !strings.Contains(fmt.Sprint(res.Plan.Writers), "state of the kernel") {
		t.Errorf("components %+v, plan %+v", res.Components, res.Plan.Writers)
	}
}

// procHost says that the volume "p" is a proc file system.
type procHost struct{ *memHost }

func (h *procHost) open(ctx context.Context) (session.Session, error) {
	_, err := h.memHost.open(ctx)
	return h, err
}

func (h *procHost) Volume(ctx context.Context, id string) (session.Volume, error) {
	v, err := h.memHost.Volume(ctx, id)
	if id == "p" {
		v.FSType = "proc"
	}
	return v, err
}

// closedDir is a tree with a directory that cannot be listed.
type closedDir struct {
	session.Tree
	dir string
}

func (c *closedDir) ReadDir(ctx context.Context, name string, fn func(session.Entry, error) error) error {
	if name == c.dir {
		return &fs.PathError{Op: "read directory", Path: name, Err: errors.New("a bad block")}
	}
	return c.Tree.ReadDir(ctx, name, fn)
}

// TestDirectoryThatCannotBeListedFailsItsComponentR_SEL_18: what is in it is
// missing, and the directory itself keeps its entry.
func TestDirectoryThatCannotBeListedFailsItsComponentR_SEL_18(t *testing.T) {
	for _, dir := range []string{"srv/app", "srv/app/sub"} {
		h := &bentHost{memHost: newMemHost(volume("srv/app/db", "srv/app/sub/x", "srv/y"))}
		h.bend = func(tr session.Tree) session.Tree { return &closedDir{tr, dir} }
		h.writer(t, "app", func(m *metadata.WriterMetadata) []error {
			return []error{fileGroup(m, "all", true, spec("/srv/app", "*", true))}
		})
		res, content := h.backup(t, Request{Paths: []string{"/srv"}})
		if res.Outcome != Incomplete || h.succeeded["all"] || len(res.Failures) != 1 || res.Failures[0].Path != "/"+dir {
			t.Errorf("%s: outcome %v, succeeded %v, failures %+v", dir, res.Outcome, h.succeeded, res.Failures)
		}
		if _, ok := content[dir+"/"]; !ok || content["srv/y"] == "" {
			t.Errorf("%s: content %v", dir, content)
		}
	}
}

// TestLiveReadingWaitsUntilAChangeWouldShow: a change in the same step of the
// file system's clock as the one before leaves the times as they are.
func TestLiveReadingWaitsUntilAChangeWouldShow(t *testing.T) {
	v := volume("srv/x")
	v.unserved = "no provider"
	h := &liveHost{memHost: newMemHost(v)}
	changed := time.Now()
	var began time.Time
	h.file = &bentFile{
		stat: func(e session.Entry) session.Entry { e.Changed = changed; return e },
		read: func() {
			if began.IsZero() {
				began = time.Now()
			}
		},
	}
	res, err := Backup(t.Context(), h.open, memRepo(t), Request{Paths: []string{"/srv"}}, nil)
	if err != nil || res.Outcome != Complete {
		t.Fatalf("outcome %v, %v", res.Outcome, err)
	}
	if began.Sub(changed) < tick {
		t.Errorf("it was read %v after its last change, within the clock's step", began.Sub(changed))
	}
}

// liveHost bends one file of the live volume.
type liveHost struct {
	*memHost
	file *bentFile
}

func (h *liveHost) open(ctx context.Context) (session.Session, error) {
	_, err := h.memHost.open(ctx)
	return h, err
}

func (h *liveHost) Live(ctx context.Context, id string) (session.Tree, error) {
	t, err := h.memHost.Live(ctx, id)
	return &bentFiles{t, "srv/x", h.file}, err
}

// TestWhatTurnsFromDirectoryToFileFailsAlone: the record could not hold both.
func TestWhatTurnsFromDirectoryToFileFailsAlone(t *testing.T) {
	h := &bentHost{memHost: newMemHost(volume("srv/app/db", "srv/y"))}
	h.bend = func(tr session.Tree) session.Tree { return &turned{tr} }
	h.writer(t, "app", func(m *metadata.WriterMetadata) []error {
		return []error{fileGroup(m, "all", true, spec("/srv/app", "db", false))}
	})
	res, content := h.backup(t, Request{Paths: []string{"/srv"}})
	if res.Outcome != Incomplete || len(res.Failures) != 1 || res.Failures[0].Path != "/srv/app" || content["srv/app/db"] == "" || content["srv/y"] == "" {
		t.Errorf("outcome %v, failures %+v, content %v", res.Outcome, res.Failures, content)
	}
}

// turned lists app as a file where it was a directory.
type turned struct{ session.Tree }

func (t *turned) ReadDir(ctx context.Context, name string, fn func(session.Entry, error) error) error {
	return t.Tree.ReadDir(ctx, name, func(e session.Entry, err error) error {
		if path.Join(name, e.Name) == "srv/app" {
			e.Mode = 0
		}
		return fn(e, err)
	})
}

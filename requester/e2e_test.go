//go:build linux

package requester_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/provider/providers/btrfs"
	"github.com/sombra-backup/sombra/provider/providers/precopy"
	"github.com/sombra-backup/sombra/provider/providers/reflink"
	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/repository/store"
	"github.com/sombra-backup/sombra/repository/store/mem"
	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/session/coordinator"
	"github.com/sombra-backup/sombra/session/coordinator/hold"
	"github.com/sombra-backup/sombra/session/coordinator/host"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

func providers() []provider.Provider {
	return []provider.Provider{btrfs.New(), reflink.New(), precopy.New()}
}

// TestMain makes the test program its own keeper and writer host.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "test-keeper":
			conn, err := hold.Inherited()
			if err == nil {
				err = hold.KeeperMain(context.Background(), conn, coordinator.KeeperHandlers(providers()))
			}
			if err != nil {
				fmt.Fprintln(os.Stderr, "keeper:", err)
				os.Exit(1)
			}
			os.Exit(0)
		case "test-client":
			os.Exit(sqliteClient(os.Args[2]))
		case "test-host":
			os.Exit(host.Main(context.Background(), testKinds))
		}
	}
	os.Exit(m.Run())
}

// world is a directory with data, a repository and the service over both.
type world struct {
	t       *testing.T
	dir     string // of the data
	repo    *repository.Repository
	store   store.Store
	opts    coordinator.Options
	writers []*docWriter
	more    []writer.Writer // in this process too
}

// scratch is a directory on a real file system, not on tmpfs.
func scratch(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "sombra-requester-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldIn(t, filepath.Join(scratch(t), "data"))
}

func newWorldIn(t *testing.T, dir string) *world {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	medium := mem.New()
	repo, err := repository.Create(t.Context(), medium, []byte("secret"), repository.Options{
		KDF: repository.KDF{Time: 1, Memory: 64, Threads: 1}, TempDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { repo.Close() })
	return &world{t: t, dir: dir, repo: repo, store: medium, opts: coordinator.Options{
		StateDir: filepath.Join(scratch(t), "state"), Providers: providers(),
		KeeperArgs: []string{"test-keeper"}, HostArgs: []string{"test-host"},
	}}
}

// anew opens the repository as another program would, which has written nothing
// of it.
func (w *world) anew() {
	w.t.Helper()
	repo, err := repository.Open(w.t.Context(), w.store, []byte("secret"), repository.Options{TempDir: w.t.TempDir()})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { repo.Close() })
	w.repo = repo
}

func (w *world) open(ctx context.Context) (session.Session, error) {
	o := w.opts
	o.InProcess = slices.Clone(w.more)
	for _, d := range w.writers {
		o.InProcess = append(o.InProcess, d)
	}
	return coordinator.Open(ctx, o)
}

// path is a path in the data directory.
func (w *world) path(name string) string { return filepath.Join(w.dir, filepath.FromSlash(name)) }

// write makes a file with a content that its name and a word give.
func (w *world) write(name, content string) {
	w.t.Helper()
	p := w.path(name)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) mkdir(name string) {
	w.t.Helper()
	if err := os.MkdirAll(w.path(name), 0o755); err != nil {
		w.t.Fatal(err)
	}
}

// settle waits until files written now are too old to be taken for changed.
func (w *world) age(names ...string) {
	w.t.Helper()
	old := time.Now().Add(-time.Hour)
	for _, n := range names {
		if err := os.Chtimes(w.path(n), old, old); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) backup(r requester.Request) *requester.Result {
	w.t.Helper()
	res, err := requester.Backup(w.t.Context(), w.open, w.repo, r, nil)
	if err != nil {
		w.t.Fatalf("backup: %v", err)
	}
	return res
}

func (w *world) wipe() {
	w.t.Helper()
	list, err := os.ReadDir(w.dir)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range list {
		if err := os.RemoveAll(filepath.Join(w.dir, e.Name())); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) restore(rec *repository.Record, r requester.RestoreRequest) *requester.RestoreResult {
	w.t.Helper()
	res, err := requester.Restore(w.t.Context(), w.open, w.repo, rec, r, nil)
	if err != nil {
		w.t.Fatalf("restore: %v", err)
	}
	return res
}

// tree reads everything below a directory into lines, one an object.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		if rel == ".sombra" {
			return filepath.SkipDir
		}
		i, err := d.Info()
		if err != nil {
			return err
		}
		line := fmt.Sprintf("%v", i.Mode())
		switch {
		case i.Mode().IsRegular():
			data, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %d %s %x", i.Size(), i.ModTime().UTC().Format(time.RFC3339Nano), data)
		case i.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(p)
			if err != nil {
				return err
			}
			line += " " + target
		}
		out[rel] = line
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func diffTrees(t *testing.T, got, want map[string]string) {
	t.Helper()
	for name, line := range want {
		if got[name] == "" {
			t.Errorf("%s is missing", name)
		} else if got[name] != line {
			t.Errorf("%s: got %.200s, want %.200s", name, got[name], line)
		}
	}
	for name := range got {
		if want[name] == "" {
			t.Errorf("%s is there and should not be", name)
		}
	}
}

// docWriter is a writer in full whose document a test writes.
type docWriter struct {
	name     string
	class    vss.GUID
	required bool
	method   metadata.RestoreMethod
	build    func(m *metadata.WriterMetadata) []error
	on       map[writer.EventKind]func(e *writer.Event) error

	once     sync.Once
	instance vss.GUID
	mu       sync.Mutex
	seen     []writer.EventKind
	ok       map[string]bool // GetBackupSucceeded as seen in BackupComplete
	status   map[string]vss.FileRestoreStatus
}

func newDocWriter(name string, build func(m *metadata.WriterMetadata) []error) *docWriter {
	return &docWriter{name: name, class: vss.NewGUID(), build: build, ok: map[string]bool{}, status: map[string]vss.FileRestoreStatus{},
		method: metadata.RestoreMethod{Method: vss.RestoreMethodIfCanReplace, WriterRestore: vss.WriterRestoreAlways},
		on:     map[writer.EventKind]func(e *writer.Event) error{}}
}

// again is the same writer after a restart: a new instance of the same name.
func (d *docWriter) again() *docWriter {
	n := newDocWriter(d.name, d.build)
	n.class, n.method, n.on = d.class, d.method, d.on
	return n
}

func (d *docWriter) Describe() writer.Description {
	return writer.Description{Stillness: writer.FilesStill}
}

func (d *docWriter) Identify(context.Context) (*metadata.WriterMetadata, error) {
	d.once.Do(func() { d.instance = vss.NewGUID() })
	m, err := metadata.NewWriterMetadata(metadata.Identity{InstanceID: d.instance, ClassID: d.class, Name: d.name,
		InstanceName: d.name, Usage: vss.UsageUserData, Source: vss.SourceOther})
	if err != nil {
		return nil, err
	}
	errs := []error{m.SetRestoreMethod(d.method), m.SetBackupSchema(vss.SchemaCopy)}
	return m, errors.Join(append(errs, d.build(m)...)...)
}

func (d *docWriter) event(k writer.EventKind, e *writer.Event) error {
	d.mu.Lock()
	d.seen = append(d.seen, k)
	if e.Components != nil {
		for _, c := range e.Components.Components() {
			switch k {
			case writer.EventBackupComplete:
				d.ok[c.FullPath()], _ = c.BackupSucceeded()
			case writer.EventPostRestore:
				d.status[c.FullPath()] = c.FileRestoreStatus()
			}
		}
	}
	d.mu.Unlock()
	if f := d.on[k]; f != nil {
		return f(e)
	}
	return nil
}

func (d *docWriter) saw(k writer.EventKind) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Contains(d.seen, k)
}

func (d *docWriter) PrepareForBackup(_ context.Context, e *writer.Event) error {
	return d.event(writer.EventPrepareForBackup, e)
}
func (d *docWriter) PrepareForSnapshot(_ context.Context, e *writer.Event) error {
	return d.event(writer.EventPrepareForSnapshot, e)
}
func (d *docWriter) Freeze(_ context.Context, e *writer.Event) error {
	return d.event(writer.EventFreeze, e)
}
func (d *docWriter) Thaw(_ context.Context, e *writer.Event) error {
	return d.event(writer.EventThaw, e)
}
func (d *docWriter) PostSnapshot(_ context.Context, e *writer.Event) error {
	return d.event(writer.EventPostSnapshot, e)
}
func (d *docWriter) BackupComplete(_ context.Context, e *writer.Event) error {
	return d.event(writer.EventBackupComplete, e)
}
func (d *docWriter) BackupShutdown(_ context.Context, e *writer.Event) error {
	return d.event(writer.EventBackupShutdown, e)
}
func (d *docWriter) Abort(_ context.Context, e *writer.Event) error {
	return d.event(writer.EventAbort, e)
}
func (d *docWriter) PreRestore(_ context.Context, e *writer.Event) error {
	return d.event(writer.EventPreRestore, e)
}
func (d *docWriter) PostRestore(_ context.Context, e *writer.Event) error {
	return d.event(writer.EventPostRestore, e)
}

func group(m *metadata.WriterMetadata, path, name string, selectable bool) error {
	return m.AddComponent(metadata.ComponentInfo{Type: vss.ComponentTypeFileGroup, LogicalPath: path, Name: name,
		Selectable: selectable, SelectableForRestore: true})
}

func files(m *metadata.WriterMetadata, path, name, dir, pattern string, recursive bool) error {
	return m.AddFilesToFileGroup(path, name, vss.FileSpec{Path: dir, Pattern: pattern, Recursive: recursive}, "", vss.DefaultFileSpecBackupType)
}

func leftOut(list []requester.LeftOut) string {
	var b strings.Builder
	for _, l := range list {
		fmt.Fprintf(&b, "%s %s:%s (%s, asked %v)\n", l.Path, l.Writer, l.Component, l.Reason, l.Asked)
	}
	return b.String()
}

func TestBackupAndRestoreOfPlainFiles(t *testing.T) {
	w := newWorld(t)
	w.write("a.txt", "first")
	w.write("sub/b.bin", strings.Repeat("0123456789", 100_000))
	w.write("sub/empty", "")
	w.mkdir("sub/nothing")
	if err := os.Symlink("../a.txt", w.path("sub/link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(w.path("a.txt"), w.path("sub/hard")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(w.path("sub/nothing"), 0o700|fs.ModeSticky); err != nil {
		t.Fatal(err)
	}
	sparse, err := os.Create(w.path("sparse"))
	if err != nil {
		t.Fatal(err)
	}
	sparse.WriteAt([]byte("end"), 64<<20)
	sparse.Close()
	before := tree(t, w.dir)
	res := w.backup(requester.Request{Paths: []string{w.dir}})
	if res.Outcome != requester.Complete {
		t.Fatalf("outcome %v: %+v\n%s", res.Outcome, res.Failures, leftOut(res.LeftOut))
	}
	w.wipe()
	back := w.restore(res.Record, requester.RestoreRequest{})
	if back.Outcome != requester.Complete {
		t.Fatalf("outcome %v: %+v", back.Outcome, back.Failures)
	}
	diffTrees(t, tree(t, w.dir), before)
	a, _ := os.Stat(w.path("a.txt"))
	b, _ := os.Stat(w.path("sub/hard"))
	if !os.SameFile(a, b) {
		t.Error("the hard link is a file of its own (R-SET-19)")
	}
}

func TestBackupAndRestoreWithWriter(t *testing.T) {
	w := newWorld(t)
	w.write("app/db", "the data")
	w.write("app/skip.tmp", "x")
	w.write("notes.txt", "plain")
	d := newDocWriter("app", func(m *metadata.WriterMetadata) []error {
		return []error{
			group(m, "", "main", true),
			files(m, "", "main", w.path("app"), "*", true),
			m.AddExcludeFiles(vss.FileSpec{Path: w.path("app"), Pattern: "*.tmp"}),
		}
	})
	w.writers = []*docWriter{d}
	before := tree(t, w.dir)
	res := w.backup(requester.Request{Paths: []string{w.dir}})
	if res.Outcome != requester.Complete {
		t.Fatalf("outcome %v: %+v\n%s", res.Outcome, res, leftOut(res.LeftOut))
	}
	if !d.saw(writer.EventBackupComplete) || !d.ok["main"] {
		t.Errorf("the writer saw %v, success %v", d.seen, d.ok)
	}
	w.wipe()
	d = d.again()
	w.writers = []*docWriter{d}
	back := w.restore(res.Record, requester.RestoreRequest{})
	if back.Outcome != requester.Complete {
		t.Fatalf("outcome %v: %+v", back.Outcome, back)
	}
	delete(before, "app/skip.tmp") // R-SET-10
	diffTrees(t, tree(t, w.dir), before)
	if d.status["main"] != vss.FileRestoreStatusAll {
		t.Errorf("file restore status %v, want ALL (R-RES-32)", d.status["main"])
	}
}

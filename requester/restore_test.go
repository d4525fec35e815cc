//go:build linux

package requester_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/repository/store"
	"github.com/sombra-backup/sombra/repository/store/mem"
	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// appWorld has a writer with one component of everything in app, and a plain
// file beside it.
func appWorld(t *testing.T) (*world, *docWriter) {
	t.Helper()
	w := newWorld(t)
	w.write("app/db", "the data")
	w.write("app/log", "the log")
	w.write("notes.txt", "plain")
	d := newDocWriter("app", func(m *metadata.WriterMetadata) []error {
		return []error{group(m, "", "main", true), files(m, "", "main", w.path("app"), "*", true)}
	})
	w.writers = []*docWriter{d}
	return w, d
}

func (w *world) paths() requester.Request { return requester.Request{Paths: []string{w.dir}} }

func TestRestoreOfWriterThatIsNotRunningR_SEL_28(t *testing.T) {
	w, _ := appWorld(t)
	before := tree(t, w.dir)
	res := w.backup(w.paths())
	w.wipe()
	w.writers = nil
	back := w.restore(res.Record, requester.RestoreRequest{})
	if back.Outcome != requester.Incomplete || !strings.Contains(leftOut(back.LeftOut), "--no-writers") {
		t.Errorf("outcome %v, left out %s", back.Outcome, leftOut(back.LeftOut))
	}
	if got := tree(t, w.dir); got["notes.txt"] == "" || got["app/db"] != "" {
		t.Errorf("restored %v", got)
	}
	back = w.restore(res.Record, requester.RestoreRequest{NoWriters: true})
	if back.Outcome != requester.Complete {
		t.Errorf("without writers: outcome %v, %+v", back.Outcome, back.Failures)
	}
	diffTrees(t, tree(t, w.dir), before)
}

func TestRestoreMethodIfNotThereR_RES_5(t *testing.T) {
	w, d := appWorld(t)
	d.method.Method = vss.RestoreMethodIfNotThere
	res := w.backup(w.paths())
	w.write("app/db", "newer data")
	d = d.again()
	w.writers = []*docWriter{d}
	back := w.restore(res.Record, requester.RestoreRequest{Selectors: requester.Selectors{Components: []string{"main"}}})
	if back.Outcome != requester.Incomplete || d.status["main"] != vss.FileRestoreStatusNone {
		t.Errorf("outcome %v, status %v", back.Outcome, d.status["main"])
	}
	if got, _ := os.ReadFile(w.path("app/db")); string(got) != "newer data" {
		t.Errorf("a file that was there was replaced by %q", got)
	}
	w.wipe()
	d = d.again()
	w.writers = []*docWriter{d}
	back = w.restore(res.Record, requester.RestoreRequest{})
	if back.Outcome != requester.Complete || d.status["main"] != vss.FileRestoreStatusAll {
		t.Errorf("outcome %v, status %v, %s", back.Outcome, d.status["main"], leftOut(back.LeftOut))
	}
}

func TestRestoreOneBlockedFileHoldsBackItsSetR_RES_6(t *testing.T) {
	w, d := appWorld(t)
	res := w.backup(w.paths())
	w.wipe()
	w.mkdir("app/log/in the way")
	d = d.again()
	w.writers = []*docWriter{d}
	back := w.restore(res.Record, requester.RestoreRequest{})
	if back.Outcome != requester.Incomplete || d.status["main"] != vss.FileRestoreStatusNone {
		t.Errorf("outcome %v, status %v", back.Outcome, d.status["main"])
	}
	if _, err := os.Lstat(w.path("app/db")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a file of the set was restored although another cannot be (R-RES-2)")
	}
	if !d.saw(writer.EventPostRestore) {
		t.Error("the writer got no PostRestore")
	}
}

func TestRestoreRefusedByItsWriter(t *testing.T) {
	w, d := appWorld(t)
	res := w.backup(w.paths())
	w.wipe()
	d = d.again()
	d.on[writer.EventPreRestore] = func(*writer.Event) error {
		return vss.Errorf(vss.ErrWriterErrorNonRetryable, "PreRestore", "app", "the database is open")
	}
	w.writers = []*docWriter{d}
	back := w.restore(res.Record, requester.RestoreRequest{})
	if back.Outcome != requester.Incomplete || !strings.Contains(leftOut(back.LeftOut), "the database is open") {
		t.Errorf("outcome %v: %s", back.Outcome, leftOut(back.LeftOut))
	}
	if _, err := os.Lstat(w.path("app/db")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("files were restored against the writer's word")
	}
}

func TestRestoreOfChosenComponents(t *testing.T) {
	w := newWorld(t)
	for _, f := range []string{"a/one", "b/two", "plain"} {
		w.write(f, f)
	}
	d := newDocWriter("app", func(m *metadata.WriterMetadata) []error {
		return []error{
			group(m, "", "top", true), group(m, "top", "a", false), files(m, "top", "a", w.path("a"), "*", false),
			group(m, "top", "b", false), files(m, "top", "b", w.path("b"), "*", false),
		}
	})
	w.writers = []*docWriter{d}
	res := w.backup(w.paths())
	for _, tt := range []struct {
		req  requester.RestoreRequest
		want string
	}{
		{requester.RestoreRequest{Selectors: requester.Selectors{Components: []string{`top\a`}}}, "a/one"},
		{requester.RestoreRequest{Selectors: requester.Selectors{Writers: []string{"app"}}}, "a/one b/two"},
		{requester.RestoreRequest{Include: []string{w.path("plain")}}, "plain"},
		{requester.RestoreRequest{Include: []string{w.path("b")}}, "a/one b/two"},
		{requester.RestoreRequest{Selectors: requester.Selectors{ExcludeWriters: []string{"app"}}}, "plain"},
		{requester.RestoreRequest{NoWriters: true, Include: []string{w.path("b")}}, "b/two"},
		{requester.RestoreRequest{NoWriters: true, Selectors: requester.Selectors{Components: []string{`top`}}}, "a/one b/two"},
		{requester.RestoreRequest{DryRun: true}, ""},
	} {
		w.wipe()
		w.writers = []*docWriter{d.again()}
		back := w.restore(res.Record, tt.req)
		var got []string
		for _, f := range []string{"a/one", "b/two", "plain"} {
			if _, err := os.Lstat(w.path(f)); err == nil {
				got = append(got, f)
			}
		}
		if strings.Join(got, " ") != tt.want || back.Outcome != requester.Complete {
			t.Errorf("%+v: restored %q, want %q; outcome %v, %s", tt.req, got, tt.want, back.Outcome, leftOut(back.LeftOut))
		}
	}
}

func TestRestoreCanBeRunAgain(t *testing.T) {
	w, d := appWorld(t)
	for i := range 50 {
		w.write(fmt.Sprintf("many/f%02d", i), strings.Repeat("x", 1000*i))
	}
	before := tree(t, w.dir)
	res := w.backup(w.paths())
	w.wipe()
	ctx, cancel := context.WithCancel(t.Context())
	stop := &stopper{after: 20, stop: cancel}
	w.writers = []*docWriter{d.again()}
	back, err := requester.Restore(ctx, w.open, w.repo, res.Record, requester.RestoreRequest{}, stop)
	if back.Outcome != requester.Interrupted || !errors.Is(err, context.Canceled) {
		t.Fatalf("outcome %v, %v", back.Outcome, err)
	}
	if !w.writers[0].saw(writer.EventPostRestore) {
		t.Error("an interrupted restore leaves its writer without PostRestore")
	}
	w.writers = []*docWriter{d.again()}
	back = w.restore(res.Record, requester.RestoreRequest{})
	if back.Outcome != requester.Complete || back.Totals.Unchanged == 0 {
		t.Errorf("outcome %v, totals %+v", back.Outcome, back.Totals)
	}
	diffTrees(t, tree(t, w.dir), before)
}

// stopper is a reporter that stops after some files.
type stopper struct {
	requester.Reporter
	after int64
	seen  atomic.Int64
	stop  func()
}

func (s *stopper) Phase(requester.Phase)                        {}
func (s *stopper) Step(session.Step)                            {}
func (s *stopper) Plan(*requester.Plan)                         {}
func (s *stopper) Status(requester.Phase, session.WriterStatus) {}
func (s *stopper) Totals(requester.Totals)                      {}
func (s *stopper) Warning(string)                               {}
func (s *stopper) File(requester.FileEvent) {
	if s.seen.Add(1) == s.after {
		s.stop()
	}
}

func TestInterruptedBackupLeavesNothing(t *testing.T) {
	w, d := appWorld(t)
	for i := range 50 {
		w.write(fmt.Sprintf("many/f%02d", i), strings.Repeat("x", 1000*i))
	}
	ctx, cancel := context.WithCancel(t.Context())
	res, err := requester.Backup(ctx, w.open, w.repo, w.paths(), &stopper{after: 10, stop: cancel})
	if res.Outcome != requester.Interrupted || !errors.Is(err, context.Canceled) {
		t.Fatalf("outcome %v, %v", res.Outcome, err)
	}
	if list, _ := w.repo.Records(t.Context()); len(list) != 0 {
		t.Errorf("%d records", len(list))
	}
	if d.saw(writer.EventBackupComplete) {
		t.Error("BackupComplete was sent without a record")
	}
	s, err := w.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if list, err := s.QuerySnapshots(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("shadow copies are left: %v, %v", list, err)
	}
	if res := w.backup(w.paths()); res.Outcome != requester.Complete {
		t.Errorf("the next backup: %v", res.Outcome)
	}
}

func TestAttributesComeBack(t *testing.T) {
	w := newWorld(t)
	w.write("f", "x")
	w.mkdir("d")
	root := os.Geteuid() == 0
	if err := unix.Setxattr(w.path("f"), "user.colour", []byte("blue"), 0); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(w.path("pipe"), 0o640); err != nil {
		t.Fatal(err)
	}
	sock, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(sock)
	if err := unix.Bind(sock, &unix.SockaddrUnix{Name: w.path("sock")}); err != nil {
		t.Fatal(err)
	}
	if root {
		if err := unix.Mknod(w.path("dev"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(w.path("f"), 12345, 23456); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(w.path("f"), 0o755|fs.ModeSetuid); err != nil {
		t.Fatal(err)
	}
	when := time.Date(1999, 12, 31, 23, 59, 58, 123456789, time.UTC)
	for _, n := range []string{"f", "d"} {
		if err := os.Chtimes(w.path(n), when, when); err != nil {
			t.Fatal(err)
		}
	}
	before := tree(t, w.dir)
	res := w.backup(w.paths())
	if res.Outcome != requester.Complete || !strings.Contains(leftOut(res.LeftOut), "sock") {
		t.Errorf("outcome %v, left out %s", res.Outcome, leftOut(res.LeftOut))
	}
	w.wipe()
	w.restore(res.Record, requester.RestoreRequest{})
	delete(before, "sock")
	diffTrees(t, tree(t, w.dir), before)
	var st unix.Stat_t
	if err := unix.Lstat(w.path("f"), &st); err != nil {
		t.Fatal(err)
	}
	if root && (st.Uid != 12345 || st.Gid != 23456) {
		t.Errorf("owner %d:%d", st.Uid, st.Gid)
	}
	buf := make([]byte, 16)
	if n, err := unix.Getxattr(w.path("f"), "user.colour", buf); err != nil || string(buf[:n]) != "blue" {
		t.Errorf("extended attribute %q, %v", buf[:max(n, 0)], err)
	}
	if i, _ := os.Stat(w.path("d")); !i.ModTime().Equal(when) {
		t.Errorf("the directory's time is %v", i.ModTime())
	}
	if root {
		if err := unix.Lstat(w.path("dev"), &st); err != nil || st.Rdev != unix.Mkdev(1, 3) {
			t.Errorf("device %x, %v", st.Rdev, err)
		}
	}
}

func TestParentsAreMadeAndNotChanged(t *testing.T) {
	w := newWorld(t)
	w.write("top/mid/f", "x")
	if err := os.Chmod(w.path("top"), 0o710); err != nil {
		t.Fatal(err)
	}
	res := w.backup(requester.Request{Paths: []string{w.path("top/mid")}})
	w.wipe()
	w.restore(res.Record, requester.RestoreRequest{})
	if i, err := os.Stat(w.path("top")); err != nil || i.Mode().Perm() != 0o710 {
		t.Errorf("a directory above what was chosen came back as %v, %v", i, err)
	}
	if err := os.Chmod(w.path("top"), 0o755); err != nil {
		t.Fatal(err)
	}
	w.restore(res.Record, requester.RestoreRequest{})
	if i, _ := os.Stat(w.path("top")); i.Mode().Perm() != 0o755 {
		t.Errorf("a directory above what was chosen was changed to %v", i.Mode())
	}
}

func TestExtractIntoADirectory(t *testing.T) {
	w, _ := appWorld(t)
	before := tree(t, w.dir)
	res := w.backup(w.paths())
	into := scratch(t)
	w.writers = nil
	back, err := requester.Extract(t.Context(), w.open, w.repo, res.Record, requester.ExtractRequest{Dir: into}, nil)
	if err != nil || back.Outcome != requester.Complete || !back.Extraction {
		t.Fatalf("outcome %v, %v: %+v", back.Outcome, err, back.Failures)
	}
	diffTrees(t, tree(t, filepath.Join(into, w.dir)), before)
	into = scratch(t)
	_, err = requester.Extract(t.Context(), w.open, w.repo, res.Record, requester.ExtractRequest{Dir: into, Include: []string{"notes.*"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := tree(t, filepath.Join(into, w.dir)); len(got) != 2 || got["notes.txt"] == "" {
		t.Errorf("extracted %v", got)
	}
}

func TestUnchangedFilesAreNotReadAgain(t *testing.T) {
	w, _ := appWorld(t)
	w.write("big", strings.Repeat("abcdefgh", 1<<18))
	time.Sleep(2100 * time.Millisecond) // changes this young could have come after the reading
	first := w.backup(w.paths())
	if first.Totals.Unchanged != 0 {
		t.Fatalf("totals %+v", first.Totals)
	}
	second := w.backup(w.paths())
	if second.Totals.Unchanged != 2 {
		t.Errorf("totals %+v: notes.txt and big are unchanged; files of components are always read", second.Totals)
	}
	i, _ := os.Stat(w.path("big"))
	data := []byte(strings.Repeat("abcdefgh", 1<<18))
	data[77] = 'X'
	if err := os.WriteFile(w.path("big"), data, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(w.path("big"), i.ModTime(), i.ModTime()); err != nil {
		t.Fatal(err)
	}
	before := tree(t, w.dir)
	third := w.backup(w.paths())
	w.wipe()
	w.writers = []*docWriter{w.writers[0].again()}
	w.restore(third.Record, requester.RestoreRequest{})
	diffTrees(t, tree(t, w.dir), before)
}

func TestFileThatChangesWhileItIsReadLive(t *testing.T) {
	w := newWorld(t)
	w.write("busy", strings.Repeat("0123456789", 1<<20))
	w.write("calm", "x")
	done := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		f, err := os.OpenFile(w.path("busy"), os.O_WRONLY, 0)
		if err != nil {
			return
		}
		defer f.Close()
		for {
			select {
			case <-done:
				return
			default:
				f.WriteAt([]byte("y"), 5)
				time.Sleep(time.Millisecond)
			}
		}
	}()
	res := w.backup(w.paths())
	close(done)
	<-stopped
	if res.Level != "none" {
		t.Skipf("SKIPPED: the volume of %s has shadow copies of level %s, so nothing is read live", w.dir, res.Level)
	}
	if res.Outcome != requester.Incomplete || len(res.Failures) != 1 || !strings.Contains(res.Failures[0].Error, "changed while it was read") {
		t.Errorf("outcome %v, failures %+v", res.Outcome, res.Failures)
	}
	back := w.restore(res.Record, requester.RestoreRequest{})
	if back.Outcome != requester.Incomplete || !strings.Contains(fmt.Sprint(back.Failures), "it was not saved") {
		t.Errorf("restore: outcome %v, %+v", back.Outcome, back.Failures)
	}
}

// fullStore is a store that runs out of room.
type fullStore struct {
	store.Store
	left atomic.Int64
}

func (s *fullStore) Put(ctx context.Context, name string, data []byte) error {
	if s.left.Add(-int64(len(data))) < 0 {
		return &fs.PathError{Op: "write", Path: name, Err: syscall.ENOSPC}
	}
	return s.Store.Put(ctx, name, data)
}

func TestRepositoryWithoutRoomEndsTheBackup(t *testing.T) {
	w, d := appWorld(t)
	st := &fullStore{Store: mem.New()}
	st.left.Store(1 << 20)
	repo, err := repository.Create(t.Context(), st, []byte("x"), repository.Options{KDF: repository.KDF{Time: 1, Memory: 64, Threads: 1}, TempDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer repo.Close()
	st.left.Store(0)
	res, err := requester.Backup(t.Context(), w.open, repo, w.paths(), nil)
	if res.Outcome != requester.Failed || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("outcome %v, %v", res.Outcome, err)
	}
	if d.saw(writer.EventBackupComplete) {
		t.Error("BackupComplete was sent without a record")
	}
}

// handmade commits a record of entries and documents that a test made.
func handmade(t *testing.T, w *world, docs map[string]string, entries ...repository.Entry) *repository.Record {
	t.Helper()
	b, err := w.repo.Begin(t.Context(), repository.BeginOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Abort()
	for _, e := range entries {
		e.Root = "/"
		if e.Type == repository.Regular {
			if e.Content, err = b.PutBytes(t.Context(), []byte("evil")); err != nil {
				t.Fatal(err)
			}
			e.Size = 4
		}
		if err := b.Add(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	summary := fmt.Appendf(nil, `{"outcome":"complete","roots":[%q]}`, w.dir)
	info := repository.RecordInfo{Time: time.Now(), Started: time.Now(), Host: repository.Host{ID: "x", PathStyle: "posix"}, Summary: summary,
		Roots: []repository.Root{{ID: "/", Path: "/"}}, State: repository.Complete, Documents: map[string]repository.Content{}}
	for name, text := range docs {
		if info.Documents[name], err = b.PutBytes(t.Context(), []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	rec, err := b.Commit(t.Context(), info)
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

func TestRestoreWithDamagedDocuments(t *testing.T) {
	for _, docs := range []map[string]string{
		{requester.DocBCD: "<BACKUP_COMPONENTS"},
		{requester.DocBCD: "not XML at all", requester.DocWriters: "[]"},
		{requester.DocBCD: `<BACKUP_COMPONENTS xmlns="x-schema:#VssComponentMetadata" version="1.2"/>`, requester.DocWriters: "{"},
		{requester.DocBCD: `<BACKUP_COMPONENTS xmlns="x-schema:#VssComponentMetadata" version="1.2"/>`, requester.DocWriters: `[{"document":"bcd.xml"}]`},
	} {
		w := newWorld(t)
		file := strings.TrimPrefix(w.path("app/db"), "/")
		rec := handmade(t, w, docs, repository.Entry{Path: file, Type: repository.Regular, Mode: 0o600, UID: uint32(os.Getuid()), GID: uint32(os.Getgid()),
			Attrs: map[string]string{requester.AttrWriter: "app", requester.AttrWriterClass: vss.NewGUID().String(),
				requester.AttrComponent: "main", requester.AttrComponentSet: "main"}})
		_, err := requester.Restore(t.Context(), w.open, w.repo, rec, requester.RestoreRequest{}, nil)
		if !errors.Is(err, requester.ErrDocuments) || !strings.Contains(err.Error(), "--no-writers") {
			t.Errorf("%v: got %v", docs, err)
		}
		back := w.restore(rec, requester.RestoreRequest{NoWriters: true})
		if back.Outcome != requester.Complete || len(back.Warnings) == 0 {
			t.Errorf("%v: outcome %v, warnings %q: it must say that the documents are damaged", docs, back.Outcome, back.Warnings)
		}
		if got, _ := os.ReadFile(w.path("app/db")); string(got) != "evil" {
			t.Errorf("%v: restored %q", docs, got)
		}
	}
}

func TestHostileRecordStaysInside(t *testing.T) {
	outside := scratch(t)
	victim := filepath.Join(outside, "victim")
	if err := os.WriteFile(victim, []byte("untouched"), 0o600); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	rec := handmade(t, w, nil, repository.Entry{Path: "content", Type: repository.Regular})
	donor, err := rec.Table().Lookup(t.Context(), "/", "content")
	if err != nil {
		t.Fatal(err)
	}
	file := func(name string) *repository.Entry {
		return &repository.Entry{Root: "/", Path: name, Type: repository.Regular, Mode: 0o644, Size: donor.Size, Content: donor.Content}
	}
	hard := func(name string) *repository.Entry {
		e := file(name)
		e.HardLink = 1
		return e
	}
	link := &repository.Entry{Root: "/", Path: "d", Type: repository.Symlink, LinkTarget: outside}
	long := file("long")
	long.Size = 1 << 40
	up := strings.Repeat("../", 20) + strings.TrimPrefix(victim, "/")
	for name, entries := range map[string][]*repository.Entry{
		"a symlink, then a write through it":      {link, file("d/victim")},
		"a hard link to a name through a link":    {link, hard("e"), hard("d/victim")},
		"a hard link from a name through a link":  {link, hard("d/victim"), hard("e2")},
		"a directory through a link":              {link, {Root: "/", Path: "d/new", Type: repository.Directory, Mode: 0o777}},
		"a pipe through a link":                   {link, {Root: "/", Path: "d/pipe", Type: repository.Fifo, Mode: 0o777}},
		"a file that replaces a link's directory": {link, file("d/sub/victim")},
		"an absolute name":                        {file(victim)},
		"dots":                                    {file(up)},
		"dots in the middle":                      {file("a/" + up)},
		"a NUL":                                   {file("a\x00b")},
		"an empty part":                           {file("a//b")},
		"another root":                            {{Root: "x", Path: "f", Type: repository.Regular}},
		"a size that its content has not":         {long},
	} {
		into := scratch(t)
		s, err := w.open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		target, err := s.Target(t.Context(), into, nil)
		if err != nil {
			t.Fatal(err)
		}
		failures, err := requester.PutAll(t.Context(), w.repo, rec, target, entries)
		if err == nil && len(failures) == 0 {
			t.Errorf("%s: no error", name)
		}
		for _, f := range failures {
			if f.Path == "" || f.Error == "" {
				t.Errorf("%s: %+v names nothing", name, f)
			}
		}
		target.Close()
		s.Close()
	}
	// What is there already as a link where the record has a directory.
	into := scratch(t)
	if err := os.Symlink(outside, filepath.Join(into, "d")); err != nil {
		t.Fatal(err)
	}
	rec = handmade(t, w, nil, repository.Entry{Path: "d", Type: repository.Directory, Mode: 0o755}, repository.Entry{Path: "d/victim", Type: repository.Regular})
	back, err := requester.Extract(t.Context(), w.open, w.repo, rec, requester.ExtractRequest{Dir: into}, nil)
	if err != nil || back.Outcome != requester.Incomplete {
		t.Errorf("a link in the way: outcome %v, %v", back.Outcome, err)
	}
	list, _ := os.ReadDir(outside)
	if got, _ := os.ReadFile(victim); string(got) != "untouched" || len(list) != 1 {
		t.Errorf("outside the target: %q, %v", got, list)
	}
}

func TestBackupWithoutWriters(t *testing.T) {
	w, d := appWorld(t)
	before := tree(t, w.dir)
	res := w.backup(requester.Request{Paths: []string{w.dir}, NoWriters: true})
	if res.Outcome != requester.Complete || len(res.Components) != 0 || len(d.seen) != 0 {
		t.Errorf("outcome %v, components %+v, events %v", res.Outcome, res.Components, d.seen)
	}
	w.wipe()
	if back := w.restore(res.Record, requester.RestoreRequest{}); back.Outcome != requester.Complete {
		t.Errorf("restore: outcome %v, %+v", back.Outcome, back.Failures)
	}
	diffTrees(t, tree(t, w.dir), before)
}

func TestRecordTellsWhatARestoreNeeds(t *testing.T) {
	w, d := appWorld(t)
	res := w.backup(w.paths())
	var got, plain *repository.Entry
	for e, err := range res.Record.Table().All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		switch filepath.Base(e.Path) {
		case "db":
			got = e
		case "notes.txt":
			plain = e
		}
	}
	if got == nil || plain == nil {
		t.Fatal("entries are missing")
	}
	for key, want := range map[string]string{
		requester.AttrWriter: "app", requester.AttrWriterClass: d.class.String(), requester.AttrWriterName: "app",
		requester.AttrComponent: "main", requester.AttrComponentSet: "main", requester.AttrComponentType: "filegroup",
		requester.AttrSpec: w.path("app") + "|*|recursive", requester.AttrMethod: "RESTORE_IF_CAN_BE_REPLACED", requester.AttrWriterRestore: "always",
	} {
		if got.Attrs[key] != want {
			t.Errorf("%s is %q, want %q", key, got.Attrs[key], want)
		}
	}
	if plain.Attrs[requester.AttrWriter] != "" || plain.Attrs[requester.AttrVolume] == "" {
		t.Errorf("data of no writer: %v", plain.Attrs)
	}
	for _, doc := range []string{requester.DocBCD, requester.DocPlan, requester.DocResult, requester.DocWriters, requester.DocWriter + "0.xml"} {
		if data, err := res.Record.Document(t.Context(), doc, 1<<20); err != nil || len(data) == 0 {
			t.Errorf("document %s: %v", doc, err)
		}
	}
	notes, err := w.repo.Notes(t.Context(), res.Record.ID)
	if err != nil || len(notes) != 1 || notes[0].Kind != requester.NoteComplete || !strings.Contains(string(notes[0].Body), `"outcome":"complete"`) {
		t.Errorf("notes %+v, %v: the outcome of BackupComplete is appended", notes, err)
	}
}

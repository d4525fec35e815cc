package requester_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// afterListing wraps a session so that something happens once the directory of that
// name has been listed.
type afterListing struct {
	session.Session
	name string
	once *sync.Once
	do   func()
}

func (s *afterListing) Live(ctx context.Context, volume string) (session.Tree, error) {
	t, err := s.Session.Live(ctx, volume)
	return &listedTree{t, s}, err
}

// Tree is one that shows what is not in the copy live.
func (s *afterListing) Tree(ctx context.Context, id vss.GUID) (session.Tree, error) {
	t, err := s.Session.Tree(ctx, id)
	return &listedTree{t, s}, err
}

type listedTree struct {
	session.Tree
	s *afterListing
}

func (t *listedTree) ReadDir(ctx context.Context, name string, fn func(session.Entry, error) error) error {
	var list []session.Entry
	err := t.Tree.ReadDir(ctx, name, func(e session.Entry, err error) error {
		if err == nil {
			list = append(list, e)
		}
		return err
	})
	if strings.HasSuffix(name, t.s.name) {
		t.s.once.Do(t.s.do)
	}
	for _, e := range list {
		if err := fn(e, nil); err != nil {
			return err
		}
	}
	return err
}

// vanished collects what is told to have vanished.
type vanished struct {
	requester.Reporter
	mu   sync.Mutex
	list []string
}

func (v *vanished) File(f requester.FileEvent) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if f.Action == "vanished" {
		v.list = append(v.list, f.Path)
	}
}

// backupWhile makes a backup during which something happens once the data
// directory is listed.
func (w *world) backupWhile(name string, do func()) (*requester.Result, []string) {
	w.t.Helper()
	once, told := new(sync.Once), &vanished{Reporter: requester.Quiet}
	open := func(ctx context.Context) (session.Session, error) {
		s, err := w.open(ctx)
		return &afterListing{s, name, once, do}, err
	}
	res, err := requester.Backup(w.t.Context(), open, w.repo, w.paths(), told)
	w.must(err)
	slices.Sort(told.list)
	return res, told.list
}

func TestWhatIsRemovedBeforeItIsReadIsLeftOut(t *testing.T) {
	w := newWorld(t)
	w.write("stays", "stays")
	w.write("file", "file")
	w.write("dir/in/it", "it")
	w.write("other/a", "two names")
	w.must(os.Link(w.path("other/a"), w.path("other/b")))
	w.must(os.Link(w.path("other/a"), w.path("a")))
	w.must(os.Symlink("stays", w.path("link")))
	res, told := w.backupWhile("/data", func() {
		for _, n := range []string{"file", "dir", "a", "link"} {
			w.must(os.RemoveAll(w.path(n)))
		}
	})
	want := []string{w.path("a"), w.path("dir"), w.path("file")}
	if res.Outcome != requester.Complete || res.Failed != 0 || res.Totals.Vanished != int64(len(want)) || !slices.Equal(told, want) {
		t.Errorf("outcome %v, %d vanished %v, failures %+v; want %v", res.Outcome, res.Totals.Vanished, told, res.Failures, want)
	}
	e := w.entries(res.Record)
	for _, n := range []string{"stays", "other/a", "other/b"} {
		if !strings.HasSuffix(e[n], fmt.Sprintf(" %x", map[bool]string{true: "stays", false: "two names"}[n == "stays"])) {
			t.Errorf("%s: %q", n, e[n])
		}
	}
	for _, n := range []string{"file", "a", "dir/in"} {
		if e[n] != "" {
			t.Errorf("%s was removed: %q", n, e[n])
		}
	}
	w.wipe()
	if back := w.restore(res.Record, requester.RestoreRequest{}); back.Outcome != requester.Complete {
		t.Errorf("restore: %v %+v", back.Outcome, back.Failures)
	}
}

// TestWhatIsChosenMustNotVanish: a path of the request is missed when it is gone.
func TestWhatIsChosenMustNotVanish(t *testing.T) {
	w := newWorld(t)
	w.write("dir/file", "file")
	res, _ := w.backupWhile("/data", func() { w.must(os.RemoveAll(w.dir)) })
	if res.Outcome != requester.Incomplete || len(res.Failures) != 1 || res.Failures[0].Path != w.dir {
		t.Errorf("outcome %v, failures %+v", res.Outcome, res.Failures)
	}
}

// TestDataOfAWriterMustNotVanish where its writer lets it be read live.
func TestDataOfAWriterMustNotVanish(t *testing.T) {
	w := newWorld(t)
	w.write("app/db", "db")
	w.write("app/log", "log")
	w.writers = []*docWriter{newDocWriter("app", func(m *metadata.WriterMetadata) []error {
		live := vss.CreatedDuringBackup | vss.FullBackupRequired
		return []error{group(m, "", "main", true),
			m.AddFilesToFileGroup("", "main", vss.FileSpec{Path: w.path("app"), Pattern: "*", Recursive: true}, "", live)}
	})}
	res, told := w.backupWhile("/app", func() { w.must(os.Remove(w.path("app/log"))) })
	if res.Outcome != requester.Incomplete || len(told) != 0 || res.Failed != 1 || res.Failures[0].Path != w.path("app/log") {
		t.Errorf("outcome %v, vanished %v, failures %+v", res.Outcome, told, res.Failures)
	}
}

// TestFilesAreRemovedAllTheTime: a tree in which files come and go is backed up
// without a failure.
func TestFilesAreRemovedAllTheTime(t *testing.T) {
	w := newWorld(t)
	w.write("stays", "stays")
	stop := make(chan struct{})
	var work sync.WaitGroup
	for n := range 2 {
		work.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
					dir := w.path(fmt.Sprintf("d%d-%d", n, i))
					if os.MkdirAll(dir, 0o755) == nil {
						for f := range 20 {
							os.WriteFile(fmt.Sprintf("%s/%d", dir, f), []byte("x"), 0o600)
						}
					}
					os.RemoveAll(w.path(fmt.Sprintf("d%d-%d", n, i-5)))
				}
			}
		})
	}
	gone := int64(0)
	for range 6 {
		res := w.backup(w.paths())
		if res.Outcome != requester.Complete {
			t.Errorf("outcome %v: %+v", res.Outcome, res.Failures)
		}
		gone += res.Totals.Vanished
	}
	close(stop)
	work.Wait()
	t.Logf("%d objects vanished", gone)
}

package sqlite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// TestWhatLiesBesideIsNoFile: a link, pipe, socket or directory where SQLite
// keeps its log, index or journal is refused with its name. A pipe would hold the
// writer for ever, and a link have a file made where it leads.
func TestWhatLiesBesideIsNoFile(t *testing.T) {
	for _, mode := range []string{"wal", "delete"} {
		for _, ending := range endings {
			for what, put := range map[string]func(path, elsewhere string) error{
				"a link that leads nowhere": func(path, elsewhere string) error { return os.Symlink(elsewhere, path) },
				"a link to a file": func(path, elsewhere string) error {
					return errors.Join(os.WriteFile(elsewhere, []byte(big), 0o600), os.Symlink(elsewhere, path))
				},
				"a pipe":      func(path, _ string) error { return unix.Mkfifo(path, 0o600) },
				"a directory": func(path, _ string) error { return os.Mkdir(path, 0o700) },
			} {
				t.Run(mode+ending+" "+what, func(t *testing.T) {
					t.Parallel()
					a := newApp(t, mode)
					elsewhere := filepath.Join(t.TempDir(), "elsewhere")
					if err := os.RemoveAll(a.path + ending); err != nil {
						t.Fatal(err)
					}
					if err := put(a.path+ending, elsewhere); err != nil {
						t.Fatal(err)
					}
					before, _ := os.ReadFile(elsewhere)
					begun := time.Now()
					w := newWriter(a.path, "x")
					_, err := tryFreeze(w, 20*time.Second)
					if err == nil || !strings.Contains(err.Error(), a.path+ending) || !strings.Contains(err.Error(), "move it away") {
						t.Errorf("Freeze: %v; want an error that names %s", err, a.path+ending)
					}
					if took := time.Since(begun); took > 10*time.Second {
						t.Errorf("it took %v", took)
					}
					abort(t, w)
					if after, _ := os.ReadFile(elsewhere); !bytes.Equal(before, after) {
						t.Errorf("what the link leads to was changed")
					}
				})
			}
		}
	}
}

// TestDatabaseSwappedForALink: somebody who may write to the directory puts
// another file, a link to one, or another directory in the place of the database
// while it is opened. Either that is noticed, or the right one is locked; the
// other one never is.
func TestDatabaseSwappedForALink(t *testing.T) {
	for _, what := range []string{"the file", "its directory"} {
		t.Run(what, func(t *testing.T) {
			a, victim := newApp(t, "delete"), newApp(t, "delete")
			trick := filepath.Join(a.dir, "trick")
			place, target := a.path, victim.path
			if what == "its directory" {
				// a.db is then below a directory that is swapped.
				sub := filepath.Join(a.dir, "sub")
				must(t, os.Mkdir(sub, 0o755))
				must(t, os.Rename(a.path, filepath.Join(sub, "app.db")))
				a.path, place, target = filepath.Join(sub, "app.db"), sub, victim.dir
			}
			must(t, os.Symlink(target, trick))
			stop := make(chan struct{})
			var swapping sync.WaitGroup
			swapping.Go(func() {
				for n := 0; ; n++ {
					select {
					case <-stop:
						return
					default:
					}
					unix.Renameat2(unix.AT_FDCWD, place, unix.AT_FDCWD, trick, unix.RENAME_EXCHANGE)
					time.Sleep(time.Duration(n%7) * 20 * time.Microsecond)
				}
			})
			held := 0
			for range 300 {
				w := newWriter(a.path, "x")
				_, err := tryFreeze(w, 200*time.Millisecond)
				if lockedByUs(t, victim.path) {
					t.Errorf("the database that the link leads to is locked")
				}
				if err == nil {
					held++
					w.Thaw(t.Context(), &writer.Event{})
				}
				w.Abort(t.Context(), &writer.Event{})
				if t.Failed() {
					break
				}
			}
			close(stop)
			swapping.Wait()
			t.Logf("frozen %d times of 300", held)
			victim.exec("INSERT INTO u VALUES (1000000)")
			nothingHeld(t)
		})
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// lockedByUs reports whether this process has a lock on a file, as the kernel
// lists them.
func lockedByUs(t testing.TB, path string) bool {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Stat(path, &st))
	for _, l := range locks(t) {
		if strings.Contains(l, fmt.Sprintf(":%d ", st.Ino)) {
			return true
		}
	}
	return false
}

// locks are the record locks of this process.
func locks(t testing.TB) []string {
	t.Helper()
	b, err := os.ReadFile("/proc/locks")
	must(t, err)
	var mine []string
	for line := range strings.SplitSeq(string(b), "\n") {
		if strings.Contains(line, fmt.Sprintf(" %d ", os.Getpid())) {
			mine = append(mine, line)
		}
	}
	return mine
}

// nothingHeld makes sure that this process has no database open or locked.
func nothingHeld(t testing.TB) {
	t.Helper()
	if l := locks(t); len(l) > 0 {
		t.Errorf("locks are left: %q", l)
	}
	entries, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	for _, e := range entries {
		if to, _ := os.Readlink("/proc/self/fd/" + e.Name()); strings.Contains(to, ".db") {
			t.Errorf("%s is left open", to)
		}
	}
	opened.mu.Lock()
	defer opened.mu.Unlock()
	if len(opened.paths) > 0 {
		t.Errorf("taken to be open: %v", opened.paths)
	}
}

// TestNothingIsHeldAfterwards: whichever way a freeze ends, no descriptor and no
// lock is left.
func TestNothingIsHeldAfterwards(t *testing.T) {
	for _, mode := range modes {
		a := newApp(t, mode)
		nothingHeld(t)
		w := newWriter(a.path, "x")
		freeze(t, w)
		thaw(t, w)
		nothingHeld(t)
		freeze(t, w)
		abort(t, w)
		nothingHeld(t)
		blocker := startChild(t, "block", a.path, "BEGIN IMMEDIATE")
		if _, err := tryFreeze(w, 100*time.Millisecond); err == nil {
			t.Errorf("%s: frozen beside a transaction", mode)
		}
		blocker.kill()
		nothingHeld(t)
		must(t, w.PrepareForSnapshot(t.Context(), &writer.Event{}))
		must(t, w.BackupShutdown(t.Context(), &writer.Event{}))
		nothingHeld(t)
		freeze(t, w)
		must(t, os.Remove(a.path))
		if err := w.Thaw(t.Context(), &writer.Event{}); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: Thaw of a database deleted while frozen: %v", mode, err)
		}
		nothingHeld(t)
		if _, err := tryFreeze(w, time.Second); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: Freeze of a database that is gone: %v", mode, err)
		}
		abort(t, w)
		nothingHeld(t)
	}
}

// TestLongTransactionIsNamed: whoever has the write lock for longer than the
// limit is named, and the limit is kept.
func TestLongTransactionIsNamed(t *testing.T) {
	for _, mode := range []string{"wal", "delete"} {
		a := newApp(t, mode)
		b := startChild(t, "block", a.path, "BEGIN IMMEDIATE; INSERT INTO u VALUES (1000000)")
		w, _ := startHost(t, a)
		begun := time.Now()
		_, err := tryFreeze(w, freezeLimitFound)
		if took := time.Since(begun); took < freezeLimitFound || took > freezeLimitFound+5*time.Second {
			t.Errorf("%s: gave up after %v", mode, took)
		}
		if !errors.Is(err, vss.ErrWriterErrorTimeout) || !strings.Contains(err.Error(), fmt.Sprintf("now it is held by process %d (", b.cmd.Process.Pid)) {
			t.Errorf("%s: %v; want VSS_E_WRITERERROR_TIMEOUT that names process %d", mode, err, b.cmd.Process.Pid)
		}
		abort(t, w)
		b.kill()
	}
}

// TestManyDatabasesAtOnce: one host, all frozen at the same time, some under
// load; while they are, none can be written to.
func TestManyDatabasesAtOnce(t *testing.T) {
	const n = 50
	first := newApp(t, "wal")
	still, err := os.ReadFile(first.path) // before any load is on it
	must(t, err)
	var apps []*app
	var writers []*dbWriter
	for i := range n {
		a := *first
		if i > 0 {
			a.path = filepath.Join(a.dir, fmt.Sprint("copy", i, ".db"))
			must(t, os.WriteFile(a.path, still, 0o600))
			if a.mode = []string{"wal", "delete"}[i%2]; a.mode != "wal" && i < 8 {
				a.exec("PRAGMA journal_mode=" + a.mode)
			}
		}
		if i < 4 {
			l := a.startLoad("OFF")
			defer l.Stop()
		}
		apps = append(apps, &a)
		writers = append(writers, newWriter(a.path, a.path))
	}
	var longest time.Duration
	var mu sync.Mutex
	var g errgroup.Group
	begun := time.Now()
	for _, w := range writers {
		g.Go(func() error {
			report, err := tryFreeze(w, 30*time.Second)
			mu.Lock()
			defer mu.Unlock()
			longest = max(longest, report.LockWait)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d databases were frozen in %v; the longest wait for a lock was %v", n, time.Since(begun), longest)
	for _, a := range apps[:8] {
		a.refused()
	}
	for _, w := range writers {
		g.Go(func() error { return w.Thaw(context.Background(), &writer.Event{}) })
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	nothingHeld(t)
}

// TestShapesOfDatabases: page sizes, mapped reading and writing by the client,
// and vacuuming modes make no difference to the locks.
func TestShapesOfDatabases(t *testing.T) {
	for _, shape := range []string{"page_size=512", "page_size=1024", "page_size=65536", "auto_vacuum=FULL", "encoding='UTF-16'"} {
		for _, mode := range []string{"wal", "delete"} {
			t.Run(shape+" "+mode, func(t *testing.T) {
				a := newApp(t, "delete")
				a.path = filepath.Join(a.dir, "shaped.db")
				a.exec("PRAGMA " + shape + "; PRAGMA journal_mode=" + mode + "; CREATE TABLE u(n INTEGER PRIMARY KEY); INSERT INTO u VALUES (1)")
				w, _ := startHost(t, a)
				freeze(t, w)
				before := a.hashes()
				a.refused()
				if n := a.exec("PRAGMA mmap_size=1000000000; SELECT count(*) FROM u"); !strings.HasSuffix(n, "1") {
					t.Errorf("a reader sees %s rows", n)
				}
				if _, err := a.try(0, "PRAGMA mmap_size=1000000000; INSERT INTO u VALUES (2)"); err == nil || !strings.Contains(err.Error(), "locked") {
					t.Errorf("a client that maps the file could write while frozen: %v", err)
				}
				if after := a.hashes(); after != before {
					t.Errorf("the files changed while frozen:\n%s\nbefore:\n%s", after, before)
				}
				thaw(t, w)
				a.exec("PRAGMA mmap_size=1000000000; INSERT INTO u VALUES (2)")
			})
		}
	}
}

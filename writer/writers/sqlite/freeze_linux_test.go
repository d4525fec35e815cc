package sqlite

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
	"golang.org/x/sys/unix"
)

var modes = []string{"wal", "delete", "truncate", "persist", "memory", "off"}

// freezeLimitFound is what the service gives a database that was merely found.
const freezeLimitFound = 2 * time.Second

// freeze sends PrepareForSnapshot and Freeze.
func freeze(t testing.TB, w writer.Writer) writer.FreezeReport {
	t.Helper()
	report, err := tryFreeze(w, freezeLimitFound)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func tryFreeze(w writer.Writer, limit time.Duration) (writer.FreezeReport, error) {
	prepare := writer.Event{SessionID: vss.NewGUID()}
	if err := writer.Notify(context.Background(), w, writer.EventPrepareForSnapshot, &prepare); err != nil {
		return writer.FreezeReport{}, err
	}
	e := writer.Event{SessionID: prepare.SessionID, Limit: limit}
	slack := time.Duration(0)
	if _, remote := w.(*writer.Remote); remote {
		slack = time.Second
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit+slack)
	defer cancel()
	err := w.Freeze(ctx, &e)
	return e.Report, err
}

func thaw(t testing.TB, w writer.Writer) {
	t.Helper()
	if err := w.Thaw(context.Background(), &writer.Event{}); err != nil {
		t.Fatal(err)
	}
}

func abort(t testing.TB, w writer.Writer) {
	t.Helper()
	if err := w.Abort(context.Background(), &writer.Event{}); err != nil {
		t.Fatal(err)
	}
}

// startHost starts the writer in a process of its own.
func startHost(t testing.TB, a *app) (*writer.Remote, func() error) {
	t.Helper()
	w, kill, err := a.host()
	if err != nil {
		t.Fatal(err)
	}
	return w, kill
}

// component gives the paths of the component's files that exist.
func (a *app) component() []string {
	var found []string
	for _, path := range []string{a.path, a.path + "-wal", a.path + "-journal"} {
		if _, err := os.Lstat(path); err == nil {
			found = append(found, path)
		}
	}
	return found
}

func (a *app) hashes() string {
	a.t.Helper()
	var all strings.Builder
	for _, path := range a.component() {
		f, err := os.Open(path)
		if err != nil {
			a.t.Fatal(err)
		}
		h := sha256.New()
		_, err = io.Copy(h, f)
		f.Close()
		if err != nil {
			a.t.Fatal(err)
		}
		fmt.Fprintf(&all, "%s %x\n", filepath.Base(path), h.Sum(nil))
	}
	return all.String()
}

// TestLockOutlastsReadersOfTheFiles: the provider and the coordinator read each
// file of the component and close it, in processes of their own. Were one of
// them the writer's, the lock would be gone.
func TestLockOutlastsReadersOfTheFiles(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			a := newApp(t, mode)
			keep := startChild(t, "block", a.path, "SELECT count(*) FROM t") // a client that has it open
			defer keep.kill()
			w, _ := startHost(t, a)
			freeze(t, w)
			if out, err := roleCommand("read", a.component()...).Output(); err != nil {
				t.Fatalf("provider: %v: %s", err, out)
			}
			a.hashes() // the coordinator's process is this one
			if _, err := os.ReadFile(a.path + "-shm"); err != nil && mode == "wal" {
				t.Fatal(err)
			}
			a.refused()
			if n := a.exec("SELECT count(*) FROM t"); n != "200" {
				t.Errorf("a reader sees %s rows", n)
			}
			thaw(t, w)
			a.exec("INSERT INTO u VALUES (1000000)")
		})
	}
}

// TestLockLostInItsProcessIsReported is the other side: a descriptor closed in
// the writer's own process drops the lock, and Thaw says so.
func TestLockLostInItsProcessIsReported(t *testing.T) {
	for _, mode := range []string{"wal", "delete"} {
		t.Run(mode, func(t *testing.T) {
			a := newApp(t, mode)
			w := newWriter(a.path, "x")
			freeze(t, w)
			defer abort(t, w)
			a.refused()
			for _, path := range []string{a.path, a.path + "-shm"} {
				if _, err := os.ReadFile(path); err != nil && mode == "wal" {
					t.Fatal(err)
				}
			}
			a.exec("INSERT INTO u VALUES (1000000)")
			err := w.Thaw(context.Background(), &writer.Event{})
			if !errors.Is(err, vss.ErrWriterErrorRetryable) {
				t.Errorf("Thaw after the lock was lost gives %v", err)
			}
		})
	}
}

// TestFreezeBesideABusyWriter: a client commits with synchronous=FULL and no
// pause at all. How long a single commit takes is the disk's affair, so the time
// is only shown.
func TestFreezeBesideABusyWriter(t *testing.T) {
	for _, mode := range []string{"wal", "delete"} {
		t.Run(mode, func(t *testing.T) {
			a := newApp(t, mode)
			w, _ := startHost(t, a)
			l := a.startLoad("FULL")
			var longest, total time.Duration
			const rounds = 30
			for range rounds {
				r, err := tryFreeze(w, time.Minute)
				if err != nil {
					t.Fatal(err)
				}
				total += r.LockWait
				longest = max(longest, r.LockWait)
				thaw(t, w)
				time.Sleep(5 * time.Millisecond)
			}
			if err := l.Stop(); err != nil {
				t.Error(err)
			}
			t.Logf("lock wait: mean %v, longest %v of %d", total/rounds, longest, rounds)
		})
	}
}

// TestFreezeFindsShortPauses: the client leaves its lock for 300 µs in every 20
// ms. SQLite's busy handler, asleep most of the time, needs many seconds.
func TestFreezeFindsShortPauses(t *testing.T) {
	for _, mode := range []string{"wal", "delete"} {
		t.Run(mode, func(t *testing.T) {
			a := newApp(t, mode)
			w, _ := startHost(t, a)
			c := startChild(t, "hog", a.path)
			for range 5 {
				freeze(t, w)
				thaw(t, w)
			}
			if err := c.stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestBusyHandlerIsNotUsed: SQLite must answer at once.
func TestBusyHandlerIsNotUsed(t *testing.T) {
	a := newApp(t, "wal")
	db, err := openDatabase(a.path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.close()
	if v, err := db.column(context.Background(), "PRAGMA busy_timeout", 1); err != nil || v[0] != "0" {
		t.Errorf("busy_timeout is %v, %v", v, err)
	}
}

// TestDeathOfTheWriterFreesTheDatabase: SIGKILL while frozen.
func TestDeathOfTheWriterFreesTheDatabase(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			a := newApp(t, mode)
			w, kill := startHost(t, a)
			freeze(t, w)
			a.refused()
			if err := kill(); err != nil {
				t.Fatal(err)
			}
			if _, err := a.try(time.Second, "INSERT INTO u VALUES (1000000)"); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestWriteDuringTheHoldEndsAfterThaw: the client waits, sees no error, and its
// transaction is not in the copy.
func TestWriteDuringTheHoldEndsAfterThaw(t *testing.T) {
	for _, mode := range []string{"wal", "delete"} {
		t.Run(mode, func(t *testing.T) {
			a := newApp(t, mode)
			w, _ := startHost(t, a)
			freeze(t, w)
			done := make(chan error, 1)
			go func() {
				_, err := a.try(20*time.Second, "INSERT INTO u VALUES (1000000)")
				done <- err
			}()
			before := a.hashes()
			select {
			case err := <-done:
				t.Fatalf("the write ended during the hold: %v", err)
			case <-time.After(300 * time.Millisecond):
			}
			if after := a.hashes(); after != before {
				t.Errorf("files changed during the hold:\n%s%s", before, after)
			}
			thaw(t, w)
			if err := <-done; err != nil {
				t.Error(err)
			}
			if n := a.exec("SELECT count(*) FROM u WHERE n = 1000000"); n != "1" {
				t.Errorf("the write of the hold is there %s times", n)
			}
		})
	}
}

// TestCheckpointDuringTheHold: another connection's checkpoint changes nothing.
// The control shows that BEGIN IMMEDIATE alone would not have seen to that.
func TestCheckpointDuringTheHold(t *testing.T) {
	for _, control := range []bool{false, true} {
		t.Run(fmt.Sprintf("control=%v", control), func(t *testing.T) {
			a := newApp(t, "wal")
			// A connection that stays open keeps the log from being
			// checkpointed whenever one of these closes.
			keep := startChild(t, "block", a.path, "SELECT 1 FROM t")
			defer keep.kill()
			a.exec("INSERT INTO u VALUES (1000000)")
			if control {
				b := startChild(t, "block", a.path, "BEGIN IMMEDIATE")
				defer b.kill()
			} else {
				w, _ := startHost(t, a)
				freeze(t, w)
				defer thaw(t, w)
			}
			before := a.hashes()
			a.exec("PRAGMA wal_checkpoint(PASSIVE)")
			a.try(100*time.Millisecond, "PRAGMA wal_checkpoint(TRUNCATE)")
			if changed := a.hashes() != before; changed != control {
				t.Errorf("the files changed: %v", changed)
			}
		})
	}
}

// TestLogIsLeftAsItWas: the writer checkpoints nothing and removes nothing that
// was there, and leaves nothing that was not.
func TestLogIsLeftAsItWas(t *testing.T) {
	t.Run("left by a crash", func(t *testing.T) {
		a := newApp(t, "wal")
		c := startChild(t, "block", a.path, "INSERT INTO u VALUES (1000000)")
		c.kill()
		before := a.hashes()
		if !strings.Contains(before, "-wal") {
			t.Fatal("the crash left no -wal")
		}
		w, _ := startHost(t, a)
		freeze(t, w)
		if during := a.hashes(); during != before {
			t.Errorf("while frozen\n%swas\n%s", during, before)
		}
		thaw(t, w)
		if after := a.hashes(); after != before {
			t.Errorf("after Thaw\n%swas\n%s", after, before)
		}
		if n := a.exec("SELECT count(*) FROM u WHERE n = 1000000"); n != "1" {
			t.Errorf("the transaction in the log is there %s times", n)
		}
	})
	t.Run("none", func(t *testing.T) {
		a := newApp(t, "wal")
		before := a.hashes()
		w, _ := startHost(t, a)
		freeze(t, w)
		thaw(t, w)
		if after := a.hashes(); after != before {
			t.Errorf("after Thaw\n%swas\n%s", after, before)
		}
		if _, err := os.Lstat(a.path + "-shm"); err == nil {
			t.Error("-shm was left")
		}
	})
}

// TestHotJournalIsRolledBack: a crashed application's transaction is undone
// before Freeze, by SQLite, so that no reader of the hold sees half of it.
func TestHotJournalIsRolledBack(t *testing.T) {
	a := newApp(t, "delete")
	if err := roleCommand("crash", a.path).Run(); err == nil {
		t.Fatal("the application did not crash")
	}
	if _, err := os.Lstat(a.path + "-journal"); err != nil {
		t.Fatal("the crash left no hot journal: ", err)
	}
	w, _ := startHost(t, a)
	freeze(t, w)
	if n, err := a.check(); n != 200 || err != nil {
		t.Errorf("while frozen: %d transactions, %v", n, err)
	}
	a.refused()
	thaw(t, w)
}

// TestModeChangedBeforeFreeze: what PrepareForSnapshot saw need not hold.
func TestModeChangedBeforeFreeze(t *testing.T) {
	a := newApp(t, "delete")
	w := newWriter(a.path, "x")
	if err := w.PrepareForSnapshot(t.Context(), &writer.Event{}); err != nil {
		t.Fatal(err)
	}
	a.exec("PRAGMA journal_mode=wal")
	if err := w.Freeze(t.Context(), &writer.Event{}); err != nil {
		t.Fatal(err)
	}
	defer abort(t, w)
	a.refused()
	if err := w.db.verify(); err != nil || w.db.index == nil {
		t.Errorf("in write-ahead log mode now: %v", err)
	}
}

// TestExclusiveApplicationIsNamed: the veto says who never gives the lock back.
func TestExclusiveApplicationIsNamed(t *testing.T) {
	for _, mode := range []string{"wal", "delete"} {
		t.Run(mode, func(t *testing.T) {
			a := newApp(t, mode)
			c := startChild(t, "block", a.path, "PRAGMA locking_mode=EXCLUSIVE; INSERT INTO u VALUES (1000000)")
			w, _ := startHost(t, a)
			_, err := tryFreeze(w, 300*time.Millisecond)
			if !errors.Is(err, vss.ErrWriterErrorTimeout) {
				t.Errorf("the code of %v is not VSS_E_WRITERERROR_TIMEOUT", err)
			}
			for _, part := range []string{fmt.Sprint(c.cmd.Process.Pid), "EXCLUSIVE", a.path} {
				if err == nil || !strings.Contains(err.Error(), part) {
					t.Errorf("%q is not in %v", part, err)
				}
			}
			abort(t, w)
			if err := c.stop(); err != nil {
				t.Fatal(err)
			}
			freeze(t, w)
			thaw(t, w)
		})
	}
}

// TestReplacedDatabase: applications replace databases by renaming.
func TestReplacedDatabase(t *testing.T) {
	replace := func(a *app) {
		t.Helper()
		b := newApp(t, "delete")
		b.exec("INSERT INTO u VALUES (2000000)")
		if err := os.Rename(b.path, a.path); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("before Freeze", func(t *testing.T) {
		a := newApp(t, "delete")
		w := newWriter(a.path, "x")
		if err := w.PrepareForSnapshot(t.Context(), &writer.Event{}); err != nil {
			t.Fatal(err)
		}
		replace(a)
		if err := w.Freeze(t.Context(), &writer.Event{}); err != nil {
			t.Fatal(err)
		}
		defer abort(t, w)
		a.refused()
	})
	t.Run("while frozen", func(t *testing.T) {
		a := newApp(t, "delete")
		w := newWriter(a.path, "x")
		freeze(t, w)
		replace(a)
		if err := w.Thaw(t.Context(), &writer.Event{}); !errors.Is(err, errReplaced) {
			t.Errorf("Thaw gives %v", err)
		}
	})
}

// TestReadOnlyForItsOwner needs a process without root's rights.
func TestReadOnlyForItsOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("not checked: only root can start a process as another user")
	}
	a := newApp(t, "delete")
	const nobody = 65534
	for path, mode := range map[string]os.FileMode{filepath.Dir(a.dir): 0o755, a.dir: 0o755, a.path: 0o444} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{a.dir, a.path} {
		if err := os.Chown(path, nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
	w, _ := startHost(t, a) // as nobody, who owns the database
	_, err := tryFreeze(w, time.Second)
	if err == nil || !strings.Contains(err.Error(), "write lock can be taken only by who may write") {
		t.Errorf("Freeze gives %v", err)
	}
	if err := os.Chmod(a.path, 0o644); err != nil {
		t.Fatal(err)
	}
	freeze(t, w)
	thaw(t, w)
}

// TestSameFileUnderTwoNames: two writers of one process must not share a file.
func TestSameFileUnderTwoNames(t *testing.T) {
	a := newApp(t, "delete")
	other := filepath.Join(a.dir, "other.db")
	if err := os.Link(a.path, other); err != nil {
		t.Fatal(err)
	}
	w := newWriter(a.path, "x")
	freeze(t, w)
	defer abort(t, w)
	if _, err := tryFreeze(newWriter(other, "y"), time.Second); err == nil || !strings.Contains(err.Error(), "same file") {
		t.Errorf("the second name gives %v", err)
	}
	if err := checkFile(other); err == nil {
		t.Error("New opened a file that is held under another name")
	}
	a.refused() // and the attempts cost the first nothing
}

// TestSameFileUnderTwoNamesIsLookedAtByBoth: writers are made at the same time, and to
// look at a file is not to hold it.
func TestSameFileUnderTwoNamesIsLookedAtByBoth(t *testing.T) {
	a := newApp(t, "delete")
	other := filepath.Join(a.dir, "other.db")
	if err := os.Link(a.path, other); err != nil {
		t.Fatal(err)
	}
	var both sync.WaitGroup
	for _, path := range []string{a.path, other} {
		text, err := json.Marshal(config{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		both.Go(func() {
			for range 500 {
				if _, err := (Kind{}).New(t.Context(), writer.Spec{Kind: KindName, Name: path, Config: text}); err != nil {
					t.Errorf("%s: %v", path, err)
					return
				}
			}
		})
	}
	both.Wait()
}

// TestOtherSQLite: the program of the SQLite project itself is kept out, in
// both modes.
func TestOtherSQLite(t *testing.T) {
	program, err := exec.LookPath("sqlite3")
	if err != nil {
		t.Skip("not checked: the program sqlite3 is not installed")
	}
	for _, mode := range []string{"wal", "delete"} {
		t.Run(mode, func(t *testing.T) {
			a := newApp(t, mode)
			w, _ := startHost(t, a)
			freeze(t, w)
			run := func(sql string) string {
				out, _ := exec.Command(program, a.path, sql).CombinedOutput()
				return strings.TrimSpace(string(out))
			}
			if out := run("INSERT INTO u VALUES (1000000)"); !strings.Contains(out, "locked") {
				t.Errorf("a write while frozen: %s", out)
			}
			if out := run("SELECT count(*) FROM t"); out != "200" {
				t.Errorf("a read while frozen: %s", out)
			}
			thaw(t, w)
			if out := run("INSERT INTO u VALUES (1000000)"); out != "" {
				t.Errorf("a write after Thaw: %s", out)
			}
		})
	}
}

// TestPrivateDescriptors: what the writer opens is not inherited, so no child
// process of a host keeps a lock or drops one.
func TestPrivateDescriptors(t *testing.T) {
	a := newApp(t, "wal")
	w := newWriter(a.path, "x")
	freeze(t, w)
	defer abort(t, w)
	for _, f := range []*os.File{w.db.guard, w.db.index} {
		flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFD, 0)
		if err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("%s is inherited (%v)", f.Name(), err)
		}
	}
}

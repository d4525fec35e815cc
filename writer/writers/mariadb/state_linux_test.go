package mariadb

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/internal/dbtest"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
	"golang.org/x/sys/unix"
)

// asked waits until a process that stands still has a signal to end by.
func asked(t *testing.T, pid int) {
	t.Helper()
	for begun := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(status)) {
			if mask, ok := strings.CutPrefix(line, "ShdPnd:"); ok {
				if set, err := strconv.ParseUint(strings.TrimSpace(mask), 16, 64); err == nil && set&(1<<(unix.SIGTERM-1)) != 0 {
					return
				}
			}
		}
		if time.Since(begun) > 30*time.Second {
			t.Fatal("nobody asks the server to end")
		}
	}
}

// keep writes a state as the data's owner.
func (r *rig) keep(s asideState) {
	r.t.Helper()
	a := &aside{dir: r.m.Dir, state: s}
	if err := errors.Join(a.save(), os.Chown(a.path(), r.m.UID, r.m.GID), os.Chown(a.path("state.json"), r.m.UID, r.m.GID)); err != nil {
		r.t.Fatal(err)
	}
}

// A server that takes long to stop, and whose restore is killed meanwhile, ends: the
// next restore starts it, since it ran. One that somebody has started and stopped
// since stays stopped.
func TestAServerThatARestoreWasStoppingWhenItWasKilledIsStartedByTheNext(t *testing.T) {
	r := newRig(t, dbtest.MariaDBOptions{})
	w, kill, err := r.host(t, r.spec())
	if err != nil {
		t.Fatal(err)
	}
	doc, err := w.Identify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	e, err := beginRestore(t.Context(), w)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(r.m.PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- writer.Notify(t.Context(), w, writer.EventPreRestore, e) }()
	asked(t, r.m.PID)
	if err := errors.Join(kill(), syscall.Kill(r.m.PID, syscall.SIGCONT)); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err == nil {
		t.Fatal("PreRestore has succeeded")
	}
	for begun := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		if pid, err := lockedBy(r.m.Dir); err == nil && pid == 0 {
			break
		}
		if time.Since(begun) > time.Minute {
			t.Fatal("the server does not end")
		}
	}
	r.m.Kill() // it has ended; this notes it
	if err := playRestore(t.Context(), r.stored(doc), vss.FileRestoreStatusNone); err != nil {
		t.Fatal(err)
	}
	pid, err := lockedBy(r.m.Dir)
	if err != nil || pid == 0 {
		t.Fatalf("process %d runs after the next restore, %v", pid, err)
	}
	ran := commandLine(pid)
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	r.waitGone(pid)
	r.keep(asideState{Ran: ran, Stopping: time.Now().Add(-2 * stopLimit)})
	if err := playRestore(t.Context(), r.stored(doc), vss.FileRestoreStatusNone); err != nil && !strings.Contains(err.Error(), "left stopped") {
		t.Error(err)
	}
	if pid, err := lockedBy(r.m.Dir); err != nil || pid != 0 {
		t.Errorf("process %d runs (%v), which somebody has stopped", pid, err)
	}
}

// A backup of a server that runs again drops the note of a restore that had begun to
// stop another process, and touches nothing that was moved aside.
func TestANoteOnAServerThatWasStoppedIsDroppedWhenItRunsAgain(t *testing.T) {
	for _, c := range []struct {
		what     string
		pid      int
		moved    bool
		stopping time.Time
		stays    bool
	}{
		{"another process runs", 12, false, time.Now(), false},
		{"the same process runs still", 11, false, time.Now(), true},
		{"none runs", 0, false, time.Now(), true},
		{"something was moved aside", 12, true, time.Now(), true},
		{"nothing was to be stopped", 12, false, time.Time{}, true},
	} {
		a := &aside{dir: t.TempDir(), state: asideState{Ran: []string{"x"}, Stopping: c.stopping, PID: 11}}
		err := a.save()
		if c.moved {
			err = errors.Join(err, os.Mkdir(a.path("1"), 0o700))
		}
		if err := errors.Join(err, a.forget(c.pid)); err != nil {
			t.Fatal(err)
		}
		if _, found, err := openAside(a.dir); err != nil || found != c.stays {
			t.Errorf("%s: the note is there: %v, %v; want %v", c.what, found, err, c.stays)
		}
	}
}

// Nor is a server that somebody has used between two backups of a chain gone on with.
func TestAChainDoesNotGoOnOverAServerThatWasUsedWithinIt(t *testing.T) {
	dir := t.TempDir()
	control := filepath.Join(dir, "aria_log_control")
	if err := os.WriteFile(control, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	w := newWriter(writer.Spec{}, spec{settings: settings{Datadir: dir}, Restore: true})
	doc, err := w.Identify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	first := restoreOf(t, doc, "", true)
	if err := errors.Join(writer.Notify(t.Context(), w, writer.EventPreRestore, first), os.WriteFile(control, []byte("restored"), 0o600)); err != nil {
		t.Fatal(err)
	}
	c, _ := first.Components.Component("", dir)
	if err := errors.Join(c.SetFileRestoreStatus(vss.FileRestoreStatusAll), writer.Notify(t.Context(), w, writer.EventPostRestore, first)); err != nil {
		t.Fatal(err)
	}
	saved, err := os.ReadFile(filepath.Join(dir, asideName, "state.json"))
	if err != nil {
		t.Fatal(err)
	}
	next := func() error {
		return writer.Notify(t.Context(), w, writer.EventPreRestore, restoreOf(t, doc, "mariadb1 data binlog.000001 4 -", false))
	}
	if err := next(); err != nil {
		t.Errorf("nobody has used it: %v", err)
	}
	if err := next(); err != nil { // the one before was killed
		t.Errorf("once more: %v", err)
	}
	if err := errors.Join(os.WriteFile(filepath.Join(dir, asideName, "state.json"), saved, 0o600), os.WriteFile(control, []byte("used since"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := next(); err == nil || !strings.Contains(err.Error(), "move "+filepath.Join(dir, asideName)) {
		t.Errorf("used since: %v, want a refusal with the way out", err)
	}
	if got, err := os.ReadFile(control); err != nil || string(got) != "used since" {
		t.Errorf("its file is %q, %v", got, err)
	}
}

// Where nothing was there before, nobody is told where that is kept.
func TestAFailedRestoreToAnEmptyHostNamesNothingThatIsKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	w := newWriter(writer.Spec{}, spec{settings: settings{Datadir: dir}, Restore: true})
	doc, err := w.Identify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	e := restoreOf(t, doc, "", false)
	if err := writer.Notify(t.Context(), w, writer.EventPreRestore, e); err != nil {
		t.Fatal(err)
	}
	c, _ := e.Components.Component("", dir)
	if err := errors.Join(os.Mkdir(dir, 0o700), c.SetFileRestoreStatus(vss.FileRestoreStatusFailed)); err != nil {
		t.Fatal(err)
	}
	err = writer.Notify(t.Context(), w, writer.EventPostRestore, e)
	if err == nil || !strings.Contains(err.Error(), "restore again") || !strings.Contains(err.Error(), dir) || strings.Contains(err.Error(), "kept in") || strings.Contains(err.Error(), "[]") {
		t.Errorf("it says: %v", err)
	}
}

// What is moved aside takes a number that is free in each directory, and what it finds
// there of another restore stays, also at the end.
func TestWhatIsLeftElsewhereOfAnotherRestoreIsNotOverwritten(t *testing.T) {
	dir, redo, undo := t.TempDir(), t.TempDir(), t.TempDir()
	old := map[string]string{filepath.Join(asideAt(dir, redo), "1", "ib_logfile0"): "old redo", filepath.Join(asideAt(dir, undo), "2", "undo001"): "old undo"}
	for path, text := range old {
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.WriteFile(filepath.Join(redo, "ib_logfile0"), []byte("new redo"), 0o600), os.WriteFile(filepath.Join(undo, "undo001"), []byte("new undo"), 0o600)); err != nil {
		t.Fatal(err)
	}
	check := func(when string, want map[string]string) {
		t.Helper()
		for path, text := range want {
			if got, err := os.ReadFile(path); err != nil || string(got) != text {
				t.Errorf("%s: %s is %q, %v; want %q", when, path, got, err, text)
			}
		}
	}
	a := &aside{dir: dir}
	if err := a.move(vss.NewGUID(), []place{{Dir: redo, Pattern: "ib_logfile*"}}); err != nil {
		t.Fatal(err)
	}
	check("moved", old)
	check("moved", map[string]string{filepath.Join(a.attemptAt(redo), "ib_logfile0"): "new redo"})
	if err := a.goOn([]place{{Dir: undo, Pattern: "undo*"}}); err != nil {
		t.Fatal(err)
	}
	check("another operation", old)
	check("another operation", map[string]string{filepath.Join(a.attemptAt(undo), "undo001"): "new undo"})
	if err := a.drop(); err != nil {
		t.Fatal(err)
	}
	check("the end", old)
	if _, found, err := openAside(dir); err != nil || found {
		t.Errorf("the state is still there: %v, %v", found, err)
	}
}

// cancelled is how many bytes this process wrote that never came to a disk, since
// their files were removed before.
func cancelled(t *testing.T) (n int64) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/io")
	if err != nil {
		t.Skipf("this kernel does not count what is written: %v", err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "cancelled_write_bytes:"); ok {
			if n, err = strconv.ParseInt(strings.TrimSpace(value), 10, 64); err != nil {
				t.Fatal(err)
			}
		}
	}
	return n
}

// The state is on the disk when it has been saved. (Where the directory is in memory,
// or the file system does not count, this cannot fail.)
func TestTheStateIsOnTheDiskWhenItHasItsName(t *testing.T) {
	dir, err := dbtest.Scratch("")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	a := &aside{dir: dir}
	before := cancelled(t)
	for range 10 {
		if err := errors.Join(a.save(), os.Remove(a.path("state.json"))); err != nil {
			t.Fatal(err)
		}
	}
	if n := cancelled(t) - before; n > 0 {
		t.Errorf("%d bytes of states were only in memory", n)
	}
	// One that a power cut has left half written is in nobody's way.
	if err := errors.Join(os.Symlink("/nonexistent/elsewhere", a.path("state.part")), a.save()); err != nil {
		t.Fatal(err)
	}
	if _, found, err := openAside(dir); err != nil || !found {
		t.Errorf("found %v, %v", found, err)
	}
}

// A server that somebody has used since a restore that failed, and stopped again, is
// not taken for what that restore has left.
func TestAServerUsedAndStoppedSinceAFailedRestoreIsNotReplaced(t *testing.T) {
	r := newRig(t, dbtest.MariaDBOptions{})
	w, _, err := r.host(t, r.spec())
	if err != nil {
		t.Fatal(err)
	}
	doc, err := w.Identify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	fail := func(number string) {
		t.Helper()
		err := playRestore(t.Context(), meanwhile{r.stored(doc), func() {
			if err := copied(filepath.Join(r.m.Dir, asideName, number, "data"), r.m.Dir); err != nil {
				t.Fatal(err)
			}
		}}, vss.FileRestoreStatusFailed)
		r.wantStopped(err, "not all files")
	}
	fail("1")
	fail("2") // nobody has used it in between
	r.m.Kill()
	if err := r.m.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.sql("INSERT INTO d.t VALUES (1)")
	if err := r.m.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.wantStopped(playRestore(t.Context(), r.stored(doc), vss.FileRestoreStatusNone), "move "+filepath.Join(r.m.Dir, asideName))
	if err := os.Rename(filepath.Join(r.m.Dir, asideName), filepath.Join(r.dir, "safe")); err != nil {
		t.Fatal(err)
	}
	if err := playRestore(t.Context(), r.stored(doc), vss.FileRestoreStatusNone); err != nil && !strings.Contains(err.Error(), "left stopped") {
		t.Errorf("with that out of the way: %v", err)
	}
	if n, err := r.check(); err != nil || n != 1 {
		t.Errorf("it holds %d numbers, %v; want what was committed since", n, err)
	}
}

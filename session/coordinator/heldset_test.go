package coordinator_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/internal/voltest"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/session/sessiontest"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// holder takes a session to where its writers can be held.
func (r *rig) holder() session.Holder {
	r.t.Helper()
	for _, st := range r.steps(deadline(r.t)) {
		if st.name == "AddToSnapshotSet" {
			continue
		}
		if st.name == "DoSnapshotSet" {
			break
		}
		if err := st.do(); err != nil {
			r.t.Fatalf("%s: %v", st.name, err)
		}
	}
	return r.s.(session.Holder)
}

// held holds them.
func (r *rig) held(h session.Hold) session.Holder {
	r.t.Helper()
	s := r.holder()
	until, err := s.HoldWriters(deadline(r.t), h, nil)
	must(r.t, err)
	if left := time.Until(until); left <= 0 {
		r.t.Fatalf("held until %v ago", -left)
	}
	return s
}

// TestHeldWritersGetTheEventsOfABackup: without volumes, in the model's order.
func TestHeldWritersGetTheEventsOfABackup(t *testing.T) {
	r := newRig(t, "a", "b")
	r.writers[1].Level = vss.LevelSystem
	s := r.held(session.Hold{})
	want := []writer.EventKind{writer.EventPrepareForBackup, writer.EventPrepareForSnapshot, writer.EventFreeze}
	for _, w := range r.writers {
		if got := r.log.Of(w.Name); !slices.Equal(got, want) {
			t.Errorf("%s, held, has seen %v", w.Name, got)
		}
		if st := r.status(w); st.State != vss.WriterWaitingForThaw {
			t.Errorf("%s, held, is %v", w.Name, st.State)
		}
	}
	must(t, s.ThawWriters(deadline(t), nil))
	must(t, s.BackupComplete(deadline(t), nil))
	for _, w := range r.writers {
		r.wantFailed(w, vss.WriterStable, vss.OK)
		rc := r.receipt(w)
		if rc.Freeze <= 0 || rc.Held <= 0 || rc.Thaw <= 0 || rc.PostSnapshot <= 0 || rc.Stillness != "files still" {
			t.Errorf("receipt of %s: %+v", w.Name, rc)
		}
	}
	must(t, s.Close())
	want = append(want, writer.EventThaw, writer.EventPostSnapshot, writer.EventBackupComplete, writer.EventBackupShutdown)
	for _, w := range r.writers {
		if got := r.log.Of(w.Name); !slices.Equal(got, want) {
			t.Errorf("%s has seen %v", w.Name, got)
		}
	}
	// Front-end writers are frozen first and thawed last.
	var order []string
	for _, e := range r.log.All() {
		if e.Event == writer.EventFreeze || e.Event == writer.EventThaw {
			order = append(order, e.Event.String()+" "+e.Writer)
		}
	}
	if want := []string{"Freeze a", "Freeze b", "Thaw b", "Thaw a"}; !slices.Equal(order, want) {
		t.Errorf("order: %v, want %v", order, want)
	}
}

// TestHoldOutOfOrder is VSS_E_BAD_STATE and changes nothing.
func TestHoldOutOfOrder(t *testing.T) {
	bad := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, vss.ErrBadState) {
			t.Errorf("%s: %v, want VSS_E_BAD_STATE", what, err)
		}
	}
	c := deadline(t)
	hold := func(s session.Session) error {
		_, err := s.(session.Holder).HoldWriters(c, session.Hold{}, nil)
		return err
	}
	r := newRig(t, "a")
	bad("before anything", hold(r.open()))
	bad("thaw before anything", r.s.(session.Holder).ThawWriters(c, nil))
	s := r.holder()
	bad("thaw before hold", s.ThawWriters(c, nil))
	must(t, hold(s))
	bad("hold twice", hold(s))
	bad("DoSnapshotSet while held", s.DoSnapshotSet(c, nil))
	_, err := r.add(c)
	bad("AddToSnapshotSet while held", err)
	must(t, s.ThawWriters(c, nil))
	bad("thaw twice", s.ThawWriters(c, nil))

	v := newRig(t, "a")
	must(t, v.to("PrepareForBackup"))
	bad("a set with volumes", hold(v.s))
	must(t, v.from("PrepareForBackup", "DoSnapshotSet"))
	bad("after DoSnapshotSet", hold(v.s))
}

// TestHeldWritersAreLetGo when the session is aborted or closed: each gets Abort,
// and the service is free for another.
func TestHeldWritersAreLetGo(t *testing.T) {
	for name, end := range map[string]func(session.Session) error{
		"AbortBackup": func(s session.Session) error { return s.AbortBackup(context.Background()) },
		"Close":       session.Session.Close,
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, "a", "b")
			a := startApp(t, filepath.Join(r.writers[0].Dir, "data"))
			commitsHeld(r.writers[0], a.cmd.Process.Pid)
			s := r.held(session.Hold{})
			before := a.content()
			time.Sleep(50 * time.Millisecond)
			if !bytes.Equal(before, a.content()) {
				t.Error("the application writes while it is held")
			}
			must(t, end(s))
			a.wantRunning()
			for _, w := range r.writers {
				if r.log.Count(w.Name, writer.EventAbort) != 1 || r.log.Count(w.Name, writer.EventThaw) != 0 {
					t.Errorf("%s has seen %v", w.Name, r.log.Of(w.Name))
				}
			}
			if name == "AbortBackup" {
				if rc := r.receipt(r.writers[1]); rc.Held <= 0 {
					t.Errorf("the receipt says that it was held for %v", rc.Held)
				}
			}
			other := newRig(t, "c")
			other.o.StateDir = r.o.StateDir
			other.held(session.Hold{})
		})
	}
}

// TestHoldStopsWhoIsNotStill unless the copy is of one instant: then what a writer
// holds by itself suffices, and be it nothing.
func TestHoldStopsWhoIsNotStill(t *testing.T) {
	for _, still := range []writer.Stillness{writer.CommitsHeld, writer.NothingHeld} {
		for _, atomic := range []bool{false, true} {
			r := newRig(t, "named", "nameless")
			a := startApp(t, filepath.Join(r.writers[0].Dir, "data"))
			commitsHeld(r.writers[0], a.cmd.Process.Pid)
			commitsHeld(r.writers[1])
			for _, w := range r.writers {
				w.Description.Stillness = still
			}
			s := r.held(session.Hold{Atomic: atomic})
			if atomic {
				a.wantRunning()
				r.wantFailed(r.writers[1], vss.WriterWaitingForThaw, vss.OK)
			} else {
				before := a.content()
				time.Sleep(50 * time.Millisecond)
				if !bytes.Equal(before, a.content()) {
					t.Errorf("%v: the application writes while it is held", still)
				}
				r.wantFailed(r.writers[1], vss.WriterFailedAtPrepareSnapshot, vss.ErrWriterErrorNonRetryable)
			}
			must(t, s.ThawWriters(deadline(t), nil))
			a.wantRunning()
			if rc := r.receipt(r.writers[0]); rc.Stopped == atomic || rc.ReadsPaused == atomic {
				t.Errorf("%v, atomic %t: receipt %+v", still, atomic, rc)
			}
			must(t, s.Close())
		}
	}
}

// TestWriterHeldBeyondItsLimit lets go by itself, and is no part of what was held.
func TestWriterHeldBeyondItsLimit(t *testing.T) {
	r := newRig(t, "short", "long")
	r.writers[0].Description.FreezeTimeout = time.Second
	s := r.holder()
	until, err := s.HoldWriters(deadline(t), session.Hold{}, nil)
	must(t, err)
	if left := time.Until(until); left > time.Second {
		t.Errorf("held until %v from now, and a writer for a second at most", left)
	}
	within(t, 5*time.Second, "it lets go by itself", func() bool { return r.log.Count("short", writer.EventAbort) > 0 })
	must(t, s.ThawWriters(deadline(t), nil))
	r.wantFailed(r.writers[0], vss.WriterFailedAtThaw, vss.ErrWriterErrorTimeout)
	r.wantFailed(r.writers[1], vss.WriterWaitingForBackupComplete, vss.OK)
}

// TestProcessesHeldBeyondTheLimit go on by the keeper's clock, which nothing of
// the session can stop; ThawWriters says that what was copied is nothing.
func TestProcessesHeldBeyondTheLimit(t *testing.T) {
	r := newRig(t, "a")
	r.o.Limits.Writer, r.o.Limits.Hold = 2*time.Second, 2*time.Second
	a := startApp(t, filepath.Join(r.writers[0].Dir, "data"))
	commitsHeld(r.writers[0], a.cmd.Process.Pid)
	s := r.held(session.Hold{})
	within(t, 10*time.Second, "the application goes on by itself", func() bool {
		before := a.content()
		time.Sleep(20 * time.Millisecond)
		return !bytes.Equal(before, a.content())
	})
	if err := s.ThawWriters(deadline(t), nil); !errors.Is(err, vss.ErrHoldWritesTimeout) {
		t.Errorf("ThawWriters: %v, want VSS_E_HOLD_WRITES_TIMEOUT", err)
	}
	if n := r.log.Count("a", writer.EventAbort); n == 0 {
		t.Error("the writer did not get Abort")
	}
}

// TestWriterThatRefusesIsNotHeld: the others are.
func TestWriterThatRefusesIsNotHeld(t *testing.T) {
	for at, state := range map[writer.EventKind]vss.WriterState{
		writer.EventPrepareForSnapshot: vss.WriterFailedAtPrepareSnapshot, writer.EventFreeze: vss.WriterFailedAtFreeze} {
		r := newRig(t, "a", "b")
		r.writers[0].On[at] = sessiontest.Behaviour{Fail: vss.ErrWriterErrorRetryable}
		s := r.held(session.Hold{})
		r.wantFailed(r.writers[0], state, vss.ErrWriterErrorRetryable)
		r.wantFailed(r.writers[1], vss.WriterWaitingForThaw, vss.OK)
		must(t, s.ThawWriters(deadline(t), nil))
		must(t, s.Close())
		if n := r.log.Count("a", writer.EventThaw) + r.log.Count("a", writer.EventPostSnapshot); n > 0 {
			t.Errorf("a writer that refused has seen %v", r.log.Of("a"))
		}
	}
}

// TestHeldFilesAreOnTheDisk: a copy of the disk made while writers are held has
// what they have written and did not sync, also if they wrote it in Freeze.
func TestHeldFilesAreOnTheDisk(t *testing.T) {
	voltest.Need(t, "ext4")
	v := voltest.Ext4(t, 0)
	r := newRig(t, "a")
	w := r.writers[0]
	w.Dir = filepath.Join(v.Root, "data")
	must(t, os.Mkdir(w.Dir, 0o755))
	put := func(name string) {
		must(t, os.WriteFile(filepath.Join(w.Dir, name), bytes.Repeat([]byte(name), 100_000), 0o600))
	}
	put("before")
	w.On[writer.EventFreeze] = sessiontest.Behaviour{Do: func(context.Context, *writer.Event) error {
		put("in freeze")
		return nil
	}}
	s := r.held(session.Hold{})
	image := filepath.Join(scratch(t), "image")
	data, err := os.ReadFile(v.Image())
	must(t, err)
	must(t, os.WriteFile(image, data, 0o600))
	must(t, s.ThawWriters(deadline(t), nil))
	c, done := voltest.MountImage(t, "ext4", image)
	defer done()
	for _, name := range []string{"before", "in freeze"} {
		got, err := os.ReadFile(filepath.Join(c.Root, "data", name))
		if err != nil || !bytes.Equal(got, bytes.Repeat([]byte(name), 100_000)) {
			t.Errorf("%s: %d bytes on the disk, %v", name, len(got), err)
		}
	}
}

// TestThawDoesNotWaitForTheStateDirectory: writers and processes go on while the
// file system of the state directory is frozen, also processes that were stopped
// in a way of which the journal must know. Close waits until it is not.
func TestThawDoesNotWaitForTheStateDirectory(t *testing.T) {
	voltest.Need(t, "ext4")
	for _, end := range []string{"thaw", "abort"} {
		t.Run(end, func(t *testing.T) {
			v := voltest.Ext4(t, 0)
			r := newRig(t, "a", "b")
			r.o.StateDir = filepath.Join(v.Root, "state")
			a := startApp(t, filepath.Join(r.writers[0].Dir, "data"))
			traced(t, a.cmd.Process.Pid) // so that it is stopped by a signal
			commitsHeld(r.writers[0], a.cmd.Process.Pid)
			s := r.held(session.Hold{})
			thawVolume := freezeVolume(t, v.Root)
			start := time.Now()
			ended := make(chan error, 1)
			if end == "thaw" {
				must(t, s.ThawWriters(deadline(t), nil))
				must(t, s.BackupComplete(deadline(t), nil))
				r.wantStop("signal")
				go func() { ended <- s.Close() }()
			} else {
				go func() { ended <- s.AbortBackup(context.Background()) }()
				within(t, 10*time.Second, "the writers get Abort", func() bool {
					return r.log.Count("a", writer.EventAbort) > 0 && r.log.Count("b", writer.EventAbort) > 0
				})
			}
			a.wantRunning()
			if took := time.Since(start); took > 10*time.Second {
				t.Errorf("let go after %v", took)
			}
			thawVolume()
			must(t, <-ended)
			if end == "abort" {
				r.wantStop("signal")
			}
			if l := left(r.o.StateDir, v.Root); len(l) > 0 {
				t.Errorf("left: %v", l)
			}
		})
	}
}

// wantStop checks how processes were stopped.
func (r *rig) wantStop(how string) {
	r.t.Helper()
	if rc, err := r.s.Receipt(deadline(r.t)); err != nil || rc.Stop != how {
		r.t.Errorf("receipt %+v, %v: processes were to be stopped by %s", rc, err, how)
	}
}

// traced has another process trace one, as a debugger does, so that nobody else
// can.
func traced(t *testing.T, pid int) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "test-tracer", strconv.Itoa(pid))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("tracer: %q, %v", line, err)
	}
}

// tracerProcess traces the threads of a process, and lets it do what it would do
// without.
func tracerProcess(args []string) error {
	runtime.LockOSThread()
	pid, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	if err != nil {
		return err
	}
	for _, task := range tasks {
		tid, err := strconv.Atoi(filepath.Base(task))
		if err != nil {
			return err
		}
		if err := ptrace(unix.PTRACE_SEIZE, tid, unix.PTRACE_O_TRACECLONE); err != nil {
			return err
		}
	}
	fmt.Println("tracing")
	for {
		var status unix.WaitStatus
		tid, err := unix.Wait4(-1, &status, unix.WALL, nil)
		switch {
		case err == unix.EINTR || err == nil && !status.Stopped():
			continue
		case err != nil:
			return err
		}
		signal := status.StopSignal()
		switch event := uint32(status) >> 16; {
		case event == unix.PTRACE_EVENT_STOP && signal != unix.SIGTRAP:
			err = ptrace(unix.PTRACE_LISTEN, tid, 0) // it stays stopped
		case event != 0:
			err = ptrace(unix.PTRACE_CONT, tid, 0)
		default:
			err = ptrace(unix.PTRACE_CONT, tid, int(signal))
		}
		if err != nil && err != unix.ESRCH {
			return err
		}
	}
}

func ptrace(request, tid, data int) error {
	_, _, errno := syscall.RawSyscall6(syscall.SYS_PTRACE, uintptr(request), uintptr(tid), 0, uintptr(data), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// freezeVolume freezes a scratch volume as fsfreeze does, until what it returns is
// called.
func freezeVolume(t *testing.T, root string) (thaw func()) {
	t.Helper()
	const fiFreeze, fiThaw = 0xc0045877, 0xc0045878
	dir, err := os.Open(root)
	must(t, err)
	must(t, unix.IoctlSetInt(int(dir.Fd()), fiFreeze, 0))
	frozen := true
	thaw = func() {
		if frozen {
			frozen = false
			if err := unix.IoctlSetInt(int(dir.Fd()), fiThaw, 0); err != nil && !errors.Is(err, syscall.EINVAL) {
				t.Errorf("thaw %s: %v", root, err)
			}
			dir.Close()
		}
	}
	t.Cleanup(thaw)
	return thaw
}

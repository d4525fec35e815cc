package coordinator_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/session/sessiontest"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// appProcess is an application that writes to a file all the time, in two
// processes: it and a child.
func appProcess(args []string) int {
	file := args[0]
	if len(args) == 1 {
		child := exec.Command(os.Args[0], "test-app", file+".child", "child")
		child.Stdin = os.Stdin // ends with us
		if err := child.Start(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	go func() {
		os.Stdin.Read(make([]byte, 1))
		os.Exit(0)
	}()
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	for n := 1; ; n++ {
		if _, err := f.WriteAt(fmt.Appendf(nil, "%020d", n), 0); err != nil {
			return 1
		}
		if n == 1 {
			fmt.Println("writing")
		}
	}
}

// app is a running application.
type app struct {
	t    *testing.T
	cmd  *exec.Cmd
	file string
}

func startApp(t *testing.T, file string) *app {
	t.Helper()
	cmd := exec.Command(os.Args[0], "test-app", file)
	stdin, err := cmd.StdinPipe()
	must(t, err)
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() {
		stdin.Close()
		cmd.Process.Kill()
		cmd.Wait()
	})
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		t.Fatalf("application: %q, %v", line, err)
	}
	within(t, 20*time.Second, "the application's child writes", func() bool {
		_, err := os.Stat(file + ".child")
		return err == nil
	})
	return &app{t, cmd, file}
}

func (a *app) content() []byte {
	a.t.Helper()
	one, err := os.ReadFile(a.file)
	must(a.t, err)
	two, err := os.ReadFile(a.file + ".child")
	must(a.t, err)
	return append(one, two...)
}

// wantRunning checks that both processes write.
func (a *app) wantRunning() {
	a.t.Helper()
	before := a.content()
	within(a.t, 20*time.Second, "the application writes again", func() bool {
		now := a.content()
		return !bytes.Equal(now[:20], before[:20]) && !bytes.Equal(now[20:], before[20:])
	})
}

// commitsHeld makes a writer one that holds commits only, and names processes in
// its Freeze.
func commitsHeld(w *sessiontest.Script, pids ...int) {
	w.Description.Stillness = writer.CommitsHeld
	w.Description.NamesProcesses = len(pids) > 0
	w.On[writer.EventFreeze] = sessiontest.Behaviour{Do: func(_ context.Context, e *writer.Event) error {
		e.Frozen(writer.FreezeReport{Processes: pids})
		return nil
	}}
}

// TestCommitsHeldIsRefusedBeforeFreeze: where files are copied one by one, a
// writer that cannot hold its files still, nor name who writes them, is out
// before anything is frozen; the others go on. Where one operation takes all its
// files it is welcome.
func TestCommitsHeldIsRefusedBeforeFreeze(t *testing.T) {
	r := newRig(t, "bad", "good")
	bad, good := r.writers[0], r.writers[1]
	commitsHeld(bad)
	must(t, r.to("DoSnapshotSet"))
	r.wantFailed(bad, vss.WriterFailedAtPrepareSnapshot, vss.ErrWriterErrorNonRetryable)
	if st := r.status(good); st.State != vss.WriterWaitingForBackupComplete {
		t.Errorf("the other writer: %v, %s", st.State, st.Message)
	}
	if n := r.log.Count("bad", writer.EventFreeze); n != 0 {
		t.Errorf("it got Freeze %d times", n)
	}
	if st := r.status(bad); !strings.Contains(st.Message, "names no processes") {
		t.Errorf("message %q", st.Message)
	}

	t.Run("not by an atomic provider", func(t *testing.T) {
		r := newRig(t, "one")
		commitsHeld(r.writers[0])
		r.prov.caps = func(c *provider.Capabilities) { c.Atomic = true }
		must(t, r.to("DoSnapshotSet"))
		if st := r.status(r.writers[0]); st.State != vss.WriterWaitingForBackupComplete {
			t.Errorf("%v: %s", st.State, st.Message)
		}
		if rc := r.receipt(r.writers[0]); rc.Stillness != "commits held" || rc.Stopped {
			t.Errorf("receipt %+v", rc)
		}
	})
	t.Run("also where nobody says which files are whose", func(t *testing.T) {
		r := newRig(t, "one")
		commitsHeld(r.writers[0])
		r.scope = func(s session.Scope) session.Scope {
			s.Unclaimed, s.Claims = s.Claims[0].Files, nil
			return s
		}
		must(t, r.to("DoSnapshotSet"))
		r.wantFailed(r.writers[0], vss.WriterFailedAtPrepareSnapshot, vss.ErrWriterErrorNonRetryable)
	})
}

// TestClaimOfUnknownWriterIsRefused: a claim that names no writer of the session
// would leave it unheld in silence.
func TestClaimOfUnknownWriterIsRefused(t *testing.T) {
	for name, id := range map[string]string{"label": "one", "another": vss.NewGUID().String(), "none": ""} {
		r := newRig(t, "one")
		r.scope = func(s session.Scope) session.Scope { s.Claims[0].Writer = id; return s }
		if err := r.to("AddToSnapshotSet"); !errors.Is(err, vss.ErrInvalidArgument) {
			t.Errorf("%s: error %v, want %v", name, err, vss.ErrInvalidArgument)
		}
	}
}

// TestNamedProcessesAreStopped: the processes a writer names, and their
// children, are stopped while its files are copied one by one, and go on after.
func TestNamedProcessesAreStopped(t *testing.T) {
	r := newRig(t, "one")
	w := r.writers[0]
	a := startApp(t, filepath.Join(w.Dir, "data"))
	commitsHeld(w, a.cmd.Process.Pid)
	var moved error
	r.prov.at = func(step string) error {
		if step != "PreCommit" && step != "Commit" {
			return nil
		}
		before := a.content()
		time.Sleep(20 * time.Millisecond)
		if after := a.content(); !bytes.Equal(before, after) {
			moved = fmt.Errorf("at %s: %s, then %s", step, before, after)
		}
		return nil
	}
	must(t, r.to("DoSnapshotSet"))
	if moved != nil {
		t.Errorf("the files are not still: %v", moved)
	}
	if st := r.status(w); st.State != vss.WriterWaitingForBackupComplete {
		t.Errorf("%v: %s", st.State, st.Message)
	}
	rc, err := r.s.Receipt(deadline(t))
	must(t, err)
	if rc.Stopped != 2 || rc.Stop == "" {
		t.Errorf("the receipt says that %d processes were stopped, by %q; want 2", rc.Stopped, rc.Stop)
	}
	if one := r.receipt(w); !one.Stopped || one.Stillness != "files still" || !one.ReadsPaused {
		t.Errorf("receipt %+v", one)
	}
	a.wantRunning()
	must(t, r.from("DoSnapshotSet", "BackupComplete"))
}

// TestWriterThatNamesWhatCannotBeStopped is out alone, and nothing stays stopped.
func TestWriterThatNamesWhatCannotBeStopped(t *testing.T) {
	for _, tt := range []struct {
		name string
		pid  func(*testing.T) int
		want string
	}{
		{"our own keeper", func(t *testing.T) int { return children(t, os.Getpid())["test-keeper"] }, "belongs to this program"},
		{"ourselves", func(*testing.T) int { return os.Getpid() }, "belongs to this program"},
		{"process 1", func(*testing.T) int { return 1 }, "must not be stopped"},
		{"nothing", func(*testing.T) int { return 0 }, "named no processes"},
		{"one that has ended", endedProcess, "have ended"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, "bad", "good")
			bad, good := r.writers[0], r.writers[1]
			commitsHeld(bad, 1)
			bad.On[writer.EventFreeze] = sessiontest.Behaviour{Do: func(_ context.Context, e *writer.Event) error {
				if pid := tt.pid(t); pid != 0 {
					e.Frozen(writer.FreezeReport{Processes: []int{pid}})
				}
				return nil
			}}
			a := startApp(t, filepath.Join(good.Dir, "data"))
			commitsHeld(good, a.cmd.Process.Pid)
			must(t, r.to("DoSnapshotSet"))
			r.wantFailed(bad, vss.WriterFailedAtFreeze, vss.ErrWriterErrorNonRetryable)
			if st := r.status(bad); !strings.Contains(st.Message, tt.want) {
				t.Errorf("message %q, want it to say %q", st.Message, tt.want)
			}
			if st := r.status(good); st.State != vss.WriterWaitingForBackupComplete {
				t.Errorf("the other writer: %v, %s", st.State, st.Message)
			}
			if r.log.Count("bad", writer.EventThaw) != 1 {
				t.Errorf("frozen and not thawed: %v", r.log.Of("bad"))
			}
			a.wantRunning()
		})
	}
}

func endedProcess(t *testing.T) int {
	cmd := exec.Command("true")
	must(t, cmd.Run())
	return cmd.Process.Pid
}

// TestKeeperKilledWhileItHolds: the kernel lets the processes go with the keeper,
// so the set must not be taken for consistent.
func TestKeeperKilledWhileItHolds(t *testing.T) {
	for _, at := range []string{"PreCommit", "Commit"} {
		t.Run(at, func(t *testing.T) {
			r := newRig(t, "one")
			w := r.writers[0]
			a := startApp(t, filepath.Join(w.Dir, "data"))
			commitsHeld(w, a.cmd.Process.Pid)
			r.prov.at = func(step string) error {
				if step == at {
					killKeeper(t)
				}
				return nil
			}
			if err := r.to("DoSnapshotSet"); !errors.Is(err, vss.ErrHoldWritesTimeout) {
				t.Errorf("error %v, want %v", err, vss.ErrHoldWritesTimeout)
			}
			a.wantRunning()
			if r.log.Count("one", writer.EventThaw) != 1 || r.log.Count("one", writer.EventAbort) == 0 {
				t.Errorf("events %v", r.log.Of("one"))
			}
			if l := left(r.o.StateDir, r.dir); len(l) > 0 {
				t.Errorf("left behind: %v", l)
			}
		})
	}
}

func killKeeper(t *testing.T) {
	pid := children(t, os.Getpid())["test-keeper"]
	if pid == 0 {
		t.Error("no keeper to kill")
		return
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Errorf("kill keeper: %v", err)
	}
}

// TestKeeperKilledBeforeItHolds: another takes its place, and the backup goes
// well.
func TestKeeperKilledBeforeItHolds(t *testing.T) {
	for _, at := range []string{"AddToSnapshotSet", "PrepareForBackup"} {
		t.Run(at, func(t *testing.T) {
			r := newRig(t, "one")
			w := r.writers[0]
			a := startApp(t, filepath.Join(w.Dir, "data"))
			commitsHeld(w, a.cmd.Process.Pid)
			must(t, r.to(at))
			killKeeper(t)
			within(t, 10*time.Second, "the keeper ends", func() bool { return children(t, os.Getpid())["test-keeper"] == 0 })
			must(t, r.from(at, "BackupComplete"))
			if rc := r.receipt(w); !rc.Stopped {
				t.Errorf("receipt %+v", rc)
			}
			a.wantRunning()
		})
	}
}

// TestKeeperKilledWhenNothingIsHeld costs nothing: the copies are there.
func TestKeeperKilledWhenNothingIsHeld(t *testing.T) {
	r := newRig(t, "one")
	r.prov.at = func(step string) error {
		if step == "PostCommit" {
			killKeeper(t)
		}
		return nil
	}
	must(t, r.to("BackupComplete"))
}

// writerProcess is a program with a writer of its own, on a socket. Its arguments
// are the socket, the writer's directory, and the processes its Freeze names.
func writerProcess(args []string) int {
	w := &sessiontest.Script{Name: "foreign", Class: scriptClass, Dir: args[1], Log: new(sessiontest.Log),
		On: map[writer.EventKind]sessiontest.Behaviour{}}
	var pids []int
	for _, a := range args[2:] {
		pid, err := strconv.Atoi(a)
		if err != nil {
			return 2
		}
		pids = append(pids, pid)
	}
	commitsHeld(w, pids...)
	// A file "direct" in the directory names a file that it directs f to.
	w.On[writer.EventPreRestore] = sessiontest.Behaviour{Do: func(_ context.Context, e *writer.Event) error {
		to, err := os.ReadFile(filepath.Join(args[1], "direct"))
		if err != nil {
			return nil
		}
		c := e.Components.Components()[0]
		return c.AddDirectedTarget(metadata.DirectedTarget{SourcePath: args[1], SourceName: "f", SourceRanges: "0:1",
			DestinationPath: filepath.Dir(string(to)), DestinationName: filepath.Base(string(to)), DestinationRanges: "0:1"})
	}}
	// A file "list" names a way of listing and a file that it lists so.
	w.On[writer.EventPrepareForBackup] = sessiontest.Behaviour{Do: func(_ context.Context, e *writer.Event) error {
		text, err := os.ReadFile(filepath.Join(args[1], "list"))
		if err != nil {
			return nil
		}
		way, file, _ := strings.Cut(string(text), " ")
		c, dir, name := e.Components.Components()[0], filepath.Dir(file), filepath.Base(file)
		switch way {
		case "partial":
			return c.AddPartialFile(metadata.PartialFile{Path: dir, Name: name, Ranges: "0:1"})
		case "ranges":
			return c.AddPartialFile(metadata.PartialFile{Path: args[1], Name: "f", Ranges: "File=" + file})
		}
		return c.AddDifferencedFilesByLastModifyTime(metadata.DifferencedFile{FileSpec: vss.FileSpec{Path: dir, Pattern: name, Recursive: way == "tree"}})
	}}
	if err := writer.Serve(context.Background(), args[0], w); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

const nobody = 65534

// startWriter starts writerProcess as a user, and gives the directory of its
// socket.
func startWriter(t *testing.T, uid uint32, dir string, pids ...int) (sockets string) {
	t.Helper()
	sockets = scratch(t)
	must(t, os.Chmod(sockets, 0o777))
	args := []string{"test-writer", filepath.Join(sockets, "w.sock"), dir}
	for _, pid := range pids {
		args = append(args, strconv.Itoa(pid))
	}
	cmd := asUser(t, uid, args...)
	cmd.Stderr = os.Stderr
	must(t, cmd.Start())
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	within(t, 20*time.Second, "the writer listens", func() bool {
		c, err := net.Dial("unix", args[1]) // the socket is there before anybody listens
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return sockets
}

// asUser is a command that runs the test program as a user.
func asUser(t *testing.T, uid uint32, args ...string) *exec.Cmd {
	t.Helper()
	exe := filepath.Join(scratch(t), "test-program")
	must(t, os.Chmod(filepath.Dir(exe), 0o755))
	data, err := os.ReadFile("/proc/self/exe")
	must(t, err)
	must(t, os.WriteFile(exe, data, 0o755))
	cmd := exec.Command(exe, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	return cmd
}

// needRoot skips a test that needs processes of two users.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: needs root, for processes of another user")
	}
}

// TestForeignWriterMayNameItsOwnProcessesOnly: a user's writer cannot have root's
// processes stopped.
func TestForeignWriterMayNameItsOwnProcessesOnly(t *testing.T) {
	needRoot(t)
	for _, own := range []bool{true, false} {
		t.Run(fmt.Sprint("its own: ", own), func(t *testing.T) {
			r := newRig(t)
			dir := filepath.Join(r.dir, "data")
			must(t, os.Mkdir(dir, 0o755))
			must(t, os.WriteFile(filepath.Join(dir, "f"), []byte("x"), 0o644))
			must(t, os.Chown(dir, nobody, nobody))
			must(t, os.Chown(filepath.Join(dir, "f"), nobody, nobody))
			must(t, os.Chmod(r.dir, 0o755))
			uid := uint32(0)
			if own {
				uid = nobody
			}
			victim := asUser(t, uid, "test-app", filepath.Join(dir, "log"), "alone")
			stdin, err := victim.StdinPipe()
			must(t, err)
			must(t, victim.Start())
			t.Cleanup(func() { stdin.Close(); victim.Process.Kill(); victim.Wait() })
			if !own {
				must(t, os.Chmod(dir, 0o755))
			}
			within(t, 20*time.Second, "the application writes", func() bool {
				_, err := os.Stat(filepath.Join(dir, "log"))
				return err == nil
			})
			if !own {
				must(t, os.Chown(filepath.Join(dir, "log"), nobody, nobody))
			}
			r.o.SocketDirs = []string{startWriter(t, nobody, dir, victim.Process.Pid)}
			st := foreignBackup(t, r, dir)
			if own && st.State != vss.WriterWaitingForBackupComplete {
				t.Errorf("%v: %s", st.State, st.Message)
			}
			if !own && (st.State != vss.WriterFailedAtFreeze || !strings.Contains(st.Message, "not of its own user")) {
				t.Errorf("%v: %s", st.State, st.Message)
			}
		})
	}
}

// foreignBackup takes a backup of the one writer found to its shadow copy, and
// gives its status.
func foreignBackup(t *testing.T, r *rig, dir string) session.WriterStatus {
	t.Helper()
	c := deadline(t)
	log := new(logBuffer)
	r.o.Log = log.logger()
	must(t, r.to("GatherWriterMetadata"))
	infos, err := r.s.WriterMetadata(c)
	must(t, err)
	if len(infos) != 1 {
		t.Fatalf("%d writers, want the one of the other program: %s", len(infos), log)
	}
	id := infos[0].Instance
	must(t, r.s.AddComponent(c, session.Component{Instance: id, Writer: scriptClass, Type: vss.ComponentTypeFileGroup, Name: "data"}))
	loc, err := r.s.ResolvePath(c, dir)
	must(t, err)
	r.volume = loc.Volume
	r.scope = func(session.Scope) session.Scope {
		return session.Scope{Claims: []provider.Claim{{Writer: id.String(), Files: []provider.FileSet{{Dir: loc.Name, Pattern: "*", Recursive: true}}}}}
	}
	must(t, r.from("AddComponent", "DoSnapshotSet"))
	return statusOf(t, r.s, id)
}

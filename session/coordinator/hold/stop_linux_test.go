package hold

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// cycle stops and resumes once, and checks that nothing ran meanwhile.
func cycle(t *testing.T, k *Keeper, list []*busy, method Method) Stopped {
	t.Helper()
	s, err := k.Stop(t.Context(), pids(list))
	if err != nil {
		t.Fatal(err)
	}
	if s.Method != method {
		t.Errorf("stopped by %s, want %s", s.Method, method)
	}
	mustRest(t, list, "while held")
	if err := k.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	allRun(t, list, "after Resume")
	return s
}

func TestStopHoldsBusyProcessesAndResumeLetsThemGo(t *testing.T) {
	list := startBusy(t, 16, 1)
	k := startKeeper(t, Options{})
	for range 5 {
		s := cycle(t, k, list, Ptrace)
		if len(s.PIDs) != 16 || s.Tasks < 16 {
			t.Errorf("stopped %d processes with %d tasks, want 16 with at least as many", len(s.PIDs), s.Tasks)
		}
		t.Logf("%d tasks stopped in %v", s.Tasks, s.Took.Round(10*time.Microsecond))
	}
}

func TestStopHoldsEveryThread(t *testing.T) {
	list := startBusy(t, 3, 20)
	k := startKeeper(t, Options{})
	s := cycle(t, k, list, Ptrace)
	if s.Tasks < 60 {
		t.Errorf("%d tasks stopped, want at least 60", s.Tasks)
	}
}

// startRole starts a role that counts in one word.
func startRole(t *testing.T, role string) *busy {
	t.Helper()
	c, err := openCounters(filepath.Join(t.TempDir(), "counters"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe", role, c.name, "0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	startChild(t, cmd)
	t.Cleanup(func() { _ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL) })
	return &busy{cmd, c, 0, 1}
}

func TestStopHoldsWhatIsForkedMeanwhile(t *testing.T) {
	b := startRole(t, "forker")
	k := startKeeper(t, Options{})
	for range 10 {
		cycle(t, k, []*busy{b}, Ptrace)
	}
}

func TestStopHoldsAForkStorm(t *testing.T) {
	b := startRole(t, "storm")
	k := startKeeper(t, Options{})
	method := Ptrace
	if os.Geteuid() != 0 {
		method = Signal
	}
	for range 10 {
		s := cycle(t, k, []*busy{b}, method)
		t.Logf("%d processes, %d tasks, in %v", len(s.PIDs), s.Tasks, s.Took.Round(10*time.Microsecond))
	}
}

func TestStopHoldsWhatTheKernelDoesForAProcess(t *testing.T) {
	b := startRole(t, "uring")
	workers := 0
	tids, err := taskIDs(b.pid())
	if err != nil {
		t.Fatal(err)
	}
	for _, tid := range tids {
		s, err := readStat(b.pid(), tid)
		if err == nil && strings.HasPrefix(s.comm, "iou-") {
			workers++
		}
	}
	if workers < 2 {
		t.Errorf("%d threads of io_uring, want a poller and a worker", workers)
	}
	k := startKeeper(t, Options{})
	for range 5 {
		cycle(t, k, []*busy{b}, Ptrace)
	}
}

func TestStopHoldsAProcessThatReplacesItself(t *testing.T) {
	b := startRole(t, "execer")
	k := startKeeper(t, Options{})
	for range 10 {
		cycle(t, k, []*busy{b}, Ptrace)
	}
}

func TestStopHoldsAParentInVfork(t *testing.T) {
	b := startRole(t, "vforker")
	k := startKeeper(t, Options{})
	for range 10 {
		cycle(t, k, []*busy{b}, Ptrace)
	}
}

func TestStopHoldsAProcessWhoseFirstThreadEnded(t *testing.T) {
	b := startRole(t, "leaderless")
	for end := time.Now().Add(5 * within); ; time.Sleep(time.Millisecond) {
		s, err := readStat(b.pid(), 0)
		if err == nil && s.dead() && s.threads >= 2 {
			break
		}
		if err != nil || time.Now().After(end) {
			t.Fatalf("the first thread has not ended, or not alone: %+v, %v", s, err)
		}
	}
	k := startKeeper(t, Options{})
	cycle(t, k, []*busy{b}, Ptrace)
}

func TestStopAddsToWhatIsHeld(t *testing.T) {
	list := startBusy(t, 2, 1)
	k := startKeeper(t, Options{})
	if _, err := k.Stop(t.Context(), pids(list[:1])); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Stop(t.Context(), pids(list)); err != nil {
		t.Fatal(err)
	}
	mustRest(t, list, "while held")
	if err := k.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	allRun(t, list, "after Resume")
}

func TestProcessStoppedBeforeStaysStopped(t *testing.T) {
	list := startBusy(t, 2, 2)
	stoppedBefore(t, list, Ptrace)
}

func TestUntraceableProcessStoppedBeforeStaysStopped(t *testing.T) {
	list := startShy(t, 2, 2)
	stoppedBefore(t, list, Signal)
}

func stoppedBefore(t *testing.T, list []*busy, how Method) {
	t.Helper()
	stopBySignal(t, list[0].pid())
	k := startKeeper(t, Options{})
	s, err := k.Stop(t.Context(), pids(list))
	if err != nil {
		t.Fatal(err)
	}
	if s.Method != how {
		t.Errorf("stopped by %s, want %s", s.Method, how)
	}
	mustRest(t, list, "while held")
	if err := k.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	list[1].mustRun(t, "after Resume")
	mustRest(t, list[:1], "after Resume, since it was stopped before")
	if err := unix.Kill(list[0].pid(), unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	list[0].mustRun(t, "after SIGCONT")
}

// stopBySignal stops a process as a shell or an administrator does.
func stopBySignal(t *testing.T, pid int) {
	t.Helper()
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(5 * within); slipped(pid); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("SIGSTOP did not stop the process")
		}
	}
}

// startShy starts busy processes that we may not trace. Root may trace
// everything.
func startShy(t *testing.T, n, threads int) []*busy {
	t.Helper()
	if os.Geteuid() == 0 {
		t.Skip("root may trace everything: TestAsOrdinaryUser runs this one as another user")
	}
	return startCounting(t, "shy", n, threads)
}

// trace starts a process that traces others, as a debugger does.
func trace(t *testing.T, list ...*busy) {
	t.Helper()
	args := []string{"tracer"}
	for _, p := range pids(list) {
		args = append(args, strconv.Itoa(p))
	}
	startChild(t, exec.Command("/proc/self/exe", args...))
}

func TestTracedProcessIsStoppedBySignal(t *testing.T) {
	list := startBusy(t, 4, 2)
	trace(t, list[1])
	k := startKeeper(t, Options{})
	for range 3 {
		cycle(t, k, list, Signal)
	}
}

func TestUntraceableProcessIsStoppedBySignal(t *testing.T) {
	list := startShy(t, 3, 2)
	k := startKeeper(t, Options{})
	for range 3 {
		cycle(t, k, list, Signal)
	}
}

func TestResumeTellsThatAProcessWasLetGoByOthers(t *testing.T) {
	list := startBusy(t, 1, 1)
	trace(t, list[0])
	k := startKeeper(t, Options{})
	if _, err := k.Stop(t.Context(), pids(list)); err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(list[0].pid(), unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	list[0].mustRun(t, "after SIGCONT")
	if err := k.Resume(t.Context()); !errors.Is(err, ErrContinued) {
		t.Errorf("Resume: %v, want ErrContinued", err)
	}
}

func TestStopRefuses(t *testing.T) {
	list := startBusy(t, 1, 1)
	k := startKeeper(t, Options{})
	ended := exec.Command("/proc/self/exe", "-test.run=^$")
	if err := ended.Run(); err != nil {
		t.Fatal(err)
	}
	tids, err := taskIDs(list[0].pid())
	if err != nil || len(tids) < 2 {
		t.Fatalf("tasks %v, %v", tids, err)
	}
	for _, tc := range []struct {
		what string
		pid  int
		want error
	}{
		{"the first process", 1, ErrRefused},
		{"a kernel thread", 2, ErrRefused},
		{"no process", 0, ErrRefused},
		{"a negative number", -list[0].pid(), ErrRefused},
		{"a thread that is not the first", max(tids[0], tids[1]), ErrRefused},
	} {
		_, err := k.Stop(t.Context(), []int{list[0].pid(), tc.pid})
		if !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", tc.what, err, tc.want)
		}
		list[0].mustRun(t, "after a refusal")
	}
	s, err := k.Stop(t.Context(), []int{ended.Process.Pid, os.Getpid(), k.PID(), list[0].pid()})
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Gone) != 1 || len(s.Skipped) != 2 || len(s.PIDs) != 1 {
		t.Errorf("%+v, want one process that has ended, two of ours, one held", s)
	}
	if err := k.Resume(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestStopNamesTheProcessItMayNotStop(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may stop everything; TestAsOrdinaryUser runs this one as another user")
	}
	k := startKeeper(t, Options{})
	list := startBusy(t, 1, 1)
	other := os.Getppid() // the test that runs us, as root
	_, err := k.Stop(t.Context(), []int{list[0].pid(), other})
	var s stat
	s, serr := readStat(other, 0)
	if serr != nil {
		t.Fatal(serr)
	}
	if err == nil || !strings.Contains(err.Error(), strconv.Itoa(other)) || !strings.Contains(err.Error(), s.comm) {
		t.Errorf("Stop: %v; want an error that names process %d (%s)", err, other, s.comm)
	}
	list[0].mustRun(t, "after a refusal")
}

func TestStopGivesUpInTime(t *testing.T) {
	// A tracer that keeps its process from stopping: it swallows SIGSTOP.
	list := startBusy(t, 2, 1)
	swallow(t, list[0].pid())
	k := startKeeper(t, Options{StopLimit: 300 * time.Millisecond})
	_, err := k.Stop(t.Context(), pids(list))
	if !errors.Is(err, ErrNotStopped) || !strings.Contains(err.Error(), strconv.Itoa(list[0].pid())) {
		t.Errorf("Stop: %v; want ErrNotStopped naming process %d", err, list[0].pid())
	}
	allRun(t, list, "after a stop that failed")
}

func TestStopEndsWithItsContext(t *testing.T) {
	list := startBusy(t, 2, 1)
	swallow(t, list[0].pid())
	k := startKeeper(t, Options{StopLimit: time.Minute})
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	if _, err := k.Stop(ctx, pids(list)); err == nil {
		t.Error("Stop succeeded")
	}
	allRun(t, list, "after a stop that was given up")
}

func TestResumeOvertakesStop(t *testing.T) {
	list := startBusy(t, 2, 1)
	swallow(t, list[0].pid())
	k := startKeeper(t, Options{StopLimit: time.Minute})
	failed := make(chan error)
	go func() {
		_, err := k.Stop(t.Context(), pids(list))
		failed <- err
	}()
	time.Sleep(100 * time.Millisecond)
	if err := k.Resume(t.Context()); err != nil {
		t.Error(err)
	}
	select {
	case err := <-failed:
		if err == nil {
			t.Error("Stop succeeded")
		}
	case <-time.After(5 * within):
		t.Errorf("Stop goes on %v after Resume", 5*within)
	}
	allRun(t, list, "after Resume")
}

// swallow starts a tracer that keeps a process from being stopped.
func swallow(t *testing.T, pid int) {
	t.Helper()
	startChild(t, exec.Command("/proc/self/exe", "swallower", strconv.Itoa(pid)))
}

func TestNoSignalIsLost(t *testing.T) {
	b := startRole(t, "signaled")
	k := startKeeper(t, Options{})
	quit := make(chan struct{})
	cycled := make(chan error, 1)
	go func() {
		for {
			select {
			case <-quit:
				cycled <- nil
				return
			default:
			}
			_, err := k.Stop(context.Background(), []int{b.pid()})
			if err == nil {
				err = k.Resume(context.Background())
			}
			if err != nil {
				cycled <- err
				return
			}
		}
	}()
	for range 500 {
		before := b.c.read(1)[0]
		if err := unix.Kill(b.pid(), unix.SIGUSR1); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(5 * time.Second); b.c.read(1)[0] == before; time.Sleep(20 * time.Microsecond) {
			if time.Now().After(end) {
				t.Fatal("a signal did not arrive")
			}
		}
	}
	close(quit)
	if err := <-cycled; err != nil {
		t.Error(err)
	}
}

func TestParentLearnsOfAProcessKilledWhileHeld(t *testing.T) {
	list := startBusy(t, 2, 3)
	k := startKeeper(t, Options{})
	if _, err := k.Stop(t.Context(), pids(list)); err != nil {
		t.Fatal(err)
	}
	if err := list[0].cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = list[0].cmd.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(5 * within):
		t.Fatal("the parent does not learn that its child was killed")
	}
	mustRest(t, list[1:], "while held")
	if err := k.Resume(t.Context()); err != nil {
		t.Error(err)
	}
	list[1].mustRun(t, "after Resume")
}

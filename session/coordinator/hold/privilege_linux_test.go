package hold

import (
	"fmt"
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

// nobody is an ordinary user.
const nobody = 65534

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("NOT TESTED: this needs root")
	}
}

// TestAsOrdinaryUser runs other tests of this package again as a user that is
// not root.
func TestAsOrdinaryUser(t *testing.T) {
	needRoot(t)
	dir, err := os.MkdirTemp("", "hold")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chown(dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	tests := []string{
		"TestStopHoldsBusyProcessesAndResumeLetsThemGo", "TestStopHoldsEveryThread",
		"TestStopHoldsWhatIsForkedMeanwhile", "TestStopHoldsAForkStorm", "TestStopHoldsAParentInVfork",
		"TestProcessStoppedBeforeStaysStopped", "TestUntraceableProcessStoppedBeforeStaysStopped",
		"TestTracedProcessIsStoppedBySignal", "TestUntraceableProcessIsStoppedBySignal",
		"TestStopRefuses", "TestStopNamesTheProcessItMayNotStop",
		"TestKeeperKilledWhileItHolds", "TestOwnerKilledWhileItHolds", "TestRecoverAfterBothWereKilled",
		"TestLeaseLetsGo", "TestCloseDoesNoDutyAndLetsGo",
	}
	cmd := exec.Command("/proc/self/exe", "-test.v", "-test.run=^("+strings.Join(tests, "|")+")$")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "TMPDIR="+dir, "HOME="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	for _, name := range tests {
		if !strings.Contains(string(out), "--- PASS: "+name+" ") {
			t.Errorf("%s did not pass as an ordinary user", name)
		}
	}
	if t.Failed() {
		t.Logf("%s", out)
	}
}

func TestKeeperHasASessionAndAControlGroupOfItsOwn(t *testing.T) {
	needRoot(t)
	k := startKeeper(t, Options{})
	sid, err := unix.Getsid(k.PID())
	if err != nil || sid != k.PID() {
		t.Errorf("the keeper's session is %d (%v), want its own, %d", sid, err, k.PID())
	}
	mount := cgroup2Mount()
	if mount == "" {
		if k.Note() == "" {
			t.Error("there is no control group of its own, and no note that says so")
		}
		t.Skip("NOT TESTED: no hierarchy of control groups of version 2 is mounted")
	}
	want := "/" + groupPrefix + strconv.Itoa(k.PID())
	if g, err := groupOf(k.PID()); err != nil || g != want {
		t.Errorf("the keeper's control group is %q (%v), want %q; note %q", g, err, want, k.Note())
	}
	if err := unix.Kill(k.PID(), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	isClosed(t, k.Done(), "Done is closed after the keeper was killed")
	if _, err := os.Stat(mount + want); err == nil {
		t.Error("the killed keeper's control group is left")
	}
}

func TestStaleControlGroupIsRemoved(t *testing.T) {
	needRoot(t)
	mount := cgroup2Mount()
	if mount == "" {
		t.Skip("NOT TESTED: no hierarchy of control groups of version 2 is mounted")
	}
	stale := filepath.Join(mount, groupPrefix+"99999999")
	if err := os.Mkdir(stale, 0o755); err != nil {
		t.Fatal(err)
	}
	startKeeper(t, Options{})
	if _, err := os.Stat(stale); err == nil {
		t.Error("a dead keeper's control group is left")
		os.Remove(stale)
	}
}

// inGroup puts processes into a new control group.
func inGroup(t *testing.T, name string, pids ...int) string {
	t.Helper()
	needRoot(t)
	mount := cgroup2Mount()
	if mount == "" {
		t.Skip("NOT TESTED: no hierarchy of control groups of version 2 is mounted")
	}
	dir := filepath.Join(mount, fmt.Sprintf("sombra-test-%s-%d", name, os.Getpid()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = thawGroup(dir)
		for end := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			list, _ := groupMembers(dir)
			for _, pid := range list {
				_ = os.WriteFile(filepath.Join(mount, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0)
			}
			err := os.Remove(dir)
			if err == nil {
				return
			}
			if time.Now().After(end) {
				t.Errorf("control group is left: %v", err)
				return
			}
		}
	})
	for _, pid := range pids {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestManyTasksInAGroupOfTheirOwnAreFrozen(t *testing.T) {
	list := startBusy(t, 4, 60)
	dir := inGroup(t, "frozen", pids(list)...)
	k := startKeeper(t, Options{})
	s := cycle(t, k, list, Freezer)
	if s.Tasks <= manyTasks || len(s.PIDs) != 4 {
		t.Errorf("%d processes with %d tasks frozen, want 4 with more than %d", len(s.PIDs), s.Tasks, manyTasks)
	}
	t.Logf("%d tasks frozen in %v", s.Tasks, s.Took.Round(10*time.Microsecond))

	if _, err := k.Stop(t.Context(), pids(list)); err != nil {
		t.Fatal(err)
	}
	if !isFrozen(dir) {
		t.Error("the group is not frozen")
	}
	if err := unix.Kill(k.PID(), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	allRun(t, list, "after the keeper was killed")

	o := startOwner(t, ownership{PIDs: pids(list)})
	if o.method != Freezer {
		t.Errorf("stopped by %s, want %s", o.method, Freezer)
	}
	mustRest(t, list, "while frozen")
	o.kill(t)
	allRun(t, list, "after the owner of the keeper was killed")
}

func TestGroupWithOthersInItIsNotFrozen(t *testing.T) {
	list := startBusy(t, 5, 60)
	inGroup(t, "shared", pids(list)...)
	k := startKeeper(t, Options{StopLimit: 10 * time.Second})
	s, err := k.Stop(t.Context(), pids(list[:4]))
	if err != nil {
		t.Fatal(err)
	}
	if s.Method != Ptrace {
		t.Errorf("stopped by %s, want %s", s.Method, Ptrace)
	}
	t.Logf("%d tasks stopped in %v", s.Tasks, s.Took.Round(10*time.Microsecond))
	mustRest(t, list[:4], "while held")
	list[4].mustRun(t, "while others in its group are held")
	if err := k.Resume(t.Context()); err != nil {
		t.Error(err)
	}
	allRun(t, list, "after Resume")
}

func TestGroupFrozenByOthersStaysFrozen(t *testing.T) {
	list := startBusy(t, 4, 60)
	dir := inGroup(t, "before", pids(list)...)
	if err := os.WriteFile(filepath.Join(dir, "cgroup.freeze"), []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(5 * within); !isFrozen(dir); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the group does not freeze")
		}
	}
	k := startKeeper(t, Options{StopLimit: 10 * time.Second})
	s, err := k.Stop(t.Context(), pids(list))
	if err != nil {
		t.Fatal(err)
	}
	if s.Method == Freezer {
		t.Error("a group that others had frozen was frozen")
	}
	if err := k.Resume(t.Context()); err != nil {
		t.Error(err)
	}
	// Not cgroup.events: a task let go by its tracer takes a moment to freeze.
	b, err := os.ReadFile(filepath.Join(dir, "cgroup.freeze"))
	if err != nil || strings.TrimSpace(string(b)) != "1" {
		t.Errorf("a group that others had frozen was thawed: %q, %v", b, err)
	}
}

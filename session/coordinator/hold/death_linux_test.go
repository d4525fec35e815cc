package hold

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestKeeperKilledWhileItHolds(t *testing.T) {
	for _, how := range []Method{Ptrace, Signal} {
		t.Run(string(how), func(t *testing.T) {
			list := startBusy(t, 4, 2)
			if how == Signal {
				trace(t, list...)
			}
			journal := make(chan json.RawMessage, 100)
			k := startKeeper(t, Options{Journal: func(u json.RawMessage) error { journal <- u; return nil }})
			s, err := k.Stop(t.Context(), pids(list))
			if err != nil {
				t.Fatal(err)
			}
			if s.Method != how {
				t.Errorf("stopped by %s, want %s", s.Method, how)
			}
			mustRest(t, list, "while held")
			if err := unix.Kill(k.PID(), unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
			allRun(t, list, "after the keeper was killed")
			isClosed(t, k.Done(), "Done is closed after the keeper was killed")
			if err := k.Resume(t.Context()); !errors.Is(err, ErrKeeperLost) {
				t.Errorf("Resume: %v, want ErrKeeperLost", err)
			}
			if _, err := k.Assign(t.Context(), Duty{Kind: "append"}); !errors.Is(err, ErrKeeperLost) {
				t.Errorf("Assign: %v, want ErrKeeperLost", err)
			}
			close(journal)
			var last json.RawMessage
			n := 0
			for u := range journal {
				last = u
				n++
			}
			if last != nil || (n == 0) != (how == Ptrace) {
				t.Errorf("the journal was written %d times, lastly with %s", n, last)
			}
		})
	}
}

// appendTo makes duties that append texts to a file.
func appendTo(file string, texts ...string) []Duty {
	var list []Duty
	for _, text := range texts {
		data, _ := json.Marshal(appendDuty{file, text})
		list = append(list, Duty{Kind: "append", Data: data})
	}
	return list
}

// mustHave waits until a file has a content.
func mustHave(t *testing.T, file, want string) {
	t.Helper()
	for end := time.Now().Add(5 * within); ; time.Sleep(5 * time.Millisecond) {
		b, err := os.ReadFile(file)
		if string(b) == want {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s has %q (%v), want %q", filepath.Base(file), b, err, want)
		}
	}
}

// mustEnd waits until a process has ended.
func mustEnd(t *testing.T, pid int) {
	t.Helper()
	for end := time.Now().Add(5 * within); ; time.Sleep(5 * time.Millisecond) {
		if s, err := readStat(pid, 0); err != nil || s.dead() {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("process %d has not ended", pid)
		}
	}
}

func TestOwnerKilledWhileItHolds(t *testing.T) {
	for _, how := range []Method{Ptrace, Signal} {
		t.Run(string(how), func(t *testing.T) {
			list := startBusy(t, 4, 2)
			if how == Signal {
				trace(t, list...)
			}
			file := filepath.Join(t.TempDir(), "duties")
			o := startOwner(t, ownership{PIDs: pids(list), Duties: appendTo(file, "a", "b", "c")})
			if o.method != how {
				t.Errorf("stopped by %s, want %s", o.method, how)
			}
			mustRest(t, list, "while held")
			o.kill(t)
			allRun(t, list, "after the owner of the keeper was killed")
			mustHave(t, file, "cba")
			mustEnd(t, o.keeper)
		})
	}
}

func TestOwnerKilledAtAnyMomentOfAStop(t *testing.T) {
	for _, how := range []Method{Ptrace, Signal} {
		t.Run(string(how), func(t *testing.T) {
			list := startBusy(t, 4, 2)
			if how == Signal {
				trace(t, list...)
			}
			for i := range 10 {
				o := startOwner(t, ownership{PIDs: pids(list), Churn: true})
				time.Sleep(time.Duration(i) * 1700 * time.Microsecond)
				o.kill(t)
				mustEnd(t, o.keeper)
				allRun(t, list, "after the owner of the keeper was killed")
			}
		})
	}
}

func TestKeeperKilledAtAnyMomentOfAStop(t *testing.T) {
	for _, how := range []Method{Ptrace, Signal} {
		t.Run(string(how), func(t *testing.T) {
			list := startBusy(t, 4, 2)
			if how == Signal {
				trace(t, list...)
			}
			for i := range 10 {
				o := startOwner(t, ownership{PIDs: pids(list), Churn: true})
				time.Sleep(time.Duration(i) * 1700 * time.Microsecond)
				if err := unix.Kill(o.keeper, unix.SIGKILL); err != nil {
					t.Fatal(err)
				}
				allRun(t, list, "after the keeper was killed")
				_ = o.cmd.Process.Kill()
			}
		})
	}
}

func TestNoSignalIsLostWhenKeepersAreKilled(t *testing.T) {
	b := startRole(t, "signaled")
	quit, killed := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-quit:
				killed <- nil
				return
			default:
			}
			k, err := StartKeeper(context.Background(), Options{Args: []string{"keeper"}})
			if err != nil {
				killed <- err
				return
			}
			time.AfterFunc(5*time.Millisecond, func() { _ = unix.Kill(k.PID(), unix.SIGKILL) })
			for err == nil {
				if _, err = k.Stop(context.Background(), []int{b.pid()}); err == nil {
					err = k.Resume(context.Background())
				}
			}
			<-k.Done()
		}
	}()
	for range 2000 {
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
	if err := <-killed; err != nil {
		t.Error(err)
	}
}

func TestRecoverAfterBothWereKilled(t *testing.T) {
	list := startBusy(t, 3, 2)
	trace(t, list...)
	journal := filepath.Join(t.TempDir(), "journal")
	o := startOwner(t, ownership{PIDs: pids(list), Journal: journal})
	if o.method != Signal {
		t.Fatalf("stopped by %s, want %s", o.method, Signal)
	}
	// Stopped, so that neither can do anything for the other.
	for _, sig := range []unix.Signal{unix.SIGSTOP, unix.SIGKILL} {
		for _, pid := range []int{o.keeper, o.cmd.Process.Pid} {
			if err := unix.Kill(pid, sig); err != nil {
				t.Fatal(err)
			}
		}
	}
	mustEnd(t, o.keeper)
	mustRest(t, list, "after both were killed")
	undo, err := os.ReadFile(journal)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time there is nothing to do
		if err := Recover(t.Context(), undo); err != nil {
			t.Fatal(err)
		}
		allRun(t, list, "after Recover")
	}
}

func TestRecoverSparesOthers(t *testing.T) {
	list := startBusy(t, 1, 1)
	pid := list[0].pid()
	stopBySignal(t, pid)
	s, err := readStat(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	for what, u := range map[string]Undo{
		"another boot":           {Boot: "x", Signaled: []Ref{{pid, s.start}}},
		"another process":        {Boot: bootID(), Signaled: []Ref{{pid, s.start + 1}}},
		"no control group":       {Boot: bootID(), Groups: []string{t.TempDir()}},
		"a group that is gone":   {Boot: bootID(), Groups: []string{"/sys/fs/cgroup/none"}},
		"a process that is gone": {Boot: bootID(), Signaled: []Ref{{1 << 22, 1}}},
	} {
		b, err := json.Marshal(u)
		if err != nil {
			t.Fatal(err)
		}
		if err := Recover(t.Context(), b); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	mustRest(t, list, "after Recover for others")
	if err := Recover(t.Context(), []byte("{")); err == nil {
		t.Error("Recover takes what is no JSON")
	}
}

func TestLeaseLetsGo(t *testing.T) {
	list := startBusy(t, 2, 2)
	k := startKeeper(t, Options{Lease: 300 * time.Millisecond})
	for what, next := range map[string]func() error{
		"Resume": func() error { return k.Resume(t.Context()) },
		"Stop":   func() error { _, err := k.Stop(t.Context(), pids(list)); return err },
	} {
		if _, err := k.Stop(t.Context(), pids(list)); err != nil {
			t.Fatal(err)
		}
		mustRest(t, list, "before the lease expires")
		time.Sleep(300 * time.Millisecond)
		allRun(t, list, "after the lease")
		if err := next(); !errors.Is(err, ErrLeaseExpired) {
			t.Errorf("%s: %v, want ErrLeaseExpired", what, err)
		}
	}
	cycle(t, k, list, Ptrace) // and it is told only once
}

func TestLeaseLetsGoWhenTheOwnerHangs(t *testing.T) {
	list := startBusy(t, 2, 2)
	o := startOwner(t, ownership{PIDs: pids(list), Lease: 500 * time.Millisecond})
	if err := o.cmd.Process.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	time.Sleep(500 * time.Millisecond)
	allRun(t, list, "after the lease, its owner hanging")
}

func TestKeeperThatHangsIsEnded(t *testing.T) {
	list := startBusy(t, 2, 2)
	trace(t, list[0])
	k := startKeeper(t, Options{})
	if _, err := k.Stop(t.Context(), pids(list)); err != nil {
		t.Fatal(err)
	}
	stopBySignal(t, k.PID())
	begun := time.Now()
	if err := k.Resume(t.Context()); err == nil {
		t.Error("Resume succeeds with a keeper that hangs")
	}
	if took := time.Since(begun); took > 2*releasePatience {
		t.Errorf("Resume took %v", took)
	}
	isClosed(t, k.Done(), "Done is closed after the keeper was ended")
	allRun(t, list, "after Resume with a keeper that hangs")
}

// TestKeeperThatHangsHoldsUpNoCall: no call waits for a keeper that hangs, also
// where the caller sets no limit, and Alive tells that it does.
func TestKeeperThatHangsHoldsUpNoCall(t *testing.T) {
	for name, call := range map[string]func(*Keeper) error{
		"Assign": func(k *Keeper) error {
			_, err := k.Assign(context.Background(), Duty{Kind: "nothing"})
			return err
		},
		"Discharge": func(k *Keeper) error { return k.Discharge(context.Background(), 1) },
		"Alive":     func(k *Keeper) error { return k.Alive(context.Background()) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // they mostly wait
			k := startKeeper(t, Options{})
			if err := k.Alive(t.Context()); err != nil {
				t.Fatalf("a keeper that is well: %v", err)
			}
			stopBySignal(t, k.PID())
			began := time.Now()
			ended := make(chan error, 1)
			go func() { ended <- call(k) }()
			select {
			case err := <-ended:
				if err == nil {
					t.Error("no error from a keeper that hangs")
				}
				t.Logf("after %v: %v", time.Since(began).Round(time.Millisecond), err)
			case <-time.After(20 * time.Second):
				t.Fatal("it waits for a keeper that hangs")
			}
			if err := k.Alive(t.Context()); !errors.Is(err, ErrKeeperLost) {
				t.Errorf("afterwards it is not lost: %v", err)
			}
		})
	}
}

func TestAssignedDutyIsDoneEvenIfTheOwnerDiesTheMomentAfter(t *testing.T) {
	file := filepath.Join(t.TempDir(), "duties")
	for i := range 5 {
		o := startOwner(t, ownership{Duties: appendTo(file, "x"), Churn: true})
		o.kill(t)
		mustHave(t, file, strings.Repeat("x", i+1))
	}
}

// TestDutyWhoseTimeIsUpIsDoneWhenTheOwnerHangs: once as long as it stands, and no
// more when it is discharged before.
func TestDutyWhoseTimeIsUpIsDoneWhenTheOwnerHangs(t *testing.T) {
	file := filepath.Join(t.TempDir(), "duties")
	duties := appendTo(file, "x", "y")
	duties[0].After = 300 * time.Millisecond
	list := startBusy(t, 1, 1)
	o := startOwner(t, ownership{Duties: duties, PIDs: pids(list)})
	if err := o.cmd.Process.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	mustHave(t, file, "x")

	k := startKeeper(t, Options{})
	for after := time.Second; ; after *= 2 {
		other := filepath.Join(t.TempDir(), "duties")
		if dischargedInTime(t, k, appendTo(other, "a", "b"), after) {
			mustHave(t, other, "b")
			break
		}
		if after > 10*time.Second {
			t.Fatalf("a duty cannot be discharged within %v", after)
		}
	}

	// An overdue duty stays one until it is discharged: its owner's death does it
	// again. Waiting for that, the keeper writes no more when the test's files go.
	o.kill(t)
	mustHave(t, file, "xyx")
}

// dischargedInTime assigns two duties with a time, and discharges the first. It
// reports whether its time was surely not up yet.
func dischargedInTime(t *testing.T, k *Keeper, duties []Duty, after time.Duration) bool {
	t.Helper()
	begun := time.Now()
	var ids []uint64
	for _, d := range duties {
		d.After = after
		id, err := k.Assign(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	if err := k.Discharge(t.Context(), ids[0]); err != nil {
		t.Fatal(err)
	}
	return time.Since(begun) < after
}

func TestDischargedDutyIsNotDone(t *testing.T) {
	file := filepath.Join(t.TempDir(), "duties")
	k := startKeeper(t, Options{})
	var ids []uint64
	for _, d := range appendTo(file, "a", "b", "c") {
		id, err := k.Assign(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	if err := k.Discharge(t.Context(), ids[1]); err != nil {
		t.Fatal(err)
	}
	if err := k.Discharge(t.Context(), ids[1]); err == nil {
		t.Error("a duty was discharged twice")
	}
	k.proc.Conn.Close() // as when this process dies
	mustHave(t, file, "ca")
}

func TestCloseDoesNoDutyAndLetsGo(t *testing.T) {
	file := filepath.Join(t.TempDir(), "duties")
	list := startBusy(t, 2, 2)
	k := startKeeper(t, Options{})
	for _, d := range appendTo(file, "a") {
		if _, err := k.Assign(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := k.Stop(t.Context(), pids(list)); err != nil {
		t.Fatal(err)
	}
	if err := k.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	allRun(t, list, "after Close")
	isClosed(t, k.Done(), "Done is closed after Close")
	mustEnd(t, k.PID())
	if _, err := os.Stat(file); err == nil {
		t.Error("a duty was done after Close")
	}
	if _, err := k.Stop(t.Context(), pids(list)); !errors.Is(err, ErrClosed) {
		t.Errorf("Stop after Close: %v, want ErrClosed", err)
	}
}

func TestDutiesThatGoWrongDoNotKeepOthersFromBeingDone(t *testing.T) {
	file := filepath.Join(t.TempDir(), "duties")
	k := startKeeper(t, Options{DutyLimit: 200 * time.Millisecond, DutyTries: 2})
	first := appendTo(file, "done")[0]
	unwritable := appendTo(filepath.Join(t.TempDir(), "no", "such", "place"), "x")[0]
	for _, d := range []Duty{first, {Kind: "hang"}, {Kind: "panic"}, unwritable} {
		if _, err := k.Assign(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	k.proc.Conn.Close()
	mustHave(t, file, "done")
	mustEnd(t, k.PID())
}

func TestDutyIsTriedAgain(t *testing.T) {
	place := filepath.Join(t.TempDir(), "place")
	k := startKeeper(t, Options{DutyTries: 5})
	if _, err := k.Assign(t.Context(), appendTo(filepath.Join(place, "duties"), "x")[0]); err != nil {
		t.Fatal(err)
	}
	k.proc.Conn.Close()
	time.Sleep(100 * time.Millisecond)
	if err := os.Mkdir(place, 0o700); err != nil {
		t.Fatal(err)
	}
	mustHave(t, filepath.Join(place, "duties"), "x")
}

func TestDutyOfUnknownKindIsRefusedAtOnce(t *testing.T) {
	k := startKeeper(t, Options{})
	if _, err := k.Assign(t.Context(), Duty{Kind: "unknown"}); err == nil || !strings.Contains(err.Error(), "unknown") {
		t.Errorf("Assign: %v, want an error that names the kind", err)
	}
	if _, err := k.Assign(t.Context(), Duty{Kind: "append", Data: make([]byte, maxDuty+1)}); err == nil {
		t.Error("Assign takes more data than allowed")
	}
}

func TestKeeperWithDutiesIgnoresSignals(t *testing.T) {
	file := filepath.Join(t.TempDir(), "duties")
	k := startKeeper(t, Options{})
	id, err := k.Assign(t.Context(), appendTo(file, "x")[0])
	if err != nil {
		t.Fatal(err)
	}
	signals := []unix.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGPIPE}
	for _, s := range signals {
		if err := unix.Kill(k.PID(), s); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(100 * time.Millisecond)
	if err := k.Discharge(t.Context(), id); err != nil {
		t.Fatalf("after signals: %v", err)
	}
	// With nothing to do it ends when it is told to.
	if err := unix.Kill(k.PID(), unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	isClosed(t, k.Done(), "the idle keeper ends at SIGTERM")
	if _, err := os.Stat(file); err == nil {
		t.Error("a discharged duty was done")
	}
}

func TestKeeperLetsGoWhenTheConnectionTalksNonsense(t *testing.T) {
	for what, text := range map[string]string{
		"no length": "GET / HTTP/1.0\r\n\r\n",
		"too long":  "\xff\xff\xff\xff",
		"no JSON":   "\x00\x00\x00\x03{{{",
	} {
		list := startBusy(t, 2, 1)
		file := filepath.Join(t.TempDir(), "duties")
		k := startKeeper(t, Options{})
		if _, err := k.Assign(t.Context(), appendTo(file, "x")[0]); err != nil {
			t.Fatal(err)
		}
		if _, err := k.Stop(t.Context(), pids(list)); err != nil {
			t.Fatal(err)
		}
		if _, err := k.proc.Conn.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		allRun(t, list, "after "+what)
		mustHave(t, file, "x")
		isClosed(t, k.Done(), "the keeper ends after "+what)
	}
}

func TestKeeperIsNotStartedByHand(t *testing.T) {
	out, err := exec.Command("/proc/self/exe", "keeper").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "not by hand") {
		t.Errorf("%v: %s; want an error that says it is not started by hand", err, out)
	}
}

func TestStartKeeperReportsAProgramThatIsNone(t *testing.T) {
	for what, o := range map[string]Options{
		"no such program": {Exe: filepath.Join(t.TempDir(), "none")},
		"another program": {Exe: "/bin/false"},
	} {
		begun := time.Now()
		k, err := StartKeeper(t.Context(), o)
		if err == nil {
			_ = k.Close(t.Context())
			t.Errorf("%s: a keeper was started", what)
		}
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("%s: it took %v", what, took)
		}
	}
}

package hold

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The test program is also what it starts: keepers, busy processes, and
// programs that own a keeper and are killed. The first argument says which.
var roles = map[string]func(args []string) error{
	"keeper":     func([]string) error { return keeperRole() },
	"busy":       busyRole,
	"owner":      ownerRole,
	"tracer":     tracerRole,
	"swallower":  swallowerRole,
	"storm":      stormRole,
	"uring":      uringRole,
	"forker":     forkerRole,
	"execer":     execerRole,
	"vforker":    vforkerRole,
	"leaderless": leaderlessRole,
	"signaled":   signaledRole,
	"shy":        shyRole,
}

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		if role := roles[os.Args[1]]; role != nil {
			if err := role(os.Args[2:]); err != nil {
				fmt.Fprintln(os.Stderr, os.Args[1]+":", err)
				os.Exit(1)
			}
			os.Exit(0)
		}
	}
	os.Exit(m.Run())
}

// keeperRole is a keeper whose duties leave traces in files.
func keeperRole() error {
	conn, err := Inherited()
	if err != nil {
		return err
	}
	return KeeperMain(context.Background(), conn, map[string]Handler{
		"append": func(_ context.Context, data json.RawMessage) error {
			var d appendDuty
			if err := json.Unmarshal(data, &d); err != nil {
				return err
			}
			f, err := os.OpenFile(d.File, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = f.WriteString(d.Text)
			return err
		},
		"hang":  func(context.Context, json.RawMessage) error { select {} },
		"panic": func(context.Context, json.RawMessage) error { panic("in a duty") },
	})
}

type appendDuty struct{ File, Text string }

// counters is a file of counters in shared memory: one word for each busy
// thread.
type counters struct {
	name string
	mem  []byte
}

const maxCounters = 4096

func openCounters(name string) (*counters, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	_ = f.Chmod(0o666)
	if err := f.Truncate(maxCounters * 8); err != nil {
		return nil, err
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, maxCounters*8, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	return &counters{name, mem}, err
}

func (c *counters) word(i int) *uint64 { return (*uint64)(unsafe.Pointer(&c.mem[i*8])) }

func (c *counters) read(n int) []uint64 {
	list := make([]uint64, n)
	for i := range list {
		list[i] = atomic.LoadUint64(c.word(i))
	}
	return list
}

// busyRole counts in several threads until it is killed: FILE FIRST THREADS.
// Every second thread also writes and syncs a file.
func busyRole(args []string) error {
	c, err := openCounters(args[0])
	if err != nil {
		return err
	}
	first, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	threads, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	for i := first; i < first+threads; i++ {
		f, err := os.OpenFile(args[0]+"."+strconv.Itoa(i), os.O_RDWR|os.O_CREATE, 0o666)
		if err != nil {
			return err
		}
		go func() {
			runtime.LockOSThread()
			var buf [8]byte
			for n := uint64(1); ; n++ {
				atomic.AddUint64(c.word(i), 1)
				switch {
				case i%2 == 0 && n%100 == 0:
					binary.BigEndian.PutUint64(buf[:], n)
					_, _ = f.WriteAt(buf[:], 0)
					_ = unix.Fdatasync(int(f.Fd()))
				case threads > 4:
					time.Sleep(time.Millisecond)
				}
			}
		}()
	}
	fmt.Println("ready")
	select {}
}

// busy is a busy child of the test.
type busy struct {
	cmd     *exec.Cmd
	c       *counters
	first   int
	threads int
}

func (b *busy) pid() int { return b.cmd.Process.Pid }

// startBusy starts n busy processes of several threads each, and returns when
// all of them count.
func startBusy(t *testing.T, n, threads int) []*busy {
	t.Helper()
	return startCounting(t, "busy", n, threads)
}

func startCounting(t *testing.T, role string, n, threads int) []*busy {
	t.Helper()
	c, err := openCounters(filepath.Join(t.TempDir(), "counters"))
	if err != nil {
		t.Fatal(err)
	}
	var list []*busy
	for i := range n {
		cmd := exec.Command("/proc/self/exe", role, c.name, strconv.Itoa(i*threads), strconv.Itoa(threads))
		startChild(t, cmd)
		list = append(list, &busy{cmd, c, i * threads, threads})
	}
	for _, b := range list {
		b.mustRun(t, "after it was started")
	}
	return list
}

// startChild starts a command that says when it is ready, and kills it at the
// end of the test.
func startChild(t *testing.T, cmd *exec.Cmd) *bufio.Reader {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(unix.SIGKILL)
		_ = cmd.Wait()
	})
	r := bufio.NewReader(out)
	if line, err := r.ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("%v: %q, %v", cmd.Args, line, err)
	}
	return r
}

func pids(list []*busy) []int {
	var p []int
	for _, b := range list {
		p = append(p, b.pid())
	}
	return p
}

// within is the time in which whatever is held must be let go again.
const within = time.Second

// isHeld reports whether a task of the process is stopped, or all are frozen.
func (b *busy) isHeld() bool {
	tids, _ := taskIDs(b.pid())
	for _, tid := range tids {
		if s, err := readStat(b.pid(), tid); err == nil && s.stopped() {
			return true
		}
	}
	group, err := groupOf(b.pid())
	return err == nil && isFrozen(cgroup2Mount()+group)
}

// mustRun waits until every thread has counted on. The promise is that the
// process is let go in time; when it then gets a processor is not ours to say.
func (b *busy) mustRun(t *testing.T, when string) {
	t.Helper()
	before := b.c.read(maxCounters)
	limit := within
	for begun := time.Now(); ; time.Sleep(time.Millisecond) {
		now, all := b.c.read(maxCounters), true
		for i := b.first; i < b.first+b.threads; i++ {
			all = all && now[i] != before[i]
		}
		if all {
			return
		}
		if time.Since(begun) < limit {
			continue
		}
		if limit > within || b.isHeld() {
			t.Fatalf("process %d does not run within %v %s (held: %v)", b.pid(), limit, when, b.isHeld())
		}
		limit = 15 * within
	}
}

// mustRest checks that no thread counts.
func mustRest(t *testing.T, list []*busy, when string) {
	t.Helper()
	before := list[0].c.read(maxCounters)
	time.Sleep(60 * time.Millisecond)
	now := list[0].c.read(maxCounters)
	for _, b := range list {
		for i := b.first; i < b.first+b.threads; i++ {
			if now[i] != before[i] {
				t.Fatalf("process %d counted from %d to %d %s", b.pid(), before[i], now[i], when)
			}
		}
	}
}

func allRun(t *testing.T, list []*busy, when string) {
	t.Helper()
	for _, b := range list {
		b.mustRun(t, when)
	}
}

// startKeeper starts a keeper that is dismissed at the end of the test.
func startKeeper(t *testing.T, o Options) *Keeper {
	t.Helper()
	o.Args = []string{"keeper"}
	if o.Stderr == nil {
		o.Stderr = os.Stderr
	}
	k, err := StartKeeper(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(context.Background()); err != nil && err != ErrClosed {
			t.Errorf("close: %v", err)
		}
		if _, err := os.Stat(k.welcome.Cgroup); k.welcome.Cgroup != "" && err == nil {
			t.Errorf("the keeper's control group %s is left", k.welcome.Cgroup)
		}
	})
	return k
}

// isClosed waits for the end of a process, which may take its time to end.
func isClosed(t *testing.T, c <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(5 * within):
		t.Fatalf("not within %v: %s", 5*within, what)
	}
}

package hold

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ownership is what a process is told that owns a keeper and will be killed.
type ownership struct {
	PIDs    []int
	Duties  []Duty
	Lease   time.Duration
	Journal string // a file; empty for none
	Churn   bool   // stop and resume without end instead of holding
}

// ownerRole owns a keeper: it assigns its duties, stops its processes, says the
// keeper's pid and waits to be killed.
func ownerRole(args []string) error {
	var o ownership
	if err := json.Unmarshal([]byte(args[0]), &o); err != nil {
		return err
	}
	opts := Options{Args: []string{"keeper"}, Lease: o.Lease, Stderr: os.Stderr}
	if o.Journal != "" {
		opts.Journal = func(undo json.RawMessage) error { return os.WriteFile(o.Journal, undo, 0o600) }
	}
	k, err := StartKeeper(context.Background(), opts)
	if err != nil {
		return err
	}
	for _, d := range o.Duties {
		if _, err := k.Assign(context.Background(), d); err != nil {
			return err
		}
	}
	if o.Churn {
		fmt.Println("ready")
		fmt.Println(k.PID())
	}
	for {
		s, err := k.Stop(context.Background(), o.PIDs)
		if err != nil {
			return err
		}
		if !o.Churn {
			fmt.Println("ready")
			fmt.Println(k.PID(), s.Method)
			select {}
		}
		if err := k.Resume(context.Background()); err != nil {
			return err
		}
	}
}

// owner is an ownerRole process.
type owner struct {
	cmd    *exec.Cmd
	keeper int
	method Method
}

func startOwner(t *testing.T, o ownership) *owner {
	t.Helper()
	arg, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	ow := &owner{cmd: exec.Command("/proc/self/exe", "owner", string(arg))}
	r := startChild(t, ow.cmd)
	if _, err := fmt.Fscanln(r, &ow.keeper, &ow.method); err != nil && !o.Churn {
		t.Fatal(err)
	}
	return ow
}

func (o *owner) kill(t *testing.T) {
	t.Helper()
	if err := o.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
}

// tracerRole traces processes as a debugger would, and passes on every signal:
// PID...
func tracerRole(args []string) error { return traceAll(args, func(sig int) int { return sig }) }

// swallowerRole traces processes and keeps SIGSTOP from them.
func swallowerRole(args []string) error {
	return traceAll(args, func(sig int) int {
		if sig == int(unix.SIGSTOP) {
			return 0
		}
		return sig
	})
}

func traceAll(args []string, pass func(sig int) int) error {
	runtime.LockOSThread()
	for _, a := range args {
		pid, err := strconv.Atoi(a)
		if err != nil {
			return err
		}
		tids, err := taskIDs(pid)
		if err != nil {
			return err
		}
		for _, tid := range tids {
			if err := ptrace(unix.PTRACE_SEIZE, tid, 0, unix.PTRACE_O_TRACECLONE); err != nil {
				return err
			}
		}
	}
	fmt.Println("ready")
	for {
		var status unix.WaitStatus
		tid, err := unix.Wait4(-1, &status, unix.WALL, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		if !status.Stopped() {
			continue
		}
		event := int(uint32(status) >> 16)
		switch {
		case event == unix.PTRACE_EVENT_STOP && status.StopSignal() != unix.SIGTRAP:
			// A group stop: it stays.
			err = ptrace(unix.PTRACE_LISTEN, tid, 0, 0)
		case event != 0:
			err = cont(tid, 0)
		default:
			err = cont(tid, pass(int(status.StopSignal())))
		}
		if err != nil && err != unix.ESRCH {
			return err
		}
	}
}

// forkerRole starts processes without end that each count once and end, some
// of them after having started others: FILE WORD.
func forkerRole(args []string) error {
	if len(args) == 3 {
		c, err := openCounters(args[0])
		if err != nil {
			return err
		}
		word, _ := strconv.Atoi(args[1])
		depth, _ := strconv.Atoi(args[2])
		atomic.AddUint64(c.word(word), 1)
		if depth > 0 {
			return exec.Command("/proc/self/exe", "forker", args[0], args[1], strconv.Itoa(depth-1)).Run()
		}
		return nil
	}
	for n := 0; ; n++ {
		cmd := exec.Command("/proc/self/exe", "forker", args[0], args[1], strconv.Itoa(n%3))
		if err := cmd.Start(); err != nil {
			return err
		}
		if n == 0 {
			fmt.Println("ready")
		}
		if n%2 == 0 {
			_ = cmd.Wait()
		} else {
			go func() { _ = cmd.Wait() }()
			time.Sleep(time.Millisecond)
		}
	}
}

// execerRole replaces itself without end, from any of its threads: FILE WORD.
func execerRole(args []string) error {
	c, err := openCounters(args[0])
	if err != nil {
		return err
	}
	word, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	if atomic.AddUint64(c.word(word), 1) == 1 {
		fmt.Println("ready")
	}
	for range 4 {
		go func() {
			runtime.LockOSThread()
			for {
				runtime.Gosched()
			}
		}()
	}
	failed := make(chan error)
	go func() {
		runtime.LockOSThread()
		failed <- syscall.Exec("/proc/self/exe", append([]string{os.Args[0], "execer"}, args...), os.Environ())
	}()
	return <-failed
}

// vforkerRole makes a child with vfork again and again, which takes 50 ms until
// it ends: FILE WORD. Until then the parent's thread waits in the kernel.
func vforkerRole(args []string) error {
	c, err := openCounters(args[0])
	if err != nil {
		return err
	}
	word, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	for n := 0; ; n++ {
		atomic.AddUint64(c.word(word), 1)
		pid, err := vforkChild()
		if err != nil {
			return err
		}
		if n == 0 {
			fmt.Println("ready")
		}
		_, _ = unix.Wait4(pid, nil, 0, nil)
	}
}

// vforkChild makes a child that sleeps and ends, without going through the
// runtime, which has no part in it.
//
//go:norace
//go:nosplit
func vforkChild() (int, error) {
	ts := syscall.Timespec{Nsec: 50e6}
	pid, _, errno := syscall.RawSyscall(syscall.SYS_CLONE, syscall.CLONE_VFORK|uintptr(syscall.SIGCHLD), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	if pid == 0 {
		for {
			syscall.RawSyscall(syscall.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&ts)), 0, 0)
			syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 0, 0, 0)
		}
	}
	return int(pid), nil
}

// stormRole forks without end from several threads, children that fork
// themselves, and none of which becomes another program: FILE WORD. They count
// and end. Who may not trace one may trace none of them.
func stormRole(args []string) error {
	c, err := openCounters(args[0])
	if err != nil {
		return err
	}
	word, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return err
	}
	for range 3 {
		go func() {
			runtime.LockOSThread()
			for {
				forkChain(c.word(word), 3)
			}
		}()
	}
	fmt.Println("ready")
	select {}
}

// forkChain forks a child that counts and forks another, and so on; each ends
// after its own child has. In a child there is only this thread of the runtime,
// so nothing may be called that could want another: no function that might grow
// the stack and be preempted by it.
//
//go:norace
//go:nosplit
func forkChain(word *uint64, depth int) {
	for first := true; ; first = false {
		pid, _, errno := syscall.RawSyscall(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0)
		if errno != 0 || pid != 0 {
			if errno == 0 {
				syscall.RawSyscall6(syscall.SYS_WAIT4, pid, 0, 0, 0, 0, 0)
			}
			if first {
				return
			}
			depth = 0
		} else {
			atomic.AddUint64(word, 1)
		}
		for depth == 0 {
			syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 0, 0, 0)
		}
		depth--
	}
}

// uringRole has the kernel work for it in threads of its own: FILE WORD. It
// says "none" if io_uring is not to be had.
func uringRole(args []string) error {
	const (
		setupSqpoll = 2
		offSqes     = 0x10000000
		opRead      = 22
		async       = 1 << 4 // IOSQE_ASYNC
		wakeup      = 1 << 1 // IORING_ENTER_SQ_WAKEUP
	)
	c, err := openCounters(args[0])
	if err != nil {
		return err
	}
	// struct io_uring_params, of which only the offsets of the ring matter.
	var p struct {
		entries, cq, flags, cpu, idle, features, wq  uint32
		_                                            [3]uint32
		head, tail, mask, n, sqflags, dropped, array uint32
		_                                            [3]uint32
		_                                            [10]uint32
	}
	p.flags, p.idle = setupSqpoll, 60000
	ring, _, errno := syscall.Syscall(unix.SYS_IO_URING_SETUP, 8, uintptr(unsafe.Pointer(&p)), 0)
	if errno != 0 {
		fmt.Println("none")
		return nil
	}
	sq, err := unix.Mmap(int(ring), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return err
	}
	sqes, err := unix.Mmap(int(ring), offSqes, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return err
	}
	var pipe [2]int
	if err := unix.Pipe(pipe[:]); err != nil {
		return err
	}
	word := func(off uint32) *uint32 { return (*uint32)(unsafe.Pointer(&sq[off])) }
	// One read of an empty pipe, in a worker, for ever.
	buf := make([]byte, 8)
	sqes[0], sqes[1] = opRead, async
	binary.NativeEndian.PutUint32(sqes[4:], uint32(pipe[0]))
	binary.NativeEndian.PutUint64(sqes[16:], uint64(uintptr(unsafe.Pointer(&buf[0]))))
	binary.NativeEndian.PutUint32(sqes[24:], 8)
	*word(p.array) = 0
	atomic.StoreUint32(word(p.tail), 1)
	if _, _, errno := syscall.Syscall6(unix.SYS_IO_URING_ENTER, ring, 1, 0, wakeup, 0, 0); errno != 0 {
		return errno
	}
	time.Sleep(50 * time.Millisecond)
	fmt.Println("ready")
	for {
		atomic.AddUint64(c.word(0), 1)
		runtime.KeepAlive(buf)
	}
}

// leaderlessRole counts in two threads after its first thread has ended: FILE
// WORD.
func leaderlessRole(args []string) error {
	c, err := openCounters(args[0])
	if err != nil {
		return err
	}
	word, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	for range 2 {
		go func() {
			for {
				atomic.AddUint64(c.word(word), 1)
			}
		}()
	}
	fmt.Println("ready")
	if unix.Gettid() != unix.Getpid() {
		return fmt.Errorf("this is not the first thread")
	}
	syscall.Syscall(syscall.SYS_EXIT, 0, 0, 0)
	return nil
}

// The first goroutine of a leaderlessRole stays on the first thread.
func init() {
	if len(os.Args) > 1 && os.Args[1] == "leaderless" {
		runtime.LockOSThread()
	}
}

// signaledRole counts signals: FILE WORD.
func signaledRole(args []string) error {
	c, err := openCounters(args[0])
	if err != nil {
		return err
	}
	word, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	s := make(chan os.Signal, 16)
	signal.Notify(s, syscall.SIGUSR1)
	fmt.Println("ready")
	for range s {
		atomic.AddUint64(c.word(word), 1)
	}
	return nil
}

// shyRole cannot be traced by others of its user, as under yama, and is busy.
func shyRole(args []string) error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return err
	}
	return busyRole(args)
}

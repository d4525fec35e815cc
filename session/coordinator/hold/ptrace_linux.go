package hold

import (
	"encoding/binary"
	"errors"
	"runtime"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// taskState is how far a traced task is from standing still.
type taskState int

const (
	moving  taskState = iota // seized and told to stop, not seen stopped
	still                    // in a ptrace stop
	waiting                  // in vfork, in the kernel, for a child that is still
	dead
)

// task is one traced task.
type task struct {
	pid, tid int
	state    taskState
}

// ptraceOptions make children and threads of a seized task seized as well, from
// their first instruction.
const ptraceOptions = unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_TRACEVFORK | unix.PTRACE_O_TRACECLONE

// onOwnThread runs fn on a thread that runs nothing else and ends when fn
// returns. ptrace belongs to the thread that began it; what is still traced
// when that thread ends is let go by the kernel.
func onOwnThread(fn func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			fn()
			return // locked: the thread ends here
		}
		// The main thread never ends. Keep it while another is found.
		begun := make(chan struct{})
		onOwnThread(func() { close(begun); fn() })
		<-begun
		runtime.UnlockOSThread()
	}()
}

func ptrace(request, tid int, addr, data uintptr) error {
	// Not a raw system call: seizing waits while the task is in exec.
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, uintptr(request), uintptr(tid), addr, data, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

func seize(tid int) error     { return ptrace(unix.PTRACE_SEIZE, tid, 0, ptraceOptions) }
func interrupt(tid int) error { return ptrace(unix.PTRACE_INTERRUPT, tid, 0, 0) }
func detach(tid int) error    { return ptrace(unix.PTRACE_DETACH, tid, 0, 0) }

// cont lets a task go on that is in a stop, with a signal if sig is not 0.
func cont(tid, sig int) error { return ptrace(unix.PTRACE_CONT, tid, 0, uintptr(sig)) }

// siginfo is siginfo_t as waitid fills it.
type siginfo struct {
	signo, errno, code int32
	child              struct {
		_      [0]uintptr // the union is aligned as a pointer is
		pid    int32
		uid    uint32
		status int32
	}
	_ [128]byte // more than the rest of the 128 bytes
}

// ended reports whether the task has ended: CLD_EXITED, CLD_KILLED, CLD_DUMPED.
func (i siginfo) ended() bool { return i.child.pid != 0 && i.code >= 1 && i.code <= 3 }

// peek looks, without waiting, whether a traced task is stopped or has ended. It
// takes nothing away: a signal that a task has stopped to receive would be lost
// if it were taken and we died before handing it on.
func peek(tid int) (info siginfo, err error) {
	const options = unix.WEXITED | unix.WSTOPPED | unix.WNOHANG | unix.WNOWAIT | unix.WALL
	for {
		_, _, errno := unix.RawSyscall6(unix.SYS_WAITID, unix.P_PID, uintptr(tid),
			uintptr(unsafe.Pointer(&info)), uintptr(options), 0, 0)
		switch errno {
		case 0:
			return info, nil
		case unix.EINTR:
		default:
			return info, errno
		}
	}
}

// reap takes note of a traced task's end, so that its parent learns of it. Like
// peek it works on any thread.
func reap(tid int) {
	var status unix.WaitStatus
	_, _ = unix.Wait4(tid, &status, unix.WNOHANG|unix.WALL, nil)
}

// trace seizes a task and tells it to stop.
func (h *hold) trace(p *process, tid int) error {
	for try := 1; ; try++ {
		h.seizing.Store(int64(p.PID))
		err := seize(tid)
		h.seizing.Store(0)
		if errors.Is(err, unix.ESRCH) {
			return nil
		}
		// It fails if the task is ours already, by another number, which it
		// has changed in exec. Then, and only then, it can be interrupted.
		if ierr := interrupt(tid); err == nil || ierr == nil {
			h.tasks[tid] = &task{pid: p.PID, tid: tid}
			return nil
		}
		s, serr := readStat(p.PID, tid)
		switch {
		case isGone(serr):
			return nil
		case serr != nil:
			return serr
		case s.dead(): // a first thread that has ended before the others
			h.tasks[tid] = &task{pid: p.PID, tid: tid, state: dead}
			return nil
		case try == 3: // it was not only just about to end, or to change its number
			return err
		}
	}
}

// unblock keeps seize from waiting for ever, until quit is closed. In exec a
// thread waits, with a lock held that seize takes, until all other threads of
// its process have ended; and traced ones have ended only when their tracer has
// taken note of it. The tracer's thread cannot, so another does.
func (h *hold) unblock(quit <-chan struct{}) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for last := int64(0); ; {
		select {
		case <-quit:
			return
		case <-tick.C:
		}
		pid := h.seizing.Load()
		if pid != 0 && pid == last {
			tids, _ := taskIDs(int(pid))
			for _, tid := range tids {
				if info, err := peek(tid); err == nil && info.ended() {
					reap(tid)
				}
			}
		}
		last = pid
	}
}

// sweep looks once at every traced task that is moving, and returns how many
// still are.
func (h *hold) sweep() (left int) {
	for tid, t := range h.tasks {
		if t.state != moving && t.state != waiting {
			continue
		}
		info, err := peek(tid)
		switch {
		case err != nil: // ECHILD: ended, or took another thread's id in exec
			delete(h.tasks, tid)
		case info.child.pid == 0: // nothing new
		case info.ended():
			reap(tid)
			t.state = dead
		default:
			h.stopOf(t, info.child.status)
		}
		if t.state == moving && err == nil {
			left++
		}
	}
	return left
}

// stopOf handles one ptrace stop.
func (h *hold) stopOf(t *task, status int32) {
	sig, event := int(status&0xff), int(status>>8)
	switch event {
	case 0:
		// About to receive a signal. Let it, then it stops as it was told.
		_ = cont(t.tid, sig)
	case unix.PTRACE_EVENT_FORK, unix.PTRACE_EVENT_VFORK, unix.PTRACE_EVENT_CLONE:
		t.state = still
		h.born(t, event)
	default:
		t.state = still
	}
}

// born notes the task that a traced one has just made. It is seized and told to
// stop already.
func (h *hold) born(parent *task, event int) {
	msg, err := unix.PtraceGetEventMsg(parent.tid)
	tid := int(msg)
	if err != nil || tid <= 0 || h.tasks[tid] != nil {
		return
	}
	pid := tid
	if _, err := readStat(parent.pid, tid); err == nil {
		pid = parent.pid // a thread
	} else {
		h.adopt(pid)
	}
	h.tasks[tid] = &task{pid: pid, tid: tid}
}

// inVfork reports whether a task is in the kernel until a child it shares its
// memory with has gone on, and that child is held. Such a task cannot stop, and
// does not run either.
func (h *hold) inVfork(t *task) bool {
	if !vforking(t.pid, t.tid) {
		return false
	}
	for pid, p := range h.procs {
		if p.gone || pid == t.pid {
			continue
		}
		if s, err := readStat(pid, 0); err == nil && s.ppid == t.pid && s.state == 't' && h.allStill(pid) {
			return true
		}
	}
	return false
}

// allStill reports whether every known task of a process is still.
func (h *hold) allStill(pid int) bool {
	for _, t := range h.tasks {
		if t.pid == pid && t.state != still && t.state != dead {
			return false
		}
	}
	return true
}

// vforking reports whether a task is in a system call that waits for a child.
func vforking(pid, tid int) bool {
	b, err := readSmall("/proc/" + strconv.Itoa(pid) + "/task/" + strconv.Itoa(tid) + "/syscall")
	if err != nil {
		return false
	}
	f := strings.Fields(string(b))
	if len(f) < 2 {
		return false // "running"
	}
	nr, err := strconv.Atoi(f[0])
	if err != nil {
		return false
	}
	arg, err := strconv.ParseUint(strings.TrimPrefix(f[1], "0x"), 16, 64)
	if err != nil {
		return false
	}
	switch {
	case runtime.GOARCH == "amd64" && nr == 58: // vfork; arm64 has none
		return true
	case nr == unix.SYS_CLONE:
		return arg&unix.CLONE_VFORK != 0
	case nr == unix.SYS_CLONE3:
		var flags [8]byte
		local := []unix.Iovec{{Base: &flags[0], Len: 8}}
		n, err := unix.ProcessVMReadv(pid, local, []unix.RemoteIovec{{Base: uintptr(arg), Len: 8}}, 0)
		return err == nil && n == 8 && binary.NativeEndian.Uint64(flags[:])&unix.CLONE_VFORK != 0
	}
	return false
}

// settleTraced waits until no traced task moves, or until at latest. What does
// not stop, but does not run either, is found after a while.
func (h *hold) settleTraced(latest time.Time) {
	pause, look := 20*time.Microsecond, time.Now().Add(2*time.Millisecond)
	for h.sweep() > 0 {
		now := time.Now()
		if now.After(latest) {
			return
		}
		if now.After(look) {
			h.findIdle()
			look = now.Add(2 * time.Millisecond)
		}
		doze(pause)
		pause = min(pause*3/2, time.Millisecond)
	}
}

// findIdle finds tasks that will not stop but do not run: ended first threads,
// and parents in vfork. It takes note of ended ones, for which a thread in exec
// would wait for ever.
func (h *hold) findIdle() {
	h.reapEnded()
	for _, t := range h.tasks {
		if t.state != moving {
			continue
		}
		s, err := readStat(t.pid, t.tid)
		switch {
		case err == nil && s.dead():
			t.state = dead
		case err == nil && s.state == 'D' && h.inVfork(t):
			t.state = waiting
		}
	}
}

// releaseTraced lets all traced tasks go on. A task that had been stopped by a
// signal before stays stopped. What does not come to a stop in time, and so
// cannot be let go, is let go by the kernel when this thread ends.
func (h *hold) releaseTraced() {
	left := 0
	for tid, t := range h.tasks {
		if t.state == still && detach(tid) == nil {
			delete(h.tasks, tid)
			continue
		}
		if t.state == dead {
			reap(tid)
			delete(h.tasks, tid)
			continue
		}
		if t.state == waiting {
			t.state = moving
		}
		left++
	}
	for latest := time.Now().Add(50 * time.Millisecond); left > 0 && time.Now().Before(latest); doze(100 * time.Microsecond) {
		left = h.sweep()
		for tid, t := range h.tasks {
			switch {
			case t.state == still && detach(tid) == nil:
				delete(h.tasks, tid)
			case t.state == still: // killed meanwhile
				t.state = moving
				left++
			case t.state == dead:
				delete(h.tasks, tid)
			}
		}
	}
}

// reapEnded tells parents of tasks that were killed while they were held.
func (h *hold) reapEnded() {
	for tid, t := range h.tasks {
		if t.state == dead {
			continue
		}
		if info, err := peek(tid); err == nil && info.ended() {
			reap(tid)
			t.state = dead
		}
	}
}

// doze sleeps on this thread, which wakes more exactly than a timer of the
// runtime would wake it.
func doze(d time.Duration) {
	ts := unix.NsecToTimespec(int64(d))
	_ = unix.Nanosleep(&ts, nil)
}

package hold

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// manyTasks is from how many tasks on the freezer is worth looking for.
const manyTasks = 200

// maxTasks bounds the tasks held at once.
const maxTasks = 1 << 16

// hold is one stop: the processes named, and all that comes of them. It lives
// on one thread, see [onOwnThread].
type hold struct {
	procs map[int]*process
	order []*process // in the order found
	tasks map[int]*task
	ours  map[int]bool // never to be stopped
	held  map[int]bool // by other holds
	// weak is called before something is done that outlives us.
	weak func(Undo) error

	seizing  atomic.Int64 // the process a task of which is being seized
	undo     Undo
	switches map[int]int // of tasks stopped by another tracer, see steady
	resent   time.Time
	children bool        // the kernel tells children
	parents  map[int]int // for this pass, where it does not
	fresh    bool        // this pass has found something new
	stopped  Stopped
}

// process is one process that is to be held.
type process struct {
	Ref
	comm     string
	pidfd    int
	gone     bool
	bySignal bool // tracing is refused
	signaled bool
	before   bool // it was stopped by a signal before we came
}

func newHold(ours, held map[int]bool, weak func(Undo) error) *hold {
	return &hold{procs: make(map[int]*process), tasks: make(map[int]*task), ours: ours, held: held, weak: weak,
		switches: make(map[int]int), undo: Undo{Boot: bootID()}, children: tellsChildren()}
}

// acquire stops the named processes and their descendants. If it returns an
// error everything goes on as before.
func (h *hold) acquire(ctx context.Context, pids []int) (err error) {
	begun := time.Now()
	quit := make(chan struct{})
	go h.unblock(quit)
	defer func() {
		close(quit)
		if err != nil {
			_ = h.release()
		}
	}()
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1000, 0, 0, 0)
	if err := ctx.Err(); err != nil {
		return err
	}
	h.stopped.Method = Ptrace
	threads := 0
	for _, pid := range pids {
		n, err := h.name(pid)
		if err != nil {
			return err
		}
		threads += n
	}
	if threads > manyTasks {
		done, err := h.freeze(ctx)
		if err != nil || done {
			h.count(begun)
			return err
		}
	}
	if err := h.stopAll(ctx); err != nil {
		return err
	}
	h.count(begun)
	return nil
}

// count fills in what is told of the stop.
func (h *hold) count(begun time.Time) {
	h.stopped.Took = time.Since(begun)
	for _, p := range h.order {
		if p.gone {
			continue
		}
		h.stopped.PIDs = append(h.stopped.PIDs, p.PID)
		if s, err := readStat(p.PID, 0); err == nil {
			h.stopped.Tasks += s.threads
		}
		if p.bySignal {
			h.stopped.Method = Signal
		}
	}
}

// stopAll scans and stops until a scan finds nothing new and everything
// stopped: what is stopped can make nothing new.
func (h *hold) stopAll(ctx context.Context) error {
	latest, ok := ctx.Deadline()
	if !ok {
		return errors.New("hold: a stop without a limit")
	}
	for pause := 200 * time.Microsecond; ; {
		quiet, err := h.scan()
		if err != nil {
			return err
		}
		if quiet {
			return ctx.Err()
		}
		if err := h.signal(); err != nil {
			return err
		}
		h.settleTraced(latest)
		if ctx.Err() != nil {
			// The other side has the same limit, and ends the stop by it.
			if time.Until(latest) < 10*time.Millisecond {
				return h.blame()
			}
			return context.Cause(ctx)
		}
		if !h.fresh {
			doze(pause)
			pause = min(pause*2, 2*time.Millisecond)
		}
	}
}

// scan looks at all tasks of all processes once, seizes new ones and checks
// the others. It reports whether all was known and stopped.
func (h *hold) scan() (quiet bool, err error) {
	h.fresh = false
	if !h.children {
		if h.parents, err = parents(); err != nil {
			return false, err
		}
	}
	quiet = true
	for i := 0; i < len(h.order); i++ { // order grows meanwhile
		p := h.order[i]
		if p.gone {
			continue
		}
		still, err := h.scanProcess(p)
		if err != nil {
			return false, err
		}
		quiet = quiet && still
	}
	if len(h.tasks) > maxTasks {
		return false, fmt.Errorf("hold: more than %d tasks: %w", maxTasks, ErrRefused)
	}
	return quiet && !h.fresh, nil
}

func (h *hold) scanProcess(p *process) (quiet bool, err error) {
	tids, err := taskIDs(p.PID)
	if isGone(err) {
		p.gone = true
		return true, nil
	}
	if err != nil {
		return false, err
	}
	quiet = true
	for _, tid := range tids {
		t := h.tasks[tid]
		if t == nil && !p.bySignal {
			if err := h.begin(p, tid); err != nil {
				return false, err
			}
			quiet = false
			continue
		}
		still, err := h.check(p, t, tid)
		if err != nil {
			return false, err
		}
		if !still {
			quiet = false
			continue
		}
		// Not before it stands still: a fork that began before the task was
		// seized is not traced, and may end any time.
		if err := h.findChildren(p, tid); err != nil {
			return false, err
		}
	}
	return quiet, nil
}

// begin starts to stop a task seen for the first time.
func (h *hold) begin(p *process, tid int) error {
	h.fresh = true
	err := h.trace(p, tid)
	if err == nil {
		return nil
	}
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EIO) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EACCES) {
		p.bySignal = true // refused: traced already, or not allowed
		return nil
	}
	return &ProcessError{PID: p.PID, TID: tid, Comm: p.comm, Err: fmt.Errorf("ptrace: %w", err)}
}

// check looks whether a task known to be stopped is.
func (h *hold) check(p *process, t *task, tid int) (quiet bool, err error) {
	if t != nil && t.state == still && tid != p.PID {
		return true, nil // only a first thread's id can be taken over
	}
	s, err := readStat(p.PID, tid)
	switch {
	case isGone(err):
		return true, nil
	case err != nil:
		return false, err
	case s.dead():
		return true, nil
	case t == nil: // held by signal
		return s.state == 'T' || s.state == 't' && h.steady(p.PID, tid), nil
	case s.stopped():
		return t.state != moving, nil
	case t.state == waiting:
		return h.inVfork(t), nil
	case t.state != moving:
		// In exec it took over the id of a thread that was still.
		t.state = moving
		if interrupt(tid) != nil {
			delete(h.tasks, tid)
		}
	}
	return false, nil
}

// findChildren adds what a task has forked.
func (h *hold) findChildren(p *process, tid int) error {
	var list []int
	if h.children {
		var err error
		list, err = childrenOf(p.PID, tid)
		if err != nil && !isGone(err) {
			return err
		}
	} else if tid == p.PID {
		for child, parent := range h.parents {
			if parent == p.PID {
				list = append(list, child)
			}
		}
	}
	for _, pid := range list {
		if h.procs[pid] != nil || h.ours[pid] || h.held[pid] {
			continue
		}
		if _, err := h.add(pid, p.PID); err != nil && !isGone(err) {
			return err
		}
	}
	return nil
}

// name adds a process that was named, and returns how many threads it has.
func (h *hold) name(pid int) (threads int, err error) {
	switch {
	case pid <= 1:
		return 0, &ProcessError{PID: pid, Comm: "init", Err: ErrRefused}
	case h.procs[pid] != nil || h.held[pid]:
		return 0, nil
	case h.ours[pid]:
		h.stopped.Skipped = append(h.stopped.Skipped, pid)
		return 0, nil
	}
	threads, err = h.add(pid, 0)
	if isGone(err) {
		h.stopped.Gone = append(h.stopped.Gone, pid)
		return 0, nil
	}
	return threads, err
}

// add adds a process; parent, if not 0, is what it must be a child of. From
// here on its pidfd keeps another process from being taken for it.
func (h *hold) add(pid, parent int) (threads int, err error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return 0, err
	}
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		return 0, &ProcessError{PID: pid, Comm: "a thread, not a process", Err: ErrRefused}
	}
	if err != nil {
		return 0, fmt.Errorf("hold: process %d: pidfd_open: %w", pid, err)
	}
	s, err := readStat(pid, 0)
	if err == nil && parent != 0 && s.ppid != parent {
		err = unix.ESRCH // another one has got the number
	}
	if err == nil && s.flags&kernelThread != 0 {
		err = &ProcessError{PID: pid, Comm: s.comm, Err: fmt.Errorf("a kernel thread: %w", ErrRefused)}
	}
	if err == nil && s.dead() && s.threads <= 1 {
		err = unix.ESRCH
	}
	if err != nil {
		unix.Close(fd)
		return 0, err
	}
	p := &process{Ref: Ref{PID: pid, Start: s.start}, comm: s.comm, pidfd: fd, before: s.state == 'T'}
	h.procs[pid] = p
	h.order = append(h.order, p)
	h.fresh = true
	return s.threads, nil
}

// adopt adds a process that one of ours has just forked and that is traced
// already.
func (h *hold) adopt(pid int) {
	if h.procs[pid] == nil {
		_, _ = h.add(pid, 0) // if it has gone again there is nothing to hold
	}
}

// blame says which task did not stop.
func (h *hold) blame() error {
	for _, p := range h.order {
		tids, err := taskIDs(p.PID)
		if err != nil {
			continue
		}
		for _, tid := range tids {
			s, err := readStat(p.PID, tid)
			t := h.tasks[tid]
			if err != nil || s.dead() || s.stopped() && (t == nil || t.state != moving) || t != nil && t.state == waiting {
				continue
			}
			reason := ErrNotStopped
			if s.state == 'D' {
				reason = fmt.Errorf("%w: it waits in the kernel (state D)", ErrNotStopped)
			}
			return &ProcessError{PID: p.PID, TID: tid, Comm: p.comm, Err: reason}
		}
	}
	return fmt.Errorf("hold: the processes, which start others all the time, %w", ErrNotStopped)
}

// release lets everything go on. It returns ErrContinued if something else had
// done so before.
func (h *hold) release() error {
	err := errors.Join(h.thaw(), h.unsignal())
	h.releaseTraced()
	for _, p := range h.order {
		unix.Close(p.pidfd)
	}
	return err
}

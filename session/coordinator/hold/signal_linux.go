package hold

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// signal sends SIGSTOP to the processes that could not be traced and have not
// got it, or have not obeyed.
func (h *hold) signal() error {
	var list []*process
	again := time.Since(h.resent) > 100*time.Millisecond
	news := false
	for _, p := range h.order {
		if p.before && slipped(p.PID) {
			p.before = false // somebody else let it go on
		}
		if !p.bySignal || p.gone || p.before {
			continue
		}
		if !p.signaled {
			news = true
			h.undo.Signaled = append(h.undo.Signaled, p.Ref)
		} else if !again {
			continue
		}
		list = append(list, p)
	}
	if len(list) == 0 {
		return nil
	}
	if news {
		if err := h.weak(h.undo); err != nil {
			return err
		}
	}
	h.resent = time.Now()
	for _, p := range list {
		p.signaled = true
		err := unix.PidfdSendSignal(p.pidfd, unix.SIGSTOP, nil, 0)
		switch {
		case errors.Is(err, unix.ESRCH):
			p.gone = true
		case err != nil:
			return &ProcessError{PID: p.PID, Comm: p.comm, Err: fmt.Errorf("neither ptrace nor SIGSTOP: %w", err)}
		}
	}
	return nil
}

// unsignal sends SIGCONT to what got SIGSTOP.
func (h *hold) unsignal() error {
	var result error
	for _, p := range h.order {
		if !p.signaled || p.gone {
			continue
		}
		if slipped(p.PID) && result == nil {
			result = fmt.Errorf("%w: process %d (%s)", ErrContinued, p.PID, p.comm)
		}
		_ = unix.PidfdSendSignal(p.pidfd, unix.SIGCONT, nil, 0) // fails only if it has ended
	}
	return result
}

// steady reports whether a task that another tracer has stopped has not run
// since it was last looked at.
func (h *hold) steady(pid, tid int) bool {
	n, err := switches(pid, tid)
	if err != nil {
		return isGone(err)
	}
	last, seen := h.switches[tid]
	h.switches[tid] = n
	return seen && last == n
}

// slipped reports whether a process that should be stopped runs.
func slipped(pid int) bool {
	tids, err := taskIDs(pid)
	if err != nil {
		return false // ended
	}
	for _, tid := range tids {
		if s, err := readStat(pid, tid); err == nil && !s.stopped() && !s.dead() {
			return true
		}
	}
	return false
}

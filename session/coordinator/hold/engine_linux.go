package hold

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// engine does the stopping in the keeper: all holds there are, and their
// leases.
type engine struct {
	weak     func(context.Context, Undo) error // see hold.weak
	released func()                            // nothing weak is left

	mu      sync.Mutex
	last    uint64
	holds   map[uint64]*held
	expired bool // to be told once
}

// held is one hold that is on.
type held struct {
	pids   []int
	undo   Undo
	lease  *time.Timer
	let    chan struct{} // closed to let go
	result chan error    // gets the outcome
}

// releaseLimit bounds the wait for a thread that should let go, or give up, and
// does not, as it should never happen: see unblock. What it holds is free when
// this process ends.
const releaseLimit = 2 * time.Second

func newEngine(weak func(context.Context, Undo) error, released func()) *engine {
	return &engine{weak: weak, released: released, holds: make(map[uint64]*held)}
}

// holding reports whether anything is stopped.
func (e *engine) holding() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.holds) > 0
}

// stop stops processes; what it holds is let go after lease.
func (e *engine) stop(ctx context.Context, pids []int, ours map[int]bool, lease time.Duration) (uint64, Stopped, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.expired {
		e.expired = false
		return 0, Stopped{}, ErrLeaseExpired
	}
	others := make(map[int]bool)
	for _, h := range e.holds {
		for _, pid := range h.pids {
			others[pid] = true
		}
	}
	type outcome struct {
		stopped Stopped
		undo    Undo
		err     error
	}
	began := make(chan outcome, 1)
	k := &held{let: make(chan struct{}), result: make(chan error, 1)}
	onOwnThread(func() {
		h := newHold(ours, others, func(u Undo) error { return e.weak(ctx, e.merge(u)) })
		err := h.acquire(ctx, pids)
		began <- outcome{h.stopped, h.undo, err}
		if err == nil {
			k.keep(h)
			k.result <- h.release()
		}
	})
	var o outcome
	select {
	case o = <-began:
	case <-afterEnd(ctx, releaseLimit):
		close(k.let) // should it come back after all
		return 0, Stopped{}, fmt.Errorf("hold: stopping processes: %w", errStuck)
	}
	if o.err != nil {
		if !o.undo.empty() {
			e.releasedIfStrong()
		}
		return 0, Stopped{}, o.err
	}
	e.last++
	id := e.last
	k.pids, k.undo = o.stopped.PIDs, o.undo
	k.lease = time.AfterFunc(lease, func() { e.expire(id) })
	e.holds[id] = k
	return id, o.stopped, nil
}

// afterEnd returns a channel that is closed some time after ctx has ended.
func afterEnd(ctx context.Context, d time.Duration) <-chan struct{} {
	c := make(chan struct{})
	context.AfterFunc(ctx, func() { time.AfterFunc(d, func() { close(c) }) })
	return c
}

// merge adds to what one hold needs undone what the others do.
func (e *engine) merge(u Undo) Undo {
	for _, k := range e.holds {
		u.Signaled = append(slices.Clip(u.Signaled), k.undo.Signaled...)
		u.Groups = append(slices.Clip(u.Groups), k.undo.Groups...)
	}
	return u
}

// keep waits until the hold is to be let go, and meanwhile lets parents know
// of processes that were killed.
func (k *held) keep(h *hold) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-k.let:
			return
		case <-tick.C:
			h.reapEnded()
		}
	}
}

// expire ends all holds, since one has passed its lease.
func (e *engine) expire(id uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.holds[id] == nil {
		return
	}
	e.expired = true
	_ = e.resume(0)
}

// Resume ends one hold, or all of them for 0.
func (e *engine) Resume(id uint64) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.expired {
		e.expired = false
		return ErrLeaseExpired
	}
	return e.resume(id)
}

func (e *engine) resume(id uint64) error {
	var gone []*held
	weak := false
	for n, k := range e.holds {
		if id == 0 || id == n {
			k.lease.Stop()
			close(k.let)
			delete(e.holds, n)
			gone = append(gone, k)
			weak = weak || !k.undo.empty()
		}
	}
	late := time.After(releaseLimit)
	var result error
	for _, k := range gone {
		select {
		case err := <-k.result:
			if result == nil {
				result = err
			}
		case <-late:
			return fmt.Errorf("hold: letting processes go: %w", errStuck)
		}
	}
	if weak {
		e.releasedIfStrong()
	}
	return result
}

// releasedIfStrong tells the other side that it has nothing to undo, unless it
// has.
func (e *engine) releasedIfStrong() {
	for _, k := range e.holds {
		if !k.undo.empty() {
			return
		}
	}
	e.released()
}

// end lets everything go, for good.
func (e *engine) end() {
	e.mu.Lock()
	defer e.mu.Unlock()
	_ = e.resume(0)
}

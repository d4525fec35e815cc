package provider

import (
	"context"
	"sync"
	"time"

	"github.com/sombra-backup/sombra/vss"
)

// Step is a method of [Snapshot], in the order in which they come.
type Step int

// The steps. Estimate and Refresh are none: the one may come at any time before
// EndPrepare, the other between EndPrepare and PreCommit.
const (
	StepEndPrepare Step = iota
	StepPreCommit
	StepCommit
	StepPostCommit
	stepDone
)

func (s Step) String() string {
	return [...]string{"EndPrepare", "PreCommit", "Commit", "PostCommit", "nothing more"}[s]
}

// abortGrace is how long Abort waits for a step that runs to notice that its
// context has ended, before it removes what there is.
const abortGrace = 2 * time.Second

// Sequence keeps the order of a [Snapshot]'s steps for whoever implements one,
// and lets Abort come at any time. A step that comes out of order, after one
// that failed, or after Abort is VSS_E_BAD_STATE and changes nothing.
type Sequence struct {
	object  string
	remove  func(context.Context) error
	release func()

	mu      sync.Mutex
	next    Step
	failed  error
	aborted bool
	cancel  context.CancelFunc
	idle    chan struct{} // closed when the running step ends; nil if none runs
	once    sync.Once
}

// NewSequence makes a Sequence. Object is named in errors. Remove must delete
// all that has been made so far and may be called several times, also beside
// a step that is stuck in the kernel. Release is called once, after PostCommit
// or Abort when no step runs any more, to close what the steps had open.
func NewSequence(object string, remove func(context.Context) error, release func()) *Sequence {
	return &Sequence{object: object, remove: remove, release: release}
}

// Estimate runs f unless the copy was aborted or EndPrepare has begun.
func (q *Sequence) Estimate(ctx context.Context, f func(context.Context) error) error {
	return q.run(ctx, "Estimate", StepEndPrepare, StepEndPrepare, f)
}

// Refresh runs f between EndPrepare and PreCommit (see [Refresher]). If f fails
// only Abort is left.
func (q *Sequence) Refresh(ctx context.Context, f func(context.Context) error) error {
	return q.run(ctx, "Refresh", StepPreCommit, StepPreCommit, f)
}

// Do runs f as step s. The context given to f ends when ctx does, or on Abort.
// If Abort came meanwhile, what f made is removed and the error is
// VSS_E_BAD_STATE whatever f returned.
func (q *Sequence) Do(ctx context.Context, s Step, f func(context.Context) error) error {
	return q.run(ctx, s.String(), s, s+1, f)
}

func (q *Sequence) run(ctx context.Context, op string, at, then Step, f func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	idle := make(chan struct{})
	if err := q.begin(op, at, cancel, idle); err != nil {
		return err
	}
	err := ctx.Err()
	if err == nil {
		err = f(ctx)
	}

	q.mu.Lock()
	aborted := q.aborted
	q.cancel, q.idle = nil, nil
	if err == nil {
		q.next = then
	} else if op != "Estimate" {
		q.failed = err
	}
	if aborted || q.next == stepDone {
		q.once.Do(q.release)
	}
	q.mu.Unlock()
	close(idle)
	if aborted {
		// Abort may have given up waiting for f and removed what there
		// was then; f may have made more since.
		if rerr := q.remove(context.WithoutCancel(ctx)); rerr != nil {
			return vss.Errorf(vss.ErrBadState, op, q.object, "aborted, but not removed: %w", rerr)
		}
		return vss.Errorf(vss.ErrBadState, op, q.object, "aborted meanwhile")
	}
	return err
}

func (q *Sequence) begin(op string, at Step, cancel context.CancelFunc, idle chan struct{}) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.aborted:
		return vss.Errorf(vss.ErrBadState, op, q.object, "the shadow copy was aborted")
	case q.failed != nil:
		return vss.Errorf(vss.ErrBadState, op, q.object, "an earlier step ended with: %w", q.failed)
	case q.idle != nil:
		return vss.Errorf(vss.ErrBadState, op, q.object, "another step is running")
	case q.next != at:
		return vss.Errorf(vss.ErrBadState, op, q.object, "due now is %s", q.next)
	}
	q.cancel, q.idle = cancel, idle
	return nil
}

// Aborted reports whether Abort was called. A step that has just made
// something no context could have stopped asks it.
func (q *Sequence) Aborted() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.aborted
}

// Abort ends the step that runs, and removes what was made. It waits a moment
// for the step, but not for one that is stuck in the kernel: that one removes
// what it made when it comes back.
func (q *Sequence) Abort(ctx context.Context) error {
	q.mu.Lock()
	q.aborted = true
	idle := q.idle
	if q.cancel != nil {
		q.cancel()
	} else {
		q.once.Do(q.release)
	}
	q.mu.Unlock()
	if idle != nil {
		grace := time.NewTimer(abortGrace)
		defer grace.Stop()
		select {
		case <-idle:
		case <-ctx.Done():
		case <-grace.C:
		}
	}
	return q.remove(ctx)
}

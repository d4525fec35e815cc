package coordinator

import (
	"sync"
	"time"

	"github.com/sombra-backup/sombra/session"
)

// reportPatience is how long the end of a call waits for a receiver of progress
// that does not return.
const reportPatience = time.Second

// reporter passes progress on, one step at a time and on a goroutine of its own:
// while applications are held nobody waits for the receiver. A nil reporter
// drops everything.
type reporter struct {
	fn session.Progress

	mu    sync.Mutex
	queue []session.Step
	ended bool
	wake  chan struct{}
	done  chan struct{} // closed when nothing more will be delivered
}

// newReporter begins to report to fn, which may be nil. The caller must call end
// before its own call returns.
func newReporter(fn session.Progress) *reporter {
	if fn == nil {
		return nil
	}
	r := &reporter{fn: fn, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go r.deliver()
	return r
}

// begin reports the beginning of a step and returns what reports its end.
func (r *reporter) begin(event, subject string) func(error) {
	if r == nil {
		return func(error) {}
	}
	start := time.Now()
	r.report(session.Step{Event: event, Subject: subject})
	return func(err error) {
		st := session.Step{Event: event, Subject: subject, Done: true, Took: time.Since(start)}
		if err != nil {
			st.Err = err.Error()
		}
		r.report(st)
	}
}

func (r *reporter) report(st session.Step) {
	r.mu.Lock()
	if !r.ended {
		r.queue = append(r.queue, st)
	}
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *reporter) deliver() {
	defer close(r.done)
	for range r.wake {
		for {
			r.mu.Lock()
			if len(r.queue) == 0 {
				ended := r.ended
				r.mu.Unlock()
				if ended {
					return
				}
				break
			}
			st := r.queue[0]
			r.queue = r.queue[1:]
			r.mu.Unlock()
			r.fn(st)
		}
	}
}

// end delivers what is left and ends the reporter. A receiver that hangs loses
// the rest.
func (r *reporter) end() {
	if r == nil {
		return
	}
	r.mu.Lock()
	r.ended = true
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
	t := time.NewTimer(reportPatience)
	defer t.Stop()
	select {
	case <-r.done:
	case <-t.C:
		r.mu.Lock()
		r.queue = nil
		r.mu.Unlock()
	}
}

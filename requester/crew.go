package requester

import (
	"context"
	"sync"
)

// crew runs functions in a fixed number of goroutines, which stay: a new one for
// each of many small files spends its time growing its stack. The first error
// ends the context.
type crew struct {
	jobs   chan func() error
	cancel context.CancelCauseFunc
	idle   sync.WaitGroup

	once sync.Once
	err  error
}

// newCrew starts the goroutines; Wait ends them.
func newCrew(ctx context.Context, n int) (*crew, context.Context) {
	ctx, cancel := context.WithCancelCause(ctx)
	c := &crew{jobs: make(chan func() error), cancel: cancel}
	jobs := c.jobs
	for range n {
		c.idle.Go(func() {
			for f := range jobs {
				if err := f(); err != nil {
					c.fail(err)
				}
			}
		})
	}
	return c, ctx
}

func (c *crew) fail(err error) {
	c.once.Do(func() {
		c.err = err
		c.cancel(err)
	})
}

// Go waits until a goroutine is free, which then calls f. Functions begin in the
// order of the calls.
func (c *crew) Go(f func() error) { c.jobs <- f }

// Wait waits until all functions have returned, ends the goroutines and gives the first
// error. It may be called again; Go may not.
func (c *crew) Wait() error {
	if c.jobs != nil {
		close(c.jobs)
		c.jobs = nil
	}
	c.idle.Wait()
	c.cancel(nil)
	return c.err
}

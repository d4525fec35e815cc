package coordinator

import (
	"context"
	"time"

	"github.com/sombra-backup/sombra/vss"
)

// step is a step that the providers take for all copies of a set at the same
// time.
type step struct {
	// op is the model's name of the call.
	op string
	// event is what it is called in progress reports; empty: it is in none.
	event string
	// during and after are the state of a copy while the step runs and when
	// it has gone well; zero: no change.
	during, after vss.SnapshotState
	// call is the provider's part. As it may never return it changes nothing
	// of the copy: what it learns it returns as a function, called if it
	// returned in time.
	call func(context.Context, *shadow) (func(), error)
	// took, if not nil, gets how long the call took, also if it failed.
	took func(*shadow, time.Duration)
}

// together takes a step for all copies and waits until all have ended or ctx
// has. The first failure ends the others' context. A call that does not come
// back soon after its context has ended is left behind.
func (r *run) together(ctx context.Context, st step) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	results := make(chan error, len(r.set.copies))
	for _, c := range r.set.copies {
		go func() {
			err := providerError(st.op, c, r.take(ctx, c, st))
			if err != nil {
				cancel(err)
			}
			results <- err
		}()
	}
	var first error
	for range r.set.copies {
		if err := <-results; err != nil && first == nil {
			first = err
		}
	}
	if first != nil {
		// The failure that ended the others, rather than one it caused.
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
	}
	return first
}

// take takes a step for one copy. If the call was left behind and comes back
// after all, the copy is deleted, as the set has failed by then.
func (r *run) take(ctx context.Context, c *shadow, st step) error {
	if st.during != vss.SnapshotUnknown {
		c.state = st.during
	}
	done := func(error) {}
	if st.event != "" {
		done = r.pr.begin(st.event, c.ref.Volume.Root)
	}
	start := time.Now()
	prov, ref := c.prov, c.ref
	keep, err := bounded(ctx, func(ctx context.Context) (func(), error) { return st.call(ctx, c) },
		func(func(), error) {
			if err := prov.Delete(context.WithoutCancel(ctx), ref); err != nil {
				r.log.Warn("a shadow copy given up is not removed; the next run tries again", "error", err)
			}
		})
	if st.took != nil {
		st.took(c, time.Since(start))
	}
	done(err)
	if err != nil {
		c.stuck = c.stuck || isLeft(err)
		return err
	}
	if keep != nil {
		keep()
	}
	if st.after != vss.SnapshotUnknown {
		c.state = st.after
	}
	return nil
}

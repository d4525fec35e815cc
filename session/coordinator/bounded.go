package coordinator

import (
	"context"
	"errors"
	"sync"
	"time"
)

// leftBehind is the error of a call that has not come back: why it is not waited
// for any longer.
type leftBehind struct{ error }

func (l leftBehind) Unwrap() error { return l.error }

// isLeft reports whether the call that ended with err has not come back.
func isLeft(err error) bool {
	var l leftBehind
	return errors.As(err, &l)
}

// bounded runs a call that may never come back, as one stuck in the kernel, and
// returns when it has. If it has not a moment after ctx has ended it is left
// behind, and the error says why ctx has (see isLeft); late, if not nil, gets
// what the call returns in the end, on a goroutine of its own.
func bounded[T any](ctx context.Context, call func(context.Context) (T, error), late func(T, error)) (T, error) {
	type outcome struct {
		value T
		err   error
	}
	done := make(chan outcome) // not buffered: an outcome is taken or late
	left := make(chan struct{})
	go func() {
		var o outcome
		o.value, o.err = call(ctx)
		select {
		case done <- o:
		case <-left:
			if late != nil {
				late(o.value, o.err)
			}
		}
	}()
	select {
	case o := <-done:
		return o.value, o.err
	case <-ctx.Done():
	}
	grace := time.NewTimer(graceAfterLimit)
	defer grace.Stop()
	select {
	case o := <-done:
		return o.value, o.err
	case <-grace.C:
	}
	close(left)
	var none T
	return none, leftBehind{context.Cause(ctx)}
}

// boundedErr is bounded for a call that returns only an error and of which, if
// it is late, nothing need be known.
func boundedErr(ctx context.Context, call func(context.Context) error) error {
	_, err := bounded(ctx, func(ctx context.Context) (struct{}, error) { return struct{}{}, call(ctx) }, nil)
	return err
}

// background is work that nobody waits for but for a time. Unlike a WaitGroup it
// can be added to while somebody waits. The zero background is ready.
type background struct {
	mu   sync.Mutex
	n    int
	idle chan struct{} // closed when n falls to zero
}

// Go runs fn.
func (b *background) Go(fn func()) {
	b.mu.Lock()
	if b.n == 0 {
		b.idle = make(chan struct{})
	}
	b.n++
	b.mu.Unlock()
	go func() {
		defer func() {
			b.mu.Lock()
			defer b.mu.Unlock()
			if b.n--; b.n == 0 {
				close(b.idle)
			}
		}()
		fn()
	}()
}

// wait waits until nothing runs, but not longer than limit.
func (b *background) wait(limit time.Duration) {
	b.mu.Lock()
	idle, n := b.idle, b.n
	b.mu.Unlock()
	if n == 0 {
		return
	}
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-idle:
	case <-t.C:
	}
}

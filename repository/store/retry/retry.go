// Package retry makes a store out of one that is far away: what a disturbance
// broke is tried again.
//
// An error that store.IsPermanent calls final is passed on at once. After any
// other there is a pause, each about twice as long as the last and drawn by
// chance so that many clients do not come back at the same instant, until the
// operation succeeds or its time is up. What an answer that never came leaves
// open is found out: a Put that may have stored its object is a success if the
// object is there and is the same, a Delete if the object is gone.
package retry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/sombra-backup/sombra/repository/store"
)

// Options says how patient a store is. The zero value is right for a server on
// the internet.
type Options struct {
	// Limit is for how long one operation is tried again, from its first
	// failure; zero means 15 minutes, less than zero not at all.
	Limit time.Duration
	// First and Longest are the pauses to begin with and at most; zero means
	// half a second and half a minute.
	First, Longest time.Duration
	// Notify, if not nil, is told of each failure that is followed by another
	// try, and of the pause before it. It may be called by several goroutines.
	Notify func(op, name string, err error, pause time.Duration)
}

// Store is a store that tries again. Use New.
type Store struct {
	inner store.Store
	o     Options
}

// retainer is a Store of one that can lock.
type retainer struct {
	*Store
	lock store.Retainer
}

// New wraps a store. What it gives is a store.Retainer if that is one.
func New(inner store.Store, o Options) store.Store {
	if o.Limit == 0 {
		o.Limit = 15 * time.Minute
	}
	if o.First <= 0 {
		o.First = 500 * time.Millisecond
	}
	if o.Longest <= 0 {
		o.Longest = 30 * time.Second
	}
	s := &Store{inner, o}
	if lock, ok := inner.(store.Retainer); ok {
		return retainer{s, lock}
	}
	return s
}

// do tries an operation until it succeeds or another try is in vain. try is told
// whether an earlier one was broken off, so that it may have been carried out.
func (s *Store) do(ctx context.Context, op, name string, try func(again bool) error) error {
	var begun time.Time
	pause := s.o.First
	for again := false; ; again = true {
		err := try(again)
		if err == nil || store.IsPermanent(err) || ctx.Err() != nil {
			return err
		}
		if begun.IsZero() {
			begun = time.Now()
		}
		// Between half and all of it.
		wait := pause/2 + rand.N(pause/2+1)
		if left := s.o.Limit - time.Since(begun); left < wait {
			if s.o.Limit <= 0 {
				return err
			}
			return fmt.Errorf("%w (tried for %s)", err, time.Since(begun).Round(time.Second))
		}
		if s.o.Notify != nil {
			s.o.Notify(op, name, err, wait)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
		pause = min(2*pause, s.o.Longest)
	}
}

// Put implements store.Store. After a failure the object is looked for before it
// is sent again: it may be there, whole, and only the answer was lost. A name
// taken by the same bytes is then a success.
func (s *Store) Put(ctx context.Context, name string, data []byte) error {
	return s.do(ctx, "put", name, func(again bool) error {
		if again {
			switch same, err := s.holds(ctx, name, data); {
			case err != nil && !errors.Is(err, store.ErrNotExist):
				return err
			case err == nil && same:
				return nil
			case err == nil:
				return fmt.Errorf("put %s: %w", name, store.ErrExist)
			}
		}
		err := s.inner.Put(ctx, name, data)
		if again && errors.Is(err, store.ErrExist) {
			// It came through since it was looked for.
			same, herr := s.holds(ctx, name, data)
			if herr == nil && same {
				return nil
			}
			if herr != nil && !errors.Is(herr, store.ErrNotExist) {
				return herr
			}
		}
		return err
	})
}

// holds says whether the object is there with just these bytes.
func (s *Store) holds(ctx context.Context, name string, data []byte) (bool, error) {
	info, err := s.inner.Stat(ctx, name)
	if err != nil {
		return false, err
	}
	if info.Size != int64(len(data)) {
		return false, nil
	}
	p := make([]byte, min(len(data), 1<<20))
	for off := 0; off < len(data); off += len(p) {
		p = p[:min(len(p), len(data)-off)]
		n, err := s.inner.ReadAt(ctx, name, p, int64(off))
		if n < len(p) {
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return false, err
		}
		if !bytes.Equal(p, data[off:off+n]) {
			return false, nil
		}
	}
	return true, nil
}

// ReadAt implements store.Store.
func (s *Store) ReadAt(ctx context.Context, name string, p []byte, offset int64) (n int, err error) {
	if offset < 0 {
		return 0, fmt.Errorf("read %s: negative offset %d", name, offset)
	}
	var eof bool
	err = s.do(ctx, "read", name, func(bool) error {
		var err error
		n, err = s.inner.ReadAt(ctx, name, p, offset)
		if eof = err == io.EOF; eof {
			return nil
		}
		return err
	})
	if err == nil && eof {
		return n, io.EOF
	}
	return n, err
}

// Stat implements store.Store.
func (s *Store) Stat(ctx context.Context, name string) (info store.Info, err error) {
	err = s.do(ctx, "stat", name, func(bool) error {
		info, err = s.inner.Stat(ctx, name)
		return err
	})
	return info, err
}

// List implements store.Store. A listing that comes in the order of the names is
// taken up again behind the last one shown; one that does not is tried again
// only if nothing was shown.
func (s *Store) List(ctx context.Context, prefix string, f func(store.Info) error) error {
	last, sorted := "", true
	var stop error
	err := s.do(ctx, "list", prefix, func(bool) error {
		resumed, above := last, false
		err := s.inner.List(ctx, prefix, func(info store.Info) error {
			if resumed != "" && !above && info.Name <= resumed {
				return nil
			}
			above = true
			sorted = sorted && info.Name > last
			last = info.Name
			stop = f(info)
			return stop
		})
		switch {
		case stop != nil:
			return store.Permanent(stop)
		case err != nil && !sorted:
			return store.Permanent(err)
		}
		return err
	})
	if stop != nil {
		return stop
	}
	return err
}

// Delete implements store.Store.
func (s *Store) Delete(ctx context.Context, name string) error {
	return s.do(ctx, "delete", name, func(again bool) error {
		err := s.inner.Delete(ctx, name)
		if again && errors.Is(err, store.ErrNotExist) {
			return nil
		}
		return err
	})
}

// Sweep implements store.Sweeper: it does nothing if the store cannot.
func (s *Store) Sweep(ctx context.Context, age time.Duration) error {
	sweeper, ok := s.inner.(store.Sweeper)
	if !ok {
		return ctx.Err()
	}
	return s.do(ctx, "sweep", "", func(bool) error { return sweeper.Sweep(ctx, age) })
}

// MayReplace implements store.Replacing.
func (s *Store) MayReplace() bool { return store.MayReplace(s.inner) }

// Concurrency implements store.Concurrent.
func (s *Store) Concurrency() int {
	if c, ok := s.inner.(store.Concurrent); ok {
		return c.Concurrency()
	}
	return 0
}

// Period implements store.Retainer.
func (s retainer) Period() time.Duration { return s.lock.Period() }

// Retain implements store.Retainer.
func (s retainer) Retain(ctx context.Context, name string, until time.Time) error {
	return s.do(ctx, "retain", name, func(bool) error { return s.lock.Retain(ctx, name, until) })
}

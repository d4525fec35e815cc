package repository

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/repository/store"
	"github.com/sombra-backup/sombra/repository/store/mem"
)

// stuckStore holds up Puts of packs until it is let go, or their context ends.
type stuckStore struct {
	store.Store
	stuck chan struct{} // closed when the first is held up
	once  sync.Once
	let   chan struct{}
}

func (s *stuckStore) Put(ctx context.Context, name string, data []byte) error {
	if o, ok := parseName(name); ok && (o.kind == kindDataPack || o.kind == kindMetaPack) {
		s.once.Do(func() { close(s.stuck) })
		select {
		case <-s.let:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return s.Store.Put(ctx, name, data)
}

// TestAbortedBackupsLeaveNothingBehind: whoever was held up by a store that does
// not answer is let go, and every goroutine ends.
func TestAbortedBackupsLeaveNothingBehind(t *testing.T) {
	inner := mem.New()
	newTestRepository(t, inner)
	before := runtime.NumGoroutine()
	for i, end := range map[string]func(b *Backup, cancel context.CancelFunc) error{
		"abort":            func(b *Backup, _ context.CancelFunc) error { return b.Abort() },
		"cancel and abort": func(b *Backup, cancel context.CancelFunc) error { cancel(); return b.Abort() },
		"cancel and commit": func(b *Backup, cancel context.CancelFunc) error {
			cancel()
			if _, err := b.Commit(t.Context(), testInfo()); !errors.Is(err, context.Canceled) {
				return fmt.Errorf("commit: %w", err)
			}
			return nil
		},
	} {
		st := &stuckStore{Store: inner, stuck: make(chan struct{}), let: make(chan struct{})}
		r := reopen(t, st)
		ctx, cancel := context.WithCancel(t.Context())
		b, err := r.Begin(ctx, BeginOptions{})
		if err != nil {
			t.Fatal(err)
		}
		// More goroutines than the queues have room for.
		var puts sync.WaitGroup
		for n := range 20 {
			puts.Go(func() {
				for k := range 10 {
					if _, err := b.PutFile(t.Context(), source(randomData(20_000, uint64(100*n+k)))); err != nil {
						if !errors.Is(err, ErrClosed) && !errors.Is(err, context.Canceled) {
							t.Errorf("%s: put: %v", i, err)
						}
						return
					}
				}
			})
		}
		<-st.stuck
		done := make(chan error, 1)
		go func() { done <- end(b, cancel) }()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("%s: %v", i, err)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%s: it hangs", i)
		}
		puts.Wait()
		cancel()
		if _, err := b.PutFile(t.Context(), source(nil)); !errors.Is(err, ErrClosed) {
			t.Errorf("%s: put afterwards: %v", i, err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
		}
	}
}

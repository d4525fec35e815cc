package requester

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/sombra-backup/sombra/session"
)

// While files are restored the file system is asked, again and again, to write
// out what there is: the disk works from the beginning, and little is left for
// the call at the end. There is another reason: ext4 without a journal looks
// through all inodes freed within six minutes before it makes a file, as long as
// what it knows of them is not on the disk.
const (
	// settleBytes is how much is restored before it is asked again, settleFile
	// what a file counts besides its bytes.
	settleBytes = 256 << 20
	settleFile  = 64 << 10
)

// onceTold is a target that a file system tells of a failed write once, whoever
// asks: everyone who asks from then on is told again, or he would take for durable
// what is lost.
type onceTold struct {
	session.Target
	mu  sync.Mutex // held while it is asked: two at a time, and one is told
	err error
}

// Sync implements [session.Target].
func (t *onceTold) Sync(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err != nil {
		return t.err
	}
	err := t.Target.Sync(ctx)
	if err != nil && ctx.Err() == nil {
		t.err = err
	}
	return err
}

// settler asks the file system, at most once at a time.
type settler struct {
	target session.Target
	fail   func(error) // ends the restore
	since  atomic.Int64
	due    chan struct{}
	work   sync.WaitGroup
	err    error
}

// newSettler starts it; end must be called. An error ends the restore through
// fail: a file system tells of it once, and the call at the end would not.
func newSettler(ctx context.Context, t session.Target, fail func(error)) *settler {
	s := &settler{target: t, fail: fail, due: make(chan struct{}, 1)}
	s.work.Go(func() {
		for range s.due {
			if ctx.Err() != nil || s.err != nil {
				continue
			}
			if err := s.target.Sync(ctx); err != nil && ctx.Err() == nil {
				s.err = fmt.Errorf("write out what is restored: %w", err)
				s.fail(s.err)
			}
		}
	})
	return s
}

// wrote counts. It does not wait.
func (s *settler) wrote(n int) {
	since := s.since.Add(int64(n))
	if since < settleBytes || !s.since.CompareAndSwap(since, 0) {
		return
	}
	select {
	case s.due <- struct{}{}:
	default: // one call waits already, and will do
	}
}

// end waits for a call under way. Nothing may be counted any more.
func (s *settler) end() error {
	close(s.due)
	s.work.Wait()
	return s.err
}

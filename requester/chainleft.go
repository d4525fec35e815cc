package requester

import (
	"context"
	"time"

	"github.com/sombra-backup/sombra/session"
)

// leftFile is a file as an operation left it. What the writer is told between two
// operations may make it change its files; else they are as they were, and need
// not be read again to see that.
type leftFile struct {
	inode   uint64
	changed int64 // change time, in nanoseconds
}

// leftSize is from which size on a file is worth to be remembered.
const leftSize = 64 << 10

// remember looks at the files of sets of which later operations find them in place.
// It waits a little first: a change in the same step of the file system's clock
// would leave no trace.
func (r *restore) remember(ctx context.Context, f *filler) error {
	waited := f.dry
	for _, s := range r.sets {
		if f.dry || s.refused != "" || s.chain == nil || !s.chain.more || s.chain.comp.collapsed == nil || s.decision.Branch == BranchReboot {
			continue
		}
		if !waited {
			waited = true
			select {
			case <-time.After(tick):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if err := s.chain.comp.mine.remember(ctx, f.target); err != nil {
			return err
		}
	}
	return nil
}

func (o *ownPaths) remember(ctx context.Context, t session.Target) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for path := range o.paths {
		if err := ctx.Err(); err != nil {
			return err
		}
		e, err := t.Lstat(ctx, path)
		if err != nil || !e.Mode.IsRegular() || e.Size < leftSize || e.Changed.Nanosecond() == 0 {
			// A clock that knows no parts of seconds tells too little.
			o.paths[path] = leftFile{}
			continue
		}
		o.paths[path] = leftFile{e.Inode, e.Changed.UnixNano()}
	}
	return nil
}

// asLeft reports whether a file is as an earlier operation of this restore left it.
func (s *setRun) asLeft(path string, there session.Entry) bool {
	if !s.settled() {
		return false
	}
	o := &s.chain.comp.mine
	o.mu.Lock()
	defer o.mu.Unlock()
	l := o.paths[path]
	return l.inode != 0 && l.inode == there.Inode && l.changed == there.Changed.UnixNano()
}

package requester

import (
	"context"

	"github.com/sombra-backup/sombra/repository"
)

// A file that takes the place of another one must be durable before it does:
// else a loss of power could leave neither. Asking the file system for each
// costs half a millisecond and more, for all at once hardly more than for one,
// so that files wait until there are some.
const (
	maxWaiting      = 512
	maxWaitingBytes = 256 << 20
)

// replacement is a file that has its bytes and not its name.
type replacement struct {
	entry *repository.Entry
	set   *setRun
	file  newFile
}

// later has a file wait until its bytes are durable.
func (f *filler) later(ctx context.Context, r replacement) error {
	f.mu.Lock()
	f.waiting = append(f.waiting, r)
	f.waitingBytes += r.entry.Size
	var ready []replacement
	if len(f.waiting) >= maxWaiting || f.waitingBytes >= maxWaitingBytes {
		ready, f.waiting, f.waitingBytes = f.waiting, nil, 0
	}
	f.mu.Unlock()
	return f.rename(ctx, ready)
}

// rename makes the files durable and then gives them their names.
func (f *filler) rename(ctx context.Context, ready []replacement) error {
	if len(ready) == 0 {
		return nil
	}
	defer func() {
		for _, r := range ready {
			r.file.Close()
		}
	}()
	if err := f.target.Sync(ctx); err != nil {
		return err
	}
	for _, r := range ready {
		if err := f.finish(r.entry, r.set, r.file.Commit(ctx, sessionEntry(r.entry))); err != nil {
			return err
		}
	}
	return nil
}

// abandon gives up the files that wait. What they were to replace stays.
func (f *filler) abandon() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.waiting {
		r.file.Close()
	}
	f.waiting = nil
	for _, set := range f.together {
		for _, r := range set.together.waiting {
			r.file.Close()
		}
		if t := set.together; len(t.waiting)+len(t.specials) > 0 {
			t.waiting, t.specials, t.givenUp = nil, nil, true
		}
	}
}

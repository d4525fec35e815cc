package requester

import (
	"context"
	"sync"

	"github.com/sombra-backup/sombra/repository"
)

// baseCursor finds entries of the base in the order of its table, which is that
// of a walk: every block is then read once, some ahead, and decoded by goroutines
// that also look whether the content of its files is stored. A place that lies
// before the last one begins anew. What is kept is added to the backup block by
// block.
type baseCursor struct {
	table *repository.Table
	into  *repository.Backup
	stop  context.CancelFunc
	ready chan *baseLeaf
	leaf  *baseLeaf // the one that the last place was looked for in
	at    int       // the line in it
	last  string

	mu      sync.Mutex
	damaged error // the first block that could not be read
}

// spoiled notes that a block of the base cannot be read: what is in it counts as new.
func (b *baseCursor) spoiled(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return // nobody reads on
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.damaged == nil {
		b.damaged = err
	}
}

// damage tells what of the base could not be read, and nil if all could.
func (b *baseCursor) damage() error {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.damaged
}

// baseLeaf is a block of the base's table.
type baseLeaf struct {
	*repository.Leaf
	done  chan struct{} // closed when it is decoded, or cannot be
	err   error         // one after which the backup cannot go on
	kept  []bool
	keeps int
}

// leavesAhead is how many blocks are decoded before it is their turn.
const leavesAhead = 6

// find gives the entry at a path. What cannot be read is not found: the object
// is then taken for new. The error is one that ends the backup.
func (b *baseCursor) find(ctx context.Context, path string) (repository.Line, bool, error) {
	if b.ready == nil || repository.ComparePaths(rootID, path, rootID, b.last) <= 0 {
		if err := b.finish(ctx); err != nil {
			return repository.Line{}, false, err
		}
		b.begin(ctx, path)
	}
	b.last = path
	for {
		if b.leaf == nil || b.at == len(b.leaf.Lines) {
			if more, err := b.next(ctx); !more {
				return repository.Line{}, false, err
			}
			continue
		}
		switch line := b.leaf.Lines[b.at]; repository.ComparePaths(line.Root, line.Path, rootID, path) {
		case -1:
			b.at++
		case 0:
			return line, true, nil
		default:
			return repository.Line{}, false, nil
		}
	}
}

// keep adds the entry that was found last, and tells whether it did: not if part of
// its content is not stored.
func (b *baseCursor) keep() bool {
	l := b.leaf
	if !l.Held(b.at) {
		return false
	}
	if l.kept == nil {
		l.kept = make([]bool, len(l.Lines))
	}
	l.kept[b.at] = true
	l.keeps++
	return true
}

// next goes on to the next block.
func (b *baseCursor) next(ctx context.Context) (more bool, err error) {
	if err := b.settle(ctx); err != nil {
		return false, err
	}
	l, ok := <-b.ready
	if !ok {
		return false, nil
	}
	<-l.done
	if l.err != nil {
		return false, l.err
	}
	b.leaf, b.at = l, 0
	return true, nil
}

// settle adds what was kept of a block.
func (b *baseCursor) settle(ctx context.Context) error {
	l := b.leaf
	b.leaf, b.at = nil, 0
	if l == nil || l.keeps == 0 {
		return nil
	}
	return b.into.KeepLeaf(ctx, l.Leaf, l.kept)
}

// begin starts reading at a path.
func (b *baseCursor) begin(ctx context.Context, path string) {
	ctx, b.stop = context.WithCancel(ctx)
	ready := make(chan *baseLeaf, leavesAhead)
	b.ready = ready
	go func() {
		defer close(ready)
		for leaf, err := range b.table.Leaves(ctx, rootID, path) {
			if err != nil {
				b.spoiled(ctx, err)
				break
			}
			l := &baseLeaf{Leaf: leaf, done: make(chan struct{})}
			select {
			case ready <- l:
			case <-ctx.Done():
				return
			}
			go func() {
				defer close(l.done)
				if err := l.Decode(); err != nil {
					b.spoiled(ctx, err)
					return
				}
				l.err = b.into.Look(ctx, l.Leaf)
			}()
		}
	}()
}

// finish adds what was kept and not yet added, and ends the reading.
func (b *baseCursor) finish(ctx context.Context) error {
	if b == nil {
		return nil
	}
	err := b.settle(ctx)
	b.close()
	return err
}

// close ends the reading.
func (b *baseCursor) close() {
	if b == nil || b.ready == nil {
		return
	}
	b.stop()
	for l := range b.ready { // until the goroutines are gone
		<-l.done
	}
	b.ready, b.leaf = nil, nil
}

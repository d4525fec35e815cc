package requester

import (
	"context"

	"github.com/sombra-backup/sombra/repository"
)

// baseCursor finds entries of the base in the order of its table, which is that
// of a walk: every block is then read and decoded once, some ahead, by a
// goroutine of its own. A place that lies before the last one begins anew.
type baseCursor struct {
	table *repository.Table
	stop  context.CancelFunc
	ready chan []repository.Line
	spare []repository.Line // what is left of the last
	last  string
}

// cursorBatch is how many entries the goroutine hands over together.
const cursorBatch = 256

// find gives the entry at a path. What cannot be read is not found: the object
// is then taken for new.
func (b *baseCursor) find(ctx context.Context, path string) (repository.Line, bool) {
	if b.ready == nil || repository.ComparePaths(rootID, path, rootID, b.last) <= 0 {
		b.begin(ctx, path)
	}
	b.last = path
	for {
		if len(b.spare) == 0 {
			if b.spare = <-b.ready; len(b.spare) == 0 {
				return repository.Line{}, false // at the end
			}
		}
		switch line := b.spare[0]; repository.ComparePaths(line.Root, line.Path, rootID, path) {
		case -1:
			b.spare = b.spare[1:]
		case 0:
			return line, true
		default:
			return repository.Line{}, false
		}
	}
}

// begin starts reading at a path.
func (b *baseCursor) begin(ctx context.Context, path string) {
	b.close()
	ctx, b.stop = context.WithCancel(ctx)
	ready := make(chan []repository.Line, 4)
	b.ready = ready
	go func() {
		defer close(ready)
		batch := make([]repository.Line, 0, cursorBatch)
		for line, err := range b.table.Lines(ctx, rootID, path) {
			if err != nil {
				break
			}
			if batch = append(batch, line); len(batch) == cursorBatch {
				select {
				case ready <- batch:
				case <-ctx.Done():
					return
				}
				batch = make([]repository.Line, 0, cursorBatch)
			}
		}
		if len(batch) > 0 {
			select {
			case ready <- batch:
			case <-ctx.Done():
			}
		}
	}()
}

// close ends the reading.
func (b *baseCursor) close() {
	if b == nil || b.ready == nil {
		return
	}
	b.stop()
	for range b.ready { // until the goroutine is gone
	}
	b.ready, b.spare = nil, nil
}

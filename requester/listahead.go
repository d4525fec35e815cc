package requester

import (
	"context"

	"github.com/sombra-backup/sombra/session"
)

// lister walks through a tree in a goroutine of its own, ahead of whoever looks at
// what it finds: by so many objects, which bounds the memory.
type lister struct {
	batches chan []listedObject
	free    chan []listedObject
	stop    context.CancelFunc
	err     error // of the walk, once batches is closed
}

// listedObject is what a visitor is told of an object.
type listedObject struct {
	name  string
	entry session.Entry
	err   error
}

// Objects of some 350 bytes go from one goroutine to the other in batches.
const (
	listBatch   = 256
	batchesFull = 160
)

// listAhead begins a walk through what is below a directory. The walker's enters says
// what is left out; its visit is not called.
func (w *walker) listAhead(ctx context.Context, dir string) *lister {
	ctx, stop := context.WithCancel(ctx)
	l := &lister{batches: make(chan []listedObject, batchesFull), free: make(chan []listedObject, 4), stop: stop}
	batch := l.empty()
	w.visit = func(name string, e session.Entry, err error) error {
		if w.enters != nil && !w.enters(name) {
			return errSkip
		}
		batch = append(batch, listedObject{name, e, err})
		if len(batch) < listBatch {
			return nil
		}
		full := batch
		batch = l.empty()
		select {
		case l.batches <- full:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	go func() {
		defer close(l.batches)
		if l.err = w.run(ctx, dir); l.err != nil || len(batch) == 0 {
			return
		}
		select {
		case l.batches <- batch:
		case <-ctx.Done():
			l.err = ctx.Err()
		}
	}()
	return l
}

// empty gives an empty batch.
func (l *lister) empty() []listedObject {
	select {
	case b := <-l.free:
		return b
	default:
		return make([]listedObject, 0, listBatch)
	}
}

// each gives every object to f, in the order of the walk, until f fails. It may be
// called once, and ends the walk.
func (l *lister) each(f func(o *listedObject) error) error {
	defer l.close()
	for batch := range l.batches {
		for i := range batch {
			if err := f(&batch[i]); err != nil && err != errSkip {
				return err
			}
		}
		clear(batch)
		select {
		case l.free <- batch[:0]:
		default:
		}
	}
	return l.err
}

// close ends the walk and waits until it uses the tree no more.
func (l *lister) close() {
	if l == nil {
		return
	}
	l.stop()
	for range l.batches {
	}
}

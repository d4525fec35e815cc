package repository

import (
	"context"
	"io"
)

// chunkAhead is a chunk that was cut and is being stored.
type chunkAhead struct {
	ref  chunkRef
	err  error
	done chan struct{}
}

// eachAhead does as eachInTurn, with the same chunks in the same order: but while
// it reads and cuts, chunks before are named and handed on by goroutines of their
// own. All of them have ended when it returns.
func (b *Backup) eachAhead(ctx context.Context, kind objectKind, c *chunker, f func(chunkRef) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	chunks := make(chan *chunkAhead, chunksAhead-1)
	var cut error
	go func() {
		defer close(chunks)
		cut = b.cutAhead(ctx, kind, c, chunks)
	}()
	var failed error
	for a := range chunks {
		<-a.done
		if failed == nil {
			if failed = a.err; failed == nil {
				failed = f(a.ref)
			}
			if failed != nil {
				cancel()
			}
		}
	}
	if failed != nil {
		return failed
	}
	return cut
}

// cutAhead cuts all chunks and starts what stores each. The channel keeps it
// from running far ahead.
func (b *Backup) cutAhead(ctx context.Context, kind objectKind, c *chunker, chunks chan<- *chunkAhead) error {
	for {
		data, err := c.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		a := &chunkAhead{ref: chunkRef{length: uint32(len(data))}, done: make(chan struct{})}
		own := append(b.pipe.buffer(len(data)), data...)
		go func() {
			defer close(a.done)
			a.ref.id, a.err = b.putBuffer(ctx, kind, own)
		}()
		// Whoever takes chunks waits for each, until the channel is closed.
		chunks <- a
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

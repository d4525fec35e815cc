package pipe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// Connect returns the session that [Serve] answers for on the other side of rw.
// If the connection breaks, running and later calls fail with
// VSS_E_REMOTE_SERVER_UNAVAILABLE.
func Connect(rw io.ReadWriteCloser) session.Session {
	c := &client{wire: &wire{rw: rw}, calls: map[uint64]*pending{}, done: make(chan struct{})}
	go c.loop()
	return c
}

// client is the far side's session.
type client struct {
	wire *wire
	done chan struct{} // closed when the connection is

	mu     sync.Mutex
	next   uint64
	calls  map[uint64]*pending
	broken error
	closed sync.Once
	last   error
}

var _ session.Session = (*client)(nil)

// pending is a call whose result has not come. What comes for it is handled by
// the caller's own goroutine, so that it can make other calls meanwhile.
type pending struct {
	mu    sync.Mutex
	queue []*frame // bounded: see window; steps of progress are few
	wake  chan struct{}
}

func (p *pending) put(f *frame) {
	p.mu.Lock()
	p.queue = append(p.queue, f)
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *pending) take() []*frame {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.queue
	p.queue = nil
	return list
}

func (c *client) loop() {
	for {
		f, err := c.wire.receive()
		if err != nil {
			c.fail(err)
			return
		}
		c.mu.Lock()
		p := c.calls[f.Call]
		if f.Kind == kindResult {
			delete(c.calls, f.Call)
		}
		c.mu.Unlock()
		if p != nil { // else given up by its caller
			p.put(f)
		}
	}
}

// fail ends all calls.
func (c *client) fail(err error) {
	c.wire.rw.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken == nil {
		c.broken = vss.Errorf(vss.ErrRemoteServerUnavailable, "call", "session", "the connection ended: %v", err)
		close(c.done)
	}
}

// call runs a method of a remote object. It waits for the result even when ctx
// ends, after telling the other side: a call of the model has ended when the
// service says so.
func (c *client) call(ctx context.Context, object uint64, method string, args []any, stream func(uint64, *frame)) ([]byte, error) {
	data, err := pack(args...)
	if err != nil {
		return nil, fmt.Errorf("pipe: %s: %w", method, err)
	}
	p := &pending{wake: make(chan struct{}, 1)}
	c.mu.Lock()
	if c.broken != nil {
		defer c.mu.Unlock()
		return nil, c.broken
	}
	c.next++
	id := c.next
	c.calls[id] = p
	c.mu.Unlock()
	if err := c.wire.send(&frame{Kind: kindCall, Call: id, Object: object, Method: method, Data: data}); err != nil {
		c.fail(err)
		return nil, c.broken
	}
	ended := ctx.Done()
	for broken := false; ; {
		for _, f := range p.take() {
			if f.Kind == kindResult {
				return f.Data, fromWire(f.Err)
			}
			if stream != nil {
				stream(id, f)
			}
		}
		if broken {
			return nil, c.broken
		}
		select {
		case <-p.wake:
		case <-ended:
			ended = nil
			if err := c.wire.send(&frame{Kind: kindCancel, Call: id}); err != nil {
				c.fail(err)
			}
		case <-c.done:
			broken = true // once more for what came before
		}
	}
}

// do calls a method and decodes its results.
func (c *client) do(ctx context.Context, object uint64, method string, args []any, results ...any) error {
	data, err := c.call(ctx, object, method, args, nil)
	if len(data) > 0 {
		if uerr := unpack(data, results...); uerr != nil && err == nil {
			err = fmt.Errorf("pipe: %s: result: %w", method, uerr)
		}
	}
	return err
}

// long calls a method that reports progress.
func (c *client) long(ctx context.Context, method string, pr session.Progress) error {
	_, err := c.call(ctx, 0, method, nil, func(_ uint64, f *frame) {
		var st session.Step
		if f.Kind == kindProgress && pr != nil && unpack(f.Data, &st) == nil {
			pr(st)
		}
	})
	return err
}

// Close implements [session.Session].
func (c *client) Close() error {
	c.closed.Do(func() {
		c.last = c.do(context.Background(), 0, "Close", nil)
		c.wire.rw.Close()
		if errors.Is(c.last, vss.ErrRemoteServerUnavailable) {
			c.last = nil // the other side closes the session when we are gone
		}
	})
	return c.last
}

// dir runs ReadDir of a remote tree or target.
func (c *client) dir(ctx context.Context, object uint64, name string, fn func(session.Entry, error) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var own error
	seen := 0
	_, err := c.call(ctx, object, "ReadDir", []any{name}, func(id uint64, f *frame) {
		if own != nil {
			return
		}
		var d dirEntry
		if own = unpack(f.Data, &d); own == nil {
			own = fn(d.Entry, fromWire(d.Err))
		}
		if own != nil {
			cancel()
			return
		}
		if seen++; seen%(window/2) == 0 {
			if err := c.wire.send(&frame{Kind: kindMore, Call: id}); err != nil {
				c.fail(err)
			}
		}
	})
	if own != nil {
		return own
	}
	return err
}

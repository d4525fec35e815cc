package host

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/sombra-backup/sombra/session/coordinator/hold/child"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// unitCaller is a host's end: it asks for what is to be done with units.
type unitCaller struct {
	conn net.Conn
	gone chan struct{}

	mu    sync.Mutex
	last  uint64
	calls map[uint64]chan unitAnswer
}

// callUnits takes the second connection over.
func callUnits(conn net.Conn) *unitCaller {
	c := &unitCaller{conn: conn, gone: make(chan struct{}), calls: map[uint64]chan unitAnswer{}}
	go c.read()
	return c
}

func (c *unitCaller) read() {
	defer close(c.gone)
	for {
		var a unitAnswer
		if err := child.ReadFrame(c.conn, &a); err != nil {
			return
		}
		c.mu.Lock()
		if ch, ok := c.calls[a.ID]; ok {
			ch <- a // has room
			delete(c.calls, a.ID)
		}
		c.mu.Unlock()
	}
}

// errServiceGone is why nothing can be done any more.
var errServiceGone = errors.New("the process that does this is gone")

func (c *unitCaller) call(ctx context.Context, number int, unit, op string) (unitAnswer, error) {
	r := unitRequest{Writer: number, Op: op}
	if d, ok := ctx.Deadline(); ok {
		if r.Limit = time.Until(d); r.Limit <= 0 {
			return unitAnswer{}, vss.Errorf(vss.ErrUnexpected, op, unit, "%w", context.DeadlineExceeded)
		}
	}
	answer := make(chan unitAnswer, 1)
	if err := c.send(&r, answer); err != nil {
		return unitAnswer{}, vss.Errorf(vss.ErrUnexpected, op, unit, "%w: %w", errServiceGone, err)
	}
	var err error
	select {
	case a := <-answer:
		return a, a.error()
	case <-c.gone:
		err = errServiceGone
	case <-ctx.Done():
		err = context.Cause(ctx)
		c.send(&unitRequest{ID: r.ID, Op: unitCancel}, nil)
	}
	c.mu.Lock()
	delete(c.calls, r.ID)
	c.mu.Unlock()
	return unitAnswer{}, vss.Errorf(vss.ErrUnexpected, op, unit, "%w", err)
}

// send writes a request, and gives a new one its number.
func (c *unitCaller) send(r *unitRequest, answer chan unitAnswer) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if answer != nil {
		c.last++
		r.ID = c.last
		c.calls[r.ID] = answer
	}
	c.conn.SetWriteDeadline(time.Now().Add(answerTime))
	return child.WriteFrame(c.conn, r)
}

// unitOf is the unit of a host's writer, as that sees it.
type unitOf struct {
	calls  *unitCaller
	number int
	name   string
}

var _ writer.ServiceHolder = unitOf{}

func (u unitOf) Name() string                      { return u.name }
func (u unitOf) Stop(ctx context.Context) error    { return u.do(ctx, unitStop) }
func (u unitOf) Start(ctx context.Context) error   { return u.do(ctx, unitStart) }
func (u unitOf) Hold(ctx context.Context) error    { return u.do(ctx, unitHold) }
func (u unitOf) Freeze(ctx context.Context) error  { return u.do(ctx, unitFreeze) }
func (u unitOf) Thaw(ctx context.Context) error    { return u.do(ctx, unitThaw) }
func (u unitOf) Release(ctx context.Context) error { return u.do(ctx, unitRelease) }

func (u unitOf) Active(ctx context.Context) (bool, error) {
	a, err := u.calls.call(ctx, u.number, u.name, unitActive)
	return a.Active, err
}

func (u unitOf) LetGo(ctx context.Context) (starting bool, err error) {
	a, err := u.calls.call(ctx, u.number, u.name, unitLetGo)
	return a.Starting, err
}

func (u unitOf) do(ctx context.Context, op string) error {
	_, err := u.calls.call(ctx, u.number, u.name, op)
	return err
}

// giveUnits sets the services of the specifications that name a unit.
func giveUnits(specs []writer.Spec) error {
	var calls *unitCaller
	for i := range specs {
		if specs[i].Unit == "" {
			continue
		}
		if calls == nil {
			conn, err := child.InheritedFile(0)
			if err != nil {
				return err
			}
			calls = callUnits(conn)
		}
		specs[i].Service = unitOf{calls, i, specs[i].Unit}
	}
	return nil
}

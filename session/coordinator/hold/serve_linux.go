package hold

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/sombra-backup/sombra/session/coordinator/hold/child"
)

// Inherited returns the connection that a keeper is started with, to be given
// to [KeeperMain].
func Inherited() (net.Conn, error) { return child.Inherited("sombra-keeper") }

// keeper is the keeper's process.
type keeper struct {
	conn     net.Conn
	handlers map[string]Handler
	hello    hello
	engine   *engine

	write sync.Mutex // guards writing to conn

	mu     sync.Mutex
	last   uint64
	duties []assigned
	calls  map[uint64]context.CancelFunc // requests under way
	acks   map[uint64]chan error         // our own requests
	closed bool
}

type assigned struct {
	id uint64
	Duty
}

// KeeperMain is the keeper's process. It returns when the connection has ended
// and everything due is done. Its error is that of the first duty that could
// not be done, or why the connection was not that of a [Keeper].
//
// Interrupts and requests to end are ignored while there is something to do. If
// ctx ends that is taken for the end of the connection.
func KeeperMain(ctx context.Context, conn net.Conn, handlers map[string]Handler) error {
	k := &keeper{conn: conn, handlers: handlers,
		calls: make(map[uint64]context.CancelFunc), acks: make(map[uint64]chan error)}
	k.engine = newEngine(k.askWeak, func() { k.send(message{Op: opReleased}) })
	defer k.ignoreSignals()()
	defer context.AfterFunc(ctx, func() { conn.Close() })()

	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	var first message
	if err := child.ReadFrame(conn, &first); err != nil {
		return fmt.Errorf("hold: keeper: %w", err)
	}
	conn.SetReadDeadline(time.Time{})
	var err error
	if k.hello, err = decode[hello](first); err != nil || first.Op != opHello {
		return fmt.Errorf("hold: keeper: the connection does not begin with %q", opHello)
	}
	group, note := enterOwnGroup()
	defer leaveOwnGroup(group)
	k.answer(first.ID, welcome{Note: note, Cgroup: group.dir}, nil)

	k.serve()
	k.engine.end()
	return k.doDuties(context.WithoutCancel(ctx))
}

// ignoreSignals keeps signals that end a process from ending this one while
// there is something to do.
func (k *keeper) ignoreSignals() (restore func()) {
	c := make(chan os.Signal, 4)
	signal.Notify(c, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	signal.Ignore(syscall.SIGPIPE)
	go func() {
		for range c {
			k.mu.Lock()
			busy := len(k.duties) > 0
			k.mu.Unlock()
			if !busy && !k.engine.holding() {
				k.conn.Close()
			}
		}
	}()
	return func() { signal.Stop(c); close(c) }
}

// serve reads requests until the connection ends. A request that makes no sense
// ends it.
func (k *keeper) serve() {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	for {
		var m message
		if err := child.ReadFrame(k.conn, &m); err != nil {
			return
		}
		switch m.Op {
		case "":
			k.mu.Lock()
			ack := k.acks[m.ID]
			delete(k.acks, m.ID)
			k.mu.Unlock()
			if ack != nil {
				ack <- m.error()
			}
		case opCancel:
			k.mu.Lock()
			stop := k.calls[m.ID]
			k.mu.Unlock()
			if stop != nil {
				stop()
			}
		case opClose:
			k.close(m)
			return
		case opStop, opResume:
			// These take time, and Resume must be able to overtake.
			call, stop := context.WithCancel(ctx)
			k.mu.Lock()
			k.calls[m.ID] = stop
			k.mu.Unlock()
			running.Go(func() {
				k.handle(call, m)
				stop()
				k.mu.Lock()
				delete(k.calls, m.ID)
				k.mu.Unlock()
			})
		default:
			k.handle(ctx, m)
		}
	}
}

// handle does one request and answers it.
func (k *keeper) handle(ctx context.Context, m message) {
	var out any
	var err error
	switch m.Op {
	case opStop:
		out, err = k.stop(ctx, m)
	case opResume:
		var r resumeRequest
		if r, err = decode[resumeRequest](m); err == nil {
			if r.Hold == 0 {
				k.cancelStops(m.ID)
			}
			err = k.engine.Resume(r.Hold)
		}
	case opAssign:
		out, err = k.assign(m)
	case opDischarge:
		err = k.discharge(m)
	case opAlive:
	default:
		err = fmt.Errorf("hold: the keeper does not know the request %q", m.Op)
	}
	k.answer(m.ID, out, err)
}

func (k *keeper) stop(ctx context.Context, m message) (stopAnswer, error) {
	r, err := decode[stopRequest](m)
	if err != nil {
		return stopAnswer{}, err
	}
	if len(r.PIDs) > maxPIDs {
		return stopAnswer{}, fmt.Errorf("hold: %d processes to stop, the limit is %d", len(r.PIDs), maxPIDs)
	}
	ours := map[int]bool{os.Getpid(): true, k.hello.PID: true}
	for _, pid := range r.Protect {
		ours[pid] = true
	}
	ctx, cancel := context.WithTimeout(ctx, r.Limit)
	defer cancel()
	var a stopAnswer
	a.Hold, a.Stopped, err = k.engine.stop(ctx, r.PIDs, ours, r.Lease)
	return a, err
}

// cancelStops ends the stops under way, so that a request to let everything go
// need not wait for them.
func (k *keeper) cancelStops(except uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for id, stop := range k.calls {
		if id != except {
			stop()
		}
	}
}

func (k *keeper) assign(m message) (numbered, error) {
	d, err := decode[Duty](m)
	if err != nil {
		return numbered{}, err
	}
	if k.handlers[d.Kind] == nil {
		return numbered{}, fmt.Errorf("hold: the keeper has no handler for duties of kind %q", d.Kind)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.duties) >= maxDuties {
		return numbered{}, fmt.Errorf("hold: more than %d duties", maxDuties)
	}
	k.last++
	k.duties = append(k.duties, assigned{k.last, d})
	if id := k.last; d.After > 0 {
		time.AfterFunc(d.After, func() { k.overdue(id) })
	}
	return numbered{k.last}, nil
}

// overdue does a duty whose time is up. It stays one until it is discharged.
func (k *keeper) overdue(id uint64) {
	k.mu.Lock()
	i := slices.IndexFunc(k.duties, func(d assigned) bool { return d.id == id })
	if i < 0 {
		k.mu.Unlock()
		return
	}
	d := k.duties[i].Duty
	k.mu.Unlock()
	if err := k.do(context.Background(), d); err != nil {
		fmt.Fprintf(os.Stderr, "sombra keeper: hold: duty %q, overdue: %v\n", d.Kind, err)
	}
}

func (k *keeper) discharge(m message) error {
	n, err := decode[numbered](m)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for i, d := range k.duties {
		if d.id == n.ID {
			k.duties = append(k.duties[:i:i], k.duties[i+1:]...)
			return nil
		}
	}
	return fmt.Errorf("hold: there is no duty %d", n.ID)
}

// close is the orderly end: everything goes on, no duty is left.
func (k *keeper) close(m message) {
	k.cancelStops(0)
	err := k.engine.Resume(0)
	k.mu.Lock()
	k.duties = nil
	k.mu.Unlock()
	k.answer(m.ID, nil, err)
}

func (k *keeper) answer(id uint64, out any, err error) {
	m := message{ID: id}
	if err == nil && out != nil {
		m.Body, err = json.Marshal(out)
	}
	m.setError(err)
	k.send(m)
}

// send writes to the other side. If that is gone the reader notices.
func (k *keeper) send(m message) {
	k.write.Lock()
	defer k.write.Unlock()
	k.conn.SetWriteDeadline(time.Now().Add(5 * time.Second))
	if child.WriteFrame(k.conn, m) != nil {
		k.conn.Close()
	}
}

// askWeak tells the other side what it will have to undo if we die, and waits
// until it knows.
func (k *keeper) askWeak(ctx context.Context, u Undo) error {
	body, err := json.Marshal(u)
	if err != nil {
		return err
	}
	ack := make(chan error, 1)
	k.mu.Lock()
	k.last++
	id := k.last
	k.acks[id] = ack
	k.mu.Unlock()
	k.send(message{ID: id, Op: opWeak, Body: body})
	select {
	case err := <-ack:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

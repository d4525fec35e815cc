package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/session/coordinator/hold/child"
	"github.com/sombra-backup/sombra/session/coordinator/systemd"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// holder gives the unit of a specification; nil if it has none.
func (o Options) holder(s writer.Spec) writer.ServiceHolder {
	if s.Unit == "" {
		return nil
	}
	if o.Service != nil {
		return o.Service(s)
	}
	h, err := systemd.NewHeld(s)
	if err != nil {
		return refused{s.Unit, err}
	}
	return h
}

// refused is a unit of which nothing is taken.
type refused struct {
	name string
	err  error
}

func (r refused) Name() string                         { return r.name }
func (r refused) Stop(context.Context) error           { return r.err }
func (r refused) Start(context.Context) error          { return r.err }
func (r refused) Hold(context.Context) error           { return r.err }
func (r refused) Freeze(context.Context) error         { return r.err }
func (r refused) Thaw(context.Context) error           { return nil }
func (r refused) LetGo(context.Context) (bool, error)  { return false, nil }
func (r refused) Release(context.Context) error        { return nil }
func (r refused) Active(context.Context) (bool, error) { return false, r.err }

// withUnits makes the second socket pair if a specification has a unit.
func (h *Host) withUnits(specs []writer.Spec) (far *os.File, err error) {
	units := make([]writer.ServiceHolder, len(specs))
	any := false
	for i, s := range specs {
		units[i] = h.opts.holder(s)
		any = any || units[i] != nil
	}
	if !any {
		return nil, nil
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("start writer host: socketpair: %w", err)
	}
	near, far := os.NewFile(uintptr(fds[0]), "near end"), os.NewFile(uintptr(fds[1]), "far end")
	defer near.Close()
	conn, err := net.FileConn(near)
	if err != nil {
		far.Close()
		return nil, fmt.Errorf("start writer host: %w", err)
	}
	h.units = &unitServer{conn: conn, units: units, calls: map[uint64]context.CancelCauseFunc{}}
	return far, nil
}

// unitServer does for a host what it asks for with the units of its writers.
type unitServer struct {
	conn  net.Conn
	units []writer.ServiceHolder

	write sync.Mutex
	mu    sync.Mutex
	calls map[uint64]context.CancelCauseFunc
}

var errHostGone = errors.New("the writer host that asked for it is gone")

// serve works until the connection ends, and until all that it began has ended,
// which then is soon.
func (s *unitServer) serve() {
	ctx, cancel := context.WithCancelCause(context.Background())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(errHostGone)
	defer s.conn.Close()
	for {
		var r unitRequest
		if err := child.ReadFrame(s.conn, &r); err != nil {
			return // its end, or no request: it is not spoken with any more
		}
		if r.Op == unitCancel {
			s.cancel(r.ID)
			continue
		}
		ctx, done, err := s.begin(ctx, r)
		if err != nil {
			s.answer(unitAnswer{ID: r.ID}, err)
			continue
		}
		wg.Go(func() {
			defer done()
			a := unitAnswer{ID: r.ID}
			err := do(ctx, s.units[r.Writer], r.Op, &a)
			s.answer(a, err)
		})
	}
}

// begin takes a request up if it is one.
func (s *unitServer) begin(ctx context.Context, r unitRequest) (context.Context, func(), error) {
	const op = "serve unit"
	if r.Writer < 0 || r.Writer >= len(s.units) || s.units[r.Writer] == nil {
		return nil, nil, vss.Errorf(vss.ErrAccessDenied, op, "", "writer %d of this host has no unit", r.Writer)
	}
	name := s.units[r.Writer].Name()
	if !slices.Contains([]string{unitStop, unitStart, unitActive, unitHold, unitFreeze, unitThaw, unitLetGo, unitRelease}, r.Op) {
		return nil, nil, vss.Errorf(vss.ErrInvalidArgument, op, name, "a unit cannot be asked to do that")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, twice := s.calls[r.ID]; twice || len(s.calls) >= maxUnitCalls {
		return nil, nil, vss.Errorf(vss.ErrInvalidArgument, op, name, "too many requests at the same time, or two with one number")
	}
	ctx, cancel := context.WithCancelCause(ctx)
	s.calls[r.ID] = cancel
	stop := func() {}
	if r.Limit > 0 {
		ctx, stop = context.WithTimeoutCause(ctx, r.Limit,
			fmt.Errorf("%s of %s has not ended in time and goes on; see: systemctl status %s: %w", r.Op, name, name, context.DeadlineExceeded))
	}
	return ctx, func() {
		stop()
		s.cancel(r.ID)
	}, nil
}

// cancel ends a request, or forgets one that has ended.
func (s *unitServer) cancel(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if cancel, ok := s.calls[id]; ok {
		cancel(context.Canceled)
		delete(s.calls, id)
	}
}

func do(ctx context.Context, u writer.ServiceHolder, op string, a *unitAnswer) (err error) {
	switch op {
	case unitStop:
		err = u.Stop(ctx)
	case unitStart:
		err = u.Start(ctx)
	case unitHold:
		err = u.Hold(ctx)
	case unitThaw:
		err = u.Thaw(ctx)
	case unitFreeze:
		err = u.Freeze(ctx)
	case unitRelease:
		err = u.Release(ctx)
	case unitActive:
		a.Active, err = u.Active(ctx)
	case unitLetGo:
		a.Starting, err = u.LetGo(ctx)
	}
	return err
}

func (s *unitServer) answer(a unitAnswer, err error) {
	if err != nil {
		a.Text = err.Error()
		a.Text = a.Text[:min(len(a.Text), maxUnitText)]
		if a.Code = vss.CodeOf(err); a.Code.Succeeded() {
			a.Code = vss.ErrUnexpected
		}
	}
	s.write.Lock()
	defer s.write.Unlock()
	s.conn.SetWriteDeadline(time.Now().Add(answerTime))
	if err := child.WriteFrame(s.conn, a); err != nil {
		s.conn.Close()
	}
}

package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/sombra-backup/sombra/writer/writers/redis/resp"
)

const (
	// leaseTime is what a pause is asked for: so short that clients go on soon
	// after this process has died, so long that it does not lapse because the
	// machine is busy.
	leaseTime = 1500 * time.Millisecond
	// renewEvery is how often the pause is renewed.
	renewEvery = 300 * time.Millisecond
)

// hold is a pause in force. A goroutine renews it over a connection of its own.
type hold struct {
	conf   config
	server *server
	renew  *server
	until  time.Time // when it ends for good
	// pauses is how many pauses the server has been asked for, by anybody, when
	// the last one of ours was.
	pauses int64

	stop chan struct{}
	done chan struct{}

	mu      sync.Mutex
	failure error // of renewing
	foreign bool  // somebody else asked for a pause too
}

// pause has the server postpone writes.
func (w *redisWriter) pause(ctx context.Context, s *server, until time.Time) (*hold, error) {
	renew, err := connect(ctx, w.conf)
	if err != nil {
		return nil, err
	}
	h := &hold{conf: w.conf, server: s, renew: renew, until: until, stop: make(chan struct{}), done: make(chan struct{})}
	if err := h.begin(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("hold writes: %w", err), renew.close())
	}
	go h.keep()
	return h, nil
}

// probe is a command that the server counts among writes and that changes nothing,
// whether or not there is such a key: what postpones writes postpones it.
var probe = []string{"GETEX", "sombra"}

// begin asks for the pause in one transaction with a write, which waits until no
// pause is in force any more. If ctx ends before, the connection is given up and
// the server drops the transaction.
func (h *hold) begin(ctx context.Context) error {
	replies, err := h.renew.doAll(ctx, []string{"MULTI"}, probe, []string{"CLIENT", "PAUSE", h.lease(), "WRITE"}, []string{"INFO", "commandstats"}, []string{"EXEC"})
	if err != nil {
		return err
	}
	results := replies[len(replies)-1].List
	if len(results) != 3 {
		return errors.New("the transaction was not carried out")
	}
	for _, r := range results {
		if r.Kind == resp.KindError {
			return resp.Error(r.Text)
		}
	}
	h.pauses = parseInfo(results[2].Text).calls("client|pause")
	return nil
}

// lease is the time to ask for, in milliseconds: never past the end.
func (h *hold) lease() string {
	d := min(leaseTime, time.Until(h.until))
	return strconv.FormatInt(max(1, d.Milliseconds()), 10)
}

// keep renews the pause until it is told to stop or its time is up.
func (h *hold) keep() {
	defer close(h.done)
	tick := time.NewTicker(renewEvery)
	defer tick.Stop()
	for {
		select {
		case <-h.stop:
			return
		case <-tick.C:
		}
		if !time.Now().Before(h.until) {
			h.fail(errors.New("the time for holding writes is up"))
			return
		}
		if err := h.again(); err != nil {
			h.fail(err)
			return
		}
	}
}

// again renews the pause, unless somebody else has asked for one meanwhile: that is
// then as long as he wants it.
func (h *hold) again() error {
	ctx, cancel := context.WithTimeout(context.Background(), leaseTime)
	defer cancel()
	if err := h.look(ctx, h.renew); err != nil || h.isForeign() {
		return err
	}
	if _, err := h.renew.do(ctx, "CLIENT", "PAUSE", h.lease(), "WRITE"); err != nil {
		return fmt.Errorf("hold writes on: %w", err)
	}
	h.pauses++
	return nil
}

// look finds out whether somebody else has asked for a pause.
func (h *hold) look(ctx context.Context, s *server) error {
	i, err := s.info(ctx, "commandstats")
	if err != nil {
		return fmt.Errorf("hold writes on: %w", err)
	}
	h.mu.Lock()
	h.foreign = h.foreign || i.calls("client|pause") > h.pauses
	h.mu.Unlock()
	return nil
}

func (h *hold) isForeign() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.foreign
}

func (h *hold) fail(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failure = err
}

// lost tells why the pause is not renewed any more, if so.
func (h *hold) lost() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.failure
}

// release ends the pause, unless it is somebody else's too: that one then ends it,
// or its time does. It may be called once. h.server stays open.
func (h *hold) release(ctx context.Context) error {
	close(h.stop)
	// No renewal may come after the end: one that is under way is waited for, or
	// its connection given up.
	select {
	case <-h.done:
	case <-ctx.Done():
		h.renew.close()
		<-h.done
	}
	defer h.renew.close()
	err := h.unpause(ctx, h.server)
	if err == nil {
		return nil
	}
	// The connection is lost or the time is up: it is let go all the same.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaseTime)
	defer cancel()
	s, cerr := connect(ctx, h.conf)
	if cerr != nil {
		return errors.Join(err, cerr)
	}
	defer s.close()
	return h.unpause(ctx, s)
}

func (h *hold) unpause(ctx context.Context, s *server) error {
	if err := h.look(ctx, s); err != nil {
		return err
	}
	if h.isForeign() {
		return nil
	}
	if _, err := s.do(ctx, "CLIENT", "UNPAUSE"); err != nil {
		return fmt.Errorf("let writes go on: %w", err)
	}
	return nil
}

package quiesce

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

var (
	errLease   = errors.New("the lease is over, and nobody had thawed")
	errStarter = errors.New("the command that froze has ended before it could say so")
)

// maxWarnings bounds the warnings kept, and maxWaiting the requests that wait.
const (
	maxWarnings = 100
	maxWaiting  = 16
)

// Main is the holder's process. starter leads to whoever started it. opener gives
// what opens sessions, and reports what goes wrong to the function given. It
// returns when nothing is held any more: thawed, or with a file in the state
// directory that tells that the lease was over. When ctx ends it lets go.
func Main(ctx context.Context, starter net.Conn, opener func(o Order, warn func(string)) requester.Opener) error {
	in := bufio.NewReader(starter)
	var o Order
	if err := readMessage(in, maxMessage, &o); err != nil {
		return fmt.Errorf("order of a holder: %w", err)
	}
	h := &holder{order: o, starter: starter, asked: make(chan *asking, maxWaiting)}
	defer h.detach()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	acked := make(chan struct{})
	go func() {
		if _, err := in.ReadString('\n'); err != nil {
			cancel(errStarter)
			return
		}
		close(acked)
	}()
	o.Request.Begun = h.listen
	defer h.leave()
	f, err := requester.Freeze(ctx, opener(o, h.Warning), o.Request, h)
	if err != nil {
		h.tell(event{Failure: &Failure{Text: err.Error(), Code: vss.CodeOf(err)}})
		return err
	}
	return h.hold(ctx, f, acked)
}

// holder is what the holder's process does. It is a [requester.Reporter].
type holder struct {
	order  Order
	socket *socket
	asked  chan *asking

	mu       sync.Mutex
	starter  net.Conn // nil when nobody listens there any more
	warnings []string
}

// asking is a request and where its answer goes.
type asking struct {
	op   op
	conn net.Conn

	mu       sync.Mutex
	answered bool
}

// signs tells who asks that the holder lives, until there is an answer: a thaw takes
// as long as the writers do.
func (q *asking) signs() {
	for q.say(Answer{State: working}) {
		time.Sleep(signTime)
	}
}

// say writes a sign of life or the answer, and reports whether an answer has to
// follow.
func (q *asking) say(a Answer) (more bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.answered {
		return false
	}
	q.conn.SetWriteDeadline(time.Now().Add(messageTime))
	err := writeMessage(q.conn, a)
	q.answered = a.State != working
	// Who does not wait for the answer has ended.
	return err == nil && !q.answered
}

// listen makes the socket, when no other holder can have one.
func (h *holder) listen() (err error) {
	if err := removeOver(h.order.StateDir); err != nil { // of a hold before
		return err
	}
	h.socket, err = listen(h.order.StateDir)
	if err == nil {
		go h.accept()
	}
	return err
}

func (h *holder) accept() {
	for {
		conn, err := h.socket.Accept()
		if err != nil {
			return
		}
		go func() {
			conn.SetDeadline(time.Now().Add(messageTime))
			var r request
			if _, err := checkPeer(conn); err != nil || readMessage(bufio.NewReader(conn), maxRequest, &r) != nil {
				conn.Close()
				return
			}
			conn.SetDeadline(time.Time{})
			q := &asking{op: r.Op, conn: conn}
			select {
			case h.asked <- q:
				q.signs()
			default:
				conn.Close()
			}
		}()
	}
}

// leave removes the socket. The file system may still be frozen: then it takes
// until it is not.
func (h *holder) leave() {
	if h.socket != nil {
		h.socket.Close()
	}
}

// hold stays until the writers are thawed, or were let go and a file tells that.
func (h *holder) hold(ctx context.Context, f *requester.Frozen, acked <-chan struct{}) error {
	k := &keeping{holder: h, frozen: f, state: Held, result: f.Result()}
	h.tell(event{Result: &k.result})
	lease := time.NewTimer(time.Until(k.result.Until))
	defer lease.Stop()
	var left chan error // what became of the file
	for {
		select {
		case <-acked:
			acked = nil
			h.detach()
		case <-ctx.Done():
			k.abandon(context.Cause(ctx))
			return context.Cause(ctx)
		case <-lease.C:
			k.abandon(errLease)
			// The state directory's file system may be frozen: until it is not,
			// whoever asks is answered here.
			left = make(chan error, 1)
			over := k.now()
			go func() { left <- writeOver(h.order.StateDir, over) }()
		case err := <-left:
			return err
		case q := <-h.asked:
			if !k.answer(ctx, q) {
				continue
			}
			if left != nil && <-left == nil {
				return removeOver(h.order.StateDir) // it was told
			}
			return nil
		}
	}
}

// keeping is a hold and what has become of it.
type keeping struct {
	*holder
	frozen *requester.Frozen
	state  State
	result requester.FreezeResult
}

// abandon lets the writers go, if they are still held.
func (k *keeping) abandon(why error) {
	if k.state != Held {
		return
	}
	k.state = Expired
	k.result = k.frozen.Abandon(context.Background(), why)
	if err := k.frozen.Close(); err != nil {
		k.Warning(err.Error())
	}
	k.keepWarnings()
}

// answer does what was asked, and reports whether that was the last.
func (k *keeping) answer(ctx context.Context, q *asking) (last bool) {
	defer q.conn.Close()
	refusal := ""
	switch q.op {
	case opStatus:
	case opThaw:
		last = true
		if !time.Now().Before(k.result.Until) {
			k.abandon(errLease)
		}
		if k.state == Held {
			k.result, k.state = k.frozen.Thaw(ctx), Thawed
			k.keepWarnings()
		}
	case opDismiss:
		if last = k.state != Held; !last {
			refusal = "it holds writers"
		}
		k.leave() // before the answer, after which another may listen
	default:
		refusal = "it does not know what is asked of it"
	}
	a := k.now()
	a.Refusal = refusal
	q.say(a) // whoever hears it, the writers go on
	if k.state == Thawed {
		// The end of the connection tells that another run can begin.
		k.leave()
		_ = k.frozen.Close() // nobody is left to be told
	}
	return last
}

// now is what there is to answer.
func (k *keeping) now() Answer { return Answer{State: k.state, PID: os.Getpid(), Result: k.result} }

func (k *keeping) keepWarnings() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.result.Warnings = append(k.result.Warnings, k.warnings...)
	k.warnings = nil
}

// tell reports to whoever started the holder, while there is anybody.
func (h *holder) tell(e event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.starter != nil {
		h.starter.SetWriteDeadline(time.Now().Add(messageTime))
		if writeMessage(h.starter, e) != nil {
			h.close()
		}
	}
}

// detach ends the connection with who started the holder.
func (h *holder) detach() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.close()
}

func (h *holder) close() {
	if h.starter != nil {
		h.starter.Close()
		h.starter = nil
	}
}

// The Reporter.

// Phase implements [requester.Reporter].
func (h *holder) Phase(p requester.Phase) { h.tell(event{Phase: p}) }

// Step implements [requester.Reporter].
func (h *holder) Step(s session.Step) { h.tell(event{Step: &s}) }

// Plan implements [requester.Reporter].
func (h *holder) Plan(*requester.Plan) {}

// Status implements [requester.Reporter].
func (h *holder) Status(_ requester.Phase, s session.WriterStatus) { h.tell(event{Status: &s}) }

// File implements [requester.Reporter].
func (h *holder) File(requester.FileEvent) {}

// Totals implements [requester.Reporter].
func (h *holder) Totals(requester.Totals) {}

// Warning implements [requester.Reporter]: it is told at once, or with the result
// if there is nobody to be told.
func (h *holder) Warning(text string) {
	h.mu.Lock()
	alone := h.starter == nil
	if alone && len(h.warnings) < maxWarnings {
		h.warnings = append(h.warnings, text)
	}
	h.mu.Unlock()
	if !alone {
		h.tell(event{Warning: text})
	}
}

package limit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// ErrStall says that a request was given up because it did not move on. Another
// try may do better.
var ErrStall = errors.New("the connection stands still")

// moving is a carrier that watches over requests. Each must carry some bytes of
// its body, or of the answer's, in the time of a stall, or be done: a byte now
// and then, which is enough for the watch over connections, is not.
type moving struct {
	inner *http.Transport
	l     *Limits
}

// RoundTrip implements http.RoundTripper.
func (m *moving) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	w := &watch{l: m.l, cancel: cancel}
	req = req.Clone(ctx)
	w.wait()
	if req.Body != nil && req.Body != http.NoBody {
		req.Body = &sent{req.Body, w}
	}
	resp, err := m.inner.RoundTrip(req)
	w.rest()
	if err != nil {
		cancel(nil)
		return nil, w.explain(err)
	}
	resp.Body = &answered{resp.Body, w}
	return resp, nil
}

// CloseIdleConnections closes connections that nobody uses.
func (m *moving) CloseIdleConnections() { m.inner.CloseIdleConnections() }

// watch gives a request up that does not move on. Its time runs only while
// somebody waits for the network, not while who reads an answer does something
// else.
type watch struct {
	l      *Limits
	cancel context.CancelCauseFunc

	mu      sync.Mutex
	timer   *time.Timer
	began   time.Time     // of the wait that goes on
	waited  time.Duration // in this period, before that
	moved   int64         // in this period
	stalled error
}

// wait begins a wait.
func (w *watch) wait() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.began = time.Now()
	left := w.l.o.Stall - w.waited
	if w.timer == nil {
		w.timer = time.AfterFunc(left, w.expire)
	} else {
		w.timer.Reset(left)
	}
}

// expire ends the request, unless bytes have moved meanwhile.
func (w *watch) expire() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.began.IsZero() {
		return
	}
	if left := w.l.o.Stall - w.waited - time.Since(w.began); left > 0 {
		w.timer.Reset(left)
		return
	}
	w.stalled = fmt.Errorf("%w: %d bytes in %s", ErrStall, w.moved, w.l.o.Stall)
	w.cancel(w.stalled)
}

// move counts bytes; enough of them begin a new period.
func (w *watch) move(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.moved += int64(n); w.moved >= w.l.Least() {
		w.moved, w.waited = 0, 0
		if !w.began.IsZero() {
			w.began = time.Now()
		}
	}
}

// rest ends a wait.
func (w *watch) rest() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.began.IsZero() {
		w.waited += time.Since(w.began)
		w.began = time.Time{}
	}
	w.timer.Stop()
}

// explain gives the stall as the cause of an error, if it is.
func (w *watch) explain(err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stalled != nil {
		return w.stalled
	}
	return err
}

// sent is the body of a request. When the carrier takes more of it, what it had
// taken before is on its way.
type sent struct {
	io.ReadCloser
	w *watch
}

func (b *sent) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.w.move(n)
	return n, err
}

// answered is the body of an answer.
type answered struct {
	io.ReadCloser
	w *watch
}

func (b *answered) Read(p []byte) (int, error) {
	b.w.wait()
	n, err := b.ReadCloser.Read(p)
	b.w.move(n)
	b.w.rest()
	if err != nil && err != io.EOF {
		err = b.w.explain(err)
	}
	return n, err
}

func (b *answered) Close() error {
	err := b.ReadCloser.Close()
	b.w.cancel(nil)
	return err
}

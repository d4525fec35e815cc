// Package limit keeps stores from taking more of a network than they are given:
// bytes a second in each direction, requests at once, and the time a connection
// may stand still.
package limit

import (
	"cmp"
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/sombra-backup/sombra/repository/store"
)

// Options are the limits. The zero value limits nothing but stillness.
type Options struct {
	// Upload and Download are in bytes a second, for all connections together;
	// zero means no limit.
	Upload, Download int64
	// Connections is how many requests are made at once; zero means as many as
	// are asked for.
	Connections int
	// Stall is how long a connection on which somebody waits may carry no byte
	// in either direction before it is given up, and in which time a request
	// that is not done must have carried Least bytes; zero means two minutes.
	Stall time.Duration
	// Least is how many bytes that is, so that a server cannot keep a request
	// for ever by a byte now and then; zero means DefaultLeast. With low rates
	// it is less; see Limits.Least.
	Least int64
}

// DefaultLeast is how many bytes a request must carry in the time of a stall: in
// two minutes some 140 a second, less than any line on which a backup would end.
const DefaultLeast = 16 << 10

// Limits are limits in force. The connections they make share the rates.
type Limits struct {
	o        Options
	up, down *rate.Limiter
}

// piece is how much is sent or taken at a time: small enough for an even flow.
const piece = 16 << 10

// New gives limits.
func New(o Options) *Limits {
	if o.Stall <= 0 {
		o.Stall = 2 * time.Minute
	}
	if o.Least <= 0 {
		o.Least = DefaultLeast
	}
	l := &Limits{o: o}
	if o.Upload > 0 {
		l.up = limiter(o.Upload)
	}
	if o.Download > 0 {
		l.down = limiter(o.Download)
	}
	return l
}

// limiter lets through what a tenth of a second may carry at once, but at least
// one piece.
func limiter(bytes int64) *rate.Limiter {
	return rate.NewLimiter(rate.Limit(bytes), int(max(piece, min(bytes/10, 1<<20))))
}

// Transport gives a carrier for HTTP requests whose connections keep the limits.
// Requests that stand still or drip are given up with ErrStall. Proxies are those
// of the environment.
func (l *Limits) Transport() http.RoundTripper { return &moving{l.carrier(), l} }

// carrier is the carrier without the watch over requests.
func (l *Limits) carrier() *http.Transport {
	dialer := &net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dialer.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return l.Conn(conn), nil
	}
	t.MaxIdleConnsPerHost = 16
	t.IdleConnTimeout = min(t.IdleConnTimeout, l.o.Stall)
	// Pieces of packs do not compress.
	t.DisableCompression = true
	return t
}

// Conn gives a connection that keeps the limits.
func (l *Limits) Conn(c net.Conn) net.Conn { return &conn{Conn: c, l: l} }

// conn is a connection with limits. Whoever waits for an answer while a long
// request is being sent does not time out: what moves in one direction counts
// for both.
type conn struct {
	net.Conn
	l *Limits

	// mu guards until and the order of deadlines.
	mu    sync.Mutex
	until time.Time
}

// alive moves the deadline, but not for each piece.
func (c *conn) alive() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if until := time.Now().Add(c.l.o.Stall); until.Sub(c.until) > c.l.o.Stall/16 {
		c.until = until
		c.Conn.SetDeadline(until)
	}
}

// Read takes what has come, then waits as long as the rate wants.
func (c *conn) Read(p []byte) (int, error) {
	c.alive()
	if c.l.down == nil {
		n, err := c.Conn.Read(p)
		if n > 0 {
			c.alive()
		}
		return n, err
	}
	n, err := c.Conn.Read(p[:min(len(p), piece)])
	if n > 0 {
		c.alive()
		c.l.down.WaitN(context.Background(), n)
	}
	return n, err
}

// Write sends piece by piece.
func (c *conn) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		part := p
		if c.l.up != nil {
			part = p[:min(len(p), piece)]
			c.l.up.WaitN(context.Background(), len(part))
		}
		c.alive()
		k, err := c.Conn.Write(part)
		n += k
		if err != nil {
			return n, err
		}
		p = p[k:]
	}
	return n, nil
}

// Reader gives a reader that keeps the rate of downloads.
func (l *Limits) Reader(r io.Reader) io.Reader {
	if l.down == nil {
		return r
	}
	return reader{r, l.down}
}

// Writer gives a writer that keeps the rate of uploads.
func (l *Limits) Writer(w io.WriteCloser) io.WriteCloser {
	if l.up == nil {
		return w
	}
	return writer{w, l.up}
}

type reader struct {
	io.Reader
	rate *rate.Limiter
}

func (r reader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p[:min(len(p), piece)])
	r.rate.WaitN(context.Background(), n)
	return n, err
}

type writer struct {
	io.WriteCloser
	rate *rate.Limiter
}

func (w writer) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		part := p[:min(len(p), piece)]
		w.rate.WaitN(context.Background(), len(part))
		k, err := w.WriteCloser.Write(part)
		n += k
		if err != nil {
			return n, err
		}
		p = p[k:]
	}
	return n, nil
}

// Stall is how long a connection may stand still.
func (l *Limits) Stall() time.Duration { return l.o.Stall }

// Least is how many bytes must move in that time while somebody waits. It is what
// the options say, but no more than what a request is sure to get of low rates,
// which all requests share.
func (l *Limits) Least() int64 {
	const sharers = 64
	least := l.o.Least
	for _, rate := range []int64{l.o.Upload, l.o.Download} {
		if rate > 0 {
			least = min(least, max(1, int64(float64(rate)*l.o.Stall.Seconds()/sharers)))
		}
	}
	return least
}

// Store wraps a store so that no more requests than allowed are made at once. If
// carried says that its connections do not keep the rates themselves, as those
// of a folder cannot, whole operations wait for them. What it gives is a
// store.Retainer if the store is one.
func (l *Limits) Store(inner store.Store, carried bool) store.Store {
	s := &limited{Store: inner, l: l, carried: carried}
	if l.o.Connections > 0 {
		s.slots = make(chan struct{}, l.o.Connections)
	}
	if lock, ok := inner.(store.Retainer); ok {
		return retainer{s, lock}
	}
	return s
}

// limited is a store with limits. Listings make one request at a time by
// themselves, and what they call may make others, so they take no slot.
type limited struct {
	store.Store
	l       *Limits
	slots   chan struct{}
	carried bool
}

// retainer is one that can lock.
type retainer struct {
	*limited
	lock store.Retainer
}

// enter waits for a slot.
func (s *limited) enter(ctx context.Context) (leave func(), err error) {
	if s.slots == nil {
		return func() {}, nil
	}
	select {
	case s.slots <- struct{}{}:
		return func() { <-s.slots }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// wait waits until the rate has room for n bytes.
func (s *limited) wait(ctx context.Context, r *rate.Limiter, n int) error {
	for s.carried && r != nil && n > 0 {
		part := min(n, r.Burst())
		if err := r.WaitN(ctx, part); err != nil {
			// It says so at once, too, if the context will end before its turn.
			return cmp.Or(ctx.Err(), context.DeadlineExceeded)
		}
		n -= part
	}
	return nil
}

// Put implements store.Store.
func (s *limited) Put(ctx context.Context, name string, data []byte) error {
	leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if err := s.wait(ctx, s.l.up, len(data)); err != nil {
		return err
	}
	return s.Store.Put(ctx, name, data)
}

// ReadAt implements store.Store.
func (s *limited) ReadAt(ctx context.Context, name string, p []byte, offset int64) (int, error) {
	leave, err := s.enter(ctx)
	if err != nil {
		return 0, err
	}
	defer leave()
	if err := s.wait(ctx, s.l.down, len(p)); err != nil {
		return 0, err
	}
	return s.Store.ReadAt(ctx, name, p, offset)
}

// Stat implements store.Store.
func (s *limited) Stat(ctx context.Context, name string) (store.Info, error) {
	leave, err := s.enter(ctx)
	if err != nil {
		return store.Info{}, err
	}
	defer leave()
	return s.Store.Stat(ctx, name)
}

// Delete implements store.Store.
func (s *limited) Delete(ctx context.Context, name string) error {
	leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	return s.Store.Delete(ctx, name)
}

// Sweep implements store.Sweeper: it does nothing if the store cannot.
func (s *limited) Sweep(ctx context.Context, age time.Duration) error {
	if sweeper, ok := s.Store.(store.Sweeper); ok {
		return sweeper.Sweep(ctx, age)
	}
	return ctx.Err()
}

// MayReplace implements store.Replacing.
func (s *limited) MayReplace() bool { return store.MayReplace(s.Store) }

// Concurrency implements store.Concurrent.
func (s *limited) Concurrency() int {
	n := 0
	if c, ok := s.Store.(store.Concurrent); ok {
		n = c.Concurrency()
	}
	if most := s.l.o.Connections; most > 0 && (n == 0 || n > most) {
		return most
	}
	return n
}

// Period implements store.Retainer.
func (s retainer) Period() time.Duration { return s.lock.Period() }

// Retain implements store.Retainer.
func (s retainer) Retain(ctx context.Context, name string, until time.Time) error {
	leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	return s.lock.Retain(ctx, name, until)
}

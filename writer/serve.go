package writer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"

	writerv1 "github.com/sombra-backup/sombra/proto/sombra/writer/v1"
)

const (
	// maxConns bounds the connections served at a time.
	maxConns = 16
	// maxCalls bounds the calls of one connection under way at a time.
	maxCalls         = 256
	handshakeTimeout = 10 * time.Second
	// acceptTries is how often in a row accept may fail, with a pause each time.
	acceptTries = 100
	acceptPause = 100 * time.Millisecond
)

// Server serves writers to the shadow copy service. The zero Server is ready
// for use.
type Server struct {
	// Mode is the mode of the socket that Serve makes: who may connect is who
	// may freeze the writers. Zero means 0600: the owner and root. 0660 lets
	// in the socket's group.
	Mode fs.FileMode
	// Log gets what happens outside any call, such as the release of writers
	// whose connection was lost. Nil means slog.Default.
	Log *slog.Logger
}

// Serve serves writers on a unix socket with the zero [Server]; see
// [Server.Serve]. A service that has the shadow copy service find it listens
// in /run/sombra/writers.d.
func Serve(ctx context.Context, path string, writers ...Writer) error {
	return (&Server{}).Serve(ctx, path, writers...)
}

// ServeConn serves writers on one connection with the zero [Server]; see
// [Server.ServeConn].
func ServeConn(ctx context.Context, conn net.Conn, writers ...Writer) error {
	return (&Server{}).ServeConn(ctx, conn, writers...)
}

// Serve listens on a unix socket and serves writers on every connection until
// ctx ends, and then returns nil. A socket that is left at path is replaced if
// nobody listens on it; anything else there is an error. When Serve returns,
// the socket is removed and no writer is left frozen.
//
// Whenever a connection is lost between PrepareForBackup and PostSnapshot, the
// writers whose events came over it get Abort and BackupShutdown at once; see
// [Guard] for what else is promised.
func (s *Server) Serve(ctx context.Context, path string, writers ...Writer) error {
	mode := s.Mode
	if mode == 0 {
		mode = 0o600
	}
	l, err := listen(ctx, path, mode)
	if err != nil {
		return fmt.Errorf("serve writers: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	defer l.Close()

	return s.newHost(writers).accept(ctx, l)
}

// accept serves every connection until ctx ends, at which the caller closes the
// listener.
func (h *host) accept(ctx context.Context, l net.Listener) error {
	var conns sync.WaitGroup
	defer conns.Wait()
	slots := make(chan struct{}, maxConns)
	for failures := 0; ; {
		conn, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && failures < acceptTries && !errors.Is(err, net.ErrClosed):
			// Too many open files, for one, passes; a writer that is gone for
			// good does not come back by itself.
			failures++
			h.log.Warn("writer: accept", "socket", l.Addr().String(), "error", err)
			time.Sleep(acceptPause)
			continue
		case err != nil:
			return fmt.Errorf("serve writers on %s: %w", l.Addr(), err)
		}
		failures = 0
		select {
		case slots <- struct{}{}:
		default:
			h.log.Warn("writer: connection refused, too many are open", "socket", l.Addr().String(), "most", maxConns)
			conn.Close()
			continue
		}
		conns.Go(func() {
			defer func() { <-slots }()
			h.serve(ctx, conn)
		})
	}
}

// ServeConn serves writers on one connection, such as an inherited end of a
// socket pair, until the peer is gone or ctx ends; both are a nil error. When
// it returns, the connection is closed and no writer is left frozen, unless the
// error says that one could not be released: the process should then end, and
// the kernel frees what it holds.
func (s *Server) ServeConn(ctx context.Context, conn net.Conn, writers ...Writer) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	h := s.newHost(writers)
	h.stuck = cancel
	for _, g := range h.guards {
		g.stuck = cancel
	}
	h.serve(ctx, conn)
	if err := context.Cause(ctx); err != nil && !errors.Is(err, ctx.Err()) {
		return err
	}
	return nil
}

// host is the writers of one Server, whatever connections they are reached by.
type host struct {
	guards []*Guard
	log    *slog.Logger
	stuck  func(error)
}

func (s *Server) newHost(writers []Writer) *host {
	h := &host{log: s.Log}
	if h.log == nil {
		h.log = slog.Default()
	}
	for _, w := range writers {
		h.guards = append(h.guards, NewGuard(w, h.log))
	}
	return h
}

// serve serves one connection until it is lost or ctx ends, and then does what
// is owed to the writers.
func (h *host) serve(ctx context.Context, conn net.Conn) {
	watched := watch(conn)
	o := new(owner)
	server := grpc.NewServer(
		grpc.MaxRecvMsgSize(MaxMessage),
		grpc.MaxSendMsgSize(MaxMessage),
		grpc.MaxConcurrentStreams(maxCalls),
		grpc.ConnectionTimeout(handshakeTimeout),
	)
	writerv1.RegisterWritersServer(server, &service{guards: h.guards, owner: o})
	l := &oneConn{conn: watched, closed: make(chan struct{})}
	served := make(chan struct{})
	go func() {
		defer close(served)
		server.Serve(l) // ends with the listener; the connection's end is in watched
	}()
	select {
	case <-watched.lost:
	case <-ctx.Done():
	case <-served:
	}
	o.gone.Store(true)
	var releases sync.WaitGroup
	for _, g := range h.guards {
		releases.Go(func() { g.disconnect(o) })
	}
	watched.Close()
	server.Stop()
	releases.Wait()
}

// watchedConn tells when its peer is gone. grpc always has a read under way,
// so that the end is seen at once.
type watchedConn struct {
	net.Conn
	once sync.Once
	lost chan struct{}
}

func watch(c net.Conn) *watchedConn {
	return &watchedConn{Conn: c, lost: make(chan struct{})}
}

func (c *watchedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil && !isTimeout(err) {
		c.end()
	}
	return n, err
}

func (c *watchedConn) Close() error {
	c.end()
	return c.Conn.Close()
}

func (c *watchedConn) end() { c.once.Do(func() { close(c.lost) }) }

func isTimeout(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}

// oneConn is a listener that gives one connection and then none.
type oneConn struct {
	mu     sync.Mutex
	conn   net.Conn
	once   sync.Once
	closed chan struct{}
}

func (l *oneConn) Accept() (net.Conn, error) {
	l.mu.Lock()
	c := l.conn
	l.conn = nil
	l.mu.Unlock()
	if c != nil {
		return c, nil
	}
	<-l.closed
	return nil, io.EOF
}

func (l *oneConn) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *oneConn) Addr() net.Addr { return &net.UnixAddr{Net: "unix"} }

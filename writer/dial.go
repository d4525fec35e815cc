package writer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/sombra-backup/sombra/vss"

	writerv1 "github.com/sombra-backup/sombra/proto/sombra/writer/v1"
)

// Client is the service's end of a connection to a program with writers. Its
// methods may be called by several goroutines.
type Client struct {
	cc          *grpc.ClientConn
	rpc         writerv1.WritersClient
	conn        *watchedConn
	identifying chan struct{} // holds a token for each document on its way
	documents   atomic.Int64  // the size of those that came, in bytes
}

// Dial begins to speak with the program at the other end of conn, and returns
// when that has answered. The Client owns conn from then on, and Dial closes it
// if it fails. A connection is never made again: when it is lost, every call
// fails with VSS_E_WRITER_NOT_RESPONDING.
func Dial(ctx context.Context, conn net.Conn) (*Client, error) {
	watched := watch(conn)
	var once sync.Once
	dial := func(context.Context, string) (net.Conn, error) {
		var c net.Conn
		once.Do(func() { c = watched })
		if c == nil {
			return nil, errors.New("the connection is lost")
		}
		return c, nil
	}
	cc, err := grpc.NewClient("passthrough:///writers",
		grpc.WithContextDialer(dial),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithIdleTimeout(0), // an idle connection must not be given up: it could not be made again
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableRetry(), // an event is never sent twice
		grpc.WithMaxHeaderListSize(maxHeaders),
		grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(MaxMessage),
			grpc.MaxCallSendMsgSize(MaxMessage),
		),
	)
	if err != nil {
		watched.Close()
		return nil, fmt.Errorf("connect to writers: %w", err)
	}
	c := &Client{cc: cc, rpc: writerv1.NewWritersClient(cc), conn: watched, identifying: make(chan struct{}, maxIdentifying)}
	if err := c.ready(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *Client) ready(ctx context.Context) error {
	c.cc.Connect()
	for {
		state := c.cc.GetState()
		switch state {
		case connectivity.Ready:
			return nil
		case connectivity.TransientFailure, connectivity.Shutdown:
			return vss.Errorf(vss.ErrWriterNotResponding, "connect to", "writers", "the other end does not speak the protocol, or is gone")
		}
		if !c.cc.WaitForStateChange(ctx, state) {
			return vss.Errorf(vss.ErrWriterNotResponding, "connect to", "writers", "no answer: %w", context.Cause(ctx))
		}
	}
}

// Done is closed when the peer is gone or Close was called.
func (c *Client) Done() <-chan struct{} { return c.conn.lost }

// Close ends the connection. The program at the other end then releases the
// writers that are in a backup over it.
func (c *Client) Close() error {
	err := c.cc.Close()
	c.conn.Close()
	return err
}

// Writers lists the program's writers, in an order that does not change. None
// is asked to identify itself.
func (c *Client) Writers(ctx context.Context) ([]*Remote, error) {
	resp, err := c.rpc.List(ctx, &writerv1.ListRequest{})
	if err != nil {
		return nil, errorOfCall(ctx, "list", "writers", err)
	}
	if n := len(resp.GetInstances()); n > maxWriters {
		return nil, vss.Errorf(vss.ErrUnexpectedWriterError, "list", "writers", "the program names %d, more than %d", n, maxWriters)
	}
	var all []*Remote
	seen := map[uint32]bool{}
	for _, i := range resp.GetInstances() {
		if seen[i.GetHandle()] {
			return nil, vss.Errorf(vss.ErrUnexpectedWriterError, "list", "writers", "two have handle %d", i.GetHandle())
		}
		seen[i.GetHandle()] = true
		r, err := newRemote(c, i)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, nil
}

// Package resp is a client of the Redis serialization protocol, version 2: as
// much of it as it takes to send a command over a live connection and read its
// reply, with every length that the server sends bounded.
package resp

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"
)

// Conn is a connection to a server. Its methods may be called by one goroutine
// at a time. After an error that is no [Error] the connection is of no more use:
// every call gives that error again.
type Conn struct {
	conn net.Conn
	in   *bufio.Reader
	lost error
}

// Dial connects to a server; network is "unix" or "tcp".
func Dial(ctx context.Context, network, address string) (*Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return NewConn(c), nil
}

// NewConn makes a Conn of a connection, which it owns from then on.
func NewConn(c net.Conn) *Conn { return &Conn{conn: c, in: bufio.NewReader(c)} }

// Close closes the connection.
func (c *Conn) Close() error {
	if c.lost == nil {
		c.lost = net.ErrClosed
	}
	return c.conn.Close()
}

// Do sends one command and waits for its reply, until ctx ends. A reply that is
// an error is an [Error]. No error holds the command's arguments, of which one
// may be a password.
func (c *Conn) Do(ctx context.Context, command string, args ...string) (Reply, error) {
	if err := c.Send(ctx, command, args...); err != nil {
		return Reply{}, err
	}
	return c.Receive(ctx, command)
}

// Send sends a command without waiting for its reply. Replies come in the order
// of the commands and are read by Receive.
func (c *Conn) Send(ctx context.Context, command string, args ...string) error {
	b := appendHeader(nil, '*', 1+len(args))
	b = appendBulk(b, command)
	for _, a := range args {
		b = appendBulk(b, a)
	}
	return c.bounded(ctx, command, func() error {
		_, err := c.conn.Write(b)
		return err
	})
}

// Receive reads the next reply. The command it belongs to is named in errors.
func (c *Conn) Receive(ctx context.Context, command string) (Reply, error) {
	var r Reply
	err := c.bounded(ctx, command, func() (err error) {
		r, err = readReply(c.in)
		return err
	})
	if err != nil {
		return Reply{}, err
	}
	if r.Kind == KindError {
		return Reply{}, Error(r.Text)
	}
	return r, nil
}

// bounded runs an operation of the connection until ctx ends.
func (c *Conn) bounded(ctx context.Context, command string, f func() error) error {
	if c.lost != nil {
		return fmt.Errorf("send %s: %w", command, c.lost)
	}
	if ctx.Err() != nil {
		return fmt.Errorf("send %s: %w", command, context.Cause(ctx))
	}
	if err := c.conn.SetDeadline(time.Time{}); err != nil {
		c.lost = err
		return fmt.Errorf("send %s: %w", command, err)
	}
	stop := context.AfterFunc(ctx, func() { c.conn.SetDeadline(time.Unix(1, 0)) })
	err := f()
	stop()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		err = errors.Join(context.Cause(ctx), err)
	}
	c.lost = err
	c.conn.Close()
	return fmt.Errorf("%s: no reply: %w", command, err)
}

func appendHeader(b []byte, kind byte, n int) []byte {
	b = append(b, kind)
	b = strconv.AppendInt(b, int64(n), 10)
	return append(b, '\r', '\n')
}

func appendBulk(b []byte, s string) []byte {
	b = appendHeader(b, '$', len(s))
	b = append(b, s...)
	return append(b, '\r', '\n')
}

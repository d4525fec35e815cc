// Package bounded makes connections over which no more than so much comes: to
// servers that a writer speaks to by way of a driver, which believes every length
// that it is told.
package bounded

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
)

// Most is how much one connection may bring, in bytes: far more than what writers
// ask for, names of log files above all, and little enough for any machine.
const Most = 64 << 20

// Dial connects as a [net.Dialer] does.
func Dial(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c, left: Most}, nil
}

// conn counts what is read, which one goroutine at a time does.
type conn struct {
	net.Conn
	left int
}

func (c *conn) Read(b []byte) (int, error) {
	if c.left == 0 {
		return 0, fmt.Errorf("the server has sent more than %d MiB, which nobody asked it for", Most>>20)
	}
	n, err := c.Conn.Read(b[:min(len(b), c.left)])
	c.left -= n
	return n, err
}

// SyscallConn implements [syscall.Conn], by which drivers see whether a connection
// that they have kept is still there.
func (c *conn) SyscallConn() (syscall.RawConn, error) {
	if s, ok := c.Conn.(syscall.Conn); ok {
		return s.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

package ledger

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// redisStore keeps a list of numbers for each client.
type redisStore struct{ socket string }

func (s *redisStore) Prepare(context.Context) error { return nil }
func (s *redisStore) Close() error                  { return nil }

func (s *redisStore) dial(ctx context.Context) (*redisConn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", s.socket)
	if err != nil {
		return nil, err
	}
	return &redisConn{c: c, r: bufio.NewReader(c)}, nil
}

func (s *redisStore) Connect(ctx context.Context, client int) (Conn, error) {
	c, err := s.dial(ctx)
	if err != nil {
		return nil, err
	}
	c.key = redisKey(client)
	return c, nil
}

func redisKey(client int) string { return fmt.Sprint("ledger:", client) }

func (s *redisStore) Read(ctx context.Context, clients int) ([]Holding, error) {
	c, err := s.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	held := make([]Holding, clients)
	for i := range held {
		count, err := c.do(ctx, "LLEN", redisKey(i))
		if err == nil {
			held[i].Count, err = strconv.ParseInt(count, 10, 64)
		}
		if err != nil {
			return nil, err
		}
		last, err := c.do(ctx, "LINDEX", redisKey(i), "-1")
		if errors.Is(err, errNil) {
			continue
		}
		if err == nil {
			held[i].Last, err = strconv.ParseInt(last, 10, 64)
		}
		if err != nil {
			return nil, err
		}
	}
	return held, nil
}

// redisConn speaks as much of Redis's protocol as the ledger needs.
type redisConn struct {
	c   net.Conn
	r   *bufio.Reader
	key string
}

func (c *redisConn) Close() error { return c.c.Close() }

// Commit appends the number. The reply is the length of the list, which tells
// whether an earlier one has got lost.
func (c *redisConn) Commit(ctx context.Context, n int64) error {
	length, err := c.do(ctx, "RPUSH", c.key, strconv.FormatInt(n, 10))
	if err == nil && length != strconv.FormatInt(n, 10) {
		return fmt.Errorf("%s has %s numbers after the %dth was added", c.key, length, n)
	}
	return err
}

// errNil is the reply that there is nothing.
var errNil = errors.New("redis: nil")

// do sends a command and gives its reply, a number or a text.
func (c *redisConn) do(ctx context.Context, words ...string) (string, error) {
	if end, ok := ctx.Deadline(); ok {
		c.c.SetDeadline(end)
	} else {
		c.c.SetDeadline(time.Time{})
	}
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(words))
	for _, w := range words {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(w), w)
	}
	if _, err := io.WriteString(c.c, b.String()); err != nil {
		return "", err
	}
	line, err := c.line()
	if err != nil {
		return "", err
	}
	switch line[0] {
	case ':', '+':
		return line[1:], nil
	case '$':
		if line == "$-1" {
			return "", errNil
		}
		return c.line()
	}
	return "", fmt.Errorf("redis: %s: %s", words[0], line)
}

func (c *redisConn) line() (string, error) {
	line, err := c.r.ReadString('\n')
	if line = strings.TrimRight(line, "\r\n"); err == nil && line == "" {
		err = errors.New("redis: an empty reply")
	}
	return line, err
}

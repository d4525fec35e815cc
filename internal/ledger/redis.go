package ledger

import (
	"context"
	"fmt"
	"strconv"

	"github.com/sombra-backup/sombra/writer/writers/redis/resp"
)

// redisStore keeps a list of numbers for each client.
type redisStore struct{ socket string }

func (s *redisStore) Prepare(context.Context) error { return nil }
func (s *redisStore) Close() error                  { return nil }

func (s *redisStore) Connect(ctx context.Context, client int) (Conn, error) {
	c, err := resp.Dial(ctx, "unix", s.socket)
	if err != nil {
		return nil, err
	}
	return &redisConn{c, redisKey(client)}, nil
}

func redisKey(client int) string { return fmt.Sprint("ledger:", client) }

func (s *redisStore) Read(ctx context.Context, clients int) ([]Holding, error) {
	c, err := resp.Dial(ctx, "unix", s.socket)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	held := make([]Holding, clients)
	for i := range held {
		count, err := c.Do(ctx, "LLEN", redisKey(i))
		if err != nil {
			return nil, err
		}
		last, err := c.Do(ctx, "LINDEX", redisKey(i), "-1")
		if err != nil {
			return nil, err
		}
		held[i].Count = count.Int
		if last.Null {
			continue
		}
		if held[i].Last, err = strconv.ParseInt(last.Text, 10, 64); err != nil {
			return nil, fmt.Errorf("%s: %w", redisKey(i), err)
		}
	}
	return held, nil
}

// redisConn is a client's connection.
type redisConn struct {
	*resp.Conn
	key string
}

// Commit appends the number. The reply is the length of the list, which tells
// whether an earlier one has got lost.
func (c *redisConn) Commit(ctx context.Context, n int64) error {
	length, err := c.Do(ctx, "RPUSH", c.key, strconv.FormatInt(n, 10))
	if err == nil && length.Int != n {
		return fmt.Errorf("%s has %d numbers after the %dth was added", c.key, length.Int, n)
	}
	return err
}

package e2e

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"github.com/sombra-backup/sombra/internal/dbtest"
	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/writer/writers/redis/resp"
)

// redisNumbers is a client's connection to Redis.
type redisNumbers struct{ *resp.Conn }

func (r redisNumbers) put(ctx context.Context, n int64) error {
	key := strconv.FormatInt(n, 10)
	_, err := r.Do(ctx, "MSET", "last", key, "n:"+key, "1")
	return err
}

func (r redisNumbers) sound(ctx context.Context) (last int64, err error) {
	a, err := r.Do(ctx, "GET", "last")
	if err != nil {
		return 0, err
	}
	if last, err = strconv.ParseInt(a.Text, 10, 64); err != nil {
		return 0, err
	}
	keys, err := r.Do(ctx, "DBSIZE")
	if err != nil {
		return 0, err
	}
	if keys.Int != last+1 {
		return 0, fmt.Errorf("%d keys up to %d", keys.Int, last)
	}
	return last, nil
}

func (r redisNumbers) close() { r.Close() }

// newRedisApp is a server with an append-only file.
func newRedisApp(root string) (*serverApp, error) {
	dir := filepath.Join(root, "redis")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	// What is acknowledged is on disk, so that nothing is lost if it is killed.
	o := dbtest.RedisOptions{Dir: dir, AppendOnly: true, Lines: []string{"appendfsync always"}}
	server, err := dbtest.StartRedis(ctx, o)
	if err != nil {
		return nil, err
	}
	dial := func(ctx context.Context, s *dbtest.Redis) (serverConn, error) {
		c, err := s.Dial(ctx)
		if err != nil {
			return nil, err
		}
		return redisNumbers{c}, nil
	}
	running := true
	return &serverApp{title: "redis", root: root, dir: dir, needs: "appendonlydir", uid: uint32(server.UID),
		run: func(ctx context.Context) error {
			if running {
				return nil
			}
			running = true
			return server.Start(ctx)
		},
		end:  func() error { running = false; return server.Kill() },
		shut: server.Close,
		tree: func() []int {
			if !running {
				return nil
			}
			return []int{server.PID}
		},
		dial: func(ctx context.Context) (serverConn, error) { return dial(ctx, server) },
		started: func(ctx context.Context, dir string) (serverConn, func() error, error) {
			o := o
			o.Dir = dir
			s, err := dbtest.StartRedis(ctx, o)
			if err != nil {
				return nil, nil, err
			}
			c, err := dial(ctx, s)
			if err != nil {
				return nil, nil, errors.Join(err, s.Close())
			}
			return c, s.Close, nil
		},
		own: func(c requester.ComponentResult) bool { return c.Writer == "Redis" },
		cut: func(ctx context.Context, c serverConn) error { // the client's, too, which dials again
			_, err := c.(redisNumbers).Do(ctx, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
			return err
		}}, nil
}

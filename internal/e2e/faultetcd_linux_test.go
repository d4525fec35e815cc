package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/sombra-backup/sombra/internal/dbtest"
	"github.com/sombra-backup/sombra/requester"
)

// etcdNumbers is a client of etcd.
type etcdNumbers struct{ *dbtest.Etcd }

func (e etcdNumbers) put(ctx context.Context, n int64) error {
	return e.Put(ctx, fmt.Sprintf("n/%020d", n), "1")
}

func (e etcdNumbers) sound(ctx context.Context) (last int64, err error) {
	ask := map[string]any{"key": []byte("n/"), "range_end": []byte("n0"), "limit": 1, "keys_only": true,
		"sort_order": "DESCEND", "sort_target": "KEY"}
	var a struct {
		Count string                 // of all, without the limit
		KVs   []struct{ Key []byte } // the last one
	}
	if err := e.Do(ctx, "/v3/kv/range", ask, &a); err != nil {
		return 0, err
	}
	if len(a.KVs) != 1 {
		return 0, errors.New("it has no number")
	}
	if _, err := fmt.Sscanf(string(a.KVs[0].Key), "n/%d", &last); err != nil {
		return 0, err
	}
	if a.Count != strconv.FormatInt(last, 10) {
		return 0, fmt.Errorf("%s keys up to %d", a.Count, last)
	}
	return last, nil
}

// close leaves the server's client alone, which makes connections as needed.
func (e etcdNumbers) close() {}

// etcdQuick has a server that is alone take over at once; it waits for others for
// more than a second otherwise, as long as the rest of a start takes.
var etcdQuick = []string{"--heartbeat-interval", "10", "--election-timeout", "100"}

// newEtcdApp is a server that is alone.
func newEtcdApp(root string) (*serverApp, error) {
	dir := filepath.Join(root, "etcd")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	server, err := dbtest.StartEtcd(ctx, dbtest.EtcdOptions{Dir: dir, Args: etcdQuick})
	if err != nil {
		return nil, err
	}
	running := true
	return &serverApp{title: "etcd", root: root, dir: dir, needs: "member/snap/db", uid: uint32(server.UID),
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
		tidy: func() { // etcd replaces no socket
			list, _ := filepath.Glob(filepath.Join(server.Home, "localhost:*"))
			for _, name := range list {
				os.Remove(name)
			}
		},
		dial: func(context.Context) (serverConn, error) { return etcdNumbers{server}, nil },
		started: func(ctx context.Context, dir string) (serverConn, func() error, error) {
			s, err := dbtest.StartEtcd(ctx, dbtest.EtcdOptions{Dir: dir, Args: etcdQuick})
			if err != nil {
				return nil, nil, err
			}
			return etcdNumbers{s}, s.Close, nil
		},
		own: func(c requester.ComponentResult) bool { return c.Writer == "Sombra etcd Writer" }}, nil
}

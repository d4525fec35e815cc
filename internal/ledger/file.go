package ledger

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// fileStore keeps each client's highest number in a file of its own, which is
// written and synced under the shared lock of the files' writer.
type fileStore struct {
	dir, lock string
	// turn and the pause keep clients that share the lock from starving who
	// wants it alone.
	turn sync.Mutex
}

// filePause is how long nobody has the lock after each commit.
const filePause = time.Millisecond / 2

func (s *fileStore) Prepare(context.Context) error {
	f, err := os.OpenFile(s.lock, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return err
	}
	return f.Close()
}

func (s *fileStore) Close() error { return nil }

func (s *fileStore) name(client int) string {
	return filepath.Join(s.dir, fmt.Sprint("number", client))
}

func (s *fileStore) Connect(_ context.Context, client int) (Conn, error) {
	f, err := os.OpenFile(s.name(client), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	l, err := os.OpenFile(s.lock, os.O_RDWR, 0)
	if err != nil {
		f.Close()
		return nil, err
	}
	return &fileConn{store: s, file: f, lock: l}, nil
}

func (s *fileStore) Read(_ context.Context, clients int) ([]Holding, error) {
	held := make([]Holding, clients)
	for i := range held {
		data, err := os.ReadFile(s.name(i))
		if errors.Is(err, fs.ErrNotExist) || err == nil && len(data) == 0 {
			continue
		}
		if err != nil {
			return nil, err
		}
		n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.name(i), err)
		}
		held[i] = Holding{Count: n, Last: n}
	}
	return held, nil
}

// fileConn is a client's files.
type fileConn struct {
	store      *fileStore
	file, lock *os.File
}

func (c *fileConn) Commit(_ context.Context, n int64) error {
	c.store.turn.Lock()
	defer c.store.turn.Unlock()
	if err := lockShared(c.lock); err != nil {
		return err
	}
	_, err := c.file.WriteAt(fmt.Appendf(nil, "%020d\n", n), 0)
	if err == nil {
		err = c.file.Sync()
	}
	err = errors.Join(err, unlock(c.lock))
	time.Sleep(filePause)
	return err
}

func (c *fileConn) Close() error { return errors.Join(c.file.Close(), c.lock.Close()) }

//go:build unix

package writer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// listen makes a unix socket at path. A directory lock keeps two programs that
// start at once from each taking the other's new socket for a left one. Whatever
// is done to the socket's name is done in that directory, and to a socket only:
// somebody else who may write there could put a link in its place.
func listen(ctx context.Context, path string, mode fs.FileMode) (net.Listener, error) {
	dir, err := lockDir(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	if err := removeStale(ctx, dir, path); err != nil {
		return nil, err
	}
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		// On Linux the socket file gets the descriptor's mode, so that it is
		// never open wider than it will be.
		var err error
		cerr := c.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), uint32(mode.Perm())) })
		return errors.Join(cerr, err)
	}}
	l, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	own := &ownSocket{Listener: l, path: path}
	if own.id, err = socketAt(dir, path); err == nil {
		err = allow(dir, path, mode.Perm())
	}
	if err != nil {
		own.Close()
		return nil, err
	}
	return own, nil
}

// allow gives the socket its mode, which the umask has narrowed.
func allow(dir *os.File, path string, mode fs.FileMode) error {
	err := unix.Fchmodat(int(dir.Fd()), filepath.Base(path), uint32(mode), unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.EOPNOTSUPP) { // Linux before 6.6
		return os.Chmod(path, mode)
	}
	if err != nil {
		return &fs.PathError{Op: "chmod", Path: path, Err: err}
	}
	return nil
}

// ownSocket is a listener that removes its socket when it is closed, and nothing
// else that has its name by then.
type ownSocket struct {
	net.Listener
	path string
	id   socketID
	once sync.Once
}

// socketID tells one socket file from another; the zero socketID is none.
type socketID struct{ dev, ino uint64 }

func (s *ownSocket) Close() error {
	s.once.Do(func() {
		dir, err := os.Open(filepath.Dir(s.path))
		if err != nil {
			return
		}
		defer dir.Close()
		if id, err := socketAt(dir, s.path); err == nil && id == s.id {
			unix.Unlinkat(int(dir.Fd()), filepath.Base(s.path), 0)
		}
	})
	return s.Listener.Close()
}

// socketAt identifies the socket at a path whose directory is open.
func socketAt(dir *os.File, path string) (socketID, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(int(dir.Fd()), filepath.Base(path), &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return socketID{}, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return socketID{}, fmt.Errorf("%s is there and is no socket; give another path or remove it", path)
	}
	return socketID{uint64(st.Dev), uint64(st.Ino)}, nil
}

// lockDir opens a directory and waits until nobody else has it locked.
func lockDir(dir string) (*os.File, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(d.Fd()), unix.LOCK_EX); err != nil {
		d.Close()
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	return d, nil
}

// removeStale removes a socket that nobody listens on.
func removeStale(ctx context.Context, dir *os.File, path string) error {
	was, err := socketAt(dir, path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	dialer := net.Dialer{Timeout: time.Second}
	conn, err := dialer.DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		conn.Close()
		return fmt.Errorf("another program listens on %s", path)
	case !errors.Is(err, unix.ECONNREFUSED):
		return fmt.Errorf("cannot tell whether another program listens on %s: %w", path, err)
	}
	if now, err := socketAt(dir, path); err != nil || now != was {
		return fmt.Errorf("%s was replaced just now; start again", path)
	}
	if err := unix.Unlinkat(int(dir.Fd()), filepath.Base(path), 0); err != nil {
		return &fs.PathError{Op: "remove", Path: path, Err: err}
	}
	return nil
}

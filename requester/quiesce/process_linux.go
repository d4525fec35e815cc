package quiesce

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// socketName is the socket's name in the state directory.
const socketName = "freeze.sock"

// socket is where a holder listens.
type socket struct {
	*net.UnixListener
	name string
	made os.FileInfo // to tell it from another's of that name
}

// listen makes the socket. The caller has the service's lock, so that one that is
// there is nobody's any more.
func listen(stateDir string) (*socket, error) {
	name := filepath.Join(stateDir, socketName)
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var l *net.UnixListener
	err := within(stateDir, func(short string) (err error) {
		l, err = net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: short})
		return err
	})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	info, err := os.Lstat(name)
	if err == nil {
		err = os.Chmod(name, 0o600)
	}
	if err != nil {
		l.Close()
		return nil, err
	}
	return &socket{l, name, info}, nil
}

// Close ends listening and removes the socket.
func (s *socket) Close() error {
	err := s.UnixListener.Close()
	if info, serr := os.Lstat(s.name); serr == nil && os.SameFile(info, s.made) {
		err = errors.Join(err, os.Remove(s.name))
	}
	return err
}

func dial(ctx context.Context, stateDir string) (net.Conn, error) {
	var conn net.Conn
	err := within(stateDir, func(short string) (err error) {
		var d net.Dialer
		conn, err = d.DialContext(ctx, "unix", short)
		return err
	})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, ErrNothing
	case errors.Is(err, unix.ECONNREFUSED):
		return nil, ErrLost
	}
	return conn, err
}

// within calls f with a name of the socket that is short enough for its address,
// however long the directory's is.
func within(stateDir string, f func(short string) error) error {
	dir, err := os.Open(stateDir)
	if err != nil {
		return err
	}
	defer dir.Close()
	short := filepath.Join(stateDir, socketName)
	if link := fmt.Sprintf("/proc/self/fd/%d", dir.Fd()); len(short) > 100 {
		short = filepath.Join(link, socketName)
	}
	return f(short)
}

// spawn starts the holder in a session of its own, with nothing of ours but the
// connection, which is its descriptor 3.
func spawn(exe string, args []string) (net.Conn, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	near, far := os.NewFile(uintptr(fds[0]), "holder"), os.NewFile(uintptr(fds[1]), "starter")
	defer far.Close()
	defer near.Close()
	cmd := exec.Command(exe, args...)
	cmd.Dir = "/"
	cmd.Env = environment()
	cmd.ExtraFiles = []*os.File{far}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() { _ = cmd.Wait() }() // it usually ends after this process
	return net.FileConn(near)
}

// environment is this process's without what is meant for it alone.
func environment() []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "SOMBRA_") {
			env = append(env, v)
		}
	}
	return env
}

// Starter is the connection with which a holder's process was started.
func Starter() (net.Conn, error) {
	f := os.NewFile(3, "starter")
	conn, err := net.FileConn(f)
	f.Close()
	if err != nil {
		return nil, fmt.Errorf("descriptor 3 is no connection: this is started by the program itself: %w", err)
	}
	return conn, nil
}

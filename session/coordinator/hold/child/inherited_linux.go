package child

import (
	"errors"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// ErrNotStarted is returned by [Inherited] in a process that [Start] did not
// start.
var ErrNotStarted = errors.New("descriptor 3 is no connection: this command is started by sombra itself, not by hand")

// Inherited returns, in a child, the connection to the process that started it.
// It may be called once. The name is what the process is called in lists of
// processes, at most 15 bytes.
func Inherited(name string) (net.Conn, error) {
	conn, err := inherited(3)
	if err == nil {
		_ = os.WriteFile("/proc/self/comm", []byte(name), 0) // for the eye only
	}
	return conn, err
}

// InheritedFile returns, in a child, the end of a socket pair that was the n-th of
// [Options].Files, counted from 0. It may be called once for each, after
// [Inherited] and before anything is started.
func InheritedFile(n int) (net.Conn, error) { return inherited(4 + n) }

func inherited(fd int) (net.Conn, error) {
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil || kind != unix.SOCK_STREAM {
		return nil, ErrNotStarted
	}
	if domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN); err != nil || domain != unix.AF_UNIX {
		return nil, ErrNotStarted
	}
	unix.CloseOnExec(fd)
	f := os.NewFile(uintptr(fd), "connection")
	defer f.Close()
	return net.FileConn(f)
}

package writertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"

	"github.com/sombra-backup/sombra/writer"
	"golang.org/x/sys/unix"
)

// hostFD is the descriptor by which a writer's process inherits its end of the
// socket pair.
const hostFD = 3

// Host starts a command that calls [Serve], and gives the first of the writers
// it serves and a function that kills the process. The process also ends when
// stop is called.
func Host(ctx context.Context, cmd *exec.Cmd) (w *writer.Remote, kill func() error, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "socket pair")
	defer theirs.Close()
	mine := os.NewFile(uintptr(fds[0]), "socket pair")
	conn, err := net.FileConn(mine)
	mine.Close()
	if err != nil {
		return nil, nil, err
	}
	cmd.ExtraFiles = []*os.File{theirs}
	if err := cmd.Start(); err != nil {
		conn.Close()
		return nil, nil, err
	}
	kill = func() error {
		err := cmd.Process.Kill()
		cmd.Wait() // its error is that it was killed
		conn.Close()
		if errors.Is(err, os.ErrProcessDone) {
			err = nil
		}
		return err
	}
	client, err := writer.Dial(ctx, conn)
	if err != nil {
		return nil, nil, errors.Join(err, kill())
	}
	all, err := client.Writers(ctx)
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("%s serves no writer", cmd.Path)
	}
	if err != nil {
		return nil, nil, errors.Join(err, kill())
	}
	return all[0], kill, nil
}

// Serve serves writers in a process that [Host] started, until the other end
// is gone.
func Serve(ctx context.Context, writers ...writer.Writer) error {
	f := os.NewFile(hostFD, "socket pair")
	conn, err := net.FileConn(f)
	f.Close()
	if err != nil {
		return fmt.Errorf("serve writers: %w", err)
	}
	return writer.ServeConn(ctx, conn, writers...)
}

// ServeSpec makes a kind's writer from the JSON of its specification and serves
// it as [Serve] does, in a process as a writer host is one: a test program that
// was started again as the owner of the data.
func ServeSpec(ctx context.Context, kind writer.Kind, text string) error {
	var s writer.Spec
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return fmt.Errorf("read the specification of a writer: %w", err)
	}
	unix.Umask(0o077)
	w, err := kind.New(ctx, s)
	if err != nil {
		return err
	}
	return Serve(ctx, w)
}

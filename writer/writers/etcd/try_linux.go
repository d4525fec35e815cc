package etcd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/sombra-backup/sombra/writer/launch"
)

// try starts the server on the restored data where only this process reaches it,
// waits until it answers, and stops it. With fresh it is made the only member of a
// new cluster, which lasts.
func (w *etcdWriter) try(ctx context.Context, fresh bool) (err error) {
	program := w.conf.Found.Command.Program
	if program == "" {
		if program, err = exec.LookPath("etcd"); err != nil {
			if fresh {
				return fmt.Errorf("make a new cluster of it: %w", err)
			}
			return nil // a host without the program cannot try it
		}
	}
	dir, err := launch.Scratch("etcd")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	const clients, peers = "unix://localhost:1", "unix://localhost:2" // files in dir
	args := []string{"--name", "sombra", "--data-dir", w.conf.Directory, "--listen-client-urls", clients, "--advertise-client-urls", clients,
		"--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers, "--initial-cluster", "sombra=" + peers}
	if w.conf.WAL != "" {
		args = append(args, "--wal-dir", w.conf.WAL)
	}
	if fresh {
		args = append(args, "--force-new-cluster")
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	said := tail{max: 4 << 10}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &said, &said
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	how, err := launch.Tied(cmd, syscall.SIGKILL)
	if err != nil {
		return fmt.Errorf("try the restored data: %w", err)
	}
	ended, gone := make(chan struct{}), error(nil)
	go func() { gone = <-how; close(ended) }()
	err = w.await(ctx, command{Args: args, Dir: dir}, ended, func() error { return errors.Join(gone, errors.New(said.last())) })
	cmd.Process.Signal(syscall.SIGTERM)
	<-ended
	if err != nil {
		return fmt.Errorf("a server does not start with the restored data: %w", err)
	}
	return nil
}

// tail keeps the end of what is written to it.
type tail struct {
	text []byte
	max  int
}

func (t *tail) Write(p []byte) (int, error) {
	t.text = append(t.text, p...)
	t.text = t.text[max(0, len(t.text)-t.max):]
	return len(p), nil
}

// last is the last line.
func (t *tail) last() string {
	lines := strings.Split(strings.TrimSpace(string(t.text)), "\n")
	return lines[len(lines)-1]
}

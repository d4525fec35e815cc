//go:build unix

package hooks

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// keepOutput is how much of a script's output is kept: the end of it.
	keepOutput = 4 << 10
	// outputGrace is how long the output of a script that failed is waited for
	// when something it left running still holds the pipe.
	outputGrace = 100 * time.Millisecond
)

// run runs one script with one argument, as the leader of a process group of
// its own, which is killed when ctx ends. What a script leaves running is not
// waited for: a common way to hold a lock until "thaw" is such a process.
func run(ctx context.Context, script, argument string) error {
	out, err := newTail()
	if err != nil {
		return err
	}
	cmd := exec.Command(script, argument)
	cmd.Dir = "/"
	cmd.Env = environment(os.Environ())
	cmd.Stdout, cmd.Stderr = out.w, out.w
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := ctx.Err(); err != nil {
		out.close()
		return fmt.Errorf("%s %s: not started: %w", script, argument, context.Cause(ctx))
	}
	err = cmd.Start()
	out.close()
	if err != nil {
		return fmt.Errorf("%s %s: %w", script, argument, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err = <-ended:
	case <-ctx.Done():
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-ended
		return fmt.Errorf("%s %s: killed: %w%s", script, argument, context.Cause(ctx), out.text())
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w%s", script, argument, err, out.text())
	}
	return nil
}

// exitStatus gives the exit status in an error of run, 0 if there is none.
func exitStatus(err error) uint32 {
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() > 0 {
		return uint32(exit.ExitCode())
	}
	return 0
}

// environment leaves out what may hold secrets of the service, and makes sure
// of a PATH.
func environment(from []string) []string {
	env, path := []string{}, false
	for _, entry := range from {
		if strings.HasPrefix(entry, "SOMBRA_") {
			continue
		}
		path = path || strings.HasPrefix(entry, "PATH=")
		env = append(env, entry)
	}
	if !path {
		env = append(env, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	}
	return env
}

// tail reads a script's output to its end, so that nothing the script left
// running gets a broken pipe, and keeps the last of it.
type tail struct {
	w    *os.File
	done chan struct{}

	mu  sync.Mutex
	buf []byte
	cut bool
}

func newTail() (*tail, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	t := &tail{w: w, done: make(chan struct{})}
	go func() {
		defer close(t.done)
		defer r.Close()
		part := make([]byte, keepOutput)
		for {
			n, err := r.Read(part)
			t.keep(part[:n])
			if err != nil {
				return
			}
		}
	}()
	return t, nil
}

func (t *tail) keep(p []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - keepOutput; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
		t.cut = true
	}
}

// close closes this process's end for writing.
func (t *tail) close() { t.w.Close() }

// text gives what was kept, to be put after an error's text.
func (t *tail) text() string {
	select {
	case <-t.done:
	case <-time.After(outputGrace):
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	text := strings.TrimSpace(strings.ToValidUTF8(string(t.buf), "?"))
	switch {
	case text == "":
		return ""
	case t.cut:
		return ": ... " + text
	}
	return ": " + text
}

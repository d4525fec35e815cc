package dbtest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// childrenOf lists a process's children, those of all its threads.
func childrenOf(pid int) ([]int, error) {
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return nil, err
	}
	var children []int
	for _, t := range threads {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", pid, t.Name()))
		if err != nil {
			continue // the thread has ended
		}
		for _, f := range strings.Fields(string(b)) {
			n, err := strconv.Atoi(f)
			if err != nil {
				return nil, fmt.Errorf("children of process %d: %w", pid, err)
			}
			children = append(children, n)
		}
	}
	return children, nil
}

// killTree ends a process and its children with SIGKILL, and returns when the
// children are gone. The process is stopped first, so that it starts no more. One that
// has ended by itself is no error: a server without room may do so at any moment.
func killTree(pid int) error {
	switch err := syscall.Kill(pid, syscall.SIGSTOP); {
	case errors.Is(err, syscall.ESRCH):
		return nil
	case err != nil:
		return fmt.Errorf("stop process %d: %w", pid, err)
	}
	children, err := childrenOf(pid)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		err = nil
	}
	for _, c := range children {
		syscall.Kill(c, syscall.SIGKILL) // it may have ended
	}
	if e := syscall.Kill(pid, syscall.SIGKILL); e != nil && !errors.Is(e, syscall.ESRCH) {
		err = errors.Join(err, fmt.Errorf("kill process %d: %w", pid, e))
	}
	for _, c := range children {
		if e := gone(c); e != nil {
			err = errors.Join(err, e)
		}
	}
	return err
}

// gone waits until a killed process is no more, or only waits for its parent to
// notice.
func gone(pid int) error {
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return nil
		}
		if _, rest, ok := strings.Cut(string(b), ") "); ok && strings.HasPrefix(rest, "Z") {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("process %d does not end", pid)
		}
	}
}

// watcher ends a server if the program that started it ends without having done
// so, however it ends. It does what Pdeathsig cannot: in Go that fires when the
// thread that started the server ends.
type watcher struct {
	cmd  *exec.Cmd
	line io.WriteCloser
}

// watchOver makes a watcher of a process; it also removes a scratch directory.
func watchOver(pid int, scratch string) (*watcher, error) {
	cmd := exec.Command("/bin/sh", "-c", `read -r _ || { kill -KILL "$1"; rm -rf "$2"; }`, "sh", strconv.Itoa(pid), scratch)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	line, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("watch over process %d: %w", pid, err)
	}
	return &watcher{cmd: cmd, line: line}, nil
}

// release ends the watcher without ending the server.
func (w *watcher) release() error {
	_, err := io.WriteString(w.line, "done\n")
	return errors.Join(err, w.line.Close(), w.cmd.Wait())
}

// tail gives the end of a log file.
func tail(path string) string {
	const most = 8 << 10
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-most):])
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// proc is one process of what is measured.
type proc struct {
	args []string
	dir  string
	env  []string // added to a small environment
	out  string   // file for its standard output; empty: nowhere
}

// usage is what one run cost.
type usage struct {
	wall, cpu time.Duration
	// peak is the largest resident set of any one of the processes, in bytes.
	peak int64
	// read is what the processes and all they waited for were given by calls that
	// read, from files and else.
	read int64
	// written is what their calls that write took, of files and else.
	written int64
	// fetched is what was read from the repository's objects, where that is counted.
	fetched int64
	// stored is by how much the repository grew, in bytes.
	stored int64
}

// measure runs the processes as a pipeline, and counts the time until all they
// wrote is on the disk. What others left to be written is written before, so
// that it is not this run's cost.
func measure(ctx context.Context, procs ...proc) (usage, error) {
	unix.Sync()
	start := time.Now()
	u, err := runAll(ctx, procs)
	unix.Sync()
	u.wall = time.Since(start)
	return u, err
}

// runAll starts the processes, each reading what the one before it writes, and
// waits for them.
func runAll(ctx context.Context, procs []proc) (u usage, err error) {
	var cmds []*exec.Cmd
	var logs []*tail
	var ours []io.Closer // ends that only the children need
	for i, p := range procs {
		cmd := exec.CommandContext(ctx, p.args[0], p.args[1:]...)
		cmd.Dir, cmd.Env = p.dir, append(environment(), p.env...)
		cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
		cmd.WaitDelay = time.Minute
		log := &tail{}
		cmd.Stderr = log
		if p.out != "" {
			f, err := os.Create(p.out)
			if err != nil {
				return u, err
			}
			cmd.Stdout, ours = f, append(ours, f)
		}
		if i > 0 {
			r, w, err := os.Pipe()
			if err != nil {
				return u, err
			}
			cmd.Stdin, cmds[i-1].Stdout, ours = r, w, append(ours, r, w)
		}
		cmds, logs = append(cmds, cmd), append(logs, log)
	}
	var errs []error
	started := 0
	for _, cmd := range cmds {
		if err := cmd.Start(); err != nil {
			errs = append(errs, err)
			break
		}
		started++
	}
	for _, c := range ours {
		errs = append(errs, c.Close())
	}
	for i, cmd := range cmds[:started] {
		read, written := ioOf(cmd.Process.Pid)
		u.read, u.written = u.read+read, u.written+written
		if err := cmd.Wait(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w: %s", strings.Join(procs[i].args, " "), err, logs[i]))
		}
		// The kernel adds what the process waited for itself.
		if r, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
			u.cpu += time.Duration(r.Utime.Nano() + r.Stime.Nano())
			u.peak = max(u.peak, r.Maxrss<<10)
		}
	}
	return u, errors.Join(append(errs, ctx.Err())...)
}

// ioOf waits until a process has ended, and tells how much it read and wrote; its
// parent has still to wait for it.
func ioOf(pid int) (read, written int64) {
	for {
		if err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != unix.EINTR {
			break
		}
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		return 0, 0
	}
	fmt.Sscanf(string(b), "rchar: %d\nwchar: %d", &read, &written)
	return read, written
}

// environment is what every tool gets: nothing of the user's own settings.
func environment() []string {
	return []string{"PATH=" + os.Getenv("PATH"), "LANG=C.UTF-8", "TZ=UTC", "TMPDIR=" + os.TempDir()}
}

// tail keeps the last of what was written to it.
type tail struct{ b []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if n := len(t.b) - 4<<10; n > 0 {
		t.b = append(t.b[:0], t.b[n:]...)
	}
	return len(p), nil
}

func (t *tail) String() string { return strings.TrimSpace(string(t.b)) }

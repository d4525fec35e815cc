package writertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// stopLimit is how long processes may take to stop.
const stopLimit = 10 * time.Second

// roundLimit is how long one attempt may take.
const roundLimit = 200 * time.Millisecond

// stopProcesses stops processes and all their descendants, as the service does
// for a writer whose stillness does not suffice, and returns when none of them
// runs. The function returned lets them go on; it is there after an error too.
func stopProcesses(ctx context.Context, pids []int) (resume func(), err error) {
	stopped := map[int]bool{}
	resume = func() {
		for pid := range stopped {
			_ = unix.Kill(pid, unix.SIGCONT) // fails only if it has ended
		}
		clear(stopped)
	}
	for begun, round := time.Now(), time.Now(); ; {
		tree, err := withDescendants(pids)
		if err != nil {
			return resume, err
		}
		still := true
		for _, pid := range tree {
			if pid == 1 || pid == os.Getpid() {
				return resume, fmt.Errorf("stop process %d: it is not the application's", pid)
			}
			if !stopped[pid] {
				stopped[pid], still = true, false
				if err := unix.Kill(pid, unix.SIGSTOP); err != nil && !errors.Is(err, unix.ESRCH) {
					return resume, fmt.Errorf("stop process %d: %w", pid, err)
				}
			}
			still = still && isStopped(pid)
		}
		if len(tree) == 0 {
			return resume, errors.New("all processes that Freeze named have ended")
		}
		if still {
			return resume, nil
		}
		if time.Since(begun) > stopLimit {
			return resume, fmt.Errorf("processes %v did not stop within %v", tree, stopLimit)
		}
		if time.Since(round) > roundLimit {
			// One that waits in vfork for a child that was stopped before it
			// could exec never stops.
			resume()
			round = time.Now()
		}
		if err := pause(ctx, time.Millisecond/2); err != nil {
			return resume, err
		}
	}
}

// withDescendants gives those of the processes that exist, and all below them.
func withDescendants(pids []int) ([]int, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	children := map[int][]int{}
	exist := map[int]bool{}
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		if fields := stat(dir); len(fields) > 1 && fields[0] != "Z" {
			ppid, _ := strconv.Atoi(fields[1])
			children[ppid] = append(children[ppid], pid)
			exist[pid] = true
		}
	}
	var list []int
	seen := map[int]bool{}
	for next := pids; len(next) > 0; next = next[1:] {
		if pid := next[0]; exist[pid] && !seen[pid] {
			seen[pid] = true
			list = append(list, pid)
			next = append(next, children[pid]...)
		}
	}
	return list, nil
}

// isStopped reports whether no task of a process runs.
func isStopped(pid int) bool {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/[0-9]*", pid))
	for _, dir := range tasks {
		if f := stat(dir); len(f) > 0 && !strings.Contains("TtZX", f[0]) {
			return false
		}
	}
	return true
}

// stat gives the fields of a stat file after the command's name.
func stat(dir string) []string {
	data, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return nil // ended
	}
	_, rest, _ := bytes.Cut(data[bytes.LastIndexByte(data, ')')+1:], []byte(" "))
	return strings.Fields(string(rest))
}

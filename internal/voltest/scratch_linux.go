package voltest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

const scratchPrefix = "sombra-vol-"

// scratchRoot is a directory for images that is not in memory.
func scratchRoot() string {
	for _, dir := range []string{os.Getenv("SOMBRA_TEST_SCRATCH"), os.TempDir(), "/var/tmp"} {
		var s unix.Statfs_t
		if dir == "" || unix.Statfs(dir, &s) != nil || s.Type == unix.TMPFS_MAGIC {
			continue
		}
		if real, err := filepath.EvalSymlinks(dir); err == nil {
			return real
		}
	}
	return os.TempDir()
}

// scratch makes a directory for one volume. Its name tells whose it is, so
// that [sweepOnce] can know one whose owner is dead.
func scratch(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp(scratchRoot(), fmt.Sprintf("%s%d-%s-", scratchPrefix, os.Getpid(), startTime(os.Getpid())))
	if err != nil {
		t.Fatal(err)
	}
	// Ordinary users' processes of a test must get to the mount point.
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := discard(dir); err != nil {
			t.Errorf("clean up %s: %v", dir, err)
		}
	})
	return dir
}

// discard removes a volume's directory, but never what is mounted below it.
func discard(dir string) error {
	mnt := filepath.Join(dir, "mnt")
	if err := os.Remove(mnt); err != nil && !os.IsNotExist(err) {
		return err // still mounted: leave the image for the next sweep
	}
	return os.RemoveAll(dir)
}

// startTime is the field of /proc/PID/stat that tells apart two processes that
// had the same number, or "" if there is none.
func startTime(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	// The name, in parentheses, may hold anything; the 20th field after it.
	_, rest, _ := strings.Cut(string(b[strings.LastIndexByte(string(b), ')')+1:]), " ")
	f := strings.Fields(rest)
	if len(f) < 20 {
		return ""
	}
	return f[19]
}

var sweepOnce = sync.OnceFunc(sweep)

// sweep unmounts and removes the volumes of dead test processes.
func sweep() {
	dirs, _ := filepath.Glob(filepath.Join(scratchRoot(), scratchPrefix+"[0-9]*"))
	for _, dir := range dirs {
		var pid int
		var start, rest string
		name := strings.ReplaceAll(strings.TrimPrefix(filepath.Base(dir), scratchPrefix), "-", " ")
		if n, _ := fmt.Sscan(name, &pid, &start, &rest); n != 3 || startTime(pid) == start {
			continue
		}
		fmt.Fprintf(os.Stderr, "voltest: removing %s, left behind by process %d\n", dir, pid)
		unmountBelow(dir)
		if err := discard(dir); err != nil {
			fmt.Fprintf(os.Stderr, "voltest: %v\n", err)
		}
	}
}

// unmountBelow detaches every mount below dir, innermost first.
func unmountBelow(dir string) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return
	}
	lines := strings.Split(string(b), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		if f := strings.Fields(lines[i]); len(f) > 4 && strings.HasPrefix(f[4], dir+"/") {
			unix.Unmount(f[4], unix.MNT_DETACH)
		}
	}
}

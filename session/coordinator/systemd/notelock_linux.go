package systemd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// noteLock keeps other processes from a unit and its note.
type noteLock struct{ file *os.File }

const (
	lockPause = 5 * time.Millisecond
	// lockPatience is how long the process that has the lock may be stopped, as by
	// SIGSTOP, until another takes it over: the unit must not stay held for it.
	lockPatience = time.Second
)

// lockNote reads a unit's note once no other process has it.
func lockNote(ctx context.Context, dir, unit string) (n *note, unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, nil, err
	}
	l, err := takeLock(ctx, notePath(dir, unit)+".lock")
	if err != nil {
		return nil, nil, err
	}
	if n, err = readNote(dir, unit); err != nil {
		l.file.Close()
		return nil, nil, err
	}
	n.lock = l
	return n, func() { l.file.Close() }, nil
}

func takeLock(ctx context.Context, path string) (*noteLock, error) {
	runs := time.Now() // when whoever has it was last seen to run
	for {
		l, err := tryLock(path)
		if l != nil || err != nil {
			return l, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("another process is at work on it: %w", context.Cause(ctx))
		case <-time.After(lockPause):
		}
		switch {
		case time.Since(runs) < lockPatience/2:
		case !lockerStopped(path):
			runs = time.Now()
		case time.Since(runs) > lockPatience:
			// Whoever had it finds that it has not any more.
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
		}
	}
}

// tryLock takes the lock; it is nil if another process has it.
func tryLock(path string) (*noteLock, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	l := &noteLock{f}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil && l.holds() {
		return l, nil
	}
	f.Close()
	if err != nil && !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
		return nil, &fs.PathError{Op: "lock", Path: path, Err: err}
	}
	return nil, nil
}

// holds reports whether the locked file is still the one that others lock.
func (l *noteLock) holds() bool {
	own, err := l.file.Stat()
	if err != nil {
		return false
	}
	there, err := os.Lstat(l.file.Name())
	return err == nil && os.SameFile(own, there)
}

// lockerStopped reports whether the process that has locked a file is stopped.
func lockerStopped(path string) bool {
	var st unix.Stat_t
	if unix.Lstat(path, &st) != nil {
		return false
	}
	locks, err := os.Open("/proc/locks")
	if err != nil {
		return false
	}
	defer locks.Close()
	want := fmt.Sprintf("%02x:%02x:%d", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)
	for lines := bufio.NewScanner(locks); lines.Scan(); {
		// 1: FLOCK  ADVISORY  WRITE 1234 00:19:56 0 EOF
		f := strings.Fields(lines.Text())
		if len(f) > 5 && f[1] == "FLOCK" && f[5] == want {
			stat, err := os.ReadFile("/proc/" + f[4] + "/stat")
			_, rest, _ := strings.Cut(string(stat), ") ")
			return err == nil && (strings.HasPrefix(rest, "T") || strings.HasPrefix(rest, "t"))
		}
	}
	return false
}

// taken is the error of a note that another process has taken over.
func (n *note) taken() error {
	if n.lock == nil || n.lock.holds() {
		return nil
	}
	return fmt.Errorf("%s: this process was stopped for a while, and another has let the unit go", n.path)
}

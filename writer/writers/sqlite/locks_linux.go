package sqlite

import (
	"errors"
	"io"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// Bytes SQLite locks in a database file (pending, reserved, and the range of
// which readers lock a part) and in the index of a write-ahead log. They are
// part of SQLite's file format: processes with different versions of SQLite
// meet on them.
const (
	pendingByte  = 0x40000000
	reservedByte = pendingByte + 1
	sharedFirst  = pendingByte + 2
	sharedSize   = 510

	walWriteByte      = 120
	walCheckpointByte = 121
	walFirstByte      = 120
	walBytes          = 9 // the locks above, recovery, five readers, and the mark of who has it open
)

// tryLock takes a POSIX record lock, which belongs to the whole process. It is
// false if another process has one that stands against it.
func tryLock(fd int, kind int16, start, length int64) (bool, error) {
	return setLock(fd, unix.F_SETLK, kind, start, length)
}

// tryOwnLock takes a lock that belongs to the descriptor, and so stands against
// SQLite's own locks in this process too.
func tryOwnLock(fd int, kind int16, start, length int64) (bool, error) {
	return setLock(fd, unix.F_OFD_SETLK, kind, start, length)
}

func setLock(fd, command int, kind int16, start, length int64) (bool, error) {
	for {
		l := unix.Flock_t{Type: kind, Whence: io.SeekStart, Start: start, Len: length}
		err := unix.FcntlFlock(uintptr(fd), command, &l)
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EACCES):
			return false, nil
		default:
			return false, os.NewSyscallError("fcntl", err)
		}
	}
}

func unlock(fd int, start, length int64) error {
	_, err := tryLock(fd, unix.F_UNLCK, start, length)
	return err
}

// holder tells which process, this one included, has a lock that stands against
// one of the given kind. The number is -1 for a lock that belongs to a
// descriptor, and 0 if there is none.
func holder(fd int, kind int16, start, length int64) (pid int, err error) {
	for {
		l := unix.Flock_t{Type: kind, Whence: io.SeekStart, Start: start, Len: length}
		err := unix.FcntlFlock(uintptr(fd), unix.F_OFD_GETLK, &l)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 0, os.NewSyscallError("fcntl", err)
		case l.Type == unix.F_UNLCK:
			return 0, nil
		default:
			return int(l.Pid), nil
		}
	}
}

// ownLock reports whether this process has the write lock on a byte.
func ownLock(fd int, at int64) (bool, error) {
	pid, err := holder(fd, unix.F_RDLCK, at, 1)
	return pid == os.Getpid(), err
}

// pollPause is how long the poll of a lock rests. It is well below the time an
// application leaves between two transactions for others to come in.
const pollPause = 20 * time.Microsecond

// precisely runs f on a thread whose short sleeps are short: by default the
// kernel lengthens each by up to 50 µs.
func precisely(f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0) == nil {
		defer unix.Prctl(unix.PR_SET_TIMERSLACK, 0, 0, 0, 0)
	}
	return f()
}

// rest sleeps for pollPause. Only for use inside precisely.
func rest() {
	pause := unix.NsecToTimespec(int64(pollPause))
	_ = unix.Nanosleep(&pause, nil) // being woken early only means looking early
}

package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// lock takes the locks under which no byte of the database's files changes, and
// returns once the kernel confirms them. It looks for the application's pauses
// until ctx ends; then, and on any error, nothing is held.
func (d *database) lock(ctx context.Context) error {
	err := precisely(func() error { return d.pollLock(ctx) })
	if err != nil {
		err = errors.Join(err, d.rollback())
	}
	return err
}

func (d *database) pollLock(ctx context.Context) error {
	for {
		if ctx.Err() != nil {
			return fmt.Errorf("lock %s: %s: %w", d.path, d.whoHolds(), ctx.Err())
		}
		free, err := d.enter()
		if err != nil {
			return err
		}
		if free {
			held, err := d.begin()
			if err != nil {
				return err
			}
			if held && ctx.Err() == nil {
				return d.checkName()
			}
			if err := d.rollback(); err != nil {
				return err
			}
		}
		rest()
	}
}

// enter looks whether a try at BEGIN IMMEDIATE can succeed, without standing in
// anybody's way.
//
// In write-ahead log mode it takes the checkpoint lock first, which delays no
// client, so that a checkpoint in progress ends before anybody is held, and then
// the write lock itself, with a single call: the pause a busy application leaves
// is shorter than a try through SQLite takes. SQLite then takes the lock that its
// process already has.
//
// With a rollback journal the lock must not be taken without SQLite: while it is
// held others take a crashed application's journal for a live one and read what
// should have been rolled back. So enter only looks whether it is free.
func (d *database) enter() (bool, error) {
	if d.index == nil {
		pid, err := holder(int(d.guard.Fd()), unix.F_WRLCK, pendingByte, 2)
		return pid == 0, err
	}
	fd := int(d.index.Fd())
	free, err := tryLock(fd, unix.F_WRLCK, walCheckpointByte, 1)
	if err != nil || !free {
		return false, err
	}
	return tryLock(fd, unix.F_WRLCK, walWriteByte, 1)
}

// begin takes the write lock through SQLite, and reports whether every lock is
// held. If not, some may be, and the caller rolls back.
func (d *database) begin() (bool, error) {
	if err := d.exec("BEGIN IMMEDIATE"); isBusy(err) {
		return false, nil
	} else if err != nil {
		return false, fmt.Errorf("lock %s: %w", d.path, err)
	}
	d.inTxn = true
	held, err := ownLock(int(d.guard.Fd()), reservedByte)
	if err != nil || held {
		return held, err
	}
	if d.index == nil {
		// The database has come to write-ahead log mode since it was last
		// looked at, or could not be looked at before.
		if err := d.watchIndex(); err != nil {
			return false, err
		}
		if d.index == nil {
			return false, fmt.Errorf("lock %s: SQLite began a transaction but has no lock on the file", d.path)
		}
		return false, nil
	}
	// Recovering the log gives back locks on its way, so both are asked for
	// again.
	fd := int(d.index.Fd())
	if held, err := tryLock(fd, unix.F_WRLCK, walCheckpointByte, 1); err != nil || !held {
		return false, err
	}
	held, err = ownLock(fd, walWriteByte)
	if err == nil && !held {
		err = fmt.Errorf("lock %s: SQLite began a transaction but has no lock on %s", d.path, d.index.Name())
	}
	return held, err
}

// verify makes sure that the locks lock has taken are still there.
func (d *database) verify() error {
	if err := d.checkName(); err != nil {
		return err
	}
	fd, bytes := int(d.guard.Fd()), []int64{reservedByte}
	if d.index != nil {
		fd, bytes = int(d.index.Fd()), []int64{walWriteByte, walCheckpointByte}
	}
	for _, at := range bytes {
		held, err := ownLock(fd, at)
		if err != nil {
			return fmt.Errorf("check the locks of %s: %w", d.path, err)
		}
		if !held {
			return fmt.Errorf("a lock of %s was lost", d.path)
		}
	}
	return nil
}

// whoHolds says in words who has the lock.
func (d *database) whoHolds() string {
	if d.index != nil {
		if pid, _ := holder(int(d.index.Fd()), unix.F_WRLCK, walWriteByte, 1); pid > 0 && pid != os.Getpid() {
			return "the write lock was never free in time; now it is held by " + processName(pid)
		}
		if pid, _ := holder(int(d.index.Fd()), unix.F_WRLCK, walCheckpointByte, 1); pid > 0 && pid != os.Getpid() {
			return "the checkpoint lock was never free in time; now it is held by " + processName(pid)
		}
	}
	fd := int(d.guard.Fd())
	if pid, _ := holder(fd, unix.F_RDLCK, sharedFirst, sharedSize); pid > 0 && pid != os.Getpid() {
		return "the exclusive lock is held by " + processName(pid) + "; an application with locking_mode=EXCLUSIVE never gives it back"
	}
	if pid, _ := holder(fd, unix.F_WRLCK, reservedByte, 1); pid > 0 && pid != os.Getpid() {
		return "the write lock was never free in time; now it is held by " + processName(pid)
	}
	return "the write lock was never free in time"
}

// processName names a process for people.
func processName(pid int) string {
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return fmt.Sprintf("process %d", pid)
	}
	return fmt.Sprintf("process %d (%s)", pid, strings.TrimSpace(string(comm)))
}

package reboot

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/session"
)

// aside is where what is replaced lies for a moment, where a file system cannot
// exchange two names.
func aside(elem string) string { return elem + "-aside" }

// canExchange is a variable for tests of file systems that cannot.
var canExchange = true

// exchange gives what is called from the name to, and what had that the name from,
// in one step if the file system can. It checks that it is what was seen before.
func exchange(dir int, from, to string, seen object) error {
	old, err := lookAt(dir, to)
	switch {
	case err == unix.ENOENT:
		err = moveTo(dir, from, to)
	case err != nil:
	case old.dir:
		return errors.New("a directory is in its place")
	default:
		err = unix.EINVAL
		if canExchange {
			err = unix.Renameat2(dir, from, dir, to, unix.RENAME_EXCHANGE)
		}
		if noFlags(err) {
			err = exchangeSlowly(dir, from, to)
		}
	}
	if err != nil {
		return err
	}
	now, err := lookAt(dir, to)
	left, lerr := lookAt(dir, from)
	if err == nil && seen.same(now) && (lerr == unix.ENOENT || lerr == nil && !left.dir) {
		return nil
	}
	// Somebody was faster than us.
	if lerr == unix.ENOENT {
		err = moveTo(dir, to, from)
	} else {
		err = unix.Renameat2(dir, to, dir, from, unix.RENAME_EXCHANGE)
	}
	if err != nil {
		return fmt.Errorf("it was changed while it was swapped in, and cannot be put back: %w", err)
	}
	return errors.New("it was changed while it was swapped in")
}

func noFlags(err error) bool {
	return err == unix.EINVAL || err == unix.ENOSYS || err == unix.EOPNOTSUPP
}

// moveTo renames to a name that is free.
func moveTo(dir int, from, to string) error {
	err := unix.Renameat2(dir, from, dir, to, unix.RENAME_NOREPLACE)
	if noFlags(err) {
		err = unix.Renameat(dir, from, dir, to)
	}
	return err
}

// exchangeSlowly does it in three steps, each of which settleAside can go on from.
func exchangeSlowly(dir int, from, to string) error {
	if err := moveTo(dir, to, aside(stagedOf(from, to))); err != nil {
		return err
	}
	if err := moveTo(dir, from, to); err != nil {
		return errors.Join(err, moveTo(dir, aside(stagedOf(from, to)), to))
	}
	return moveTo(dir, aside(stagedOf(from, to)), from)
}

// stagedOf is the one of two names that is a staged object's.
func stagedOf(a, b string) string {
	if session.IsStagedName(a) {
		return a
	}
	return b
}

// settleAside ends an exchange in three steps that was cut short: what lies aside
// goes back to its place if that is free, else to where the staged object was.
func settleAside(dir int, staged, name string) error {
	at := aside(staged)
	if _, err := lookAt(dir, at); err != nil {
		return nil
	}
	if _, err := lookAt(dir, name); err == unix.ENOENT {
		return moveTo(dir, at, name)
	}
	if _, err := lookAt(dir, staged); err == unix.ENOENT {
		return moveTo(dir, at, staged)
	}
	return fmt.Errorf("what it replaced lies aside as %s, and both its places are taken", at)
}

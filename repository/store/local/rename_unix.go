//go:build unix && !linux

package local

import "syscall"

// renameNoReplace gives the file a new name in its folder unless that is taken,
// which gives fs.ErrExist.
func renameNoReplace(from, to string) error { return linkAndRemove(from, to) }

// syncAll has the system begin to write everything it has not written; none of
// these systems can wait for one file system.
func syncAll(string) error {
	syscall.Sync()
	return nil
}

package local

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// renameNoReplace gives the file a new name unless that is taken, which gives
// fs.ErrExist. Not every file system can do it in the rename (NFS cannot); a
// hard link refuses a taken name as well.
func renameNoReplace(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EOPNOTSUPP):
		return linkAndRemove(from, to)
	}
	return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
}

// linkAndRemove is renameNoReplace by means of a hard link.
func linkAndRemove(from, to string) error {
	if err := os.Link(from, to); err != nil {
		return err
	}
	return os.Remove(from)
}

package local

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// renameNoReplace gives the file a new name in its folder unless that is taken,
// which gives fs.ErrExist. Where the rename itself cannot refuse a taken name
// (NFS, 9p, older FUSE) a hard link does.
func renameNoReplace(from, to string) error {
	for {
		err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.EINTR): // FUSE, and NFS mounted "intr"
			continue
		case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EOPNOTSUPP):
			return linkAndRemove(from, to)
		}
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
}

// syncAll syncs the file system that the folder is on.
func syncAll(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return &os.PathError{Op: "syncfs", Path: dir, Err: err}
	}
	return nil
}

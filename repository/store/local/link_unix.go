//go:build unix

package local

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// linkAndRemove is renameNoReplace by means of a hard link, which refuses a
// taken name on every file system that has links.
func linkAndRemove(from, to string) error {
	err := os.Link(from, to)
	switch {
	case err == nil:
		return os.Remove(from)
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.ENOSYS), errors.Is(err, syscall.EOPNOTSUPP), errors.Is(err, syscall.EMLINK):
		return lockAndRename(from, to)
	}
	return err
}

// lockAndRename is renameNoReplace where there is neither such a rename nor a
// hard link (FUSE file systems over object storage or phones): processes of one
// machine take turns by a lock on the folder, which ends with its holder. Other
// machines cannot be held off; that matters for no object but config, since all
// others are named by what is in them.
func lockAndRename(from, to string) error {
	d, err := os.Open(filepath.Dir(to))
	if err != nil {
		return err
	}
	defer d.Close()
	for {
		if err = syscall.Flock(int(d.Fd()), syscall.LOCK_EX); !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("lock %s, which has neither links nor renames that do not replace: %w", d.Name(), err)
	}
	if _, err := os.Lstat(to); err == nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: fs.ErrExist}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Rename(from, to)
}

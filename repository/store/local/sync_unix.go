//go:build unix

package local

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// openObject opens a file for reading. It follows no link in the last element,
// and does not wait for somebody to write to a pipe.
func openObject(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.ELOOP) || errors.Is(err, syscall.ENXIO) {
		return nil, &os.PathError{Op: "open", Path: path, Err: syscall.ENOENT} // a link, or a socket
	}
	return f, err
}

// syncDir makes the names in a folder durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	err = d.Sync()
	// Some network and FUSE file systems have no such operation: there the
	// server answers for its names. EROFS is an error: a file system mounted
	// read-only does not give it, one that failed and gave up writing does.
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) {
		return nil
	}
	return err
}

// syncAbove syncs the folder that dir is in, and those above it on the same
// file system. Where this user may not open one of them, which he needs not
// for using what is below, all of the file system is synced instead.
func syncAbove(dir string) error {
	device, err := deviceOf(dir)
	if err != nil {
		return err
	}
	for below := dir; ; {
		parent := filepath.Dir(below)
		if parent == below {
			return nil
		}
		if d, err := deviceOf(parent); err != nil || d != device {
			return err
		}
		err := syncDir(parent)
		if errors.Is(err, fs.ErrPermission) {
			return syncAll(dir)
		}
		if err != nil {
			return err
		}
		below = parent
	}
}

// deviceOf tells one file system from another.
func deviceOf(path string) (uint64, error) {
	fi, err := os.Lstat(path)
	if err != nil {
		return 0, err
	}
	return uint64(fi.Sys().(*syscall.Stat_t).Dev), nil
}

// isReadOnly says whether the file system cannot be written to.
func isReadOnly(err error) bool { return errors.Is(err, syscall.EROFS) }

// isFull says whether there is no room.
func isFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// isNotDir says whether a path led through something that is no directory.
func isNotDir(err error) bool { return errors.Is(err, syscall.ENOTDIR) }

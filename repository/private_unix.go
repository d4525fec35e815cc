//go:build unix

package repository

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// checkOwn refuses what belongs to another user, or what others have the rights
// in mask to.
func checkOwn(name string, info fs.FileInfo, mask fs.FileMode) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !ok:
		return fmt.Errorf("%s: its owner is unknown", name)
	case st.Uid != 0 && int(st.Uid) != os.Geteuid():
		return fmt.Errorf("%s belongs to uid %d", name, st.Uid)
	case info.Mode().Perm()&mask != 0:
		return fmt.Errorf("%s is open to others (mode %#o)", name, info.Mode().Perm())
	}
	return nil
}

// checkPrivateDir makes sure that nobody else can change what lies in the
// directory STATE/repositories/ID, nor see it.
func checkPrivateDir(dir string) error {
	mask := fs.FileMode(0o077)
	for range 3 {
		info, err := os.Lstat(dir)
		if err != nil {
			return err
		}
		if mask == 0o022 {
			// The state directory itself may be reached by a link.
			if info, err = os.Stat(dir); err != nil {
				return err
			}
		}
		if !info.IsDir() {
			return fmt.Errorf("%s is no directory", dir)
		}
		if err := checkOwn(dir, info, mask); err != nil {
			return err
		}
		if filepath.Base(dir) == "repositories" {
			mask = 0o022
		}
		dir = filepath.Dir(dir)
	}
	return nil
}

// openPrivate opens a regular file of this user's that nobody else can open.
func openPrivate(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", name)
	}
	if err == nil {
		err = checkOwn(name, info, 0o077)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = f.Sync()
	return errors.Join(err, f.Close())
}

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

// checkPrivateDir makes sure that nobody else can change what lies in a
// directory below the state directory, nor see it. depth is how far below.
func checkPrivateDir(dir string, depth int) error {
	for ; depth > 0; depth-- {
		info, err := os.Lstat(dir)
		if err != nil {
			return err
		}
		if err := checkOwnDir(dir, info, 0o077); err != nil {
			return err
		}
		dir = filepath.Dir(dir)
	}
	// The state directory itself may be reached by a link, and be seen.
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	return checkOwnDir(dir, info, 0o022)
}

func checkOwnDir(dir string, info fs.FileInfo, mask fs.FileMode) error {
	if !info.IsDir() {
		return fmt.Errorf("%s is no directory", dir)
	}
	return checkOwn(dir, info, mask)
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

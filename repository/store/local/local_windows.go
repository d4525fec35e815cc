package local

import (
	"cmp"
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// renameNoReplace gives the file a new name unless that is taken, which gives
// fs.ErrExist. Windows returns when the move is on disk.
func renameNoReplace(from, to string) error {
	f, err := windows.UTF16PtrFromString(from)
	if err != nil {
		return err
	}
	t, err := windows.UTF16PtrFromString(to)
	if err != nil {
		return err
	}
	if err := windows.MoveFileEx(f, t, windows.MOVEFILE_WRITE_THROUGH); err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

// openObject opens a file for reading. It follows no link in the last element.
func openObject(path string) (*os.File, error) {
	if fi, err := os.Lstat(path); err != nil || !fi.Mode().IsRegular() {
		return nil, &os.PathError{Op: "open", Path: path, Err: cmp.Or(err, os.ErrNotExist)}
	}
	return os.Open(path)
}

// syncDir does nothing: Windows has no such operation, and the moves are
// written through.
func syncDir(string) error { return nil }

// syncAbove does nothing, either.
func syncAbove(string) error { return nil }

// isReadOnly is never needed: nothing is synced.
func isReadOnly(error) bool { return false }

// isFull says whether there is no room.
func isFull(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL) || errors.Is(err, windows.ERROR_DISK_QUOTA_EXCEEDED)
}

// isNotDir is never needed: Windows says ERROR_PATH_NOT_FOUND, which is
// fs.ErrNotExist.
func isNotDir(error) bool { return false }

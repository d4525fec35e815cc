package repository

import "os"

// makePrivateDir makes the directory, and those above it that are missing, for
// this user alone, and makes sure that it is so. depth is how far below the
// state directory it lies.
func makePrivateDir(dir string, depth int) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return checkPrivateDir(dir, depth)
}

// createPrivate makes a new file for this user alone.
func createPrivate(name string) (*os.File, error) {
	return os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}

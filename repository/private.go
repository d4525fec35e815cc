package repository

import "os"

// makePrivateDir makes the directory, and those above it that are missing, for
// this user alone, and makes sure that it is so.
func makePrivateDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return checkPrivateDir(dir)
}

// createPrivate makes a new file for this user alone.
func createPrivate(name string) (*os.File, error) {
	return os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}

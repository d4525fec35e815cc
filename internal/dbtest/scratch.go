package dbtest

import (
	"errors"
	"fmt"
	"os"
)

// Scratch makes a directory that servers running as other users can reach, which
// those that package testing makes are not, below dir or, if that is empty, the
// one for temporary files. The caller removes it.
func Scratch(dir string) (string, error) {
	name, err := os.MkdirTemp(dir, "dbtest-")
	if err != nil {
		return "", fmt.Errorf("make a scratch directory: %w", err)
	}
	if err := os.Chmod(name, 0o755); err != nil {
		return "", errors.Join(fmt.Errorf("make a scratch directory: %w", err), os.RemoveAll(name))
	}
	return name, nil
}

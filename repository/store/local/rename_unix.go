//go:build unix && !linux

package local

import "os"

// renameNoReplace gives the file a new name unless that is taken, which gives
// fs.ErrExist.
func renameNoReplace(from, to string) error {
	if err := os.Link(from, to); err != nil {
		return err
	}
	return os.Remove(from)
}

// Package durable writes small files, as those of a journal, so that a crash or a
// power cut leaves either the old content or the new, whole.
package durable

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// unfinished ends the name of a file that is being written.
const unfinished = ".new"

// pattern is what a file is called while it is being written, for [os.CreateTemp].
func pattern(base string) string { return "." + base + ".*" + unfinished }

// IsUnfinished reports whether an element of a path is the name of a file that
// [WriteFile] was writing. One that stays was left by a process that died.
func IsUnfinished(elem string) bool {
	return strings.HasPrefix(elem, ".") && strings.HasSuffix(elem, unfinished)
}

// WriteFile gives a file its name, in the place of what had it, only when its
// content and mode are on the disk, and returns when that is so of the name too.
// After an error the old content is there, or the new one if it was the name
// that could not be made durable. Its directory must be there.
func WriteFile(name string, data []byte, mode fs.FileMode) (err error) {
	dir := filepath.Dir(name)
	f, err := os.CreateTemp(dir, pattern(filepath.Base(name)))
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return err
	}
	return SyncDir(dir)
}

// SyncDir makes durable which names a directory has.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

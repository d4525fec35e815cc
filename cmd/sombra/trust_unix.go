//go:build unix

package main

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// trusted refuses a file that someone else could have written, and which would
// have its say over what runs with the caller's rights.
func trusted(name string, info fs.FileInfo) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s: not a regular file", name)
	case !ok:
		return fmt.Errorf("%s: its owner is unknown", name)
	case st.Uid != 0 && int(st.Uid) != os.Geteuid():
		return &hintError{fmt.Errorf("%s: it belongs to uid %d, who could have it do anything as you", name, st.Uid), "chown it to root or to yourself"}
	case info.Mode().Perm()&0o022 != 0:
		return &hintError{fmt.Errorf("%s: others may write to it (mode %#o)", name, info.Mode().Perm()), "chmod go-w " + name}
	}
	return nil
}

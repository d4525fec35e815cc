//go:build unix

package main

import (
	"fmt"
	"os"
	"syscall"
)

// trusted refuses a file that someone else could have written.
func trusted(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s: not a regular file", f.Name())
	case !ok:
		return fmt.Errorf("%s: its owner is unknown", f.Name())
	case st.Uid != 0 && int(st.Uid) != os.Geteuid():
		return &hintError{fmt.Errorf("%s: belongs to uid %d, who could have it do anything as you", f.Name(), st.Uid), "chown it to root or to yourself"}
	case info.Mode().Perm()&0o022 != 0:
		return &hintError{fmt.Errorf("%s: others may write to it (mode %#o)", f.Name(), info.Mode().Perm()), "chmod go-w " + f.Name()}
	}
	return nil
}

package owner

import (
	"fmt"
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Closed says why a directory of data, by its real path, is not its owner's alone: a
// writer with the owner's rights must not work among files that others have put
// there, as anybody can in /tmp. Of root's directories it looks at those above, too,
// in which somebody could put another in the place of this one.
func Closed(dir string) error {
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return &fs.PathError{Op: "lstat", Path: dir, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return fmt.Errorf("%s is no directory", dir)
	}
	if st.Mode&0o002 != 0 {
		return fmt.Errorf("%s is open to all users (mode %04o), so that what lies there may be anybody's; close it: chmod o-w", dir, st.Mode&0o7777)
	}
	if st.Uid != 0 {
		return nil
	}
	for at := filepath.Dir(dir); ; at = filepath.Dir(at) {
		if err := unix.Lstat(at, &st); err != nil {
			return &fs.PathError{Op: "lstat", Path: at, Err: err}
		}
		if st.Uid != 0 || st.Mode&0o002 != 0 && st.Mode&unix.S_ISVTX == 0 {
			return fmt.Errorf("%s is root's, and lies in %s, where others can put something else in its place", dir, at)
		}
		if at == filepath.Dir(at) {
			return nil
		}
	}
}

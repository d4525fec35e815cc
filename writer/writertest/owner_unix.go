//go:build unix

package writertest

import (
	"io/fs"
	"os"
	"syscall"
)

// keepOwner gives a copy the owner of the original.
func keepOwner(original fs.FileInfo, path string) error {
	st, ok := original.Sys().(*syscall.Stat_t)
	if !ok || os.Geteuid() != 0 {
		return nil
	}
	return os.Chown(path, int(st.Uid), int(st.Gid))
}

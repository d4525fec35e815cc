//go:build unix

package server

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// attributeDir gives a folder, removed after the test, on a file system that has
// extended attributes.
func attributeDir(t testing.TB) string {
	t.Helper()
	for _, parent := range []string{"", "/var/tmp"} {
		dir, err := os.MkdirTemp(parent, "sombra-s3-")
		if err != nil {
			continue
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		file := filepath.Join(dir, "probe")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			continue
		}
		if unix.Setxattr(file, "user.sombra", []byte("x"), 0) == nil {
			os.Remove(file)
			return dir
		}
	}
	t.Fatal("neither the temporary directory nor /var/tmp is on a file system with extended attributes, which the S3 server needs")
	return ""
}

// private says whether a folder is this user's and nobody else's: programs in it
// are run.
func private(dir string) error {
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != os.Getuid() || st.Mode&0o077 != 0 {
		return fmt.Errorf("%s is not a folder of this user alone", dir)
	}
	return nil
}

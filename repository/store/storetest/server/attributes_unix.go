//go:build unix

package server

import (
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

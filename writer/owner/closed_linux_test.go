package owner

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestDirectoryThatOthersCanFillIsNotItsOwnersAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Closed(dir); err != nil {
		t.Errorf("its owner's alone: %v", err)
	}
	for _, mode := range []uint32{0o1777, 0o777, 0o703} {
		if err := unix.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		if Closed(dir) == nil {
			t.Errorf("mode %o passes", mode)
		}
	}
	if Closed(dir+"x") == nil {
		t.Error("one that is not there passes")
	}
}

func TestRootsDirectoryInAnothersIsNotRootsAlone(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give directories to others")
	}
	above := filepath.Join(t.TempDir(), "home")
	dir := filepath.Join(above, "data")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(above, 12345, 12345); err != nil {
		t.Fatal(err)
	}
	if Closed(dir) == nil {
		t.Error("a user can put another directory in its place")
	}
	if err := os.Chown(dir, 12345, 12345); err != nil {
		t.Fatal(err)
	}
	if err := Closed(dir); err != nil {
		t.Errorf("his own: %v", err)
	}
}

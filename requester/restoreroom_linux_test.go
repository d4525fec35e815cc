package requester_test

import (
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/internal/voltest"
	"github.com/sombra-backup/sombra/requester"
)

// TestARestoreWithoutRoomDressesTheDirectoriesItMade: a directory that a restore
// made before it ran out of room has its owner and mode. It had been root's, so that
// a database's writer, which runs as the owner, could not look at it when the restore
// was run again.
func TestARestoreWithoutRoomDressesTheDirectoriesItMade(t *testing.T) {
	voltest.Need(t)
	w, _ := appWorld(t)
	dir := w.path("cluster/base")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	data := make([]byte, 4<<20)
	rand.Read(data)
	if err := os.WriteFile(filepath.Join(dir, "large"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{os.Chown(dir, 12345, 12345), os.Chmod(dir, 0o700)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	rec := w.backup(w.paths()).Record
	to := t.TempDir()
	if err := unix.Mount("none", to, "tmpfs", 0, "size=2m"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(to, unix.MNT_DETACH)
	_, err := requester.Extract(t.Context(), w.open, w.repo, rec, requester.ExtractRequest{Dir: filepath.Join(to, "out")}, nil)
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the error is %v, want that there is no room", err)
	}
	info, err := os.Stat(filepath.Join(to, "out", dir))
	if err != nil {
		t.Fatal(err)
	}
	if s := info.Sys().(*syscall.Stat_t); s.Uid != 12345 || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory belongs to %d and has mode %v", s.Uid, info.Mode())
	}
}

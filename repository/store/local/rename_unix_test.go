//go:build unix

package local

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/sombra-backup/sombra/repository/store"
	"github.com/sombra-backup/sombra/repository/store/storetest"
)

// otherFiles is a file system that renames in another way.
type otherFiles struct {
	osFiles
	rename func(from, to string) error
}

func (f otherFiles) Rename(from, to string) error { return f.rename(from, to) }

// TestFileSystemsWithoutSuchRenames: where a rename cannot refuse a taken name
// links do (NFS), and where there are none a lock (FUSE).
func TestFileSystemsWithoutSuchRenames(t *testing.T) {
	for name, rename := range map[string]func(from, to string) error{"links": linkAndRemove, "a lock": lockAndRename} {
		t.Run(name, func(t *testing.T) {
			storetest.Run(t, func(t *testing.T) store.Store {
				return open(filepath.Join(t.TempDir(), "repository"), otherFiles{rename: rename})
			})
		})
	}
}

// TestARenameThatSucceededAndSaysOtherwise: a call over a network is repeated
// that had been done, or one by links is stopped half way. The object is there,
// and no other file.
func TestARenameThatSucceededAndSaysOtherwise(t *testing.T) {
	for name, rename := range map[string]func(from, to string) error{
		"repeated link":   func(from, to string) error { return errors.Join(os.Link(from, to), fs.ErrExist) },
		"link, no remove": func(from, to string) error { return errors.Join(os.Link(from, to), fs.ErrPermission) },
		"repeated rename": func(from, to string) error { return errors.Join(os.Rename(from, to), fs.ErrNotExist) },
	} {
		dir := t.TempDir()
		st := open(dir, otherFiles{rename: rename})
		if err := st.Put(t.Context(), "config", []byte("ours")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != 1 || entries[0].Name() != "config" {
			t.Errorf("%s: left behind: %v, %v", name, entries, err)
		}
		if err := st.Put(t.Context(), "config", []byte("another's")); !errors.Is(err, store.ErrExist) {
			t.Errorf("%s: put again: %v", name, err)
		}
	}
}

// TestFoldersAboveAreSyncedByWhoMayNotOpenThem: as any user whose disk lies in a
// folder that he may only pass through.
func TestFoldersAboveAreSyncedByWhoMayNotOpenThem(t *testing.T) {
	closed := filepath.Join(t.TempDir(), "closed")
	dir := filepath.Join(closed, "a", "repository")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(closed, 0o100); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chmod(closed, 0o700) })
	// As root the mode hinders nobody, and only the way up is tested.
	if err := open(dir, osFiles{}).Put(t.Context(), "config", []byte("x")); err != nil {
		t.Error(err)
	}
	if err := syncAll(dir); err != nil {
		t.Errorf("sync all of the file system instead: %v", err)
	}
}

package sqlite

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sombra-backup/sombra/vss"
	"golang.org/x/sys/unix"
)

// A file that was moved aside is named after the database as it was then, so
// that another process, after a crash, can tell whether the database it belongs
// to is still there: x.db-wal.sombra-0123456789ab.

// stamp identifies a database file at one time; any change to it changes the
// stamp. A file that is not there has one too.
func stamp(path string) (string, error) {
	text := "absent"
	st, err := statNoLinks(path)
	switch {
	case err == nil:
		text = fmt.Sprint(uint64(st.Dev), st.Ino, st.Size, st.Ctim.Nano())
	case !errors.Is(err, fs.ErrNotExist):
		return "", err
	}
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:6]), nil
}

// moveAside gives the files beside a database other names, which hold the stamp
// it returns. If it cannot do so with all of them it does so with none.
func moveAside(path string) (mark string, err error) {
	if mark, err = stamp(path); err != nil {
		return "", err
	}
	var moved []string
	for _, ending := range endings {
		from := path + ending
		err := renameNew(from, from+asideMark+mark)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			for _, from := range moved {
				err = errors.Join(err, renameNew(from+asideMark+mark, from))
			}
			return "", err
		}
		moved = append(moved, from)
	}
	return mark, nil
}

// putBack undoes moveAside, if the database is as it was then and nobody has
// opened it since.
func putBack(path string) error {
	mark, err := stamp(path)
	if err != nil {
		return err
	}
	for _, ending := range endings {
		err := renameNew(path+ending+asideMark+mark, path+ending)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// renameNew renames a file unless the new name is taken.
func renameNew(from, to string) error {
	if _, err := os.Lstat(from); err != nil {
		return err
	}
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		// The file system has no such call: link refuses a taken name too.
		if err = unix.Link(from, to); err == nil {
			err = unix.Unlink(from)
		}
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

// asideOf lists the files that were moved aside for a database, by any restore.
func asideOf(path string) []string {
	dir, base := filepath.Split(path)
	entries, _ := os.ReadDir(dir) // a directory that cannot be read shows none
	var found []string
	for _, e := range entries {
		for _, ending := range endings {
			if strings.HasPrefix(e.Name(), base+ending+asideMark) {
				found = append(found, filepath.Join(dir, e.Name()))
			}
		}
	}
	slices.Sort(found)
	return found
}

// notRestored cleans up after a restore that failed. before is the database's
// stamp before it, empty if that is not known. Its result, nil only if all is as
// it was before, says what there is now.
func notRestored(path, before string, status vss.FileRestoreStatus) error {
	mark, err := stamp(path)
	if err != nil {
		return err
	}
	aside := asideOf(path)
	same := mark == before || slices.ContainsFunc(aside, func(p string) bool { return strings.HasSuffix(p, asideMark+mark) })
	if !same {
		if len(aside) == 0 {
			return fmt.Errorf("the restore of %s failed half-way; restore again", path)
		}
		return fmt.Errorf("the restore of %s failed half-way and the database is another one now; what lay beside the old one is kept as %s; restore again", path, strings.Join(aside, ", "))
	}
	// The database is the old one. A log that was restored beside it belongs
	// to another and would destroy it.
	if status == vss.FileRestoreStatusFailed {
		for _, ending := range endings {
			if err := os.Rename(path+ending, path+ending+asideMark+"failed"); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return putBack(path)
}

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

// place is a database's directory, held open so that nobody can put another in
// its stead while files in it are renamed. A directory that does not exist is a
// place without files.
//
// A file that was moved aside is named after the database as it was then, so
// that another process, after a crash, can tell whether the database it belongs
// to is still there: x.db-wal.sombra-0123456789ab.
type place struct {
	dir  *os.File // nil if there is none
	base string   // the database's name
}

func openPlace(path string) (*place, error) {
	p := &place{base: filepath.Base(path)}
	dir := filepath.Dir(path)
	fd, err := openNoLinks(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC)
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	p.dir = os.NewFile(uintptr(fd), dir)
	return p, nil
}

func (p *place) close() {
	if p.dir != nil {
		p.dir.Close()
	}
}

// at gives the whole path of a name in the place.
func (p *place) at(name string) string { return filepath.Join(p.dir.Name(), name) }

func (p *place) stat(name string) (unix.Stat_t, error) {
	var st unix.Stat_t
	if p.dir == nil {
		return st, fs.ErrNotExist
	}
	if err := unix.Fstatat(int(p.dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return st, &fs.PathError{Op: "stat", Path: p.at(name), Err: err}
	}
	return st, nil
}

// stamp identifies the database file at one time; any change to it changes the
// stamp. A file that is not there has one too.
func (p *place) stamp() (string, error) {
	st, err := p.stat(p.base)
	switch {
	case err == nil:
		return stampOf(&st), nil
	case !errors.Is(err, fs.ErrNotExist):
		return "", err
	}
	return stampOf(nil), nil
}

// stampOf makes a stamp of attributes that stay the same when the machine starts
// again; the number of the device does not.
func stampOf(st *unix.Stat_t) string {
	text := "absent"
	if st != nil {
		text = fmt.Sprint(st.Ino, st.Size, st.Ctim.Nano())
	}
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:6])
}

// moveAside gives the files beside a database other names, which hold the stamp
// it returns. If it cannot do so with all of them it does so with none.
func (p *place) moveAside() (mark string, err error) {
	if mark, err = p.stamp(); err != nil {
		return "", err
	}
	var moved []string
	for _, ending := range endings {
		from := p.base + ending
		err := p.rename(from, from+asideMark+mark)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			for _, from := range moved {
				err = errors.Join(err, p.rename(from+asideMark+mark, from))
			}
			return "", err
		}
		moved = append(moved, from)
	}
	return mark, nil
}

// putBack undoes moveAside, if the database is as it was then and nobody has
// opened it since.
func (p *place) putBack() error {
	mark, err := p.stamp()
	if err != nil {
		return err
	}
	for _, ending := range endings {
		err := p.rename(p.base+ending+asideMark+mark, p.base+ending)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// rename renames a file unless the new name is taken.
func (p *place) rename(from, to string) error {
	if _, err := p.stat(from); err != nil {
		return err
	}
	fd := int(p.dir.Fd())
	err := unix.Renameat2(fd, from, fd, to, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		// The file system has no such call: link refuses a taken name too.
		if err = unix.Linkat(fd, from, fd, to, 0); err == nil {
			err = unix.Unlinkat(fd, from, 0)
		}
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: p.at(from), New: p.at(to), Err: err}
	}
	return nil
}

// aside lists the files that were moved aside for the database, by any restore.
func (p *place) aside() ([]string, error) {
	if p.dir == nil {
		return nil, nil
	}
	if _, err := p.dir.Seek(0, 0); err != nil {
		return nil, err
	}
	names, err := p.dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	names = slices.DeleteFunc(names, func(name string) bool {
		return !slices.ContainsFunc(endings, func(ending string) bool { return strings.HasPrefix(name, p.base+ending+asideMark) })
	})
	slices.Sort(names)
	return names, nil
}

// removeAside removes the files that were moved aside.
func (p *place) removeAside() error {
	names, err := p.aside()
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := unix.Unlinkat(int(p.dir.Fd()), name, 0); err != nil {
			return &fs.PathError{Op: "remove", Path: p.at(name), Err: err}
		}
	}
	return nil
}

// notRestored cleans up after a restore that failed. before is the database's
// stamp before it, empty if that is not known. Its result, nil only if all is as
// it was before, says what there is now.
func (p *place) notRestored(before string, status vss.FileRestoreStatus) error {
	mark, err := p.stamp()
	if err != nil {
		return err
	}
	aside, err := p.aside()
	if err != nil {
		return err
	}
	same := mark == before || slices.ContainsFunc(aside, func(name string) bool { return strings.HasSuffix(name, asideMark+mark) })
	switch {
	case !same && len(aside) == 0:
		return fmt.Errorf("the restore of %s failed half-way; restore again", p.base)
	case !same:
		return fmt.Errorf("the restore of %s failed half-way and the database is another one now; what lay beside the old one is kept as %s; restore again", p.base, strings.Join(aside, ", "))
	case status == vss.FileRestoreStatusFailed:
		// The database is the old one. A log that was restored beside it
		// belongs to another and would destroy it.
		if err := p.rejectRestored(); err != nil {
			return err
		}
	}
	return p.putBack()
}

// rejectRestored takes away the files that were restored beside a database that
// was not.
func (p *place) rejectRestored() error {
	if p.dir == nil {
		return nil
	}
	fd := int(p.dir.Fd())
	for _, ending := range endings {
		from := p.base + ending
		err := unix.Renameat(fd, from, fd, from+asideMark+"failed")
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return &fs.PathError{Op: "rename", Path: p.at(from), Err: err}
		}
	}
	return nil
}

package staging

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/provider/area"
)

const (
	treeName  = "tree"
	asideName = "aside"
)

// openCopy opens the copy's directory that corresponds to d.
func (s *Snapshot) openCopy(d *directory) error {
	if d.dst >= 0 {
		return nil
	}
	fd, err := openBeneath(s.tree, d.path, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return s.broken("open", d.path, err)
	}
	d.dst = fd
	return nil
}

// openParent opens the copy's directory in which an object lies.
func (s *Snapshot) openParent(o *object) (fd int, name string, err error) {
	dir, name := path.Split(o.path)
	fd, err = openBeneath(s.tree, cmp.Or(strings.TrimSuffix(dir, "/"), "."), unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return -1, "", s.broken("open", o.path, err)
	}
	return fd, name, nil
}

// place has make make the entry name, after moving away what is there.
func (s *Snapshot) place(dir int, name, path string, make func() error) error {
	err := make()
	if err == unix.EEXIST || err == unix.EISDIR || err == unix.ENOTDIR {
		if err := s.moveAside(dir, name); err != nil {
			return s.broken("replace", path, err)
		}
		err = make()
	}
	if err != nil {
		return s.broken("make", path, err)
	}
	return nil
}

// moveAside takes an entry out of the tree. That costs the same whether it is
// a small file or a large directory; removing it would not.
func (s *Snapshot) moveAside(dir int, name string) error {
	n := s.asideCount.Add(1)
	err := unix.Renameat(dir, name, s.aside, fmt.Sprint(n))
	if err == unix.ENOENT {
		return nil
	}
	return err
}

// openTarget opens the file of the copy that a job writes. Fresh tells that it
// is new.
func (s *Snapshot) openTarget(j job, renew bool) (dst *os.File, fresh bool, err error) {
	name := filepath.Join(s.path, treeName, j.rec.path)
	if !j.fresh && !renew {
		fd, err := openOnce(j.dir.dst, j.name, unix.O_RDWR|unix.O_NONBLOCK)
		if err == unix.EACCES {
			if err = unix.Fchmodat(j.dir.dst, j.name, 0o600, 0); err == nil {
				fd, err = openOnce(j.dir.dst, j.name, unix.O_RDWR|unix.O_NONBLOCK)
			}
		}
		if err == nil {
			return os.NewFile(uintptr(fd), name), false, nil
		}
		if err != unix.ENOENT { // what is there will be moved away
			j.fresh = true
		}
	}
	var fd int
	err = s.place(j.dir.dst, j.name, j.rec.path, func() (err error) {
		fd, err = unix.Openat(j.dir.dst, j.name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		return err
	})
	if err != nil {
		return nil, false, err
	}
	return os.NewFile(uintptr(fd), name), true, nil
}

// settle gives a copied object its attributes.
func (s *Snapshot) settle(dir int, name string, r *record) error {
	if err := settle(dir, name, r, s.isRoot); err != nil {
		return s.broken("set attributes of", r.path, err)
	}
	r.settled = true
	return nil
}

// tidy takes out of the copy what the last pass did not see, gives everything
// its attributes and throws away what was moved aside.
func (s *Snapshot) tidy(ctx context.Context) error {
	var gone, dirs []*record
	for _, r := range s.records {
		switch {
		case r.pass != s.passes:
			gone = append(gone, r)
		case r.st.isDir():
			dirs = append(dirs, r)
		case !r.settled && r.missing == "":
			if err := s.at(r.path, func(dir int, name string) error { return s.settle(dir, name, r) }); err != nil {
				return err
			}
		}
	}
	if err := s.forget(ctx, gone); err != nil {
		return err
	}
	// What is done in a directory changes its times: the innermost first.
	slices.SortFunc(dirs, func(a, b *record) int { return strings.Compare(b.path, a.path) })
	for _, r := range dirs {
		if r.path == "." {
			if err := s.settle(s.tree, ".", r); err != nil {
				return err
			}
			continue
		}
		if err := s.at(r.path, func(dir int, name string) error { return s.settle(dir, name, r) }); err != nil {
			return err
		}
	}
	return s.emptyAside(ctx)
}

// forget removes records and their objects, what lies in a directory before
// the directory.
func (s *Snapshot) forget(ctx context.Context, gone []*record) error {
	slices.SortFunc(gone, func(a, b *record) int { return strings.Compare(b.path, a.path) })
	for i, r := range gone {
		if i%256 == 255 {
			if err := context.Cause(ctx); err != nil {
				return err
			}
		}
		delete(s.records, r.path)
		err := s.at(r.path, func(dir int, name string) error {
			// What was there before may still be in its place: if a file
			// that followed a link vanished, the link.
			err := unix.Unlinkat(dir, name, 0)
			if err == unix.EISDIR || err == unix.EPERM {
				err = unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
			}
			if err == unix.ENOTEMPTY {
				err = s.moveAside(dir, name)
			}
			return err
		})
		if err != nil && !vanished(err) {
			return err
		}
	}
	return nil
}

func (s *Snapshot) emptyAside(ctx context.Context) error {
	if s.asideCount.Load() == 0 {
		return nil
	}
	// The directory itself stays, for there may be another pass.
	aside, err := s.copy.Open(asideName)
	if err != nil {
		return err
	}
	defer aside.Close()
	return aside.Empty(ctx)
}

// at calls f for an object of the copy.
func (s *Snapshot) at(name string, f func(dir int, name string) error) error {
	dir, base := path.Split(name)
	fd, err := openBeneath(s.tree, cmp.Or(strings.TrimSuffix(dir, "/"), "."), unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return s.broken("open", name, err)
	}
	defer unix.Close(fd)
	if err := f(fd, base); err != nil {
		return s.broken("change", name, err)
	}
	return nil
}

// broken gives an error about the copy itself its code and object.
func (s *Snapshot) broken(op, name string, err error) error {
	return area.Failure(op, filepath.Join(s.path, treeName, name), err)
}

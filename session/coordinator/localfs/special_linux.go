package localfs

import (
	"context"
	"io/fs"
	"math"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/session"
)

func (t *target) Symlink(ctx context.Context, e session.Entry, name string) error {
	const op = "make symbolic link"
	if e.Mode.Type() != fs.ModeSymlink || e.Target == "" || strings.IndexByte(e.Target, 0) >= 0 {
		return pathError(op, name, &nameError{"the entry is not one of a symbolic link", fs.ErrInvalid})
	}
	return t.replace(ctx, op, name, e, unix.S_IFLNK, func(dir int, temp string) error {
		return unix.Symlinkat(e.Target, dir, temp)
	})
}

func (t *target) Mknod(ctx context.Context, e session.Entry, name string) error {
	const op = "make special file"
	kind, err := typeBits(e)
	if err != nil {
		return pathError(op, name, err)
	}
	var device uint64
	switch kind {
	case unix.S_IFCHR, unix.S_IFBLK:
		if device = e.Device; device > math.MaxUint32 {
			return pathError(op, name, &nameError{"has a device number this system does not know", fs.ErrInvalid})
		}
	case unix.S_IFIFO, unix.S_IFSOCK:
	default:
		return pathError(op, name, &nameError{"the entry is " + kindOf(kind) + ", not a special file", fs.ErrInvalid})
	}
	return t.replace(ctx, op, name, e, kind, func(dir int, temp string) error {
		return unix.Mknodat(dir, temp, uint32(kind)|0o600, int(device))
	})
}

// replace makes an object under a temporary name, gives it its attributes and
// then the name.
func (t *target) replace(ctx context.Context, op, name string, e session.Entry, kind uint16, create func(dir int, temp string) error) error {
	dir, elem, err := t.parentOf(ctx, op, name)
	if err != nil {
		return err
	}
	defer dir.close()
	temp := temporary()
	if err := create(dir.fd, temp); err != nil {
		return pathError(op, name, err)
	}
	failed, err := finishTemp(dir.fd, temp, name, kind, e)
	if err == nil {
		err = rename(dir.fd, temp, elem)
	}
	if err != nil {
		unix.Unlinkat(dir.fd, temp, 0)
		return pathError(op, name, err)
	}
	if failed != nil {
		return failed
	}
	return nil
}

// finishTemp gives a new object its attributes, unless another was put in its
// place: whoever may write in the directory could otherwise have any file of
// his choice given away, by a hard link.
func finishTemp(dir int, temp, name string, kind uint16, e session.Entry) (*session.AttributeError, error) {
	fd, err := unix.Openat(dir, temp, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var sx unix.Statx_t
	if err := statxFD(fd, &sx); err != nil {
		return nil, err
	}
	if sx.Mode&unix.S_IFMT != kind || sx.Nlink != 1 {
		return nil, &nameError{"was replaced while it was being made", fs.ErrInvalid}
	}
	return object{fd: fd, mode: sx.Mode, name: name}.apply(e), nil
}

func (t *target) Link(ctx context.Context, oldname, name string) error {
	const op = "link"
	old, err := t.where(ctx, op, oldname, true)
	if err != nil {
		return err
	}
	fd, err := old.base.open(old.name, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return pathError(op, oldname, err)
	}
	defer unix.Close(fd)
	dir, elem, err := t.parentOf(ctx, op, name)
	if err != nil {
		return err
	}
	defer dir.close()
	err = linkFD(fd, dir.fd, elem)
	if err == unix.EEXIST {
		temp := temporary()
		if err = linkFD(fd, dir.fd, temp); err == nil {
			err = rename(dir.fd, temp, elem)
			// Renaming one name of a file to another of its names does
			// nothing and leaves both.
			if e := unix.Unlinkat(dir.fd, temp, 0); err == nil && e != unix.ENOENT {
				err = e
			}
		}
	}
	if err == unix.EXDEV {
		err = &nameError{"is on another file system than " + oldname, unix.EXDEV}
	}
	return pathError(op, name, err)
}

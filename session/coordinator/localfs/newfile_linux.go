package localfs

import (
	"context"
	"io/fs"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/session"
)

// newFile has no name until Commit where the file system allows that
// (O_TMPFILE), so that nothing is left behind however a restore ends, and a
// temporary name elsewhere.
type newFile struct {
	*os.File
	target *target
	name   string // as the caller calls it
	elem   string // its last element
	temp   string // empty: none

	mu   sync.Mutex
	dir  int
	done bool
}

func (t *target) Create(ctx context.Context, name string) (session.NewFile, error) {
	dir, elem, err := t.parentOf(ctx, "create", name)
	if err != nil {
		return nil, err
	}
	fd, temp, err := createIn(dir)
	if err != nil {
		unix.Close(dir)
		return nil, pathError("create", name, err)
	}
	return &newFile{File: os.NewFile(uintptr(fd), name), target: t, name: name, elem: elem, temp: temp, dir: dir}, nil
}

// parentOf opens the directory in which an object is to take a name. A
// directory that has the name already is an error.
func (t *target) parentOf(ctx context.Context, op, name string) (dir int, elem string, err error) {
	p, err := t.where(ctx, op, name, true)
	if err != nil {
		return -1, "", err
	}
	dir, elem, err = p.base.parent(p.name)
	if err != nil {
		return -1, "", pathError(op, name, err)
	}
	var sx unix.Statx_t
	if statxAt(dir, elem, &sx) == nil && sx.Mode&unix.S_IFMT == unix.S_IFDIR {
		unix.Close(dir)
		return -1, "", pathError(op, name, errDirectory)
	}
	if err := t.touch(dir); err != nil {
		unix.Close(dir)
		return -1, "", pathError(op, name, err)
	}
	return dir, elem, nil
}

var errDirectory = &nameError{"a directory is in the way", fs.ErrExist}

func createIn(dir int) (fd int, temp string, err error) {
	fd, err = unix.Openat(dir, ".", unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	switch err {
	case unix.EOPNOTSUPP, unix.EISDIR, unix.EINVAL, unix.ENOENT: // the file system or the kernel doesn't know it
	default:
		return fd, "", err
	}
	for {
		temp = temporary()
		fd, err = unix.Openat(dir, temp, unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
		if err != unix.EINTR && err != unix.EEXIST {
			return fd, temp, err
		}
	}
}

func (f *newFile) Commit(ctx context.Context, e session.Entry) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.done {
		return &fs.PathError{Op: "commit", Path: f.name, Err: fs.ErrClosed}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if !e.Mode.IsRegular() {
		return pathError("commit", f.name, &nameError{"the entry is not one of a regular file", fs.ErrInvalid})
	}
	var failed *session.AttributeError
	err := control(f.File, func(fd int) error {
		failed = object{fd, unix.S_IFREG, f.name}.apply(e)
		if f.temp != "" {
			return nil
		}
		return f.link(fd)
	})
	if err != nil {
		return pathError("commit", f.name, err)
	}
	// Some file systems tell of failed writes only now. The name comes after.
	if err := f.File.Close(); err != nil {
		return err
	}
	if f.temp != "" {
		if err := rename(f.dir, f.temp, f.elem); err != nil {
			return pathError("commit", f.name, err)
		}
		f.temp = ""
	}
	f.finish()
	if failed != nil {
		return failed
	}
	return nil
}

// link gives the nameless file its name: at once if that is free.
func (f *newFile) link(fd int) error {
	err := linkFD(fd, f.dir, f.elem)
	if err != unix.EEXIST {
		return err
	}
	temp := temporary()
	if err := linkFD(fd, f.dir, temp); err != nil {
		return err
	}
	if err := rename(f.dir, temp, f.elem); err != nil {
		unix.Unlinkat(f.dir, temp, 0)
		return err
	}
	return nil
}

// linkFD goes through /proc, as AT_EMPTY_PATH is root's.
func linkFD(fd, dir int, elem string) error {
	return unix.Linkat(unix.AT_FDCWD, procPath(fd), dir, elem, unix.AT_SYMLINK_FOLLOW)
}

// rename puts temp, in the same directory, in the place of what is called elem.
func rename(dir int, temp, elem string) error {
	err := unix.Renameat(dir, temp, dir, elem)
	if err == unix.EISDIR || err == unix.ENOTEMPTY || err == unix.EEXIST {
		return errDirectory
	}
	return err
}

func (f *newFile) finish() {
	f.done = true
	unix.Close(f.dir)
}

// Close removes the file if it has not got its name.
func (f *newFile) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.done {
		return nil
	}
	f.File.Close() // a Commit that failed may have closed it
	var err error
	if f.temp != "" {
		err = unix.Unlinkat(f.dir, f.temp, 0)
	}
	f.finish()
	return pathError("remove unfinished", f.name, err)
}

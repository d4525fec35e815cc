package area

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// removeRounds bounds how often a directory is emptied again that somebody
// else still fills.
const removeRounds = 1000

// RemoveAll removes the entry name of the area and all below it, and is
// content if there is nothing. It follows no links and holds three descriptors
// at most, however deep the tree: what is nested is first moved up.
func (d *Dir) RemoveAll(ctx context.Context, name string) error {
	top, err := openDir(d.Fd(), name)
	switch err {
	case nil:
	case unix.ENOENT:
		return nil
	case unix.ENOTDIR, unix.ELOOP:
		if err := unix.Unlinkat(d.Fd(), name, 0); err != nil && err != unix.ENOENT {
			return &os.PathError{Op: "remove", Path: filepath.Join(d.path, name), Err: err}
		}
		return nil
	default:
		return &os.PathError{Op: "open", Path: filepath.Join(d.path, name), Err: err}
	}
	defer top.Close()
	r := remover{top: top, path: filepath.Join(d.path, name)}
	for range removeRounds {
		if err := r.round(ctx); err != nil {
			return err
		}
		switch err := unix.Unlinkat(d.Fd(), name, unix.AT_REMOVEDIR); err {
		case nil, unix.ENOENT:
			return nil
		case unix.ENOTEMPTY, unix.EEXIST:
		default:
			return &os.PathError{Op: "remove", Path: r.path, Err: err}
		}
	}
	return fmt.Errorf("remove %s: it fills again and again", r.path)
}

// Empty removes everything in the directory, as RemoveAll does.
func (d *Dir) Empty(ctx context.Context) error {
	// A descriptor of its own: d's may be in use, and has been read.
	dir, err := openDir(d.Fd(), ".")
	if err != nil {
		return &os.PathError{Op: "open", Path: d.path, Err: err}
	}
	names, err := dir.Readdirnames(-1)
	dir.Close()
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := d.RemoveAll(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// remover empties one directory, top.
type remover struct {
	top   *os.File
	path  string
	moved int
	dirs  []string // entries of top that are directories with something in them
}

// round empties top except for directories, and then each of these.
func (r *remover) round(ctx context.Context) error {
	r.dirs = r.dirs[:0]
	if err := r.empty(ctx, r.top); err != nil {
		return err
	}
	for len(r.dirs) > 0 {
		name := r.dirs[len(r.dirs)-1]
		r.dirs = r.dirs[:len(r.dirs)-1]
		sub, err := openDir(int(r.top.Fd()), name)
		if err == unix.ENOENT {
			continue
		}
		if err != nil {
			return &os.PathError{Op: "open", Path: filepath.Join(r.path, name), Err: err}
		}
		err = r.empty(ctx, sub)
		sub.Close()
		if err != nil {
			return err
		}
		if err := unix.Unlinkat(int(r.top.Fd()), name, unix.AT_REMOVEDIR); err != nil && err != unix.ENOENT && err != unix.ENOTEMPTY {
			return &os.PathError{Op: "remove", Path: filepath.Join(r.path, name), Err: err}
		}
	}
	return nil
}

// empty removes dir's entries. Directories with something in them become
// entries of top.
func (r *remover) empty(ctx context.Context, dir *os.File) error {
	if _, err := dir.Seek(0, io.SeekStart); err != nil {
		return err
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		names, err := dir.Readdirnames(512)
		for _, name := range names {
			if err := r.removeOne(int(dir.Fd()), name, dir == r.top); err != nil {
				return err
			}
		}
		// A directory just removed by somebody else gives fs.ErrNotExist.
		if err == io.EOF || errors.Is(err, os.ErrNotExist) || err == nil && len(names) == 0 {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// removeOne removes one entry, or moves it to top.
func (r *remover) removeOne(dirfd int, name string, atTop bool) error {
	err := unix.Unlinkat(dirfd, name, 0)
	if err == unix.EISDIR || err == unix.EPERM { // POSIX has EPERM for directories
		err = unix.Unlinkat(dirfd, name, unix.AT_REMOVEDIR)
	}
	if err == nil || err == unix.ENOENT {
		return nil
	}
	if err != unix.ENOTEMPTY && err != unix.EEXIST {
		return &os.PathError{Op: "remove", Path: filepath.Join(r.path, name), Err: err}
	}
	if atTop {
		r.dirs = append(r.dirs, name)
		return nil
	}
	// Moving a directory needs the right to write it.
	unix.Fchmodat(dirfd, name, 0o700, 0)
	for {
		r.moved++
		as := fmt.Sprintf(".removed-%d", r.moved)
		err := unix.Renameat2(dirfd, name, int(r.top.Fd()), as, unix.RENAME_NOREPLACE)
		if err == unix.EINVAL { // the file system has no such flag
			err = unix.Renameat(dirfd, name, int(r.top.Fd()), as)
		}
		switch err {
		case nil:
			r.dirs = append(r.dirs, as)
			return nil
		case unix.ENOENT:
			return nil
		case unix.EEXIST, unix.ENOTEMPTY:
		default:
			return &os.PathError{Op: "move", Path: filepath.Join(r.path, name), Err: err}
		}
	}
}

// openDir opens a directory for reading, giving its owner the right first if
// that is missing.
func openDir(at int, name string) (*os.File, error) {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(at, name, flags, 0)
	if err == unix.EACCES {
		unix.Fchmodat(at, name, 0o700, 0)
		fd, err = unix.Openat(at, name, flags, 0)
	}
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

package sqlite

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// inode identifies a file whatever its names.
type inode struct{ dev, ino uint64 }

func inodeOf(st *unix.Stat_t) inode { return inode{uint64(st.Dev), st.Ino} }

// openFiles are the databases this process has open, each under the path it
// was opened by. Closing any descriptor of one of them would drop its locks.
type openFiles struct {
	mu    sync.Mutex
	paths map[inode]string
}

// opened is a value of the process because POSIX locks belong to the process.
var opened openFiles

// claim notes that a database is being opened, unless it is open already.
func (o *openFiles) claim(id inode, path string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if other, ok := o.paths[id]; ok {
		if other == path {
			return fmt.Errorf("%s is already held by this writer's process", path)
		}
		return fmt.Errorf("%s is the same file as %s, which is being backed up; SQLite allows a database one name only", path, other)
	}
	if o.paths == nil {
		o.paths = make(map[inode]string)
	}
	o.paths[id] = path
	return nil
}

func (o *openFiles) release(id inode) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.paths, id)
}

// errIrregular says that a path names no regular file.
var errIrregular = errors.New("no regular file")

// openRegular opens a regular file through a path without any symbolic link,
// claims it, and gives it open for reading and writing, or for reading only.
// Nothing is opened but a regular file, so that no FIFO blocks and no device is
// touched. The caller closes the file and then releases the claim, in this
// order and after everything else that has the file open.
func openRegular(path string, flags int) (*os.File, inode, error) {
	// A descriptor of this kind opens nothing: closing it drops no lock.
	handle, err := openNoLinks(path, unix.O_PATH|unix.O_CLOEXEC)
	if err != nil {
		return nil, inode{}, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(handle)
	var st unix.Stat_t
	if err := unix.Fstat(handle, &st); err != nil {
		return nil, inode{}, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, inode{}, &fs.PathError{Op: "open", Path: path, Err: errIrregular}
	}
	id := inodeOf(&st)
	if err := opened.claim(id, path); err != nil {
		return nil, inode{}, err
	}
	fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", handle), flags|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		opened.release(id)
		return nil, inode{}, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), id, nil
}

// openNoLinks opens a path in which no part may be a symbolic link.
func openNoLinks(path string, flags int) (int, error) {
	how := unix.OpenHow{Flags: uint64(flags), Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS}
	for {
		fd, err := unix.Openat2(unix.AT_FDCWD, path, &how)
		if !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN) {
			return fd, err
		}
	}
}

// statNoLinks gives the attributes of what a path names, without following a
// link in its last part.
func statNoLinks(path string) (unix.Stat_t, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return st, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return st, nil
}

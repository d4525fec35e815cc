package localfs

import (
	"context"
	"io"
	"io/fs"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/session"
)

// newFile has no name until Commit where the file system allows that
// (O_TMPFILE), and a temporary name elsewhere. Where it takes the place of another
// file it has a temporary name, too, for as long as link and rename take: who is
// killed just then leaves that name behind.
//
// It is a bare descriptor: an [os.File] asks the kernel whether it can be waited
// for, and has a finalizer, for each of very many files.
type newFile struct {
	target *target
	dir    *parentDir
	name   string // as the caller calls it
	elem   string // its last element
	temp   string // empty: none

	mu   sync.RWMutex // held while fd is used, so that Close cannot let another file take its number
	fd   int          // -1: closed
	done bool
}

func (t *target) Create(ctx context.Context, name string) (session.NewFile, error) {
	dir, elem, err := t.parentOf(ctx, "create", name)
	if err != nil {
		return nil, err
	}
	fd, temp, err := createIn(dir.fd)
	if err != nil {
		dir.close()
		return nil, pathError("create", name, err)
	}
	return &newFile{target: t, dir: dir, name: name, elem: elem, temp: temp, fd: fd}, nil
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

// maxWrite is less than what the kernel takes at once.
const maxWrite = 1 << 30

func (f *newFile) WriteAt(p []byte, off int64) (n int, err error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.fd < 0 {
		return 0, pathError("write", f.name, fs.ErrClosed)
	}
	for n < len(p) {
		m, err := unix.Pwrite(f.fd, p[n:min(len(p), n+maxWrite)], off+int64(n))
		switch {
		case err == unix.EINTR:
			continue
		case err == nil && m <= 0:
			err = io.ErrShortWrite
		}
		if err != nil {
			return n, pathError("write", f.name, err)
		}
		n += m
	}
	return n, nil
}

func (f *newFile) Truncate(size int64) error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.fd < 0 {
		return pathError("truncate", f.name, fs.ErrClosed)
	}
	for {
		if err := unix.Ftruncate(f.fd, size); err != unix.EINTR {
			return pathError("truncate", f.name, err)
		}
	}
}

func (f *newFile) Commit(ctx context.Context, e session.Entry) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.done || f.fd < 0 {
		return pathError("commit", f.name, fs.ErrClosed)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if !e.Mode.IsRegular() {
		return pathError("commit", f.name, &nameError{"the entry is not one of a regular file", fs.ErrInvalid})
	}
	failed := object{fd: f.fd, mode: unix.S_IFREG, name: f.name, opened: true, bare: f.dir.private && f.dir.plain}.apply(e)
	if f.temp == "" {
		if err := f.link(); err != nil {
			return pathError("commit", f.name, err)
		}
	}
	// Some file systems tell of failed writes only now. The name comes after.
	if err := f.closeFile(); err != nil {
		return pathError("commit", f.name, err)
	}
	if f.temp != "" {
		if err := rename(f.dir.fd, f.temp, f.elem); err != nil {
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

// closeFile closes the descriptor. It is gone also when that fails.
func (f *newFile) closeFile() error {
	fd := f.fd
	f.fd = -1
	if err := unix.Close(fd); err != unix.EINTR {
		return err
	}
	return nil
}

// link gives the nameless file its name: at once if that is free.
func (f *newFile) link() error {
	err := linkFD(f.fd, f.dir.fd, f.elem)
	if err != unix.EEXIST {
		return err
	}
	temp := temporary()
	if err := linkFD(f.fd, f.dir.fd, temp); err != nil {
		return err
	}
	if err := rename(f.dir.fd, temp, f.elem); err != nil {
		unix.Unlinkat(f.dir.fd, temp, 0)
		return err
	}
	return nil
}

// noEmptyPath is set once it is known that the kernel links by descriptor for
// root alone, as before Linux 6.10.
var noEmptyPath atomic.Bool

// linkFD gives a file one more name: by its descriptor if the kernel lets us,
// else through /proc.
func linkFD(fd, dir int, elem string) error {
	if !noEmptyPath.Load() {
		if err := unix.Linkat(fd, "", dir, elem, unix.AT_EMPTY_PATH); err != unix.ENOENT {
			return err
		}
	}
	err := unix.Linkat(unix.AT_FDCWD, procPath(fd), dir, elem, unix.AT_SYMLINK_FOLLOW)
	if err == nil {
		noEmptyPath.Store(true)
	}
	return err
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
	f.dir.close()
}

// Close removes the file if it has not got its name.
func (f *newFile) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.done {
		return nil
	}
	if f.fd >= 0 { // a Commit that failed may have closed it
		f.closeFile()
	}
	var err error
	if f.temp != "" {
		err = unix.Unlinkat(f.dir.fd, f.temp, 0)
	}
	f.finish()
	return pathError("remove unfinished", f.name, err)
}

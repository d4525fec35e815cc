package local

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

const (
	// directLength is the length from which on data is written past the page
	// cache. Packs are synced as soon as they are written, and read again in a
	// restore if ever: copying them into the cache cost a backup a sixth of its
	// processor time and pushed out of the cache what others had in it.
	directLength = 1 << 20
	// directBlock divides the offset and length of each such write. No disk in
	// use has larger blocks.
	directBlock = 4 << 10
)

// newTemp gives the file to be written.
func newTemp(f *os.File) tempFile { return directFile{f} }

// directFile is a file that writes what is long past the page cache if the
// file system can do that, and else as any file.
type directFile struct{ *os.File }

// Write implements io.Writer. What is left over of a block, and all that the
// file system refuses to write directly (which it does for reasons of its own,
// as EINVAL, at the first write), goes through the page cache.
func (f directFile) Write(p []byte) (int, error) {
	whole := len(p) &^ (directBlock - 1)
	if whole < directLength || f.direct(true) != nil {
		return f.File.Write(p)
	}
	n, err := f.File.Write(p[:whole])
	if off := f.direct(false); off != nil {
		return n, off
	}
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EOPNOTSUPP) {
		return n, err
	}
	m, err := f.File.Write(p[n:])
	return n + m, err
}

// direct switches direct writing on or off.
func (f directFile) direct(on bool) error {
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = c.Control(func(fd uintptr) {
		flags, err := unix.FcntlInt(fd, unix.F_GETFL, 0)
		if err != nil {
			failed = err
			return
		}
		if flags &^= unix.O_DIRECT; on {
			flags |= unix.O_DIRECT
		}
		_, failed = unix.FcntlInt(fd, unix.F_SETFL, flags)
	})
	if err = errors.Join(err, failed); err != nil {
		return &os.PathError{Op: "fcntl", Path: f.Name(), Err: err}
	}
	return nil
}

package localfs

import (
	"context"
	"io"
	"io/fs"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// file is an open regular file. It does without os.File, which asks the kernel
// how each descriptor was opened and has the collector watch it: for a small
// file that is dear.
type file struct {
	name   string
	source session.Source
	opened unix.Statx_t // as it was at opening

	mu     sync.RWMutex // held while fd is used, so that Close cannot let another file take its number
	fd     int
	closed bool
}

// openFile opens a regular file to be read.
func (b *base) openFile(name string, source session.Source) (*file, error) {
	f := &file{name: name, source: source}
	var err error
	if f.fd, err = b.openRegular(name, unix.O_RDONLY|unix.O_NOATIME|unix.O_NOCTTY, &f.opened); err != nil {
		return nil, pathError("open", name, err)
	}
	return f, nil
}

// use uses the descriptor while it is certain not to be closed.
func (f *file) use(op string, fn func(fd int) error) error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.closed {
		return &fs.PathError{Op: op, Path: f.name, Err: fs.ErrClosed}
	}
	return pathError(op, f.name, fn(f.fd))
}

// ReadAt implements [io.ReaderAt].
func (f *file) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, &fs.PathError{Op: "read", Path: f.name, Err: fs.ErrInvalid}
	}
	end := false
	err = f.use("read", func(fd int) error {
		for n < len(p) && !end {
			// The kernel reads no more than this at once.
			got, err := unix.Pread(fd, p[n:min(len(p), n+1<<30)], off+int64(n))
			if err == unix.EINTR {
				continue
			}
			if err != nil {
				return err
			}
			n += got
			end = got == 0
		}
		return nil
	})
	if err == nil && end {
		err = io.EOF
	}
	return n, err
}

// Close closes the file, once those who use it have finished.
func (f *file) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return &fs.PathError{Op: "close", Path: f.name, Err: fs.ErrClosed}
	}
	f.closed = true
	return pathError("close", f.name, unix.Close(f.fd))
}

// Stat implements [session.File].
func (f *file) Stat(ctx context.Context) (session.Entry, error) {
	e, err := f.StatBare(ctx)
	if err != nil {
		return session.Entry{}, err
	}
	return f.full(e)
}

// Opened implements [session.BareFile].
func (f *file) Opened(ctx context.Context) (session.Entry, error) {
	if err := ctx.Err(); err != nil {
		return session.Entry{}, err
	}
	return f.full(f.entry(&f.opened))
}

// StatBare implements [session.BareFile].
func (f *file) StatBare(ctx context.Context) (session.Entry, error) {
	if err := ctx.Err(); err != nil {
		return session.Entry{}, err
	}
	var sx unix.Statx_t
	if err := f.use("describe", func(fd int) error { return statxFD(fd, &sx) }); err != nil {
		return session.Entry{}, err
	}
	return f.entry(&sx), nil
}

// entry is a bare entry.
func (f *file) entry(sx *unix.Statx_t) session.Entry {
	_, elem := splitName(f.name)
	e := entryOf(elem, sx)
	e.Source, e.Bare = f.source, true
	return e
}

// full fills in what a bare entry leaves out.
func (f *file) full(e session.Entry) (session.Entry, error) {
	err := f.use("describe", func(fd int) (err error) {
		e.XAttrs, err = listXAttrsFD(fd)
		return err
	})
	if err != nil {
		return session.Entry{}, err
	}
	e.Bare = false
	return e, nil
}

// Stream: there are no named streams here.
func (f *file) Stream(_ context.Context, name string) (io.ReadCloser, error) {
	return nil, vss.Errorf(vss.ErrNotSupported, "open stream "+name+" of", f.name, "files have no named streams on this system")
}

// Data asks the file system for the ranges that hold data; one that doesn't
// know gives the whole file.
func (f *file) Data(ctx context.Context) (ranges []vss.Range, err error) {
	err = f.use("find holes of", func(fd int) error {
		var sx unix.Statx_t
		if err := statxFD(fd, &sx); err != nil {
			return err
		}
		var err error
		ranges, err = dataRanges(ctx, fd, int64(sx.Size))
		return err
	})
	return ranges, err
}

func dataRanges(ctx context.Context, fd int, size int64) ([]vss.Range, error) {
	var ranges []vss.Range
	for pos := int64(0); pos < size; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		start, err := unix.Seek(fd, pos, unix.SEEK_DATA)
		if err == unix.ENXIO {
			break // nothing but a hole follows
		}
		if err == unix.EINVAL || err == unix.EOPNOTSUPP {
			start, err = pos, nil
		}
		if err != nil {
			return nil, err
		}
		if start >= size {
			break
		}
		end := size
		if len(ranges) < vss.MaxRanges-1 {
			if end, err = unix.Seek(fd, start, unix.SEEK_HOLE); err != nil {
				end = size // it shrank, or holes are unknown
			}
		}
		end = min(end, size)
		if end > start { // else it was punched out just now
			ranges = append(ranges, vss.Range{Offset: uint64(start), Length: uint64(end - start)})
		}
		pos = end
	}
	return ranges, nil
}

// statFile describes an open regular file.
func statFile(f *os.File, source session.Source) (session.Entry, error) {
	var e session.Entry
	err := control(f, func(fd int) error {
		var sx unix.Statx_t
		if err := statxFD(fd, &sx); err != nil {
			return err
		}
		_, elem := splitName(f.Name())
		e = entryOf(elem, &sx)
		e.Source = source
		var err error
		e.XAttrs, err = listXAttrsFD(fd)
		return err
	})
	if err != nil {
		return session.Entry{}, pathError("describe", f.Name(), err)
	}
	return e, nil
}

// control uses a file's descriptor while it is certain not to be closed.
func control(f *os.File, fn func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = fn(int(fd)) }); err != nil {
		return err
	}
	return inner
}

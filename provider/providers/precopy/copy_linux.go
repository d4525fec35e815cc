package precopy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

const (
	// compareAbove is the size from which a changed file is compared with
	// its earlier copy rather than copied again.
	compareAbove = 64 << 20
	blockSize    = 1 << 20
	// partSize is what is compared in one go of its own.
	partSize = 32 << 20
	// pieceSize is what is copied between two looks at the context.
	pieceSize = 16 << 20
)

// copier copies one file up to the size it had, so that one that grows for
// ever is done some time. If it shrinks meanwhile the copy has the new size.
type copier struct {
	ctx      context.Context
	src, dst *os.File
	size     int64
	written  atomic.Uint64
}

// whole copies everything but holes into an empty file.
func (c *copier) whole() (uint64, error) {
	err := c.eachData(0, c.size, func(from, to int64) error { return c.piecewise(from, to, c.transfer) })
	if err == nil {
		err = c.setSize()
	}
	return c.written.Load(), err
}

// difference makes an older copy equal, writing only what differs. It compares
// several parts at the same time: this is what holds programs still.
func (c *copier) difference() (uint64, error) {
	if err := c.setSize(); err != nil {
		return 0, err
	}
	g, ctx := errgroup.WithContext(c.ctx)
	c.ctx = ctx
	g.SetLimit(runtime.GOMAXPROCS(0))
	for from := int64(0); from < c.size; from += partSize {
		g.Go(func() error { return c.differencePart(from, min(from+partSize, c.size)) })
	}
	err := g.Wait()
	if err == nil {
		err = c.setSize()
	}
	return c.written.Load(), err
}

func (c *copier) differencePart(begin, end int64) error {
	at := begin
	err := c.eachData(begin, end, func(from, to int64) error {
		if err := c.clear(at, from); err != nil {
			return err
		}
		at = to
		return c.piecewise(from, to, c.compare)
	})
	if err != nil {
		return err
	}
	return c.clear(at, end)
}

func (c *copier) setSize() error {
	info, err := c.src.Stat()
	if err != nil {
		return err
	}
	return c.dst.Truncate(min(info.Size(), c.size))
}

// eachData calls fn for each part of a range of the source that is no hole.
func (c *copier) eachData(begin, end int64, fn func(from, to int64) error) error {
	fd := int(c.src.Fd())
	for off := begin; off < end; {
		from, err := unix.Seek(fd, off, unix.SEEK_DATA)
		if err == unix.ENXIO {
			return nil
		}
		var to int64
		if err == nil {
			to, err = unix.Seek(fd, from, unix.SEEK_HOLE)
		}
		if err == unix.EINVAL || err == unix.EOPNOTSUPP { // holes are not told
			from, to, err = off, end, nil
		}
		if err == unix.ENXIO { // it was truncated just now
			return nil
		}
		if err != nil {
			return &os.PathError{Op: "seek", Path: c.src.Name(), Err: err}
		}
		if to = min(to, end); from < to {
			if err := fn(from, to); err != nil {
				return err
			}
		}
		off = max(to, off+1)
	}
	return nil
}

// piecewise calls fn for parts of a range as long as the context lasts, and
// stops early at io.EOF.
func (c *copier) piecewise(from, to int64, fn func(from, to int64) error) error {
	for from < to {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		end := min(from+pieceSize, to)
		if err := fn(from, end); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		from = end
	}
	return nil
}

// transfer copies a range within the kernel, or where it cannot, by reading
// and writing.
func (c *copier) transfer(from, to int64) error {
	for from < to {
		r, w := from, from
		n, err := unix.CopyFileRange(int(c.src.Fd()), &r, int(c.dst.Fd()), &w, int(to-from), 0)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EXDEV || err == unix.EINVAL || err == unix.ENOSYS || err == unix.EOPNOTSUPP || err == unix.EPERM:
			return c.readWrite(from, to)
		case err != nil:
			return &os.PathError{Op: "copy", Path: c.src.Name(), Err: err}
		case n == 0:
			// Either the end, or a file system that answers nothing
			// instead of saying that it can't.
			return c.readWrite(from, to)
		}
		c.written.Add(uint64(n))
		from += int64(n)
	}
	return nil
}

var buffers = sync.Pool{New: func() any { b := make([]byte, 2*blockSize); return &b }}

func (c *copier) readWrite(from, to int64) error {
	return c.eachBlock(from, to, func(b, _ []byte, off int64) error { return c.write(b, off) })
}

func (c *copier) compare(from, to int64) error {
	return c.eachBlock(from, to, func(b, other []byte, off int64) error {
		n, err := c.dst.ReadAt(other[:len(b)], off)
		if err != nil && err != io.EOF {
			return err
		}
		if n == len(b) && bytes.Equal(b, other[:n]) {
			return nil
		}
		return c.write(b, off)
	})
}

// eachBlock reads a range of the source and gives fn each block with a buffer
// of its own size. It ends with io.EOF where the source does.
func (c *copier) eachBlock(from, to int64, fn func(b, other []byte, off int64) error) error {
	p := buffers.Get().(*[]byte)
	defer buffers.Put(p)
	b, other := (*p)[:blockSize], (*p)[blockSize:]
	for from < to {
		n, err := c.src.ReadAt(b[:min(blockSize, to-from)], from)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if n == 0 {
			return io.EOF
		}
		if err := fn(b[:n], other, from); err != nil {
			return err
		}
		from += int64(n)
	}
	return nil
}

func (c *copier) write(b []byte, off int64) error {
	n, err := c.dst.WriteAt(b, off)
	c.written.Add(uint64(n))
	return err
}

// clear makes a range of the copy a hole.
func (c *copier) clear(from, to int64) error {
	if from >= to {
		return nil
	}
	first, err := unix.Seek(int(c.dst.Fd()), from, unix.SEEK_DATA)
	if err == unix.ENXIO || err == nil && first >= to {
		return nil
	}
	err = unix.Fallocate(int(c.dst.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, from, to-from)
	if err != unix.EOPNOTSUPP {
		return err
	}
	return c.piecewise(from, to, func(from, to int64) error {
		zero := make([]byte, blockSize)
		for from < to {
			n := min(blockSize, to-from)
			if err := c.write(zero[:n], from); err != nil {
				return err
			}
			from += n
		}
		return nil
	})
}

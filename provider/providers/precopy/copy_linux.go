package precopy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/provider/staging"
)

const (
	// compareAbove is the size from which a changed file is compared with
	// its earlier copy rather than copied again.
	compareAbove = 64 << 20
	blockSize    = 1 << 20
	// pieceSize is what is copied between two looks at the context.
	pieceSize = 16 << 20
)

// copier copies one file up to the size it had, so that one that grows for
// ever is done some time. If it shrinks meanwhile the copy has the new size.
type copier struct {
	ctx      context.Context
	src, dst *os.File
	size     int64
	amount   staging.Amount
}

// whole copies everything but holes into an empty file.
func (c *copier) whole() (staging.Amount, error) {
	err := c.eachData(c.src, func(from, to int64) error { return c.piecewise(from, to, c.transfer) })
	if err == nil {
		err = c.setSize()
	}
	return c.amount, err
}

// difference makes an older copy equal, writing only what differs.
func (c *copier) difference() (staging.Amount, error) {
	if err := c.setSize(); err != nil {
		return c.amount, err
	}
	at := int64(0)
	err := c.eachData(c.src, func(from, to int64) error {
		if err := c.clear(at, from); err != nil {
			return err
		}
		at = to
		return c.piecewise(from, to, c.compare)
	})
	if err == nil {
		err = c.clear(at, c.size)
	}
	if err == nil {
		err = c.setSize()
	}
	return c.amount, err
}

func (c *copier) setSize() error {
	info, err := c.src.Stat()
	if err != nil {
		return err
	}
	return c.dst.Truncate(min(info.Size(), c.size))
}

// eachData calls fn for each range of a file that is no hole, up to the size.
func (c *copier) eachData(f *os.File, fn func(from, to int64) error) error {
	for off := int64(0); off < c.size; {
		from, err := unix.Seek(int(f.Fd()), off, unix.SEEK_DATA)
		if err == unix.ENXIO {
			return nil
		}
		var to int64
		if err == nil {
			to, err = unix.Seek(int(f.Fd()), from, unix.SEEK_HOLE)
		}
		if err == unix.EINVAL || err == unix.EOPNOTSUPP { // holes are not told
			from, to, err = off, c.size, nil
		}
		if err == unix.ENXIO { // it was truncated just now
			return nil
		}
		if err != nil {
			return &os.PathError{Op: "seek", Path: f.Name(), Err: err}
		}
		if to = min(to, c.size); from < to {
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
		c.amount.Bytes += uint64(n)
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
	c.amount.Bytes += uint64(n)
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

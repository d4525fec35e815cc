package extents

import (
	"context"
	"io"
	"math"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

const iocFiemap = 0xc020660b // FS_IOC_FIEMAP, _IOWR('f', 11, struct fiemap)

// Flags of <linux/fiemap.h>.
const (
	fiemapSync = 0x1 // of the request: write back first

	flagLast          = 0x1
	flagUnknown       = 0x2
	flagDelalloc      = 0x4
	flagEncoded       = 0x8
	flagDataEncrypted = 0x80
	flagNotAligned    = 0x100
	flagInline        = 0x200
	flagTail          = 0x400
	flagUnwritten     = 0x800
	flagMerged        = 0x1000
	flagShared        = 0x2000

	flagsKnown = flagLast | flagUnknown | flagDelalloc | flagEncoded | flagDataEncrypted | flagNotAligned | flagInline |
		flagTail | flagUnwritten | flagMerged | flagShared
)

// fiemapExtent is struct fiemap_extent.
type fiemapExtent struct {
	logical, physical, length uint64
	_                         [2]uint64
	flags                     uint32
	_                         [3]uint32
}

const fiemapBatch = 1024

// fiemapRequest is struct fiemap with its extents.
type fiemapRequest struct {
	start, length                uint64
	flags, mapped, count, unused uint32
	extents                      [fiemapBatch]fiemapExtent
}

var _ [32 + fiemapBatch*56]byte = [unsafe.Sizeof(fiemapRequest{})]byte{}

// fiemap lists extents as the kernel tells any user.
type fiemap struct {
	file *os.File
	req  fiemapRequest
	used uint32
	end  bool
}

func newFiemap(f *os.File) *fiemap { return &fiemap{file: f} }

func (m *fiemap) next(ctx context.Context) (extent, error) {
	for m.used == m.req.mapped {
		if m.end {
			return extent{}, io.EOF
		}
		if err := m.more(ctx); err != nil {
			return extent{}, err
		}
	}
	x := &m.req.extents[m.used]
	m.used++
	return fiemapPart(x)
}

func (m *fiemap) more(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	start := uint64(0)
	if m.req.mapped > 0 {
		last := &m.req.extents[m.req.mapped-1]
		start = last.logical + last.length
		if start <= m.req.start {
			return refuse("its map makes no sense: it does not go on at %d", start)
		}
	}
	m.req.start, m.req.length, m.req.flags, m.req.count, m.req.mapped, m.used = start, math.MaxUint64-start, 0, fiemapBatch, 0, 0
	if start == 0 {
		m.req.flags = fiemapSync
	}
	if err := ioctl(m.file, iocFiemap, &m.req); err != nil {
		return mapError("FS_IOC_FIEMAP", err)
	}
	if m.req.mapped > fiemapBatch {
		return refuse("the kernel gave %d extents where %d were asked for", m.req.mapped, fiemapBatch)
	}
	m.end = m.req.mapped == 0 || m.req.extents[m.req.mapped-1].flags&flagLast != 0
	return nil
}

// fiemapPart reads one extent.
func fiemapPart(x *fiemapExtent) (extent, error) {
	e := extent{offset: x.logical, length: x.length, place: x.physical}
	switch {
	case x.flags&^flagsKnown != 0:
		return e, refuse("the extent at %d has flags %#x, which this program does not know", x.logical, x.flags)
	case x.flags&(flagUnknown|flagDelalloc) != 0:
		return e, refuse("the data at %d has no place yet", x.logical)
	case x.flags&(flagInline|flagTail|flagNotAligned) != 0:
		e.kind = opaque
	case x.flags&(flagEncoded|flagDataEncrypted) != 0:
		return e, refuse("the data at %d is compressed or encrypted, and its place inside the block is told to root only, if at all", x.logical)
	case x.flags&flagUnwritten != 0:
		e.kind = zero
	}
	return e, nil
}

// flush writes back what is still to be written of a file, so that all of it
// has its place.
func flush(f *os.File) error {
	req := fiemapRequest{length: 1, flags: fiemapSync, count: 1}
	return mapError("FS_IOC_FIEMAP", ioctl(f, iocFiemap, &req))
}

// mapError says what the failure of listing extents means: that a file system
// does not tell is no fault.
func mapError(call string, err error) error {
	switch err {
	case nil:
		return nil
	case unix.EOPNOTSUPP, unix.ENOTTY, unix.EINVAL, unix.EBADR, unix.ENOSYS:
		return refuse("the file system does not tell: %s: %w", call, err)
	}
	return os.NewSyscallError(call, err)
}

// ioctl performs a request whose argument is a *T of the matching structure.
func ioctl[T any](f *os.File, request uintptr, arg *T) error {
	for {
		_, _, e := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(unsafe.Pointer(arg)))
		runtime.KeepAlive(arg)
		switch e {
		case 0:
			return nil
		case unix.EINTR:
		default:
			return e
		}
	}
}

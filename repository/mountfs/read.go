//go:build linux

package mountfs

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/sombra-backup/sombra/repository"
)

// handle is an open file.
type handle struct {
	node *node
	file *repository.File
	// end is where the last read ended: one that begins there is one of a
	// series, before which data is fetched.
	end atomic.Int64
	// ahead is up to where data has been fetched, fetching says that it is
	// being.
	ahead    atomic.Int64
	fetching atomic.Bool
}

// openFiles are the open files and what is being read of them.
type openFiles struct {
	mu      sync.Mutex
	last    uint64
	handles map[uint64]*handle
	flights map[flightKey]*flight
	// fetchers bounds how many fetch ahead at once.
	fetchers chan struct{}
}

// flightKey is a piece of a file.
type flightKey struct {
	node   uint64
	offset int64
}

// flight is a piece that is being read, perhaps for several.
type flight struct {
	done chan struct{}
	data []byte
	err  error
}

// How far ahead of a series of reads data is fetched, and by how many at once.
const (
	readAhead   = 4 << 20
	maxFetchers = 4
)

func (o *openFiles) init() {
	o.handles, o.flights = map[uint64]*handle{}, map[flightKey]*flight{}
	o.fetchers = make(chan struct{}, maxFetchers)
}

// Open opens a file for reading.
func (f *FS) Open(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	if in.Flags&(syscall.O_WRONLY|syscall.O_RDWR|syscall.O_TRUNC) != 0 {
		return fuse.EROFS
	}
	if in.NodeId>>slotShift == 0 {
		return fuse.Status(syscall.EISDIR)
	}
	ctx := f.request(cancel)
	n, errno := f.node(ctx, in.NodeId)
	if errno != 0 {
		return fuse.Status(errno)
	}
	switch {
	case n.isDir():
		return fuse.Status(syscall.EISDIR)
	case n.entry.Type == repository.Regular && n.entry.Size != n.entry.Content.Size():
		// Zeros would be a lie.
		return fuse.Status(f.failed(ctx, n, errors.New("its data is not in the backup")))
	}
	file, err := f.repo.OpenContent(f.ctx, n.entry.Content)
	if err != nil {
		return fuse.Status(f.failed(ctx, n, err))
	}
	f.files.mu.Lock()
	defer f.files.mu.Unlock()
	f.files.last++
	f.files.handles[f.files.last] = &handle{node: n, file: file}
	out.Fh, out.OpenFlags = f.files.last, fuse.FOPEN_KEEP_CACHE
	return fuse.OK
}

// Release closes a file.
func (f *FS) Release(_ <-chan struct{}, in *fuse.ReleaseIn) {
	f.files.mu.Lock()
	defer f.files.mu.Unlock()
	delete(f.files.handles, in.Fh)
}

func (f *FS) handle(fh uint64) *handle {
	f.files.mu.Lock()
	defer f.files.mu.Unlock()
	return f.files.handles[fh]
}

// Read reads. It gives all that was asked for up to the file's end, or an error:
// the kernel takes anything else for the end, and zeros for what is missing.
func (f *FS) Read(cancel <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	h := f.handle(in.Fh)
	if h == nil {
		return nil, fuse.EBADF
	}
	ctx := f.request(cancel)
	offset := int64(in.Offset)
	if offset < 0 || offset >= h.file.Size() {
		return fuse.ReadResultData(nil), fuse.OK
	}
	want := int(min(int64(len(buf)), int64(in.Size), h.file.Size()-offset))
	if h.end.Swap(offset+int64(want)) == offset || offset == 0 {
		f.fetch(h, offset+int64(want))
	}
	for n := 0; n < want; {
		p, err := h.file.PieceAt(ctx, offset+int64(n))
		var data []byte
		if err == nil {
			data, err = f.piece(ctx, h, p)
		}
		if err != nil {
			return nil, fuse.Status(f.failed(ctx, h.node, err))
		}
		take := int(min(p.Length, int64(want-n)))
		switch {
		case p.Hole:
			clear(buf[n : n+take])
		case take == want:
			return fuse.ReadResultData(data[:take:take]), fuse.OK
		default:
			copy(buf[n:], data[:take])
		}
		n += take
	}
	return fuse.ReadResultData(buf[:want]), fuse.OK
}

// piece reads a piece. Who asks for one that is being read waits for it instead
// of decoding it again.
func (f *FS) piece(ctx context.Context, h *handle, p repository.Piece) ([]byte, error) {
	if p.Hole {
		return nil, nil
	}
	// What the piece ends with is the same wherever in it one begins.
	key := flightKey{h.node.id, p.End()}
	f.files.mu.Lock()
	fl := f.files.flights[key]
	if fl == nil {
		fl = &flight{done: make(chan struct{})}
		f.files.flights[key] = fl
		f.files.mu.Unlock()
		began := time.Now()
		if fl.data, fl.err = p.Data(f.ctx); fl.err != nil && f.renew(fl.err, began) {
			fl.data, fl.err = p.Data(f.ctx)
		}
		f.files.mu.Lock()
		delete(f.files.flights, key)
		f.files.mu.Unlock()
		close(fl.done)
		return fl.data, fl.err
	}
	f.files.mu.Unlock()
	select {
	case <-fl.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if fl.err != nil || int64(len(fl.data)) < p.Length {
		return p.Data(ctx) // of a piece that began later
	}
	return fl.data[int64(len(fl.data))-p.Length:], nil
}

// fetch reads what comes after a series of reads, so that it is decoded when it
// is asked for.
func (f *FS) fetch(h *handle, from int64) {
	to := min(from+readAhead, h.file.Size())
	if h.ahead.Load() >= min(from+readAhead/2, h.file.Size()) || !h.fetching.CompareAndSwap(false, true) {
		return
	}
	select {
	case f.files.fetchers <- struct{}{}:
	default:
		h.fetching.Store(false)
		return
	}
	go func() {
		defer func() {
			<-f.files.fetchers
			h.fetching.Store(false)
		}()
		for at := max(from, h.ahead.Load()); at < to; {
			p, err := h.file.PieceAt(f.ctx, at)
			if err == nil {
				_, err = f.piece(f.ctx, h, p)
			}
			if err != nil {
				return // whoever reads there will be told
			}
			at = p.End()
			h.ahead.Store(at)
		}
	}()
}

// The words of lseek(2).
const (
	seekData = 3
	seekHole = 4
)

// Lseek finds data and holes.
func (f *FS) Lseek(cancel <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	h := f.handle(in.Fh)
	if h == nil {
		return fuse.EBADF
	}
	ctx := f.request(cancel)
	var at int64
	var err error
	switch in.Whence {
	case seekData:
		at, err = h.file.NextData(ctx, int64(in.Offset))
	case seekHole:
		at, err = h.file.NextHole(ctx, int64(in.Offset))
	default:
		return fuse.EINVAL
	}
	switch {
	case err == io.EOF:
		return fuse.Status(syscall.ENXIO)
	case errors.Is(err, repository.ErrInvalid):
		return fuse.EINVAL
	case err != nil:
		return fuse.Status(f.failed(ctx, h.node, err))
	}
	out.Offset = uint64(at)
	return fuse.OK
}

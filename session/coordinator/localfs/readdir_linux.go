package localfs

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/session"
)

// dirNames are the names in a directory, sorted, in one block of memory: some
// directories have millions.
type dirNames struct {
	text strings.Builder
	refs []nameRef
}

type nameRef struct {
	off int
	len int
}

func (d *dirNames) at(i int) string { return d.name(d.refs[i]) }

func (d *dirNames) name(r nameRef) string { return d.text.String()[r.off : r.off+r.len] }

// listBuffers hold what is read of directories: on the stack of a goroutine for each
// directory they would cost it several times as much.
var listBuffers = sync.Pool{New: func() any { return new([64 << 10]byte) }}

// readNames reads the names in a directory but those that skip takes out.
func readNames(ctx context.Context, fd int, skip string) (*dirNames, error) {
	d := &dirNames{}
	block := listBuffers.Get().(*[64 << 10]byte)
	defer listBuffers.Put(block)
	buf := block[:]
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		n, err := unix.Getdents(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		if n <= 0 {
			break
		}
		if err := d.add(buf[:n], skip); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(d.refs, func(a, b nameRef) int { return strings.Compare(d.name(a), d.name(b)) })
	// A name that was renamed away and back while being read comes twice.
	d.refs = slices.CompactFunc(d.refs, func(a, b nameRef) bool { return d.name(a) == d.name(b) })
	return d, nil
}

var errDirent = errors.New("the kernel gave a malformed directory entry")

// add takes over the names of one block of struct linux_dirent64.
func (d *dirNames) add(block []byte, skip string) error {
	const nameOffset = 19
	for len(block) > 0 {
		if len(block) < nameOffset {
			return errDirent
		}
		size := int(binary.NativeEndian.Uint16(block[16:]))
		if size < nameOffset || size > len(block) {
			return errDirent
		}
		name, _, _ := bytes.Cut(block[nameOffset:size], []byte{0})
		block = block[size:]
		switch string(name) {
		case "", ".", "..":
			continue
		}
		if skip != "" && string(name) == skip {
			continue
		}
		d.refs = append(d.refs, nameRef{d.text.Len(), len(name)})
		d.text.Write(name)
	}
	return nil
}

// batchSize is how many objects are described at once; smaller batches than
// batchAlone are not worth a second goroutine.
const (
	batchSize  = 512
	batchAlone = 32
)

type described struct {
	entry session.Entry
	err   error
}

// describe calls fn for each name, in order. Batches are described by several
// goroutines, one batch ahead of fn.
func (d *dirNames) describe(ctx context.Context, one func(name string) (session.Entry, error), fn func(session.Entry, error) error) error {
	var buffers [2][]described
	start := func(i int) (func() []described, int) {
		end := min(i+batchSize, len(d.refs))
		if end == i {
			return nil, i
		}
		which := &buffers[i/batchSize%2]
		*which = slices.Grow((*which)[:0], end-i)[:end-i]
		return d.batch(i, *which, one), end
	}
	wait, end := start(0)
	for wait != nil {
		list := wait()
		wait, end = start(end)
		for i := range list {
			err := ctx.Err()
			if err == nil && list[i].err != unix.ENOENT {
				err = fn(list[i].entry, list[i].err)
			}
			if err != nil {
				if wait != nil {
					wait() // they use the directory's descriptor
				}
				return err
			}
		}
	}
	return nil
}

// batch begins describing len(out) names from i on.
func (d *dirNames) batch(i int, out []described, one func(string) (session.Entry, error)) (wait func() []described) {
	part := func(from, to int) {
		for k := from; k < to; k++ {
			out[k].entry, out[k].err = one(d.at(i + k))
		}
	}
	if len(d.refs) <= batchAlone {
		return func() []described { part(0, len(out)); return out }
	}
	workers := min(4, runtime.GOMAXPROCS(0), (len(out)+batchAlone-1)/batchAlone)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() { part(len(out)*w/workers, len(out)*(w+1)/workers) })
	}
	return func() []described { wg.Wait(); return out }
}

// listing says how a directory is listed: at is what it is called below the base,
// name what its caller calls it, skip a name that is left out.
type listing struct {
	at, name, skip string
	source         session.Source
	bare           bool
}

// readDir lists a directory.
func (b *base) readDir(ctx context.Context, l listing, fn func(session.Entry, error) error) error {
	at, name, skip := l.at, l.name, l.skip
	fd, err := b.openList(at)
	if err != nil {
		return pathError("read directory", name, err)
	}
	defer unix.Close(fd)
	names, err := readNames(ctx, fd, skip)
	if err != nil {
		return pathError("read directory", name, err)
	}
	proc := procPath(fd)
	one := func(elem string) (session.Entry, error) {
		e, err := b.describe(fd, proc, elem, l.source, l.bare)
		switch {
		case err == nil:
			return e, nil
		case errors.Is(err, unix.ENOENT): // at whichever step it vanished
			return e, unix.ENOENT
		}
		return e, pathError("describe", join(name, elem), err)
	}
	return names.describe(ctx, one, fn)
}

func join(dir, elem string) string {
	if dir == "." {
		return elem
	}
	return dir + "/" + elem
}

// openList opens a directory to list it, without leaving a trace where that is
// allowed.
func (b *base) openList(name string) (int, error) {
	fd, err := b.open(name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOATIME)
	if err == unix.EPERM {
		fd, err = b.open(name, unix.O_RDONLY|unix.O_DIRECTORY)
	}
	return fd, err
}

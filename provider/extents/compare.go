package extents

import (
	"context"
	"encoding/binary"
	"hash"
	"hash/fnv"
	"io"
	"math"

	"github.com/sombra-backup/sombra/vss"
)

// kind is what a part of a file is made of.
type kind uint8

const (
	// data lies at a known place.
	data kind = iota
	// zero reads as zeros: allocated and not written.
	zero
	// opaque is data that has no place to be compared.
	opaque
)

// extent is a part of a file. What no extent covers is a hole.
type extent struct {
	offset, length uint64
	kind           kind
	// place is where the first byte lies. If encoding is not zero it is where
	// the encoded block begins, and inner is the first byte's offset in what the
	// block decodes to.
	place, inner uint64
	encoding     uint8
}

func (e *extent) end() uint64 { return e.offset + e.length }

// extents gives the extents of a file in order, io.EOF after the last.
type extents interface {
	next(ctx context.Context) (extent, error)
}

// Options bound a comparison. The zero value has the defaults.
type Options struct {
	// MaxExtents is how many extents a file may have; more are refused.
	// Default 16 million, which take some ten seconds to list.
	MaxExtents int
	// MaxRanges is how many ranges are told; where there are more, those near
	// each other are told as one. Default half a million.
	MaxRanges int
}

const (
	defaultExtents = 1 << 24
	defaultRanges  = 1 << 19
)

func (o Options) withDefaults() Options {
	if o.MaxExtents <= 0 {
		o.MaxExtents = defaultExtents
	}
	if o.MaxRanges <= 0 {
		o.MaxRanges = defaultRanges
	}
	return o
}

// compareHeld compares, and lists the extents of the base once more: as long as
// it had its blocks while the other file's were listed, none of them can have
// been given to other data in between.
func compareHeld(ctx context.Context, base func() extents, now extents, oldSize, newSize uint64, o Options) (vss.Ranges, error) {
	before := note(base(), o.MaxExtents)
	ranges, err := compare(ctx, before, note(now, o.MaxExtents), oldSize, newSize, o.MaxRanges)
	if err != nil {
		return nil, err
	}
	after := note(base(), o.MaxExtents)
	if err := (&walker{from: after}).drain(ctx); err != nil {
		return nil, err
	}
	if before.sum() != after.sum() {
		return nil, refuse("its extents were moved meanwhile")
	}
	return ranges, nil
}

// compare gives the ranges of a file of the size newSize that differ from one
// of oldSize.
func compare(ctx context.Context, old, now extents, oldSize, newSize uint64, maxRanges int) (vss.Ranges, error) {
	out := collector{max: maxRanges}
	a, b := walker{from: old}, walker{from: now}
	both := min(oldSize, newSize)
	for at := uint64(0); at < both; {
		x, err := a.at(ctx, at, both)
		if err != nil {
			return nil, err
		}
		y, err := b.at(ctx, at, both)
		if err != nil {
			return nil, err
		}
		n := min(x.length, y.length)
		if !same(&x, &y) {
			out.add(at, n)
		}
		at += n
	}
	if newSize > oldSize {
		out.add(oldSize, newSize-oldSize)
	}
	// What lies past the end is listed too: the map as a whole is what is
	// compared when it is listed again.
	return out.ranges, a.drain(ctx)
}

// same reports whether two parts begin with the same byte and go on alike.
func same(x, y *extent) bool {
	switch {
	case x.kind == opaque || y.kind == opaque:
		return false
	case x.kind == zero || y.kind == zero:
		return x.kind == y.kind
	}
	return x.encoding == y.encoding && x.place == y.place && x.inner == y.inner
}

// walker gives the part of a file at an offset, holes as zeros.
type walker struct {
	from extents
	cur  extent
	last uint64 // where the extent before cur ended
	done bool
}

// at gives the part that begins at the offset and ends at limit at the latest.
// Offsets must not decrease.
func (w *walker) at(ctx context.Context, off, limit uint64) (extent, error) {
	for !w.done && w.cur.end() <= off {
		e, err := w.from.next(ctx)
		if err == io.EOF {
			w.done = true
			break
		}
		if err != nil {
			return extent{}, err
		}
		if e.length == 0 || e.offset < w.last || e.length > 1<<63-1 || e.offset > 1<<63-1 {
			return extent{}, refuse("its map makes no sense: %d bytes at %d after %d", e.length, e.offset, w.last)
		}
		w.cur, w.last = e, e.end()
	}
	if w.done || w.cur.offset >= limit {
		return extent{offset: off, length: limit - off, kind: zero}, nil
	}
	if off < w.cur.offset {
		return extent{offset: off, length: w.cur.offset - off, kind: zero}, nil
	}
	return w.cur.from(off, limit), nil
}

// from is the part of an extent between two offsets, the first in it.
func (e extent) from(off, limit uint64) extent {
	skip := off - e.offset
	if e.encoding == 0 {
		e.place += skip
	} else {
		e.inner += skip
	}
	e.offset, e.length = off, min(e.length-skip, limit-off)
	return e
}

// drain lists what is left.
func (w *walker) drain(ctx context.Context) error {
	for !w.done {
		_, err := w.from.next(ctx)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// collector joins ranges that touch, and when there are too many those that lie
// near each other.
type collector struct {
	ranges vss.Ranges
	max    int
	gap    uint64 // ranges this near each other are one
}

func (c *collector) add(off, length uint64) {
	if n := len(c.ranges); n > 0 && off-c.ranges[n-1].End() <= c.gap {
		c.ranges[n-1].Length = off + length - c.ranges[n-1].Offset
		return
	}
	if len(c.ranges) < c.max {
		c.ranges = append(c.ranges, vss.Range{Offset: off, Length: length})
		return
	}
	c.coarsen()
	c.add(off, length)
}

// coarsen joins until at least an eighth of the room is free.
func (c *collector) coarsen() {
	for len(c.ranges) > c.max-max(c.max/8, 1) {
		c.gap = max(c.gap*2, 4096)
		n := 0
		for _, r := range c.ranges[1:] {
			if r.Offset-c.ranges[n].End() <= c.gap {
				c.ranges[n].Length = r.End() - c.ranges[n].Offset
				continue
			}
			n++
			c.ranges[n] = r
		}
		c.ranges = c.ranges[:n+1]
	}
}

// noted passes extents on, counts them and takes a sum of them all. What goes on
// where the one before ended counts as one with it: the kernel may list it as
// one or as several, for example by who else shares it.
type noted struct {
	from  extents
	max   int
	count int
	run   extent
	hash  hash.Hash64
}

func note(from extents, max int) *noted { return &noted{from: from, max: max, hash: fnv.New64a()} }

func (n *noted) next(ctx context.Context) (extent, error) {
	e, err := n.from.next(ctx)
	if err != nil {
		return e, err
	}
	if n.count++; n.count > n.max {
		return e, refuse("it has more than %d extents", n.max)
	}
	if on := n.run.from(n.run.end(), math.MaxUint64); n.count > 1 && e.offset == on.offset && same(&e, &on) {
		n.run.length += e.length
		return e, nil
	}
	n.take()
	n.run = e
	return e, nil
}

// take adds the run to the sum.
func (n *noted) take() {
	var b [34]byte
	binary.LittleEndian.PutUint64(b[0:], n.run.offset)
	binary.LittleEndian.PutUint64(b[8:], n.run.length)
	if n.run.kind == data {
		binary.LittleEndian.PutUint64(b[16:], n.run.place)
		binary.LittleEndian.PutUint64(b[24:], n.run.inner)
	}
	b[32], b[33] = byte(n.run.kind), n.run.encoding
	n.hash.Write(b[:])
}

// sum is that of all extents so far.
func (n *noted) sum() uint64 {
	n.take()
	n.run = extent{offset: math.MaxUint64}
	return n.hash.Sum64()
}

// refuse says why nothing can be vouched for.
func refuse(format string, args ...any) error {
	return vss.Errorf(vss.ErrNotSupported, "compare extents", "", format, args...)
}

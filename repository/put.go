package repository

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
)

// The memory that content is read into: a small file needs little, a large
// one is read in long strokes.
const (
	smallBuffer = 512 << 10
	largeBuffer = maxChunk + 1<<20
)

// A file of at least aheadSize bytes is read and cut while the chunks before
// are named and handed on: up to chunksAhead of them, so that one large file
// alone keeps several processors busy.
const (
	aheadSize   = 16 << 20
	chunksAhead = 3
)

var (
	smallBuffers = sync.Pool{New: func() any { return new([smallBuffer]byte) }}
	largeBuffers = sync.Pool{New: func() any { return new([largeBuffer]byte) }}
)

// eachChunk cuts what fill reads, of about size bytes, stores the chunks and
// gives them to f in order.
func (b *Backup) eachChunk(ctx context.Context, kind objectKind, size int64, fill func(p []byte) (int, error), f func(chunkRef) error) error {
	var buf []byte
	if size < smallBuffer && b.r.chunking.Max < smallBuffer || size <= int64(b.r.chunking.Min) && size < smallBuffer {
		small := smallBuffers.Get().(*[smallBuffer]byte)
		defer smallBuffers.Put(small)
		buf = small[:]
	} else {
		large := largeBuffers.Get().(*[largeBuffer]byte)
		defer largeBuffers.Put(large)
		buf = large[:]
	}
	c := newChunker(&b.r.keys.gear, b.r.chunking, buf, func(p []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		n, err := fill(p)
		b.read.Add(int64(n))
		return n, err
	})
	if size >= aheadSize {
		return b.eachAhead(ctx, kind, c, f)
	}
	return b.eachInTurn(ctx, kind, c, f)
}

// eachInTurn cuts a chunk, stores it, and then cuts the next.
func (b *Backup) eachInTurn(ctx context.Context, kind objectKind, c *chunker, f func(chunkRef) error) error {
	for {
		data, err := c.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		id, err := b.putChunk(ctx, kind, data)
		if err != nil {
			return err
		}
		if err := f(chunkRef{id, uint32(len(data))}); err != nil {
			return err
		}
	}
}

// PutFile stores a new file. Only src.Data is read. If the source ends before
// src.Size the error wraps ErrSourceChanged; other errors of the source are
// returned as they are, with the offset.
func (b *Backup) PutFile(ctx context.Context, src Source) (Content, error) {
	if err := b.enter(ctx); err != nil {
		return Content{}, err
	}
	defer b.leave()
	return b.putFile(ctx, src)
}

func (b *Backup) putFile(ctx context.Context, src Source) (Content, error) {
	if src.At != nil && src.Data == nil && src.Size > 0 && src.Size <= min(int64(b.r.chunking.Min), smallBuffer) {
		return b.putSmall(ctx, src)
	}
	plan, err := planRanges(src, 0, nil)
	if err != nil {
		return Content{}, err
	}
	if !b.r.keepsPrints(src) {
		return b.putPlan(ctx, src, plan, holeReader(src.Size))
	}
	prints := b.r.newPrints(src, blockLength(src.Size))
	defer prints.drop()
	src.At = prints
	c, err := b.putPlan(ctx, src, plan, holeReader(src.Size))
	if err == nil {
		prints.keep(c)
	}
	return c, err
}

// putSmall stores a file that is one chunk wherever it would be cut.
func (b *Backup) putSmall(ctx context.Context, src Source) (Content, error) {
	small := smallBuffers.Get().(*[smallBuffer]byte)
	defer smallBuffers.Put(small)
	data := small[:src.Size]
	n, err := src.At.ReadAt(data, 0)
	b.read.Add(int64(n))
	if n < len(data) {
		return Content{}, src.endsEarly(int64(n), err)
	}
	id, err := b.putChunk(ctx, kindDataPack, data)
	if err != nil {
		return Content{}, err
	}
	top := listNode{refs: []chunkRef{{id, uint32(n)}}, extents: []extent{{src.Size, 1, 0}}}
	return Content{size: src.Size, top: top}, nil
}

// endsEarly says why a source gave less than it should, before the offset at.
func (s *Source) endsEarly(at int64, err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: it ends at %d of %d bytes", ErrSourceChanged, at, s.Size)
	}
	return fmt.Errorf("read source at %d: %w", at, err)
}

// PutStream stores what the reader gives until io.EOF, whatever its length.
func (b *Backup) PutStream(ctx context.Context, rd io.Reader) (Content, error) {
	if err := b.enter(ctx); err != nil {
		return Content{}, err
	}
	defer b.leave()
	return b.putStream(ctx, kindDataPack, largeBuffer, rd)
}

// PutBytes stores a document. Documents lie with the file tables, apart from
// the data of files: packs of the prefix meta/ are enough to read them. They
// share no frame with tables and extent lists, which are readable whatever
// happens to them, if they are put after all files.
func (b *Backup) PutBytes(ctx context.Context, data []byte) (Content, error) {
	if err := b.enter(ctx); err != nil {
		return Content{}, err
	}
	defer b.leave()
	if !b.documents.Swap(true) {
		if err := b.pipe.flush(kindMetaPack); err != nil {
			return Content{}, err
		}
	}
	return b.putStream(ctx, kindMetaPack, int64(len(data)), &bytesReader{data})
}

// bytesReader reads a slice. Unlike bytes.Reader it says io.EOF with the last
// bytes, which saves a call.
type bytesReader struct{ left []byte }

func (r *bytesReader) Read(p []byte) (int, error) {
	n := copy(p, r.left)
	if r.left = r.left[n:]; len(r.left) == 0 {
		return n, io.EOF
	}
	return n, nil
}

func (b *Backup) putStream(ctx context.Context, kind objectKind, size int64, rd io.Reader) (Content, error) {
	w := newListWriter(b)
	empty := 0
	fill := func(p []byte) (int, error) {
		n, err := rd.Read(p)
		if n > 0 {
			empty = 0
		} else if empty++; err == nil && empty > 100 {
			err = io.ErrNoProgress
		}
		return n, err
	}
	err := b.eachChunk(ctx, kind, size, fill, func(c chunkRef) error { return w.data(ctx, c, 0, c.length) })
	if err != nil {
		return Content{}, err
	}
	return w.finish(ctx)
}

// putPlan makes a file of the ranges that are planned to be new and, for all
// others, of the extents that base gives.
func (b *Backup) putPlan(ctx context.Context, src Source, plan []plannedRange, base *extentReader) (Content, error) {
	m := &merger{w: newListWriter(b), plan: plan, base: base}
	rd := &planReader{src: src, plan: plan}
	var size int64
	for _, p := range plan {
		if !p.hole {
			size += p.Length
		}
	}
	err := b.eachChunk(ctx, kindDataPack, size, rd.read, func(c chunkRef) error { return m.chunk(ctx, c) })
	if err != nil {
		return Content{}, err
	}
	if err := m.end(ctx, src.Size); err != nil {
		return Content{}, err
	}
	return m.w.finish(ctx)
}

// plannedRange is a range of a file that is read anew, or known to be a hole.
type plannedRange struct {
	Range
	hole bool
}

// planRanges says what of the source is read: the changed ranges, and all
// that lies past the end of the base, as far as it is data. For a file without
// a base, whose unchanged rest is one hole, baseSize is zero and changed nil.
func planRanges(src Source, baseSize int64, changed []Range) ([]plannedRange, error) {
	if src.At == nil || src.Size < 0 {
		return nil, invalidf("a source of %d bytes", src.Size)
	}
	changed, err := normalRanges(append(slices.Clone(changed), Range{min(baseSize, src.Size), src.Size - min(baseSize, src.Size)}), src.Size)
	if err != nil {
		return nil, err
	}
	data := []Range{{0, src.Size}}
	if src.Data != nil {
		if data, err = normalRanges(src.Data, src.Size); err != nil {
			return nil, err
		}
	}
	var plan []plannedRange
	for _, c := range changed {
		// Data ranges that end before c are of no more use.
		for len(data) > 0 && data[0].End() <= c.Offset {
			data = data[1:]
		}
		at := c.Offset
		for i := 0; at < c.End(); i++ {
			if i == len(data) || data[i].Offset >= c.End() {
				plan = append(plan, plannedRange{Range{at, c.End() - at}, true})
				break
			}
			if data[i].Offset > at {
				plan = append(plan, plannedRange{Range{at, data[i].Offset - at}, true})
				at = data[i].Offset
			}
			end := min(data[i].End(), c.End())
			plan = append(plan, plannedRange{Range{at, end - at}, false})
			at = end
		}
	}
	return plan, nil
}

// planReader reads the planned data ranges as one stream.
type planReader struct {
	src  Source
	plan []plannedRange
	// done is how much of plan[0] was read.
	done int64
}

func (r *planReader) read(p []byte) (n int, err error) {
	for n < len(p) {
		for len(r.plan) > 0 && (r.plan[0].hole || r.done == r.plan[0].Length) {
			r.plan, r.done = r.plan[1:], 0
		}
		if len(r.plan) == 0 {
			return n, io.EOF
		}
		at := r.plan[0].Offset + r.done
		want := int(min(int64(len(p)-n), r.plan[0].Length-r.done))
		got, err := r.src.At.ReadAt(p[n:n+want], at)
		n += got
		r.done += int64(got)
		if got < want {
			return n, r.src.endsEarly(at+int64(got), err)
		}
	}
	return n, nil
}

// merger makes the extents of a file from new chunks and the base's extents.
type merger struct {
	w    *listWriter
	plan []plannedRange
	// done is how much of plan[0] is in the list.
	done int64
	base *extentReader
}

// chunk takes in the next new chunk, which may hold the bytes of many ranges.
func (m *merger) chunk(ctx context.Context, c chunkRef) error {
	for offset := uint32(0); offset < c.length; {
		if err := m.holes(ctx); err != nil {
			return err
		}
		if err := m.upTo(ctx, m.plan[0].Offset+m.done); err != nil {
			return err
		}
		n := uint32(min(int64(c.length-offset), m.plan[0].Length-m.done))
		if err := m.w.data(ctx, c, offset, n); err != nil {
			return err
		}
		offset += n
		m.done += int64(n)
	}
	return nil
}

// holes takes in the planned holes before the next planned data.
func (m *merger) holes(ctx context.Context) error {
	for len(m.plan) > 0 && (m.plan[0].hole || m.done == m.plan[0].Length) {
		if p := m.plan[0]; p.hole {
			if err := m.upTo(ctx, p.Offset); err != nil {
				return err
			}
			m.w.hole(p.Length)
		}
		m.plan, m.done = m.plan[1:], 0
	}
	return nil
}

// upTo copies the base's extents from where the list ends to the offset.
func (m *merger) upTo(ctx context.Context, offset int64) error {
	if m.w.size == offset {
		return nil
	}
	return m.base.between(ctx, m.w.size, offset, func(p piece) error {
		if p.hole {
			m.w.hole(p.length)
			return nil
		}
		return m.w.data(ctx, p.chunk, p.offset, uint32(p.length))
	})
}

// end takes in what is left.
func (m *merger) end(ctx context.Context, size int64) error {
	if err := m.holes(ctx); err != nil {
		return err
	}
	if err := m.upTo(ctx, size); err != nil {
		return err
	}
	if m.w.size != size || len(m.plan) > 0 {
		return damagef("a file of %d bytes came out with %d", size, m.w.size)
	}
	return nil
}

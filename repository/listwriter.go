package repository

import (
	"context"
	"encoding/binary"
)

// The sizes of extent lists. A top node of at most inlineRefs references
// stands in the entry; blocks are cut where the content says, between about
// minListBlock and maxListBlock bytes, so that unchanged stretches of a long
// list give the same blocks again.
const (
	inlineRefs    = 24
	inlineExtents = 64
	minListBlock  = 8 << 10
	avgListBlock  = 32 << 10
	maxListBlock  = 128 << 10
	// refCost and extentCost are about what either takes encoded.
	refCost    = 37
	extentCost = 9
)

// listWriter makes the extent list of one file, front to back, with memory
// for one block a level.
type listWriter struct {
	b      *Backup
	size   int64
	levels []*listLevel
}

// listLevel is the block being made on one level.
type listLevel struct {
	node listNode
	span int64
	cost int
	// place finds a chunk in node.refs, if there are more than a few.
	place map[ID]uint32
	// flushed says that blocks went before this one.
	flushed bool
}

func newListWriter(b *Backup) *listWriter {
	w := &listWriter{b: b}
	w.level(0)
	return w
}

func (w *listWriter) level(n int) *listLevel {
	for len(w.levels) <= n {
		w.levels = append(w.levels, &listLevel{node: listNode{level: len(w.levels)}})
	}
	return w.levels[n]
}

// hole appends a hole.
func (w *listWriter) hole(length int64) {
	if length == 0 {
		return
	}
	w.size += length
	l := w.levels[0]
	l.span += length
	if n := len(l.node.extents); n > 0 && l.node.extents[n-1].ref == 0 {
		l.node.extents[n-1].length += length
		return
	}
	l.node.extents = append(l.node.extents, extent{length: length})
	l.cost += extentCost
}

// data appends a piece of a chunk.
func (w *listWriter) data(ctx context.Context, c chunkRef, offset, length uint32) error {
	w.size += int64(length)
	l := w.levels[0]
	l.span += int64(length)
	cost := extentCost
	ref := l.find(c.id)
	if ref == 0 {
		ref = l.refer(c)
		cost += refCost
	}
	if n := len(l.node.extents); n > 0 {
		last := &l.node.extents[n-1]
		if last.ref == ref && int64(last.offset)+last.length == int64(offset) {
			last.length += int64(length)
			return nil
		}
	}
	l.node.extents = append(l.node.extents, extent{int64(length), ref, offset})
	if w.cut(l, cost, c.id, offset) {
		return w.flush(ctx, 0)
	}
	return nil
}

// fewRefs is how many chunks are looked through one by one: most files have one.
const fewRefs = 8

// find gives one more than the place of a chunk in node.refs, or zero.
func (l *listLevel) find(id ID) uint32 {
	if l.place != nil {
		return l.place[id]
	}
	for i := range l.node.refs {
		if l.node.refs[i].id == id {
			return uint32(i + 1)
		}
	}
	return 0
}

// refer appends a chunk to node.refs, and gives one more than its place.
func (l *listLevel) refer(c chunkRef) uint32 {
	l.node.refs = append(l.node.refs, c)
	n := uint32(len(l.node.refs))
	switch {
	case l.place != nil:
		l.place[c.id] = n
	case n > fewRefs:
		l.place = make(map[ID]uint32, 4*fewRefs)
		for i, r := range l.node.refs {
			l.place[r.id] = uint32(i + 1)
		}
	}
	return n
}

// cut counts the cost of what was added last, which refers to the chunk, and
// says whether the block ends after it. Ids are keyed hashes, as good as random.
func (w *listWriter) cut(l *listLevel, cost int, id ID, offset uint32) bool {
	l.cost += cost
	if l.cost < minListBlock {
		return false
	}
	if l.cost >= maxListBlock {
		return true
	}
	h := binary.LittleEndian.Uint32(id[IDSize-4:]) ^ offset*0x9e3779b1
	return uint64(h)*avgListBlock < uint64(cost)<<32
}

// flush stores the block of a level and refers to it from the level above.
func (w *listWriter) flush(ctx context.Context, level int) error {
	l := w.levels[level]
	block := format.marshal(l.node.wire())
	id, err := w.b.putChunk(ctx, kindMetaPack, block)
	if err != nil {
		return err
	}
	up := w.level(level + 1)
	up.node.refs = append(up.node.refs, chunkRef{id, uint32(len(block))})
	up.node.spans = append(up.node.spans, l.span)
	up.span += l.span
	*l = listLevel{node: listNode{level: level}, flushed: true}
	if w.cut(up, refCost+extentCost, id, 0) {
		return w.flush(ctx, level+1)
	}
	return nil
}

// finish gives the content.
func (w *listWriter) finish(ctx context.Context) (Content, error) {
	for level := 0; ; level++ {
		l := w.levels[level]
		if !l.flushed && len(l.node.refs) <= inlineRefs && len(l.node.extents) <= inlineExtents {
			return Content{size: w.size, top: l.node}, nil
		}
		if l.span == 0 {
			continue
		}
		if err := w.flush(ctx, level); err != nil {
			return Content{}, err
		}
	}
}

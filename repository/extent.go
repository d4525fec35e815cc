package repository

import (
	"math"
	"slices"
)

// extent is a stretch of a file: a hole, or a piece of a chunk.
type extent struct {
	// length is in bytes and never zero.
	length int64
	// ref is one more than the place of the chunk in a table beside the
	// extents, zero for a hole.
	ref uint32
	// offset is where the piece begins in the chunk.
	offset uint32
}

// chunkRef refers to a chunk. Its length is repeated here so that nothing has
// to be looked up, or believed, to know whether an extent fits.
type chunkRef struct {
	id     ID
	length uint32
}

// listNode is a node of a content's extent list: a tree whose leaves (level 0)
// hold extents and whose other nodes refer to blocks with nodes of the level
// below. The top node stands in the entry itself.
type listNode struct {
	level int
	refs  []chunkRef
	// extents are a leaf's.
	extents []extent
	// spans are the bytes of file that each block of an upper node covers.
	spans []int64
}

func (n *listNode) equal(m *listNode) bool {
	return n.level == m.level && slices.Equal(n.refs, m.refs) && slices.Equal(n.extents, m.extents) && slices.Equal(n.spans, m.spans)
}

// wireNode is a listNode as it is encoded.
type wireNode struct {
	Level   uint     `cbor:"1,keyasint,omitempty"`
	IDs     []byte   `cbor:"2,keyasint,omitempty"`
	Lengths []uint32 `cbor:"3,keyasint,omitempty"`
	// Extents has three numbers for each: length, ref, offset.
	Extents []uint64 `cbor:"4,keyasint,omitempty"`
	Spans   []uint64 `cbor:"5,keyasint,omitempty"`
}

// wireContent is a Content as it is encoded.
type wireContent struct {
	Size uint64   `cbor:"1,keyasint,omitempty"`
	Top  wireNode `cbor:"2,keyasint"`
}

func (n *listNode) wire() wireNode {
	w := wireNode{Level: uint(n.level)}
	for _, r := range n.refs {
		w.IDs = append(w.IDs, r.id[:]...)
		w.Lengths = append(w.Lengths, r.length)
	}
	for _, e := range n.extents {
		w.Extents = append(w.Extents, uint64(e.length), uint64(e.ref), uint64(e.offset))
	}
	for _, s := range n.spans {
		w.Spans = append(w.Spans, uint64(s))
	}
	return w
}

func (c Content) wire() *wireContent {
	return &wireContent{Size: uint64(c.size), Top: c.top.wire()}
}

// content checks what was read and makes it a Content.
func (w *wireContent) content() (Content, error) {
	if w == nil {
		return Content{}, nil
	}
	if w.Size > math.MaxInt64 {
		return Content{}, damagef("content of %d bytes", w.Size)
	}
	if w.Top.Level > maxDepth {
		return Content{}, damagef("an extent list of %d levels", w.Top.Level)
	}
	c := Content{size: int64(w.Size)}
	err := w.Top.node(&c.top, int(w.Top.Level), c.size)
	return c, err
}

// decodeNode reads a block of an extent list, which must have the given level
// and cover span bytes.
func decodeNode(block []byte, level int, span int64) (*listNode, error) {
	var w wireNode
	if err := format.unmarshal(block, &w); err != nil {
		return nil, err
	}
	n := &listNode{}
	return n, w.node(n, level, span)
}

// node checks what was read and fills in n.
func (w *wireNode) node(n *listNode, level int, span int64) error {
	if w.Level != uint(level) || len(w.IDs) != IDSize*len(w.Lengths) {
		return damagef("an extent list whose tables do not belong together")
	}
	n.level = level
	n.refs = make([]chunkRef, len(w.Lengths))
	for i, length := range w.Lengths {
		if length == 0 || length > maxChunk {
			return damagef("an extent list that refers to a chunk of %d bytes", length)
		}
		n.refs[i] = chunkRef{ID(w.IDs[i*IDSize:][:IDSize]), length}
	}
	if level > 0 {
		return w.upper(n, span)
	}
	return w.leaf(n, span)
}

// leaf checks and takes over the extents: they must cover span bytes exactly.
func (w *wireNode) leaf(n *listNode, span int64) error {
	if len(w.Extents)%3 != 0 || len(w.Spans) != 0 {
		return damagef("an extent list whose tables do not belong together")
	}
	n.extents = make([]extent, len(w.Extents)/3)
	left := uint64(span)
	for i := range n.extents {
		length, ref, offset := w.Extents[3*i], w.Extents[3*i+1], w.Extents[3*i+2]
		if length == 0 || length > left || ref > uint64(len(n.refs)) {
			return damagef("an extent of %d bytes where %d are left, of chunk %d of %d", length, left, ref, len(n.refs))
		}
		if ref == 0 && offset != 0 || ref > 0 && (length > maxChunk || offset > maxChunk || offset+length > uint64(n.refs[ref-1].length)) {
			return damagef("an extent of %d bytes at %d of its chunk does not fit", length, offset)
		}
		left -= length
		n.extents[i] = extent{int64(length), uint32(ref), uint32(offset)}
	}
	if left != 0 {
		return damagef("an extent list that ends %d bytes too early", left)
	}
	return nil
}

// upper checks and takes over the spans of the blocks below.
func (w *wireNode) upper(n *listNode, span int64) error {
	if len(w.Spans) != len(n.refs) || len(w.Extents) != 0 || len(n.refs) == 0 {
		return damagef("an extent list whose tables do not belong together")
	}
	n.spans = make([]int64, len(w.Spans))
	left := uint64(span)
	for i, s := range w.Spans {
		if s == 0 || s > left {
			return damagef("an extent list with a block of %d bytes where %d are left", s, left)
		}
		left -= s
		n.spans[i] = int64(s)
	}
	if left != 0 {
		return damagef("an extent list that ends %d bytes too early", left)
	}
	return nil
}

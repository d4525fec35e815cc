package repository

import (
	"bytes"
	"context"
	"math"
)

// ContentDifference says how two contents differ.
type ContentDifference struct {
	// Same says that both have the same bytes, whatever their extents.
	Same bool
	// Added counts the bytes of the second content that lie in chunks the first
	// has not where they differ; Removed those of the first that the second
	// has not. Holes have no bytes.
	Added, Removed int64
}

// CompareContents says in what two contents of this repository differ. Blocks
// of extent lists that both have at one offset are not read; data is read only
// where two contents of one size have other chunks at the same offset, and only
// up to the first byte that differs.
func (r *Repository) CompareContents(ctx context.Context, before, after Content) (ContentDifference, error) {
	if before.Equal(after) {
		return ContentDifference{Same: true}, nil
	}
	d := &contentDiff{
		r: r, a: newExtentCursor(r, before), b: newExtentCursor(r, after),
		same: before.size == after.size, chunksA: map[ID]int64{}, chunksB: map[ID]int64{},
	}
	if err := d.run(ctx); err != nil {
		return ContentDifference{}, err
	}
	result := ContentDifference{Same: d.same}
	if !d.same {
		result.Removed, result.Added = notIn(d.chunksA, d.chunksB), notIn(d.chunksB, d.chunksA)
	}
	return result, nil
}

// notIn adds up what the other does not have.
func notIn(chunks, other map[ID]int64) (sum int64) {
	for id, n := range chunks {
		if _, ok := other[id]; !ok {
			sum = min(sum, math.MaxInt64-n) + n
		}
	}
	return sum
}

// contentDiff is one comparison.
type contentDiff struct {
	r    *Repository
	a, b *extentCursor
	same bool
	// chunksA and chunksB are the bytes of each chunk where they differ.
	chunksA, chunksB map[ID]int64
}

func (d *contentDiff) run(ctx context.Context) error {
	for !d.a.done() || !d.b.done() {
		if err := ctx.Err(); err != nil {
			return err
		}
		switch {
		case d.a.done():
			if err := d.rest(ctx, d.b, d.chunksB); err != nil {
				return err
			}
		case d.b.done():
			if err := d.rest(ctx, d.a, d.chunksA); err != nil {
				return err
			}
		default:
			if err := d.step(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// rest counts what one content has after the other's end.
func (d *contentDiff) rest(ctx context.Context, c *extentCursor, chunks map[ID]int64) error {
	if i := c.item(); i.block {
		return c.open(ctx)
	}
	c.take(c.item().length, chunks)
	return nil
}

// step deals with what both have at one offset: two blocks, a block and a
// piece, or two pieces.
func (d *contentDiff) step(ctx context.Context) error {
	a, b := d.a.item(), d.b.item()
	if a.block && b.block && a.ref == b.ref && a.level == b.level && a.length == b.length {
		d.a.take(a.length, nil)
		d.b.take(b.length, nil)
		return nil
	}
	if a.block || b.block {
		la, lb := a.height(), b.height()
		if la >= lb {
			if err := d.a.open(ctx); err != nil {
				return err
			}
		}
		if lb >= la {
			return d.b.open(ctx)
		}
		return nil
	}
	n := min(a.length, b.length)
	if a.hole && b.hole || !a.hole && !b.hole && a.ref == b.ref && a.offset == b.offset {
		d.a.take(n, nil)
		d.b.take(n, nil)
		return nil
	}
	if d.same {
		var err error
		if d.same, err = d.sameBytes(ctx, a, b, n); err != nil {
			return err
		}
	}
	d.a.take(n, d.chunksA)
	d.b.take(n, d.chunksB)
	return nil
}

// sameBytes says whether two pieces begin with the same n bytes.
func (d *contentDiff) sameBytes(ctx context.Context, a, b *extentItem, n int64) (bool, error) {
	if !a.hole && !b.hole && a.ref.length == b.ref.length && n == int64(a.ref.length) {
		return false, nil // whole chunks of one length and other names
	}
	for at := int64(0); at < n; {
		pa, err := a.bytes(ctx, d.r, at, n)
		if err != nil {
			return false, err
		}
		pb, err := b.bytes(ctx, d.r, at, n)
		if err != nil {
			return false, err
		}
		m := min(len(pa), len(pb))
		if !bytes.Equal(pa[:m], pb[:m]) {
			return false, nil
		}
		at += int64(m)
	}
	return true, nil
}

// extentCursor goes through an extent list in order. What is next is a piece,
// or a block that may be opened or passed over.
type extentCursor struct {
	r *Repository
	// stack holds what is left of the blocks that are open, the topmost first.
	stack [][]extentItem
}

// extentItem is a piece of a file or a block of its extent list.
type extentItem struct {
	length int64
	hole   bool
	ref    chunkRef
	offset uint32
	block  bool
	level  int
}

// height orders items: blocks by level, above pieces.
func (i *extentItem) height() int {
	if !i.block {
		return -1
	}
	return i.level
}

// zeros stands for a hole's bytes.
var zeros [64 << 10]byte

// bytes gives some of the piece's bytes from an offset to another.
func (i *extentItem) bytes(ctx context.Context, r *Repository, from, to int64) ([]byte, error) {
	if i.hole {
		return zeros[:min(to-from, int64(len(zeros)))], nil
	}
	data, err := r.chunk(ctx, i.ref.id, i.ref.length)
	if err != nil {
		return nil, err
	}
	return data[int64(i.offset)+from : int64(i.offset)+to], nil
}

func newExtentCursor(r *Repository, c Content) *extentCursor {
	x := &extentCursor{r: r}
	if c.size > 0 {
		x.push(&c.top)
	}
	return x
}

// push puts the items of a node first.
func (c *extentCursor) push(n *listNode) {
	items := make([]extentItem, 0, len(n.extents)+len(n.spans))
	for _, e := range n.extents {
		i := extentItem{length: e.length, hole: e.ref == 0, offset: e.offset}
		if !i.hole {
			i.ref = n.refs[e.ref-1]
		}
		items = append(items, i)
	}
	for k, span := range n.spans {
		items = append(items, extentItem{length: span, ref: n.refs[k], block: true, level: n.level - 1})
	}
	c.stack = append(c.stack, items)
}

func (c *extentCursor) done() bool { return len(c.stack) == 0 }

// item is what is next.
func (c *extentCursor) item() *extentItem { return &c.stack[len(c.stack)-1][0] }

// take passes over the first n bytes of what is next, and notes them with their
// chunk, unless chunks is nil.
func (c *extentCursor) take(n int64, chunks map[ID]int64) {
	i := c.item()
	if chunks != nil && !i.hole {
		chunks[i.ref.id] = min(chunks[i.ref.id], math.MaxInt64-n) + n
	}
	i.length -= n
	i.offset += uint32(n)
	if i.length == 0 {
		c.drop()
	}
}

// drop takes away what is next.
func (c *extentCursor) drop() {
	n := len(c.stack) - 1
	c.stack[n] = c.stack[n][1:]
	for ; n >= 0 && len(c.stack[n]) == 0; n-- {
		c.stack = c.stack[:n]
	}
}

// open puts the content of the block that is next in its place. (A piece stays
// as it is.)
func (c *extentCursor) open(ctx context.Context) error {
	i := *c.item()
	if !i.block {
		return nil
	}
	block, err := c.r.chunk(ctx, i.ref.id, i.ref.length)
	if err != nil {
		return err
	}
	n, err := decodeNode(block, i.level, i.length)
	if err != nil {
		return err
	}
	c.drop()
	c.push(n)
	return nil
}

package repository

import "context"

// piece is a stretch of a file as it is stored.
type piece struct {
	hole   bool
	length int64
	// chunk and offset say where the bytes are, if it is no hole.
	chunk  chunkRef
	offset uint32
}

// extentReader walks the extents of one content. It keeps the nodes it used
// last. It may be used from several goroutines.
type extentReader struct {
	r    *Repository
	c    Content
	kept *lru[ID, *listNode]
}

// keptExtents is how many references and extents of an extent list a reader
// keeps decoded: about 32 blocks as Sombra writes them.
const keptExtents = 1 << 17

func newExtentReader(r *Repository, c Content) *extentReader {
	return &extentReader{r: r, c: c, kept: newLRU[ID, *listNode](keptExtents)}
}

// holeReader gives the extents of a file that is one hole.
func holeReader(size int64) *extentReader {
	c := Content{size: size}
	if size > 0 {
		c.top.extents = []extent{{length: size}}
	}
	return newExtentReader(nil, c)
}

// between calls f for the pieces from one offset to another, in order. What
// lies past the end of the content is left out.
func (x *extentReader) between(ctx context.Context, from, to int64, f func(piece) error) error {
	return x.walk(ctx, &x.c.top, 0, from, to, f)
}

// walk does it for the node that begins at the offset start of the file.
func (x *extentReader) walk(ctx context.Context, n *listNode, start, from, to int64, f func(piece) error) error {
	// A small list can claim a file without end: whoever reads it must be able
	// to stop, also when all of it is in caches.
	if err := ctx.Err(); err != nil {
		return err
	}
	if n.level == 0 {
		return walkLeaf(n, start, from, to, f)
	}
	for i, span := range n.spans {
		if start >= to {
			return nil
		}
		if start+span > from {
			child, err := x.child(ctx, n, i)
			if err != nil {
				return err
			}
			if err := x.walk(ctx, child, start, from, to, f); err != nil {
				return err
			}
		}
		start += span
	}
	return nil
}

func walkLeaf(n *listNode, start, from, to int64, f func(piece) error) error {
	for _, e := range n.extents {
		if start >= to {
			return nil
		}
		end := start + e.length
		if end > from {
			skip := max(from-start, 0)
			p := piece{hole: e.ref == 0, length: min(end, to) - start - skip}
			if !p.hole {
				p.chunk, p.offset = n.refs[e.ref-1], e.offset+uint32(skip)
			}
			if err := f(p); err != nil {
				return err
			}
		}
		start = end
	}
	return nil
}

// child gives a block below a node.
func (x *extentReader) child(ctx context.Context, n *listNode, i int) (*listNode, error) {
	if child, ok := x.kept.get(n.refs[i].id); ok && child.level == n.level-1 && child.span() == n.spans[i] {
		return child, nil
	}
	child, err := x.r.listNode(ctx, n, i)
	if err == nil {
		x.kept.put(n.refs[i].id, child, int64(len(child.refs)+len(child.extents)))
	}
	return child, err
}

// span is how many bytes of file the node covers.
func (n *listNode) span() (sum int64) {
	for _, e := range n.extents {
		sum += e.length
	}
	for _, s := range n.spans {
		sum += s
	}
	return sum
}

// listNode reads a block below a node.
func (r *Repository) listNode(ctx context.Context, n *listNode, i int) (*listNode, error) {
	block, err := r.chunk(ctx, n.refs[i].id, n.refs[i].length)
	if err != nil {
		return nil, err
	}
	return decodeNode(block, n.level-1, n.spans[i])
}

// eachNode calls f for the node and all below it, once for each block however
// often it is referred to: the work is bounded by what is stored, not by the
// size that a hostile list claims.
func (r *Repository) eachNode(ctx context.Context, top *listNode, f func(*listNode) error) error {
	type block struct {
		id    ID
		level int
		span  int64
	}
	seen := map[block]bool{}
	var visit func(n *listNode) error
	visit = func(n *listNode) error {
		if err := f(n); err != nil || n.level == 0 {
			return err
		}
		for i, ref := range n.refs {
			b := block{ref.id, n.level, n.spans[i]}
			if seen[b] {
				continue
			}
			seen[b] = true
			child, err := r.listNode(ctx, n, i)
			if err != nil {
				return err
			}
			if err := visit(child); err != nil {
				return err
			}
		}
		return nil
	}
	return visit(top)
}

package repository

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/zeebo/blake3"
)

// A file table is a tree of blocks, each stored as a chunk. Its first byte is
// its level. A leaf (level 0) holds encoded entries one after the other; the
// others hold references to blocks of the level below. Blocks end where a
// keyed hash of the last entry's place says so: about every 8 KiB, and at the
// same places when something else changed. Were they larger, one changed file in
// a hundred would be enough for nearly all of them to be stored again.
const (
	minTableBlock = 2 << 10
	avgTableBlock = 6 << 10
	maxTableBlock = 256 << 10
	// minTableRefs is the least that a block above the leaves refers to, unless
	// it is the last of its level: where paths are long a few references are
	// many bytes, and blocks of one each would never come to a top.
	minTableRefs = 16
)

// tableRef refers to a block of a file table.
type tableRef struct {
	_ struct{} `cbor:",toarray"`
	// Root and Path are the place of the first entry in the block or below.
	Root, Path []byte
	ID         []byte
	// Length is the block's in bytes.
	Length uint32
	// Entries is how many entries the block holds or leads to.
	Entries uint64
}

// tableRoot refers to the topmost block, from the record.
type tableRoot struct {
	Level   uint   `cbor:"1,keyasint,omitempty"`
	ID      []byte `cbor:"2,keyasint,omitempty"`
	Length  uint32 `cbor:"3,keyasint,omitempty"`
	Entries uint64 `cbor:"4,keyasint,omitempty"`
}

// tableWriter makes a file table of entries that come in order.
type tableWriter struct {
	b      *Backup
	roots  []Root
	levels []*tableLevel
	totals Totals
	last   sortedEntry
	// split hashes the places of entries, written to place.
	split *blake3.Hasher
	place []byte
}

// tableLevel is the block being made on one level.
type tableLevel struct {
	block   []byte
	first   sortedEntry
	entries uint64
	// refs counts what is in the block, flushed the blocks before it.
	refs, flushed int
}

func newTableWriter(b *Backup, roots []Root) *tableWriter {
	return &tableWriter{b: b, roots: roots, levels: []*tableLevel{{}}}
}

// add appends an entry.
func (w *tableWriter) add(ctx context.Context, e sortedEntry) error {
	if err := w.check(&e); err != nil {
		return err
	}
	w.totals.count(e.typ, e.size)
	w.last = e
	w.last.encoded = nil
	return w.append(ctx, 0, e.encoded, e, 1, w.placeHash(e.root, e.path))
}

// check says whether an entry may come after the last one.
func (w *tableWriter) check(e *sortedEntry) error {
	if w.last.root != e.root && !slices.ContainsFunc(w.roots, func(r Root) bool { return r.ID == e.root }) {
		return invalidf("entry %s: the record has no such root", printable(e.root, e.path))
	}
	if w.totals.Entries > 0 && w.last.typ != Directory && w.last.root == e.root && isBelow(e.path, w.last.path) {
		return invalidf("entry %s lies below %q, which is a %v", printable(e.root, e.path), w.last.path, w.last.typ)
	}
	return nil
}

// addLeaf appends a leaf that is there, if it comes out as it is: a block begins
// with it, and it is stored. Otherwise its entries are appended one by one.
func (w *tableWriter) addLeaf(ctx context.Context, first sortedEntry) error {
	k := first.leaf
	l := w.levels[0]
	if len(l.block) == 0 && first.root == k.last.root {
		err := w.b.stored(ctx, chunkRef{ID(k.ref.ID), k.ref.Length})
		if err == nil {
			return w.refer(ctx, first)
		}
		if !errors.Is(err, ErrDamaged) {
			return err
		}
	}
	lines, err := k.lines(ctx)
	if err != nil {
		return err
	}
	for i := range lines {
		if err := w.add(ctx, lines[i].sorted()); err != nil {
			return err
		}
	}
	return nil
}

// refer appends the reference to a leaf that is stored.
func (w *tableWriter) refer(ctx context.Context, first sortedEntry) error {
	if err := w.check(&first); err != nil {
		return err
	}
	k := first.leaf
	w.totals.Entries += k.totals.Entries
	w.totals.Files += k.totals.Files
	w.totals.Bytes += k.totals.Bytes
	w.last = k.last
	w.levels[0].flushed++
	first.leaf = nil
	return w.append(ctx, 1, format.marshal(k.ref), first, k.ref.Entries, ID(k.ref.ID))
}

// placeHash is the keyed hash of an entry's place.
func (w *tableWriter) placeHash(root, path string) (sum ID) {
	if w.split == nil {
		w.split = newHasher(w.b.r.keys.split)
	}
	w.place = append(append(append(w.place[:0], root...), 0), path...)
	return placeHash(w.split, w.place)
}

// placeHash hashes a place, root and path with a NUL between them.
func placeHash(h *blake3.Hasher, place []byte) (sum ID) {
	h.Reset()
	h.Write(place)
	h.Sum(sum[:0])
	return sum
}

// append puts something into the block of a level, and ends the block where
// the hash says so.
func (w *tableWriter) append(ctx context.Context, level int, encoded []byte, first sortedEntry, entries uint64, hash ID) error {
	if len(w.levels) == level {
		w.levels = append(w.levels, &tableLevel{})
	}
	l := w.levels[level]
	if len(l.block) == 0 {
		l.block, l.first = append(l.block, byte(level)), first
	}
	l.block = append(l.block, encoded...)
	l.entries += entries
	l.refs++
	if (level == 0 || l.refs >= minTableRefs) && blockEnds(hash, len(l.block), len(encoded)) {
		return w.flush(ctx, level)
	}
	return nil
}

// blockEnds says whether a block ends after what was appended last, of which the
// hash and the length are given.
func blockEnds(hash ID, block, last int) bool {
	h := uint64(binary.LittleEndian.Uint32(hash[:]))
	return block >= maxTableBlock || block >= minTableBlock && h*avgTableBlock < uint64(last)<<32
}

// flush stores the block of a level and refers to it from the level above.
func (w *tableWriter) flush(ctx context.Context, level int) error {
	ref, err := w.store(ctx, level)
	if err != nil {
		return err
	}
	l := w.levels[level]
	first, entries := l.first, l.entries
	*l = tableLevel{block: l.block[:0], flushed: l.flushed + 1}
	return w.append(ctx, level+1, format.marshal(ref), first, entries, ID(ref.ID))
}

// store stores the block of a level.
func (w *tableWriter) store(ctx context.Context, level int) (tableRef, error) {
	l := w.levels[level]
	id, err := w.b.putChunk(ctx, kindMetaPack, l.block)
	if err != nil {
		return tableRef{}, fmt.Errorf("store file table: %w", err)
	}
	return tableRef{Root: []byte(l.first.root), Path: []byte(l.first.path), ID: id[:], Length: uint32(len(l.block)), Entries: l.entries}, nil
}

// finish gives the reference to the topmost block.
func (w *tableWriter) finish(ctx context.Context) (tableRoot, error) {
	for level := 0; level < len(w.levels); level++ {
		l := w.levels[level]
		if l.flushed == 0 && (l.refs == 0 || level+1 == len(w.levels)) {
			if l.refs == 0 {
				return tableRoot{}, nil
			}
			ref, err := w.store(ctx, level)
			return tableRoot{Level: uint(level), ID: ref.ID, Length: ref.Length, Entries: ref.Entries}, err
		}
		if l.refs > 0 {
			if err := w.flush(ctx, level); err != nil {
				return tableRoot{}, err
			}
		}
	}
	return tableRoot{}, nil
}

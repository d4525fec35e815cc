package repository

import (
	"context"
	"errors"
	"iter"
	"slices"

	"github.com/zeebo/blake3"
)

// Leaf is a stretch of a file table as it is stored: the entries of one block.
// Whoever goes through a whole table with them reads each block once and may
// decode several at the same time. A Leaf is for one goroutine at a time.
type Leaf struct {
	// Lines are the entries, in order, once they are decoded.
	Lines []Line

	table *Table
	ref   tableRef
	top   bool
	block []byte
	// err says why the block cannot be read.
	err error
	// ends says that a table writer ends its block after the last line.
	ends bool
	// Looked at: held says of which lines all content is stored, and packs in
	// which packs that is.
	held  []bool
	packs []uint32
}

// Leaves gives the blocks that hold the entries from the given place on, in
// order; the first may begin before it. Their bytes are read, and not yet
// decoded. The iteration ends after an error; that one leaf is damaged is an error
// only of its Decode.
func (t *Table) Leaves(ctx context.Context, root, path string) iter.Seq2[*Leaf, error] {
	return func(yield func(*Leaf, error) bool) {
		if t.root.Entries == 0 {
			return
		}
		w := &tableWalk{t: t, root: root, path: path}
		top := tableRef{ID: t.root.ID, Length: t.root.Length, Entries: t.root.Entries}
		if err := t.leavesBelow(ctx, w, top, int(t.root.Level), func(l *Leaf) bool { return yield(l, nil) }); err != nil && err != errEnough {
			yield(nil, err)
		}
	}
}

// errEnough ends an iteration.
var errEnough = errors.New("enough")

// leavesBelow gives the leaves below a block from the walk's place on.
func (t *Table) leavesBelow(ctx context.Context, w *tableWalk, ref tableRef, level int, yield func(*Leaf) bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	top := level == int(t.root.Level)
	if level == 0 {
		block, err := t.readBlock(ctx, ref, 0)
		if err != nil && !errors.Is(err, ErrDamaged) {
			return err
		}
		if !yield(&Leaf{table: t, ref: ref, top: top, block: block, err: err}) {
			return errEnough
		}
		return nil
	}
	refs, err := t.upper(ctx, ref, level, top)
	if err != nil {
		return err
	}
	for _, below := range refs[w.first(refs):] {
		if err := t.leavesBelow(ctx, w, below, level-1, yield); err != nil {
			return err
		}
	}
	return nil
}

// Decode decodes the entries and checks them, as [Table.Lines] does, against
// each other and what the block above says. Leaves may be decoded in any order.
func (l *Leaf) Decode() error {
	if l.err != nil {
		return l.err
	}
	lines, err := decodeLeaf(l.block)
	if err != nil {
		return err
	}
	if err := checkLeaf(lines, l.ref, l.top); err != nil {
		return err
	}
	for i := 1; i < len(lines); i++ {
		if last, e := lines[i-1].Entry, lines[i].Entry; last.Type != Directory && last.Root == e.Root && isBelow(e.Path, last.Path) {
			return damagef("entry %s lies below a %v", printable(e.Root, e.Path), last.Type)
		}
	}
	l.Lines = lines
	l.ends = l.table.ends(&lines[len(lines)-1], len(l.block)+1)
	return nil
}

// ends says whether a table writer ends a block of that length after the line.
func (t *Table) ends(last *Line, length int) bool {
	k := t.rec.repo.keys
	h := k.splitHash.Get().(*blake3.Hasher)
	defer k.splitHash.Put(h)
	return blockEnds(placeHash(h, []byte(last.Root+"\x00"+last.Path)), length, len(last.encoded))
}

// Look finds out of which entries of a decoded leaf of this repository all
// content is stored, as Holds does, and remembers it for [Leaf.Held] and
// KeepLeaf. The error is not of that, but one after which the backup cannot go on.
func (b *Backup) Look(ctx context.Context, l *Leaf) error {
	if err := b.enter(ctx); err != nil {
		return err
	}
	defer b.leave()
	l.held, l.packs = make([]bool, len(l.Lines)), l.packs[:0]
	note := func(pack uint32) {
		if n := len(l.packs); n == 0 || l.packs[n-1] != pack {
			l.packs = append(l.packs, pack)
		}
	}
	for i := range l.Lines {
		held := true
		for c := range l.Lines[i].contents() {
			err := b.eachStored(ctx, &c, note)
			if err != nil && !errors.Is(err, ErrDamaged) {
				return err
			}
			held = held && err == nil
		}
		l.held[i] = held
	}
	slices.Sort(l.packs)
	l.packs = slices.Compact(l.packs)
	return nil
}

// Held says whether all content of the line with that number is stored. It is
// false unless the leaf was looked at.
func (l *Leaf) Held(n int) bool { return n < len(l.held) && l.held[n] }

// KeepLeaf adds entries as they stand in a file table of this repository, as
// Keep does: those of the leaf that kept has true for, which must be Held.
// Of a leaf that is kept whole the new table mostly refers to the block that there
// is, and nothing is encoded or stored.
func (b *Backup) KeepLeaf(ctx context.Context, l *Leaf, kept []bool) error {
	if err := b.enter(ctx); err != nil {
		return err
	}
	defer b.leave()
	if len(kept) != len(l.Lines) {
		return invalidf("%d of the %d entries of a leaf are kept or not", len(kept), len(l.Lines))
	}
	whole := l.ends && b.local == nil && l.table.rec.repo == b.r
	for i, k := range kept {
		if k && !l.Held(i) {
			return invalidf("keep entry %s, whose content was not found", printable(l.Lines[i].Root, l.Lines[i].Path))
		}
		whole = whole && k
	}
	b.relyAll(l.packs)
	if whole && b.sorter.addLeaf(newKeptLeaf(l)) {
		return nil
	}
	for i, k := range kept {
		if !k {
			continue
		}
		line := l.Lines[i]
		if b.local != nil {
			for c := range line.contents() {
				b.carry(ctx, &c.top)
			}
		}
		if err := b.sorter.add(line.sorted()); err != nil {
			return err
		}
	}
	return nil
}

// sorted is the line as the sorter takes it.
func (l *Line) sorted() sortedEntry {
	return sortedEntry{root: l.Root, path: l.Path, typ: l.Type, size: l.Size, encoded: l.encoded}
}

// keptLeaf is a leaf of which all entries are kept.
type keptLeaf struct {
	table *Table
	ref   tableRef
	// last is the place and type of the last entry.
	last sortedEntry
	// totals are those of its entries.
	totals Totals
}

func newKeptLeaf(l *Leaf) (first sortedEntry, k *keptLeaf) {
	k = &keptLeaf{table: l.table, ref: l.ref, last: l.Lines[len(l.Lines)-1].sorted()}
	k.last.encoded = nil
	for i := range l.Lines {
		k.totals.count(l.Lines[i].Type, l.Lines[i].Size)
	}
	first = l.Lines[0].sorted()
	first.encoded = nil
	if l.top {
		k.ref.Root, k.ref.Path = []byte(first.root), []byte(first.path)
	}
	return first, k
}

// lines reads the entries of the leaf again.
func (k *keptLeaf) lines(ctx context.Context) ([]Line, error) {
	return k.table.leaf(ctx, k.ref, false)
}

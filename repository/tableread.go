package repository

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"slices"
	"strings"
)

// Table is the file table of a record. It may be used from several goroutines.
//
// Entries come in the order of ComparePaths, and have been checked: names and
// places keep the rules of Entry, order is strict, roots are the record's, and
// nothing lies below what is no directory. (A directory need not have an entry
// of its own.) What breaks a rule is an error that wraps ErrDamaged and names
// record and entry.
type Table struct {
	rec  *Record
	root tableRoot
	// leaves keeps the blocks used last decoded, for those who look up one
	// entry after another.
	leaves *lru[ID, []Line]
	// uppers does the same for the blocks above: every look-up of one entry
	// comes through them, several times.
	uppers *lru[upperKey, upperBlock]
}

// upperKey names a block by what it was read as.
type upperKey struct {
	id    ID
	level int
}

// upperBlock is a decoded block that is no leaf.
type upperBlock struct {
	refs    []tableRef
	entries uint64
}

// keptLeaves is how many entries a table keeps decoded, keptUppers how many
// references.
const (
	keptLeaves = 8192
	keptUppers = 32768
)

func newTable(rec *Record, root tableRoot) *Table {
	return &Table{rec: rec, root: root, leaves: newLRU[ID, []Line](keptLeaves), uppers: newLRU[upperKey, upperBlock](keptUppers)}
}

// check says whether the reference can be right.
func (t *tableRoot) check() error {
	if t.Entries == 0 {
		return nil
	}
	if t.Level > maxDepth || len(t.ID) != IDSize || t.Length == 0 || t.Length > maxBlock || t.Entries > math.MaxInt64 {
		return damagef("the reference to its file table is impossible")
	}
	return nil
}

// Len is the number of entries.
func (t *Table) Len() int64 { return int64(t.root.Entries) }

// All gives every entry in order. The iteration ends after an error.
func (t *Table) All(ctx context.Context) iter.Seq2[*Entry, error] { return t.From(ctx, "", "") }

// From gives the entries from the given place on, whether or not there is an
// entry at it. The iteration ends after an error.
func (t *Table) From(ctx context.Context, root, path string) iter.Seq2[*Entry, error] {
	return func(yield func(*Entry, error) bool) {
		for l, err := range t.Lines(ctx, root, path) {
			if !yield(l.Entry, err) {
				return
			}
		}
	}
}

// Line is an entry of a file table together with the bytes it has there.
type Line struct {
	*Entry
	encoded []byte
}

// Lines is From, and gives entries as [Backup.Keep] takes them.
func (t *Table) Lines(ctx context.Context, root, path string) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		w := &tableWalk{t: t, root: root, path: path}
		w.visit = func(l Line) error {
			if !yield(l, nil) {
				return io.EOF
			}
			return nil
		}
		if err := w.run(ctx); err != nil && err != io.EOF {
			yield(Line{}, err)
		}
	}
}

// Under gives the entry at the path, if there is one, and all entries below
// it, in order. The empty path gives the whole root. The iteration ends after
// an error.
func (t *Table) Under(ctx context.Context, root, path string) iter.Seq2[*Entry, error] {
	return func(yield func(*Entry, error) bool) {
		for e, err := range t.From(ctx, root, path) {
			if err == nil && (e.Root != root || e.Path != path && !isBelow(e.Path, path)) {
				return
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// Lookup gives one entry. ErrNotFound if there is none.
func (t *Table) Lookup(ctx context.Context, root, path string) (*Entry, error) {
	for e, err := range t.From(ctx, root, path) {
		if err != nil {
			return nil, err
		}
		if e.Root == root && e.Path == path {
			return e, nil
		}
		break
	}
	return nil, wrapf(ErrNotFound, "entry %s in record %s", printable(root, path), t.rec.ID.Short())
}

// tableWalk is one pass over a table from a place on.
type tableWalk struct {
	t          *Table
	root, path string
	// visit is called for each entry.
	visit func(Line) error
	// bad, if set, is told of blocks that cannot be read; they are passed
	// over. Without it they end the walk.
	bad func(first tableRef, err error) error
	// last is the entry visited before.
	last *Entry
}

func (w *tableWalk) run(ctx context.Context) error {
	t := w.t
	if t.root.Entries == 0 {
		return nil
	}
	top := tableRef{ID: t.root.ID, Length: t.root.Length, Entries: t.root.Entries}
	err := w.block(ctx, top, int(t.root.Level), true)
	if err != nil && errors.Is(err, ErrDamaged) {
		return fmt.Errorf("file table of record %s: %w", t.rec.ID.Short(), err)
	}
	return err
}

// block visits the entries of a block and all below it.
func (w *tableWalk) block(ctx context.Context, ref tableRef, level int, top bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var err error
	if level == 0 {
		var lines []Line
		if lines, err = w.t.leaf(ctx, ref, top); err == nil {
			return w.lines(ctx, lines)
		}
	} else {
		var refs []tableRef
		if refs, err = w.t.upper(ctx, ref, level, top); err == nil {
			return w.refs(ctx, refs, level)
		}
	}
	if w.bad != nil && errors.Is(err, ErrDamaged) {
		return w.bad(ref, err)
	}
	return err
}

// refs visits the blocks that can hold entries from the place on.
func (w *tableWalk) refs(ctx context.Context, refs []tableRef, level int) error {
	for _, ref := range refs[w.first(refs):] {
		if err := w.block(ctx, ref, level-1, false); err != nil {
			return err
		}
	}
	return nil
}

// first gives the number of the first reference that the walk follows: to the
// last block that begins at or before its place.
func (w *tableWalk) first(refs []tableRef) int {
	n, exact := slices.BinarySearchFunc(refs, w, func(r tableRef, w *tableWalk) int {
		return ComparePaths(string(r.Root), string(r.Path), w.root, w.path)
	})
	if !exact && n > 0 {
		n--
	}
	return n
}

// lines visits the entries of a leaf from the place on.
func (w *tableWalk) lines(ctx context.Context, lines []Line) error {
	n, _ := slices.BinarySearchFunc(lines, w, func(l Line, w *tableWalk) int {
		return ComparePaths(l.Root, l.Path, w.root, w.path)
	})
	for _, l := range lines[n:] {
		if err := w.place(ctx, l.Entry); err != nil {
			return err
		}
		w.last = l.Entry
		if err := w.visit(l); err != nil {
			return err
		}
	}
	return nil
}

// place checks an entry against the one before it and the record. The entries
// of one leaf were compared with each other when it was read.
func (w *tableWalk) place(ctx context.Context, e *Entry) error {
	if w.last == nil {
		if w.root != "" || w.path != "" {
			if err := w.t.checkAncestors(ctx, e); err != nil {
				return err
			}
		}
	} else if ComparePaths(w.last.Root, w.last.Path, e.Root, e.Path) >= 0 {
		return damagef("entry %s comes after %q", printable(e.Root, e.Path), w.last.Path)
	} else if w.last.Type != Directory && w.last.Root == e.Root && isBelow(e.Path, w.last.Path) {
		return damagef("entry %s lies below a %v", printable(e.Root, e.Path), w.last.Type)
	}
	if w.last == nil || w.last.Root != e.Root {
		if !slices.ContainsFunc(w.t.rec.Roots, func(r Root) bool { return r.ID == e.Root }) {
			return damagef("entry %s: the record has no such root", printable(e.Root, e.Path))
		}
	}
	return nil
}

// checkAncestors is for an entry that was reached without those before it.
func (t *Table) checkAncestors(ctx context.Context, e *Entry) error {
	for dir := e.Path; dir != ""; {
		if i := strings.LastIndexByte(dir, '/'); i >= 0 {
			dir = dir[:i]
		} else {
			dir = ""
		}
		above, err := t.at(ctx, e.Root, dir)
		if err != nil {
			return err
		}
		if above != nil && above.Type != Directory {
			return damagef("entry %s lies below a %v", printable(e.Root, e.Path), above.Type)
		}
	}
	return nil
}

// at gives the entry at a place, nil if there is none, without looking at the
// entries around it.
func (t *Table) at(ctx context.Context, root, path string) (*Entry, error) {
	ref := tableRef{ID: t.root.ID, Length: t.root.Length, Entries: t.root.Entries}
	for level := int(t.root.Level); level > 0; level-- {
		refs, err := t.upper(ctx, ref, level, level == int(t.root.Level))
		if err != nil {
			return nil, err
		}
		n, exact := slices.BinarySearchFunc(refs, 0, func(r tableRef, _ int) int { return ComparePaths(string(r.Root), string(r.Path), root, path) })
		if !exact {
			n--
		}
		if n < 0 {
			return nil, nil
		}
		ref = refs[n]
	}
	lines, err := t.leaf(ctx, ref, t.root.Level == 0)
	if err != nil {
		return nil, err
	}
	n, found := slices.BinarySearchFunc(lines, 0, func(l Line, _ int) int { return ComparePaths(l.Root, l.Path, root, path) })
	if !found {
		return nil, nil
	}
	return lines[n].Entry, nil
}

// readBlock gives the bytes of a block after its level.
func (t *Table) readBlock(ctx context.Context, ref tableRef, level int) ([]byte, error) {
	block, err := t.rec.repo.chunk(ctx, ID(ref.ID), ref.Length)
	if err != nil {
		return nil, err
	}
	if int(block[0]) != level {
		return nil, damagef("block %s has level %d, not %d", ID(ref.ID).Short(), block[0], level)
	}
	return block[1:], nil
}

// leaf reads the entries of a leaf. The first must be at the place that the
// reference says, unless the leaf is the topmost block.
func (t *Table) leaf(ctx context.Context, ref tableRef, top bool) ([]Line, error) {
	id := ID(ref.ID)
	lines, ok := t.leaves.get(id)
	if !ok {
		block, err := t.readBlock(ctx, ref, 0)
		if err != nil {
			return nil, err
		}
		if lines, err = decodeLeaf(block); err != nil {
			return nil, fmt.Errorf("block %s: %w", id.Short(), err)
		}
		t.leaves.put(id, lines, int64(len(lines)))
	}
	return lines, checkLeaf(lines, ref, top)
}

// checkLeaf says whether the entries of a leaf are what the block above says.
func checkLeaf(lines []Line, ref tableRef, top bool) error {
	first := lines[0]
	if uint64(len(lines)) != ref.Entries || !top && ComparePaths(first.Root, first.Path, string(ref.Root), string(ref.Path)) != 0 {
		return damagef("block %s is not what the block above it says", ID(ref.ID).Short())
	}
	return nil
}

// decodeLeaf reads the entries of a leaf, one or more, and checks their order.
func decodeLeaf(block []byte) ([]Line, error) {
	var lines []Line
	var r entryReader
	for len(block) > 0 {
		e, encoded, rest, err := r.next(block)
		if err != nil {
			return nil, err
		}
		if n := len(lines); n > 0 && ComparePaths(lines[n-1].Root, lines[n-1].Path, e.Root, e.Path) >= 0 {
			return nil, damagef("entry %s comes after %q", printable(e.Root, e.Path), lines[n-1].Path)
		}
		lines = append(lines, Line{e, encoded})
		block = rest
	}
	if len(lines) == 0 {
		return nil, damagef("it is empty")
	}
	return lines, nil
}

// upper reads the references of a block that is no leaf. They are shared.
func (t *Table) upper(ctx context.Context, ref tableRef, level int, top bool) ([]tableRef, error) {
	id := ID(ref.ID)
	key := upperKey{id, level}
	u, ok := t.uppers.get(key)
	if !ok {
		block, err := t.readBlock(ctx, ref, level)
		if err != nil {
			return nil, err
		}
		if u.refs, u.entries, err = decodeUpper(block); err != nil {
			return nil, fmt.Errorf("block %s: %w", id.Short(), err)
		}
		t.uppers.put(key, u, int64(len(u.refs)))
	}
	if u.entries != ref.Entries || !top && ComparePaths(string(u.refs[0].Root), string(u.refs[0].Path), string(ref.Root), string(ref.Path)) != 0 {
		return nil, damagef("block %s is not what the block above it says", id.Short())
	}
	return u.refs, nil
}

// decodeUpper reads the references of a block, one or more, and says to how
// many entries they lead.
func decodeUpper(block []byte) (refs []tableRef, entries uint64, err error) {
	for len(block) > 0 {
		var ref tableRef
		if block, err = format.dec.UnmarshalFirst(block, &ref); err != nil {
			return nil, 0, damagef("a reference that does not decode: %v", err)
		}
		if len(ref.ID) != IDSize || ref.Length == 0 || ref.Length > maxBlock || ref.Entries == 0 || ref.Entries > math.MaxInt64-entries {
			return nil, 0, damagef("an impossible reference")
		}
		if err := checkPlace(string(ref.Root), string(ref.Path)); err != nil {
			return nil, 0, damagef("a reference: %v", err)
		}
		if n := len(refs); n > 0 && ComparePaths(string(refs[n-1].Root), string(refs[n-1].Path), string(ref.Root), string(ref.Path)) >= 0 {
			return nil, 0, damagef("references that are not in order")
		}
		entries += ref.Entries
		refs = append(refs, ref)
	}
	if len(refs) == 0 {
		return nil, 0, damagef("it is empty")
	}
	return refs, entries, nil
}

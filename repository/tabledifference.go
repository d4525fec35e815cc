package repository

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
)

// Difference is a place at which two file tables do not have the same entry.
type Difference struct {
	// Before and After are the entries of the two tables. One of them may be
	// nil: there is none at that place.
	Before, After *Entry
	// Changes says in what they differ, if both are there.
	Changes Change
}

// Compare gives the places at which the two tables differ, in order. Blocks
// that both tables have are not read, nor is anything below them: the cost
// follows the difference and not the size. Tables of different repositories
// have no block in common, and are read whole.
//
// Contents are compared by their extents: see CompareContents for whether the
// bytes differ. The iteration ends after an error.
func (t *Table) Compare(ctx context.Context, after *Table) iter.Seq2[Difference, error] {
	return func(yield func(Difference, error) bool) {
		d := &tableDiff{ctx: ctx, shared: t.rec.repo.ID() == after.rec.repo.ID(), visit: func(d Difference) error {
			if !yield(d, nil) {
				return io.EOF
			}
			return nil
		}}
		if err := d.run(t, after); err != nil && err != io.EOF {
			yield(Difference{}, err)
		}
	}
}

// tableDiff is one comparison.
type tableDiff struct {
	ctx    context.Context
	shared bool
	visit  func(Difference) error
	a, b   *tableCursor
}

func (d *tableDiff) run(before, after *Table) error {
	d.a, d.b = newTableCursor(before), newTableCursor(after)
	for !d.a.done() || !d.b.done() {
		if err := d.ctx.Err(); err != nil {
			return err
		}
		if err := d.step(); err != nil {
			return err
		}
	}
	return nil
}

// step deals with what is next of both tables.
func (d *tableDiff) step() error {
	switch {
	case d.a.done():
		return d.one(d.b, func(e *Entry) Difference { return Difference{After: e} })
	case d.b.done():
		return d.one(d.a, func(e *Entry) Difference { return Difference{Before: e} })
	}
	a, b := d.a.item(), d.b.item()
	if a.entry == nil && b.entry == nil && d.shared && a.same(b) {
		return errors.Join(d.a.skip(), d.b.skip())
	}
	switch c := ComparePaths(a.root, a.path, b.root, b.path); {
	case c < 0:
		// Nothing of the other table is here.
		return d.one(d.a, func(e *Entry) Difference { return Difference{Before: e} })
	case c > 0:
		return d.one(d.b, func(e *Entry) Difference { return Difference{After: e} })
	case a.entry != nil && b.entry != nil:
		if changes := a.entry.Changes(b.entry); changes != 0 {
			if err := d.visit(Difference{a.entry, b.entry, changes}); err != nil {
				return err
			}
		}
		return errors.Join(d.a.skip(), d.b.skip())
	}
	// Both begin here, and at least one is a block. What may still be found
	// to be the same lies at the same level: the higher is opened first.
	la, lb := a.height(), b.height()
	if la >= lb {
		if err := d.a.open(d.ctx); err != nil {
			return err
		}
	}
	if lb >= la {
		return d.b.open(d.ctx)
	}
	return nil
}

// one visits the next entry of one table, or opens the block it is in.
func (d *tableDiff) one(c *tableCursor, as func(*Entry) Difference) error {
	e := c.item().entry
	if e == nil {
		return c.open(d.ctx)
	}
	if err := d.visit(as(e)); err != nil {
		return err
	}
	return c.skip()
}

// tableCursor goes through a table in order. What is next is an entry, or a
// block that may be opened or passed over.
type tableCursor struct {
	t *Table
	// stack holds what is left of the blocks that are open, the topmost first.
	stack [][]tableItem
	// last is the place that was passed last, and its entry if that was one.
	last tableItem
	any  bool
}

// tableItem is an entry or a block that was not opened.
type tableItem struct {
	root, path string
	entry      *Entry
	ref        tableRef
	level      int
	top        bool
}

// height orders items: blocks by level, above entries.
func (i *tableItem) height() int {
	if i.entry != nil {
		return -1
	}
	return i.level
}

// same says whether two blocks are one.
func (i *tableItem) same(j *tableItem) bool {
	return i.level == j.level && i.ref.Length == j.ref.Length && i.ref.Entries == j.ref.Entries && string(i.ref.ID) == string(j.ref.ID)
}

func newTableCursor(t *Table) *tableCursor {
	c := &tableCursor{t: t}
	if t.root.Entries > 0 {
		ref := tableRef{ID: t.root.ID, Length: t.root.Length, Entries: t.root.Entries}
		c.stack = [][]tableItem{{{ref: ref, level: int(t.root.Level), top: true}}}
	}
	return c
}

func (c *tableCursor) done() bool { return len(c.stack) == 0 }

// item is what is next.
func (c *tableCursor) item() *tableItem { return &c.stack[len(c.stack)-1][0] }

// skip passes over what is next.
func (c *tableCursor) skip() error {
	err := c.pass(c.item())
	c.drop()
	return err
}

// pass notes that an item was passed, and checks its place.
func (c *tableCursor) pass(i *tableItem) error {
	err := c.place(i)
	c.last, c.any = *i, true
	return err
}

// drop takes away what is next.
func (c *tableCursor) drop() {
	n := len(c.stack) - 1
	c.stack[n] = c.stack[n][1:]
	for ; n >= 0 && len(c.stack[n]) == 0; n-- {
		c.stack = c.stack[:n]
	}
}

// open puts the content of the block that is next in its place. (An entry
// stays as it is.)
func (c *tableCursor) open(ctx context.Context) error {
	i := *c.item()
	if i.entry != nil {
		return nil
	}
	items, err := c.items(ctx, &i)
	if err != nil {
		return err
	}
	c.drop()
	c.stack = append(c.stack, items)
	return nil
}

// items reads what a block holds.
func (c *tableCursor) items(ctx context.Context, i *tableItem) ([]tableItem, error) {
	if i.level == 0 {
		entries, err := c.t.leaf(ctx, i.ref, i.top)
		if err != nil {
			return nil, c.wrap(err)
		}
		items := make([]tableItem, len(entries))
		for n, e := range entries {
			items[n] = tableItem{root: e.Root, path: e.Path, entry: e.Entry}
		}
		return items, nil
	}
	refs, err := c.t.upper(ctx, i.ref, i.level, i.top)
	if err != nil {
		return nil, c.wrap(err)
	}
	items := make([]tableItem, len(refs))
	for n, ref := range refs {
		items[n] = tableItem{root: string(ref.Root), path: string(ref.Path), ref: ref, level: i.level - 1}
	}
	return items, nil
}

// place checks what is passed against what was passed before it, and the
// record.
func (c *tableCursor) place(i *tableItem) error {
	if i.top {
		return nil // the whole table, which has no place of its own
	}
	if c.any {
		if ComparePaths(c.last.root, c.last.path, i.root, i.path) >= 0 {
			return c.wrap(damagef("entry %s comes after %q", printable(i.root, i.path), c.last.path))
		}
		if e := c.last.entry; e != nil && e.Type != Directory && e.Root == i.root && isBelow(i.path, e.Path) {
			return c.wrap(damagef("entry %s lies below a %v", printable(i.root, i.path), e.Type))
		}
	}
	if !c.any || c.last.root != i.root {
		if !slices.ContainsFunc(c.t.rec.Roots, func(r Root) bool { return r.ID == i.root }) {
			return c.wrap(damagef("entry %s: the record has no such root", printable(i.root, i.path)))
		}
	}
	return nil
}

func (c *tableCursor) wrap(err error) error {
	if errors.Is(err, ErrDamaged) {
		return fmt.Errorf("file table of record %s: %w", c.t.rec.ID.Short(), err)
	}
	return err
}

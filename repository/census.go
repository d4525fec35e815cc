package repository

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/sombra-backup/sombra/repository/store"
)

// census finds out which chunks the records use. It costs a bit for each line of
// the index, and reads each block of tables and extent lists once, however many
// records share it.
type census struct {
	r *Repository
	// used are the lines of chunks that are used: of a chunk that lies in
	// several places, all.
	used bitset
	// tables and lists are the lines of blocks whose references were followed.
	tables, lists bitset
	// problem is told what is damaged.
	problem func(Problem)
	// unknown says that something could not be read that refers to chunks:
	// nobody knows to which.
	unknown error
	// lost counts references to chunks that are nowhere.
	lost int64
	// at is what is looked at now.
	at Problem
}

// record follows all that a record refers to.
func (c *census) record(ctx context.Context, rec *Record) error {
	for _, name := range slices.Sorted(maps.Keys(rec.Documents)) {
		c.at = Problem{Record: rec.ID, Document: name}
		content := rec.Documents[name]
		if err := c.node(ctx, &content.top); err != nil {
			return err
		}
	}
	c.at = Problem{Record: rec.ID}
	root := rec.table.root
	if root.Entries == 0 {
		return nil
	}
	return c.table(ctx, rec.table, tableRef{ID: root.ID, Length: root.Length, Entries: root.Entries}, int(root.Level), true)
}

// use notes that a chunk is used, and gives one of its lines.
func (c *census) use(ctx context.Context, ref chunkRef) (line uint64, found bool, err error) {
	err = c.r.index.find(ctx, ref.id, func(loc location) bool {
		if loc.length == ref.length {
			number := uint64(loc.number)
			c.used.set(number)
			if !found || number < line {
				line, found = number, true
			}
		}
		return false
	})
	if err != nil && (!errors.Is(err, ErrDamaged) || errors.Is(err, store.ErrNotExist)) {
		// An index object that is no more was replaced: whoever asks reads anew.
		return 0, false, err
	}
	if err != nil && c.unknown == nil {
		// The lines exist and cannot be read now: what they name may be used.
		c.unknown = err
	}
	if !found {
		c.lost++
		c.tell(errors.Join(damagef("chunk %s is in no index and no pack", ref.id), err))
	}
	return line, found, nil
}

// tell reports a problem of what is looked at.
func (c *census) tell(err error) {
	p := c.at
	p.Err = err
	c.problem(p)
}

// blind reports that references could not be read, if err is damage, and gives
// back all other errors.
func (c *census) blind(err error) error {
	if err == nil || !errors.Is(err, ErrDamaged) {
		return err
	}
	c.tell(err)
	if c.unknown == nil {
		c.unknown = fmt.Errorf("record %s: %w", c.at.Record.Short(), err)
	}
	return nil
}

// table follows a block of a file table.
func (c *census) table(ctx context.Context, t *Table, ref tableRef, level int, top bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c.at.Root, c.at.Path = string(ref.Root), string(ref.Path)
	line, found, err := c.use(ctx, chunkRef{ID(ref.ID), ref.Length})
	if err != nil || found && c.tables.has(line) {
		return err
	}
	if level == 0 {
		entries, err := t.leaf(ctx, ref, top)
		if err != nil {
			return c.blind(err)
		}
		for _, e := range entries {
			c.at.Root, c.at.Path = e.Root, e.Path
			for content := range e.contents() {
				if err := c.node(ctx, &content.top); err != nil {
					return err
				}
			}
		}
	} else {
		refs, err := t.upper(ctx, ref, level, top)
		if err != nil {
			return c.blind(err)
		}
		for _, ref := range refs {
			if err := c.table(ctx, t, ref, level-1, false); err != nil {
				return err
			}
		}
	}
	if found && c.unknown == nil {
		c.tables.set(line)
	}
	return nil
}

// node follows a node of an extent list.
func (c *census) node(ctx context.Context, n *listNode) error {
	for i, ref := range n.refs {
		line, found, err := c.use(ctx, ref)
		if err != nil {
			return err
		}
		if n.level == 0 || found && c.lists.has(line) {
			continue
		}
		child, err := c.r.listNode(ctx, n, i)
		if err != nil {
			if err := c.blind(err); err != nil {
				return err
			}
			continue
		}
		if err := c.node(ctx, child); err != nil {
			return err
		}
		if found && c.unknown == nil {
			c.lists.set(line)
		}
	}
	return nil
}

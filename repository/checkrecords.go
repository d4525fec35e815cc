package repository

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/sombra-backup/sombra/repository/store"
)

// records looks at all records and at everything they refer to.
func (c *checker) records(ctx context.Context) error {
	c.known = map[ID]bool{}
	slices.SortFunc(c.recordNames, func(a, b objectName) int { return slices.Compare(a.id[:], b.id[:]) })
	var records []*Record
	for _, o := range c.recordNames {
		// A record that is there but damaged is no reason to call what is
		// said about it lost.
		c.known[o.id] = true
		rec, err := c.r.readRecord(ctx, o.id)
		c.blind = c.blind || errors.Is(err, ErrDamaged) && !errors.Is(err, store.ErrNotExist)
		if err := c.object(recordName(o.id), err); err != nil {
			return err
		}
		if rec != nil {
			records = append(records, rec)
			c.missingIndexes(rec)
		}
	}
	// Where the index is not whole the packs' directories tell what can still
	// be read.
	if c.r.index.damage() != nil || len(c.gone) > 0 {
		if err := c.r.index.adopt(ctx, c.r); err != nil {
			return err
		}
	}
	for _, rec := range records {
		if err := c.record(ctx, rec); err != nil {
			return err
		}
	}
	return nil
}

// missingIndexes reports index objects that the record's backup wrote and
// that are neither there nor superseded.
func (c *checker) missingIndexes(rec *Record) {
	for _, id := range rec.indexes {
		if c.r.index.byName[id] != nil || c.r.index.superseded[id] || c.r.index.damaged[id] != nil || c.gone[id] {
			continue
		}
		c.gone[id] = true
		c.problem(Problem{Object: indexName(id), Err: damagef("it is missing; record %s was made with it", rec.ID)})
	}
}

// record looks at what one record refers to.
func (c *checker) record(ctx context.Context, rec *Record) error {
	for _, name := range slices.Sorted(maps.Keys(rec.Documents)) {
		err := c.content(ctx, rec.Documents[name])
		if err := c.hurt(Problem{Record: rec.ID, Document: name}, err); err != nil {
			return err
		}
	}
	before := c.total.Entries
	whole := true
	w := &tableWalk{t: rec.table}
	w.visit = func(e Line) error {
		c.total.Entries++
		for content := range e.contents() {
			err := c.content(ctx, content)
			if err := c.hurt(Problem{Record: rec.ID, Root: e.Root, Path: e.Path}, err); err != nil {
				return err
			}
		}
		return nil
	}
	w.bad = func(first tableRef, err error) error {
		whole, c.blind = false, true
		if err := c.resolve(ctx, chunkRef{ID(first.ID), first.Length}); err != nil && !errors.Is(err, ErrDamaged) {
			return err
		}
		return c.hurt(Problem{Record: rec.ID, Root: string(first.Root), Path: string(first.Path)}, fmt.Errorf("file table: %w", err))
	}
	err := w.run(ctx)
	whole = whole && err == nil
	if err := c.hurt(Problem{Record: rec.ID}, err); err != nil {
		return err
	}
	if n := c.total.Entries - before; whole && n != rec.Totals.Entries {
		c.problem(Problem{Object: recordName(rec.ID), Record: rec.ID, Err: damagef("it counts %d entries, its file table has %d", rec.Totals.Entries, n)})
	}
	return nil
}

// hurt reports the problem if err is damage, and gives back all other errors.
func (c *checker) hurt(p Problem, err error) error {
	if err == nil || !errors.Is(err, ErrDamaged) {
		return err
	}
	p.Err = err
	c.problem(p)
	return nil
}

// content says whether everything a content refers to is there.
func (c *checker) content(ctx context.Context, content Content) error {
	return c.r.eachNode(ctx, &content.top, func(n *listNode) error {
		for _, ref := range n.refs {
			if err := c.resolve(ctx, ref); err != nil {
				return err
			}
		}
		return nil
	})
}

// notes looks at all notes. One of a record that is not there says that it was
// lost, unless it is said to be forgotten.
func (c *checker) notes(ctx context.Context) error {
	about, meant := map[ID]ID{}, map[ID]bool{}
	for _, o := range c.noteNames {
		n, err := c.r.readNote(ctx, o.record, o.id)
		meant[o.record] = meant[o.record] || err == nil && n.Kind == noteForgotten
		if err := c.object(noteName(o.record, o.id), err); err != nil {
			return err
		}
		if !c.known[o.record] {
			about[o.record] = o.id
		}
	}
	for record, note := range about {
		if meant[record] {
			continue
		}
		// It may have been forgotten since the notes were listed.
		left, again, err := c.r.forgettable(ctx, record)
		if err != nil {
			return err
		}
		if len(left) > 0 && again.IsZero() {
			c.problem(Problem{Object: recordName(record), Err: damagef("it is missing; note %s is about it", note)})
		}
	}
	return nil
}

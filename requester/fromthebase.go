package requester

import (
	"context"
	"errors"

	"github.com/sombra-backup/sombra/repository"
)

// baseTable is the file table of the record that a component set builds upon: nil
// if it builds upon none, or its files cannot be read here.
func (c *copier) baseTable(def *Component) *repository.Table {
	t := c.a.typing(def)
	if t.Base == nil {
		return nil
	}
	if c.base != nil && c.base.ID == t.Base.Record {
		return c.old
	}
	table, ok := c.tables[t.Base.Record]
	if !ok {
		if rec := c.a.past.record(t.Base.Record); rec != nil {
			table = rec.Table()
		}
		c.tables[t.Base.Record] = table
	}
	return table
}

// baseRecord is the record that a component set builds upon; nil if there is
// none, or it cannot be read here.
func (c *copier) baseRecord(def *Component) *repository.Record {
	t := c.a.typing(def)
	if t.Base == nil {
		return nil
	}
	if c.base != nil && c.base.ID == t.Base.Record {
		return c.base
	}
	return c.a.past.record(t.Base.Record)
}

// baseEntry is what the record that the component set builds upon has at a table
// path: nil if nothing, or nothing that is whole and of this set, so that a file
// must be saved whole. The error is one that ends the backup.
func (c *copier) baseEntry(ctx context.Context, def *Component, table string) (*repository.Entry, error) {
	e, _, err := c.baseLookup(ctx, def, table)
	if e == nil || err != nil || e.Attrs[AttrPartial] != "" {
		return nil, err
	}
	switch err := c.b.Holds(ctx, e.Content); {
	case errors.Is(err, repository.ErrDamaged):
		c.baseDamaged(err)
		return nil, nil
	case err != nil:
		return nil, err
	}
	return e, nil
}

// baseLookup is baseEntry that does not look whether the content is whole, and
// stored. known is false if there is a base and it cannot be read.
func (c *copier) baseLookup(ctx context.Context, def *Component, table string) (old *repository.Entry, known bool, err error) {
	t := c.baseTable(def)
	if t == nil {
		return nil, c.a.typing(def).Base == nil, nil
	}
	e, err := t.Lookup(ctx, rootID, table)
	switch {
	case ctx.Err() != nil:
		return nil, false, ctx.Err()
	case errors.Is(err, repository.ErrNotFound):
		return nil, true, nil
	case errors.Is(err, repository.ErrDamaged):
		c.baseDamaged(err)
		return nil, false, nil
	case err != nil:
		return nil, false, err
	}
	key, ok := entryKey(e)
	if !ok || key != def.key() || e.Attrs[AttrWriterName] != def.Writer.InstanceName || e.Attrs[AttrOutcome] != "" {
		return nil, true, nil
	}
	return e, true, nil
}

// baseDamaged says once that something of a base cannot be used.
func (c *copier) baseDamaged(err error) {
	c.mu.Lock()
	first := !c.damaged
	c.damaged = true
	c.mu.Unlock()
	if first {
		c.a.warn("part of a backup that this one builds upon cannot be read, and the files in it are saved whole: %v; see: sombra check", err)
	}
}

// fill adds to the table, with the base's content, a file that the type need not
// save, and tells whether it did: what the base lacks is saved whole.
func (c *copier) fill(ctx context.Context, j *job) (filled bool, err error) {
	old, err := c.baseEntry(ctx, j.def, j.table)
	if old == nil || err != nil {
		return false, err
	}
	kind, known := kindOf(j.entry.Mode)
	if !known || kind != old.Type {
		return false, nil // it is something else by now
	}
	t := c.a.typing(j.def)
	e := old.Clone()
	e.Device = c.device[j.volume.ID]
	if e.HardLink != 0 {
		// A number of this record, that no file met now has.
		c.mu.Lock()
		e.HardLink = c.linkIDs.of(inode{"base " + t.Base.Record.String(), old.HardLink}, e.Device)
		c.mu.Unlock()
	}
	was := old.Attrs
	e.Attrs = facts(j.cl, j.def)
	e.Attrs[AttrBase] = t.Base.Record.String()
	if j.fresh {
		e.Attrs[AttrMatched] = j.matched // no specification tells why it is here
	}
	for _, key := range []string{AttrRead, AttrSource, AttrSince, AttrChanged} {
		if v := was[key]; v != "" {
			e.Attrs[key] = v
		}
	}
	if e.Type == repository.Regular {
		c.count(j, got{content: e.Content, entry: j.entry, unchanged: true})
	}
	return true, c.add(ctx, j, e)
}

package requester

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"strings"

	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// saveStayed adds to the table, with the base's content, the files that are in no
// file specification and that the component's writer listed for a backup this one
// builds upon, but not for this one (R-SET-34): a writer lists what has changed.
// They belong to the component as long as they are there.
func (c *copier) saveStayed(ctx context.Context, def *Component) error {
	t := c.a.typing(def)
	if !t.Fills() || t.Base == nil || t.Base.Added == 0 {
		return nil
	}
	table := c.baseTable(def)
	if table == nil {
		return nil
	}
	for e, err := range table.All(ctx) {
		if errors.Is(err, repository.ErrDamaged) {
			c.baseDamaged(err)
			return nil
		}
		if err != nil {
			return err
		}
		key, ok := entryKey(e)
		if !ok || key != def.key() || e.Attrs[AttrWriterName] != def.Writer.InstanceName || e.Attrs[AttrMatched] == "" ||
			e.Attrs[AttrOutcome] != "" || e.Type != repository.Regular {
			continue
		}
		if err := c.stay(ctx, def, e); err != nil {
			return err
		}
	}
	return nil
}

// stay adds one file of the base that may be in no specification.
func (c *copier) stay(ctx context.Context, def *Component, old *repository.Entry) error {
	v, err := c.a.volume(ctx, old.Attrs[AttrVolume])
	if err != nil {
		if ctx.Err() == nil {
			c.a.warn("%s: /%s, which its writer added to the last backup, is not looked for: %v", def.Label(), old.Path, err)
		}
		return ctx.Err()
	}
	name, ok := old.Path, true
	if v.table != "" {
		name, ok = strings.CutPrefix(old.Path, v.table+"/")
	}
	f := c.a.claims.Find(v.ID, name)
	if !ok || len(f.Claims) > 0 || f.Excluded != nil || c.isListed(v.ID, name) {
		return nil
	}
	t, _, err := c.tree(ctx, v)
	if err != nil {
		return err
	}
	dir := path.Dir(name)
	set := provider.FileSet{Dir: dir, Pattern: path.Base(name)}
	cl := &Claim{Component: def, Volume: v.ID, From: v.ID, Dir: dir, Set: set,
		File: &FileSet{Spec: vss.FileSpec{Path: volumePath(c.a.style, v.Volume, dir), Pattern: set.Pattern}, Mask: vss.DefaultFileSpecBackupType}}
	now, err := t.Lstat(ctx, name)
	j := job{tree: t, from: v.ID, name: name, volume: v, table: old.Path, entry: now, cl: cl, def: def, live: true, fresh: true, matched: old.Attrs[AttrMatched]}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil && isMissing(err):
		return nil
	case err != nil:
		return c.failNew(ctx, &j, err)
	case !now.Mode.IsRegular():
		return nil
	}
	c.listed[c.placeKey(v.ID, name)] = true // it is the component's, and no data of no writer
	return c.keepListed(ctx, &j, old)
}

// keepListed adds the base's entry as it is.
func (c *copier) keepListed(ctx context.Context, j *job, old *repository.Entry) error {
	switch err := c.b.Holds(ctx, old.Content); {
	case errors.Is(err, repository.ErrDamaged):
		c.baseDamaged(err)
		return c.save(ctx, j)
	case err != nil:
		return err
	}
	if strings.HasPrefix(old.Attrs[AttrRanges], DocRanges) {
		if old.Attrs[AttrPartial] != "" {
			return c.save(ctx, j) // which ranges it is stands in the other record
		}
		old.Attrs = maps.Clone(old.Attrs)
		delete(old.Attrs, AttrRanges)
	}
	e := old.Clone()
	e.Device, e.HardLink = c.device[j.volume.ID], 0
	e.Attrs = maps.Clone(old.Attrs)
	e.Attrs[AttrBase] = c.a.typing(j.def).Base.Record.String()
	c.count(j, got{content: e.Content, entry: session.Entry{Name: j.entry.Name, Source: session.FromShadow, UID: j.entry.UID, GID: j.entry.GID}, unchanged: true})
	if err := c.add(ctx, j, e); err != nil {
		return fmt.Errorf("add /%s as the last backup has it: %w", old.Path, err)
	}
	return nil
}

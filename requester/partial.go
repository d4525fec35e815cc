package requester

import (
	"context"
	"errors"
	"fmt"
	"path"

	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// saveLists saves what a component's writer listed and no file specification
// has, then the partial files: before the rest, of which they are then left out
// (R-SET-41).
func (c *copier) saveLists(ctx context.Context, def *Component) error {
	p := c.a.writerLists
	if p == nil {
		return c.saveStayed(ctx, def)
	}
	for _, f := range p.Faults {
		if f.Component == def {
			c.fault(f)
		}
	}
	for _, s := range p.New {
		if s.Defining == def {
			if err := c.saveListedSet(ctx, s); err != nil {
				return err
			}
		}
	}
	for _, f := range p.Partial {
		if f.Defining == def {
			if err := c.savePartial(ctx, f); err != nil {
				return err
			}
		}
	}
	return c.saveStayed(ctx, def)
}

// fault tells of a writer's mistake, and fails its component if it must be.
func (c *copier) fault(f Fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.comps[f.Component]
	if len(r.WriterErrors) < maxWriterErrors {
		r.WriterErrors = append(r.WriterErrors, f.Path+": "+f.Text)
	}
	if !f.Fails {
		c.a.warn("%s: %s: %s", f.Component.Label(), f.Path, f.Text)
		return
	}
	c.failedFile(Failure{Path: f.Path, Writer: f.Component.Writer.Label(), Component: f.Component.FullPath(), Error: f.Text}, r, 0)
}

// maxWriterErrors bounds what is told of one component's lists; each fails it that must.
const maxWriterErrors = 1000

// saveListedSet saves what a new set of differenced files has to be saved of.
func (c *copier) saveListedSet(ctx context.Context, s *ListedSet) error {
	v, err := c.a.volume(ctx, s.Volume)
	if err != nil {
		return err
	}
	t, _, err := c.tree(ctx, v)
	if err != nil {
		return err
	}
	met := false
	err = matchSet(ctx, t, s.Set, c.a.fold, func(name string, e session.Entry, err error) error {
		j := job{tree: t, from: v.ID, name: name, volume: v, table: tableName(v.table, name), entry: e, cl: s.Claim, def: s.Defining,
			live: true, fresh: true, matched: matchedDifferenced}
		switch {
		case e.Mode.IsDir() && err == nil && s.Set.Recursive:
			return c.saveClaimedDir(ctx, &j, err)
		case err != nil && isMissing(err):
			return nil
		case c.a.claims.Excludes(s.Component.Writer, s.Volume, name): // R-SET-45
			met = true
			return nil
		case e.MountPoint && c.isRoot(j.table):
			return nil
		case err != nil:
			return c.failNew(ctx, &j, err)
		}
		met = true
		if c.isListed(s.Volume, name) {
			return nil
		}
		saved, err := c.saveDifferenced(ctx, &j, &s.Since, true)
		if saved {
			c.listed[c.placeKey(s.Volume, name)] = true
		}
		return err
	})
	if err != nil || met || vss.HasWildcard(s.Set.Pattern) {
		return err
	}
	return c.missing(s.Claim, s.Defining, "its writer lists it as a differenced file")
}

// missing notes a file that is named and not there (R-SET-5).
func (c *copier) missing(cl *Claim, def *Component, how string) error {
	v := c.a.volumes[cl.Volume]
	j := job{volume: v, table: tableName(v.table, path.Join(cl.Set.Dir, cl.Set.Pattern)), cl: cl, def: def}
	return c.note(&j, fmt.Errorf("%s and it is not there", how))
}

// failNew records a file that cannot be looked at.
func (c *copier) failNew(ctx context.Context, j *job, err error) error {
	entry, _ := newEntry(j.table, j.entry, c.device[j.volume.ID])
	entry.Attrs = c.attrs(j)
	return c.fail(ctx, j, entry, err)
}

// saveDifferenced deals with a differenced file: it is saved if it was modified
// after the writer's time, or, where our records decide, if it is not the file of
// the base. Else the record has the base's content. A file that the base lacks is
// saved, unless the set is fresh: then the component's specifications lack it too.
func (c *copier) saveDifferenced(ctx context.Context, j *job, s *Since, fresh bool) (saved bool, err error) {
	if s.After(j.entry.Modified) {
		return true, c.save(ctx, j)
	}
	old, err := c.baseEntry(ctx, j.def, j.table)
	switch {
	case err != nil:
		return false, err
	case old == nil && fresh && !s.Records:
		return false, nil // exactly those modified after the time (R-SET-31)
	case old == nil || s.Records && !c.sameAsBase(old, j):
		return true, c.save(ctx, j)
	}
	if filled, err := c.fill(ctx, j); filled || err != nil {
		return true, err
	}
	return true, c.save(ctx, j)
}

// sameAsBase reports whether a file is the one that the record has which its
// component set builds upon, as far as times tell.
func (c *copier) sameAsBase(old *repository.Entry, j *job) bool {
	rec := c.baseRecord(j.def)
	return rec != nil && j.volume.TimesTell && old.Attrs[AttrVolume] == j.volume.ID && unchangedSince(old, j.entry, rec.Started)
}

// isListed reports whether a file was saved, or is, because a writer lists it, or
// did for the base, though no specification has it.
func (c *copier) isListed(volume, name string) bool {
	if c.a.writerLists == nil && len(c.listed) == 0 {
		return false
	}
	return c.listed[c.placeKey(volume, name)] || c.a.writerLists.PartialAt(volume, name, c.a.style) != nil
}

func (c *copier) placeKey(volume, name string) placeKey {
	return placeKey{volume, c.a.style.NameKey(name)}
}

// savePartial saves one partial file.
func (c *copier) savePartial(ctx context.Context, f *PartialFile) error {
	from, err := c.a.volume(ctx, f.From)
	if err != nil {
		return err
	}
	normal, err := c.a.volume(ctx, f.Volume)
	if err != nil {
		return err
	}
	typing := c.a.typing(f.Defining)
	mustCopy := !f.New && typing.FromShadow(f.File)
	t, err := c.claimTree(ctx, f.Claim, from, mustCopy)
	if err != nil {
		return err
	}
	set := provider.FileSet{Dir: f.Dir, Pattern: f.Set.Pattern}
	return matchSet(ctx, t, set, false, func(name string, e session.Entry, err error) error {
		j := job{tree: t, from: from.ID, name: name, volume: normal, table: tableName(normal.table, path.Join(f.Set.Dir, f.Set.Pattern)),
			entry: e, cl: f.Claim, def: f.Defining, live: !mustCopy, fresh: f.New, matched: matchedPartial, lacked: !f.New && !typing.Saves(f.File)}
		switch {
		case err != nil && isMissing(err):
			return c.missing(f.Claim, f.Defining, "its writer lists it as a partial file")
		case err == nil && f.Err != nil:
			err = f.Err
		case err == nil && !e.Mode.IsRegular():
			err = errors.New("its writer lists it as a partial file, and it is no regular file")
		}
		if err != nil {
			return c.failNew(ctx, &j, err)
		}
		j.part = &byRanges{ranges: f.Ranges}
		old, known, err := c.baseLookup(ctx, f.Defining, j.table)
		if err != nil {
			return err
		}
		j.part.base, j.part.whole = old, !known || typing.wantsWhole(old != nil)
		if typing.Base != nil {
			j.part.record = typing.Base.Record.String()
		}
		return c.saveAnew(ctx, j)
	})
}

// byRanges is what a job knows of the ranges of its file.
type byRanges struct {
	ranges vss.Ranges // as the writer gave them
	// base is what the record that the component builds upon has of the file: nil
	// if nothing, or if it cannot be read.
	base   *repository.Entry
	whole  bool // the ranges alone would not do
	record string
}

// partGot is what reading by ranges gave.
type partGot struct {
	ranged bool       // by ranges, not whole
	ranges vss.Ranges // what was read, normal
	only   bool       // the rest is in no record
	base   string     // the record whose content was continued
}

// wantsWhole reports whether a partial file is saved whole because nothing has what
// its ranges leave out: there is no backup to build upon, or it lacks the file. The
// writer may not know that: one without stamps counts from a backup that this
// repository may have lost. In a full backup or a copy its ranges are all that it
// wants to be saved, and what a log backup lacks is in the backups before it.
func (t *Typing) wantsWhole(inBase bool) bool {
	switch t.Asked {
	case vss.BackupTypeIncremental, vss.BackupTypeDifferential:
		return !inBase
	case vss.BackupTypeLog:
		return t.Base == nil
	}
	return false
}

// putPartial stores what is to be stored of a partial file. The ranges are put in
// order, merged, and cut off at the end of the file. If nothing has the rest it is
// stored whole ([Typing.wantsWhole]); if that is as the writer wants it, or the
// base has itself only ranges of the file, the ranges are all that is stored. Else
// the rest is the base's, if the file is the one that the base has; what it has
// grown by since is read too, ranges or not. In all other cases it is read whole:
// more than was asked for, and never less.
func (c *copier) putPartial(ctx context.Context, j *job, g *got, src repository.Source) (repository.Content, error) {
	p, size := j.part, uint64(src.Size)
	ranges := p.ranges.Clip(size)
	switch {
	case p.whole:
		return c.put(ctx, j, src)
	case p.base == nil || p.base.Attrs[AttrPartial] != "":
		g.part = partGot{ranged: true, ranges: ranges, only: ranges.Total() < size} // they may be all of the file
		return c.b.PutFile(ctx, repository.Source{At: src.At, Size: src.Size, Data: within(src, ranges)})
	case !sameStill(p.base, &g.entry, j.cl.Alternate):
		return c.put(ctx, j, src)
	}
	if had := uint64(p.base.Content.Size()); had < size {
		ranges = ranges.Union(vss.Ranges{{Offset: had, Length: size - had}})
	}
	content, err := c.b.PutRanges(ctx, p.base.Content, src, repositoryRanges(ranges))
	if errors.Is(err, repository.ErrDamaged) {
		return c.put(ctx, j, src)
	}
	g.part = partGot{ranged: true, ranges: ranges, base: p.record}
	return content, err
}

// sameStill reports whether a base has the file that its writer gives ranges of,
// as far as that shows: another inode or another birth is another file. A file
// read at an alternate path is made for each backup.
func sameStill(base *repository.Entry, e *session.Entry, alternate bool) bool {
	if base.Type != repository.Regular || base.Attrs[AttrOutcome] != "" || base.Content.Size() != base.Size {
		return false
	}
	if alternate || base.Inode == 0 || e.Inode == 0 {
		return true
	}
	return base.Inode == e.Inode && (base.BirthTime.IsZero() || e.Created.IsZero() || base.BirthTime.Equal(e.Created))
}

// within gives the data of a source in ranges.
func within(src repository.Source, ranges vss.Ranges) []repository.Range {
	if src.Data != nil {
		var data vss.Ranges
		for _, r := range src.Data {
			data = append(data, vss.Range{Offset: uint64(r.Offset), Length: uint64(r.Length)})
		}
		ranges = ranges.Intersect(data)
	}
	return repositoryRanges(ranges)
}

// repositoryRanges are ranges of a file whose size is an int64. It never gives
// nil, which would be all of the file.
func repositoryRanges(ranges vss.Ranges) []repository.Range {
	out := make([]repository.Range, 0, len(ranges))
	for _, r := range ranges {
		out = append(out, repository.Range{Offset: int64(r.Offset), Length: int64(r.Length)})
	}
	return out
}

// maxRangesAttr is how long AttrRanges may be; longer lists are documents.
const maxRangesAttr = 4 << 10

// maxRangesLists bounds the documents of one record that list ranges; what has
// no room is read as "all", which is more than it was and never less.
const maxRangesLists = 1 << 10

// tellPart writes how a partial file was taken into its entry.
func (c *copier) tellPart(e *repository.Entry, g *partGot) error {
	if !g.ranged {
		return nil
	}
	if g.base != "" {
		e.Attrs[AttrBase] = g.base
	}
	if g.only {
		e.Attrs[AttrPartial] = "only"
	}
	text := "0:0" // none: an empty list would say all
	if len(g.ranges) > 0 && len(g.ranges)*4 <= maxRangesAttr {
		text = g.ranges.Format()
	}
	if len(g.ranges)*4 > maxRangesAttr || len(text) > maxRangesAttr {
		c.mu.Lock()
		defer c.mu.Unlock()
		if len(c.rangesLists) >= maxRangesLists || 8+16*len(g.ranges) > maxDocument {
			if g.only {
				return fmt.Errorf("it has %d ranges, and the record has no room for their list", len(g.ranges))
			}
			return nil
		}
		text = fmt.Sprintf("%s%d", DocRanges, len(c.rangesLists))
		c.rangesLists = append(c.rangesLists, g.ranges)
	}
	e.Attrs[AttrRanges] = text
	return nil
}

// ReadEntryRanges gives the ranges that an entry's AttrRanges tells of, normal.
// ok is false if it tells of none, which means all of the file. What it reads
// comes from the medium, and is bounded.
func ReadEntryRanges(ctx context.Context, rec *repository.Record, e *repository.Entry) (ranges vss.Ranges, ok bool, err error) {
	if _, ok = e.Attrs[AttrRanges]; !ok {
		return nil, false, nil
	}
	ranges, err = held(ctx, rec, e)
	return ranges, true, err
}

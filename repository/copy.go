package repository

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// The attributes that a copied record has in RecordInfo.Attrs. Both are written
// as the id of a repository, a slash, and the id of a record in it.
const (
	// AttrCopiedFrom names the record that it was copied from.
	AttrCopiedFrom = "copied_from"
	// AttrOrigin names the record that a chain of copies began with: two records
	// of one origin are copies of one backup.
	AttrOrigin = "origin"
)

// CopyProgress says how far a copy is.
type CopyProgress struct {
	// Entries counts the lines of the file table done, Files the regular files
	// among them, Bytes their sizes.
	Entries, Files, Bytes int64
	// Reused counts the files that an earlier copy has already.
	Reused int64
	// BytesRead counts what was read from the source, decoded.
	BytesRead int64
}

// Copier copies records from one repository to another that has other keys.
// It is used by one goroutine.
//
// Chunks are named anew under the target's keys, their boundaries stay: extents
// are the same, holes and parts of chunks included, and what one copy stored the
// next finds. Chunks are read in the order in which they lie in the source's
// packs, some thousand at a time, and only those that were not read for an
// earlier record of the copier; files that are equal to those of a record copied
// before are taken from its copy. A copy that was interrupted is run again:
// records that are done are known by their origin, and what was stored of the
// others is found.
type Copier struct {
	to, from *Repository
	progress func(CopyProgress)
	// copies are the target's records by origin.
	copies map[string]*Record
	// pairs are source records and their copies, in the order of time.
	pairs []copyPair
	known *lru[copyKey, ID]
}

type copyPair struct{ src, dst *Record }

// copyKey is a chunk of the source, as one of data or of metadata.
type copyKey struct {
	kind objectKind
	ref  chunkRef
}

// keptCopies is how many chunks a copier remembers the new names of.
const keptCopies = 1 << 17

// NewCopier reads which records both repositories have. progress, if not nil,
// is called now and then while a record is copied. If records cannot be read the
// Copier does without them, and the error, which wraps ErrDamaged, names each:
// of a damaged one in the target a second copy would be made. Other errors give
// no Copier: ErrInvalid says that both are one repository, ErrWriteOnly that a
// key cannot read.
func NewCopier(ctx context.Context, to, from *Repository, progress func(CopyProgress)) (*Copier, error) {
	if to.ID() == from.ID() {
		return nil, invalidf("both are the repository %s", to.ID().Short())
	}
	if to.WriteOnly() || from.WriteOnly() {
		return nil, fmt.Errorf("copy records: %w", ErrWriteOnly)
	}
	c := &Copier{to: to, from: from, progress: progress, copies: map[string]*Record{}, known: newLRU[copyKey, ID](keptCopies)}
	there, damagedThere := to.Records(ctx)
	if damagedThere != nil && !errors.Is(damagedThere, ErrDamaged) {
		return nil, damagedThere
	}
	for _, rec := range there {
		c.copies[origin(rec)] = rec
	}
	sources, damaged := from.Records(ctx)
	if damaged != nil && !errors.Is(damaged, ErrDamaged) {
		return nil, damaged
	}
	for _, rec := range sources {
		if dst := c.copies[origin(rec)]; dst != nil {
			c.pairs = append(c.pairs, copyPair{rec, dst})
		}
	}
	return c, errors.Join(damagedThere, damaged)
}

// origin names the backup that a record is, or is a copy of.
func origin(rec *Record) string {
	if o := rec.Attrs[AttrOrigin]; o != "" {
		return o
	}
	return recordPlace(rec)
}

func recordPlace(rec *Record) string { return rec.repo.ID().String() + "/" + rec.ID.String() }

// Copied gives the record of the target that is the same backup as a record of
// the source, nil if there is none.
func (c *Copier) Copied(src *Record) *Record { return c.copies[origin(src)] }

// Copy copies a record of the source with all it needs, and the notes about it.
// One that is there already is given as it is; only notes that it lacks are
// added. Times, host, user, tags, documents, summary, attributes and the file
// table are the same; parents become their copies, and are left out if they have
// none. ErrDamaged says that something the record needs cannot be read, and names
// the first entry that needs it; other records can be copied all the same.
func (c *Copier) Copy(ctx context.Context, src *Record) (*Record, error) {
	if src.repo != c.from {
		return nil, invalidf("record %s is not of the repository that is copied from", src.ID.Short())
	}
	dst := c.copies[origin(src)]
	if dst == nil {
		var err error
		if dst, err = c.record(ctx, src); err != nil {
			return nil, fmt.Errorf("copy record %s: %w", src.ID.Short(), err)
		}
		c.copies[origin(src)] = dst
		c.pairs = append(c.pairs, copyPair{src, dst})
	}
	if err := c.notes(ctx, src, dst); err != nil {
		return dst, fmt.Errorf("copy the notes of record %s: %w", src.ID.Short(), err)
	}
	return dst, nil
}

// record copies all of a record but its notes.
func (c *Copier) record(ctx context.Context, src *Record) (*Record, error) {
	b, err := c.to.Begin(ctx, BeginOptions{})
	if err != nil {
		return nil, err
	}
	defer b.Abort()
	run := &copyRun{c: c, b: b, kind: kindDataPack}
	if base, ok := c.base(src); ok {
		run.base = newCopiedBase(ctx, base)
		defer run.base.close()
	}
	for e, err := range src.Table().All(ctx) {
		if err != nil {
			return nil, err
		}
		if err := run.entry(ctx, e); err != nil {
			return nil, err
		}
	}
	if err := run.flush(ctx); err != nil {
		return nil, err
	}
	info := src.RecordInfo
	if info.Documents, err = run.documents(ctx, src); err != nil {
		return nil, err
	}
	info.Attrs = maps.Clone(info.Attrs)
	if info.Attrs == nil {
		info.Attrs = map[string]string{}
	}
	info.Attrs[AttrOrigin], info.Attrs[AttrCopiedFrom] = origin(src), recordPlace(src)
	info.Parents = c.parents(src)
	return b.Commit(ctx, info)
}

// base finds a record copied before that has much in common with the source: a
// parent, or else the last of the same host.
func (c *Copier) base(src *Record) (base copyPair, ok bool) {
	for _, p := range c.pairs {
		if slices.Contains(src.Parents, p.src.ID) {
			return p, true
		}
		if p.src.Host.ID == src.Host.ID && p.src.Host.Name == src.Host.Name {
			base, ok = p, true
		}
	}
	return base, ok
}

// parents gives the copies of a record's parents.
func (c *Copier) parents(src *Record) (parents []ID) {
	for _, id := range src.Parents {
		for _, p := range c.pairs {
			if p.src.ID == id {
				parents = append(parents, p.dst.ID)
			}
		}
	}
	return parents
}

// notes copies the notes that the copy lacks.
func (c *Copier) notes(ctx context.Context, src, dst *Record) error {
	want, err := c.from.Notes(ctx, src.ID)
	if err != nil && !errors.Is(err, ErrDamaged) || len(want) == 0 {
		return err
	}
	have, derr := c.to.Notes(ctx, dst.ID)
	if derr != nil && !errors.Is(derr, ErrDamaged) {
		return derr
	}
	for _, n := range want {
		same := func(o Note) bool { return o.Time.Equal(n.Time) && o.Kind == n.Kind && string(o.Body) == string(n.Body) }
		if slices.ContainsFunc(have, same) {
			continue
		}
		if _, err := c.to.AddNote(ctx, dst.ID, n); err != nil {
			return err
		}
	}
	return err
}

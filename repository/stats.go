package repository

import (
	"context"
	"fmt"

	"github.com/sombra-backup/sombra/repository/store"
)

// Usage counts objects of the store and adds up their sizes.
type Usage struct {
	Objects int64 `json:"objects"`
	Bytes   int64 `json:"bytes"`
}

func (u *Usage) add(size int64) {
	u.Objects++
	u.Bytes += size
}

// StoreUsage is what the repository takes in its store, by kind of object.
type StoreUsage struct {
	Total Usage `json:"total"`
	// Data and Meta are the packs of files' data, and of file tables, extent
	// lists and documents.
	Data    Usage `json:"data_packs"`
	Meta    Usage `json:"meta_packs"`
	Index   Usage `json:"index"`
	Records Usage `json:"records"`
	Notes   Usage `json:"notes"`
	Keys    Usage `json:"keys"`
	// Other is everything else, config included.
	Other Usage `json:"other"`
}

// StoreUsage lists the store. It reads no object.
func (r *Repository) StoreUsage(ctx context.Context) (StoreUsage, error) {
	if err := r.ready(ctx); err != nil {
		return StoreUsage{}, err
	}
	var u StoreUsage
	err := r.store.List(ctx, "", func(info store.Info) error {
		u.Total.add(info.Size)
		o, _ := parseName(info.Name)
		switch o.kind {
		case kindDataPack:
			u.Data.add(info.Size)
		case kindMetaPack:
			u.Meta.add(info.Size)
		case kindIndex:
			u.Index.add(info.Size)
		case kindRecord:
			u.Records.add(info.Size)
		case kindNote:
			u.Notes.add(info.Size)
		case kindSlot:
			u.Keys.add(info.Size)
		default:
			u.Other.add(info.Size)
		}
		return nil
	})
	if err != nil {
		return StoreUsage{}, fmt.Errorf("list objects: %w", err)
	}
	return u, nil
}

// ChunkUse counts chunks.
type ChunkUse struct {
	// Chunks counts them, each once, and Bytes adds up their lengths.
	Chunks int64 `json:"chunks"`
	Bytes  int64 `json:"bytes"`
	// Stored is their share of the packs they lie in: compressed, encrypted,
	// with their share of what surrounds them.
	Stored int64 `json:"stored"`
}

func (u *ChunkUse) add(v ChunkUse) {
	u.Chunks += v.Chunks
	u.Bytes += v.Bytes
	u.Stored += v.Stored
}

// ChunkStats says what the packs hold, as seen from some records.
type ChunkStats struct {
	// Data and Meta are the chunks that the records use.
	Data ChunkUse `json:"data"`
	Meta ChunkUse `json:"meta"`
	// Unused are the chunks in packs that none of the records uses. Chunks that
	// are stored more often than once are unused but for one place.
	Unused ChunkUse `json:"unused"`
	// UnusedPacks are the packs of which nothing is used.
	UnusedPacks Usage `json:"unused_packs"`
	// Unindexed are packs that no index names: of a backup that is going on, or
	// was interrupted.
	Unindexed Usage `json:"unindexed_packs"`
	// Missing counts chunks that the records use and that are in no pack the
	// index names: damage, which Check names.
	Missing int64 `json:"missing"`
	// Unique has, for each of the records, the chunks that no other one of them
	// uses.
	Unique []ChunkUse `json:"-"`
}

// ChunkStats goes through the records and the index, and says what the records
// use of the packs. Blocks of file tables that many records share are read
// twice at most. It takes about nine bytes of memory a chunk. What cannot be
// read is an error that names it: nobody knows what it would have used.
func (r *Repository) ChunkStats(ctx context.Context, records []*Record) (*ChunkStats, error) {
	if err := r.ready(ctx); err != nil {
		return nil, err
	}
	if r.keys.private == nil {
		return nil, ErrWriteOnly
	}
	if len(records) > maxMarkOwners {
		return nil, invalidf("%d records", len(records))
	}
	m := &chunkMarker{r: r, marks: newChunkMarks(r.index.lines())}
	for i, rec := range records {
		m.owner = uint64(i + 1)
		if err := m.record(ctx, rec); err != nil {
			return nil, fmt.Errorf("record %s: %w", rec.ID.Short(), err)
		}
		rec.table.Forget()
	}
	s := &ChunkStats{Unique: make([]ChunkUse, len(records))}
	if err := s.count(ctx, r, m.marks); err != nil {
		return nil, err
	}
	return s, nil
}

// lines counts the lines of the index.
func (x *chunkIndex) lines() (n uint64) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for _, p := range x.parts {
		n += p.Lines
	}
	return n
}

// chunkMarker marks all that one record after the other uses.
type chunkMarker struct {
	r     *Repository
	marks *chunkMarks
	owner uint64
}

// record marks what a record uses.
func (m *chunkMarker) record(ctx context.Context, rec *Record) error {
	for _, c := range rec.Documents {
		if err := m.node(ctx, &c.top); err != nil {
			return err
		}
	}
	t := rec.table
	if t.root.Entries == 0 {
		return nil
	}
	return m.block(ctx, t, tableRef{ID: t.root.ID, Length: t.root.Length, Entries: t.root.Entries}, int(t.root.Level), true)
}

// block marks a block of a file table and all below it, unless that was done.
func (m *chunkMarker) block(ctx context.Context, t *Table, ref tableRef, level int, top bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if below, err := m.marks.mark(ID(ref.ID), m.owner); err != nil || !below {
		return err
	}
	if level > 0 {
		refs, err := t.upper(ctx, ref, level, top)
		if err != nil {
			return err
		}
		for _, ref := range refs {
			if err := m.block(ctx, t, ref, level-1, false); err != nil {
				return err
			}
		}
		return nil
	}
	entries, err := t.leaf(ctx, ref, top)
	if err != nil {
		return err
	}
	for _, e := range entries {
		for c := range e.contents() {
			if err := m.node(ctx, &c.top); err != nil {
				return fmt.Errorf("%s: %w", printable(e.Root, e.Path), err)
			}
		}
	}
	return nil
}

// node marks the chunks that a node refers to, and all below them.
func (m *chunkMarker) node(ctx context.Context, n *listNode) error {
	for i, ref := range n.refs {
		below, err := m.marks.mark(ref.id, m.owner)
		if err != nil {
			return err
		}
		if !below || n.level == 0 {
			continue
		}
		child, err := m.r.listNode(ctx, n, i)
		if err != nil {
			return err
		}
		if err := m.node(ctx, child); err != nil {
			return err
		}
	}
	return nil
}

// count goes through the index and adds up what is marked and what is not.
func (s *ChunkStats) count(ctx context.Context, r *Repository, marks *chunkMarks) error {
	packs := map[ID]uint32{} // size; zero when counted
	for _, prefix := range []string{prefixData, prefixMeta} {
		err := r.store.List(ctx, prefix, func(info store.Info) error {
			if o, ok := parseName(info.Name); ok && info.Size > 0 && info.Size <= maxPack {
				packs[o.id] = uint32(info.Size)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("list packs: %w", err)
		}
	}
	var names []listedObject
	err := r.store.List(ctx, prefixIndex, func(info store.Info) error {
		if o, ok := parseName(info.Name); ok {
			names = append(names, listedObject{o.id, info.Size})
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("list index: %w", err)
	}
	var memory []byte
	for _, o := range names {
		if err := s.object(ctx, r, o, &memory, packs, marks); err != nil {
			return err
		}
	}
	for _, size := range packs {
		if size > 0 {
			s.Unindexed.add(int64(size))
		}
	}
	s.Missing = marks.uncounted()
	return nil
}

// packLine is what counts of a line of the index.
type packLine struct {
	owner        uint32 // zero: unused
	pack, length uint32
}

// object adds up the packs that one index object names and no other one before
// it did.
func (s *ChunkStats) object(ctx context.Context, r *Repository, o listedObject, memory *[]byte, packs map[ID]uint32, marks *chunkMarks) error {
	var lines []packLine
	var sums []packSum
	part, _, err := r.index.readPart(ctx, o, memory, func(part *indexPart, line []byte) {
		l := readLine(line)
		if sums == nil {
			sums = make([]packSum, len(part.Packs))
		}
		p := ID(part.Packs[l.pack].ID)
		if packs[p] == 0 || int64(packs[p]) != part.Packs[l.pack].Size {
			return
		}
		owner := marks.take(l.id)
		sums[l.pack].bytes += int64(l.length)
		sums[l.pack].used = sums[l.pack].used || owner > 0
		lines = append(lines, packLine{uint32(owner), l.pack, l.length})
	})
	if err != nil {
		return err
	}
	for _, l := range lines {
		p := part.Packs[l.pack]
		use := ChunkUse{1, int64(l.length), int64(float64(p.Size) * float64(l.length) / float64(sums[l.pack].bytes))}
		switch {
		case l.owner == 0:
			s.Unused.add(use)
			continue
		case objectKind(p.Kind) == kindDataPack:
			s.Data.add(use)
		default:
			s.Meta.add(use)
		}
		if l.owner != markShared {
			s.Unique[l.owner-1].add(use)
		}
	}
	for n, p := range part.Packs {
		id := ID(p.ID)
		if packs[id] == 0 || int64(packs[id]) != p.Size {
			continue
		}
		if sums == nil || !sums[n].used {
			s.UnusedPacks.add(p.Size)
		}
		packs[id] = 0
	}
	return nil
}

// packSum adds up the lines of a pack.
type packSum struct {
	bytes int64
	used  bool
}

// chunkMarks is a set of chunks, each with the number of the record that uses
// it or the word that several do: eight bytes a place, 40 bits of the id among
// them. The place itself tells more bits. That two chunks are taken for one is
// a chance of one in millions for all of a large repository, and would miscount
// one chunk.
type chunkMarks struct {
	slots []uint64
	n     int
}

const (
	// A slot has 40 bits of the id above one bit for a chunk that the index was
	// found to have, and 23 bits for the owner. A slot of zero is free.
	markBits    = 24
	markCounted = 1 << 23
	markShared  = markCounted - 1
	// maxMarkOwners is the most records there may be.
	maxMarkOwners = markShared - 1
)

func newChunkMarks(expected uint64) *chunkMarks {
	return &chunkMarks{slots: make([]uint64, max(1024, expected+expected/8))}
}

// find gives the slot of a chunk, free or not.
func (m *chunkMarks) find(id ID) *uint64 {
	h, key := idWord(id, 0), idWord(id, 8)&^(1<<markBits-1)
	for i := h % uint64(len(m.slots)); ; i++ {
		if i == uint64(len(m.slots)) {
			i = 0
		}
		if s := &m.slots[i]; *s == 0 || *s&^(1<<markBits-1) == key {
			return s
		}
	}
}

// idWord gives eight bytes of an id as a number.
func idWord(id ID, at int) (w uint64) {
	for _, b := range id[at : at+8] {
		w = w<<8 | uint64(b)
	}
	return w
}

// mark notes that a record uses the chunk. below says whether what lies below
// the chunk must be marked as well: the first time, and the first time that
// another record comes to it.
func (m *chunkMarks) mark(id ID, owner uint64) (below bool, err error) {
	s := m.find(id)
	switch was := *s & (markCounted - 1); {
	case *s == 0:
		*s = idWord(id, 8)&^(1<<markBits-1) | owner
		if m.n++; m.n > len(m.slots)/16*15 {
			return false, damagef("the records refer to many more chunks than the index has")
		}
		return true, nil
	case was == owner || was == markShared:
		return false, nil
	default:
		*s = *s&^(markCounted-1) | markShared
		return true, nil
	}
}

// take gives the owner of a chunk that the index has, zero if it is unused or
// was taken before.
func (m *chunkMarks) take(id ID) uint64 {
	s := m.find(id)
	if *s == 0 || *s&markCounted != 0 {
		return 0
	}
	*s |= markCounted
	return *s & (markCounted - 1)
}

// uncounted counts the marked chunks that were not taken.
func (m *chunkMarks) uncounted() (n int64) {
	for _, s := range m.slots {
		if s != 0 && s&markCounted == 0 {
			n++
		}
	}
	return n
}

package repository

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/sombra-backup/sombra/repository/store"
)

// checkPacks looks at the packs, those that the index names and the others.
func (c *checker) checkPacks(ctx context.Context) error {
	c.missing = map[ID]string{}
	for id, p := range c.sums {
		seen := c.packs[id]
		name := packName(p.kind, id)
		switch {
		case seen == nil:
			c.missing[id] = name
		case seen.kind != p.kind:
			seen.damaged = true
			c.problem(Problem{Object: packName(seen.kind, id), Err: damagef("it lies under the wrong prefix")})
		case seen.size != p.size:
			seen.damaged = true
			c.problem(Problem{Object: name, Err: damagef("it has %d bytes, not %d", seen.size, p.size)})
		}
	}
	order := c.packOrder()
	c.reads = c.o.Subset.choose(order, c.packs)
	for _, id := range order {
		if c.readsWhole(id) {
			c.progress.AllPacks++
			c.progress.AllBytes += c.packs[id].size
		}
	}
	c.read(0, 0)
	for _, id := range order {
		err := c.checkPack(ctx, id, c.packs[id])
		if errors.Is(err, store.ErrNotExist) {
			// Deleted since it was listed.
			c.total.Vanished++
			c.missing[id] = packName(c.packs[id].kind, id)
			delete(c.packs, id)
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// missingPacks reports the packs that are not there and of which records need
// something. The others were deleted by prune, or stored by nobody who needs
// them now.
func (c *checker) missingPacks(context.Context) error {
	for _, id := range slices.SortedFunc(maps.Keys(c.missing), func(a, b ID) int { return slices.Compare(a[:], b[:]) }) {
		if c.needed[id] || c.blind {
			c.problem(Problem{Object: c.missing[id], Err: damagef("it is missing")})
		} else {
			c.total.Gone++
		}
	}
	return nil
}

// packOrder gives the packs in the order of their names, so that two runs
// report alike.
func (c *checker) packOrder() []ID {
	ids := make([]ID, 0, len(c.packs))
	for id := range c.packs {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b ID) int { return slices.Compare(a[:], b[:]) })
	return ids
}

// readsWhole says whether a pack is to be read whole.
func (c *checker) readsWhole(id ID) bool { return c.o.ReadData && (c.reads == nil || c.reads[id]) }

// read counts packs that were read whole.
func (c *checker) read(packs, bytes int64) {
	c.progress.Packs += packs
	c.progress.Bytes += bytes
	if c.o.Progress != nil && c.o.ReadData {
		c.o.Progress(c.progress)
	}
}

// checkPack looks at one pack that is in the store.
func (c *checker) checkPack(ctx context.Context, id ID, seen *checkedPack) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	p := knownPack{kind: seen.kind, id: id, size: seen.size}
	name := packName(p.kind, id)
	if c.sums[id] == nil {
		c.total.Unindexed++
	}
	if c.readsWhole(id) {
		defer c.read(1, seen.size)
		c.total.PacksRead++
		c.total.BytesRead += seen.size
		err := c.r.checkPack(ctx, p, func(ch packedChunk) {
			c.total.ChunksRead++
			if seen.damaged {
				c.good[chunkPlace{id, ch.id}] = true
			}
		})
		if errors.Is(err, store.ErrNotExist) {
			return err
		}
		if errors.Is(err, ErrDamaged) && !seen.damaged {
			// Once more, now that it is known that the good ones are to be
			// told from the others.
			seen.damaged = true
			c.problem(Problem{Object: name, Err: err})
			err = c.r.checkPack(ctx, p, func(ch packedChunk) { c.good[chunkPlace{id, ch.id}] = true })
		}
		if err != nil && !errors.Is(err, ErrDamaged) {
			return err
		}
	}
	indexed := c.sums[id]
	if indexed == nil || seen.damaged {
		return nil
	}
	frames, err := c.r.directory(ctx, p)
	if errors.Is(err, store.ErrNotExist) {
		return err
	}
	if err != nil {
		seen.damaged = errors.Is(err, ErrDamaged)
		return c.object(name, err)
	}
	c.compare(id, frames, indexed)
	return nil
}

// compare says whether each index object that names the pack has exactly the
// lines that follow from the pack's directory.
func (c *checker) compare(pack ID, frames []packedFrame, indexed *indexedPack) {
	var want indexSum
	for _, f := range frames {
		for _, line := range appendLines(nil, 0, f) {
			c.sum(&want, line)
		}
	}
	for _, s := range indexed.objects {
		if s.lines != want.lines || s.sum != want.sum {
			c.problem(Problem{Object: indexName(s.object), Err: damagef("its %d lines of pack %s are not the %d of the pack's own directory", s.lines, pack, want.lines)})
		}
	}
}

// resolve says whether the chunk is there, whole as far as this check knows,
// and has the length.
func (c *checker) resolve(ctx context.Context, ref chunkRef) error {
	c.total.Extents++
	var found, fits, whole bool
	var pack ID
	var absent []ID
	err := c.r.index.find(ctx, ref.id, func(loc location) bool {
		found = true
		if loc.length != ref.length {
			return false
		}
		fits, pack = true, loc.pack.id
		seen := c.packs[pack]
		if seen == nil {
			absent = append(absent, pack)
		}
		// An index object that is superseded may know it better than the others.
		whole = seen != nil && (!seen.damaged && seen.size == loc.pack.size || c.good[chunkPlace{pack, ref.id}])
		return whole
	})
	if !whole {
		for _, id := range absent {
			c.needed[id] = true
		}
	}
	switch {
	case err != nil:
		return err
	case !found:
		return damagef("chunk %s is in no index and no pack", ref.id)
	case !fits:
		return damagef("chunk %s has not the %d bytes that are referred to", ref.id, ref.length)
	case !whole:
		return damagef("chunk %s is in pack %s, which is damaged or missing", ref.id, pack)
	}
	return nil
}

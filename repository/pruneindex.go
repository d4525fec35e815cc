package repository

import (
	"cmp"
	"context"
	"errors"
	"math/bits"
	"slices"

	"github.com/sombra-backup/sombra/repository/store"
)

// Every backup adds an index object, most of them small, and each costs whoever
// opens the repository a request. So prune merges them: of each class of sizes,
// eight times as large as the class before, fewer than mergeFactor are left, and
// what has fullIndex lines is left alone. A line is written anew once for each
// class at most, until its packs go.
const (
	mergeFactor = 8
	fullIndex   = 1 << 18
)

// indexWeight is how large an index object is, in lines. A pack table may have a
// quarter as many packs as there may be lines, and names of superseded objects
// are bounded too: two full objects together keep all bounds.
func indexWeight(part *indexPart) uint64 {
	return max(1, part.Lines, 2*uint64(len(part.packNo)), uint64(len(part.Supersedes)))
}

// sizeClass is the class of what is that large.
func sizeClass(size uint64) int { return (bits.Len64(size) - 1) / 3 }

// gone says whether a pack is no more. One that has not its length is there: of
// what it held the index alone can tell.
func (p *pruner) gone(no uint32) bool {
	return int(no) < len(p.packs) && (p.packs[no].absent && !p.packs[no].there || p.deleted[p.packs[no].id])
}

// rewriteIndex replaces index objects that name packs that are gone, and merges
// those that are small and many. Those that a backup which goes on may have
// written stay: its record will name them.
func (p *pruner) rewriteIndex(ctx context.Context) error {
	if p.o.DryRun {
		return nil
	}
	stale, small := p.indexesToRewrite()
	parts := mergeable(small)
	for part := range stale {
		parts = append(parts, part)
	}
	named := p.namedIndexes()
	for _, group := range groupIndexes(parts) {
		if len(group) > 1 || stale[group[0]] {
			if err := p.joinIndexes(ctx, group, named); err != nil {
				return err
			}
		}
	}
	return nil
}

// groupIndexes puts parts together that are to become one, the smallest first. No
// group is larger than two full ones, unless it is one part.
func groupIndexes(parts []*indexPart) (groups [][]*indexPart) {
	slices.SortFunc(parts, func(a, b *indexPart) int {
		return cmp.Or(cmp.Compare(indexWeight(a), indexWeight(b)), cmp.Compare(a.first, b.first))
	})
	for len(parts) > 0 {
		n, weight := 1, indexWeight(parts[0])
		for n < len(parts) && weight+indexWeight(parts[n]) <= 2*fullIndex {
			weight += indexWeight(parts[n])
			n++
		}
		groups = append(groups, parts[:n])
		parts = parts[n:]
	}
	return groups
}

// indexesToRewrite gives the index objects that name packs that are gone, and
// the others that are not full.
func (p *pruner) indexesToRewrite() (stale map[*indexPart]bool, small []*indexPart) {
	x := p.r.index
	stale = map[*indexPart]bool{}
	for _, part := range x.parts {
		t, ok := p.indexTimes[part.name]
		if !ok || x.superseded[part.name] || p.young(t) {
			continue
		}
		if slices.ContainsFunc(part.packNo, p.gone) {
			stale[part] = true
		} else if indexWeight(part) < fullIndex {
			small = append(small, part)
		}
	}
	return stale, small
}

// mergeable gives the parts of the largest class that has mergeFactor parts, and
// of all classes below it, none if no class has that many.
func mergeable(small []*indexPart) (parts []*indexPart) {
	count := map[int]int{}
	largest := -1
	for _, part := range small {
		class := sizeClass(indexWeight(part))
		if count[class]++; count[class] >= mergeFactor {
			largest = max(largest, class)
		}
	}
	for _, part := range small {
		if sizeClass(indexWeight(part)) <= largest {
			parts = append(parts, part)
		}
	}
	return parts
}

// namedIndexes are the index objects that records name.
func (p *pruner) namedIndexes() map[ID]bool {
	named := map[ID]bool{}
	for _, rec := range p.records {
		for _, id := range rec.indexes {
			named[id] = true
		}
	}
	return named
}

// joinIndexes puts one index object in the place of several.
func (p *pruner) joinIndexes(ctx context.Context, parts []*indexPart, named map[ID]bool) error {
	batch := indexBatch{packs: []indexPack{}}
	taken := map[uint32]bool{}
	var supersedes []ID
	listed := map[ID]bool{}
	supersede := func(id ID) {
		if !listed[id] {
			listed[id] = true
			supersedes = append(supersedes, id)
		}
	}
	for _, part := range parts {
		supersede(part.name)
		for _, s := range part.Supersedes {
			if named[ID(s)] {
				supersede(ID(s))
			}
		}
		err := p.takePart(ctx, &batch, part, taken)
		if errors.Is(err, store.ErrNotExist) {
			return nil // another prune replaced it, and sees to the others next time
		}
		if err != nil {
			return err
		}
	}
	object := batch.encode(p.r.keys, supersedes)
	if err := p.r.put(ctx, indexName(hashObject(object)), object); err != nil {
		return err
	}
	p.total.IndexesWritten++
	return nil
}

// takePart takes the lines of a part into the batch, but for those of packs that
// are gone, or that the batch has.
func (p *pruner) takePart(ctx context.Context, batch *indexBatch, part *indexPart, taken map[uint32]bool) error {
	numbers := map[uint32]uint32{}
	for i, no := range part.packNo {
		if p.gone(no) || taken[no] {
			continue
		}
		taken[no] = true
		numbers[uint32(i)] = uint32(len(batch.packs))
		batch.packs = append(batch.packs, p.r.index.tablePack(part, i))
	}
	var memory []byte
	return p.r.index.eachLineOf(ctx, part, &memory, func(_ uint64, line indexLine) error {
		if pack, ok := numbers[line.pack]; ok {
			line.pack = pack
			batch.lines = append(batch.lines, line)
		}
		return nil
	})
}

// deleteIndexes deletes index objects that were replaced long enough ago.
func (p *pruner) deleteIndexes(ctx context.Context) error {
	for _, part := range p.r.index.parts {
		t, ok := p.indexTimes[part.name]
		old := slices.ContainsFunc(part.Supersedes, func(s []byte) bool { _, ok := p.indexTimes[ID(s)]; return ok })
		if !ok || !old || p.now.Sub(t) < p.o.Grace || p.blocked(t) {
			continue
		}
		for _, s := range part.Supersedes {
			if _, ok := p.indexTimes[ID(s)]; !ok {
				continue
			}
			if !p.o.DryRun {
				gone, err := p.delete(ctx, indexName(ID(s)), t)
				if err != nil {
					return err
				}
				if !gone {
					continue
				}
			}
			delete(p.indexTimes, ID(s))
			p.total.IndexesDeleted++
		}
	}
	return nil
}

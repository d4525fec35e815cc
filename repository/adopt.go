package repository

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"

	"github.com/sombra-backup/sombra/repository/store"
)

// adopt takes in the packs that no index object read so far names, from their
// own directories. It is tried when a chunk was looked for in vain, once
// for each time the index was read, and says whether it found any. So a repository that lost index objects can still
// be read, slowly.
func (x *chunkIndex) adopt(ctx context.Context, r *Repository) (changed bool, err error) {
	x.mu.Lock()
	tried := x.adopted
	x.adopted = true
	x.mu.Unlock()
	if tried {
		return false, nil
	}
	packs, err := r.unindexed(ctx)
	if err != nil {
		x.mu.Lock()
		x.adopted = false
		x.mu.Unlock()
		return false, err
	}
	for len(packs) > 0 {
		batch := &indexBatch{}
		for len(packs) > 0 && len(batch.lines) < maxIndexEntries/2 {
			p := packs[0]
			packs = packs[1:]
			frames, err := r.directory(ctx, p)
			if errors.Is(err, ErrDamaged) {
				continue // Check names it; nothing can be had from it.
			}
			if err != nil {
				return changed, err
			}
			batch.add(p.kind, p.id, p.size, frames)
		}
		if len(batch.lines) == 0 {
			continue
		}
		if err := x.adoptBatch(batch); err != nil {
			return changed, err
		}
		changed = true
	}
	return changed, nil
}

// adoptBatch takes in lines that are in no index object.
func (x *chunkIndex) adoptBatch(batch *indexBatch) error {
	slices.SortFunc(batch.lines, compareLines)
	part := &indexPart{index: &index{indexTail: indexTail{Lines: uint64(len(batch.lines)), Packs: batch.packs}}}
	rand.Read(part.name[:])
	prefixes := make([]uint32, len(batch.lines))
	for i, line := range batch.lines {
		prefixes[i] = idPrefix(line.id)
		part.memory = line.append(part.memory)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.addLocked(part, prefixes)
}

// unindexed lists the packs that no index object read so far names.
func (r *Repository) unindexed(ctx context.Context) ([]knownPack, error) {
	var packs []knownPack
	for _, prefix := range []string{prefixData, prefixMeta} {
		err := r.store.List(ctx, prefix, func(info store.Info) error {
			o, ok := parseName(info.Name)
			if !ok {
				return nil
			}
			r.index.mu.RLock()
			_, known := r.index.packNo[o.id]
			r.index.mu.RUnlock()
			if !known {
				packs = append(packs, knownPack{kind: o.kind, id: o.id, size: info.Size})
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("list packs: %w", err)
		}
	}
	return packs, nil
}

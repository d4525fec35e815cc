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
// own directories, once for each time the index was read. So a repository that
// lost index objects can still be read, slowly. When it returns, whoever called
// it may look again: another goroutine may have done it meanwhile.
func (x *chunkIndex) adopt(ctx context.Context, r *Repository) error {
	x.adopting.Lock()
	defer x.adopting.Unlock()
	x.mu.RLock()
	done, times := x.adopted, x.refreshed
	x.mu.RUnlock()
	if done {
		return nil
	}
	packs, err := r.unindexed(ctx)
	if err == nil {
		err = r.directories(ctx, packs, x.adoptBatch)
	}
	if err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.adopted = x.refreshed == times
	return nil
}

// directories reads the directories of packs and gives them to f, many
// together. Packs that are damaged are passed over: check names them, and
// nothing can be had from them.
func (r *Repository) directories(ctx context.Context, packs []knownPack, f func(*indexBatch) error) error {
	batch := &indexBatch{}
	for i, p := range packs {
		frames, err := r.directory(ctx, p)
		if err != nil && !errors.Is(err, ErrDamaged) {
			return err
		}
		if err == nil {
			batch.add(p.kind, p.id, p.size, frames)
		}
		// A pack has at most maxPackChunks.
		if last := i+1 == len(packs); len(batch.lines) > 0 && (last || len(batch.lines) >= batchLines) {
			if err := f(batch); err != nil {
				return err
			}
			batch = &indexBatch{}
		}
	}
	return nil
}

// maxTakenUp is how many packs without an index a backup takes up: far more
// than interrupted backups leave, and few enough to be read while it begins.
const maxTakenUp = 4096

// takeUp has the backup index the packs that an interrupted one left without
// an index, so that what is in them is found and not stored again. (A backup on
// another machine that goes on may have put them and index them itself: a pack
// may be in several index objects.) A key that cannot read leaves them alone.
func (b *Backup) takeUp(ctx context.Context) error {
	if b.r.keys.private == nil {
		return nil
	}
	packs := b.unnamed
	b.unnamed = nil
	return b.r.directories(ctx, packs[:min(len(packs), maxTakenUp)], func(batch *indexBatch) error {
		if err := b.r.index.adoptBatch(batch); err != nil {
			return err
		}
		return b.pipe.index(batch)
	})
}

// adoptBatch takes in lines that are in no index object. It sorts them.
func (x *chunkIndex) adoptBatch(batch *indexBatch) error {
	slices.SortFunc(batch.lines, compareLines)
	part := &indexPart{index: &index{indexTail: indexTail{Lines: uint64(len(batch.lines)), Packs: batch.packs}}}
	rand.Read(part.name[:])
	for _, p := range batch.packs {
		part.sizes = append(part.sizes, uint32(p.Size))
	}
	prefixes := make([]uint32, len(batch.lines))
	for i, line := range batch.lines {
		prefixes[i] = idPrefix(line.id)
		part.memory = line.append(part.memory)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	// Their packs were listed just now.
	return x.addLocked(part, prefixes, true)
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
			_, known := r.index.packs.find(o.id)
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

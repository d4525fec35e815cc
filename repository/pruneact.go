package repository

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sombra-backup/sombra/repository/store"
)

// copyLive copies what is used of packs that are to go, and indexes packs that
// are kept and that no index object names. The copies are durable
// and in the index when it returns. A pack that cannot be read is left as it is.
func (p *pruner) copyLive(ctx context.Context) error {
	var adopted []knownPack
	for no := range p.packs {
		if pack := &p.packs[no]; pack.live > 0 && p.r.index.parts[pack.counted-1].memory != nil {
			adopted = append(adopted, pack.knownPack)
		}
	}
	if len(p.copied)+len(adopted) == 0 {
		return nil
	}
	var pipe *pipeline
	var err error
	if !p.o.DryRun {
		pipe = newPipeline(ctx, p.r, func([]indexLine) {})
		err = p.r.directories(ctx, adopted, pipe.index)
	}
	progress := Progress{AllPacks: int64(len(p.copied))}
	for _, no := range p.copied {
		progress.AllBytes += p.packs[no].live + p.packs[no].orphaned
	}
	p.tell(progress)
	for _, no := range p.copied {
		if err != nil {
			break
		}
		err = p.copyPack(ctx, pipe, no)
		progress.Packs++
		progress.Bytes = p.total.CopiedBytes
		p.tell(progress)
	}
	if pipe == nil {
		return err
	}
	if err != nil {
		pipe.abort(ctx)
		return err
	}
	if err := pipe.drain(); err != nil {
		return err
	}
	p.total.IndexesWritten += int64(len(pipe.written))
	return nil
}

// tell tells how far packs are copied.
func (p *pruner) tell(progress Progress) {
	if p.o.Progress != nil && !p.o.DryRun && progress.AllPacks > 0 {
		p.o.Progress(progress)
	}
}

// copyPack copies what is used of one pack, and has it marked.
func (p *pruner) copyPack(ctx context.Context, pipe *pipeline, no uint32) error {
	pack := &p.packs[no]
	frames, err := p.r.directory(ctx, pack.knownPack)
	for i := 0; i < len(frames) && err == nil; i++ {
		start := uint32(0)
		for _, c := range frames[i].chunks {
			if err = p.copyChunk(ctx, pipe, no, frames[i].offset, start, c); err != nil {
				break
			}
			start += c.size
		}
	}
	if err == nil {
		if !pack.marked {
			p.doomed = append(p.doomed, no)
		}
		return nil
	}
	if !errors.Is(err, ErrDamaged) || pipe != nil && pipe.err() != nil {
		return err
	}
	p.problem(Problem{Object: packName(pack.kind, pack.id), Err: err})
	return nil
}

// copyChunk copies one chunk if this is the place where it is used.
func (p *pruner) copyChunk(ctx context.Context, pipe *pipeline, no, offset, start uint32, c packedChunk) error {
	var at location
	found := false
	err := p.r.index.find(ctx, c.id, func(loc location) bool {
		here := loc.packNo == no && loc.offset == offset && loc.start == start && loc.length == c.size
		if here && (p.live.has(uint64(loc.number)) || p.rescue.has(uint64(loc.number))) {
			at, found = loc, true
		}
		return found
	})
	if err != nil || !found {
		return err
	}
	p.total.Copied++
	p.total.CopiedBytes += int64(c.size)
	if pipe == nil {
		return nil
	}
	data, err := p.r.chunkAt(ctx, c.id, c.size, at)
	if err != nil {
		return err
	}
	return pipe.add(at.pack.kind, c.id, data)
}

// putMarks marks packs, then confirms these marks and those that a prune that
// was killed could not confirm.
func (p *pruner) putMarks(ctx context.Context) error {
	if p.o.DryRun {
		return nil
	}
	var unconfirmed []ID
	for _, m := range p.marks {
		if m.seen.IsZero() && len(m.packs) > 0 {
			unconfirmed = append(unconfirmed, m.id)
		}
	}
	for numbers := range slices.Chunk(p.doomed, maxMarkPacks) {
		packs := make([]knownPack, len(numbers))
		for i, no := range numbers {
			packs[i] = p.packs[no].knownPack
		}
		id, err := p.r.putMark(ctx, packs, nil)
		if err != nil {
			return err
		}
		unconfirmed = append(unconfirmed, id)
	}
	for ids := range slices.Chunk(unconfirmed, maxMarkPacks) {
		if _, err := p.r.putMark(ctx, nil, ids); err != nil {
			return err
		}
	}
	return nil
}

// deletePacks deletes packs whose time has come.
func (p *pruner) deletePacks(ctx context.Context) error {
	for _, no := range p.dead {
		pack := p.packs[no]
		if !p.o.DryRun {
			gone, err := p.delete(ctx, packName(pack.kind, pack.id), pack.seen)
			if err != nil {
				return err
			}
			if !gone {
				p.waits(&pack, pack.seen.Add(p.lock))
				continue
			}
		}
		p.deleted[pack.id] = true
		p.total.Deleted++
		p.total.DeletedBytes += pack.size
	}
	return nil
}

// keepMarks is how much longer than two graces marks stay when their packs are
// gone: a loss of power may undo a deletion, and a prune that slept may do it
// again.
const keepMarks = 72 * time.Hour

// deleteMarks deletes marks that have nothing left to say.
func (p *pruner) deleteMarks(ctx context.Context) error {
	if p.o.DryRun {
		return nil
	}
	there := map[ID]bool{}
	for i := range p.packs {
		if pack := &p.packs[i]; !pack.absent && !p.deleted[pack.id] {
			there[pack.id] = true
		}
	}
	for _, prefix := range []string{prefixData, prefixMeta} {
		// Packs of which no directory could be read have no number.
		err := p.r.store.List(ctx, prefix, func(info store.Info) error {
			if o, ok := parseName(info.Name); ok {
				there[o.id] = true
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("list packs: %w", err)
		}
	}
	left := map[ID]bool{}
	for _, m := range p.marks {
		left[m.id] = true
	}
	// Marks go before those that confirm them.
	slices.SortStableFunc(p.marks, func(a, b *mark) int { return len(a.confirms) - len(b.confirms) })
	for _, m := range p.marks {
		old := p.now.Sub(m.time) >= 2*p.o.Grace+keepMarks
		if !old || slices.ContainsFunc(m.packs, func(id ID) bool { return there[id] }) || slices.ContainsFunc(m.confirms, func(id ID) bool { return left[id] }) {
			continue
		}
		gone, err := p.delete(ctx, markName(m.id), m.time)
		if err != nil {
			return err
		}
		left[m.id] = !gone
	}
	return nil
}

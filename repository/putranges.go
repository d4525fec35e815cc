package repository

import (
	"context"
	"encoding/binary"
)

// PutRanges stores a new version of base of which only the given ranges
// changed. Only these, and what lies past the end of base, are read from the
// source, and of them only what src.Data calls data; they become new chunks
// (many small ranges share one), and all other extents point into the chunks
// of base. src.Size may be less or more than base.Size(). The ranges may come
// in any order, overlap, and reach past the end.
//
// When under half of the bytes of the chunks that the new version would refer
// to are used by it, the ranges that lie in such chunks are read and stored
// anew in passing; src.At must therefore be able to give all of the file, and
// src.Data, if not nil, describe all of it.
//
// base must be of a committed record. ErrDamaged says that its extent list
// cannot be read or refers to chunks that are gone: then the file must be
// stored with PutFile. Other errors are as PutFile's.
func (b *Backup) PutRanges(ctx context.Context, base Content, src Source, changed []Range) (Content, error) {
	if err := b.enter(ctx); err != nil {
		return Content{}, err
	}
	defer b.leave()
	return b.putRanges(ctx, base, src, changed)
}

func (b *Backup) putRanges(ctx context.Context, base Content, src Source, changed []Range) (Content, error) {
	plan, err := planRanges(src, base.size, changed)
	if err != nil {
		return Content{}, err
	}
	x := newExtentReader(b.r, base)
	use := newUsage(b.r.usageLimit)
	if err := b.eachKept(ctx, x, plan, src.Size, func(_ int64, p piece) error { return use.add(p) }); err != nil {
		return Content{}, err
	}
	for ref := range use.chunks {
		if err := b.stored(ctx, ref); err != nil {
			return Content{}, err
		}
	}
	if use.mask != 0 {
		// Only a sample was looked at. That is enough while the base stands, so
		// that all it needs is there, and no pack is about to be deleted.
		b.sampled.Store(true)
		if !b.baseStands || b.r.index.anyMarked() {
			err := b.eachKept(ctx, x, plan, src.Size, func(_ int64, p piece) error {
				if p.hole {
					return nil
				}
				return b.stored(ctx, p.chunk)
			})
			if err != nil {
				return Content{}, err
			}
		}
	}
	var fresh int64
	for _, p := range plan {
		if !p.hole {
			fresh += p.Length
		}
	}
	// A sample stands for all.
	scale := int64(use.mask) + 1
	if use.live*scale+fresh < (use.total*scale+fresh)/2 {
		stale, err := b.staleRanges(ctx, x, plan, src.Size, use)
		if err != nil {
			return Content{}, err
		}
		if plan, err = planRanges(src, base.size, append(stale, changed...)); err != nil {
			return Content{}, err
		}
	}
	return b.putPlan(ctx, src, plan, x)
}

// eachKept calls f for the pieces of the base that the plan leaves as they
// are, with their offset.
func (b *Backup) eachKept(ctx context.Context, x *extentReader, plan []plannedRange, size int64, f func(at int64, p piece) error) error {
	at := int64(0)
	keep := func(to int64) error {
		return x.between(ctx, at, to, func(p piece) error {
			err := f(at, p)
			at += p.length
			return err
		})
	}
	for _, p := range plan {
		if err := keep(p.Offset); err != nil {
			return err
		}
		at = p.End()
	}
	return keep(size)
}

// usage counts how much of each chunk a file uses. Of a file with very many
// chunks it counts a sample, chosen by the chunks' ids: memory is bounded and
// the proportion stays right.
type usage struct {
	chunks map[chunkRef]int64
	// mask selects the sample: ids whose first bytes have none of its bits.
	mask        uint32
	live, total int64
	// limit is how many chunks are counted before the sample is halved.
	limit int
}

// usageLimit is how many chunks are counted before the sample is halved.
const usageLimit = 1 << 17

func newUsage(limit int) *usage { return &usage{chunks: map[chunkRef]int64{}, limit: limit} }

func (u *usage) add(p piece) error {
	if p.hole || binary.LittleEndian.Uint32(p.chunk.id[8:])&u.mask != 0 {
		return nil
	}
	if _, ok := u.chunks[p.chunk]; !ok {
		u.total += int64(p.chunk.length)
	}
	u.chunks[p.chunk] += p.length
	u.live += p.length
	if len(u.chunks) <= u.limit {
		return nil
	}
	u.mask = u.mask<<1 | 1
	u.live, u.total = 0, 0
	for ref, live := range u.chunks {
		if binary.LittleEndian.Uint32(ref.id[8:])&u.mask != 0 {
			delete(u.chunks, ref)
			continue
		}
		u.live += live
		u.total += int64(ref.length)
	}
	return nil
}

// staleRanges gives the ranges to be stored anew: those in chunks of which the
// file uses less than half, or all if only a sample was counted.
func (b *Backup) staleRanges(ctx context.Context, x *extentReader, plan []plannedRange, size int64, use *usage) ([]Range, error) {
	if use.mask != 0 {
		return []Range{{0, size}}, nil
	}
	var stale []Range
	err := b.eachKept(ctx, x, plan, size, func(at int64, p piece) error {
		if p.hole || use.chunks[p.chunk] >= int64(p.chunk.length)/2 {
			return nil
		}
		if n := len(stale); n > 0 && stale[n-1].End() == at {
			stale[n-1].Length += p.length
		} else {
			stale = append(stale, Range{at, p.length})
		}
		return nil
	})
	return stale, err
}

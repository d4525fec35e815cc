package repository

import (
	"bytes"
	"context"
	"time"
)

// eachLine calls f for every line of the index with its number, the number of
// its part, and that of its pack.
func (x *chunkIndex) eachLine(ctx context.Context, f func(number uint64, part int, packNo uint32, line indexLine) error) error {
	var memory []byte
	for i, part := range x.parts {
		err := x.eachLineOf(ctx, part, &memory, func(number uint64, line indexLine) error {
			return f(part.first+number, i, part.packNo[line.pack], line)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// tally sees for each used chunk where it is kept: of the packs that are there
// and not marked, the one with the least id, so that two prunes choose alike. A
// chunk that is only in marked packs is to be copied from one of them.
func (p *pruner) tally(ctx context.Context) error {
	return p.r.index.eachLine(ctx, func(number uint64, part int, no uint32, line indexLine) error {
		pack := &p.packs[no]
		if pack.counted == 0 {
			pack.counted = part + 1
		}
		if pack.counted != part+1 || pack.absent {
			return nil
		}
		pack.total += int64(line.length)
		if !p.census.used.has(number) {
			p.total.Unused += int64(line.length)
			return nil
		}
		best, ok, err := p.best(ctx, line)
		if err != nil {
			return err
		}
		mine := ok && best.packNo == no && best.offset == line.offset && best.start == line.start
		switch {
		case ok && best.pack.marked:
			pack.orphaned += int64(line.length)
			if mine {
				p.rescue.set(number)
			}
		case mine:
			pack.live += int64(line.length)
			p.live.set(number)
		}
		return nil
	})
}

// best gives the place where a chunk is kept. A line of it that cannot be read is
// an error, unless there is another: it would seem to be kept nowhere.
func (p *pruner) best(ctx context.Context, line indexLine) (best location, ok bool, err error) {
	err = p.r.index.find(ctx, line.id, func(loc location) bool {
		if loc.length != line.length || loc.pack.absent {
			return false
		}
		if !ok || better(loc, best) {
			best, ok = loc, true
		}
		return false
	})
	return best, ok, err
}

// better says whether a chunk is rather kept at a than at b.
func better(a, b location) bool {
	if a.pack.marked != b.pack.marked {
		return !a.pack.marked
	}
	if c := bytes.Compare(a.pack.id[:], b.pack.id[:]); c != 0 {
		return c < 0
	}
	return a.offset < b.offset || a.offset == b.offset && a.start < b.start
}

// young says whether something was put so lately that a backup which goes on may
// be about to use it. It is not marked then: nothing would be wrong, but what is
// new would have to be stored again.
func (p *pruner) young(t time.Time) bool {
	return !t.Before(p.oldest.Add(-clockSlack)) && len(p.intents) > 0 || p.now.Sub(t) < p.o.Grace
}

// plan decides what happens to each pack.
func (p *pruner) plan(context.Context) error {
	for no := range p.packs {
		pack := &p.packs[no]
		switch {
		case pack.absent || pack.counted == 0 && p.census.lost > 0:
			// Of a pack whose directory cannot be read nobody knows what it
			// holds; it may be what is missed.
		case pack.marked:
			p.planMarked(uint32(no), pack)
		case pack.counted == 0 || p.young(pack.time):
		case pack.live == 0:
			p.doomed = append(p.doomed, uint32(no))
		case float64(pack.total-pack.live) > p.o.MaxUnused*float64(pack.total) && p.o.MaxUnused < 1:
			p.copied = append(p.copied, uint32(no))
		}
	}
	for _, no := range append(p.doomed[:len(p.doomed):len(p.doomed)], p.copied...) {
		if p.packs[no].marked {
			continue // to be copied from, and marked already
		}
		p.total.Marked++
		p.total.MarkedBytes += p.packs[no].size
		p.waits(&p.packs[no], p.now.Add(p.o.Grace))
	}
	return nil
}

// planMarked decides about a pack that is marked.
func (p *pruner) planMarked(no uint32, pack *prunedPack) {
	switch {
	case pack.orphaned > 0:
		p.copied = append(p.copied, no)
		p.waits(pack, p.now.Add(p.o.Grace))
	case pack.seen.IsZero():
		p.waits(pack, p.now.Add(p.o.Grace))
	case p.now.Sub(pack.seen) < p.o.Grace || p.blocked(pack.seen):
		p.waits(pack, pack.seen.Add(p.o.Grace))
	default:
		p.dead = append(p.dead, no)
	}
}

// waits counts a pack that is marked and stays for now, at least until due.
func (p *pruner) waits(pack *prunedPack, due time.Time) {
	p.total.Waiting++
	p.total.WaitingBytes += pack.size
	if p.total.Due.IsZero() || due.Before(p.total.Due) {
		p.total.Due = due
	}
}

package repository

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/sombra-backup/sombra/repository/store"
)

// retain renews the retention of what records need: packs, index objects, keys
// and config. A record's own is renewed as long as it is the last of its group;
// all others end some day, or forgetting would be refused for ever.
func (p *pruner) retain(ctx context.Context) error {
	var doomed bitset
	for _, no := range p.doomed {
		doomed.set(uint64(no))
	}
	last := p.lastRecords()
	return p.retainThose(ctx, func(o objectName) bool {
		switch o.kind {
		case kindConfig, kindSlot:
			return true
		case kindIndex:
			return !p.r.index.superseded[o.id]
		case kindRecord:
			return last[o.id]
		case kindDataPack, kindMetaPack:
			no, ok := p.r.index.packs.find(o.id)
			if !ok || int(no) >= len(p.packs) {
				return true // it holds what nobody knows
			}
			return !p.packs[no].marked && p.packs[no].live > 0 && !doomed.has(uint64(no))
		}
		return false
	})
}

// retainAll renews the retention of everything that a restore may need: while
// nobody knows what is used, nothing of it may come to lie unprotected.
func (p *pruner) retainAll(ctx context.Context) error {
	if p.now.IsZero() {
		if err := p.readClock(ctx); err != nil {
			return err
		}
	}
	return p.retainThose(ctx, func(o objectName) bool {
		switch o.kind {
		case kindConfig, kindSlot, kindIndex, kindRecord, kindDataPack, kindMetaPack:
			return true
		}
		return false
	})
}

// lastRecords are the last complete records of each host and its paths, what is
// newer and incomplete, and the chains of both.
func (p *pruner) lastRecords() map[ID]bool {
	groups := map[string][]*Record{}
	for _, rec := range p.records {
		key := []string{cmp.Or(rec.Host.ID, rec.Host.Name)}
		for _, root := range rec.Roots {
			key = append(key, root.Path)
		}
		group := strings.Join(key, "\x00")
		groups[group] = append(groups[group], rec)
	}
	nothing := &Retention{Chain: p.o.Chain}
	var verdicts []Verdict
	for _, group := range groups {
		verdicts = append(verdicts, nothing.Apply(group, p.records)...)
	}
	nothing.KeepChains(verdicts, p.records)
	last := map[ID]bool{}
	for _, v := range verdicts {
		if len(v.Keep) > 0 {
			last[v.Record.ID] = true
		}
	}
	return last
}

// retentions is how many are renewed at once.
const retentions = 8

// retainThose renews the retention of the objects chosen.
func (p *pruner) retainThose(ctx context.Context, chosen func(objectName) bool) error {
	st, ok := p.r.store.(store.Retainer)
	if !ok || p.o.Retain <= 0 || p.o.DryRun {
		return nil
	}
	until := p.now.Add(p.o.Retain)
	var renewed atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(retentions)
	renew := func(name string) error {
		err := st.Retain(ctx, name, until)
		switch {
		case err == nil:
			renewed.Add(1)
		case !errors.Is(err, store.ErrNotExist):
			return &ObjectError{"retain", name, err}
		}
		return nil
	}
	listed := p.r.store.List(ctx, "", func(info store.Info) error {
		if o, ok := parseName(info.Name); ok && chosen(o) {
			group.Go(func() error { return renew(info.Name) })
		}
		return ctx.Err()
	})
	err := group.Wait()
	p.total.Retained += renewed.Load()
	return cmp.Or(err, listed)
}

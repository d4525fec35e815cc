package repository

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sombra-backup/sombra/repository/store"
)

// RepairOptions says what Repair does.
type RepairOptions struct {
	// DryRun has Repair say what is damaged, and change nothing.
	DryRun bool
	// Records has records and notes that cannot be read put aside as well, so
	// that listing and pruning go on without them. What only they used is then
	// pruned.
	Records bool
}

// RepairReport is what Repair did.
type RepairReport struct {
	// Damaged counts the problems found at first, Left those found at the end.
	Damaged int64 `json:"damaged"`
	Left    int64 `json:"left"`
	// Salvaged counts the chunks read out of damaged packs and stored anew,
	// SalvagedBytes their length.
	Salvaged      int64 `json:"salvaged"`
	SalvagedBytes int64 `json:"salvaged_bytes"`
	// Indexed counts the packs whose directories were read for a new index, if
	// there is one.
	Indexed int64 `json:"indexed"`
	// SetAside names the objects that now lie below damaged/.
	SetAside []string `json:"set_aside,omitempty"`
	// Kept names damaged objects that were left where they are: nothing can be
	// put in their place, the store refuses to delete them, or they are marks and
	// intents so young that prunes must still be held back.
	Kept []string `json:"kept,omitempty"`
}

// Repair makes the best of a damaged repository. It reads everything. Chunks of
// damaged packs that are whole, and stored nowhere else, are stored anew; if the
// index is damaged, or names what is not there, it is made again from the packs'
// own directories; damaged packs and index objects are then put aside, below
// damaged/, under the name they had. New objects are put before anything is
// taken away, and nothing is destroyed. Last it looks at everything again and
// calls f, if not nil, for each problem that is left: what is lost, file by file.
//
// It may run beside backups. Damaged key slots, config, and without
// RepairOptions.Records records and notes, are left as they are. An error says
// that the store failed, or that the key cannot read (ErrWriteOnly).
func (r *Repository) Repair(ctx context.Context, o RepairOptions, f func(Problem)) (RepairReport, error) {
	p := &repairer{r: r.fresh(), o: o, damaged: map[string]bool{}}
	p.r.index.strict = true
	defer p.r.decoder.Close()
	report, err := r.Check(ctx, CheckOptions{ReadData: true}, p.found)
	p.total.Damaged = report.Problems
	if err != nil {
		return p.total, fmt.Errorf("repair: %w", err)
	}
	if !o.DryRun && (report.Problems > 0 || report.Unindexed > 0) {
		if err := p.repair(ctx); err != nil {
			return p.total, fmt.Errorf("repair: %w", err)
		}
	}
	report, err = r.Check(ctx, CheckOptions{ReadData: o.DryRun}, f)
	p.total.Left = report.Problems
	if err != nil {
		return p.total, fmt.Errorf("repair: %w", err)
	}
	return p.total, nil
}

// repair does the work. It relies on packs that hold what damaged ones held, and
// so it puts intents as a backup does: no prune that still sees the damaged ones
// deletes those. If it was silent it ends before anything is taken away.
func (p *repairer) repair(ctx context.Context) (err error) {
	k, err := p.r.keep(ctx, hostName())
	if err != nil {
		return err
	}
	defer func() {
		k.halt()
		err = errors.Join(err, k.remove(ctx))
	}()
	for _, step := range []func(context.Context) error{p.read, p.salvage, p.rebuild} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	if err := k.put(ctx, ID{}); err != nil {
		return err
	}
	if k.wasSilent() {
		return wrapf(ErrStale, "nothing was put aside; repair again")
	}
	return p.setAside(ctx)
}

// repairer is one run of Repair.
type repairer struct {
	r     *Repository
	o     RepairOptions
	total RepairReport
	// damaged are the names of damaged or missing objects.
	damaged map[string]bool
	// indexes are the index objects there were.
	indexes []ID
}

// found takes in a problem of the first check.
func (p *repairer) found(x Problem) {
	if x.Object != "" {
		p.damaged[x.Object] = true
	}
}

// bad says whether a pack is damaged.
func (p *repairer) bad(k knownPack) bool { return k.absent || p.damaged[packName(k.kind, k.id)] }

// read reads index and marks, and the directories of packs without an index.
func (p *repairer) read(ctx context.Context) error {
	err := p.r.mark(ctx)
	if err == nil {
		err = p.r.index.refresh(ctx)
	}
	if err == nil {
		err = p.r.index.adopt(ctx, p.r)
	}
	if err == nil {
		err = p.r.index.compare(ctx)
	}
	if err != nil {
		return err
	}
	for id := range p.r.index.listed {
		p.indexes = append(p.indexes, id)
	}
	slices.SortFunc(p.indexes, func(a, b ID) int { return slices.Compare(a[:], b[:]) })
	return nil
}

// salvage stores anew what is whole in damaged packs and nowhere else. compare
// calls a pack of the wrong length absent; it is tried all the same.
func (p *repairer) salvage(ctx context.Context) error {
	x := p.r.index
	pipe := newPipeline(ctx, p.r, func([]indexLine) {})
	done := map[ID]bool{}
	err := x.eachLine(ctx, func(_ uint64, _ int, no uint32, line indexLine) error {
		pack := x.packs.at(no)
		if !p.damaged[packName(pack.kind, pack.id)] || done[line.id] {
			return nil
		}
		elsewhere := false
		err := x.find(ctx, line.id, func(loc location) bool {
			elsewhere = loc.length == line.length && !p.bad(loc.pack) && !loc.pack.marked
			return elsewhere
		})
		if elsewhere || err != nil && !errors.Is(err, ErrDamaged) {
			return err
		}
		loc := location{pack, no, line.offset, line.size, line.start, line.length, 0}
		data, err := p.r.chunkAt(ctx, line.id, line.length, loc)
		if err != nil {
			if errors.Is(err, ErrDamaged) {
				return ctx.Err()
			}
			return err
		}
		done[line.id] = true
		p.total.Salvaged++
		p.total.SalvagedBytes += int64(line.length)
		return pipe.add(pack.kind, line.id, data)
	})
	if err != nil {
		pipe.abort(ctx)
		return err
	}
	return pipe.drain()
}

// rebuild makes the index again from the directories of all packs that are
// whole, if something is wrong with it or it names packs that are not.
func (p *repairer) rebuild(ctx context.Context) error {
	x := p.r.index
	wrong := x.damage() != nil
	for _, k := range x.packs.all() {
		wrong = wrong || p.bad(k)
	}
	for name := range p.damaged {
		wrong = wrong || strings.HasPrefix(name, prefixIndex)
	}
	if !wrong {
		return nil
	}
	if err := x.compare(ctx); err != nil {
		return err
	}
	var packs []knownPack
	for _, k := range x.packs.all() {
		if !p.bad(k) {
			packs = append(packs, k)
		}
	}
	supersedes, err := p.replaced(ctx)
	if err != nil {
		return err
	}
	put := func(batch *indexBatch, supersedes []ID) error {
		object := batch.encode(p.r.keys, supersedes)
		return p.r.put(ctx, indexName(hashObject(object)), object)
	}
	// What supersedes the others is put when all of their lines are stored.
	last := &indexBatch{packs: []indexPack{}}
	err = p.r.directories(ctx, packs, func(batch *indexBatch) error {
		p.total.Indexed += int64(len(batch.packs))
		if len(last.packs) > 0 {
			if err := put(last, nil); err != nil {
				return err
			}
		}
		last = batch
		return nil
	})
	if err != nil {
		return err
	}
	return put(last, supersedes)
}

// replaced gives the index objects that the new ones replace: those that are
// there, and those that are missing and that records name.
func (p *repairer) replaced(ctx context.Context) ([]ID, error) {
	ids := slices.Clone(p.indexes)
	there := map[ID]bool{}
	for _, id := range ids {
		there[id] = true
	}
	records, err := p.r.Records(ctx)
	if err != nil && !errors.Is(err, ErrDamaged) {
		return nil, err
	}
	for _, rec := range records {
		for _, id := range rec.indexes {
			// Records that were made meanwhile name what is not damaged.
			if !there[id] && p.damaged[indexName(id)] {
				there[id] = true
				ids = append(ids, id)
			}
		}
	}
	return ids, nil
}

// setAside puts damaged objects away, now that what they held is stored anew as
// far as it can be.
func (p *repairer) setAside(ctx context.Context) error {
	names := make([]string, 0, len(p.damaged))
	for name := range p.damaged {
		names = append(names, name)
	}
	slices.Sort(names)
	now, err := p.r.clock(ctx)
	if err != nil {
		return err
	}
	for _, name := range names {
		o, ok := parseName(name)
		aside := ok && (o.kind == kindDataPack || o.kind == kindMetaPack || o.kind == kindIndex || o.kind == kindIntent || o.kind == kindMark ||
			p.o.Records && (o.kind == kindRecord || o.kind == kindNote))
		object, err := readObject(ctx, p.r.store, name, maxPack)
		if errors.Is(err, store.ErrNotExist) {
			continue // it is missing
		}
		if err != nil && !errors.Is(err, ErrDamaged) {
			return err
		}
		if err == nil && aside {
			aside, err = p.spent(ctx, o.kind, name, now)
		}
		if err != nil && !errors.Is(err, ErrDamaged) {
			return err
		}
		if err != nil || !aside {
			p.total.Kept = append(p.total.Kept, name)
			continue
		}
		if err := p.r.put(ctx, prefixDamaged+name, object); err != nil {
			return err
		}
		if err := p.r.store.Delete(ctx, name); errors.Is(err, store.ErrLocked) {
			p.total.Kept = append(p.total.Kept, name)
		} else if err != nil && !errors.Is(err, store.ErrNotExist) {
			return &ObjectError{"delete", name, err}
		} else {
			p.total.SetAside = append(p.total.SetAside, name)
		}
	}
	return nil
}

// spent says whether an unreadable object holds nobody back any more who must be
// held back. It may be a mark that a prune read before it was damaged, and whose
// packs it deletes late; or the sign of a backup that goes on.
func (p *repairer) spent(ctx context.Context, kind objectKind, name string, now time.Time) (bool, error) {
	age := keepMarks
	switch kind {
	case kindIntent:
		age = p.r.options.IntentTTL
	case kindMark:
	default:
		return true, nil
	}
	info, err := p.r.store.Stat(ctx, name)
	if err != nil {
		return false, &ObjectError{"read", name, missing(err)}
	}
	return now.Sub(info.ModTime) >= age, nil
}

package repository

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sombra-backup/sombra/repository/store"
)

// DefaultGrace is how long a pack that nothing uses is kept after it was marked.
const DefaultGrace = 24 * time.Hour

// DefaultMaxUnused is the share of a pack's chunks, by bytes, that may be unused
// before what is used of it is copied elsewhere.
const DefaultMaxUnused = 0.15

// PruneOptions says what Prune does.
type PruneOptions struct {
	// DryRun has Prune say what it would do, and change nothing.
	DryRun bool
	// Grace is how long a pack stays after it was marked for deletion; zero
	// means DefaultGrace, less than zero none at all. Backups that go on are
	// safe whatever it is; a restore of a record that was forgotten meanwhile
	// can go on that long.
	Grace time.Duration
	// MaxUnused is the share of a pack, from 0 to 1, that may be unused before
	// the rest is copied to another pack. Zero means DefaultMaxUnused, one or
	// more that nothing is copied.
	MaxUnused float64
	// Progress, if not nil, is told how far packs are copied that are little
	// used, before the first and after each, in the calling goroutine.
	Progress func(Progress)
	// Retain is how long from now on a store that is a store.Retainer is to
	// refuse to delete what records need. Zero means as long as what is put,
	// less than zero that nothing is renewed; more needs a store that can.
	Retain time.Duration
	// Chain, if not nil, gives the records that restoring this one needs; their
	// retention is renewed with its own.
	Chain func(*Record) []ID
}

// PruneReport is what Prune did, or would do.
type PruneReport struct {
	// Records counts the records read; Packs and Bytes the packs in the store
	// before; Unused the bytes of chunks in them that no record uses.
	Records int64 `json:"records"`
	Packs   int64 `json:"packs"`
	Bytes   int64 `json:"bytes"`
	Unused  int64 `json:"unused"`
	// Copied counts the chunks copied out of packs that are little used, or
	// marked, CopiedBytes their length.
	Copied      int64 `json:"copied"`
	CopiedBytes int64 `json:"copied_bytes"`
	// Marked counts the packs marked now, MarkedBytes their size.
	Marked      int64 `json:"marked"`
	MarkedBytes int64 `json:"marked_bytes"`
	// Waiting counts the packs marked, now or before, and not deleted yet,
	// WaitingBytes their size; Due is when the first may be deleted by the
	// store's clock, if no backup holds it back.
	Waiting      int64     `json:"waiting"`
	WaitingBytes int64     `json:"waiting_bytes"`
	Due          time.Time `json:"due,omitzero"`
	// Deleted counts the packs deleted, DeletedBytes their size.
	Deleted      int64 `json:"deleted"`
	DeletedBytes int64 `json:"deleted_bytes"`
	// IndexesWritten and IndexesDeleted count index objects.
	IndexesWritten int64 `json:"indexes_written"`
	IndexesDeleted int64 `json:"indexes_deleted"`
	// Retained counts the objects whose retention was renewed.
	Retained int64 `json:"retained"`
	// Blockers are the backups that go on and hold deletions back.
	Blockers []Blocker `json:"blockers,omitempty"`
	// Locked names objects that the store refuses to delete (at most 100),
	// LockedCount counts them. Those whose retention cannot be over yet are not
	// among them: their packs are Waiting.
	Locked      []string `json:"locked,omitempty"`
	LockedCount int64    `json:"locked_count"`
	// Problems counts the problems reported.
	Problems int64 `json:"problems"`
	// Stopped says why nothing was marked, copied or deleted: it cannot be known
	// what is used. Nil if it can.
	Stopped error `json:"-"`
}

// Blocker is a backup that goes on, or may go on.
type Blocker struct {
	// Host is its machine's name, if it told.
	Host string `json:"host"`
	// Began is when it began, Last when it was last heard of, both by the
	// store's clock. It counts until Expires.
	Began   time.Time `json:"began"`
	Last    time.Time `json:"last"`
	Expires time.Time `json:"expires"`
}

// Prune frees what no record uses. It may run beside backups, restores, checks
// and other prunes, on any machine, and may be killed at any instant. In one run
// it marks packs that nothing uses; in a later one, Grace after, it deletes
// those that were marked, once no backup goes on that began before the mark. Of
// packs that are used in small part it copies that part first. It calls f, if
// not nil, for what it finds damaged.
//
// Whenever it cannot be known what is used (a record or a file table cannot be
// read, index objects are damaged) it marks, copies and deletes nothing, and
// says why in PruneReport.Stopped. An error says that the store failed or that
// the key cannot read (ErrWriteOnly).
//
// In a store that locks what is put (store.Retainer) it renews the locks of what
// records need; see PruneOptions.Retain. Of the records themselves it renews only
// those of the last complete one of each host and its paths, and of the chain of
// that: of all others the lock ends some day, so that they can be forgotten.
// While nobody knows what is used the locks of everything are renewed.
func (r *Repository) Prune(ctx context.Context, o PruneOptions, f func(Problem)) (PruneReport, error) {
	if err := r.ready(ctx); err != nil {
		return PruneReport{}, err
	}
	if r.keys.private == nil {
		return PruneReport{}, ErrWriteOnly
	}
	if store.MayReplace(r.store) && !o.DryRun {
		return PruneReport{}, errMayReplace
	}
	lock, retains := r.store.(store.Retainer)
	if o.Retain > 0 && !retains {
		return PruneReport{}, ErrCannotRetain
	}
	if o.Retain == 0 && retains {
		o.Retain = lock.Period()
	}
	if o.Grace == 0 {
		o.Grace = DefaultGrace
	}
	o.Grace = max(o.Grace, 0)
	if o.MaxUnused == 0 {
		o.MaxUnused = DefaultMaxUnused
	}
	for try := 0; ; try++ {
		report, err := r.pruneOnce(ctx, o, f)
		if errors.Is(err, errReplaced) && try < pruneTries {
			continue
		}
		if err != nil {
			return report, fmt.Errorf("prune: %w", err)
		}
		return report, nil
	}
}

// ErrCannotRetain says that PruneOptions.Retain was given for storage that locks
// nothing. It wraps ErrUnsupported.
var ErrCannotRetain = wrapf(ErrUnsupported, "the storage cannot keep objects from being deleted, or was not told to (lock=)")

// errMayReplace is why Prune refuses a store.
var errMayReplace = wrapf(ErrUnsupported, "prune needs storage that refuses to put an object that is there; this one may replace it (conditional=no, or an SFTP server without hard links), so that a prune and a backup at the same instant could each think to be first")

// pruneTries is how often a prune begins again because another one replaced
// index objects that it was reading.
const pruneTries = 5

// errReplaced says that an index object went while it was read, before anything
// was decided: another prune replaced it, and all that it held is elsewhere.
var errReplaced = errors.New("the index was replaced while it was read: another prune goes on")

// pruneOnce is Prune, without beginning again.
func (r *Repository) pruneOnce(ctx context.Context, o PruneOptions, f func(Problem)) (PruneReport, error) {
	p := &pruner{r: r.fresh(), o: o, f: f, deleted: map[ID]bool{}}
	p.r.index.strict = true
	defer p.r.decoder.Close()
	if lock, ok := r.store.(store.Retainer); ok {
		p.lock = max(o.Retain, lock.Period()) + clockSlack
	}
	// The order matters; see docs/format.md, §10.
	steps := []func(context.Context) error{p.readMarks, p.readClock, p.readIntents, p.readRecords, p.readPacks, p.count, p.tally, p.plan,
		p.copyLive, p.putMarks, p.retain, p.deletePacks, p.rewriteIndex, p.deleteIndexes, p.deleteMarks, p.deleteNotes}
	const planned = 8
	for i, step := range steps {
		if err := step(ctx); err != nil {
			if i < planned && errors.Is(err, store.ErrNotExist) {
				err = fmt.Errorf("%w: %w", errReplaced, err)
			}
			return p.total, err
		}
		if p.total.Stopped != nil {
			return p.total, p.retainAll(ctx)
		}
	}
	return p.total, nil
}

// pruner is one run of Prune.
type pruner struct {
	r     *Repository
	o     PruneOptions
	f     func(Problem)
	total PruneReport

	// lock is for how long the store may refuse to delete what was put or
	// renewed; zero if it locks nothing.
	lock time.Duration

	now     time.Time
	marks   []*mark
	intents []*intent
	// oldest is when the first of the backups that go on began.
	oldest  time.Time
	records []*Record
	// listed are the records there are, readable or not.
	listed map[ID]bool
	census *census
	// indexTimes are the index objects in the store, with when they were put.
	indexTimes map[ID]time.Time
	// packs are the packs in the store, by their numbers in the index.
	packs []prunedPack
	// live are the lines of the places that are kept, rescue those of chunks
	// that are used and only in marked packs.
	live, rescue bitset

	// copied are the packs to copy from, doomed those to mark, dead those to
	// delete.
	copied, doomed, dead []uint32
	deleted              map[ID]bool
}

// prunedPack is what is known of a pack.
type prunedPack struct {
	knownPack
	time time.Time
	// seen is by when everyone could see that it is marked, zero if unknown.
	seen time.Time
	// counted is the part of the index whose lines were counted, plus one.
	counted int
	// there says that something lies under its name, be it of another length: what
	// the index says of it is what repair saves chunks with.
	there bool
	// total are the bytes of its chunks, live of those kept there, orphaned of
	// those that must be copied before it may go.
	total, live, orphaned int64
}

func (p *pruner) problem(x Problem) {
	p.total.Problems++
	if p.f != nil {
		p.f(x)
	}
}

// stop says that it cannot be known what is used.
func (p *pruner) stop(err error) {
	if p.total.Stopped == nil {
		p.total.Stopped = err
	}
}

// readMarks is the first step: whatever was marked before it is seen.
func (p *pruner) readMarks(ctx context.Context) error {
	marks, err := p.r.marks(ctx)
	if err != nil {
		if !errors.Is(err, ErrDamaged) {
			return err
		}
		p.problem(Problem{Err: err})
		p.stop(err)
	}
	p.marks = marks
	p.r.index.mark(marks)
	return nil
}

// readClock asks for the store's time. A dry run, which may put nothing, takes
// the time of the youngest object.
func (p *pruner) readClock(ctx context.Context) (err error) {
	if !p.o.DryRun {
		p.now, err = p.r.clock(ctx)
		if err == nil && store.MayReplace(p.r.store) {
			err = errMayReplace // which some stores know when something was put
		}
		return err
	}
	return p.r.store.List(ctx, "", func(info store.Info) error {
		if info.ModTime.After(p.now) {
			p.now = info.ModTime
		}
		return nil
	})
}

// readIntents sees which backups go on. One that was about to commit and seems
// dead can commit no more when this returns, or has committed and will be seen.
func (p *pruner) readIntents(ctx context.Context) error {
	all, err := p.r.intents(ctx)
	if err != nil {
		return err
	}
	coming := map[ID]bool{}
	p.oldest = p.now
	for _, i := range all {
		if i.err != nil {
			p.problem(Problem{Object: i.name, Err: i.err})
		}
		if !i.fresh(p.now) {
			continue
		}
		p.intents = append(p.intents, i)
		coming[i.record] = true
		if i.began.Before(p.oldest) {
			p.oldest = i.began
		}
	}
	if p.o.DryRun {
		return nil
	}
	for _, i := range all {
		if p.now.Sub(i.time) < i.valid {
			continue
		}
		if !i.record.IsZero() && !coming[i.record] {
			if err := p.r.put(ctx, recordName(i.record), []byte(voidRecord)); err != nil {
				return err
			}
		}
		if _, err := p.delete(ctx, i.name, i.time); err != nil {
			return err
		}
	}
	return nil
}

// delete deletes an object and says whether it is gone. since is when it was put,
// or the last time at which its retention was renewed: until that is over the
// store refuses, and there is nothing to tell.
func (p *pruner) delete(ctx context.Context, name string, since time.Time) (bool, error) {
	err := p.r.store.Delete(ctx, name)
	switch {
	case err == nil, errors.Is(err, store.ErrNotExist):
		return true, nil
	case errors.Is(err, store.ErrLocked):
		if p.now.Sub(since) < p.lock {
			return false, nil
		}
		p.total.LockedCount++
		if len(p.total.Locked) < maxForeign {
			p.total.Locked = append(p.total.Locked, name)
		}
		return false, nil
	}
	return false, &ObjectError{"delete", name, err}
}

// readRecords reads every record.
func (p *pruner) readRecords(ctx context.Context) error {
	ids, err := p.r.recordIDs(ctx, "")
	if err != nil {
		return err
	}
	p.listed = map[ID]bool{}
	for _, id := range ids {
		p.listed[id] = true
	}
	read, err := p.r.readRecords(ctx, ids)
	if err != nil {
		return err
	}
	for i, rec := range read {
		if rec.err != nil {
			p.problem(Problem{Object: recordName(ids[i]), Err: rec.err})
			p.stop(rec.err)
		} else if rec.record != nil {
			p.records = append(p.records, rec.record)
		}
	}
	p.total.Records = int64(len(p.records))
	return nil
}

// readPacks reads the index and lists the packs. The packs that no index object
// names tell themselves what they hold.
func (p *pruner) readPacks(ctx context.Context) error {
	x := p.r.index
	if err := x.refresh(ctx); err != nil {
		return err
	}
	if err := x.damage(); err != nil {
		p.problem(Problem{Err: err})
		p.stop(err)
		return nil
	}
	p.indexTimes = map[ID]time.Time{}
	err := p.r.store.List(ctx, prefixIndex, func(info store.Info) error {
		if o, ok := parseName(info.Name); ok {
			p.indexTimes[o.id] = info.ModTime
		}
		return nil
	})
	if err == nil {
		err = x.adopt(ctx, p.r)
	}
	if err == nil {
		err = x.compare(ctx)
	}
	if err != nil {
		return err
	}
	return p.listPacks(ctx)
}

// listPacks notes when packs were put and marked.
func (p *pruner) listPacks(ctx context.Context) error {
	x := p.r.index
	p.packs = make([]prunedPack, x.packs.len())
	for no, pack := range x.packs.all() {
		p.packs[no].knownPack = pack
	}
	for _, prefix := range []string{prefixData, prefixMeta} {
		err := p.r.store.List(ctx, prefix, func(info store.Info) error {
			p.total.Packs++
			p.total.Bytes += info.Size
			if o, ok := parseName(info.Name); ok {
				if no, ok := x.packs.find(o.id); ok && int(no) < len(p.packs) {
					p.lies(no, o.kind, info)
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("list packs: %w", err)
		}
	}
	for _, m := range p.marks {
		for _, id := range m.packs {
			if no, ok := x.packs.find(id); ok && !m.seen.IsZero() {
				if pack := &p.packs[no]; pack.seen.IsZero() || m.seen.Before(pack.seen) {
					pack.seen = m.seen
				}
			}
		}
	}
	return nil
}

// lies notes what a listing says of a pack. One that is damaged is told, and is
// neither used nor deleted.
func (p *pruner) lies(no uint32, kind objectKind, info store.Info) {
	pack := &p.packs[no]
	pack.time, pack.there = info.ModTime, true
	switch {
	case kind != pack.kind:
		p.problem(Problem{Object: info.Name, Err: damagef("it lies under the wrong prefix")})
	case info.Size != pack.size:
		p.problem(Problem{Object: info.Name, Err: damagef("it has %d bytes, not %d", info.Size, pack.size)})
	}
}

// count follows all records.
func (p *pruner) count(ctx context.Context) error {
	p.census = &census{r: p.r, problem: p.problem}
	for _, rec := range p.records {
		if err := p.census.record(ctx, rec); err != nil {
			return err
		}
	}
	if p.census.unknown != nil {
		p.stop(p.census.unknown)
	}
	return nil
}

// blocked says whether a backup goes on that may not have seen what everyone saw
// at that time.
func (p *pruner) blocked(seen time.Time) bool {
	blocked := false
	for _, i := range p.intents {
		if !i.blocks(seen, p.now) {
			continue
		}
		blocked = true
		b := Blocker{Host: i.host, Began: i.began, Last: i.time, Expires: i.time.Add(i.valid)}
		n := slices.IndexFunc(p.total.Blockers, func(o Blocker) bool { return o.Host == b.Host && o.Began.Equal(b.Began) })
		if n < 0 {
			p.total.Blockers = append(p.total.Blockers, b)
		} else if b.Last.After(p.total.Blockers[n].Last) {
			p.total.Blockers[n] = b
		}
	}
	return blocked
}

package coordinator

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// DoSnapshotSet implements [session.Snapshots].
func (s *service) DoSnapshotSet(ctx context.Context, p session.Progress) error {
	need := inBackup | setOpen
	if !s.noWriters() {
		need |= gathered | prepared
	}
	ctx, leave, err := s.enter(ctx, "DoSnapshotSet", need, holding|snapped|setFailed|completed|aborted)
	if err != nil {
		return err
	}
	defer leave()
	r := &run{service: s, set: s.set, pr: newReporter(p)}
	defer r.pr.end()
	s.receipt = session.Receipt{SetID: s.set.id, Started: time.Now()}
	err = r.make(ctx)
	r.account()
	if err != nil {
		s.reached(setFailed)
		s.abortWriters()
		if derr := s.deleteCopies(s.set); derr != nil {
			s.log.Warn("a failed set is not all removed; the next run tries again", "error", derr)
		}
		return err
	}
	s.reached(snapped)
	return nil
}

// run is one DoSnapshotSet.
type run struct {
	*service
	set *snapshotSet
	pr  *reporter
	// freezeBy is when all writers of the level must have frozen.
	freezeBy time.Time
	stopped  bool // processes are, or may be, stopped
}

// make takes the set through all its steps. When it returns, nothing is held,
// whatever happened.
func (r *run) make(ctx context.Context) error {
	if err := r.requiredFailure(); err != nil {
		return err
	}
	if err := r.prepare(ctx); err != nil {
		return err
	}
	if !r.noWriters() {
		if err := r.prepareWriters(ctx); err != nil {
			return err
		}
	}
	if err := r.ensureKeeper(ctx); err != nil {
		return err
	}
	if err := r.refresh(ctx); err != nil {
		return err
	}
	if err := r.freezeAndCommit(ctx); err != nil {
		return err
	}
	if err := r.finish(ctx); err != nil {
		return err
	}
	return r.keep()
}

// limited gives a context for the steps of providers that may be long.
func (r *run) limited(ctx context.Context, op string, code vss.Code) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, r.limits.Prepare,
		vss.Errorf(code, op, "", "not ready within %v", r.limits.Prepare))
}

// prepare has the providers do what can be done while programs write.
func (r *run) prepare(ctx context.Context) error {
	const op = "EndPrepareSnapshots"
	ctx, cancel := r.limited(ctx, op, vss.ErrFlushWritesTimeout)
	defer cancel()
	err := r.together(ctx, step{op: op, call: func(ctx context.Context, c *shadow) (func(), error) {
		_, err := c.snap.Estimate(ctx)
		return nil, err
	}})
	if err != nil {
		return err
	}
	return r.together(ctx, step{op: op, event: "Prepare", during: vss.SnapshotProcessingPrepare, after: vss.SnapshotPrepared,
		call: func(ctx context.Context, c *shadow) (func(), error) { return nil, c.snap.EndPrepare(ctx) },
		took: func(c *shadow, d time.Duration) { c.receipt.Prepare = d }})
}

// prepareWriters sends PrepareForSnapshot, and then puts out whoever could not
// be held still.
func (r *run) prepareWriters(ctx context.Context) error {
	const kind = writer.EventPrepareForSnapshot
	r.spare()
	each(r.inTheSet(), func(p *participant) {
		done := r.pr.begin(kind.String(), p.instanceName)
		start := time.Now()
		_, err := r.tell(ctx, p, kind, r.limits.Event)
		p.receipt.Prepare += time.Since(start)
		done(err)
	})
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if err := r.requiredFailure(); err != nil {
		return err
	}
	return r.refuseUnstill(ctx)
}

// ensureKeeper makes sure that somebody lets go of what is about to be held if
// this process dies: a keeper that has ended, or that hangs, is replaced while
// nobody waits for it yet, and a set without volumes has none until now.
func (r *run) ensureKeeper(ctx context.Context) error {
	if r.set.keeper == nil {
		return r.appointKeeper(ctx, r.set)
	}
	err := r.set.keeper.Alive(ctx)
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	r.log.Warn("the keeper does not answer; another takes its place", "error", err)
	return r.appointKeeper(ctx, r.set)
}

// refresh has providers catch up with what was written since.
func (r *run) refresh(ctx context.Context) error {
	const op = "EndPrepareSnapshots"
	ctx, cancel := r.limited(ctx, op, vss.ErrFlushWritesTimeout)
	defer cancel()
	return r.together(ctx, step{op: op, call: func(ctx context.Context, c *shadow) (func(), error) {
		if f, ok := c.snap.(provider.Refresher); ok {
			return nil, f.Refresh(ctx)
		}
		return nil, nil
	}})
}

// freezeAndCommit is the part in which applications are held.
func (r *run) freezeAndCommit(ctx context.Context) error {
	err := r.freeze(ctx)
	if err == nil {
		err = r.hold(ctx)
	}
	// From here on nothing may keep us from letting go.
	if rerr := r.resumeProcesses(); err == nil {
		err = rerr
	}
	r.thaw()
	if err == nil {
		err = r.requiredFailure()
	}
	return err
}

// levels is the order of Freeze.
var levels = []vss.ApplicationLevel{vss.LevelFrontEnd, vss.LevelBackEnd, vss.LevelSystem}

func (p *participant) level() vss.ApplicationLevel {
	if slices.Contains(levels, p.desc.Level) {
		return p.desc.Level
	}
	return vss.LevelFrontEnd
}

// freeze sends Freeze, level by level, at the same time within one.
func (r *run) freeze(ctx context.Context) error {
	if r.opts.NoFreeze {
		return nil
	}
	limit := r.freezeLimit()
	end := time.Now().Add(limit)
	var order [][]*participant
	for _, level := range levels {
		if list := r.pick(func(p *participant) bool { return p.in && !p.out && !p.spared && p.level() == level }); len(list) > 0 {
			order = append(order, list)
		}
	}
	least := limit / time.Duration(2*max(1, len(order)))
	for i, list := range order {
		// A share of what is left, so that one that hangs does not take the time
		// of the levels after its own.
		// But no level goes without any: what is waited for one that hangs
		// comes on top of its share.
		share := time.Until(end) / time.Duration(len(order)-i)
		r.freezeBy = time.Now().Add(max(share, least))
		each(list, func(p *participant) { r.freezeOne(ctx, p) })
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if err := r.requiredFailure(); err != nil {
			return err
		}
	}
	return nil
}

// heldLimit is the longest from a writer's Freeze to the end of its Thaw.
func (r *run) heldLimit(p *participant) time.Duration {
	if d := p.desc.FreezeTimeout; d > 0 && d < r.limits.Writer {
		return d
	}
	return r.limits.Writer
}

// freezeLimit is how long Freeze may take for all levels together: so long that
// the hold that follows still ends within every writer's own limit. Else one that
// hangs would have all the others out with it.
func (r *run) freezeLimit() time.Duration {
	limit := r.limits.Writer
	for _, p := range r.inTheSet() {
		limit = min(limit, r.heldLimit(p))
	}
	return limit - min(r.limits.Hold, limit/2)
}

func (r *run) freezeOne(ctx context.Context, p *participant) {
	watched, err := r.watch(ctx, p)
	if err != nil {
		p.fail(writer.EventFreeze, err, nil)
		r.abortSoon(p)
		return
	}
	p.unwatch = watched
	limit := time.Until(r.freezeBy)
	if p.discovered {
		limit = min(limit, r.limits.Discovered)
	}
	done := r.pr.begin("Freeze", p.instanceName)
	start := time.Now()
	e, err := r.tell(ctx, p, writer.EventFreeze, limit)
	p.receipt.Freeze = time.Since(start)
	done(err)
	if err != nil {
		r.abortSoon(p)
		return
	}
	p.frozen = true
	// What a writer says of itself is believed within what was seen.
	p.receipt.LockWait = max(0, min(e.Report.LockWait, p.receipt.Freeze))
	p.heldAt = start.Add(p.receipt.LockWait)
	p.receipt.Stillness = p.desc.Stillness.String()
	p.processes = e.Report.Processes
	p.until = start.Add(r.heldLimit(p))
	abort := r.event(p, writer.EventAbort)
	p.clock = time.AfterFunc(time.Until(p.until), func() {
		r.background.Go(func() { r.abort(p, abort) })
	})
}

// overdue puts a writer out that was held for longer than its limit: it was let
// go by itself, or by its clock here, perhaps before the copy was made.
func (r *run) overdue(p *participant) {
	p.frozen = false
	p.fail(writer.EventThaw, vss.Errorf(vss.ErrWriterErrorTimeout, "Thaw", p.instanceName,
		"it could not be thawed within %v of the beginning of its Freeze", r.heldLimit(p)), nil)
	r.abortSoon(p)
}

// thawPatience is how long a level waits for Thaw of the level before it. It is
// long for one that is well, and short for those that are held meanwhile.
const thawPatience = 500 * time.Millisecond

// thaw lets all frozen writers go, in the reverse order of levels. A writer that
// hangs holds up the levels after its own for a moment only: they would be held,
// and fail, for its sake.
func (r *run) thaw() {
	var order [][]*participant // before any of them changes
	for _, level := range slices.Backward(levels) {
		if list := r.pick(func(p *participant) bool { return p.frozen && p.level() == level }); len(list) > 0 {
			order = append(order, list)
		}
	}
	var all sync.WaitGroup
	defer all.Wait()
	for _, list := range order {
		answered := make(chan struct{})
		all.Go(func() {
			defer close(answered)
			each(list, r.thawOne)
		})
		select {
		case <-answered:
		case <-time.After(thawPatience):
		}
	}
}

func (r *run) thawOne(p *participant) {
	p.frozen = false
	if !p.clock.Stop() {
		r.overdue(p)
		return
	}
	done := r.pr.begin("Thaw", p.instanceName)
	start := time.Now()
	_, err := r.tell(context.Background(), p, writer.EventThaw, min(abortLimit, r.limits.Writer))
	p.receipt.Thaw = time.Since(start)
	p.receipt.Held = time.Since(p.heldAt)
	done(err)
	if err != nil {
		r.abortSoon(p) // also of one that has died: another undoes what it held
		return
	}
	if p.unwatch != nil {
		p.unwatch()
		p.unwatch = nil
	}
}

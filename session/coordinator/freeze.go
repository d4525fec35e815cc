package coordinator

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
	ctx, leave, err := s.enter(ctx, "DoSnapshotSet", need, snapped|setFailed|completed|aborted)
	if err != nil {
		return err
	}
	defer leave()
	r := &run{service: s, set: s.set, pr: &reporter{fn: p}}
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
	// frozen are the writers whose Freeze returned, in that order of levels.
	holdStart time.Time
	stopped   bool
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
		if err := r.broadcast(ctx, writer.EventPrepareForSnapshot, r.limits.Event, r.pr); err != nil {
			return err
		}
	}
	if err := r.refuseUnstill(); err != nil {
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
	return r.keep(ctx)
}

// prepare has the providers do what can be done while programs write.
func (r *run) prepare(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, r.limits.Prepare,
		vss.Errorf(vss.ErrFlushWritesTimeout, "EndPrepareSnapshots", "", "not ready within %v", r.limits.Prepare))
	defer cancel()
	return r.set.together(ctx, "EndPrepareSnapshots", func(ctx context.Context, c *shadow) error {
		c.setState(vss.SnapshotProcessingPrepare)
		if _, err := c.snap.Estimate(ctx); err != nil {
			return err
		}
		done := r.pr.begin("Prepare", c.ref.Volume.Root)
		start := time.Now()
		err := c.snap.EndPrepare(ctx)
		c.receipt.Prepare = time.Since(start)
		done(err)
		c.setState(vss.SnapshotPrepared)
		return err
	})
}

// refresh has providers catch up with what was written since.
func (r *run) refresh(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, r.limits.Prepare,
		vss.Errorf(vss.ErrFlushWritesTimeout, "EndPrepareSnapshots", "", "not ready within %v", r.limits.Prepare))
	defer cancel()
	return r.set.together(ctx, "EndPrepareSnapshots", func(ctx context.Context, c *shadow) error {
		f, ok := c.snap.(provider.Refresher)
		if !ok {
			return nil
		}
		return f.Refresh(ctx)
	})
}

// refuseUnstill puts out, before anything is frozen, the writers that cannot
// give the stillness that the copies of their files need.
func (r *run) refuseUnstill() error {
	for _, p := range r.partaking() {
		if p.desc.Stillness == writer.FilesStill || !r.needsStill(p) || p.desc.NamesProcesses {
			continue
		}
		p.fail(writer.EventPrepareForSnapshot, vss.Errorf(vss.ErrWriterErrorNonRetryable, "PrepareForSnapshot", p.instanceName,
			"its Freeze holds commits only and it names no processes to stop, but its files are copied one by one or lie on several volumes; put them on one btrfs subvolume"), nil)
		r.abortSoon(p)
	}
	return r.requiredFailure()
}

// needsStill reports whether holding commits does not suffice for a writer: its
// files are not all taken by one operation of one provider.
func (s *service) needsStill(p *participant) bool {
	volumes := 0
	if !s.state.SelectComponents && len(s.set.copies) > 1 {
		return true // nobody said which files are whose
	}
	for _, c := range s.set.copies {
		if !slices.ContainsFunc(c.scope.Claims, p.claims) {
			continue
		}
		volumes++
		if !c.caps.Atomic {
			return true
		}
	}
	return volumes > 1
}

// claims reports whether a claim in a scope is the writer's. A claim names it by
// instance id or by instance name.
func (p *participant) claims(c provider.Claim) bool {
	return c.Writer == p.instance.String() || c.Writer == p.instanceName
}

// freezeAndCommit is the part in which applications are held.
func (r *run) freezeAndCommit(ctx context.Context) error {
	err := r.freeze(ctx)
	if err == nil {
		err = r.stopProcesses(ctx)
	}
	if err == nil {
		err = r.commit(ctx)
	}
	if err == nil {
		err = r.stillHeld()
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
	for _, level := range levels {
		each(r.pick(func(p *participant) bool { return p.in && !p.out && p.level() == level }), func(p *participant) {
			r.freezeOne(ctx, p)
		})
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if err := r.requiredFailure(); err != nil {
			return err
		}
	}
	return nil
}

// freezeLimit is how long a writer may take to freeze.
func (r *run) freezeLimit(p *participant) time.Duration {
	limit := r.limits.Writer
	if d := p.desc.FreezeTimeout; d > 0 && d < limit {
		limit = d
	}
	if p.discovered && r.limits.Discovered < limit {
		limit = r.limits.Discovered
	}
	return limit
}

func (r *run) freezeOne(ctx context.Context, p *participant) {
	watched, err := r.watch(ctx, p)
	if err != nil {
		p.fail(writer.EventFreeze, err, nil)
		r.abortSoon(p)
		return
	}
	p.unwatch = watched
	done := r.pr.begin("Freeze", p.instanceName)
	start := time.Now()
	e, err := r.tell(ctx, p, writer.EventFreeze, r.freezeLimit(p))
	p.receipt.Freeze = time.Since(start)
	done(err)
	if err != nil {
		r.abortSoon(p)
		return
	}
	p.frozen = true
	p.receipt.LockWait = e.Report.LockWait
	p.heldAt = start.Add(e.Report.LockWait)
	p.receipt.Stillness = p.desc.Stillness.String()
	if p.desc.Stillness != writer.FilesStill && r.needsStill(p) {
		p.stopped = e.Report.Processes
	}
}

// stopProcesses stops the processes of the writers whose Freeze does not
// suffice.
func (r *run) stopProcesses(ctx context.Context) error {
	var pids []int
	for _, p := range r.pick(func(p *participant) bool { return p.frozen && !p.out }) {
		if p.desc.Stillness == writer.FilesStill || !r.needsStill(p) {
			continue
		}
		if len(p.stopped) == 0 {
			p.fail(writer.EventFreeze, vss.Errorf(vss.ErrWriterErrorNonRetryable, "Freeze", p.instanceName,
				"it named no processes to stop, and without stopping them its files are not still"), nil)
			continue
		}
		pids = append(pids, p.stopped...)
		p.receipt.Stopped, p.receipt.Stillness = true, writer.FilesStill.String()
	}
	if len(pids) == 0 {
		return r.requiredFailure()
	}
	r.stopped = true // also if Stop fails half-way
	got, err := r.set.keeper.Stop(ctx, pids)
	if err != nil {
		return vss.Errorf(vss.ErrHoldWritesTimeout, "stop", "processes", "%v", err)
	}
	r.receipt.Stopped, r.receipt.Stop = got.Tasks, string(got.Method)
	return nil
}

func (r *run) resumeProcesses() error {
	if !r.stopped {
		return nil
	}
	r.stopped = false
	ctx, cancel := context.WithTimeout(context.Background(), abortLimit)
	defer cancel()
	if err := r.set.keeper.Resume(ctx); err != nil {
		return vss.Errorf(vss.ErrUnexpected, "resume", "processes", "%v", err)
	}
	return nil
}

// commit takes the copies of all volumes. The hold limit is over all of it.
func (r *run) commit(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, r.limits.Hold,
		vss.Errorf(vss.ErrHoldWritesTimeout, "CommitSnapshots", "", "not all volumes were copied within %v", r.limits.Hold))
	defer cancel()
	r.holdStart = time.Now()
	err := r.set.together(ctx, "PreCommitSnapshots", func(ctx context.Context, c *shadow) error {
		c.setState(vss.SnapshotProcessingPreCommit)
		return c.snap.PreCommit(ctx)
	})
	if err != nil {
		return err
	}
	err = r.set.together(ctx, "CommitSnapshots", func(ctx context.Context, c *shadow) error {
		c.setState(vss.SnapshotProcessingCommit)
		done := r.pr.begin("Commit", c.ref.Volume.Root)
		start := time.Now()
		err := c.snap.Commit(ctx)
		c.receipt.Commit = time.Since(start)
		done(err)
		return err
	})
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	r.receipt.Instant = time.Now()
	r.receipt.Hold = r.receipt.Instant.Sub(r.holdStart)
	return err
}

// stillHeld checks, after the commit and before anything is let go, that what
// was to be held still was.
func (r *run) stillHeld() error {
	for _, p := range r.pick(func(p *participant) bool { return p.frozen && !p.out }) {
		if p.gone() {
			p.fail(writer.EventThaw, p.lostError(writer.EventThaw), nil)
			r.abortSoon(p)
		}
	}
	if r.stopped {
		select {
		case <-r.set.keeper.Done():
			return vss.Errorf(vss.ErrHoldWritesTimeout, "hold", "processes", "the keeper ended while it held them")
		default:
		}
	}
	return r.requiredFailure()
}

// thaw lets all frozen writers go, in the reverse order of levels.
func (r *run) thaw() {
	for _, level := range slices.Backward(levels) {
		each(r.pick(func(p *participant) bool { return p.frozen && p.level() == level }), func(p *participant) {
			p.frozen = false
			if p.gone() {
				return
			}
			done := r.pr.begin("Thaw", p.instanceName)
			start := time.Now()
			_, err := r.tell(context.Background(), p, writer.EventThaw, min(abortLimit, r.limits.Writer))
			p.receipt.Thaw = time.Since(start)
			p.receipt.Held = time.Since(p.heldAt)
			done(err)
			if err != nil {
				r.abortSoon(p)
				return
			}
			p.unwatch()
		})
	}
}

// finish ends the making of the copies, and lets writers add to the document.
func (r *run) finish(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, r.limits.Prepare,
		vss.Errorf(vss.ErrProviderVeto, "PostCommitSnapshots", "", "not ready within %v", r.limits.Prepare))
	defer cancel()
	err := r.set.together(ctx, "PostCommitSnapshots", func(ctx context.Context, c *shadow) error {
		c.setState(vss.SnapshotProcessingPostCommit)
		copied, err := c.snap.PostCommit(ctx)
		if err != nil {
			return err
		}
		c.copied, c.created = copied, r.receipt.Instant
		c.receipt.Flush, c.receipt.Files, c.receipt.Bytes = copied.Flush, copied.Files, copied.Bytes
		c.receipt.Extents, c.receipt.Unclaimed = copied.Extents, copied.Unclaimed || c.caps.Atomic
		if f, ok := c.snap.(provider.Finalizer); ok {
			c.setState(vss.SnapshotProcessingPreFinalCommit)
			return f.PreFinalCommit(ctx)
		}
		return nil
	})
	if err != nil {
		return err
	}
	r.checkMoved()
	if !r.noWriters() {
		each(r.partaking(), func(p *participant) {
			done := r.pr.begin("PostSnapshot", p.instanceName)
			start := time.Now()
			_, err := r.tell(ctx, p, writer.EventPostSnapshot, r.limits.Event)
			p.receipt.PostSnapshot = time.Since(start)
			p.begun = false // Abort is not sent any more
			done(err)
		})
		if err := errors.Join(context.Cause(ctx), r.requiredFailure()); err != nil {
			return err
		}
	}
	return r.set.together(ctx, "PostFinalCommitSnapshots", func(ctx context.Context, c *shadow) error {
		if f, ok := c.snap.(provider.Finalizer); ok {
			c.setState(vss.SnapshotProcessingPostFinalCommit)
			if err := f.PostFinalCommit(ctx); err != nil {
				return err
			}
		}
		// A copy lost for want of room is lost now, not when it is read.
		if _, err := c.prov.Locate(ctx, c.ref); err != nil {
			return fmt.Errorf("the copy is not there: %w", err)
		}
		c.setState(vss.SnapshotCreated)
		return nil
	})
}

// checkMoved puts out the writers whose files changed while they were copied,
// although they were to be still: what was copied of them is worth nothing.
func (r *run) checkMoved() {
	for _, c := range r.set.copies {
		for _, name := range c.copied.Moved {
			for _, claim := range c.scope.Claims {
				if !claim.Has(name, c.scope.Fold) {
					continue
				}
				for _, p := range r.partaking() {
					if p.claims(claim) {
						p.fail(writer.EventThaw, vss.Errorf(vss.ErrWriterErrorInconsistentSnapshot, "Freeze", p.instanceName,
							"its files were to be still, but %s changed while it was copied", name), nil)
						r.abortSoon(p)
					}
				}
			}
		}
	}
}

// keep makes a persistent set outlive the session.
func (r *run) keep(ctx context.Context) error {
	if r.autoRelease() {
		return nil
	}
	r.set.entry.Keep = true
	if err := r.journal().write(r.set.entry); err != nil {
		return err
	}
	r.set.kept = true
	return nil
}

// account completes the receipt, also of a set that failed.
func (r *run) account() {
	for _, p := range r.writers {
		if !p.in {
			continue
		}
		w := p.receipt
		w.Instance, w.Name, w.InstanceName = p.instance, p.name, p.instanceName
		w.ReadsPaused, w.Weak = p.desc.ReadsPaused || w.Stopped, p.desc.Weak
		w.State = p.state.String()
		if r.opts.NoFreeze {
			w.Stillness = "not frozen"
		}
		r.receipt.Writers = append(r.receipt.Writers, w)
	}
	for _, c := range r.set.copies {
		r.receipt.Volumes = append(r.receipt.Volumes, c.receipt)
	}
}

// Receipt implements [session.Snapshots].
func (s *service) Receipt(ctx context.Context) (session.Receipt, error) {
	_, leave, err := s.enter(ctx, "Receipt", inBackup, 0)
	if err != nil {
		return session.Receipt{}, err
	}
	defer leave()
	if !s.has(snapped) && !s.has(setFailed) {
		return session.Receipt{}, vss.Errorf(vss.ErrBadState, "Receipt", "", "it must come after DoSnapshotSet")
	}
	return s.receipt, nil
}

func (c *shadow) setState(st vss.SnapshotState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state = st
}

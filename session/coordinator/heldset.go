package coordinator

import (
	"context"
	"encoding/json"
	"time"

	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

var _ session.Holder = (*service)(nil)

// heldSet is a set without volumes whose writers are held for somebody else.
type heldSet struct {
	session.Hold
	run   *run
	since time.Time // when all of them were
	over  bool      // the receipt is complete
}

// end completes the receipt.
func (h *heldSet) end() {
	if !h.over {
		h.over = true
		h.run.account()
	}
}

// HoldWriters implements [session.Holder].
func (s *service) HoldWriters(ctx context.Context, h session.Hold, p session.Progress) (time.Time, error) {
	const op = "HoldWriters"
	ctx, leave, err := s.enter(ctx, op, inBackup|setOpen|gathered|prepared, holding|snapped|setFailed|completed|aborted)
	if err != nil {
		return time.Time{}, err
	}
	defer leave()
	if len(s.set.copies) > 0 {
		return time.Time{}, vss.Errorf(vss.ErrBadState, op, "", "the set has volumes, whose shadow copies DoSnapshotSet makes")
	}
	r := &run{service: s, set: s.set, pr: newReporter(p)}
	defer r.pr.end()
	s.held = &heldSet{Hold: h, run: r}
	s.receipt = session.Receipt{SetID: s.set.id, Started: time.Now()}
	s.reached(holding)
	if err := r.holdAll(ctx); err != nil {
		s.letGo()
		s.abortWriters()
		return time.Time{}, err
	}
	s.held.since = time.Now()
	return r.heldUntil(), nil
}

// holdAll takes the set to where all writers are held and what they have written
// is on the disk.
func (r *run) holdAll(ctx context.Context) error {
	if err := r.requiredFailure(); err != nil {
		return err
	}
	if err := r.prepareWriters(ctx); err != nil {
		return err
	}
	if err := r.ensureKeeper(ctx); err != nil {
		return err
	}
	// The keeper's own clock lets processes go, even if this process hangs.
	r.set.keeper.SetLease(r.limits.Writer)
	if err := r.flush(ctx); err != nil {
		return err
	}
	if err := r.freeze(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithDeadlineCause(ctx, r.heldUntil(),
		vss.Errorf(vss.ErrFlushWritesTimeout, "HoldWriters", "", "the time for which writers are held ended before all was on the disk"))
	defer cancel()
	if err := r.stopProcesses(ctx); err != nil {
		return err
	}
	if err := r.flush(ctx); err != nil {
		return err
	}
	return r.stillHeld()
}

// thawShare is what part of a writer's limit is kept for Thaw, and thawTime the
// most of it.
const (
	thawShare = 10
	thawTime  = 2 * time.Second
)

// heldUntil is when the writers must be thawed for none of them to be overdue.
func (r *run) heldUntil() time.Time {
	var until time.Time
	for _, p := range r.pick(func(p *participant) bool { return p.frozen && !p.out }) {
		end := p.until.Add(-min(thawTime, r.heldLimit(p)/thawShare))
		if until.IsZero() || end.Before(until) {
			until = end
		}
	}
	if until.IsZero() { // nobody is held
		until = r.receipt.Started.Add(r.limits.Writer - min(thawTime, r.limits.Writer/thawShare))
	}
	return until
}

// ThawWriters implements [session.Holder].
func (s *service) ThawWriters(ctx context.Context, p session.Progress) error {
	ctx, leave, err := s.enter(ctx, "ThawWriters", holding, snapped|setFailed|completed|aborted)
	if err != nil {
		return err
	}
	defer leave()
	r := s.held.run
	r.pr = newReporter(p)
	defer r.pr.end()
	if err = r.thawAll(ctx); err != nil {
		s.letGo()
		s.abortWriters()
		return err
	}
	s.held.end()
	s.reached(snapped)
	return nil
}

// thawAll lets everybody go, whatever happened, and has the writers end what they
// began.
func (r *run) thawAll(ctx context.Context) error {
	err := r.stillHeld()
	r.receipt.Instant = time.Now()
	r.receipt.Hold = r.receipt.Instant.Sub(r.held.since)
	if rerr := r.resumeProcesses(); err == nil {
		err = rerr
	}
	r.thaw()
	if err == nil {
		err = r.requiredFailure()
	}
	if err == nil {
		err = r.postSnapshot(ctx)
	}
	return err
}

// letGo ends a hold that nobody thaws. The writers then want Abort: all at once,
// as no order is of use any more.
func (s *service) letGo() {
	if s.held == nil || s.has(snapped) {
		return
	}
	_ = s.held.run.resumeProcesses() // nobody relies on the hold any more
	for _, p := range s.writers {
		if p.frozen && p.clock.Stop() {
			p.receipt.Held = time.Since(p.heldAt)
		}
	}
	s.held.end()
	s.reached(setFailed)
}

// postSnapshot sends PostSnapshot to the writers that have not failed.
func (r *run) postSnapshot(ctx context.Context) error {
	each(r.inTheSet(), func(p *participant) {
		done := r.pr.begin("PostSnapshot", p.instanceName)
		start := time.Now()
		_, err := r.tell(ctx, p, writer.EventPostSnapshot, r.limits.Event)
		p.receipt.PostSnapshot = time.Since(start)
		p.begun = false // Abort is not sent any more
		done(err)
	})
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return r.requiredFailure()
}

// noteStopped keeps in the journal how processes were stopped, where that outlives
// us. That they go on again is noted when there is time for it: the journal may
// lie on a file system that is frozen, and whoever asks for them to go on must not
// wait for that.
func (s *service) noteStopped(t *snapshotSet, undo json.RawMessage) error {
	note := func() error { return t.entry.change(func(e *journalEntry) { e.Stopped = undo }) }
	if undo != nil || !s.has(holding) {
		return note()
	}
	s.background.Go(func() {
		if err := note(); err != nil {
			s.log.Warn("the journal still says that processes are stopped", "error", err)
		}
	})
	return nil
}

// flush brings to the disk what the writers have written, as who copies the disk
// sees nothing else.
func (r *run) flush(ctx context.Context) error {
	const op = "flush"
	ctx, cancel := r.limited(ctx, op, vss.ErrFlushWritesTimeout)
	defer cancel()
	start := time.Now()
	defer func() { r.receipt.Flush = time.Since(start) }()
	done := r.pr.begin("Flush", "")
	err := boundedErr(ctx, func(ctx context.Context) error { return flushDirs(ctx, r.dirs()) })
	if err != nil {
		err = &vss.Error{Op: op, Code: vss.ErrFlushWritesTimeout, Err: err}
	}
	done(err)
	return err
}

// dirs are the directories in which the writers that take part have files.
func (s *service) dirs() []string {
	seen := map[string]bool{}
	var list []string
	for _, p := range s.partaking() {
		for _, c := range p.meta.Components() {
			for _, set := range c.FileSets {
				for _, dir := range []string{set.Path, set.AlternatePath} {
					if dir, err := vss.ExpandEnv(dir, lookupEnv); err == nil && dir != "" && !seen[dir] {
						seen[dir] = true
						list = append(list, dir)
					}
				}
			}
		}
	}
	return list
}

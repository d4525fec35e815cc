package coordinator

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// hold is from the last writer frozen to the last volume committed. The hold
// limit is over all of it.
func (r *run) hold(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, r.limits.Hold,
		vss.Errorf(vss.ErrHoldWritesTimeout, "CommitSnapshots", "", "not all volumes were copied within %v", r.limits.Hold))
	defer cancel()
	start := time.Now()
	err := r.stopProcesses(ctx)
	if err == nil {
		err = r.commit(ctx)
	}
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	r.receipt.Instant = time.Now()
	r.receipt.Hold = r.receipt.Instant.Sub(start)
	if err != nil {
		return err
	}
	return r.stillHeld()
}

// commit takes the copies of all volumes.
func (r *run) commit(ctx context.Context) error {
	err := r.together(ctx, step{op: "PreCommitSnapshots", during: vss.SnapshotProcessingPreCommit, after: vss.SnapshotPreCommitted,
		call: func(ctx context.Context, c *shadow) (func(), error) { return nil, c.snap.PreCommit(ctx) },
		took: func(c *shadow, d time.Duration) { c.receipt.PreCommit = d }})
	if err != nil {
		return err
	}
	return r.together(ctx, step{op: "CommitSnapshots", event: "Commit", during: vss.SnapshotProcessingCommit, after: vss.SnapshotCommitted,
		call: func(ctx context.Context, c *shadow) (func(), error) { return nil, c.snap.Commit(ctx) },
		took: func(c *shadow, d time.Duration) { c.receipt.Commit = d }})
}

// stillHeld checks, after the commit and before anything is let go, that the
// writers that were to be held still were. Whether the processes were, Resume
// tells.
func (r *run) stillHeld() error {
	for _, p := range r.pick(func(p *participant) bool { return p.frozen && !p.out }) {
		switch {
		case p.gone():
			p.fail(writer.EventThaw, p.lostError(writer.EventThaw), nil)
			p.clock.Stop()
			r.abortSoon(p)
		case !time.Now().Before(p.until):
			p.clock.Stop()
			r.overdue(p)
		}
	}
	return r.requiredFailure()
}

// finish ends the making of the copies, and lets writers add to the document.
func (r *run) finish(ctx context.Context) error {
	if err := r.postCommit(ctx); err != nil {
		return err
	}
	if !r.opts.NoFreeze { // else nobody said that anything were still
		r.checkMoved()
	}
	if !r.noWriters() {
		if err := r.postSnapshot(ctx); err != nil {
			return err
		}
	}
	return r.finalCommit(ctx)
}

func (r *run) postCommit(ctx context.Context) error {
	const op = "PostCommitSnapshots"
	ctx, cancel := r.limited(ctx, op, vss.ErrProviderVeto)
	defer cancel()
	err := r.together(ctx, step{op: op, during: vss.SnapshotProcessingPostCommit, after: vss.SnapshotPostCommitted,
		call: func(ctx context.Context, c *shadow) (func(), error) {
			copied, err := c.snap.PostCommit(ctx)
			return func() { r.copied(c, copied) }, err
		}})
	if err != nil {
		return err
	}
	return r.together(ctx, step{op: "PreFinalCommitSnapshots", during: vss.SnapshotProcessingPreFinalCommit, after: vss.SnapshotPreFinalCommitted,
		call: func(ctx context.Context, c *shadow) (func(), error) {
			if f, ok := c.snap.(provider.Finalizer); ok {
				return nil, f.PreFinalCommit(ctx)
			}
			return nil, nil
		}})
}

// copied notes what was made.
func (r *run) copied(c *shadow, copied provider.Copied) {
	c.copied, c.created = copied, r.receipt.Instant
	c.receipt.Flush, c.receipt.Files, c.receipt.Bytes = copied.Flush, copied.Files, copied.Bytes
	c.receipt.Extents, c.receipt.Unclaimed = copied.Extents, copied.Unclaimed || c.caps.Atomic
	c.receipt.Note = copied.Note
}

func (r *run) finalCommit(ctx context.Context) error {
	const op = "PostFinalCommitSnapshots"
	ctx, cancel := r.limited(ctx, op, vss.ErrProviderVeto)
	defer cancel()
	return r.together(ctx, step{op: op, during: vss.SnapshotProcessingPostFinalCommit, after: vss.SnapshotCreated,
		call: func(ctx context.Context, c *shadow) (func(), error) {
			if f, ok := c.snap.(provider.Finalizer); ok {
				if err := f.PostFinalCommit(ctx); err != nil {
					return nil, err
				}
			}
			// A copy lost for want of room is lost now, not when it is read.
			if _, err := c.prov.Locate(ctx, c.ref); err != nil {
				return nil, fmt.Errorf("the copy is not there: %w", err)
			}
			return nil, nil
		}})
}

// checkMoved puts out the writers whose files changed while they were copied,
// although they were to be still: what was copied of them is worth nothing. A
// provider names a bounded number of such files; where there may be more, nobody
// with files in that copy can be believed.
func (r *run) checkMoved() {
	for _, c := range r.set.copies {
		all := len(c.copied.Moved) >= provider.MaxMoved
		for _, name := range c.copied.Moved {
			for _, p := range r.partaking() {
				if r.moved(c, p, name, all) {
					p.fail(writer.EventThaw, vss.Errorf(vss.ErrWriterErrorInconsistentSnapshot, "Freeze", p.instanceName,
						"its files were to be still, but %s changed while it was copied", name), nil)
					r.abortSoon(p)
				}
			}
		}
	}
}

// moved reports whether the file called name, or perhaps another that moved, is
// the writer's.
func (r *run) moved(c *shadow, p *participant, name string, all bool) bool {
	return slices.ContainsFunc(c.scope.Claims, func(claim provider.Claim) bool {
		return p.claims(claim) && (all || claim.Has(name, c.scope.Fold))
	})
}

// keep makes a persistent set outlive the session.
func (r *run) keep() error {
	if r.autoRelease() {
		return nil
	}
	if err := r.set.entry.change(func(e *journalEntry) { e.Keep, e.Purpose = true, r.state.Purpose }); err != nil {
		return err
	}
	r.set.kept = true
	return nil
}

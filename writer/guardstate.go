package writer

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/sombra-backup/sombra/vss"
)

// begin checks that an event may come now, notes what the writer is owed from
// now on, and for Freeze starts the clock. It returns the handler's own time
// limit, zero if it has none beyond its context.
func (g *Guard) begin(o *owner, kind EventKind, e *Event) (time.Duration, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if o != nil && o.gone.Load() {
		return 0, refuse(kind, vss.ErrWriterErrorRetryable, "the connection it came over is lost")
	}
	if g.phase != phaseNone && g.owner != o && kind != EventThaw {
		return 0, refuse(kind, vss.ErrWriterErrorRetryable, "another session has the writer")
	}
	if g.last.SessionID != e.SessionID {
		g.timeout = nil
	}
	if err := g.checkOrder(kind); err != nil {
		return 0, err
	}
	switch kind {
	case EventPrepareForBackup, EventPrepareForSnapshot:
		g.enter(phaseBackup, o, e)
	case EventPreRestore:
		g.enter(phaseRestored, o, e)
	case EventFreeze:
		g.enter(phaseFrozen, o, e)
		limit := g.freezeLimit(e)
		g.hold = g.startClock(limit)
		return limit, nil
	}
	return 0, nil
}

// checkOrder refuses what would break the promise about frozen writers. The
// rest of the order is the coordinator's to keep.
func (g *Guard) checkOrder(kind EventKind) error {
	switch kind {
	case EventPrepareForBackup, EventPreRestore:
		if g.phase == phaseFrozen {
			return refuse(kind, vss.ErrBadState, "it is frozen")
		}
		g.timeout = nil
	case EventFreeze, EventPrepareForSnapshot, EventPostSnapshot, EventBackupComplete:
		if g.timeout != nil {
			return g.timeout
		}
		if g.phase == phaseFrozen {
			return refuse(kind, vss.ErrBadState, "it is frozen")
		}
	case EventThaw:
		if g.timeout != nil {
			return g.timeout
		}
		if g.phase != phaseFrozen {
			return refuse(kind, vss.ErrBadState, "it is not frozen")
		}
	}
	return nil
}

func refuse(kind EventKind, code vss.Code, why string) error {
	return vss.Errorf(code, kind.String(), "writer", "%s", why)
}

func (g *Guard) enter(p phase, o *owner, e *Event) {
	g.phase, g.owner = p, o
	g.last = Event{
		SessionID: e.SessionID, SnapshotSetID: e.SnapshotSetID, Context: e.Context,
		State: e.State, RestoreType: e.RestoreType,
	}
}

// end notes what a writer is owed after an event.
func (g *Guard) end(kind EventKind, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case kind == EventThaw && err == nil && g.phase == phaseFrozen:
		g.hold.Stop()
		g.phase = phaseBackup
	case kind == EventPostSnapshot && err == nil && g.phase == phaseBackup:
		g.phase = phaseTaken
	case kind == EventPostRestore && g.phase == phaseRestored,
		kind == EventBackupShutdown && g.phase != phaseFrozen:
		g.phase, g.owner, g.timeout = phaseNone, nil, nil
	}
}

func (g *Guard) freezeLimit(e *Event) time.Duration {
	limit := e.Limit
	if limit <= 0 {
		limit = defaultFreezeLimit
	}
	if own := g.desc.FreezeTimeout; own > 0 {
		limit = min(limit, own)
	}
	return limit
}

// startClock releases the writer when the limit passes before Thaw or Abort.
// The caller holds g.mu.
func (g *Guard) startClock(limit time.Duration) *time.Timer {
	var clock *time.Timer
	clock = time.AfterFunc(limit, func() {
		g.mu.Lock()
		if g.hold != clock || g.phase != phaseFrozen {
			g.mu.Unlock()
			return
		}
		g.timeout = vss.Errorf(vss.ErrWriterErrorTimeout, "Freeze", "writer", "not thawed within %v, released by itself", limit)
		g.mu.Unlock()
		g.log.Error("writer: frozen for too long, Abort", "limit", limit)
		g.release(context.DeadlineExceeded)
	})
	return clock
}

// abort runs Abort beside whatever runs; that is cancelled, with why as cause.
func (g *Guard) abort(ctx context.Context, e *Event, why error) error {
	g.mu.Lock()
	h := g.running
	if h != nil {
		h.cancel(why)
	}
	g.mu.Unlock()
	if h != nil {
		select {
		case <-h.ended:
		case <-time.After(abortGrace):
		case <-ctx.Done():
		}
		g.mu.Lock()
		if g.running == h {
			h.aborted = true
		}
		g.mu.Unlock()
	}
	err := g.callAbort(ctx, e)
	g.mu.Lock()
	defer g.mu.Unlock()
	if err == nil && (g.phase == phaseFrozen || g.phase == phaseBackup) {
		if g.hold != nil {
			g.hold.Stop()
		}
		g.phase = phaseTaken
	}
	return err
}

// callAbort calls the handler, one at a time, and waits no longer than ctx
// allows.
func (g *Guard) callAbort(ctx context.Context, e *Event) error {
	select {
	case g.aborting <- struct{}{}:
	case <-ctx.Done():
		return overtime{vss.Errorf(vss.ErrWriterErrorTimeout, "Abort", "writer", "another Abort is still running: %w", context.Cause(ctx))}
	}
	ended := make(chan error, 1)
	own := *e
	go func() {
		err := errLeft
		defer func() {
			<-g.aborting
			ended <- err
		}()
		err = g.protect(EventAbort, func() error { return g.w.Abort(ctx, &own) })
	}()
	select {
	case err := <-ended:
		if err == nil {
			e.Failure = own.Failure
		}
		return err
	case <-ctx.Done():
		return overtime{timeUp(ctx, EventAbort)}
	}
}

// protect turns a panic into a failure.
func (g *Guard) protect(kind EventKind, f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			g.log.Error("writer: panic in handler", "event", kind.String(), "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = vss.Errorf(vss.ErrWriterErrorNonRetryable, kind.String(), "writer", "its handler panicked: %v", p)
		}
	}()
	return f()
}

// release sends Abort on the guard's own account, until it succeeds or has been
// tried often enough. A writer that cannot be released is reported to stuck, so
// that a process of its own can end and the kernel frees what it holds.
func (g *Guard) release(why error) {
	g.mu.Lock()
	last, stuck := g.last, g.stuck
	g.mu.Unlock()
	var err error
	for try := range releaseTries {
		if try > 0 {
			time.Sleep(releasePause)
		}
		ctx, cancel := context.WithTimeout(context.Background(), releaseTimeout)
		err = g.abort(ctx, &last, why)
		cancel()
		if err == nil {
			return
		}
		g.log.Error("writer: Abort", "error", err)
	}
	if stuck != nil {
		stuck(fmt.Errorf("writer: Abort has been tried %d times: %w", releaseTries, err))
	}
}

// disconnect does what is owed to a writer whose events came from o, which is
// gone.
func (g *Guard) disconnect(o *owner) {
	g.mu.Lock()
	if g.owner != o {
		g.mu.Unlock()
		return
	}
	was, last := g.phase, g.last
	g.mu.Unlock()
	if was == phaseBackup || was == phaseFrozen {
		g.log.Warn("writer: connection lost during a backup, Abort", "session", last.SessionID.String())
		g.release(errAborted)
	}
	if was != phaseRestored {
		ctx, cancel := context.WithTimeout(context.Background(), releaseTimeout)
		defer cancel()
		err := g.run(ctx, EventBackupShutdown, func(ctx context.Context) (func(), error) {
			return nil, Notify(ctx, g.w, EventBackupShutdown, &last)
		})
		if err != nil {
			g.log.Error("writer: BackupShutdown", "error", err)
		}
	}
	g.mu.Lock()
	if g.owner == o {
		g.phase, g.owner = phaseNone, nil
	}
	g.mu.Unlock()
}

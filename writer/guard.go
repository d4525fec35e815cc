package writer

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/vss"
)

const (
	// defaultFreezeLimit is the model's 60 s from Freeze to Thaw.
	defaultFreezeLimit = 60 * time.Second
	// abortGrace is how long a cancelled handler is given to return before
	// Abort runs beside it, and before its caller is answered without it.
	abortGrace = 100 * time.Millisecond
	// releaseTimeout bounds Abort and BackupShutdown where the guard itself
	// sends them, and releaseTries how often Abort is tried.
	releaseTimeout = 10 * time.Second
	releaseTries   = 3
	releasePause   = time.Second
)

// Guard stands between events and a writer and keeps the promises that hold
// however the writer and the sender of the events behave:
//
//   - handlers run one at a time, except Abort, which first cancels the one
//     that runs;
//   - a call returns when its context ends, even if the handler goes on;
//   - a handler that panics has failed, with VSS_E_WRITERERROR_NONRETRYABLE;
//   - a writer still frozen when its limit has passed gets Abort, and later
//     events of that session fail with VSS_E_WRITERERROR_TIMEOUT;
//   - a Freeze, or other handler, that ends only after Abort has run is
//     followed by another Abort;
//   - missing handlers answer with success.
//
// A Guard is itself a [Writer] with all optional events. It may be used by
// several goroutines. If a call returned because its time was up the handler
// may still be using the event's Components, so the caller must not.
type Guard struct {
	w    Writer
	desc Description
	log  *slog.Logger

	turn     chan struct{} // holds a token while a handler other than Abort runs
	aborting chan struct{} // holds a token while Abort runs

	mu      sync.Mutex
	phase   phase
	owner   *owner
	last    Event // the identifiers of the session under way
	running *handling
	hold    *time.Timer
	timeout error // why events of session last fail; nil if they do not
	stuck   func(error)
}

// phase is what a writer is owed if its session ends now.
type phase int

const (
	phaseNone     phase = iota // nothing
	phaseBackup                // Abort and BackupShutdown
	phaseFrozen                // the same, and it holds an application
	phaseTaken                 // BackupShutdown
	phaseRestored              // nothing, but it belongs to its owner
)

// owner is where events come from: a connection. When it is gone, events that
// were on their way are refused.
type owner struct{ gone atomic.Bool }

// handling is one handler that runs.
type handling struct {
	kind    EventKind
	cancel  context.CancelCauseFunc
	ended   chan struct{}
	aborted bool // Abort ran while the handler did
}

// overtime is the error of a call whose handler has not returned.
type overtime struct{ error }

func (o overtime) Unwrap() error { return o.error }

var (
	errAborted = errors.New("the writer got Abort")
	// errLeft is the result of a handler that called runtime.Goexit.
	errLeft = errors.New("the handler ended its goroutine")
)

// NewGuard makes the guard of a writer. What happens outside any call (a writer
// that had to be released, a panic) is logged; a nil log means slog.Default.
func NewGuard(w Writer, log *slog.Logger) *Guard {
	if log == nil {
		log = slog.Default()
	}
	return &Guard{
		w: w, desc: w.Describe(), log: log,
		turn: make(chan struct{}, 1), aborting: make(chan struct{}, 1),
	}
}

// Describe implements [Writer].
func (g *Guard) Describe() Description { return g.desc }

// Identify implements [Writer].
func (g *Guard) Identify(ctx context.Context) (*metadata.WriterMetadata, error) {
	var doc *metadata.WriterMetadata
	err := g.run(ctx, EventIdentify, func(ctx context.Context) (func(), error) {
		d, err := g.w.Identify(ctx)
		if err == nil && d == nil {
			err = vss.Errorf(vss.ErrWriterErrorNonRetryable, "Identify", "writer", "it gave no document")
		}
		return func() { doc = d }, err
	})
	if err != nil {
		return nil, err
	}
	return doc, nil
}

// PrepareForBackup implements [BackupPreparer].
func (g *Guard) PrepareForBackup(ctx context.Context, e *Event) error {
	return g.notify(ctx, nil, EventPrepareForBackup, e)
}

// PrepareForSnapshot implements [SnapshotPreparer].
func (g *Guard) PrepareForSnapshot(ctx context.Context, e *Event) error {
	return g.notify(ctx, nil, EventPrepareForSnapshot, e)
}

// Freeze implements [Writer]. The time limit is e.Limit, 60 s if that is zero,
// or the writer's own FreezeTimeout if that is shorter.
func (g *Guard) Freeze(ctx context.Context, e *Event) error {
	return g.notify(ctx, nil, EventFreeze, e)
}

// Thaw implements [Writer]. Without a Freeze before it the error is
// VSS_E_BAD_STATE.
func (g *Guard) Thaw(ctx context.Context, e *Event) error {
	return g.notify(ctx, nil, EventThaw, e)
}

// PostSnapshot implements [PostSnapshotter].
func (g *Guard) PostSnapshot(ctx context.Context, e *Event) error {
	return g.notify(ctx, nil, EventPostSnapshot, e)
}

// BackupComplete implements [BackupCompleter].
func (g *Guard) BackupComplete(ctx context.Context, e *Event) error {
	return g.notify(ctx, nil, EventBackupComplete, e)
}

// BackupShutdown implements [BackupShutdowner].
func (g *Guard) BackupShutdown(ctx context.Context, e *Event) error {
	return g.notify(ctx, nil, EventBackupShutdown, e)
}

// Abort implements [Writer].
func (g *Guard) Abort(ctx context.Context, e *Event) error {
	return g.notify(ctx, nil, EventAbort, e)
}

// PreRestore implements [PreRestorer].
func (g *Guard) PreRestore(ctx context.Context, e *Event) error {
	return g.notify(ctx, nil, EventPreRestore, e)
}

// PostRestore implements [PostRestorer].
func (g *Guard) PostRestore(ctx context.Context, e *Event) error {
	return g.notify(ctx, nil, EventPostRestore, e)
}

// notify sends one event that came from o.
func (g *Guard) notify(ctx context.Context, o *owner, kind EventKind, e *Event) error {
	if kind == EventAbort {
		return g.abort(ctx, e, errAborted)
	}
	if kind == EventBackupShutdown && g.frozenBy(o) {
		// Nobody will thaw it any more.
		if err := g.abort(ctx, e, errAborted); err != nil {
			return err
		}
	}
	limit, err := g.begin(o, kind, e)
	if err != nil {
		return err
	}
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	err = g.run(ctx, kind, func(ctx context.Context) (func(), error) {
		own := *e
		own.Failure, own.Report = nil, FreezeReport{}
		err := Notify(ctx, g.w, kind, &own)
		return func() { e.Failure, e.Report = own.Failure, own.Report }, err
	})
	g.end(kind, err)
	return err
}

func (g *Guard) frozenBy(o *owner) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.phase == phaseFrozen && g.owner == o
}

// run waits for its turn and runs a handler, until it has ended or its time is
// up. The handler gives a function that stores its results; it is called only
// if the caller is still there to see them.
func (g *Guard) run(ctx context.Context, kind EventKind, handler func(context.Context) (func(), error)) error {
	if err := g.takeTurn(ctx, kind); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	h := &handling{kind: kind, cancel: cancel, ended: make(chan struct{})}
	g.mu.Lock()
	g.running = h
	g.mu.Unlock()

	var store func()
	err := errLeft
	go func() {
		defer g.leave(h)
		err = g.protect(kind, func() (err error) {
			store, err = handler(ctx)
			return err
		})
	}()
	select {
	case <-h.ended:
	case <-ctx.Done():
		select {
		case <-h.ended:
		case <-time.After(abortGrace):
			return overtime{timeUp(ctx, kind)}
		}
	}
	if store != nil {
		store()
	}
	if err == nil && ctx.Err() != nil {
		return timeUp(ctx, kind)
	}
	cancel(nil)
	return err
}

func (g *Guard) takeTurn(ctx context.Context, kind EventKind) error {
	if ctx.Err() != nil {
		return timeUp(ctx, kind)
	}
	select {
	case g.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
	}
	busy := "another event"
	g.mu.Lock()
	if g.running != nil {
		busy = g.running.kind.String()
	}
	g.mu.Unlock()
	return overtime{vss.Errorf(vss.ErrWriterErrorTimeout, kind.String(), "writer", "it is still busy with %s: %w", busy, context.Cause(ctx))}
}

// leave ends a handler. If Abort ran beside it, what the handler did after
// that must be undone too.
func (g *Guard) leave(h *handling) {
	g.mu.Lock()
	g.running = nil
	late := h.aborted
	last := g.last
	g.mu.Unlock()
	close(h.ended)
	if late {
		ctx, cancel := context.WithTimeout(context.Background(), releaseTimeout)
		defer cancel()
		if err := g.callAbort(ctx, &last); err != nil {
			g.log.Error("writer: Abort after a late handler", "event", h.kind.String(), "error", err)
		}
	}
	<-g.turn
}

// timeUp is the error of an event whose context ended. Its cause stays in the
// chain: context.DeadlineExceeded, context.Canceled or errAborted.
func timeUp(ctx context.Context, kind EventKind) error {
	if errors.Is(context.Cause(ctx), errAborted) {
		return vss.Errorf(vss.ErrWriterErrorRetryable, kind.String(), "writer", "it was cut short: %w", errAborted)
	}
	return vss.Errorf(vss.ErrWriterErrorTimeout, kind.String(), "writer", "it did not end in time: %w", context.Cause(ctx))
}

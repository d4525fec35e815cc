package coordinator

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// participant is one writer instance in this session.
type participant struct {
	w    writer.Writer
	desc writer.Description
	// spec remakes a built-in writer; nil for others.
	spec *writer.Spec
	// lost is closed when the writer's process is gone; nil if it is ours.
	lost <-chan struct{}
	// uid is who the writer's process runs as, where that limits what it is
	// believed; nil where it does not: it is root's, or ours.
	uid *uint32
	// socket is where a writer of another program listens. If it has a uid,
	// that must own the files it declares.
	socket string
	// unnamed is why process ids that it names mean nothing here; empty if
	// they do.
	unnamed string
	// kill ends the process of a built-in writer that hangs; nil for others.
	kill func()

	meta         *metadata.WriterMetadata
	document     []byte
	instance     vss.GUID
	class        vss.GUID
	name         string
	instanceName string
	discovered   bool
	required     bool

	state   vss.WriterState
	failure writer.Failure
	failed  writer.EventKind // the event it failed in

	// restores is, in a restore, the instance id the backup knows it by.
	restores vss.GUID

	in     bool // has components in this backup or restore
	out    bool // failed: takes part no more
	begun  bool // may need Abort: got PrepareForBackup, has not done PostSnapshot
	frozen bool
	ended  bool // got BackupShutdown
	spared bool // nothing of it is copied: it does not hear of the set
	hung   bool // left the last event unanswered

	receipt session.WriterReceipt
	heldAt  time.Time // since when the application is held
	until   time.Time // when it must be thawed
	clock   *time.Timer
	unwatch func() // ends the keeper's duty to undo its freeze; may be nil

	// still: holding commits does not suffice, its processes must be stopped.
	still     bool
	processes []int // named by its Freeze
}

// failedAt is the state of a writer that failed in an event.
var failedAt = map[writer.EventKind]vss.WriterState{
	writer.EventIdentify:           vss.WriterFailedAtIdentify,
	writer.EventPrepareForBackup:   vss.WriterFailedAtPrepareBackup,
	writer.EventPrepareForSnapshot: vss.WriterFailedAtPrepareSnapshot,
	writer.EventFreeze:             vss.WriterFailedAtFreeze,
	writer.EventThaw:               vss.WriterFailedAtThaw,
	writer.EventPostSnapshot:       vss.WriterFailedAtPostSnapshot,
	writer.EventBackupComplete:     vss.WriterFailedAtBackupComplete,
	writer.EventBackupShutdown:     vss.WriterFailedAtBackupShutdown,
	writer.EventPreRestore:         vss.WriterFailedAtPreRestore,
	writer.EventPostRestore:        vss.WriterFailedAtPostRestore,
}

// okAfter is the state of a writer that has handled an event well.
var okAfter = map[writer.EventKind]vss.WriterState{
	writer.EventPrepareForBackup:   vss.WriterStable,
	writer.EventPrepareForSnapshot: vss.WriterWaitingForFreeze,
	writer.EventFreeze:             vss.WriterWaitingForThaw,
	writer.EventThaw:               vss.WriterWaitingForPostSnapshot,
	writer.EventPostSnapshot:       vss.WriterWaitingForBackupComplete,
	writer.EventBackupComplete:     vss.WriterStable,
	writer.EventPreRestore:         vss.WriterStable,
	writer.EventPostRestore:        vss.WriterStable,
	writer.EventAbort:              vss.WriterStable,
	writer.EventBackupShutdown:     vss.WriterStable,
}

// fail puts a writer out of the backup.
func (p *participant) fail(kind writer.EventKind, err error, own *writer.Failure) {
	if p.out {
		return // the first failure is the one to tell
	}
	p.out = true
	p.state = failedAt[kind]
	p.failed = kind
	p.failure = writer.Failure{Code: writerCode(err), Message: err.Error()}
	if own != nil {
		p.failure = *own
		if own.Code == vss.OK {
			p.failure.Code = writerCode(err)
		}
		if own.Message == "" {
			p.failure.Message = err.Error()
		}
	}
	p.receipt.Error = p.failure.Message
	p.receipt.State = p.state.String()
}

// writerCode is the code a writer's failure is reported with: one that a writer
// or the service may give it, else VSS_E_WRITERERROR_NONRETRYABLE.
func writerCode(err error) vss.Code {
	code := vss.CodeOf(err)
	if slices.Contains(vss.WriterFailureCodes(), code) || code == vss.ErrWriterErrorPartialFailure ||
		code == vss.ErrWriterNotResponding || code == vss.ErrWriterStatusNotAvailable {
		return code
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return vss.ErrWriterErrorTimeout
	}
	return vss.ErrWriterErrorNonRetryable
}

func (p *participant) status() session.WriterStatus {
	st := session.WriterStatus{
		Instance: p.instance, Writer: p.class, Name: p.name, InstanceName: p.instanceName,
		State: p.state, Failure: p.failure.Code, Application: p.failure.Application, Message: p.failure.Message,
	}
	if p.failed != 0 { // else it is well, or died between events
		st.Event = p.failed.String()
	}
	return st
}

// gone reports whether the writer's process has ended.
func (p *participant) gone() bool {
	if p.lost == nil {
		return false
	}
	select {
	case <-p.lost:
		return true
	default:
		return false
	}
}

// send sends one event and waits for the answer, but not longer than limit,
// whether or not the writer's code keeps to it. answered tells whether the
// event may still be looked at: the handler of one whose time was up may go on
// with it, also if the call has returned.
func (p *participant) send(ctx context.Context, kind writer.EventKind, e *writer.Event, limit time.Duration) (answered bool, err error) {
	over := vss.Errorf(vss.ErrWriterErrorTimeout, kind.String(), p.instanceName, "no answer within %v", limit)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, over)
	defer cancel()
	if p.gone() {
		return false, p.lostError(kind)
	}
	answer := make(chan error, 1)
	go func() { answer <- writer.Notify(ctx, p.w, kind, e) }()
	ended := func(err error) (bool, error) {
		if ctx.Err() == nil && peerGaveUp(err) {
			return false, over
		}
		return err == nil || ctx.Err() == nil, p.explain(ctx, kind, err)
	}
	select {
	case err := <-answer:
		return ended(err)
	case <-p.lost:
		return false, p.lostError(kind)
	case <-ctx.Done():
	}
	select {
	case err := <-answer:
		return ended(err)
	case <-p.lost:
		return false, p.lostError(kind)
	case <-time.After(graceAfterLimit):
		return false, context.Cause(ctx)
	}
}

// peerGaveUp reports whether a call ended because its time was up by the clock
// of the process that answers: it is told the limit, and its timer may be the
// first of the two to end.
func peerGaveUp(err error) bool {
	return vss.CodeOf(err) == vss.ErrWriterNotResponding && errors.Is(err, context.DeadlineExceeded)
}

// explain turns the bare end of a context into the reason for it, and the loss
// of a connection into that of the writer.
func (p *participant) explain(ctx context.Context, kind writer.EventKind, err error) error {
	switch {
	case err == nil:
		return nil
	case p.gone():
		return p.lostError(kind)
	case ctx.Err() != nil && (errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)):
		return context.Cause(ctx)
	}
	return err
}

func (p *participant) lostError(kind writer.EventKind) error {
	return vss.Errorf(vss.ErrWriterNotResponding, kind.String(), p.instanceName, "the writer's process has ended")
}

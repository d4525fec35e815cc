package coordinator

import (
	"context"
	"time"

	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// PrepareForBackup implements [session.Writers].
func (s *service) PrepareForBackup(ctx context.Context, p session.Progress) error {
	ctx, leave, err := s.enter(ctx, "PrepareForBackup", inBackup|gathered|stateSet|setOpen, prepared|snapped|setFailed|aborted)
	if err != nil {
		return err
	}
	defer leave()
	if s.noWriters() {
		return vss.Errorf(vss.ErrBadState, "PrepareForBackup", "", "the context %v has no writers", s.context)
	}
	if !s.state.SelectComponents {
		for _, p := range s.writers {
			p.in = true // R-SEL-14
		}
	}
	pr := newReporter(p)
	defer pr.end()
	each(s.partaking(), func(p *participant) {
		done := pr.begin(writer.EventPrepareForBackup.String(), p.instanceName)
		start := time.Now()
		p.begun = true
		_, err := s.tell(ctx, p, writer.EventPrepareForBackup, s.limits.Event)
		p.receipt.Prepare = time.Since(start)
		done(err)
	})
	s.reached(prepared)
	return context.Cause(ctx)
}

// BackupComplete implements [session.Writers]. Writers that have failed do not
// get it: nothing of theirs may be truncated.
func (s *service) BackupComplete(ctx context.Context, p session.Progress) error {
	ctx, leave, err := s.enter(ctx, "BackupComplete", inBackup|prepared, setFailed|completed|aborted)
	if err != nil {
		return err
	}
	defer leave()
	if s.set != nil && len(s.set.copies) > 0 && !s.has(snapped) {
		return vss.Errorf(vss.ErrBadState, "BackupComplete", "", "it must come after DoSnapshotSet")
	}
	// From here on the event is sent, to some writers at least, so that Abort
	// must not be any more.
	s.reached(completed)
	for _, p := range s.writers {
		p.begun = false
	}
	pr := newReporter(p)
	defer pr.end()
	each(s.partaking(), func(p *participant) {
		done := pr.begin(writer.EventBackupComplete.String(), p.instanceName)
		_, err := s.tell(ctx, p, writer.EventBackupComplete, s.limits.Event)
		done(err)
	})
	return context.Cause(ctx)
}

// GatherWriterStatus implements [session.Writers]. A writer whose process is
// gone is said so; the others' states are known. After BackupComplete or
// PostRestore it frees the session's slot.
func (s *service) GatherWriterStatus(ctx context.Context, p session.Progress) error {
	_, leave, err := s.enter(ctx, "GatherWriterStatus", gathered, 0)
	if err != nil {
		return err
	}
	defer leave()
	for _, p := range s.writers {
		if p.in && !p.out && p.gone() {
			p.out = true
			p.failure = writer.Failure{Code: vss.ErrWriterNotResponding, Message: "the writer's process has ended, in no event"}
			p.state = vss.WriterUnknown
		}
	}
	s.statuses = s.statuses[:0]
	for _, p := range s.writers {
		s.statuses = append(s.statuses, p.status())
	}
	s.statuses = append(s.statuses, s.absent...)
	s.statusKnown = true
	if s.has(completed) || s.has(postRestored) {
		s.slots.free(s.id)
	}
	return nil
}

// WriterStatus implements [session.Writers].
func (s *service) WriterStatus(ctx context.Context) ([]session.WriterStatus, error) {
	_, leave, err := s.enter(ctx, "GetWriterStatus", gathered, 0)
	if err != nil {
		return nil, err
	}
	defer leave()
	if !s.statusKnown {
		return nil, vss.Errorf(vss.ErrBadState, "GetWriterStatus", "", "it must come after GatherWriterStatus")
	}
	return append([]session.WriterStatus(nil), s.statuses...), nil
}

// FreeWriterStatus implements [session.Writers].
func (s *service) FreeWriterStatus(ctx context.Context) error {
	_, leave, err := s.enter(ctx, "FreeWriterStatus", gathered, 0)
	if err != nil {
		return err
	}
	defer leave()
	s.statuses, s.statusKnown = nil, false
	return nil
}

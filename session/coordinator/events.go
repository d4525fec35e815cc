package coordinator

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// seesComponents reports whether a writer is given its part of the Backup
// Components Document with an event. It keeps its changes after the same events
// but BackupComplete, in which the document is read-only.
func seesComponents(kind writer.EventKind) bool {
	return kind.KeepsComponents() || kind == writer.EventBackupComplete
}

// event makes the event a participant gets.
func (s *service) event(p *participant, kind writer.EventKind) *writer.Event {
	e := &writer.Event{
		SessionID: s.id,
		Context:   s.context,
		State: writer.BackupState{
			SelectComponents: s.state.SelectComponents, BootableSystemState: s.state.BootableSystemState,
			Type: s.state.Type, PartialFileSupport: s.state.PartialFileSupport,
		},
		RestoreType: s.rtype,
	}
	if kind == writer.EventFreeze {
		e.Limit = s.limits.Writer
	}
	if s.set != nil && (len(s.set.copies) > 0 || kind != writer.EventBackupShutdown) {
		e.SnapshotSetID = s.set.id
		e.Snapshots = s.set.describe(kind == writer.EventPostSnapshot || kind == writer.EventBackupComplete)
	}
	if seesComponents(kind) {
		e.Components = s.part(p)
	}
	return e
}

// tell sends one event to one participant, keeps what it changed, and records
// how it went. It returns the event as the writer left it, nil if it did not
// answer.
func (s *service) tell(ctx context.Context, p *participant, kind writer.EventKind, limit time.Duration) (*writer.Event, error) {
	return s.tellEvent(ctx, p, kind, s.event(p, kind), limit)
}

// tellEvent is tell with an event made by the caller.
func (s *service) tellEvent(ctx context.Context, p *participant, kind writer.EventKind, e *writer.Event, limit time.Duration) (*writer.Event, error) {
	answered, err := p.send(ctx, kind, e, limit)
	var own *writer.Failure
	if answered {
		own = e.Failure
		if kind.KeepsComponents() && e.Components != nil {
			// A writer that refuses may still have left its failure message.
			if merr := s.mergePart(p, kind, e.Components); merr != nil && err == nil {
				err = merr
			}
		}
	}
	if err != nil {
		p.fail(kind, err, own)
		if answered {
			return e, err
		}
		p.hung = true
		return nil, err
	}
	if state, ok := okAfter[kind]; ok && !p.out {
		p.state = state
	}
	if own != nil && (own.Code != vss.OK || own.Message != "") && !p.out {
		p.failure = *own // reported, and the backup goes on
	}
	return e, nil
}

// each runs fn for some participants at the same time and waits for all.
func each(list []*participant, fn func(*participant)) {
	var wg sync.WaitGroup
	for _, p := range list {
		wg.Go(func() { fn(p) })
	}
	wg.Wait()
}

// pick returns the participants for which ok holds.
func (s *service) pick(ok func(*participant) bool) []*participant {
	var list []*participant
	for _, p := range s.writers {
		if ok(p) {
			list = append(list, p)
		}
	}
	return list
}

// partaking are the writers that are in the backup and have not failed.
func (s *service) partaking() []*participant {
	return s.pick(func(p *participant) bool { return p.in && !p.out })
}

// inTheSet are those of them that hear of the set.
func (s *service) inTheSet() []*participant {
	return s.pick(func(p *participant) bool { return p.in && !p.out && !p.spared })
}

// broadcast sends an event to all partaking writers at the same time. A failure
// puts the writer out; that of a required one is returned.
func (s *service) broadcast(ctx context.Context, kind writer.EventKind, limit time.Duration, pr *reporter) error {
	each(s.partaking(), func(p *participant) {
		done := pr.begin(kind.String(), p.instanceName)
		_, err := s.tell(ctx, p, kind, limit)
		done(err)
	})
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return s.requiredFailure()
}

// requiredFailure is the failure of a writer without which the set must not be.
func (s *service) requiredFailure() error {
	var errs []error
	for _, p := range s.writers {
		if p.in && p.out && p.required {
			errs = append(errs, vss.Errorf(p.failure.Code, p.failed.String(), p.instanceName, "the writer is required: %s", p.failure.Message))
		}
	}
	return errors.Join(errs...)
}

// abort sends Abort to one writer, and if it does not answer ends its process;
// whatever outlives that is undone by a new one. It looks at nothing of p that
// changes, so that it can run beside other calls.
func (s *service) abort(p *participant, e *writer.Event) error {
	err := p.lostError(writer.EventAbort)
	if !p.gone() {
		_, err = p.send(context.Background(), writer.EventAbort, e, s.lastLimit())
		if err == nil {
			return nil
		}
	}
	s.log.Warn("writer did not handle Abort", "writer", p.instanceName, "error", err)
	if p.kill != nil {
		p.kill()
	}
	if p.spec == nil || !p.desc.OutlivesProcess {
		return err
	}
	if err = s.people.abortAnew(context.Background(), *p.spec, e); err != nil {
		s.log.Error("writer is gone, and nobody has confirmed that what it held goes on; look at its application", "writer", p.instanceName, "error", err)
	}
	return err
}

// giveUp notes that a writer needs Abort and nothing else any more, and returns
// what sends it.
func (s *service) giveUp(p *participant) func() {
	p.begun, p.frozen = false, false
	unwatch := p.unwatch
	p.unwatch = nil
	e := s.event(p, writer.EventAbort)
	return func() {
		if err := s.abort(p, e); err == nil && unwatch != nil {
			unwatch()
		}
	}
}

// abortSoon sends Abort to a writer that others must not wait for.
func (s *service) abortSoon(p *participant) { s.background.Go(s.giveUp(p)) }

// abortWriters sends Abort to every writer that may still need it. It is not
// sent once PostSnapshot was handled.
func (s *service) abortWriters() {
	for _, p := range s.writers {
		if p.begun {
			s.abortSoon(p)
		}
	}
	// Time for Abort, and for the end of one that does not handle it.
	s.background.wait(2*abortLimit + time.Second)
}

// shutdownWriters sends BackupShutdown, which comes also when a backup failed,
// to every writer that took part in it.
func (s *service) shutdownWriters() {
	if !s.has(inBackup) {
		return
	}
	each(s.pick(func(p *participant) bool { return p.in && !p.ended && !p.gone() }), func(p *participant) {
		p.ended = true
		limit := s.lastLimit()
		if p.hung {
			limit = min(limit, hungLimit)
		}
		_, err := p.send(context.Background(), writer.EventBackupShutdown, s.event(p, writer.EventBackupShutdown), limit)
		if err != nil {
			s.log.Warn("writer did not handle BackupShutdown", "writer", p.instanceName, "error", err)
		}
		p.hung = errors.Is(err, vss.ErrWriterErrorTimeout)
	})
	// Not before the others of its process have answered.
	for _, p := range s.pick(func(p *participant) bool { return p.hung && p.kill != nil && !p.gone() }) {
		p.kill()
	}
}

// lastLimit bounds the events with which a session is wound up.
func (s *service) lastLimit() time.Duration { return min(abortLimit, s.limits.Event) }

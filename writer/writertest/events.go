package writertest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// freezeTime is how long Freeze gets: what the service gives a configured
// writer.
const freezeTime = 60 * time.Second

// session plays one session of the shadow copy service with a writer.
type session struct {
	w     writer.Writer
	doc   *metadata.WriterMetadata
	bcd   *metadata.BackupComponents
	parts *metadata.WriterComponents // nil for a writer without components
	event writer.Event               // what all events of the session share
	named []int                      // the processes that Freeze named
}

// open identifies the writer and selects all of its components.
func open(ctx context.Context, w writer.Writer) (*session, error) {
	doc, err := w.Identify(ctx)
	if err != nil {
		return nil, fmt.Errorf("Identify: %w", err)
	}
	s := &session{w: w, doc: doc, bcd: metadata.NewBackupComponents()}
	s.event = writer.Event{
		SessionID: vss.NewGUID(), SnapshotSetID: vss.NewGUID(), Limit: freezeTime,
		State: writer.BackupState{SelectComponents: true, Type: vss.BackupTypeCopy},
	}
	id := doc.Identity()
	key := metadata.WriterKey{InstanceID: id.InstanceID, ClassID: id.ClassID, Schema: doc.BackupSchema()}
	for _, c := range explicit(doc) {
		if _, err := s.bcd.AddComponent(key, c.Type, c.LogicalPath, c.Name); err != nil {
			return nil, err
		}
	}
	s.parts, _ = s.bcd.Writer(id.InstanceID)
	return s, nil
}

// explicit gives the components a backup of everything names: those without a
// selectable one above them (R-SEL-6, R-SEL-7).
func explicit(doc *metadata.WriterMetadata) []*metadata.ComponentInfo {
	var top []*metadata.ComponentInfo
	for _, c := range doc.Components() {
		implicit := false
		for _, above := range doc.Components() {
			if above.Selectable && vss.IsDescendant(c.LogicalPath, above.FullPath()) {
				implicit = true
			}
		}
		if !implicit {
			top = append(top, c)
		}
	}
	return top
}

// send sends one event.
func (s *session) send(ctx context.Context, kind writer.EventKind) error {
	e := s.event
	switch kind {
	case writer.EventAbort, writer.EventBackupShutdown, writer.EventFreeze, writer.EventThaw:
	default:
		e.Components = s.parts
	}
	if kind == writer.EventFreeze {
		limit := e.Limit
		if _, remote := s.w.(*writer.Remote); remote {
			limit += returnTime // its own end keeps the limit, and answers
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	if err := notify(ctx, s.w, kind, &e); err != nil {
		return fmt.Errorf("%v: %w", kind, err)
	}
	if e.Failure != nil && e.Failure.Code != vss.OK {
		return fmt.Errorf("%v: the writer reports %v: %s", kind, e.Failure.Code, e.Failure.Message)
	}
	if e.Components != nil {
		s.parts = e.Components
	}
	if kind == writer.EventFreeze {
		s.named = e.Report.Processes
	}
	return nil
}

// notify sends an event to a writer and gives up on a handler that does not
// return although its time is up.
func notify(ctx context.Context, w writer.Writer, kind writer.EventKind, e *writer.Event) error {
	own := *e // the handler's, should it go on
	done := make(chan error, 1)
	go func() { done <- writer.Notify(ctx, w, kind, &own) }()
	select {
	case err := <-done:
		*e = own
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		*e = own
		return err
	case <-time.After(returnTime):
		return fmt.Errorf("the handler did not return within %v after its time was up", returnTime)
	}
}

// sendAll sends events in order and stops at the first that fails.
func (s *session) sendAll(ctx context.Context, kinds ...writer.EventKind) error {
	for _, k := range kinds {
		if err := s.send(ctx, k); err != nil {
			return err
		}
	}
	return nil
}

// untilFrozen are the events up to and with Freeze, afterThaw those from Thaw
// on.
var (
	untilFrozen = []writer.EventKind{writer.EventPrepareForBackup, writer.EventPrepareForSnapshot, writer.EventFreeze}
	fromThaw    = []writer.EventKind{writer.EventThaw, writer.EventPostSnapshot, writer.EventBackupComplete, writer.EventBackupShutdown}
)

// succeeded sets the outcome of all components.
func (s *session) succeeded(ok bool) error {
	if s.parts == nil {
		return nil
	}
	for _, c := range s.parts.Components() {
		if err := c.SetBackupSucceeded(ok); err != nil {
			return err
		}
	}
	return nil
}

// backup plays a whole backup, with during called while the writer is frozen.
// Thaw is sent whatever happens.
func (s *session) backup(ctx context.Context, during func() error) error {
	if err := s.sendAll(ctx, untilFrozen...); err != nil {
		return errors.Join(err, s.send(ctx, writer.EventAbort))
	}
	err := during()
	if thaw := s.send(ctx, writer.EventThaw); thaw != nil {
		return errors.Join(err, thaw, s.send(ctx, writer.EventAbort))
	}
	if err != nil {
		return errors.Join(err, s.send(ctx, writer.EventAbort))
	}
	if err := s.send(ctx, writer.EventPostSnapshot); err != nil {
		return err
	}
	if err := s.succeeded(true); err != nil {
		return err
	}
	return s.sendAll(ctx, writer.EventBackupComplete, writer.EventBackupShutdown)
}

// backupStill is a backup in which files are still while during is called: where
// that is not what the writer declares, the processes that it named are stopped,
// as the service does.
func (s *session) backupStill(ctx context.Context, during func() error) error {
	return s.backup(ctx, func() error {
		if s.w.Describe().Stillness == writer.FilesStill {
			return during()
		}
		if len(s.named) == 0 {
			return errors.New("Freeze named no processes, and the description says that it would")
		}
		resume, err := stopProcesses(ctx, s.named)
		defer resume()
		if err != nil {
			return err
		}
		return during()
	})
}

// stillable reports whether a writer's files can be had still.
func stillable(d writer.Description) bool {
	return d.Stillness == writer.FilesStill || d.NamesProcesses
}

// startLoad starts clients and waits until they are seen to work.
func (s *Subject) startLoad(ctx context.Context) (Load, error) {
	if s.Load == nil {
		return idle{}, nil
	}
	l, err := s.Load()
	if err != nil {
		return nil, fmt.Errorf("start clients: %w", err)
	}
	if err := s.works(ctx, l, 30*time.Second); err != nil {
		return nil, errors.Join(fmt.Errorf("before the backup: %w", err), l.Stop())
	}
	return l, nil
}

// resume is how long the application may take to go on.
func (s *Subject) resume() time.Duration {
	if s.Resume > 0 {
		return s.Resume
	}
	return 10 * time.Second
}

// works waits until the clients have had some transactions acknowledged.
func (s *Subject) works(ctx context.Context, l Load, limit time.Duration) error {
	if s.Load == nil {
		return nil
	}
	const enough = 3 // more than can have been under way
	begun, from := time.Now(), l.Acknowledged()
	for l.Acknowledged() < from+enough {
		if time.Since(begun) > limit {
			return fmt.Errorf("the application acknowledged %d transactions within %v; it is still held", l.Acknowledged()-from, limit)
		}
		if err := pause(ctx, time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// pause sleeps, or ends with an error if the check's time is up.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the check's time is up: %w", ctx.Err())
	}
}

// idle is the Load of an application without clients.
type idle struct{}

func (idle) Acknowledged() uint64 { return 0 }
func (idle) Reads() uint64        { return 0 }
func (idle) Stop() error          { return nil }

// underLoad runs f with clients at work and a session open, makes sure that the
// clients can go on afterwards, and that none of them saw an error.
func underLoad(ctx context.Context, s *Subject, f func(*session, Load) error) error {
	l, err := s.startLoad(ctx)
	if err != nil {
		return err
	}
	ses, err := open(ctx, s.Writer)
	if err == nil {
		err = f(ses, l)
	}
	if err == nil {
		err = s.works(ctx, l, s.resume())
	}
	if e := l.Stop(); e != nil {
		err = errors.Join(err, fmt.Errorf("a client failed: %w", e))
	}
	return err
}

package writertest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// returnTime is how long after its limit an event may take to return.
const returnTime = time.Second

func abortAnywhere(ctx context.Context, s *Subject) error {
	events := append(append([]writer.EventKind(nil), untilFrozen...), writer.EventThaw)
	return underLoad(ctx, s, func(_ *session, l Load) error {
		for n := range events {
			ses, err := open(ctx, s.Writer)
			if err != nil {
				return err
			}
			last := events[n]
			if err := ses.sendAll(ctx, events[:n+1]...); err != nil {
				return errors.Join(err, ses.send(ctx, writer.EventAbort))
			}
			if err := ses.send(ctx, writer.EventAbort); err != nil {
				return fmt.Errorf("after %v: %w", last, err)
			}
			if err := s.works(ctx, l, s.resume()); err != nil {
				return fmt.Errorf("Abort after %v: %w", last, err)
			}
			if err := ses.send(ctx, writer.EventBackupShutdown); err != nil {
				return fmt.Errorf("Abort after %v: %w", last, err)
			}
		}
		return worksOnce(ctx, s)
	})
}

// worksOnce makes sure that the writer can do a backup.
func worksOnce(ctx context.Context, s *Subject) error {
	ses, err := open(ctx, s.Writer)
	if err != nil {
		return err
	}
	return ses.backup(ctx, func() error { return nil })
}

func abortTwice(ctx context.Context, s *Subject) error {
	return underLoad(ctx, s, func(ses *session, l Load) error {
		if err := ses.sendAll(ctx, writer.EventAbort, writer.EventAbort); err != nil {
			return fmt.Errorf("before anything: %w", err)
		}
		if err := ses.sendAll(ctx, untilFrozen...); err != nil {
			return err
		}
		if err := ses.sendAll(ctx, writer.EventAbort, writer.EventAbort); err != nil {
			return fmt.Errorf("while frozen: %w", err)
		}
		if err := s.works(ctx, l, s.resume()); err != nil {
			return err
		}
		return worksOnce(ctx, s)
	})
}

func abortFresh(ctx context.Context, s *Subject) error {
	return underLoad(ctx, s, func(_ *session, l Load) error {
		w, _, err := s.Again()
		if err != nil {
			return err
		}
		ses, err := open(ctx, w)
		if err != nil {
			return err
		}
		if err := ses.send(ctx, writer.EventAbort); err != nil {
			return err
		}
		return s.works(ctx, l, s.resume())
	})
}

// abortBeside sends Abort while Freeze waits, as the service does when the
// time is up: first Freeze's context is cancelled.
func abortBeside(ctx context.Context, s *Subject) error {
	return underLoad(ctx, s, func(ses *session, l Load) error {
		release, err := s.Block()
		if err != nil {
			return err
		}
		defer release()
		if err := ses.sendAll(ctx, writer.EventPrepareForBackup, writer.EventPrepareForSnapshot); err != nil {
			return err
		}
		freezing, cancel := context.WithCancel(ctx)
		defer cancel()
		frozen := make(chan error, 1)
		go func() { frozen <- ses.send(freezing, writer.EventFreeze) }()
		if err := pause(ctx, watchTime/3); err != nil {
			return err
		}
		cancel()
		limited, stop := context.WithTimeout(ctx, 3*returnTime)
		defer stop()
		if err := ses.send(limited, writer.EventAbort); err != nil {
			return err
		}
		select {
		case err := <-frozen:
			if err == nil {
				return errors.New("Freeze succeeded while it was blocked")
			}
		case <-limited.Done():
			return errors.New("Freeze did not return after Abort")
		}
		release()
		if err := s.works(ctx, l, s.resume()); err != nil {
			return err
		}
		return worksOnce(ctx, s)
	})
}

func freezeLimit(ctx context.Context, s *Subject) error {
	const limit = 500 * time.Millisecond
	return underLoad(ctx, s, func(ses *session, l Load) error {
		release, err := s.Block()
		if err != nil {
			return err
		}
		defer release()
		ses.event.Limit = limit
		if err := ses.sendAll(ctx, writer.EventPrepareForBackup, writer.EventPrepareForSnapshot); err != nil {
			return err
		}
		begun := time.Now()
		err = ses.send(ctx, writer.EventFreeze)
		took := time.Since(begun)
		if err == nil {
			return errors.New("Freeze succeeded while it was blocked")
		}
		if took > limit+2*returnTime {
			return fmt.Errorf("Freeze returned %v after it began, with a limit of %v", took, limit)
		}
		if code := vss.CodeOf(err); !writerCode(code) {
			return fmt.Errorf("Freeze ended with %v, which is no code of a writer: %w", code, err)
		}
		release()
		// Nothing is held before Abort comes, either.
		if err := s.works(ctx, l, s.resume()); err != nil {
			return err
		}
		if err := ses.sendAll(ctx, writer.EventAbort, writer.EventBackupShutdown); err != nil {
			return err
		}
		return worksOnce(ctx, s)
	})
}

func writerCode(code vss.Code) bool {
	for _, c := range vss.WriterFailureCodes() {
		if c == code {
			return true
		}
	}
	return false
}

func freezeLate(ctx context.Context, s *Subject) error {
	return underLoad(ctx, s, func(ses *session, l Load) error {
		if err := ses.sendAll(ctx, writer.EventPrepareForBackup, writer.EventPrepareForSnapshot); err != nil {
			return err
		}
		late, cancel := context.WithCancel(ctx)
		cancel()
		if err := ses.send(late, writer.EventFreeze); err == nil {
			return errors.Join(errors.New("Freeze succeeded though its time was up before it began"), ses.send(ctx, writer.EventAbort))
		}
		if err := ses.send(ctx, writer.EventAbort); err != nil {
			return err
		}
		return s.works(ctx, l, s.resume())
	})
}

// killed kills the writer's process after each event up to PostSnapshot, and
// starts it again.
func killed(ctx context.Context, s *Subject) error {
	events := append(append([]writer.EventKind(nil), untilFrozen...), writer.EventThaw, writer.EventPostSnapshot)
	return underLoad(ctx, s, func(_ *session, l Load) error {
		for n := range events {
			ses, err := open(ctx, s.Writer)
			if err != nil {
				return err
			}
			if err := ses.sendAll(ctx, events[:n+1]...); err != nil {
				return err
			}
			if err := s.replace(ctx); err != nil {
				return err
			}
			if err := s.works(ctx, l, s.resume()); err != nil {
				return fmt.Errorf("the writer was killed after %v: %w", events[n], err)
			}
		}
		return worksOnce(ctx, s)
	})
}

// replace kills the writer's process and starts another. As the service does,
// it sends Abort to one that must undo what the dead one did.
func (s *Subject) replace(ctx context.Context) error {
	if err := s.Kill(); err != nil {
		return err
	}
	w, kill, err := s.Again()
	if err != nil {
		return err
	}
	s.Writer, s.Kill = w, kill
	if !w.Describe().OutlivesProcess {
		return nil
	}
	ses, err := open(ctx, w)
	if err != nil {
		return err
	}
	return ses.send(ctx, writer.EventAbort)
}

// outcomes sends BackupComplete with success, failure, and no word about a
// component.
func outcomes(ctx context.Context, s *Subject) error {
	for _, outcome := range []func(*session) error{
		func(ses *session) error { return ses.succeeded(true) },
		func(ses *session) error { return ses.succeeded(false) },
		func(*session) error { return nil },
	} {
		if err := complete(ctx, s, vss.BackupTypeCopy, outcome); err != nil {
			return err
		}
	}
	return nil
}

// complete plays a backup of one type, which is the same in all its events.
func complete(ctx context.Context, s *Subject, t vss.BackupType, outcome func(*session) error) error {
	ses, err := open(ctx, s.Writer)
	if err != nil {
		return err
	}
	ses.event.State.Type = t
	if err := ses.sendAll(ctx, append(append([]writer.EventKind(nil), untilFrozen...), writer.EventThaw, writer.EventPostSnapshot)...); err != nil {
		return errors.Join(err, ses.send(ctx, writer.EventAbort))
	}
	if err := outcome(ses); err != nil {
		return err
	}
	return ses.sendAll(ctx, writer.EventBackupComplete, writer.EventBackupShutdown)
}

func truncation(ctx context.Context, s *Subject) error {
	for _, saved := range []bool{false, true} {
		if _, err := s.Truncated(); err != nil {
			return err
		}
		err := complete(ctx, s, vss.BackupTypeFull, func(ses *session) error { return ses.succeeded(saved) })
		if err != nil {
			return err
		}
		truncated, err := s.Truncated()
		if err != nil {
			return err
		}
		if truncated != saved {
			return fmt.Errorf("with GetBackupSucceeded %v, logs truncated: %v", saved, truncated)
		}
	}
	return nil
}

func shutdown(ctx context.Context, s *Subject) error {
	return underLoad(ctx, s, func(ses *session, l Load) error {
		if err := ses.send(ctx, writer.EventBackupShutdown); err != nil {
			return err
		}
		if err := s.works(ctx, l, s.resume()); err != nil {
			return err
		}
		return worksOnce(ctx, s)
	})
}

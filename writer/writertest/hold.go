package writertest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sombra-backup/sombra/writer"
)

const (
	// settleTime is how long no transaction must be acknowledged for those
	// that were under way at Freeze to count as done.
	settleTime = 100 * time.Millisecond
	// watchTime is how long a frozen application is watched.
	watchTime = 300 * time.Millisecond
	// answerTime is how long a read may take while frozen.
	answerTime = 5 * time.Second
)

func inOrder(ctx context.Context, s *Subject) error {
	for range 3 {
		ses, err := open(ctx, s.Writer)
		if err != nil {
			return err
		}
		if err := ses.backup(ctx, func() error { return nil }); err != nil {
			return err
		}
	}
	return nil
}

func worksOn(ctx context.Context, s *Subject) error {
	return underLoad(ctx, s, func(ses *session, l Load) error {
		for range 5 {
			if err := ses.backup(ctx, func() error { return nil }); err != nil {
				return err
			}
			if err := s.works(ctx, l, s.resume()); err != nil {
				return err
			}
		}
		return nil
	})
}

// settle waits until transactions that were done before Freeze returned are
// seen to be acknowledged too, and gives their number.
func settle(ctx context.Context, l Load) (uint64, error) {
	begun := time.Now()
	n, since := l.Acknowledged(), time.Now()
	for time.Since(since) < settleTime {
		if time.Since(begun) > 20*settleTime {
			return 0, fmt.Errorf("transactions are acknowledged %v after Freeze", time.Since(begun))
		}
		if err := pause(ctx, time.Millisecond); err != nil {
			return 0, err
		}
		if now := l.Acknowledged(); now != n {
			n, since = now, time.Now()
		}
	}
	return n, nil
}

func commitsHeld(ctx context.Context, s *Subject) error {
	return underLoad(ctx, s, func(ses *session, l Load) error {
		backup := ses.backup
		if s.Writer.Describe().Stillness == writer.NothingHeld {
			backup = ses.backupStill
		}
		return backup(ctx, func() error {
			n, err := settle(ctx, l)
			if err != nil {
				return err
			}
			if err := pause(ctx, watchTime); err != nil {
				return err
			}
			if now := l.Acknowledged(); now != n {
				return fmt.Errorf("%d transactions were acknowledged while frozen", now-n)
			}
			return nil
		})
	})
}

func filesStill(ctx context.Context, s *Subject) error {
	return underLoad(ctx, s, func(ses *session, l Load) error {
		for range 10 {
			err := ses.backupStill(ctx, func() error {
				before, err := hashAll(ses.doc)
				if err != nil {
					return err
				}
				if err := pause(ctx, watchTime/3); err != nil {
					return err
				}
				after, err := hashAll(ses.doc)
				if err != nil {
					return err
				}
				return differences(before, after)
			})
			if err != nil {
				return err
			}
			if err := s.works(ctx, l, s.resume()); err != nil {
				return err
			}
		}
		return nil
	})
}

func readsAnswered(ctx context.Context, s *Subject) error {
	if s.Writer.Describe().ReadsPaused {
		return nil
	}
	return underLoad(ctx, s, func(ses *session, l Load) error {
		if l.Reads() == 0 {
			if err := pause(ctx, watchTime); err != nil {
				return err
			}
			if l.Reads() == 0 {
				return errors.New("no client reads, so it cannot be seen that reads are answered; add readers, or declare ReadsPaused")
			}
		}
		return ses.backup(ctx, func() error {
			const enough = 10
			begun, from := time.Now(), l.Reads()
			for l.Reads() < from+enough {
				if time.Since(begun) > answerTime {
					return fmt.Errorf("%d reads were answered within %v while frozen", l.Reads()-from, answerTime)
				}
				if err := pause(ctx, time.Millisecond); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

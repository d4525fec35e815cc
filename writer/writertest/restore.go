package writertest

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// maxClients is how many clients a [Load] has at most.
const maxClients = 64

// roundTrip copies the files while frozen, lets the application go on, and puts
// the copy back over what the application made of its data since.
func roundTrip(ctx context.Context, s *Subject) error {
	dir, err := os.MkdirTemp("", "writertest-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var copies saved
	var acknowledged uint64
	err = underLoad(ctx, s, func(ses *session, l Load) error {
		return ses.backupStill(ctx, func() error {
			if copies, err = save(ses.doc, dir); err != nil {
				return err
			}
			if acknowledged, err = settle(ctx, l); err != nil {
				return err
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	later, err := s.Check()
	if err != nil {
		return fmt.Errorf("after the backup the data itself is not whole: %w", err)
	}
	if later <= acknowledged {
		return fmt.Errorf("the application holds %d transactions after %d; it did not go on, so a restore proves nothing", later, acknowledged)
	}
	err = restored(ctx, s.Writer, vss.FileRestoreStatusAll, copies.restore)
	if err != nil {
		return err
	}
	n, err := s.Check()
	if err != nil {
		return fmt.Errorf("the restored data is not whole: %w", err)
	}
	// What was under way when its processes were stopped may be there: at most one
	// of each client.
	most := acknowledged
	if s.Writer.Describe().Stillness == writer.NothingHeld {
		most += maxClients
	}
	if n < acknowledged || n > most {
		return fmt.Errorf("the restored data holds %d transactions; %d were acknowledged when it was frozen", n, acknowledged)
	}
	return nil
}

// restored plays a restore, with the given outcome for all components.
func restored(ctx context.Context, w writer.Writer, outcome vss.FileRestoreStatus, put func() error) error {
	ses, err := open(ctx, w)
	if err != nil {
		return err
	}
	ses.event = writer.Event{SessionID: ses.event.SessionID, RestoreType: vss.RestoreTypeByCopy}
	err = ses.components(func(c *metadata.Component) error { return c.SetSelectedForRestore(true, vss.GUID{}) })
	if err != nil {
		return err
	}
	if err := ses.send(ctx, writer.EventPreRestore); err != nil {
		return err
	}
	if err := put(); err != nil {
		return err
	}
	err = ses.components(func(c *metadata.Component) error { return c.SetFileRestoreStatus(outcome) })
	if err != nil {
		return err
	}
	return ses.send(ctx, writer.EventPostRestore)
}

func (s *session) components(f func(*metadata.Component) error) error {
	if s.parts == nil {
		return nil
	}
	for _, c := range s.parts.Components() {
		if err := f(c); err != nil {
			return err
		}
	}
	return nil
}

// restoreNone plays a restore in which no file could be restored.
func restoreNone(ctx context.Context, s *Subject) error {
	if s.Load != nil {
		l, err := s.startLoad(ctx)
		if err != nil {
			return err
		}
		if err := l.Stop(); err != nil {
			return err
		}
	}
	before, err := s.Check()
	if err != nil {
		return err
	}
	// The writer may report that nothing was restored, or take note of it.
	failed := restored(ctx, s.Writer, vss.FileRestoreStatusNone, func() error { return nil })
	after, err := s.Check()
	if err != nil {
		return errors.Join(err, failed)
	}
	if after != before {
		return errors.Join(fmt.Errorf("the data holds %d transactions after a restore that restored nothing, and held %d before", after, before), failed)
	}
	return nil
}

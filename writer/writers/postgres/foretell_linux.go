package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// foretellLimit is how long the server may take to say what a backup will find.
const foretellLimit = 5 * time.Second

// foretell asks the server what a backup will need of it, and gives in a line what
// will be missing: the plan is to say it, and not the backup that is made at night.
// Empty means nothing. Whatever it finds, the backup looks for itself.
func (w *pgWriter) foretell(ctx context.Context) string {
	if w.begun == nil {
		return ""
	}
	ctx, cancel := context.WithTimeoutCause(ctx, foretellLimit, fmt.Errorf("no answer within %v", foretellLimit))
	defer cancel()
	s, err := w.connect(ctx, w.begun)
	if err != nil {
		return w.unconnected(err)
	}
	defer s.close(ctx)
	if err := s.suits(); err != nil {
		return "no backup can be made of it while it runs: " + err.Error()
	}
	n, err := s.needs(ctx)
	if err == nil {
		err = w.lacks(s, n)
	}
	if err != nil {
		return message(err)
	}
	return ""
}

// withoutConnection is what the backup of a server is worth that lets nobody in: the
// files of one instant come up as after a loss of power, which only the settings say
// that it survives.
const withoutConnection = "it is backed up without a connection, by what its crash recovery makes of the files; " +
	"that is sound only if fsync and full_page_writes are on, which it could not be asked"

// unconnected says what becomes of the backup of a server that does not let the
// writer in.
func (w *pgWriter) unconnected(err error) string {
	if now, cerr := readControl(w.conf.Data); cerr == nil && now.State != inProduction {
		return message(fmt.Errorf("no backup can be made of it while it runs: it is a standby or recovers, and lets nobody in: %w", err))
	}
	text := withoutConnection
	if w.conf.Logs {
		text += ", and log backups fail"
	}
	return message(fmt.Errorf("%s: %w", text, err))
}

// needs is what the server has of what backups need.
type needs struct {
	level              string // wal_level
	slots, taken       int
	replication        bool // the role has the attribute
	checkpoint, change bool // it may execute pg_backup_start and _stop, and pg_switch_wal
	pages              bool // full_page_writes
}

func (s *session) needs(ctx context.Context) (n needs, err error) {
	const ask = `SELECT current_setting('wal_level'), current_setting('max_replication_slots')::int, (SELECT count(*) FROM pg_replication_slots)::int,
		(SELECT rolsuper OR rolreplication FROM pg_roles WHERE rolname = current_user),
		has_function_privilege('pg_backup_start(text, boolean)', 'EXECUTE') AND has_function_privilege('pg_backup_stop(boolean)', 'EXECUTE'),
		has_function_privilege('pg_switch_wal()', 'EXECUTE'), current_setting('full_page_writes')::bool`
	err = s.conn.QueryRow(ctx, ask).Scan(&n.level, &n.slots, &n.taken, &n.replication, &n.checkpoint, &n.change, &n.pages)
	return n, s.explain(err)
}

// newSlots is how many slots a backup that begins a chain has at one time beside those
// that are there: the one for as long as it is not known to have succeeded, and the
// chain's. It is not known here of what type the backup will be.
const newSlots = 2

// lacks names what the configured backups will miss.
func (w *pgWriter) lacks(s *session, n needs) error {
	var errs []error
	if w.conf.Logs {
		const fails = `backups that keep the log ("logs" is configured) fail: `
		switch {
		case n.level == "minimal":
			errs = append(errs, errors.New(fails+"wal_level is minimal; set it to replica and start the server anew"))
		case n.slots-n.taken < newSlots:
			errs = append(errs, fmt.Errorf(`a backup that begins a new chain of logs ("logs" is configured), as each full one does, fails: it needs %d free replication slots, and %d of %d are taken, while log and incremental backups go on in the chain that there is with its slot; raise max_replication_slots and start the server anew, or drop those that nobody uses`,
				newSlots, n.taken, n.slots))
		}
		if !n.replication || !n.change {
			errs = append(errs, fmt.Errorf(fails+"the role lacks REPLICATION, or EXECUTE on pg_switch_wal; %s", s.advice()))
		}
	}
	if !n.checkpoint && !w.conf.NoCheckpoint {
		errs = append(errs, fmt.Errorf("there is no checkpoint before the backup, so that recovery takes longer: the role lacks EXECUTE on pg_backup_start and pg_backup_stop; %s", s.advice()))
	}
	// From pg_backup_start on the server writes whole pages to its log in any case.
	if !n.pages && (!n.checkpoint || w.conf.NoCheckpoint) {
		errs = append(errs, errors.New("full_page_writes is off, and without a checkpoint before the copy nothing mends pages that are half written: "+
			"as after a loss of power it rests on a file system that tears none"))
	}
	return errors.Join(errs...)
}

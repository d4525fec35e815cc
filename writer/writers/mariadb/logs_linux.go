package mariadb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// errNoLogs is why a server has no log backups.
var errNoLogs = errors.New("the server writes no binary log, so there is nothing a log backup could save; set log_bin in its configuration and make a full backup, or use another type")

// canLog says why a server can have no log backups.
func (f *facts) canLog() error {
	switch {
	case !f.LogBin:
		return errNoLogs
	case f.encrypted:
		return errEncrypted
	}
	return nil
}

// errEncrypted is of logs that could be saved and never replayed.
var errEncrypted = errors.New("the server encrypts its binary logs (encrypt_binlog), and MariaDB's own program for replaying them cannot read such files; turn that off and make a full backup, or use another type")

// rotate begins a new binary log and links those before it, from the one that the
// stamp names on, to where they are saved from. The result is where the next log
// backup goes on.
func (w *dbWriter) rotate(ctx context.Context, from stamp) (*stamp, error) {
	s, err := connect(&w.set)
	if err != nil {
		return nil, err
	}
	defer s.close()
	f, err := s.ask(ctx)
	if err != nil {
		return nil, err
	}
	if err := f.canLog(); err != nil {
		return nil, err
	}
	dir := filepath.Dir(f.LogBase)
	if err := follows(ctx, s, dir, from); err != nil {
		return nil, err
	}
	f.LogsUntil = time.Now().UTC()
	if _, err := s.db.ExecContext(ctx, "FLUSH BINARY LOGS"); err != nil {
		return nil, fmt.Errorf("begin a new binary log: %w", err)
	}
	names, err := logNames(ctx, s.db)
	if err != nil {
		return nil, err
	}
	first := slices.Index(names, from.file)
	if first < 0 || first >= len(names)-1 {
		return nil, gone(from)
	}
	last := names[len(names)-1]
	w.facts = f
	if err := w.link(dir, names[first:len(names)-1]); err != nil {
		return nil, err
	}
	// RESET MASTER may have come in between; what is linked stays what it is.
	if err := sameLog(filepath.Join(w.spool, from.file), from); err != nil {
		return nil, err
	}
	to := &stamp{logs: true, status: status{file: last, pos: logStart}}
	if to.id, err = readLogID(filepath.Join(dir, last)); err != nil {
		return nil, err
	}
	to.gtid, err = gtidAt(ctx, s.db, to.status)
	return to, err
}

// logStart is where the first event of each binary log is.
const logStart = 4

// follows makes sure that the server's logs go on from a stamp: that the log is
// there, is the same file, and had the same transactions before the same position.
// After RESET MASTER names and positions begin anew, and GTIDs may, and say nothing.
func follows(ctx context.Context, s *server, dir string, from stamp) error {
	if from.file == "" {
		return errors.New("the backup that this one would build upon was made of a server that wrote no binary log or did not run; make a full backup")
	}
	names, err := logNames(ctx, s.db)
	if err != nil {
		return err
	}
	if !slices.Contains(names, from.file) {
		return gone(from)
	}
	if err := sameLog(filepath.Join(dir, from.file), from); err != nil {
		return err
	}
	gtid, err := gtidAt(ctx, s.db, from.status)
	if err != nil {
		return err
	}
	if gtid != from.gtid {
		return fmt.Errorf("binary log %s is another one than the last backup knew: before position %d it had transactions up to %q, and now it has %q; make a full backup", from.file, from.pos, from.gtid, gtid)
	}
	return nil
}

// sameLog makes sure that a log is the one in which the stamp's backup left off.
func sameLog(path string, from stamp) error {
	id, err := readLogID(path)
	if err == nil && !id.same(from.id) {
		err = fmt.Errorf("binary log %s is another one than the last backup knew: it was %s, and that one %s, so there has been RESET MASTER or a restore in between; make a full backup", from.file, id.words(), from.id.words())
	}
	return err
}

func gone(from stamp) error {
	return fmt.Errorf("binary log %s, at which the last backup left off, has been purged; make a full backup", from.file)
}

// gtidAt asks which transactions are before a position.
func gtidAt(ctx context.Context, q row, at status) (string, error) {
	var gtid *string
	if err := q.QueryRowContext(ctx, "SELECT BINLOG_GTID_POS(?, ?)", at.file, at.pos).Scan(&gtid); err != nil {
		return "", fmt.Errorf("ask for the transactions before position %d of binary log %s: %w", at.pos, at.file, err)
	}
	if gtid == nil {
		return "", fmt.Errorf("position %d of binary log %s is none at which an event begins; make a full backup", at.pos, at.file)
	}
	return *gtid, nil
}

// link links logs to the spool directory. A link keeps a log's content even if the
// server purges it meanwhile.
func (w *dbWriter) link(dir string, names []string) error {
	if err := os.Mkdir(w.spool, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	w.spooled = true
	for _, name := range names {
		if !isLogName(name) {
			return fmt.Errorf("the server calls a binary log %.200q, which is no name of one", name)
		}
		if err := os.Link(filepath.Join(dir, name), filepath.Join(w.spool, name)); err != nil {
			return err
		}
	}
	return nil
}

// truncate has the server purge the logs that the record of this backup has, where
// the configuration says that this is for us to do.
//
// A copy and a differential backup let go of nothing.
func (w *dbWriter) truncate(ctx context.Context, e *writer.Event) error {
	keep, purge, err := w.set.keep()
	switch e.State.Type {
	case vss.BackupTypeFull, vss.BackupTypeIncremental, vss.BackupTypeLog:
	default:
		return nil
	}
	if err != nil || !purge || w.pid == 0 || w.stamp == nil || w.stamp.file == "" {
		return err
	}
	s, err := connect(&w.set)
	if err != nil {
		return err
	}
	defer s.close()
	to, err := w.purgeTo(ctx, s, keep)
	if err != nil || to == "" {
		return err
	}
	connected, behind, err := awaitReplicas(ctx, s.db, replicaLimit)
	if err != nil {
		return err
	}
	if behind > 0 {
		e.SetWriterFailure(vss.OK, 0, fmt.Sprintf("no binary log was purged, since %d of %d connected replicas have not got all of them; the next backup will", behind, connected))
		return nil
	}
	if _, err := s.db.ExecContext(ctx, "PURGE BINARY LOGS TO ?", to); err != nil {
		return fmt.Errorf("purge the binary logs before %s, which the backup has: %w", to, err)
	}
	return nil
}

// replicaLimit is how long replicas may take to be seen at the end of the logs.
const replicaLimit = 2 * time.Second

// awaitReplicas counts the replicas that are connected, and those of them that have
// not been sent everything. One that has is in the middle of the next event a moment
// later, where others commit: it is enough that each is seen at the end once, since
// all that may be purged was written before.
func awaitReplicas(ctx context.Context, q row, limit time.Duration) (connected, behind int, err error) {
	done := make(map[int64]bool)
	for begun := time.Now(); ; {
		behind = 0
		now, err := replicas(ctx, q)
		if err != nil {
			return 0, 0, err
		}
		for id, all := range now {
			done[id] = done[id] || all
		}
		for _, all := range done { // one that has gone meanwhile comes back, and asks for the rest
			if !all {
				behind++
			}
		}
		if behind == 0 || time.Since(begun) > limit {
			return len(done), behind, nil
		}
		select {
		case <-ctx.Done():
			return 0, 0, context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// replicas lists the replicas that are connected, and whether they have been sent
// everything at this moment. The account must be allowed to see them, by PROCESS;
// without that the server's own word stands, which purges no log that one reads.
func replicas(ctx context.Context, q row) (map[int64]bool, error) {
	r, err := q.QueryContext(ctx, `SELECT id, COALESCE(state, '') LIKE '%has sent all binlog to%'
		FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%'`)
	if err != nil {
		return nil, fmt.Errorf("ask for connected replicas: %w", err)
	}
	defer r.Close()
	list := make(map[int64]bool)
	for r.Next() {
		var id int64
		var all bool
		if err := r.Scan(&id, &all); err != nil {
			return nil, fmt.Errorf("ask for connected replicas: %w", err)
		}
		list[id] = all
	}
	if err := r.Err(); err != nil {
		return nil, fmt.Errorf("ask for connected replicas: %w", err)
	}
	return list, nil
}

// purgeTo finds the first log that stays: the one at which the next log backup
// begins, or an earlier one that is not old enough.
func (w *dbWriter) purgeTo(ctx context.Context, s *server, keep time.Duration) (string, error) {
	names, err := logNames(ctx, s.db)
	if err != nil {
		return "", err
	}
	last := slices.Index(names, w.stamp.file)
	if last <= 0 || keep == 0 {
		return strings.Join(names[max(last, 0):max(last+1, 0)], ""), nil
	}
	f, err := s.ask(ctx)
	if err != nil {
		return "", err
	}
	for _, name := range names[:last] {
		info, err := os.Stat(filepath.Join(filepath.Dir(f.LogBase), name))
		if err != nil || time.Since(info.ModTime()) < keep {
			return name, err
		}
	}
	return names[last], nil
}

// message is an error on one line, for the document.
func message(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

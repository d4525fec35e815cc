package mariadb

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"
)

// known is what of a server is told in plan and record.
type known struct {
	// longest is how long clients can be held without an error, as far as the
	// server's own settings tell; zero: not known.
	longest time.Duration
	weak    []string
}

const (
	// lookLimit is the longest look at a server before its first event. What is
	// wrong with one that does not answer Identify says.
	lookLimit = 2 * time.Second
	// usualHold is the service's own limit for a hold.
	usualHold = 10 * time.Second
)

// look finds out what is worth knowing before a backup.
func (w *dbWriter) look(ctx context.Context) {
	if a, found, err := openAside(w.dir); err == nil && found && a.state.Replaying {
		kept := strings.Join(append([]string{a.path()}, a.far()...), ", ")
		w.known.weak = append(w.known.weak, fmt.Sprintf("a restore was broken off while it replayed logs: restore again, with the server stopped, or, to use the server as it is, say DROP USER IF EXISTS %s@localhost and move %s to where it is safe; what was there before the restore is in it, perhaps the only copy", adminUser, kept))
	}
	if w.pid == 0 {
		w.known.weak = append(w.known.weak, "the server does not run, so that a log backup that builds upon another is refused")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	s, err := connect(&w.set)
	if err != nil {
		return
	}
	defer s.close()
	var commit, row int64
	if err := s.db.QueryRowContext(ctx, "SELECT @@global.lock_wait_timeout, @@global.innodb_lock_wait_timeout").Scan(&commit, &row); err != nil {
		return
	}
	w.known.patience(commit, row)
	var file, pos string
	var do, ignore sql.NullString
	if err := s.db.QueryRowContext(ctx, "SHOW MASTER STATUS").Scan(&file, &pos, &do, &ignore); err == nil { // no row without log_bin
		w.known.filters(do.String, ignore.String)
	}
}

// patience bounds the hold by what clients wait for at most, in seconds: a commit for
// the backup lock, and a statement for a row of a transaction whose commit waits. A
// quarter of it is left for those that began to wait before.
func (k *known) patience(commit, row int64) {
	name, seconds := "lock_wait_timeout", commit
	if row < commit {
		name, seconds = "innodb_lock_wait_timeout", row
	}
	longest := time.Duration(min(seconds, 3600)) * time.Second
	k.longest = max(longest*3/4, 500*time.Millisecond)
	if longest < usualHold {
		k.weak = append(k.weak, fmt.Sprintf("clients give up waiting after %v (%s), so that it is held no longer than %v", longest, name, k.longest))
	}
}

// filters tells of databases that binary logs do not have.
func (k *known) filters(do, ignore string) {
	var set []string
	if do != "" {
		set = append(set, "binlog_do_db="+do)
	}
	if ignore != "" {
		set = append(set, "binlog_ignore_db="+ignore)
	}
	if len(set) > 0 {
		k.weak = append(k.weak, fmt.Sprintf("its binary logs do not have all databases (%s), and log backups and roll-forward lack the changes of the others", strings.Join(set, ", ")))
	}
}

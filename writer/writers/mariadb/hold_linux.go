package mariadb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/go-sql-driver/mysql"
)

// hold is the backup lock: a connection that has it, and another from which that
// one can be ended while it waits.
type hold struct {
	server *server
	conn   *sql.Conn // has the lock
	second *sql.Conn
	id     int64 // of conn, for the server
	pid    int   // of the server
	frozen bool
	facts  *facts
	at     status // when it was frozen
	log    logID  // of the log at that position
}

// prepareWait is the longest wait for another backup's lock, or for LOCK TABLES, to
// end. Nobody is held by then, but statements such as CREATE TABLE wait behind.
const prepareWait = 10 * time.Second

// newHold opens the connections and takes the backup lock as far as FLUSH.
func newHold(ctx context.Context, set *settings) (_ *hold, err error) {
	h := &hold{}
	if h.server, err = connect(set); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			h.release()
		}
	}()
	if h.facts, err = h.server.ask(ctx); err != nil {
		return nil, err
	}
	if h.pid, err = lockedBy(set.Datadir); err != nil {
		return nil, err
	}
	if h.pid == 0 {
		return nil, errors.New("the server has no lock on its files; it was started with skip-external-locking off or its files are on a file system without locks")
	}
	if h.conn, err = h.server.db.Conn(ctx); err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	if h.second, err = h.server.db.Conn(ctx); err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	if err := h.conn.QueryRowContext(ctx, "SELECT CONNECTION_ID()").Scan(&h.id); err != nil {
		return nil, fmt.Errorf("ask for the connection's number: %w", err)
	}
	if err := h.patience(ctx, prepareWait); err != nil {
		return nil, err
	}
	for _, stage := range []string{"START", "FLUSH"} {
		if err := h.stage(ctx, stage); err != nil {
			return nil, err
		}
	}
	return h, nil
}

// patience sets how long the server lets this connection wait for a lock. It
// counts in whole seconds; the context ends a wait before that.
func (h *hold) patience(ctx context.Context, longest time.Duration) error {
	if deadline, ok := ctx.Deadline(); ok {
		longest = min(longest, time.Until(deadline))
	}
	seconds := max(1, int(longest/time.Second))
	if _, err := h.conn.ExecContext(ctx, "SET SESSION lock_wait_timeout = ?", seconds); err != nil {
		return fmt.Errorf("limit the wait for locks: %w", err)
	}
	return nil
}

// stage takes one stage of the backup lock. If the context ends first the whole
// lock is given up: the server is told to end the connection, which would else
// wait on, and others behind it.
func (h *hold) stage(ctx context.Context, name string) error {
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		h.kill()
	})
	_, err := h.conn.ExecContext(ctx, "BACKUP STAGE "+name)
	if !stop() {
		<-done
		err = errors.Join(context.Cause(ctx), err)
	}
	if err != nil {
		return fmt.Errorf("take the backup lock's stage %s: %w%s", name, err, hint(err))
	}
	return nil
}

// hint says what may stand against a lock.
func hint(err error) string {
	if isLockTimeout(err) || errors.Is(err, context.DeadlineExceeded) {
		return " (a long ALTER TABLE, LOCK TABLES, FLUSH TABLES WITH READ LOCK or another backup may hold it: see SHOW PROCESSLIST)"
	}
	return ""
}

// isLockTimeout reports whether the server gave up waiting for a lock.
func isLockTimeout(err error) bool {
	var e *mysql.MySQLError
	const lockWaitTimeout = 1205
	return errors.As(err, &e) && e.Number == lockWaitTimeout
}

// kill ends the connection that has the lock, from the other one.
func (h *hold) kill() {
	if h.second == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), connectTimeout)
	defer cancel()
	h.second.ExecContext(ctx, "KILL CONNECTION ?", h.id) // if it is gone, all is well
}

// freeze takes the stages that hold commits, and notes where the binary log is.
func (h *hold) freeze(ctx context.Context) error {
	if h.frozen {
		return nil
	}
	if err := h.patience(ctx, freezeLimit); err != nil {
		return err
	}
	for _, stage := range []string{"BLOCK_DDL", "BLOCK_COMMIT"} {
		if err := h.stage(ctx, stage); err != nil {
			return err
		}
	}
	// What was acknowledged may be in the server's memory alone if it is told
	// not to write its log at each commit.
	if _, err := h.conn.ExecContext(ctx, "FLUSH NO_WRITE_TO_BINLOG ENGINE LOGS"); err != nil {
		return fmt.Errorf("write the engines' logs: %w", err)
	}
	if h.facts.LogBin {
		var err error
		if h.at, err = logStatus(ctx, h.conn); err != nil {
			return err
		}
		if h.log, err = readLogID(filepath.Join(filepath.Dir(h.facts.LogBase), h.at.file)); err != nil {
			return err
		}
	}
	h.frozen = true
	return nil
}

// end gives the lock back. That it succeeds in the connection that took it shows
// that it was held all the time.
func (h *hold) end(ctx context.Context) error {
	h.frozen = false
	_, err := h.conn.ExecContext(ctx, "BACKUP STAGE END")
	return err
}

// releaseLimit is the longest that giving back a lock may take before the
// connection is cut.
const releaseLimit = 5 * time.Second

// release gives back whatever is held and closes the connections. The server gives
// back the lock of a connection that ends.
func (h *hold) release() {
	ctx, cancel := context.WithTimeout(context.Background(), releaseLimit)
	defer cancel()
	if h.conn != nil {
		if _, err := h.conn.ExecContext(ctx, "BACKUP STAGE END"); err != nil {
			h.kill()
		}
		h.conn.Close()
	}
	if h.second != nil {
		h.second.Close()
	}
	if h.server != nil {
		h.server.close()
	}
	h.conn, h.second, h.server, h.frozen = nil, nil, nil, false
}

package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"

	"golang.org/x/sys/unix"
	sqlitedriver "modernc.org/sqlite"
	sqlitelib "modernc.org/sqlite/lib"
)

// journalMode is how a database keeps its transactions whole, as far as it
// matters for locks.
type journalMode int

const (
	modeRollback journalMode = iota // DELETE, TRUNCATE, PERSIST, MEMORY, OFF
	modeWAL
)

func (m journalMode) String() string {
	if m == modeWAL {
		return "write-ahead log"
	}
	return "rollback journal"
}

// database is one open connection to a database, and the descriptors through
// which its locks are watched. It is used by one goroutine at a time.
//
// Order of opening and closing matters, since closing any descriptor of a file
// drops the process's locks on it: guard, connection, index; then connection,
// index, guard.
type database struct {
	path  string
	id    inode
	guard *os.File    // the database file; its offset is never used
	conn  driver.Conn // nothing else in this process has the database open
	index *os.File    // -shm, in write-ahead log mode
	// keepLog: there was a -wal before the connection, so closing it must
	// leave the -wal as it is. If there was none, whoever leaves last tidies
	// up, as with any two clients.
	keepLog bool
	inTxn   bool
}

// openDatabase opens an existing database for writing, as its other clients
// do. It waits for no lock. It changes nothing, except that SQLite makes an
// empty -wal and a -shm, or rolls back what a crashed application left, once
// the database is first read.
func openDatabase(path string) (*database, error) {
	guard, id, err := openRegular(path, unix.O_RDWR)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS) {
		return nil, fmt.Errorf("%w; its write lock can be taken only by who may write to it (user id %d)", err, os.Geteuid())
	}
	if err != nil {
		return nil, err
	}
	d := &database{path: path, id: id, guard: guard}
	if err := d.connect(); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

func (d *database) connect() error {
	for _, ending := range endings {
		st, err := statNoLinks(d.path + ending)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return err
		case st.Mode&unix.S_IFMT != unix.S_IFREG:
			// SQLite would wait for ever at a pipe.
			return fmt.Errorf("%s%s: %w; SQLite keeps a file of its own under that name: move it away", d.path, ending, errIrregular)
		case ending == "-wal":
			d.keepLog = true
		}
	}
	// Checkpoints are the application's business, and schemas may hold
	// anything, so nothing in them is trusted.
	u := url.URL{Scheme: "file", Path: d.path}
	u.RawQuery = "mode=rw&_pragma=busy_timeout(0)&_pragma=wal_autocheckpoint(0)&_pragma=trusted_schema(0)"
	connector, err := sqlitedriver.NewConnector(u.String())
	if err != nil {
		return fmt.Errorf("open %s: %w", d.path, err)
	}
	if d.conn, err = connector.Connect(context.Background()); err != nil {
		return fmt.Errorf("open %s: %w", d.path, err)
	}
	return d.checkName()
}

// checkName makes sure that the path still names the file that is open: an
// application may replace a database by renaming.
func (d *database) checkName() error {
	st, err := statNoLinks(d.path)
	if err != nil {
		return err
	}
	if inodeOf(&st) != d.id {
		return fmt.Errorf("%s: %w", d.path, errReplaced)
	}
	return nil
}

var errReplaced = errors.New("the database was replaced by another file meanwhile")

// exec runs one statement. It does not wait for locks and cannot be interrupted.
func (d *database) exec(statement string) error {
	_, err := d.conn.(driver.ExecerContext).ExecContext(context.Background(), statement, nil)
	return err
}

// column gives the first column of a query's rows, at most limit of them.
func (d *database) column(ctx context.Context, query string, limit int) ([]string, error) {
	rows, err := d.conn.(driver.QueryerContext).QueryContext(ctx, query, nil)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	cells := make([]driver.Value, len(rows.Columns()))
	var values []string
	for len(values) < limit && rows.Next(cells) == nil {
		values = append(values, fmt.Sprint(cells[0]))
	}
	return values, ctx.Err()
}

// touch reads the database's first page, which makes SQLite open the write-ahead
// log and recover what a crashed application left. What it needs may be locked;
// see isBusy.
func (d *database) touch() error {
	_, err := d.column(context.Background(), "PRAGMA schema_version", 1)
	if err != nil {
		return err
	}
	return d.watchIndex()
}

// watchIndex opens the index of the write-ahead log, if there is one. While the
// connection has it open no other process removes it.
func (d *database) watchIndex() error {
	if d.index != nil {
		return nil
	}
	mode, err := d.headerMode()
	if err != nil || mode != modeWAL {
		return err
	}
	fd, err := openNoLinks(d.path+"-shm", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOCTTY)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return &fs.PathError{Op: "open", Path: d.path + "-shm", Err: err}
	}
	d.index = os.NewFile(uintptr(fd), d.path+"-shm")
	return nil
}

// headerMode reads the journal mode from the database file's header.
func (d *database) headerMode() (journalMode, error) {
	var version [2]byte // of the file format, for writing and for reading
	if _, err := d.guard.ReadAt(version[:], 18); err != nil {
		return 0, fmt.Errorf("read header of %s: %w", d.path, err)
	}
	if version[0] == 2 && version[1] == 2 {
		return modeWAL, nil
	}
	return modeRollback, nil
}

// rollback ends the transaction that holds the write lock, and gives the
// checkpoint lock back. After an error of SQLite only close frees the locks.
func (d *database) rollback() error {
	var errs []error
	if d.inTxn {
		d.inTxn = false
		if err := d.exec("ROLLBACK"); err != nil {
			errs = append(errs, fmt.Errorf("roll back in %s: %w", d.path, err))
		}
	}
	if d.index != nil {
		errs = append(errs, unlock(int(d.index.Fd()), walWriteByte, 2))
	}
	return errors.Join(errs...)
}

// close ends the connection. It frees every lock, even when it gives an error.
func (d *database) close() error {
	err := d.rollback()
	if d.conn != nil {
		// The last connection to leave checkpoints the write-ahead log and
		// removes it. What belonged to the application must stay as it is, and
		// a lock that makes this connection not the last one sees to that.
		if d.keepLog {
			if _, e := tryOwnLock(int(d.guard.Fd()), unix.F_RDLCK, sharedFirst, sharedSize); e != nil {
				err = errors.Join(err, fmt.Errorf("lock %s: %w", d.path, e))
			}
		}
		if e := d.conn.Close(); e != nil {
			err = errors.Join(err, fmt.Errorf("close %s: %w", d.path, e))
		}
		d.conn = nil
	}
	if d.index != nil {
		d.index.Close()
		d.index = nil
	}
	if d.guard != nil {
		d.guard.Close()
		d.guard = nil
		opened.release(d.id)
	}
	return err
}

// isBusy reports whether an error of SQLite means that another connection has
// the lock just now.
func isBusy(err error) bool {
	var e *sqlitedriver.Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code() & 0xff {
	case sqlitelib.SQLITE_BUSY, sqlitelib.SQLITE_LOCKED, sqlitelib.SQLITE_PROTOCOL:
		return true
	}
	return false
}

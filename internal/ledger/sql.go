package ledger

import (
	"context"
	"database/sql"
	"fmt"

	// The drivers.
	_ "github.com/go-sql-driver/mysql"
	_ "modernc.org/sqlite"
)

// dialect is what differs between databases.
type dialect struct {
	driver string
	// one: all clients share one connection, as SQLite's own way to wait for
	// another's lock starves some of them.
	one bool
}

var (
	sqliteDialect = dialect{driver: "sqlite", one: true}
	mysqlDialect  = dialect{driver: "mysql"}
)

// What every database is told.
const (
	createLedger = "CREATE TABLE IF NOT EXISTS ledger (client BIGINT NOT NULL, n BIGINT NOT NULL, PRIMARY KEY (client, n))"
	readLedger   = "SELECT client, count(*), max(n) FROM ledger GROUP BY client"
	insertLedger = "INSERT INTO ledger VALUES (?, ?)"
)

// rows is what database/sql's and pgx's have in common.
type rows interface {
	Next() bool
	Scan(dest ...any) error
	Err() error
}

// holdings reads the answer to readLedger.
func holdings(r rows, clients int) ([]Holding, error) {
	held := make([]Holding, clients)
	for r.Next() {
		var client int
		var h Holding
		if err := r.Scan(&client, &h.Count, &h.Last); err != nil {
			return nil, err
		}
		if client < 0 || client >= clients {
			return nil, fmt.Errorf("numbers of client %d, and there are %d", client, clients)
		}
		held[client] = h
	}
	return held, r.Err()
}

// sqlStore keeps a row for each number.
type sqlStore struct {
	dialect
	db *sql.DB
}

func openSQL(d dialect, dsn string) (Store, error) {
	db, err := sql.Open(d.driver, dsn)
	if err != nil {
		return nil, err
	}
	if d.one {
		db.SetMaxOpenConns(1)
	}
	return &sqlStore{dialect: d, db: db}, nil
}

func (s *sqlStore) Prepare(ctx context.Context) error {
	_, err := s.db.ExecContext(ctx, createLedger)
	return err
}

func (s *sqlStore) Close() error { return s.db.Close() }

func (s *sqlStore) Connect(ctx context.Context, client int) (Conn, error) {
	if s.one {
		return &sqlShared{s, client}, nil
	}
	c, err := s.db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	return &sqlConn{c, client}, nil
}

func (s *sqlStore) Read(ctx context.Context, clients int) ([]Holding, error) {
	r, err := s.db.QueryContext(ctx, readLedger)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return holdings(r, clients)
}

// sqlConn is a connection of one client's own.
type sqlConn struct {
	*sql.Conn
	client int
}

func (c *sqlConn) Commit(ctx context.Context, n int64) error {
	_, err := c.ExecContext(ctx, insertLedger, c.client, n)
	return err
}

// sqlShared commits over the one connection there is.
type sqlShared struct {
	*sqlStore
	client int
}

func (c *sqlShared) Commit(ctx context.Context, n int64) error {
	_, err := c.db.ExecContext(ctx, insertLedger, c.client, n)
	return err
}

func (c *sqlShared) Close() error { return nil }

package e2e

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/sombra-backup/sombra/internal/dbtest"
	"github.com/sombra-backup/sombra/requester"
)

// mariaNumbers is a client's connection to MariaDB.
type mariaNumbers struct{ db *sql.DB }

func (m mariaNumbers) put(ctx context.Context, n int64) error {
	_, err := m.db.ExecContext(ctx, "INSERT IGNORE INTO shop.ledger VALUES (?)", n)
	return err
}

func (m mariaNumbers) sound(ctx context.Context) (last int64, err error) {
	var count int64
	if err := m.db.QueryRowContext(ctx, "SELECT count(*), coalesce(max(n), 0) FROM shop.ledger").Scan(&count, &last); err != nil {
		return 0, err
	}
	if count != last {
		return 0, fmt.Errorf("%d rows up to %d", count, last)
	}
	return last, nil
}

func (m mariaNumbers) close() { m.db.Close() }

// sessions lists those of writers, which connect as the data's owner.
func (m mariaNumbers) sessions(ctx context.Context) (ids []int64, err error) {
	rows, err := m.db.QueryContext(ctx, "SELECT id FROM information_schema.processlist WHERE user = 'mysql'")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}

func dialMariaDB(server *dbtest.MariaDB) (serverConn, error) {
	db, err := server.DB("")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	return mariaNumbers{db}, nil
}

// newMariaDBApp is a server with one table.
func newMariaDBApp(root string) (*serverApp, error) {
	dir := filepath.Join(root, "mariadb")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	server, err := dbtest.StartMariaDB(ctx, dbtest.MariaDBOptions{Dir: dir})
	if err != nil {
		return nil, err
	}
	c, err := dialMariaDB(server)
	if err != nil {
		return nil, errors.Join(err, server.Close())
	}
	defer c.close()
	for _, s := range []string{"CREATE DATABASE shop", "CREATE TABLE shop.ledger (n BIGINT PRIMARY KEY) ENGINE=InnoDB"} {
		if _, err := c.(mariaNumbers).db.ExecContext(ctx, s); err != nil {
			return nil, errors.Join(err, server.Close())
		}
	}
	running := true
	return &serverApp{title: "mariadb", root: root, dir: dir, needs: "ibdata1", uid: uint32(server.UID),
		run: func(ctx context.Context) error {
			if running {
				return nil
			}
			running = true
			return server.Start(ctx)
		},
		end:  func() error { running = false; return server.Kill() },
		shut: server.Close,
		tree: func() []int {
			if !running {
				return nil
			}
			return []int{server.PID}
		},
		dial: func(context.Context) (serverConn, error) { return dialMariaDB(server) },
		started: func(ctx context.Context, dir string) (serverConn, func() error, error) {
			s, err := dbtest.StartMariaDB(ctx, dbtest.MariaDBOptions{Dir: dir})
			if err != nil {
				return nil, nil, err
			}
			c, err := dialMariaDB(s)
			if err != nil {
				return nil, nil, errors.Join(err, s.Close())
			}
			return c, s.Close, nil
		},
		own: func(c requester.ComponentResult) bool { return c.Writer == "MariaDB" },
		left: func(ctx context.Context, c serverConn) (list []string, err error) {
			ids, err := c.(mariaNumbers).sessions(ctx)
			for _, id := range ids {
				list = append(list, fmt.Sprintf("session %d of MariaDB", id))
			}
			return list, err
		},
		cut: func(ctx context.Context, c serverConn) error {
			ids, err := c.(mariaNumbers).sessions(ctx)
			for _, id := range ids {
				_, kerr := c.(mariaNumbers).db.ExecContext(ctx, fmt.Sprintf("KILL %d", id))
				if gone := (*mysql.MySQLError)(nil); errors.As(kerr, &gone) && gone.Number == 1094 {
					kerr = nil // it has ended by itself
				}
				err = errors.Join(err, kerr)
			}
			return err
		}}, nil
}

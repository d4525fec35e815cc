package ledger

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// postgresStore keeps a row for each number.
type postgresStore struct{ dsn string }

func (s *postgresStore) Close() error { return nil }

func (s *postgresStore) Prepare(ctx context.Context) error {
	c, err := pgx.Connect(ctx, s.dsn)
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	_, err = c.Exec(ctx, createLedger)
	return err
}

func (s *postgresStore) Connect(ctx context.Context, client int) (Conn, error) {
	c, err := pgx.Connect(ctx, s.dsn)
	if err != nil {
		return nil, err
	}
	return &postgresConn{c, client}, nil
}

func (s *postgresStore) Read(ctx context.Context, clients int) ([]Holding, error) {
	c, err := pgx.Connect(ctx, s.dsn)
	if err != nil {
		return nil, err
	}
	defer c.Close(ctx)
	r, err := c.Query(ctx, readLedger)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return holdings(r, clients)
}

// postgresConn is a client's connection.
type postgresConn struct {
	conn   *pgx.Conn
	client int
}

func (c *postgresConn) Commit(ctx context.Context, n int64) error {
	_, err := c.conn.Exec(ctx, "INSERT INTO ledger VALUES ($1, $2)", c.client, n)
	return err
}

func (c *postgresConn) Close() error { return c.conn.Close(context.Background()) }

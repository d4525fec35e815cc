package ledger

import (
	"context"
	"fmt"
	"strings"
)

// Store is a place that numbers are committed to. Its methods may be called by
// several goroutines.
type Store interface {
	// Prepare makes what the numbers are kept in, if it is not there.
	Prepare(ctx context.Context) error
	// Connect opens the connection of a client, counted from 0, which lives as
	// long as the client.
	Connect(ctx context.Context, client int) (Conn, error)
	// Read gives what the store holds of clients 0 to clients-1.
	Read(ctx context.Context, clients int) ([]Holding, error)
	// Close closes what Read and Prepare use.
	Close() error
}

// Conn is a client's connection. Only that client uses it.
type Conn interface {
	// Commit enters the number and returns when it is durable.
	Commit(ctx context.Context, n int64) error
	Close() error
}

// Holding is what a store holds of one client.
type Holding struct {
	// Count is how many numbers there are, and Last the highest: the same
	// where none is missing. Both are 0 where there is none.
	Count, Last int64
}

// Place names a store, as one word of a command line does: "name=kind:where".
type Place struct {
	// Name is what histories and violations call the store.
	Name string
	// Kind is sqlite, redis, file, postgres or mysql.
	Kind string
	// Where is, by kind: the database file; the unix socket; the directory and
	// the lock file, with a comma between; the driver's data source name.
	Where string
}

// ParsePlace reads what String gives.
func ParsePlace(word string) (Place, error) {
	name, rest, named := strings.Cut(word, "=")
	kind, where, ok := strings.Cut(rest, ":")
	if !named || !ok {
		return Place{}, fmt.Errorf("store %q: want name=kind:where", word)
	}
	return Place{Name: name, Kind: kind, Where: where}, nil
}

func (p Place) String() string { return p.Name + "=" + p.Kind + ":" + p.Where }

// Open gives the store at a place. Nothing is connected to yet.
func Open(p Place) (Store, error) {
	switch p.Kind {
	case "sqlite":
		return openSQL(sqliteDialect, "file:"+p.Where+"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=busy_timeout(60000)&_txlock=immediate")
	case "postgres":
		return &postgresStore{dsn: p.Where}, nil
	case "mysql":
		return openSQL(mysqlDialect, p.Where)
	case "redis":
		return &redisStore{socket: p.Where}, nil
	case "file":
		dir, lock, ok := strings.Cut(p.Where, ",")
		if !ok {
			return nil, fmt.Errorf("store %s: want a directory and a lock file, with a comma between", p)
		}
		return &fileStore{dir: dir, lock: lock}, nil
	}
	return nil, fmt.Errorf("store %s: no such kind", p)
}

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sombra-backup/sombra/internal/dbtest"
	"github.com/sombra-backup/sombra/requester"
)

// serverApp is a database server that clients write to over connections.
type serverApp struct {
	title string
	root  string // of its volume
	dir   string // of its data
	needs string // what there is in it that it cannot do without
	uid   uint32
	// run starts it and end kills it.
	run  func(ctx context.Context) error
	end  func() error
	shut func() error // for good
	tree func() []int
	// tidy removes what keeps a server that was killed from starting, if it does
	// not do that itself.
	tidy func()
	// dial makes a client's connection.
	dial func(ctx context.Context) (serverConn, error)
	// byHand does to an extracted copy what the documentation says before it is
	// started; nil: nothing.
	byHand func(dir string) error
	// started starts a server on a copy of the data in a directory.
	started func(ctx context.Context, dir string) (serverConn, func() error, error)
	own     func(requester.ComponentResult) bool
	// left lists, over a connection, what a writer may leave only while a backup
	// goes on; cut ends the sessions of writers.
	left func(ctx context.Context, c serverConn) ([]string, error)
	cut  func(ctx context.Context, c serverConn) error
	// yaml is its entry in the configuration, if it is not only found by itself.
	yaml string
	// chains names what keeps the server's log for log backups, which lasts from a
	// full backup to the next; mayKeep is how many of it there may be.
	chains  func(ctx context.Context, c serverConn) ([]string, error)
	mayKeep int

	mu   sync.Mutex
	conn serverConn // the client's; nil: none
	lent bool
}

// serverConn is a client's connection to a server of numbers.
type serverConn interface {
	// put stores a number, which may be there already.
	put(ctx context.Context, n int64) error
	// sound checks that there is every number up to the last, and gives it.
	sound(ctx context.Context) (last int64, err error)
	close()
}

func (a *serverApp) name() string                            { return a.title }
func (a *serverApp) volume() string                          { return a.root }
func (a *serverApp) owner() uint32                           { return a.uid }
func (a *serverApp) claims(c requester.ComponentResult) bool { return a.own(c) }

func (a *serverApp) pids() []int {
	if a.lent {
		return nil
	}
	return a.tree()
}

func (a *serverApp) start() error {
	if a.lent {
		if err := errors.Join(killAll(a.dir), a.end()); err != nil {
			return err
		}
		a.lent = false
	}
	a.mu.Lock()
	if a.conn != nil { // to a server that is gone
		a.conn.close()
		a.conn = nil
	}
	a.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return a.run(ctx)
}

func (a *serverApp) kill() error { return a.end() }

// Close kills the server and removes what it had beside its data.
func (a *serverApp) Close() error { return a.shut() }

func (a *serverApp) write(ctx context.Context, n int64) error {
	a.mu.Lock()
	c := a.conn
	a.mu.Unlock()
	var err error
	if c == nil {
		if c, err = a.dial(ctx); err != nil {
			return err
		}
	}
	if err = c.put(ctx, n); err != nil {
		c.close()
		c = nil
	}
	a.mu.Lock()
	a.conn = c
	a.mu.Unlock()
	return err
}

// fails: a writer that has lost its session with the server.
func (a *serverApp) fails(string) (func(), string) {
	if a.cut == nil {
		return nil, "it has no session with its server that could be cut"
	}
	return func() {}, ""
}

// breaks ends the sessions of writers, now.
func (a *serverApp) breaks() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c, err := a.dial(ctx)
	if err != nil {
		return err
	}
	defer c.close()
	return a.cut(ctx, c)
}

func (a *serverApp) held() []string {
	if a.left == nil || len(a.pids()) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c, err := a.dial(ctx)
	if err != nil {
		return []string{fmt.Sprintf("%s: %v", a.title, err)}
	}
	defer c.close()
	list, err := a.left(ctx, c)
	if err == nil && a.chains != nil {
		var kept []string
		if kept, err = a.chains(ctx, c); len(kept) > a.mayKeep {
			list = append(list, fmt.Sprintf("%s: log is kept for several chains of backups: %v", a.title, kept))
		}
	}
	if err != nil {
		return []string{fmt.Sprintf("%s: %v", a.title, err)}
	}
	return list
}

// chain gives what keeps the log of a server that has chains.
func (a *serverApp) chain() ([]string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c, err := a.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer c.close()
	return a.chains(ctx, c)
}

// costly marks that looking at a copy takes long, as a server is started on it.
func (a *serverApp) costly() {}

func (a *serverApp) copied(dir string) (last int64, err error) {
	data := filepath.Join(dir, a.dir)
	if info, err := os.Stat(data); err != nil || !info.IsDir() {
		return 0, fmt.Errorf("%s: %v", data, err)
	}
	for up := filepath.Dir(data); dir != "/" && up != filepath.Dir(dir); up = filepath.Dir(up) {
		if err := os.Chmod(up, 0o755); err != nil { // what led there was its users' alone
			return 0, err
		}
	}
	if dir != "/" && a.byHand != nil {
		if err := a.byHand(data); err != nil {
			return 0, err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, end, err := a.started(ctx, data)
	if err != nil {
		return 0, err
	}
	last, err = c.sound(ctx)
	c.close()
	return last, errors.Join(err, end())
}

// pgNumbers is a connection to PostgreSQL.
type pgNumbers struct{ *pgx.Conn }

func (p pgNumbers) put(ctx context.Context, n int64) error {
	_, err := p.Exec(ctx, "INSERT INTO ledger VALUES ($1) ON CONFLICT DO NOTHING", n)
	return err
}

func (p pgNumbers) sound(ctx context.Context) (last int64, err error) {
	var count int64
	if err := p.QueryRow(ctx, "SELECT count(*), coalesce(max(n), 0) FROM ledger").Scan(&count, &last); err != nil {
		return 0, err
	}
	if count != last {
		return 0, fmt.Errorf("%d rows up to %d", count, last)
	}
	return last, nil
}

func (p pgNumbers) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	p.Close(ctx)
}

// newPostgresApp is a cluster with one table.
func newPostgresApp(root string) (*serverApp, error) {
	dir := filepath.Join(root, "postgres")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	server, err := dbtest.StartPostgres(ctx, dbtest.PostgresOptions{Dir: dir})
	if err != nil {
		return nil, err
	}
	if err := server.Exec(ctx, "CREATE TABLE ledger (n bigint PRIMARY KEY)"); err != nil {
		return nil, errors.Join(err, server.Close())
	}
	uid, err := ownerOf(dir)
	if err != nil {
		return nil, errors.Join(err, server.Close())
	}
	connect := func(ctx context.Context, s *dbtest.Postgres) (serverConn, error) {
		c, err := s.Connect(ctx)
		if err != nil {
			return nil, err
		}
		return pgNumbers{c}, nil
	}
	return &serverApp{title: "postgres", root: root, dir: dir, needs: "global/pg_control", uid: uid, mayKeep: 1,
		yaml: fmt.Sprintf("  - kind: postgres\n    name: main\n    config: {data: %s, logs: true}\n", dir),
		chains: func(ctx context.Context, c serverConn) ([]string, error) {
			return pgStrings(ctx, c, "SELECT slot_name::text FROM pg_replication_slots WHERE NOT temporary ORDER BY 1")
		},
		run: func(ctx context.Context) error {
			if server.Alive() {
				return nil
			}
			return server.Start(ctx)
		},
		end:  func() error { return server.Kill() },
		shut: func() error { return server.Close() },
		tree: func() []int {
			if !server.Alive() {
				return nil
			}
			list, _ := server.Processes()
			return list
		},
		dial: func(ctx context.Context) (serverConn, error) { return connect(ctx, server) },
		byHand: func(dir string) error {
			slots, err := filepath.Glob(filepath.Join(dir, "pg_replslot", "*"))
			for _, slot := range slots {
				err = errors.Join(err, os.RemoveAll(slot))
			}
			return err
		},
		started: func(ctx context.Context, dir string) (serverConn, func() error, error) {
			s, err := dbtest.StartPostgres(ctx, dbtest.PostgresOptions{Dir: dir})
			if err != nil {
				return nil, nil, err
			}
			c, err := connect(ctx, s)
			if err != nil {
				return nil, nil, errors.Join(err, s.Close())
			}
			return c, s.Close, nil
		},
		own: func(c requester.ComponentResult) bool { return c.Writer == "PostgreSQL" },
		left: func(ctx context.Context, c serverConn) ([]string, error) {
			return pgStrings(ctx, c, "SELECT 'replication slot ' || slot_name FROM pg_replication_slots WHERE temporary OR slot_name !~ '^sombra_' "+
				"UNION ALL SELECT 'session ' || pid FROM pg_stat_activity WHERE application_name = 'sombra'")
		},
		cut: func(ctx context.Context, c serverConn) error {
			_, err := pgStrings(ctx, c, "SELECT pg_terminate_backend(pid)::text FROM pg_stat_activity WHERE application_name = 'sombra'")
			return err
		}}, nil
}

func pgStrings(ctx context.Context, c serverConn, query string) ([]string, error) {
	rows, err := c.(pgNumbers).Query(ctx, query)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// ownerOf is the user who a file belongs to.
func ownerOf(name string) (uint32, error) {
	info, err := os.Stat(name)
	if err != nil {
		return 0, err
	}
	return info.Sys().(*syscall.Stat_t).Uid, nil
}

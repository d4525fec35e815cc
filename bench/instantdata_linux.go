package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sombra-backup/sombra/internal/dbtest"
	"github.com/sombra-backup/sombra/internal/ledger"
)

// layout is which stores lie where: for each a file system, made new, or an
// empty string for a subvolume of the first.
type layout struct {
	name, about string
	volumes     [4]string // of PostgreSQL, MariaDB, Redis and SQLite, and the files
}

var layouts = []layout{
	{"btrfs", "everything on btrfs, a subvolume for each: PostgreSQL; MariaDB; Redis and SQLite; files", [4]string{"btrfs", "", "", ""}},
	{"mixed", "PostgreSQL on btrfs, MariaDB on XFS, Redis and SQLite on ext4, files on another btrfs", [4]string{"btrfs", "xfs", "ext4", "btrfs"}},
}

// estate is databases at work on their volumes, with their clients.
type estate struct {
	dir     string
	volumes []*volume
	roots   [4]string

	pg     *dbtest.Postgres
	maria  *dbtest.MariaDB
	redis  *dbtest.Redis
	sqlite string
	files  string
	lock   string

	ledger  ledger.Load
	history ledger.History
	client  *exec.Cmd
	input   io.Closer
	churn   []*client
}

// newEstate makes the volumes and starts the databases, each with so many bytes
// of rows in it.
func newEstate(ctx context.Context, dir string, l layout, size int64) (e *estate, err error) {
	e = &estate{}
	if e.dir, err = dbtest.Scratch(dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.close())
		}
	}()
	if err := e.makeVolumes(dir, l, size); err != nil {
		return nil, err
	}
	if err := e.start(ctx); err != nil {
		return nil, err
	}
	return e, e.fill(ctx, size)
}

func (e *estate) makeVolumes(dir string, l layout, size int64) error {
	for i, fs := range l.volumes {
		if fs != "" {
			v, err := newVolume(dir, fs, 4*size+3<<30)
			if err != nil {
				return err
			}
			e.volumes = append(e.volumes, v)
			if err := os.Chmod(v.dir, 0o755); err != nil {
				return err
			}
			e.roots[i] = v.root
			continue
		}
		e.roots[i] = filepath.Join(e.volumes[0].root, []string{"postgres", "mariadb", "caches", "files"}[i])
	}
	if l.volumes[1] == "" { // all are subvolumes, the first one too
		e.roots[0] = filepath.Join(e.volumes[0].root, "postgres")
		for _, r := range e.roots {
			if err := command("btrfs", "-q", "subvolume", "create", r); err != nil {
				return err
			}
		}
	}
	return nil
}

func (e *estate) start(ctx context.Context) error {
	e.sqlite, e.files, e.lock = filepath.Join(e.roots[2], "sqlite", "app.db"), filepath.Join(e.roots[3], "files"), filepath.Join(e.dir, "files.lock")
	if err := errors.Join(os.Mkdir(filepath.Dir(e.sqlite), 0o755), os.Mkdir(e.files, 0o755)); err != nil {
		return err
	}
	var all sync.WaitGroup
	var errs [3]error
	all.Go(func() { errs[0] = e.startPostgres(ctx) })
	all.Go(func() { errs[1] = e.startMariaDB(ctx) })
	all.Go(func() {
		e.redis, errs[2] = dbtest.StartRedis(ctx, dbtest.RedisOptions{Dir: filepath.Join(e.roots[2], "redis"), AppendOnly: true,
			Lines: []string{"enable-debug-command local"}})
	})
	all.Wait()
	return errors.Join(errs[:]...)
}

func (e *estate) startPostgres(ctx context.Context) (err error) {
	e.pg, err = dbtest.StartPostgres(ctx, dbtest.PostgresOptions{Dir: filepath.Join(e.roots[0], "data")})
	return err
}

func (e *estate) startMariaDB(ctx context.Context) (err error) {
	e.maria, err = dbtest.StartMariaDB(ctx, dbtest.MariaDBOptions{Dir: filepath.Join(e.roots[1], "data")})
	return err
}

// fill makes the rows that are changed later, of about a KiB each.
func (e *estate) fill(ctx context.Context, size int64) error {
	rows := size / rowBytes
	if err := self(roleFill, e.sqlite, fmt.Sprint(size)).Run(); err != nil {
		return fmt.Errorf("fill SQLite: %w", err)
	}
	if err := e.fillPostgres(ctx, rows); err != nil {
		return err
	}
	if err := e.fillMariaDB(ctx, rows); err != nil {
		return err
	}
	if _, err := e.redis.Do(ctx, "DEBUG", "POPULATE", fmt.Sprint(rows/8), "item", "1000"); err != nil {
		return fmt.Errorf("fill Redis: %w", err)
	}
	return nil
}

func (e *estate) fillPostgres(ctx context.Context, rows int64) error {
	err := e.pg.Exec(ctx, "CREATE TABLE item (id int PRIMARY KEY, n int NOT NULL, body text NOT NULL)", fmt.Sprintf(
		"INSERT INTO item SELECT i, 0, string_agg(md5((i*32+j)::text), '') FROM generate_series(1, %d) i, generate_series(1, 30) j GROUP BY i", rows), "CHECKPOINT")
	if err != nil {
		return fmt.Errorf("fill PostgreSQL: %w", err)
	}
	return nil
}

func (e *estate) fillMariaDB(ctx context.Context, rows int64) error {
	db, err := e.maria.DB("")
	if err != nil {
		return err
	}
	defer db.Close()
	db.SetMaxOpenConns(1) // that of USE
	for _, q := range []string{"CREATE DATABASE ledger", "USE ledger",
		"CREATE TABLE item (id INT PRIMARY KEY, n INT NOT NULL, body VARBINARY(1000) NOT NULL)",
		fmt.Sprintf("INSERT INTO item SELECT seq, 0, REPEAT(MD5(seq), 30) FROM seq_1_to_%d", rows)} {
		if _, err := db.ExecContext(ctx, q); err != nil {
			return fmt.Errorf("fill MariaDB: %w", err)
		}
	}
	return nil
}

// clients are how many write the ledger, and rest how long each rests after a
// number.
const (
	clients = 8
	rest    = 5 * time.Millisecond
)

// work starts the clients, in processes of their own: those that commit numbers
// to all stores in turn and note how long each commit took, and one for each
// database that changes rows anywhere in it.
func (e *estate) work(changes bool) error {
	dsn, err := e.maria.DSN("ledger")
	if err != nil {
		return err
	}
	e.ledger = ledger.Load{Clients: clients, Pace: rest, Places: []ledger.Place{
		{Name: "PostgreSQL", Kind: "postgres", Where: e.pg.DSN("postgres", "postgres")},
		{Name: "MariaDB", Kind: "mysql", Where: dsn},
		{Name: "Redis", Kind: "redis", Where: e.redis.Socket},
		{Name: "SQLite", Kind: "sqlite", Where: e.sqlite},
		{Name: "files", Kind: "file", Where: e.files + "," + e.lock},
	}}
	e.history.Log = filepath.Join(e.dir, "acknowledged")
	e.client = self(roleLedger, e.ledger.Words(e.history.Log)...)
	if e.input, err = e.client.StdinPipe(); err != nil {
		return err
	}
	if err := e.client.Start(); err != nil {
		return err
	}
	churned := [][2]string{{"postgres", e.pg.DSN("postgres", "postgres")}, {"mysql", dsn}, {"sqlite", e.sqlite}}
	if !changes {
		churned = nil
	}
	for _, c := range churned {
		one, err := startClient(roleChurn, c[0], c[1])
		if err != nil {
			return err
		}
		e.churn = append(e.churn, one)
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		if err := e.history.Update(); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if e.history.Acked("files", clients-1, time.Now()) > 5 {
			return nil
		}
		if time.Now().After(end) {
			return errors.New("the clients do not get to work")
		}
	}
}

// rests ends the clients' work.
func (e *estate) rests() error {
	var errs []error
	if e.client != nil && e.client.Process != nil {
		errs = append(errs, e.input.Close(), e.client.Wait())
	}
	for _, c := range e.churn {
		errs = append(errs, c.stop())
	}
	e.client, e.churn = nil, nil
	return errors.Join(errs...)
}

func (e *estate) close() error {
	err := e.rests()
	if e.pg != nil {
		err = errors.Join(err, e.pg.Close())
	}
	if e.maria != nil {
		err = errors.Join(err, e.maria.Close())
	}
	if e.redis != nil {
		err = errors.Join(err, e.redis.Close())
	}
	for _, v := range e.volumes {
		err = errors.Join(err, v.close())
	}
	return errors.Join(err, os.RemoveAll(e.dir))
}

// filesWriter is the configuration of the files' writer.
const filesWriter = `<TestWriter usage="USER_DATA" lockFile="%s">
  <RestoreMethod method="RESTORE_IF_CAN_BE_REPLACED" writerRestore="always" rebootRequired="no"/>
  <Component componentType="filegroup" componentName="Numbers" selectable="yes">
    <ComponentFile path="%s" filespec="number*" recursive="no"/>
  </Component>
</TestWriter>
`

// configured is one writer of the program's configuration.
type configured struct {
	Kind   string         `json:"kind"`
	Name   string         `json:"name"`
	Config map[string]any `json:"config"`
}

// configure writes the program's configuration.
func (e *estate) configure(writers ...configured) (path string, err error) {
	text, err := json.Marshal(map[string]any{"writers": writers})
	if err != nil {
		return "", err
	}
	path = filepath.Join(e.dir, "config.yaml")
	return path, os.WriteFile(path, text, 0o600)
}

// configureFiles configures the files' writer; the databases are found by the
// program itself.
func (e *estate) configureFiles() (path string, err error) {
	xml := filepath.Join(e.dir, "files.xml")
	if err := os.WriteFile(xml, fmt.Appendf(nil, filesWriter, e.lock, e.files), 0o600); err != nil {
		return "", err
	}
	return e.configure(configured{"testwriter", "files", map[string]any{"file": xml}})
}

// churnRest is how long a client that changes rows rests after each transaction.
const churnRest = 2 * time.Millisecond

// churnMain changes five rows anywhere in a database, again and again. Its
// arguments are the database's driver and data source.
func churnMain(args []string) error {
	ctx := context.Background()
	c, err := openChurn(ctx, args[0], args[1])
	if err != nil {
		return err
	}
	rows, err := c.rows(ctx)
	if err != nil {
		return err
	}
	return serveSamples(func() (s sample, err error) {
		begun := time.Now()
		ids := make([]any, 5)
		for i := range ids {
			ids[i] = 1 + rand.Int64N(rows)
		}
		err = c.update(ctx, ids)
		s.Whole = time.Since(begun)
		time.Sleep(churnRest)
		return s, err
	})
}

// churn is the connection of a client that changes rows.
type churn struct {
	rows   func(context.Context) (int64, error)
	update func(ctx context.Context, ids []any) error
}

const (
	countItems  = "SELECT max(id) FROM item"
	changeItems = "UPDATE item SET n = n + 1 WHERE id IN (?, ?, ?, ?, ?)"
)

func openChurn(ctx context.Context, driver, source string) (*churn, error) {
	if driver == "postgres" {
		conn, err := pgx.Connect(ctx, source)
		if err != nil {
			return nil, err
		}
		return &churn{
			rows: func(ctx context.Context) (n int64, err error) {
				err = conn.QueryRow(ctx, countItems).Scan(&n)
				return n, err
			},
			update: func(ctx context.Context, ids []any) error {
				_, err := conn.Exec(ctx, "UPDATE item SET n = n + 1 WHERE id IN ($1, $2, $3, $4, $5)", ids...)
				return err
			}}, nil
	}
	open := func(source string) (*sql.DB, error) { return sql.Open(driver, source) }
	if driver == "sqlite" {
		open = openDB
	}
	db, err := open(source)
	if err != nil {
		return nil, err
	}
	return &churn{
		rows: func(ctx context.Context) (n int64, err error) {
			err = db.QueryRowContext(ctx, countItems).Scan(&n)
			return n, err
		},
		update: func(ctx context.Context, ids []any) error {
			_, err := db.ExecContext(ctx, changeItems, ids...)
			return err
		}}, nil
}

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/internal/dbtest"
	"github.com/sombra-backup/sombra/internal/ledger"
	"github.com/sombra-backup/sombra/internal/voltest"
	"github.com/sombra-backup/sombra/repository/store/local"
	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/session"
)

// The stores of the ledger, in the order in which clients commit to them.
const (
	storePostgres = "PostgreSQL"
	storeMariaDB  = "MariaDB"
	storeRedis    = "Redis"
	storeSQLite   = "SQLite"
	storeFile     = "file"
)

const ledgerClients = 8

const ledgerWriter = `<TestWriter usage="USER_DATA" lockFile="%s">
  <RestoreMethod method="RESTORE_IF_CAN_BE_REPLACED" writerRestore="always" rebootRequired="no"/>
  <Component componentType="filegroup" componentName="Numbers" selectable="yes">
    <ComponentFile path="%s" filespec="number*" recursive="no"/>
  </Component>
</TestWriter>
`

// books is the ledger's stores on four volumes with its clients at work.
type books struct {
	*rig
	by *machine // restores, from the same repository

	pgData, mariaData, redisData, sqlite, files string

	pg    *dbtest.Postgres
	maria *dbtest.MariaDB
	redis *dbtest.Redis

	places []ledger.Place
	at     *clients
}

// newBooks starts everything: PostgreSQL on btrfs, MariaDB on XFS, Redis and
// SQLite on ext4, and files with a writer of their own on another btrfs.
func newBooks(t *testing.T) *books {
	voltest.Need(t, "btrfs", "xfs", "ext4")
	needServers(t)
	a, b, c, d := voltest.Btrfs(t, 4<<30), voltest.XFS(t, 2<<30), voltest.Ext4(t, 1<<30), voltest.Btrfs(t, 512<<20)
	l := &books{by: bareMachine(t, filepath.Join(scratch(t), "repository"))}
	st, err := local.Open(l.by.repo)
	if err != nil {
		t.Fatal(err)
	}
	l.rig = newRigIn(t, st)
	l.apart = 40 * time.Millisecond
	l.paths = []string{a.Root, b.Root, c.Root, d.Root}
	l.pgData, l.mariaData, l.redisData = filepath.Join(a.Root, "postgres"), filepath.Join(b.Root, "mariadb"), filepath.Join(c.Root, "redis")
	l.sqlite, l.files = filepath.Join(c.Root, "sqlite", "ledger.db"), filepath.Join(d.Root, "files")
	for _, dir := range []string{filepath.Dir(l.sqlite), l.files} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	l.configureFiles()
	if l.pg, l.maria, l.redis, err = servers(t.Context(), "", l.pgData, l.mariaData, l.redisData); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeServers(t, l.pg, l.maria, l.redis) })
	l.begin()
	return l
}

// needServers skips the test, loudly, where a database is not installed.
func needServers(t *testing.T) {
	t.Helper()
	for _, name := range []string{filepath.Join(dbtest.PostgresBin, "postgres"), "mariadbd", dbtest.RedisBin} {
		if _, err := exec.LookPath(name); err != nil {
			voltest.Skip(t, "%s is not installed", name)
		}
	}
}

// configureFiles makes the files' writer, whose lock lies beside the files' volume.
func (l *books) configureFiles() {
	lock, config := filepath.Join(l.state, "number.lock"), filepath.Join(l.state, "number.xml")
	if err := os.WriteFile(config, fmt.Appendf(nil, ledgerWriter, lock, l.files), 0o600); err != nil {
		l.t.Fatal(err)
	}
	data, err := json.Marshal(map[string]string{"file": config})
	if err != nil {
		l.t.Fatal(err)
	}
	l.writers = []session.WriterConfig{{Kind: "testwriter", Name: "numbers", Config: data}}
	l.places = []ledger.Place{{Name: storeFile, Kind: "file", Where: l.files + "," + lock}}
}

// servers starts the three at once, on directories below another one.
func servers(ctx context.Context, below, pgData, mariaData, redisData string) (pg *dbtest.Postgres, maria *dbtest.MariaDB, redis *dbtest.Redis, err error) {
	var all sync.WaitGroup
	var errs [3]error
	all.Go(func() {
		pg, errs[0] = dbtest.StartPostgres(ctx, dbtest.PostgresOptions{Dir: filepath.Join(below, pgData)})
	})
	all.Go(func() {
		maria, errs[1] = dbtest.StartMariaDB(ctx, dbtest.MariaDBOptions{Dir: filepath.Join(below, mariaData)})
	})
	all.Go(func() {
		redis, errs[2] = dbtest.StartRedis(ctx, dbtest.RedisOptions{Dir: filepath.Join(below, redisData), AppendOnly: true, Lines: []string{"appendfsync always"}})
	})
	all.Wait()
	return pg, maria, redis, errors.Join(errs[:]...)
}

func closeServers(t *testing.T, pg *dbtest.Postgres, maria *dbtest.MariaDB, redis *dbtest.Redis) {
	t.Helper()
	var err error
	if pg != nil {
		err = pg.Close()
	}
	if maria != nil {
		err = errors.Join(err, maria.Close())
	}
	if redis != nil {
		err = errors.Join(err, redis.Close())
	}
	if err != nil {
		t.Error(err)
	}
}

// placesOf names the stores, the databases' being those that run.
func placesOf(pg *dbtest.Postgres, maria *dbtest.MariaDB, redis *dbtest.Redis, sqlite string, file ledger.Place) ([]ledger.Place, error) {
	dsn, err := maria.DSN("ledger")
	return []ledger.Place{
		{Name: storePostgres, Kind: "postgres", Where: pg.DSN("postgres", "postgres")},
		{Name: storeMariaDB, Kind: "mysql", Where: dsn},
		{Name: storeRedis, Kind: "redis", Where: redis.Socket},
		{Name: storeSQLite, Kind: "sqlite", Where: sqlite},
		file,
	}, err
}

// begin starts the clients in a process of their own.
func (l *books) begin() {
	l.t.Helper()
	db, err := l.maria.DB("")
	if err != nil {
		l.t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("CREATE DATABASE IF NOT EXISTS ledger"); err != nil {
		l.t.Fatal(err)
	}
	if l.places, err = placesOf(l.pg, l.maria, l.redis, l.sqlite, l.places[0]); err != nil {
		l.t.Fatal(err)
	}
	l.at = startClients(l.t, ledger.Load{Places: l.places, Clients: ledgerClients, Pace: 5 * time.Millisecond})
}

// read gives what stores hold.
func read(ctx context.Context, places []ledger.Place) (list []ledger.Found, err error) {
	for _, p := range places {
		s, err := ledger.Open(p)
		if err != nil {
			return nil, err
		}
		held, err := s.Read(ctx, ledgerClients)
		if err = errors.Join(err, s.Close()); err != nil {
			return nil, fmt.Errorf("%s: %w", p.Name, err)
		}
		list = append(list, ledger.Found{Store: p.Name, Held: held})
	}
	return list, nil
}

// recover starts the databases on the files of a backup that lie below dir, and
// reads them and the files. With check their own checks must find them sound.
func (l *books) recover(dir string, check bool) []ledger.Found {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	pg, maria, redis, err := servers(ctx, dir, l.pgData, l.mariaData, l.redisData)
	defer func() { closeServers(l.t, pg, maria, redis) }()
	if err != nil {
		l.t.Fatalf("start what was restored: %v", err)
	}
	places, err := placesOf(pg, maria, redis, filepath.Join(dir, l.sqlite), ledger.Place{Name: storeFile, Kind: "file", Where: filepath.Join(dir, l.files) + ",none"})
	if err != nil {
		l.t.Fatal(err)
	}
	found, err := read(ctx, places)
	if err != nil {
		l.t.Fatalf("read what was restored: %v", err)
	}
	if check {
		if err := sound(ctx, pg, maria, redis, filepath.Join(dir, l.sqlite)); err != nil {
			l.t.Errorf("what was restored: %v", err)
		}
	}
	return found
}

// restore restores a backup below a new directory; done removes it.
func (l *books) restore(res *requester.Result) (dir string, done func()) {
	l.t.Helper()
	dir, err := dbtest.Scratch("/var/tmp")
	if err != nil {
		l.t.Fatal(err)
	}
	done = func() {
		if err := os.RemoveAll(dir); err != nil {
			l.t.Error(err)
		}
	}
	l.by.must("restore", res.ID, "--target", dir)
	return dir, done
}

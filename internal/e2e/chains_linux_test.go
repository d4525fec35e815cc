package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/internal/dbtest"
	"github.com/sombra-backup/sombra/internal/ledger"
	"github.com/sombra-backup/sombra/internal/voltest"
	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// chain is one database with clients at work, and a chain of backups of it.
type chain struct {
	*rig
	place ledger.Place
	at    *clients
	// position asks the server how far its log goes.
	position func(ctx context.Context) (string, error)
	// whole: the database's log has times in whole seconds only.
	whole   bool
	records []*requester.Result // the full one and the logs
	marks   []point
}

// point is one to restore to.
type point struct {
	text string // as the restore is told
	// All that was acknowledged before the one time must be there, and nothing
	// that was begun after the other.
	before, after time.Time
}

// clockTick is how far behind the time may be that a server notes: it reads a clock
// that the kernel sets forward at each tick.
const clockTick = 10 * time.Millisecond

// newChain starts the clients and makes the full backup.
func newChain(t *testing.T, path string, w session.WriterConfig, place ledger.Place) *chain {
	t.Helper()
	c := &chain{rig: newRig(t), place: place}
	c.paths, c.writers = []string{path}, []session.WriterConfig{w}
	c.at = startClients(t, ledger.Load{Places: []ledger.Place{place}, Clients: ledgerClients, Pace: 10 * time.Millisecond})
	c.backup(vss.BackupTypeFull)
	return c
}

// backup makes one of a type.
func (c *chain) backup(of vss.BackupType) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	res, err := requester.Backup(ctx, c.open, c.repo, requester.Request{Paths: c.paths, Type: of}, nil)
	if err != nil || res.Outcome != requester.Complete {
		c.t.Fatalf("%v backup %d: %v, %v: %+v %+v %v", of, len(c.records), res.Outcome, err, res.Failures, res.LeftOut, res.Warnings)
	}
	for _, r := range res.Components {
		if r.BackupType != of.Word() {
			c.t.Fatalf("%v backup %d came to %s: %+v", of, len(c.records), r.BackupType, r)
		}
	}
	c.records = append(c.records, res)
}

// logs makes log backups at random times, and in between asks for positions.
func (c *chain) logs(n int) {
	c.t.Helper()
	for range n {
		time.Sleep(rand.N(300 * time.Millisecond))
		before := time.Now()
		text, err := c.position(c.t.Context())
		if err != nil {
			c.t.Fatal(err)
		}
		c.marks = append(c.marks, point{text, before, time.Now()})
		time.Sleep(rand.N(600 * time.Millisecond))
		c.backup(vss.BackupTypeLog)
	}
}

// points are n random times that the chain covers, after the full backup and before
// the last log backup began, and n of the positions.
func (c *chain) points(n int) (list []point) {
	first, last := c.records[0].Ended, c.records[len(c.records)-1].Started
	for range n {
		at := first.Add(rand.N(last.Sub(first)))
		p := point{at.Format(time.RFC3339Nano), at, at}
		if c.whole {
			if at = at.Truncate(time.Second); at.Before(first) {
				at = at.Add(time.Second)
			}
			p = point{at.Format(time.RFC3339), at, at.Add(clockTick)}
		}
		list = append(list, p)
	}
	for _, i := range rand.Perm(len(c.marks))[:n] {
		list = append(list, c.marks[i])
	}
	return list
}

// covering is the first log backup that has all that was acknowledged at a time:
// it began later. The last one is for a time after all others.
func (c *chain) covering(at time.Time) *requester.Result {
	for _, r := range c.records[1:] {
		if r.Started.After(at) {
			return r
		}
	}
	return c.records[len(c.records)-1]
}

// restoresTo restores the database to a point, and compares what it holds then with
// what the clients knew. What was under way at the point may be there or not.
func (c *chain) restoresTo(at point) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	rec := c.covering(at.after)
	res, err := requester.Restore(ctx, c.open, c.repo, rec.Record, requester.RestoreRequest{
		Wishes: requester.Wishes{RollForward: vss.RollForwardPartial, Point: at.text}}, nil)
	if err != nil || res.Outcome != requester.Complete {
		return fmt.Errorf("restore of %s: %v, %v: %+v %+v %+v %v", rec.ID, res.Outcome, err, res.Components, res.Writers, res.Failures, res.Warnings)
	}
	found, err := read(ctx, []ledger.Place{c.place})
	if err != nil {
		return err
	}
	if bad := ledger.CheckTime(found[0], &c.at.history, at.before, at.after); bad != nil {
		return fmt.Errorf("%v", bad)
	}
	return nil
}

// comesBack is the test of a chain of n log backups, restored to as many times and
// as many positions.
func (c *chain) comesBack(n, points int, check func(ctx context.Context) error) {
	c.t.Helper()
	c.logs(n)
	c.at.stop()
	for i, at := range c.points(points) {
		if err := c.restoresTo(at); err != nil {
			c.t.Errorf("to %s, the full backup being of %v: %v", at.text, c.records[0].Instant, err)
			continue
		}
		if i == 0 {
			if err := check(c.t.Context()); err != nil {
				c.t.Errorf("restored to %s: %v", at.text, err)
			}
		}
	}
	c.t.Logf("%s: %d log backups under load in %v, restored to %d random times and %d positions; of %d commits of %d clients all that were acknowledged before a point were there, and none begun after it",
		c.place.Name, n, c.records[n].Ended.Sub(c.records[0].Instant).Round(time.Millisecond), points, points, c.at.history.Len(), c.at.load.Clients)
}

// chainCounts is how many log backups a chain has, and to how many points of each
// kind it is restored.
func chainCounts() (logs, points int) {
	if logs = rounds(50); logs < 50 {
		return logs, 2
	}
	return logs, 5
}

// TestPostgresLogChainRestoresToAnyTime: full, then log backups while clients
// commit; the cluster is restored to points of time between them.
func TestPostgresLogChainRestoresToAnyTime(t *testing.T) {
	voltest.Need(t, "btrfs")
	v := voltest.Btrfs(t, 4<<30)
	dir := filepath.Join(v.Root, "postgres")
	pg, err := dbtest.StartPostgres(t.Context(), dbtest.PostgresOptions{Dir: dir, Settings: map[string]string{"wal_level": "replica"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pg.Close(); err != nil {
			t.Error(err)
		}
	})
	config := session.WriterConfig{Kind: "postgres", Name: "chain", Config: fmt.Appendf(nil, `{"data": %q, "logs": true}`, dir)}
	c := newChain(t, v.Root, config, ledger.Place{Name: storePostgres, Kind: "postgres", Where: pg.DSN("postgres", "postgres")})
	t.Cleanup(func() { endServer(t, filepath.Join(dir, "postmaster.pid")) })
	c.position = func(ctx context.Context) (text string, err error) {
		conn, err := pg.Connect(ctx)
		if err != nil {
			return "", err
		}
		defer conn.Close(ctx)
		err = conn.QueryRow(ctx, "SELECT pg_current_wal_flush_lsn()::text").Scan(&text)
		return text, err
	}
	logs, points := chainCounts()
	c.comesBack(logs, points, func(ctx context.Context) error { return soundPostgres(ctx, pg) })
}

// TestMariaDBLogChainRestoresToAnyTime: the same with binary logs, whose times are
// whole seconds.
func TestMariaDBLogChainRestoresToAnyTime(t *testing.T) {
	voltest.Need(t, "xfs")
	v := voltest.XFS(t, 2<<30)
	dir := filepath.Join(v.Root, "mariadb")
	maria, err := dbtest.StartMariaDB(t.Context(), dbtest.MariaDBOptions{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := maria.Close(); err != nil {
			t.Error(err)
		}
	})
	db, err := maria.DB("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if _, err := db.Exec("CREATE DATABASE ledger"); err != nil {
		t.Fatal(err)
	}
	dsn, err := maria.DSN("ledger")
	if err != nil {
		t.Fatal(err)
	}
	config := session.WriterConfig{Kind: "mariadb", Name: "chain", Config: fmt.Appendf(nil, `{"datadir": %q}`, dir)}
	c := newChain(t, v.Root, config, ledger.Place{Name: storeMariaDB, Kind: "mysql", Where: dsn})
	t.Cleanup(func() { endServer(t, filepath.Join(maria.RunDir, "mariadbd.pid")) })
	c.whole = true
	c.position = func(ctx context.Context) (text string, err error) {
		err = db.QueryRowContext(ctx, "SELECT @@gtid_binlog_pos").Scan(&text)
		return text, err
	}
	logs, points := chainCounts()
	c.comesBack(logs, points, maria.Check)
}

// endServer ends a server that a writer started, and waits for its end.
func endServer(t *testing.T, pidFile string) {
	t.Helper()
	data, err := os.ReadFile(pidFile)
	if err != nil {
		return // it does not run
	}
	word, _, _ := strings.Cut(string(data), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(word))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return // it has ended
	}
	waitFor(t, 30*time.Second, "the server ends", func() bool { return dead(pid) })
}

package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
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
	// slack is how far off a point of time may be, by the database's own clock.
	slack   time.Duration
	records []*requester.Result // the full one and the logs
}

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

// logs makes log backups at random times.
func (c *chain) logs(n int) {
	c.t.Helper()
	for range n {
		time.Sleep(100*time.Millisecond + rand.N(400*time.Millisecond))
		c.backup(vss.BackupTypeLog)
	}
}

// points are random times that the chain covers: after the full backup and before
// the last log backup began.
func (c *chain) points(n int) (list []time.Time) {
	first, last := c.records[0].Ended, c.records[len(c.records)-1].Started
	for range n {
		list = append(list, first.Add(rand.N(last.Sub(first))))
	}
	slices.SortFunc(list, time.Time.Compare)
	return list
}

// covering is the first log backup that has all that was acknowledged at a time:
// it began later.
func (c *chain) covering(at time.Time) *requester.Result {
	i := slices.IndexFunc(c.records[1:], func(r *requester.Result) bool { return r.Started.After(at) })
	return c.records[1+i]
}

// restoresTo restores the database to a time, and compares what it holds then with
// what the clients knew: all that they had an acknowledgement of is there, and
// nothing that they had not begun. What was under way may be there or not.
func (c *chain) restoresTo(at time.Time) error {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	rec := c.covering(at)
	res, err := requester.Restore(ctx, c.open, c.repo, rec.Record, requester.RestoreRequest{
		Wishes: requester.Wishes{RollForward: vss.RollForwardPartial, Point: at.Format(time.RFC3339Nano)}}, nil)
	if err != nil || res.Outcome != requester.Complete {
		return fmt.Errorf("restore of %s: %v, %v: %+v %+v %+v %v", rec.ID, res.Outcome, err, res.Components, res.Writers, res.Failures, res.Warnings)
	}
	found, err := read(ctx, []ledger.Place{c.place})
	if err != nil {
		return err
	}
	if bad := ledger.CheckTime(found[0], &c.at.history, at.Add(-c.slack), at.Add(c.slack)); bad != nil {
		return fmt.Errorf("%v", bad)
	}
	return nil
}

// comesBack is the test of a chain of n log backups.
func (c *chain) comesBack(n, points int) {
	c.t.Helper()
	c.logs(n)
	c.at.stop()
	times := c.points(points)
	for _, at := range times {
		if err := c.restoresTo(at); err != nil {
			c.t.Errorf("to %v, full backup of %v: %v", at, c.records[0].Instant, err)
		}
	}
	c.t.Logf("%s: %d log backups under load, restored to %d random points of time between %v and %v; %d commits of %d clients, of which all that were acknowledged before a point were there, and none begun after it",
		c.place.Name, n, points, times[0].Format(time.TimeOnly), times[len(times)-1].Format(time.TimeOnly), c.at.history.Len(), c.at.load.Clients)
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
	c.comesBack(rounds(50), rounds(40))
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
	if err := syscall.Kill(pid, syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
	waitFor(t, 30*time.Second, "the server ends", func() bool { return dead(pid) })
}

package postgres

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/internal/dbtest"
	"github.com/sombra-backup/sombra/vss"
)

// A standby that was saved while it did not run comes back as one, on its primary's
// timeline; a signal that lay about in a primary's directory makes none of it.
func TestStandbyComesBackAsStandby(t *testing.T) {
	c := newCluster(t, dbtest.PostgresOptions{}, config{})
	c.write(10)
	restore := func(s *stored) {
		t.Helper()
		o := s.begin("")
		if err := o.pre(); err != nil {
			t.Fatal(err)
		}
		o.put()
		if err := o.post(vss.FileRestoreStatusAll); err != nil {
			t.Fatal(err)
		}
	}
	signal := func() {
		t.Helper()
		if err := c.Stop(); err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(c.Dir, "standby.signal")
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		c.own(name)
	}
	start := func(recovers string) {
		t.Helper()
		if err := c.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := c.query("SELECT pg_is_in_recovery()::text"); got != recovers {
			t.Errorf("in recovery: %s, want %s", got, recovers)
		}
		if got := c.query("SELECT count(*)::text FROM ledger"); got != "10" {
			t.Errorf("%s numbers, want 10", got)
		}
	}
	signal() // a primary's, which has not followed anybody
	restore(c.store())
	start("false")
	signal()
	start("true")
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	before, err := readControl(c.Dir)
	if err != nil || before.State != shutDownInRecovery {
		t.Fatalf("the standby is %v, %v", before.State, err)
	}
	os.RemoveAll(filepath.Join(filepath.Dir(c.Dir), "saved"))
	s := c.store()
	restore(s)
	back := func() {
		t.Helper()
		if after, err := readControl(c.Dir); err != nil || after.Timeline != before.Timeline {
			t.Errorf("on timeline %d after the restore, and on %d before, %v", after.Timeline, before.Timeline, err)
		}
		start("true")
	}
	back()
	// It becomes a primary, and is restored to what it was: a standby follows the
	// newest timeline that it has the history of, and its primary lacks this one.
	c.exec("SELECT pg_promote()")
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	newer := filepath.Join(c.Dir, "pg_wal", fmt.Sprintf("%08X.history", before.Timeline+1))
	if _, err := os.Lstat(newer); err != nil {
		t.Fatal(err)
	}
	restore(s)
	if _, err := os.Lstat(newer); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the history of the promoted life has come along: %v", err)
	}
	back()
}

// own gives a file to the cluster's owner.
func (c *cluster) own(name string) {
	c.t.Helper()
	info, err := os.Stat(c.Dir)
	if err != nil {
		c.t.Fatal(err)
	}
	if uid, gid := ids(info); os.Geteuid() == 0 {
		if err := os.Chown(name, int(uid), int(gid)); err != nil {
			c.t.Fatal(err)
		}
	}
}

// Whoever is told that something was put aside is not told to delete it.
func TestWhatWasPutAsideIsNotCalledRubbish(t *testing.T) {
	c := newCluster(t, dbtest.PostgresOptions{}, config{})
	if err := os.Mkdir(filepath.Join(c.Dir, asideName), 0o700); err != nil {
		t.Fatal(err)
	}
	c.own(filepath.Join(c.Dir, asideName))
	state := filepath.Join(c.Dir, asideName, stateName)
	if err := os.WriteFile(state, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.own(state)
	s := &stored{c: c}
	var err error
	if s.doc, err = c.local().Identify(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(filepath.Dir(c.Dir), "saved"), 0o700); err != nil {
		t.Fatal(err)
	}
	c.own(filepath.Join(filepath.Dir(c.Dir), "saved"))
	err = s.begin("").pre()
	says(t, err, "delete nothing")
	says(t, err, asideName)
	if err != nil && strings.Contains(err.Error(), "remove it") {
		t.Errorf("it says %v", err)
	}
	if !c.Alive() {
		t.Error("the server was stopped before the restore was refused")
	}
}

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/internal/dbtest"
)

// pgCluster is a PostgreSQL server on a machine that backs it up.
type pgCluster struct {
	*dbtest.Postgres
	t *testing.T
	m *machine
}

// newPostgres starts a server, with a table of numbers, and configures its writer.
func newPostgres(t *testing.T, m *machine, o dbtest.PostgresOptions, config string) *pgCluster {
	t.Helper()
	if o.Dir == "" {
		dir, err := dbtest.Scratch("/var/tmp")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		o.Dir = filepath.Join(dir, "data")
	}
	p, err := dbtest.StartPostgres(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	c := &pgCluster{Postgres: p, t: t, m: m}
	t.Cleanup(func() {
		c.halt(c.Dir)
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	m.configure(fmt.Sprintf("writers:\n  - kind: postgres\n    name: main\n    config:\n      data: %s\n%s", o.Dir, config))
	c.exec("CREATE TABLE n (n int)")
	return c
}

// halt stops whatever server runs in a directory: a restore starts another than
// the test did.
func (c *pgCluster) halt(dir string) {
	c.t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "postmaster.pid"))
	if err != nil {
		return
	}
	pid, err := strconv.Atoi(strings.Split(string(b), "\n")[0])
	if err != nil {
		c.t.Fatal(err)
	}
	syscall.Kill(pid, syscall.SIGINT)
	waitFor(c.t, time.Minute, "the server stops", func() bool { return syscall.Kill(pid, 0) != nil })
}

func (c *pgCluster) exec(statements ...string) {
	c.t.Helper()
	if err := c.Exec(c.t.Context(), statements...); err != nil {
		c.t.Fatal(err)
	}
}

// add commits numbers.
func (c *pgCluster) add(n int) {
	c.t.Helper()
	c.exec(fmt.Sprintf("INSERT INTO n SELECT generate_series(1, %d)", n))
}

func (c *pgCluster) query(sql string) string {
	c.t.Helper()
	conn, err := c.Connect(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	defer conn.Close(c.t.Context())
	var out string
	if err := conn.QueryRow(c.t.Context(), sql).Scan(&out); err != nil {
		c.t.Fatalf("%s: %v", sql, err)
	}
	return out
}

// has checks how many numbers there are, and that the cluster is sound.
func (c *pgCluster) has(want int) {
	c.t.Helper()
	if got := c.query("SELECT count(*)::text FROM n"); got != strconv.Itoa(want) {
		c.t.Errorf("%s numbers, want %d", got, want)
	}
	if out, err := c.Run(c.t.Context(), "pg_amcheck", "--install-missing", "-d", "postgres"); err != nil {
		c.t.Error(out, err)
	}
}

func (c *pgCluster) timeline() string {
	c.t.Helper()
	return c.query("SELECT timeline_id::text FROM pg_control_checkpoint()")
}

// A chain is recovered once, when all of it is restored; tablespaces and a log on
// another volume are part of the cluster, and what came after it is gone.
func TestPostgresChainIsRecoveredAtItsEndAlone(t *testing.T) {
	for _, way := range [][]string{{"restore", "latest"}, {"restore", "latest", "--sequential"}} {
		t.Run(strings.Join(way, " "), func(t *testing.T) {
			m := newMachine(t)
			dir, err := dbtest.Scratch("/var/tmp")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(dir) })
			c := newPostgres(t, m, dbtest.PostgresOptions{Dir: filepath.Join(dir, "data"), WALDir: filepath.Join(dir, "wal")}, "")
			space := filepath.Join(dir, "space")
			if err := os.Mkdir(space, 0o700); err != nil {
				t.Fatal(err)
			}
			info, err := os.Stat(c.Dir)
			if err != nil {
				t.Fatal(err)
			}
			owner := info.Sys().(*syscall.Stat_t)
			if err := os.Chown(space, int(owner.Uid), int(owner.Gid)); err != nil {
				t.Fatal(err)
			}
			c.exec("CREATE TABLESPACE s LOCATION '"+space+"'", "CREATE TABLE far (n int) TABLESPACE s", "INSERT INTO far VALUES (1)")
			c.add(10)
			m.must("backup", "--type", "full", c.Dir)
			c.add(20)
			c.exec("CREATE DATABASE second")
			m.must("backup", "--type", "incremental", c.Dir)
			c.add(30)
			c.exec("INSERT INTO far VALUES (2)")
			m.must("backup", "--type", "incremental", c.Dir)
			c.exec("DROP TABLE n, far", "CREATE TABLE after AS SELECT generate_series(1, 100000) AS n", "DROP DATABASE second")
			m.must(way...)
			c.has(60)
			if got := c.query("SELECT count(*)::text FROM far"); got != "2" {
				t.Errorf("%s rows in the tablespace, want 2", got)
			}
			if got := c.query("SELECT count(*)::text FROM pg_database WHERE datname = 'second'"); got != "1" {
				t.Error("the second database is not back")
			}
			if got := c.timeline(); got != "2" {
				t.Errorf("timeline %s: it was not recovered once", got)
			}
			c.nothingAside(c.Dir, filepath.Join(dir, "wal"), space)
		})
	}
}

// nothingAside checks that a restore has removed what it put aside, and its log.
func (c *pgCluster) nothingAside(dirs ...string) {
	c.t.Helper()
	for _, dir := range dirs {
		for _, name := range []string{".sombra-before-restore", "recovery.signal"} {
			if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
				c.t.Errorf("%s is left", filepath.Join(dir, name))
			}
		}
	}
	if entries, err := os.ReadDir(filepath.Join(c.Dir, "pg_wal", "sombra-log")); err == nil && len(entries) > 0 {
		c.t.Errorf("restored log is left: %v", entries)
	}
}

// Logs lead to each point that was asked for, and to no other; points that cannot be
// had are refused before the cluster is touched.
func TestPostgresRollForward(t *testing.T) {
	m := newMachine(t)
	c := newPostgres(t, m, dbtest.PostgresOptions{}, "      logs: true\n")
	now := func() string {
		time.Sleep(20 * time.Millisecond)
		at := time.Now().UTC().Format(time.RFC3339Nano)
		time.Sleep(20 * time.Millisecond)
		return at
	}
	c.add(1)
	early := now()
	m.must("backup", "--type", "full", c.Dir)
	c.add(10)
	m.must("backup", "--type", "log", "--strict-type", c.Dir)
	c.add(100)
	middle, position := now(), c.query("SELECT pg_current_wal_lsn()::text")
	c.add(1000)
	last := now()
	m.must("backup", "--type", "log", "--strict-type", c.Dir)
	late := now()
	c.exec("DROP TABLE n")
	for _, tt := range []struct {
		option string
		want   int
	}{
		{`"target-time"="` + middle + `"`, 111},
		{`"target-lsn"="` + position + `"`, 111},
		{`"target-time"="` + last + `"`, 1111}, // later than the last commit in the log
		{`"target"="instant"`, 1},
		{`"target"="end"`, 1111},
	} {
		m.must("restore", "latest", "--restore-option", tt.option)
		c.has(tt.want)
		c.nothingAside(c.Dir)
	}
	m.must("restore", "latest", "--roll-forward", middle)
	c.has(111)
	for option, says := range map[string]string{
		`"target-time"="` + early + `"`: "earlier backup",
		`"target-time"="` + late + `"`:  "later log backup",
		`"target-lsn"="F/0"`:            "later log backup",
		`"target-lsn"="0/10"`:           "earlier backup",
		`"target"="noon"`:               "noon",
		`"tomorrow"="yes"`:              "tomorrow",
	} {
		o := m.sombra("restore", "latest", "--restore-option", option).says(says)
		if o.code == 0 {
			t.Errorf("with %s the exit code is 0", option)
		}
	}
	// A target after the end is seen when the last backup comes; another restore
	// begins anew, and starts the server as it ran before.
	m.must("restore", "latest")
	c.has(1111)
	c.nothingAside(c.Dir)
	// After a restore the chain has ended, which the next log backup says.
	m.sombra("backup", "--type", "log", "--strict-type", c.Dir).exits(2, 3).says("timeline", "full backup")
	m.must("backup", "--type", "full", c.Dir)
	c.add(5)
	m.must("backup", "--type", "log", "--strict-type", c.Dir)
	c.exec("DROP TABLE n")
	m.must("restore", "latest")
	c.has(1116)
}

// A cluster that cannot be recovered is an error, and what was there before is kept.
func TestPostgresFailedRecoveryKeepsTheOldCluster(t *testing.T) {
	m := newMachine(t)
	c := newPostgres(t, m, dbtest.PostgresOptions{}, "")
	c.add(1)
	m.must("backup", "--type", "full", c.Dir)
	c.add(1)
	bad := filepath.Join(filepath.Dir(c.Dir), "bad.conf")
	if err := os.WriteFile(bad, []byte("no_such_parameter = 1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	m.configure(fmt.Sprintf("writers:\n  - kind: postgres\n    name: main\n    config:\n      data: %s\n      settings: %s\n", c.Dir, bad))
	o := m.sombra("restore", "latest").says("no_such_parameter", ".sombra-before-restore")
	if o.code == 0 {
		t.Errorf("the exit code is 0:\n%s\n%s", o.out, o.err)
	}
	if _, err := os.Stat(filepath.Join(c.Dir, ".sombra-before-restore", "base")); err != nil {
		t.Error(err)
	}
	m.configure(fmt.Sprintf("writers:\n  - kind: postgres\n    name: main\n    config:\n      data: %s\n", c.Dir))
	m.must("restore", "latest")
	c.has(1)
	c.nothingAside(c.Dir)
}

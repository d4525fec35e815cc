package e2e

import (
	"database/sql"
	"database/sql/driver"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/internal/dbtest"
	"github.com/sombra-backup/sombra/internal/voltest"
)

// mariaDB is a server on a btrfs volume, and a machine that backs it up.
type mariaDB struct {
	*machine
	t  *testing.T
	db *dbtest.MariaDB
	to *sql.DB
}

func newMariaDB(t *testing.T, o dbtest.MariaDBOptions) *mariaDB {
	t.Helper()
	voltest.Need(t, "btrfs")
	return newMariaDBOn(t, voltest.Btrfs(t, 1<<30), o)
}

func newMariaDBOn(t *testing.T, v *voltest.Volume, o dbtest.MariaDBOptions) *mariaDB {
	t.Helper()
	o.Dir = filepath.Join(v.Root, "data")
	o.RunDir = filepath.Join(v.Root, "run")
	s := &mariaDB{t: t, machine: newMachine(t)}
	var err error
	if s.db, err = dbtest.StartMariaDB(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.end(); s.db.Close() })
	if s.to, err = s.db.DB(""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.to.Close() })
	s.sql("CREATE DATABASE d", "CREATE TABLE d.t (n BIGINT PRIMARY KEY)", "CREATE TABLE d.m (n BIGINT) ENGINE=MyISAM", "CREATE TABLE d.a (n BIGINT) ENGINE=Aria")
	return s
}

// end ends the server that a restore has started: it is not this program's child.
func (s *mariaDB) end() {
	pids, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range pids {
		if cwd, err := os.Readlink(p + "/cwd"); err == nil && cwd == s.db.Dir {
			var pid int
			if _, err := fmt.Sscanf(filepath.Base(p), "%d", &pid); err == nil && pid != s.db.PID {
				syscall.Kill(pid, syscall.SIGKILL)
				for begun := time.Now(); syscall.Kill(pid, 0) == nil && time.Since(begun) < 20*time.Second; time.Sleep(10 * time.Millisecond) {
				}
			}
		}
	}
}

func (s *mariaDB) sql(queries ...string) {
	s.t.Helper()
	for _, q := range queries {
		if _, err := s.to.ExecContext(s.t.Context(), q); err != nil {
			s.t.Fatalf("%s: %v", q, err)
		}
	}
}

// add commits the numbers of a range, one by one, to each of the tables.
func (s *mariaDB) add(from, to int) {
	s.t.Helper()
	for n := from; n <= to; n++ {
		for _, table := range []string{"t", "m", "a"} {
			s.sql(fmt.Sprintf("INSERT INTO d.%s VALUES (%d)", table, n))
		}
	}
}

// holds checks that each table has the numbers 1 to n, and that all tables are
// sound.
func (s *mariaDB) holds(n int) {
	s.t.Helper()
	for _, table := range []string{"t", "m", "a"} {
		var count, most int
		if err := s.to.QueryRowContext(s.t.Context(), "SELECT COUNT(*), COALESCE(MAX(n), 0) FROM d."+table).Scan(&count, &most); err != nil {
			s.t.Fatal(err)
		}
		if count != n || most != n {
			s.t.Errorf("table %s holds %d numbers up to %d, want %d", table, count, most, n)
		}
	}
	if err := s.db.Check(s.t.Context()); err != nil {
		s.t.Error(err)
	}
}

// prepared leaves a prepared transaction behind.
func (s *mariaDB) prepared(name string) {
	s.t.Helper()
	c, err := s.to.Conn(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	for _, q := range []string{"XA START '" + name + "'", "INSERT INTO d.t VALUES (1000)", "XA END '" + name + "'", "XA PREPARE '" + name + "'"} {
		if _, err := c.ExecContext(s.t.Context(), q); err != nil {
			s.t.Fatalf("%s: %v", q, err)
		}
	}
	c.Raw(func(any) error { return driver.ErrBadConn }) // it ends, and the transaction is anybody's
	c.Close()
}

// backup makes a backup of a type of the server alone.
func (s *mariaDB) backup(kind string) {
	s.t.Helper()
	s.must("backup", "--type", kind, s.db.Dir).says("MariaDB")
}

func TestMariaDBIsFoundFrozenAndRestoredInPlace(t *testing.T) {
	s := newMariaDB(t, dbtest.MariaDBOptions{})
	s.add(1, 20)
	s.prepared("one") // at the instant it is neither committed nor rolled back
	s.backup("full")
	s.sql("XA ROLLBACK 'one'")
	s.add(21, 30)
	s.sql("CREATE DATABASE later", "CREATE TABLE later.x (n INT)", "INSERT INTO later.x VALUES (1)")
	s.must("restore", "latest")
	s.sql("XA COMMIT 'one'", "DELETE FROM d.t WHERE n = 1000")
	s.holds(20)
	if _, err := s.to.ExecContext(t.Context(), "SELECT * FROM later.x"); err == nil {
		t.Error("a database made after the backup is there after the restore")
	}
	s.add(21, 22) // it works on
	if names, _ := filepath.Glob(filepath.Join(s.db.Dir, ".sombra*")); len(names) > 0 {
		t.Errorf("the restore left %v", names)
	}
}

func TestMariaDBRollsForwardToAPoint(t *testing.T) {
	s := newMariaDB(t, dbtest.MariaDBOptions{})
	s.add(1, 10)
	s.backup("full")
	s.add(11, 20)
	s.backup("incremental")
	s.add(21, 30)
	s.backup("log")
	s.add(31, 35)
	var file, position, gtid string
	var do, ignore sql.NullString
	if err := s.to.QueryRow("SHOW MASTER STATUS").Scan(&file, &position, &do, &ignore); err != nil {
		t.Fatal(err)
	}
	if err := s.to.QueryRow("SELECT @@gtid_binlog_pos").Scan(&gtid); err != nil {
		t.Fatal(err)
	}
	time.Sleep(1100 * time.Millisecond) // times in binary logs are whole seconds
	at := time.Now().UTC().Truncate(time.Second)
	s.add(36, 40)
	s.backup("log")
	s.add(41, 45) // in no backup
	for _, c := range []struct {
		option string
		want   int
	}{
		{"", 40},
		{`"Target Position"="binlog.009999:4"`, 0},
		{`"Target"="instant"`, 20},
		{`"Target Time"="` + at.Format(time.RFC3339) + `"`, 35},
		{`"Target GTID"="` + gtid + `"`, 35},
		{`"Target Position"="` + file + ":" + position + `"`, 35},
	} {
		args := []string{"restore", "latest"}
		if c.option != "" {
			args = append(args, "--restore-option", c.option)
		}
		t.Run("point "+strings.ReplaceAll(c.option, `"`, ""), func(t *testing.T) {
			s.t, s.machine.t = t, t
			if c.want == 0 { // the server stays stopped, and the next restore puts all right
				s.sombra(args...).exits(3, 5).says("left stopped", ".sombra-restore")
				return
			}
			s.must(args...)
			s.holds(c.want)
			var now string
			if err := s.to.QueryRow("SELECT @@gtid_binlog_pos").Scan(&now); err != nil {
				t.Fatal(err)
			}
			if c.want == 35 && now != gtid {
				t.Errorf("the server's own binary logs are at GTID %s, want %s", now, gtid)
			}
		})
	}
}

// TestMariaDBComesBackAfterAllIsLost: no server runs, and neither its directory nor
// that of its binary logs is there.
func TestMariaDBComesBackAfterAllIsLost(t *testing.T) {
	voltest.Need(t, "btrfs")
	v := voltest.Btrfs(t, 1<<30)
	logs := filepath.Join(v.Root, "logs")
	if err := os.Mkdir(logs, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(logs, 0o777); err != nil {
		t.Fatal(err)
	}
	s := newMariaDBOn(t, v, dbtest.MariaDBOptions{LogBin: filepath.Join(logs, "bin")})
	s.add(1, 10)
	s.must("backup", "--type", "full", v.Root)
	s.add(11, 20)
	s.must("backup", "--type", "log", v.Root)
	if err := s.db.Kill(); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{s.db.Dir, logs} {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	s.must("restore", "latest").says("left stopped")
	if err := s.db.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.holds(20)
	s.add(21, 22)
}

func TestMariaDBIsRestoredBesideTheLiveServer(t *testing.T) {
	s := newMariaDB(t, dbtest.MariaDBOptions{})
	s.add(1, 10)
	s.backup("full")
	s.add(11, 20)
	s.backup("log")
	s.add(21, 30)
	beside := s.db.Dir + "-beside"
	if err := os.Mkdir(beside, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(beside, s.db.UID, s.db.GID); err != nil {
		t.Fatal(err)
	}
	s.must("restore", "latest", "--new-target", s.db.Dir+"="+beside)
	s.holds(30) // the live one went on
	other, err := dbtest.StartMariaDB(t.Context(), dbtest.MariaDBOptions{Dir: beside})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	db, err := other.DB("")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	live, to := s.db, s.to
	s.db, s.to = other, db
	s.holds(20)
	s.db, s.to = live, to
}

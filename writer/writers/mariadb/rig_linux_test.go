package mariadb

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/internal/dbtest"
	"github.com/sombra-backup/sombra/writer"
	"github.com/sombra-backup/sombra/writer/writertest"
)

// hostEnv makes this program a writer host; its value is the spec.
const hostEnv = "SOMBRA_TEST_MARIADB_HOST"

func TestMain(m *testing.M) {
	if text := os.Getenv(hostEnv); text != "" {
		if err := writertest.ServeSpec(context.Background(), Kind{}, text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// rig is a server with its writer.
type rig struct {
	t    testing.TB
	dir  string
	m    *dbtest.MariaDB
	db   *sql.DB
	conf settings // less the data directory
}

// grants is what docs/writers/mariadb.md says the account needs, and no more.
var grants = []string{
	"CREATE OR REPLACE USER 'mysql'@'localhost' IDENTIFIED VIA unix_socket",
	"GRANT RELOAD, BINLOG MONITOR, BINLOG ADMIN ON *.* TO 'mysql'@'localhost'",
}

// newRig starts a server. Options is what it needs besides a directory.
func newRig(t testing.TB, o dbtest.MariaDBOptions) *rig {
	t.Helper()
	dir, err := dbtest.Scratch("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	r := &rig{t: t, dir: dir, conf: settings{Logs: true}}
	if o.Dir == "" {
		o.Dir = filepath.Join(dir, "data")
	}
	o.RunDir = filepath.Join(dir, "run")
	if r.m, err = dbtest.StartMariaDB(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.killServer(); r.m.Close() })
	if r.db, err = r.m.DB(""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.db.Close() })
	r.sql("CREATE DATABASE d", "CREATE TABLE d.t (n BIGINT UNSIGNED PRIMARY KEY) ENGINE=InnoDB", "CREATE TABLE d.myisam (n INT) ENGINE=MyISAM",
		"CREATE TABLE d.aria (n INT) ENGINE=Aria TRANSACTIONAL=1")
	r.sql(grants...)
	return r
}

// killServer kills whoever runs on the data directory: after a restore the writer
// has started the server, and not this program.
func (r *rig) killServer() {
	if pid, err := lockedBy(r.m.Dir); err == nil && pid != 0 && pid != r.m.PID {
		syscall.Kill(pid, syscall.SIGKILL)
		r.waitGone(pid)
	}
}

func (r *rig) waitGone(pid int) {
	r.t.Helper()
	for begun := time.Now(); syscall.Kill(pid, 0) == nil; time.Sleep(10 * time.Millisecond) {
		if time.Since(begun) > 30*time.Second {
			r.t.Fatalf("process %d does not end", pid)
		}
	}
}

func (r *rig) sql(queries ...string) {
	r.t.Helper()
	for _, q := range queries {
		if _, err := r.db.Exec(q); err != nil {
			r.t.Fatalf("%s: %v", q, err)
		}
	}
}

// one asks for one value.
func (r *rig) one(query string) string {
	r.t.Helper()
	var v sql.NullString
	if err := r.db.QueryRow(query).Scan(&v); err != nil {
		r.t.Fatalf("%s: %v", query, err)
	}
	return v.String
}

// spec is what Discover gives for the server, with the rig's configuration.
func (r *rig) spec() writer.Spec {
	r.t.Helper()
	c := r.conf
	c.Datadir = r.m.Dir
	raw, err := json.Marshal(c)
	if err != nil {
		r.t.Fatal(err)
	}
	specs, err := Kind{}.Discover(r.t.Context(), writer.Discovery{Configs: []writer.Config{{Kind: KindName, Config: raw}}})
	if err != nil {
		r.t.Fatal(err)
	}
	if len(specs) != 1 {
		r.t.Fatalf("found %d writers, want 1", len(specs))
	}
	return specs[0]
}

// host starts the writer in a process of its own, as the data's owner.
func (r *rig) host(t testing.TB, s writer.Spec) (*writer.Remote, func() error, error) {
	text, err := json.Marshal(s)
	if err != nil {
		return nil, nil, err
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), hostEnv+"="+string(text))
	cmd.Stderr = os.Stderr
	if os.Geteuid() == 0 && s.Owner.UID != 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: s.Owner.UID, Gid: s.Owner.GID, Groups: s.Owner.Groups}}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	w, kill, err := writertest.Host(ctx, cmd)
	if err == nil {
		t.Cleanup(func() { kill() })
	}
	return w, kill, err
}

// load is clients that commit the numbers 1 to n without a gap, and readers.
type load struct {
	stop         chan struct{}
	wg           sync.WaitGroup
	acked, reads atomic.Uint64
	mu           sync.Mutex
	err          error
}

// startLoad begins with what is there. Each number is committed after the one
// before it was acknowledged, by one of two clients in turn; a third client writes
// to tables without transactions, and a fourth reads.
func (r *rig) startLoad() (writertest.Load, error) {
	var from uint64
	if err := r.db.QueryRow("SELECT COUNT(*) FROM d.t").Scan(&from); err != nil {
		return nil, err
	}
	l := &load{stop: make(chan struct{})}
	l.acked.Store(from)
	var clients [2]*sql.Conn
	for i := range clients {
		c, err := r.db.Conn(context.Background())
		if err != nil {
			return nil, err
		}
		clients[i] = c
	}
	next := from
	l.run(func() error {
		next++
		if _, err := clients[next%2].ExecContext(context.Background(), "INSERT INTO d.t VALUES (?)", next); err != nil {
			return err
		}
		l.acked.Store(next)
		return nil
	}, func() { clients[0].Close(); clients[1].Close() })
	l.run(func() error {
		_, err := r.db.Exec("INSERT INTO d.myisam VALUES (1)")
		if err == nil {
			_, err = r.db.Exec("INSERT INTO d.aria VALUES (1)")
		}
		return err
	}, func() {})
	l.run(func() error {
		var n int
		err := r.db.QueryRow("SELECT COUNT(*) FROM d.t WHERE n < 50").Scan(&n)
		if err == nil {
			l.reads.Add(1)
		}
		return err
	}, func() {})
	return l, nil
}

func (l *load) run(step func() error, end func()) {
	l.wg.Go(func() {
		defer end()
		for {
			select {
			case <-l.stop:
				return
			default:
			}
			if err := step(); err != nil {
				l.mu.Lock()
				l.err = errors.Join(l.err, err)
				l.mu.Unlock()
				return
			}
		}
	})
}

func (l *load) Acknowledged() uint64 { return l.acked.Load() }
func (l *load) Reads() uint64        { return l.reads.Load() }

func (l *load) Stop() error {
	close(l.stop)
	l.wg.Wait()
	return l.err
}

// check makes sure that all tables are whole, and counts.
func (r *rig) check() (uint64, error) {
	if pid, err := lockedBy(r.m.Dir); err != nil {
		return 0, err
	} else if pid == 0 {
		r.m.Kill() // it has ended; this notes it
		if err := r.m.Start(context.Background()); err != nil {
			return 0, err
		}
	}
	if err := r.m.Check(context.Background()); err != nil {
		return 0, err
	}
	var n, most uint64
	err := r.db.QueryRow("SELECT COUNT(*), COALESCE(MAX(n), 0) FROM d.t").Scan(&n, &most)
	if err == nil && n != most {
		err = fmt.Errorf("the table has %d numbers up to %d", n, most)
	}
	return n, err
}

func TestConformance(t *testing.T) {
	r := newRig(t, dbtest.MariaDBOptions{}) // one for all checks: what each leaves is a server at work
	writertest.Run(t, func(t *testing.T) *writertest.Subject { return subject(t, r) })
}

func subject(t *testing.T, r *rig) *writertest.Subject {
	t.Helper()
	w, kill, err := r.host(t, r.spec())
	if err != nil {
		t.Fatal(err)
	}
	return &writertest.Subject{
		Writer:    w,
		Kill:      kill,
		Again:     func() (writer.Writer, func() error, error) { return r.host(t, r.spec()) },
		Load:      r.startLoad,
		Block:     r.block,
		Check:     r.check,
		Truncated: r.truncated(),
	}
}

// block begins a statement on a table without transactions that does not end.
func (r *rig) block() (func(), error) {
	ctx := context.Background()
	c, err := r.db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	var id int64
	if err := c.QueryRowContext(ctx, "SELECT CONNECTION_ID()").Scan(&id); err != nil {
		return nil, err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.ExecContext(ctx, "INSERT INTO d.myisam SELECT SLEEP(300)") // it is killed
	}()
	for n := 0; n == 0; time.Sleep(time.Millisecond) {
		if err := r.db.QueryRow("SELECT COUNT(*) FROM information_schema.processlist WHERE id = ? AND state = 'User sleep'", id).Scan(&n); err != nil {
			return nil, err
		}
	}
	return func() {
		r.db.Exec("KILL CONNECTION ?", id)
		<-done
		c.Close()
	}, nil
}

// settle waits until the server needs no binary log but the newest for its own
// recovery: it notes that in the log, some time after it has begun it, and purges
// none before.
func (r *rig) settle() {
	r.t.Helper()
	for begun := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		names := r.logs()
		last := names[len(names)-1]
		rows, err := r.db.Query("SHOW BINLOG EVENTS IN '" + last + "' LIMIT 100")
		if err != nil {
			r.t.Fatal(err)
		}
		done := false
		for rows.Next() {
			var log, kind, info string
			var pos, id, end uint64
			if err := rows.Scan(&log, &pos, &kind, &id, &end, &info); err != nil {
				r.t.Fatal(err)
			}
			done = done || kind == "Binlog_checkpoint" && info == last
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			r.t.Fatal(err)
		}
		if done {
			return
		}
		if time.Since(begun) > time.Minute {
			r.t.Fatalf("the server does not let go of the logs before %s", last)
		}
	}
}

// truncated tells whether the oldest binary log is another one than when it was
// last asked. There are always closed logs that could go.
func (r *rig) truncated() func() (bool, error) {
	first := func() (string, error) {
		names, err := logNames(context.Background(), r.db)
		if err != nil || len(names) == 0 {
			return "", errors.Join(err, errors.New("no binary logs"))
		}
		return names[0], nil
	}
	r.sql("FLUSH BINARY LOGS")
	r.settle()
	before, err := first()
	return func() (bool, error) {
		now, e := first()
		if err != nil || e != nil {
			return false, errors.Join(err, e)
		}
		gone := now != before
		before = now
		r.sql("FLUSH BINARY LOGS")
		r.settle()
		return gone, nil
	}
}

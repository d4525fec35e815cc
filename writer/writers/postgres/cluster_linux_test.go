package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/sombra-backup/sombra/internal/dbtest"
	"github.com/sombra-backup/sombra/writer"
	"github.com/sombra-backup/sombra/writer/writertest"
)

// The test binary is also the writer's host, which runs as the cluster's owner.
const hostEnv = "SOMBRA_POSTGRES_TEST_SPEC"

func TestMain(m *testing.M) {
	if spec := os.Getenv(hostEnv); spec != "" {
		if err := writertest.ServeSpec(context.Background(), Kind{}, spec); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// cluster is a PostgreSQL server with a table of numbers, and its writer's
// configuration.
type cluster struct {
	*dbtest.Postgres
	t    *testing.T
	conf config
}

// newCluster starts one. It ends with the test, however often it was restarted.
func newCluster(t *testing.T, o dbtest.PostgresOptions, c config) *cluster {
	t.Helper()
	dir, err := dbtest.Scratch("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if o.Dir == "" {
		o.Dir = filepath.Join(dir, "data")
	}
	p, err := dbtest.StartPostgres(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	c.Data = o.Dir
	cl := &cluster{Postgres: p, t: t, conf: c}
	t.Cleanup(func() {
		if err := errors.Join(cl.halt(), p.Close()); err != nil {
			t.Error(err)
		}
	})
	cl.exec("CREATE TABLE ledger (n bigint PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp())")
	return cl
}

// halt stops whatever server runs in the directory: a restore starts another.
func (c *cluster) halt() error {
	for begun := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		p, err := runs(c.Dir)
		if err != nil || p == nil {
			return err
		}
		if time.Since(begun) > time.Minute {
			return fmt.Errorf("the server %d does not stop", p.pid)
		}
		syscall.Kill(p.pid, syscall.SIGCONT)
		syscall.Kill(p.pid, syscall.SIGINT)
	}
}

func (c *cluster) exec(statements ...string) {
	c.t.Helper()
	if err := c.Exec(c.t.Context(), statements...); err != nil {
		c.t.Fatal(err)
	}
}

// query gives one value as text.
func (c *cluster) query(sql string, args ...any) string {
	c.t.Helper()
	conn, err := c.Connect(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	defer conn.Close(c.t.Context())
	var out string
	if err := conn.QueryRow(c.t.Context(), sql, args...).Scan(&out); err != nil {
		c.t.Fatalf("%s: %v", sql, err)
	}
	return out
}

// spec is what Discover makes of the configuration.
func (c *cluster) spec() writer.Spec {
	c.t.Helper()
	raw, err := json.Marshal(c.conf)
	if err != nil {
		c.t.Fatal(err)
	}
	specs, err := Kind{}.Discover(c.t.Context(), writer.Discovery{Configs: []writer.Config{{Kind: KindName, Name: "the cluster", Config: raw}}})
	if err != nil || len(specs) != 1 {
		c.t.Fatalf("Discover gave %v, %v", specs, err)
	}
	return specs[0]
}

// host starts the writer in a process of the cluster's owner.
func (c *cluster) host() (*writer.Remote, func() error, error) {
	return c.hostOf(c.spec())
}

// hostOf starts the writer of a specification.
func (c *cluster) hostOf(spec writer.Spec) (*writer.Remote, func() error, error) {
	text, err := json.Marshal(spec)
	if err != nil {
		return nil, nil, err
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), hostEnv+"="+string(text), "TMPDIR=/tmp")
	cmd.Dir, cmd.Stderr = "/", os.Stderr
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: spec.Owner.UID, Gid: spec.Owner.GID, Groups: spec.Owner.Groups}}
	}
	w, kill, err := writertest.Host(c.t.Context(), cmd)
	if err == nil {
		c.t.Cleanup(func() { kill() })
	}
	return w, kill, err
}

// load is a client that commits number after number, and one that reads.
type load struct {
	acknowledged, reads atomic.Uint64
	cancel              context.CancelFunc
	wg                  sync.WaitGroup
	mu                  sync.Mutex
	err                 error
}

func (l *load) Acknowledged() uint64 { return l.acknowledged.Load() }
func (l *load) Reads() uint64        { return l.reads.Load() }

func (l *load) Stop() error {
	l.cancel()
	l.wg.Wait()
	return l.err
}

func (l *load) fail(ctx context.Context, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if ctx.Err() == nil && l.err == nil {
		l.err = err
	}
}

func (c *cluster) load() (*load, error) {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{cancel: cancel}
	var conns [2]*pgx.Conn
	for i := range conns {
		conn, err := c.Connect(ctx)
		if err != nil {
			cancel()
			return nil, err
		}
		conns[i] = conn
	}
	var n uint64
	if err := conns[0].QueryRow(ctx, "SELECT coalesce(max(n), 0) FROM ledger").Scan(&n); err != nil {
		cancel()
		return nil, err
	}
	l.acknowledged.Store(n)
	work := func(conn *pgx.Conn, f func() error) {
		l.wg.Go(func() {
			defer conn.Close(context.WithoutCancel(ctx))
			for ctx.Err() == nil {
				if err := f(); err != nil {
					l.fail(ctx, err)
					return
				}
			}
		})
	}
	work(conns[0], func() error {
		// What is asked for is waited for: its outcome must be known.
		_, err := conns[0].Exec(context.WithoutCancel(ctx), "INSERT INTO ledger (n) VALUES ($1)", l.acknowledged.Load()+1)
		if err == nil {
			l.acknowledged.Add(1)
		}
		return err
	})
	work(conns[1], func() error {
		var n uint64
		err := conns[1].QueryRow(context.WithoutCancel(ctx), "SELECT max(n) FROM ledger").Scan(&n)
		if err == nil || errors.Is(err, pgx.ErrNoRows) || strings.Contains(err.Error(), "NULL") {
			l.reads.Add(1)
			return nil
		}
		return err
	})
	return l, nil
}

// check makes sure that the ledger has no gap, and counts it.
func (c *cluster) check() (uint64, error) {
	conn, err := c.Connect(context.Background())
	if err != nil {
		return 0, err
	}
	defer conn.Close(context.Background())
	var n, most uint64
	if err := conn.QueryRow(context.Background(), "SELECT count(*), coalesce(max(n), 0) FROM ledger").Scan(&n, &most); err != nil {
		return 0, err
	}
	if n != most {
		return 0, fmt.Errorf("the ledger has %d numbers, the highest is %d", n, most)
	}
	return n, nil
}

// amcheck has PostgreSQL check all relations and indexes.
func (c *cluster) amcheck() {
	c.t.Helper()
	if out, err := c.Run(c.t.Context(), "pg_amcheck", "--install-missing", "--heapallindexed", "--parent-check", "-d", "postgres"); err != nil {
		c.t.Error(out, err)
	}
}

// slots lists what is kept for us, with the position from which.
func (c *cluster) slots() string {
	c.t.Helper()
	return c.query("SELECT coalesce(string_agg(slot_name || ' ' || restart_lsn, ', ' ORDER BY slot_name), '') FROM pg_replication_slots WHERE NOT temporary")
}

const (
	stopSignal = syscall.SIGSTOP
	goSignal   = syscall.SIGCONT
)

func signalAll(t *testing.T, pids []int, s syscall.Signal) {
	t.Helper()
	for _, pid := range pids {
		if err := syscall.Kill(pid, s); err != nil && err != syscall.ESRCH {
			t.Errorf("signal %v to process %d: %v", s, pid, err)
		}
	}
}

// likeOwner gives a directory the owner of another.
func likeOwner(info os.FileInfo, dir string) error {
	st := info.Sys().(*syscall.Stat_t)
	return os.Chown(dir, int(st.Uid), int(st.Gid))
}

// ids gives a file's owner.
func ids(info os.FileInfo) (uid, gid uint32) {
	st := info.Sys().(*syscall.Stat_t)
	return st.Uid, st.Gid
}

package sqlite

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/sombra-backup/sombra/writer"
	"github.com/sombra-backup/sombra/writer/writertest"
	"golang.org/x/sys/unix"
)

// The test binary is also the application, its readers and the writer's host:
// each is a process of its own, as locks belong to processes.
const roleEnv = "SOMBRA_SQLITE_TEST_ROLE"

var roles = map[string]func(args []string) error{
	"load":  roleLoad,
	"block": roleBlock,
	"exec":  roleExec,
	"host":  roleHost,
	"read":  roleRead,
	"crash": roleCrash,
	"hog":   roleHog,
}

func TestMain(m *testing.M) {
	if role := os.Getenv(roleEnv); role != "" {
		if err := roles[role](os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// start makes a command that plays a role.
func roleCommand(role string, args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), roleEnv+"="+role)
	cmd.Stderr = os.Stderr
	return cmd
}

// child is a running role. It ends when its standard input is closed, and says
// on standard output when it is ready.
type child struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	stderr *strings.Builder
	done   bool
}

func startChild(t testing.TB, role string, args ...string) *child {
	t.Helper()
	c := &child{cmd: roleCommand(role, args...), stderr: new(strings.Builder)}
	c.cmd.Stderr = c.stderr
	var err error
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.kill)
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		c.cmd.Wait()
		t.Fatalf("%s: %v, said %q: %s", role, err, line, c.stderr)
	}
	return c
}

func (c *child) stop() error {
	if c.done {
		return nil
	}
	c.done = true
	c.in.Close()
	if err := c.cmd.Wait(); err != nil {
		return fmt.Errorf("%w: %s", err, c.stderr)
	}
	return nil
}

func (c *child) kill() {
	if !c.done {
		c.done = true
		c.cmd.Process.Kill()
		c.cmd.Wait()
	}
}

func ready() { fmt.Println("ready") }

func untilStopped() <-chan struct{} {
	stopped := make(chan struct{})
	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(stopped)
	}()
	return stopped
}

// counters are shared between a client and the test through a file: what is
// acknowledged is seen at once.
type counters struct{ acknowledged, reads, longest atomic.Uint64 }

const countersSize = int(unsafe.Sizeof(counters{}))

func mapCounters(path string) (*counters, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := f.Truncate(int64(countersSize)); err != nil {
		return nil, err
	}
	b, err := unix.Mmap(int(f.Fd()), 0, countersSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	return (*counters)(unsafe.Pointer(&b[0])), nil
}

// retry is how long a client waits before it tries again.
const retry = 200 * time.Microsecond

func connect(path, pragmas string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", "file:"+path+"?"+pragmas)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	return db, nil
}

// roleLoad commits numbered transactions and reads, until it is stopped.
// Arguments: database, counters, pragmas.
func roleLoad(args []string) error {
	c, err := mapCounters(args[1])
	if err != nil {
		return err
	}
	db, err := connect(args[0], args[2])
	if err != nil {
		return err
	}
	reader, err := connect(args[0], "")
	if err != nil {
		return err
	}
	var n uint64
	for {
		err := db.QueryRow("SELECT coalesce(max(n), 0) FROM t").Scan(&n)
		if err == nil {
			break
		} else if !isBusy(err) {
			return err
		}
	}
	c.acknowledged.Store(n)
	stopped := untilStopped()
	failed := make(chan error, 1)
	go func() { failed <- readOn(reader, c) }()
	ready()
	for {
		select {
		case <-stopped:
			return db.Close()
		case err := <-failed:
			return err
		default:
		}
		if err := commit(db, c, n+1); err != nil {
			return err
		}
		n++
		c.acknowledged.Store(n)
	}
}

// commit commits one transaction of two rows, which belong together.
func commit(db *sql.DB, c *counters, n uint64) error {
	begun := time.Now()
	for {
		_, err := db.Exec("BEGIN IMMEDIATE")
		if err == nil {
			_, err = db.Exec("INSERT INTO t(n, v) VALUES (?, randomblob(600)); INSERT INTO u(n) VALUES (?)", n, n)
			for err == nil || isBusy(err) {
				if _, err = db.Exec("COMMIT"); err == nil {
					c.longest.Store(max(c.longest.Load(), uint64(time.Since(begun))))
					return nil
				}
				time.Sleep(retry)
			}
		}
		if !isBusy(err) {
			return fmt.Errorf("transaction %d: %w", n, err)
		}
		time.Sleep(retry)
	}
}

func readOn(db *sql.DB, c *counters) error {
	for {
		var n int
		err := db.QueryRow("SELECT count(*) FROM (SELECT 1 FROM t LIMIT 100)").Scan(&n)
		if err == nil {
			c.reads.Add(1)
		} else if !isBusy(err) {
			return fmt.Errorf("read: %w", err)
		}
		time.Sleep(time.Millisecond)
	}
}

// roleBlock holds a lock until it is stopped. Arguments: database, statements.
func roleBlock(args []string) error {
	db, err := connect(args[0], "")
	if err != nil {
		return err
	}
	for {
		if _, err := db.Exec(args[1]); err == nil {
			break
		} else if !isBusy(err) {
			return err
		}
		time.Sleep(50 * time.Microsecond)
	}
	stopped := untilStopped()
	ready()
	<-stopped
	return db.Close()
}

// roleHog holds the write lock nearly all the time. Argument: database.
func roleHog(args []string) error {
	db, err := connect(args[0], "_pragma=synchronous(OFF)")
	if err != nil {
		return err
	}
	stopped := untilStopped()
	ready()
	for {
		select {
		case <-stopped:
			return db.Close()
		default:
		}
		if _, err := db.Exec("BEGIN IMMEDIATE"); isBusy(err) {
			continue
		} else if err != nil {
			return err
		}
		time.Sleep(20 * time.Millisecond)
		if _, err := db.Exec("ROLLBACK"); err != nil {
			return err
		}
		time.Sleep(300 * time.Microsecond)
	}
}

// roleExec runs statements and prints the first column of what they give. Arguments: database,
// busy timeout in ms, statements.
func roleExec(args []string) error {
	db, err := connect(args[0], "_pragma=busy_timeout("+args[1]+")")
	if err != nil {
		return err
	}
	rows, err := db.Query(args[2])
	if err != nil {
		return err
	}
	columns, err := rows.Columns()
	if err != nil {
		return err
	}
	cells := make([]any, len(columns))
	for i := range cells {
		cells[i] = new(any)
	}
	for rows.Next() {
		if err := rows.Scan(cells...); err != nil {
			return err
		}
		fmt.Println(*cells[0].(*any))
	}
	return errors.Join(rows.Err(), db.Close())
}

// roleRead reads files, opening and closing each. Arguments: the files.
func roleRead(args []string) error {
	for _, path := range args {
		if _, err := os.ReadFile(path); err != nil {
			return err
		}
	}
	return nil
}

// roleCrash dies in the middle of a transaction, leaving a hot journal.
// Arguments: database.
func roleCrash(args []string) error {
	db, err := connect(args[0], "_pragma=cache_size(5)&_pragma=synchronous(OFF)")
	if err != nil {
		return err
	}
	_, err = db.Exec("BEGIN IMMEDIATE; UPDATE t SET v = randomblob(600); DELETE FROM u WHERE n % 2 = 0")
	if err != nil {
		return err
	}
	return unix.Kill(os.Getpid(), unix.SIGKILL)
}

// roleHost is the writer's process. Argument: the spec.
func roleHost(args []string) error {
	var spec writer.Spec
	if err := json.Unmarshal([]byte(args[0]), &spec); err != nil {
		return err
	}
	w, err := Kind{}.New(context.Background(), spec)
	if err != nil {
		return err
	}
	return writertest.Serve(context.Background(), w)
}

// app is an application's database.
type app struct {
	t    testing.TB
	dir  string
	path string
	mode string
	c    *counters
}

// newApp makes a database in the given journal mode, with some transactions.
func newApp(t testing.TB, mode string) *app {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	a := &app{t: t, dir: dir, path: filepath.Join(dir, "app.db"), mode: mode}
	if a.c, err = mapCounters(filepath.Join(t.TempDir(), "counters")); err != nil {
		t.Fatal(err)
	}
	a.exec("PRAGMA journal_mode=" + mode)
	a.exec("CREATE TABLE t(n INTEGER PRIMARY KEY, v); CREATE TABLE u(n INTEGER PRIMARY KEY)")
	a.exec("WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM s WHERE i < 200) INSERT INTO t SELECT i, randomblob(600) FROM s")
	a.exec("INSERT INTO u SELECT n FROM t")
	return a
}

// try runs statements in another process.
func (a *app) try(timeout time.Duration, statements string) (string, error) {
	cmd := roleCommand("exec", a.path, strconv.Itoa(int(timeout.Milliseconds())), statements)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, stderr.String())
	}
	return strings.TrimSpace(string(out)), nil
}

func (a *app) exec(statements string) string {
	a.t.Helper()
	out, err := a.try(10*time.Second, statements)
	if err != nil {
		a.t.Fatalf("%s: %v", statements, err)
	}
	return out
}

// refused makes sure that no other process may write now.
func (a *app) refused() {
	a.t.Helper()
	if _, err := a.try(0, "INSERT INTO u VALUES (1000000); DELETE FROM u WHERE n = 1000000"); err == nil || !strings.Contains(err.Error(), "locked") {
		a.t.Fatalf("another process's write while frozen ended with %v; it should be told that the database is locked", err)
	}
}

// pragmas are those of the clients, with the given care for power cuts.
func (a *app) pragmas(sync string) string {
	if a.mode == "wal" {
		// Checkpoints all the time, so that stillness is put to the test.
		return "_pragma=wal_autocheckpoint(5)&_pragma=synchronous(" + sync + ")"
	}
	return "_pragma=synchronous(" + sync + ")&_pragma=journal_mode(" + a.mode + ")"
}

type load struct {
	c *counters
	p *child
}

func (l load) Acknowledged() uint64 { return l.c.acknowledged.Load() }
func (l load) Reads() uint64        { return l.c.reads.Load() }
func (l load) Stop() error          { return l.p.stop() }

func (a *app) load(file, sync string) (load, error) {
	c, err := mapCounters(file)
	if err != nil {
		return load{}, err
	}
	return load{c, startChild(a.t, "load", a.path, file, a.pragmas(sync))}, nil
}

func (a *app) startLoad(sync string) load {
	a.t.Helper()
	l, err := a.load(filepath.Join(a.t.TempDir(), "counters"), sync)
	if err != nil {
		a.t.Fatal(err)
	}
	return l
}

// check is what the application makes sure of when it starts: the database is
// sound and holds transactions 1 to n, each whole.
func (a *app) check() (uint64, error) {
	out, err := a.try(10*time.Second, "PRAGMA integrity_check")
	if err != nil || out != "ok" {
		return 0, fmt.Errorf("integrity check: %s %w", out, err)
	}
	out, err = a.try(10*time.Second, `SELECT (SELECT count(*) FROM t) || ' ' || (SELECT max(n) FROM t) || ' ' ||
		(SELECT count(*) FROM u) || ' ' || (SELECT count(*) FROM t JOIN u USING (n))`)
	if err != nil {
		return 0, err
	}
	var rows, last, other, both uint64
	if _, err := fmt.Sscan(out, &rows, &last, &other, &both); err != nil {
		return 0, fmt.Errorf("%q: %w", out, err)
	}
	if rows != last || other != last || both != last {
		return 0, fmt.Errorf("transactions are not whole: %s", out)
	}
	return last, nil
}

// spec is what the kind offers for the database.
func (a *app) spec() writer.Spec {
	a.t.Helper()
	conf, _ := json.Marshal(config{Path: a.path})
	specs, err := Kind{}.Discover(context.Background(), writer.Discovery{Configs: []writer.Config{{Kind: KindName, Config: conf}}})
	if err != nil || len(specs) != 1 {
		a.t.Fatalf("Discover gives %d specs, %v", len(specs), err)
	}
	return specs[0]
}

// host starts the writer in a process of its own.
func (a *app) host() (*writer.Remote, func() error, error) {
	spec, err := json.Marshal(a.spec())
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cmd := roleCommand("host", string(spec))
	if owner := a.spec().Owner; os.Geteuid() == 0 && owner.UID != 0 {
		cmd.Path = "/proc/self/exe" // the file itself may be in a directory only root can enter
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: owner.UID, Gid: owner.GID, Groups: owner.Groups}}
	}
	w, kill, err := writertest.Host(ctx, cmd)
	if err == nil {
		a.t.Cleanup(func() { kill() })
	}
	return w, kill, err
}

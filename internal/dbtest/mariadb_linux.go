package dbtest

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/go-sql-driver/mysql"
)

// mariadbReady is the longest a server may take to accept connections, recovery
// included.
const mariadbReady = 60 * time.Second

// MariaDBOptions says how a MariaDB server is to be.
type MariaDBOptions struct {
	// Dir is the data directory, absolute. One that is missing or empty is made
	// by mariadb-install-db; one with files is started as it is.
	Dir string
	// RunDir is for socket, error log and temporary files. Empty means a
	// directory of its own for temporary files, which Close removes.
	RunDir string
	// LogBin is the base name of the binary logs, absolute or below Dir. Empty
	// means "binlog"; "-" means that there are none.
	LogBin string
	// ServerID is the server's number for replication. Zero means 1.
	ServerID int
	// Args are more options of mariadbd, such as "--innodb-lock-wait-timeout=5".
	Args []string
}

// MariaDB is a MariaDB server. Its methods are for one goroutine; the pools that
// DB gives are for several.
type MariaDB struct {
	Dir    string // the data directory
	RunDir string // where socket, log and temporary files are
	Socket string // the socket, in RunDir
	Log    string // the error log, in RunDir
	PID    int    // of mariadbd; 0 while it does not run

	// UID and GID are whom the server runs as.
	UID, GID int

	opts   MariaDBOptions
	ownRun bool
	exited chan struct{} // closed when the process is gone
}

// StartMariaDB makes the data directory if need be, and starts a server. Close
// ends it.
func StartMariaDB(ctx context.Context, o MariaDBOptions) (*MariaDB, error) {
	if !filepath.IsAbs(o.Dir) {
		return nil, fmt.Errorf("start MariaDB: data directory %q is not absolute", o.Dir)
	}
	m := &MariaDB{Dir: filepath.Clean(o.Dir), RunDir: o.RunDir, opts: o}
	if err := m.become(); err != nil {
		return nil, fmt.Errorf("start MariaDB: %w", err)
	}
	if err := m.makeRunDir(); err != nil {
		return nil, fmt.Errorf("start MariaDB: %w", err)
	}
	err := m.install(ctx)
	if err == nil {
		err = m.Start(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// become decides whom the server runs as.
func (m *MariaDB) become() error {
	m.UID, m.GID = os.Geteuid(), os.Getegid()
	if m.UID != 0 {
		return nil
	}
	u, err := user.Lookup("mysql")
	if err != nil {
		return fmt.Errorf("find the user it runs as: %w", err)
	}
	if m.UID, err = strconv.Atoi(u.Uid); err != nil {
		return err
	}
	m.GID, err = strconv.Atoi(u.Gid)
	return err
}

func (m *MariaDB) makeRunDir() error {
	var err error
	if m.RunDir == "" {
		m.ownRun = true
		m.RunDir, err = os.MkdirTemp("", "mariadb-")
	} else {
		err = os.MkdirAll(m.RunDir, 0o755)
	}
	if err != nil {
		return err
	}
	m.Socket, m.Log = filepath.Join(m.RunDir, "s.sock"), filepath.Join(m.RunDir, "error.log")
	return errors.Join(os.Chown(m.RunDir, m.UID, m.GID), os.Chmod(m.RunDir, 0o755))
}

// install makes the data directory unless there is one.
func (m *MariaDB) install(ctx context.Context) error {
	if err := os.MkdirAll(m.Dir, 0o700); err != nil {
		return err
	}
	if err := os.Chown(m.Dir, m.UID, m.GID); err != nil {
		return err
	}
	if names, err := os.ReadDir(m.Dir); err != nil || len(names) > 0 {
		return err
	}
	args := []string{"--no-defaults", "--datadir=" + m.Dir, "--tmpdir=" + m.RunDir,
		"--auth-root-authentication-method=socket", "--auth-root-socket-user=" + m.account(), "--skip-test-db", "--skip-name-resolve", "--innodb-log-file-size=16M"}
	for _, a := range m.opts.Args {
		if strings.HasPrefix(a, "--innodb-") { // where its files are, above all
			args = append(args, a)
		}
	}
	cmd := exec.CommandContext(ctx, "mariadb-install-db", args...)
	cmd.Dir = m.RunDir
	cmd.SysProcAttr = m.credential()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("mariadb-install-db in %s: %w\n%s", m.Dir, err, out)
	}
	return nil
}

// account is the name of the user the server runs as. Like Debian's packages, a
// new data directory has an administrator of that name besides root.
func (m *MariaDB) account() string {
	u, err := user.LookupId(strconv.Itoa(m.UID))
	if err != nil {
		return "mysql"
	}
	return u.Username
}

func (m *MariaDB) credential() *syscall.SysProcAttr {
	if os.Geteuid() != 0 {
		return &syscall.SysProcAttr{}
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(m.UID), Gid: uint32(m.GID)}}
}

// Command is the command line the server is started by.
func (m *MariaDB) Command() []string {
	id := m.opts.ServerID
	if id == 0 {
		id = 1
	}
	args := []string{"mariadbd", "--no-defaults", "--datadir=" + m.Dir, "--socket=" + m.Socket, "--tmpdir=" + m.RunDir,
		"--pid-file=" + filepath.Join(m.RunDir, "mariadbd.pid"), "--log-error=" + m.Log, "--skip-networking",
		"--server-id=" + strconv.Itoa(id), "--innodb-buffer-pool-size=32M", "--innodb-log-file-size=16M",
		"--innodb-flush-log-at-trx-commit=1", "--sync-binlog=1"}
	switch m.opts.LogBin {
	case "":
		args = append(args, "--log-bin=binlog")
	case "-":
	default:
		args = append(args, "--log-bin="+m.opts.LogBin)
	}
	return append(args, m.opts.Args...)
}

// Start starts the server, again after Stop or Kill, and returns when it accepts
// connections.
func (m *MariaDB) Start(ctx context.Context) error {
	if m.PID != 0 {
		return fmt.Errorf("start MariaDB: it runs as process %d", m.PID)
	}
	ctx, cancel := context.WithTimeout(ctx, mariadbReady)
	defer cancel()
	if err := m.launch(); err != nil {
		return fmt.Errorf("start MariaDB in %s: %w", m.Dir, err)
	}
	db, err := m.DB("")
	if err != nil {
		return errors.Join(err, m.Kill())
	}
	defer db.Close()
	for {
		if err = db.PingContext(ctx); err == nil {
			return nil
		}
		select {
		case <-m.exited:
			m.PID = 0
			return fmt.Errorf("start MariaDB in %s: it has ended: %s", m.Dir, m.tail())
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("start MariaDB in %s: %w: %w: %s", m.Dir, ctx.Err(), err, m.tail()), m.Kill())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// launch starts the process. It is killed when the thread that started it ends,
// so that one is kept until the process is gone.
func (m *MariaDB) launch() error {
	args := m.Command()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = m.RunDir
	cmd.SysProcAttr = m.credential()
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	cmd.SysProcAttr.Setpgid = true // keys pressed at the terminal are not for it
	started, exited := make(chan error, 1), make(chan struct{})
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(exited)
		err := cmd.Start()
		started <- err
		if err == nil {
			cmd.Wait() // how it ended stands in its log
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	m.PID, m.exited = cmd.Process.Pid, exited
	return nil
}

// tail is the end of the error log.
func (m *MariaDB) tail() []byte {
	log, err := os.ReadFile(m.Log)
	if err != nil {
		return []byte(err.Error())
	}
	return bytes.TrimSpace(log[max(0, len(log)-2000):])
}

// Stop shuts the server down in order, and returns when it is gone.
func (m *MariaDB) Stop(ctx context.Context) error { return m.end(ctx, syscall.SIGTERM) }

// Kill ends the server by SIGKILL, and returns when it is gone.
func (m *MariaDB) Kill() error { return m.end(context.Background(), syscall.SIGKILL) }

func (m *MariaDB) end(ctx context.Context, sig syscall.Signal) error {
	if m.PID == 0 {
		return nil
	}
	if err := syscall.Kill(m.PID, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("end MariaDB, process %d: %w", m.PID, err)
	}
	select {
	case <-m.exited:
	case <-ctx.Done():
		return fmt.Errorf("end MariaDB, process %d: %w", m.PID, ctx.Err())
	}
	m.PID = 0
	return nil
}

// Exited is closed when the process that was started last is gone, whoever ended
// it.
func (m *MariaDB) Exited() <-chan struct{} { return m.exited }

// Close kills the server and removes what it had for temporary files. The data
// directory stays.
func (m *MariaDB) Close() error {
	err := m.Kill()
	if m.ownRun {
		err = errors.Join(err, os.RemoveAll(m.RunDir))
	}
	return err
}

// DSN is the data source name by which the program's own user connects to a
// database as an administrator; "" is none.
func (m *MariaDB) DSN(database string) (string, error) {
	name := "root"
	if os.Geteuid() != 0 {
		u, err := user.Current()
		if err != nil {
			return "", err
		}
		name = u.Username
	}
	c := mysql.NewConfig()
	c.User, c.Net, c.Addr, c.DBName, c.Logger = name, "unix", m.Socket, database, &mysql.NopLogger{}
	return c.FormatDSN(), nil
}

// DB gives a pool of connections to a database, "" for none, as an
// administrator. The caller closes it.
func (m *MariaDB) DB(database string) (*sql.DB, error) {
	dsn, err := m.DSN(database)
	if err != nil {
		return nil, fmt.Errorf("connect to MariaDB: %w", err)
	}
	return sql.Open("mysql", dsn)
}

// Check has the server check every table, and gives what it found wrong.
func (m *MariaDB) Check(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, "mariadb-check", "--no-defaults", "--socket="+m.Socket, "--all-databases", "--check", "--extended", "--silent").CombinedOutput()
	var failed *exec.ExitError
	switch {
	case err != nil && !errors.As(err, &failed) && !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("mariadb-check: %w", err)
	case err != nil || len(bytes.TrimSpace(out)) > 0:
		return fmt.Errorf("mariadb-check: %v: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

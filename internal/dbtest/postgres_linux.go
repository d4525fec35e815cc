package dbtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// PostgresBin is the directory of PostgreSQL's programs, as Debian has it.
const PostgresBin = "/usr/lib/postgresql/15/bin"

// postgresUser owns the clusters if the caller is root, who may not run them.
const postgresUser = "postgres"

// postgresStart is the longest a server may take until it answers, crash
// recovery included.
const postgresStart = 2 * time.Minute

// PostgresOptions says which cluster to start.
type PostgresOptions struct {
	// Dir is the data directory. If it holds no cluster one is made there, with
	// checksums. The server's user must be able to reach it.
	Dir string
	// WALDir, if not empty, is where a new cluster keeps its write-ahead log:
	// pg_wal is then a link to it.
	WALDir string
	// Settings go on the server's command line, over the small ones of this
	// package, as "wal_level": "replica".
	Settings map[string]string
	// HBA, if not empty, replaces the rules of a new cluster for who may
	// connect. Else everybody who reaches the socket may.
	HBA string
	// Ident, if not empty, is the new cluster's map of users (pg_ident.conf).
	Ident string
	// Cgroup is a directory of a cgroup to start the server in; may be empty.
	Cgroup string
}

// Postgres is a PostgreSQL server that runs, or ran. Its methods are for one
// goroutine at a time, but for Connect, DSN and Alive.
type Postgres struct {
	Dir    string // data directory
	Socket string // directory of the unix socket
	Port   int    // part of the socket's name
	PID    int    // of the postmaster; 0 while stopped

	opts PostgresOptions
	log  string
	cred *syscall.Credential

	watch *watcher
	done  chan struct{} // closed when the postmaster was waited for
	err   error         // with which it ended, once done is closed
}

// StartPostgres starts a server, and returns when it answers. ctx limits the
// start alone.
func StartPostgres(ctx context.Context, o PostgresOptions) (*Postgres, error) {
	cred, err := serverUser(postgresUser)
	if err != nil {
		return nil, err
	}
	p := &Postgres{Dir: filepath.Clean(o.Dir), Port: 5432, opts: o, cred: cred}
	if _, err := os.Stat(filepath.Join(p.Dir, "PG_VERSION")); errors.Is(err, os.ErrNotExist) {
		if err := p.initdb(ctx); err != nil {
			return nil, err
		}
	}
	// A socket's path may have 107 bytes; those of tests are often longer.
	if p.Socket, err = os.MkdirTemp("", "pg-"); err != nil {
		return nil, err
	}
	p.log = filepath.Join(p.Socket, "log")
	if err := errors.Join(p.own(p.Socket), os.Chmod(p.Socket, 0o711)); err != nil {
		return nil, errors.Join(err, os.RemoveAll(p.Socket))
	}
	if err := p.Start(ctx); err != nil {
		return nil, errors.Join(err, os.RemoveAll(p.Socket))
	}
	return p, nil
}

// serverUser gives the identity that a server runs with: that of the user of
// this name if the caller is root, else the caller's own, which is nil.
func serverUser(name string) (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return nil, err
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(err1, err2); err != nil {
		return nil, fmt.Errorf("user %s: %w", name, err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

func (p *Postgres) own(path string) error {
	if p.cred == nil {
		return nil
	}
	return os.Chown(path, int(p.cred.Uid), int(p.cred.Gid))
}

// command makes one of PostgreSQL's commands, run as the server's user, with
// nothing of the caller's environment.
func (p *Postgres) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(PostgresBin, name), args...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8", "TZ=UTC"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.cred}
	return cmd
}

// Run runs one of PostgreSQL's commands, such as pg_amcheck, against the server
// and gives what it printed.
func (p *Postgres) Run(ctx context.Context, name string, args ...string) (string, error) {
	cmd := p.command(ctx, name, args...)
	cmd.Env = append(cmd.Env, "PGHOST="+p.Socket, "PGPORT="+strconv.Itoa(p.Port), "PGUSER="+postgresUser, "PGDATABASE=postgres")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s: %w: %s", name, err, bytes.TrimSpace(out))
	}
	return string(out), nil
}

func (p *Postgres) initdb(ctx context.Context) error {
	args := []string{"--no-sync", "-k", "-U", postgresUser, "-A", "trust", "-E", "UTF8", "--no-locale", "-D", p.Dir}
	for _, dir := range []string{p.Dir, p.opts.WALDir} {
		if dir == "" {
			continue
		}
		if err := errors.Join(os.MkdirAll(dir, 0o700), p.own(dir), os.Chmod(dir, 0o700)); err != nil {
			return err
		}
	}
	if p.opts.WALDir != "" {
		args = append(args, "-X", p.opts.WALDir)
	}
	if out, err := p.command(ctx, "initdb", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("make a cluster in %s: %w: %s", p.Dir, err, bytes.TrimSpace(out))
	}
	for name, text := range map[string]string{"pg_hba.conf": p.opts.HBA, "pg_ident.conf": p.opts.Ident} {
		if text == "" {
			continue
		}
		if err := os.WriteFile(filepath.Join(p.Dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return syncDirs(p.Dir, p.opts.WALDir)
}

// syncDirs makes everything on the file systems of the directories durable.
func syncDirs(dirs ...string) error {
	for _, dir := range dirs {
		if dir == "" {
			continue
		}
		f, err := os.Open(dir)
		if err != nil {
			return err
		}
		if err := errors.Join(unix.Syncfs(int(f.Fd())), f.Close()); err != nil {
			return fmt.Errorf("sync %s: %w", dir, err)
		}
	}
	return nil
}

// small are the settings of each server. What they leave alone has PostgreSQL's
// own default: fsync, full_page_writes and synchronous_commit are on.
var small = map[string]string{
	"shared_buffers":             "16MB",
	"max_connections":            "40",
	"listen_addresses":           "",
	"max_wal_size":               "256MB",
	"log_line_prefix":            "%m [%p] ",
	"log_checkpoints":            "off",
	"unix_socket_permissions":    "0777",
	"dynamic_shared_memory_type": "posix",
}

// Start starts the server again and returns when it answers.
func (p *Postgres) Start(ctx context.Context) error {
	if p.PID != 0 {
		return fmt.Errorf("the server of %s runs already", p.Dir)
	}
	args := []string{"-D", p.Dir, "-k", p.Socket, "-p", strconv.Itoa(p.Port)}
	for _, settings := range []map[string]string{small, p.opts.Settings} {
		for k, v := range settings {
			args = append(args, "-c", k+"="+v)
		}
	}
	logFile, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer logFile.Close()
	cmd := p.command(context.WithoutCancel(ctx), "postgres", args...)
	cmd.Stdout, cmd.Stderr = logFile, logFile
	// Of a group of its own, so that a key pressed at the tests' terminal does
	// not stop it in their midst.
	cmd.SysProcAttr.Setpgid = true
	if p.opts.Cgroup != "" {
		dir, err := os.Open(p.opts.Cgroup)
		if err != nil {
			return err
		}
		defer dir.Close()
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(dir.Fd())
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start postgres: %w", err)
	}
	p.run(cmd)
	if p.watch, err = watchOver(cmd.Process.Pid, p.Socket); err != nil {
		return errors.Join(err, p.Kill())
	}
	if err := p.await(ctx); err != nil {
		return errors.Join(fmt.Errorf("the server of %s does not answer: %w; it said:\n%s", p.Dir, err, p.Log()), p.Kill())
	}
	return nil
}

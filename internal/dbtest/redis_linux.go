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
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/sombra-backup/sombra/writer/writers/redis/resp"
	"golang.org/x/sys/unix"
)

// RedisBin is the server's program, as Debian has it.
const RedisBin = "/usr/bin/redis-server"

// redisUser owns the data if the caller is root.
const redisUser = "redis"

// redisStart is the longest a server may take until it answers, which it does
// when its data is loaded.
const redisStart = time.Minute

// RedisOptions says which server to start.
type RedisOptions struct {
	// Dir is the directory of the data. It is made if it is not there. The
	// server's user must be able to reach it.
	Dir string
	// AppendOnly keeps an append-only file, synced each second (appendfsync
	// everysec), the default of who turns it on.
	AppendOnly bool
	// Password is that of the default user (requirepass); may be empty.
	Password string
	// Hidden gives the server a capability, as units do with AmbientCapabilities=:
	// the kernel then shows its working directory, program and descriptors to root
	// alone, as it does with PrivateUsers=. The caller is root; the server is
	// nobody's, so that no other server of a test is mistaken for it.
	Hidden bool
	// Lines are further lines of the configuration file, such as
	// "appendfsync always" or `save ""`, over those before.
	Lines []string
}

// Redis is a Redis server. Its methods are for one goroutine at a time, but for
// Dial and Do.
type Redis struct {
	Dir    string // of the data
	Socket string // path of the unix socket
	Config string // path of the configuration file
	Log    string // path of the server's log
	PID    int    // 0 while it does not run

	// UID and GID are whom the server runs as.
	UID, GID int

	opts   RedisOptions
	home   string        // of socket, configuration and log
	exited chan struct{} // closed when the process is gone
}

// StartRedis starts a server, and returns when it answers. ctx limits the start
// alone. It listens on a unix socket only. Close ends it.
func StartRedis(ctx context.Context, o RedisOptions) (*Redis, error) {
	r := &Redis{Dir: filepath.Clean(o.Dir), opts: o}
	err := errors.Join(r.become(), os.MkdirAll(r.Dir, 0o750))
	if err == nil {
		err = r.own(r.Dir)
	}
	if err != nil {
		return nil, fmt.Errorf("start Redis: %w", err)
	}
	// A socket's path may have 107 bytes; those of tests are often longer.
	if r.home, err = Scratch(""); err != nil {
		return nil, err
	}
	r.Socket, r.Config, r.Log = filepath.Join(r.home, "redis.sock"), filepath.Join(r.home, "redis.conf"), filepath.Join(r.home, "log")
	err = errors.Join(r.own(r.home), r.configure())
	if err == nil {
		err = r.Start(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// become decides whom the server runs as.
func (r *Redis) become() error {
	r.UID, r.GID = os.Geteuid(), os.Getegid()
	if r.UID != 0 {
		return nil
	}
	name := redisUser
	if r.opts.Hidden {
		name = "nobody"
	}
	u, err := user.Lookup(name)
	if err != nil {
		return fmt.Errorf("find the user it runs as: %w", err)
	}
	if r.UID, err = strconv.Atoi(u.Uid); err != nil {
		return err
	}
	r.GID, err = strconv.Atoi(u.Gid)
	return err
}

func (r *Redis) own(path string) error { return os.Chown(path, r.UID, r.GID) }

// configure writes the configuration file. What it leaves alone has the default
// that Debian's file has too.
func (r *Redis) configure() error {
	lines := []string{
		"port 0", "unixsocket " + r.Socket, "unixsocketperm 777",
		"daemonize no", "logfile " + r.Log, "dir " + r.Dir,
	}
	if r.opts.AppendOnly {
		lines = append(lines, "appendonly yes")
	}
	if r.opts.Password != "" {
		lines = append(lines, "requirepass "+r.opts.Password)
	}
	lines = append(lines, r.opts.Lines...)
	err := os.WriteFile(r.Config, []byte(strings.Join(lines, "\n")+"\n"), 0o640)
	return errors.Join(err, r.own(r.Config))
}

// Start starts the server again and returns when it answers.
func (r *Redis) Start(ctx context.Context) error {
	if r.PID != 0 {
		return fmt.Errorf("start Redis: it runs as process %d", r.PID)
	}
	if err := r.launch(); err != nil {
		return fmt.Errorf("start Redis: %w", err)
	}
	if err := r.await(ctx); err != nil {
		return errors.Join(fmt.Errorf("start Redis in %s: %w; it said:\n%s", r.Dir, err, r.tail()), r.Kill())
	}
	return nil
}

// launch starts the process. It is killed when the thread that started it ends,
// so that one is kept until the process is gone.
func (r *Redis) launch() error {
	cmd := exec.Command(RedisBin, r.Config)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8", "TZ=UTC"}
	// Of a group of its own, so that keys pressed at the terminal are not for it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(r.UID), Gid: uint32(r.GID)}
	}
	if r.opts.Hidden {
		cmd.SysProcAttr.AmbientCaps = []uintptr{unix.CAP_NET_BIND_SERVICE}
	}
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
	r.PID, r.exited = cmd.Process.Pid, exited
	return nil
}

// await waits until the server answers.
func (r *Redis) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, redisStart)
	defer cancel()
	for {
		_, err := r.Do(ctx, "PING")
		if err == nil {
			return nil
		}
		select {
		case <-r.exited:
			return errors.New("it has ended")
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// Exited is closed when the process that was started last is gone.
func (r *Redis) Exited() <-chan struct{} { return r.exited }

// Stop stops the server as systemd does: with SIGTERM, upon which it saves its
// data, if it has save points, and ends.
func (r *Redis) Stop(ctx context.Context) error { return r.end(ctx, syscall.SIGTERM) }

// Kill ends the server and its children by SIGKILL, and returns when it is gone.
func (r *Redis) Kill() error { return r.end(context.Background(), syscall.SIGKILL) }

func (r *Redis) end(ctx context.Context, signal syscall.Signal) error {
	if r.PID == 0 {
		return nil
	}
	pid := r.PID
	if signal == syscall.SIGKILL {
		pid = -pid // with a child that saves
	}
	if err := syscall.Kill(pid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("end Redis in %s: %w", r.Dir, err)
	}
	select {
	case <-r.exited:
	case <-ctx.Done():
		return fmt.Errorf("end Redis in %s: process %d is still there: %w", r.Dir, r.PID, context.Cause(ctx))
	}
	r.PID = 0
	return nil
}

// Close kills the server if it runs and removes what StartRedis made beside the
// data.
func (r *Redis) Close() error { return errors.Join(r.Kill(), os.RemoveAll(r.home)) }

// tail is the end of the server's log.
func (r *Redis) tail() []byte {
	log, err := os.ReadFile(r.Log)
	if err != nil {
		return []byte(err.Error())
	}
	return bytes.TrimSpace(log[max(0, len(log)-2000):])
}

// Dial makes a connection of a client.
func (r *Redis) Dial(ctx context.Context) (*resp.Conn, error) {
	c, err := resp.Dial(ctx, "unix", r.Socket)
	if err != nil || r.opts.Password == "" {
		return c, err
	}
	if _, err := c.Do(ctx, "AUTH", r.opts.Password); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// Do sends one command over a connection of its own.
func (r *Redis) Do(ctx context.Context, command string, args ...string) (resp.Reply, error) {
	c, err := r.Dial(ctx)
	if err != nil {
		return resp.Reply{}, err
	}
	defer c.Close()
	return c.Do(ctx, command, args...)
}

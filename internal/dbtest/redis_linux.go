package dbtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
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
	// Lines are further lines of the configuration file, such as
	// "appendfsync always" or `save ""`, over those before.
	Lines []string
}

// Redis is a Redis server that runs, or ran. Its methods are for one goroutine at
// a time, but for Dial, Do and Alive.
type Redis struct {
	Dir    string // of the data
	Socket string // path of the unix socket
	Config string // path of the configuration file
	PID    int    // 0 while stopped

	opts RedisOptions
	home string // of socket, configuration and log
	cred *syscall.Credential

	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{} // closed when the server was waited for
	err  error         // with which it ended
}

// StartRedis starts a server, and returns when it answers. ctx limits the start
// alone. It listens on a unix socket only.
func StartRedis(ctx context.Context, o RedisOptions) (*Redis, error) {
	cred, err := redisCredential()
	if err != nil {
		return nil, err
	}
	r := &Redis{Dir: filepath.Clean(o.Dir), opts: o, cred: cred}
	if err := errors.Join(os.MkdirAll(r.Dir, 0o750), r.own(r.Dir)); err != nil {
		return nil, err
	}
	// A socket's path may have 107 bytes; those of tests are often longer.
	if r.home, err = os.MkdirTemp("", "redis-"); err != nil {
		return nil, err
	}
	r.Socket, r.Config = filepath.Join(r.home, "redis.sock"), filepath.Join(r.home, "redis.conf")
	err = errors.Join(r.own(r.home), os.Chmod(r.home, 0o711), r.configure())
	if err == nil {
		err = r.Start(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(r.home))
	}
	return r, nil
}

// redisCredential gives the identity that a server runs with: the user redis if
// the caller is root, else the caller's own, which is nil.
func redisCredential() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup(redisUser)
	if err != nil {
		return nil, err
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(err1, err2); err != nil {
		return nil, fmt.Errorf("user %s: %w", redisUser, err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

func (r *Redis) own(path string) error {
	if r.cred == nil {
		return nil
	}
	return os.Chown(path, int(r.cred.Uid), int(r.cred.Gid))
}

// configure writes the configuration file. What it leaves alone has the default
// that Debian's file has too.
func (r *Redis) configure() error {
	lines := []string{
		"port 0", "unixsocket " + r.Socket, "unixsocketperm 777",
		"daemonize no", "logfile " + filepath.Join(r.home, "log"), "dir " + r.Dir,
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
		return fmt.Errorf("the server of %s runs already", r.Dir)
	}
	cmd := exec.Command(RedisBin, r.Config)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8", "TZ=UTC"}
	// Of a group of its own, so that a key pressed at the tests' terminal does
	// not stop it in their midst.
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: r.cred, Setpgid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start redis-server: %w", err)
	}
	done := make(chan struct{})
	r.mu.Lock()
	r.cmd, r.done, r.err, r.PID = cmd, done, nil, cmd.Process.Pid
	r.mu.Unlock()
	go func() {
		err := cmd.Wait()
		r.mu.Lock()
		r.err = err
		r.mu.Unlock()
		close(done)
	}()
	if err := r.await(ctx); err != nil {
		return errors.Join(fmt.Errorf("the server of %s does not answer: %w; it said:\n%s", r.Dir, err, r.Log()), r.Kill())
	}
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
		case <-r.done:
			return fmt.Errorf("it has ended: %w", r.ended())
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (r *Redis) ended() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// Alive reports whether the process that Start started is there.
func (r *Redis) Alive() bool {
	r.mu.Lock()
	done := r.done
	r.mu.Unlock()
	select {
	case <-done:
		return false
	default:
		return true
	}
}

// Stop stops the server as systemd does: with SIGTERM, upon which it saves its
// data, if it has save points, and ends. Stopping what does not run does nothing.
func (r *Redis) Stop() error { return r.end(unix.SIGTERM) }

// Kill ends the server and its children at once (SIGKILL).
func (r *Redis) Kill() error { return r.end(unix.SIGKILL) }

func (r *Redis) end(signal unix.Signal) error {
	if r.PID == 0 {
		return nil
	}
	pid := r.PID
	if signal == unix.SIGKILL {
		pid = -pid // with a child that saves
	}
	if err := unix.Kill(pid, signal); err != nil && r.Alive() {
		return fmt.Errorf("end the server of %s: %w", r.Dir, err)
	}
	select {
	case <-r.done:
	case <-time.After(redisStart):
		return fmt.Errorf("the server of %s (process %d) did not end within %v of %v", r.Dir, r.PID, redisStart, signal)
	}
	r.PID = 0
	return nil
}

// Close kills the server if it runs and removes what StartRedis made beside the
// data.
func (r *Redis) Close() error { return errors.Join(r.Kill(), os.RemoveAll(r.home)) }

// Log gives what the server wrote to its log.
func (r *Redis) Log() string {
	b, err := os.ReadFile(filepath.Join(r.home, "log"))
	if err != nil {
		return err.Error()
	}
	return string(b)
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

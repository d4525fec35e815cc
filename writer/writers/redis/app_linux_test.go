package redis

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/internal/dbtest"
	"github.com/sombra-backup/sombra/writer"
	"github.com/sombra-backup/sombra/writer/writers/redis/resp"
	"github.com/sombra-backup/sombra/writer/writertest"
)

// The test binary is also the writer's host, which runs as the server's user.
const roleEnv = "SOMBRA_REDIS_TEST_SPEC"

func TestMain(m *testing.M) {
	if spec := os.Getenv(roleEnv); spec != "" {
		if err := writertest.ServeSpec(context.Background(), Kind{}, spec); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// app is an application with its data in a server of its own.
type app struct {
	t testing.TB
	*dbtest.Redis
	acknowledged atomic.Uint64
	passwordFile string
	hosts        []*exec.Cmd
}

// stopHosts stops the writers' processes, as a hang would; they are killed at the
// end.
func (a *app) stopHosts() error {
	var errs []error
	for _, h := range a.hosts {
		if err := h.Process.Signal(syscall.SIGSTOP); err != nil && !errors.Is(err, os.ErrProcessDone) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func scratch(t testing.TB) string {
	t.Helper()
	dir, err := dbtest.Scratch("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func newApp(t testing.TB, o dbtest.RedisOptions) *app {
	t.Helper()
	if o.Dir == "" {
		o.Dir = filepath.Join(scratch(t), "data")
	}
	r, err := dbtest.StartRedis(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	a := &app{t: t, Redis: r}
	if o.Password != "" {
		a.passwordFile = filepath.Join(scratch(t), "password")
		err := os.WriteFile(a.passwordFile, []byte(o.Password+"\n"), 0o400)
		if err := errors.Join(err, os.Chown(a.passwordFile, r.UID, r.GID)); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if err := errors.Join(a.end("NOSAVE"), r.Close()); err != nil {
			t.Error(err)
		}
	})
	for range 200 {
		if err := a.commit(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	return a
}

// end ends whatever server has the socket: a restore may have started another.
func (a *app) end(how ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	c, err := a.Dial(ctx)
	if err != nil {
		return nil // nobody listens
	}
	defer c.Close()
	var refused resp.Error
	if _, err := c.Do(ctx, "SHUTDOWN", how...); errors.As(err, &refused) {
		return err
	}
	for {
		c, err := a.Dial(ctx)
		if err != nil {
			return a.Stop(ctx)
		}
		c.Close()
		time.Sleep(time.Millisecond)
	}
}

// commit commits one transaction of two writes, which belong together.
func (a *app) commit(ctx context.Context, c *resp.Conn) error {
	if c == nil {
		var err error
		if c, err = a.Dial(ctx); err != nil {
			return err
		}
		defer c.Close()
	}
	n := strconv.FormatUint(a.acknowledged.Load()+1, 10)
	for _, command := range [][]string{{"MULTI"}, {"SET", "t:" + n, n}, {"SADD", "u", n}, {"EXEC"}} {
		if _, err := c.Do(ctx, command[0], command[1:]...); err != nil {
			return err
		}
	}
	a.acknowledged.Add(1)
	return nil
}

// load is one client that commits and one that reads.
type load struct {
	a     *app
	reads atomic.Uint64
	stop  chan struct{}
	wg    sync.WaitGroup
	mu    sync.Mutex
	err   error
}

func (a *app) load() (writertest.Load, error) {
	l := &load{a: a, stop: make(chan struct{})}
	l.client(a.commit)
	l.client(func(ctx context.Context, c *resp.Conn) error {
		if _, err := c.Do(ctx, "GET", "t:1"); err != nil {
			return err
		}
		l.reads.Add(1)
		time.Sleep(time.Millisecond)
		return nil
	})
	return l, nil
}

// client runs a client until it is stopped. What it has begun it ends.
func (l *load) client(do func(context.Context, *resp.Conn) error) {
	l.wg.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		c, err := l.a.Dial(ctx)
		for err == nil {
			select {
			case <-l.stop:
				c.Close()
				return
			default:
				err = do(ctx, c)
			}
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.err = errors.Join(l.err, err)
	})
}

func (l *load) Acknowledged() uint64 { return l.a.acknowledged.Load() }
func (l *load) Reads() uint64        { return l.reads.Load() }
func (l *load) Stop() error {
	close(l.stop)
	l.wg.Wait()
	return l.err
}

// check starts the server again and counts what it holds.
func (a *app) check() (uint64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := a.end(); err != nil {
		return 0, err
	}
	if err := a.Start(ctx); err != nil {
		return 0, err
	}
	n, err := a.count(ctx)
	if err == nil {
		a.acknowledged.Store(n)
	}
	return n, err
}

// count makes sure that transactions 1 to n are there, each whole.
func (a *app) count(ctx context.Context) (uint64, error) {
	size, err1 := a.Do(ctx, "DBSIZE")
	members, err2 := a.Do(ctx, "SCARD", "u")
	if err := errors.Join(err1, err2); err != nil {
		return 0, err
	}
	n := members.Int
	if n == 0 && size.Int == 0 {
		return 0, nil
	}
	last, err := a.Do(ctx, "GET", "t:"+strconv.FormatInt(n, 10))
	if err != nil {
		return 0, err
	}
	if size.Int != n+1 || last.Text != strconv.FormatInt(n, 10) {
		return 0, fmt.Errorf("%d keys, %d members, the last key holds %q", size.Int, n, last.Text)
	}
	return uint64(n), nil
}

// configured is the configuration that names the server by its socket.
func (a *app) configured() config {
	return config{Socket: a.Socket, PasswordFile: a.passwordFile, SaveLimit: "30s"}
}

// spec is what the kind offers for a configuration.
func (a *app) spec(c config) writer.Spec {
	a.t.Helper()
	raw, err := json.Marshal(c)
	if err != nil {
		a.t.Fatal(err)
	}
	specs, err := Kind{}.Discover(context.Background(), writer.Discovery{Configs: []writer.Config{{Kind: KindName, Config: raw}}})
	if err != nil || len(specs) != 1 {
		a.t.Fatalf("Discover gives %d specs, %v", len(specs), err)
	}
	return specs[0]
}

// host starts a writer in a process of its own, as the server's user.
func (a *app) host(spec writer.Spec) (*writer.Remote, func() error, error) {
	text, err := json.Marshal(spec)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleEnv+"="+string(text))
	cmd.Stderr = os.Stderr
	if o := spec.Owner; os.Geteuid() == 0 && o.UID != 0 {
		cmd.Path = "/proc/self/exe" // the file itself may be in a directory only root can enter
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: o.UID, Gid: o.GID, Groups: o.Groups}}
	}
	w, kill, err := writertest.Host(ctx, cmd)
	if err == nil {
		a.hosts = append(a.hosts, cmd)
		a.t.Cleanup(func() { kill() })
	}
	return w, kill, err
}

package etcd

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
	"github.com/sombra-backup/sombra/writer/writertest"
)

// The test binary is also the writer's host, which runs as the server's user.
const roleEnv = "SOMBRA_ETCD_TEST_SPEC"

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
	*dbtest.Etcd
	acknowledged atomic.Uint64
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

func newApp(t testing.TB, o dbtest.EtcdOptions) *app {
	t.Helper()
	if _, err := os.Stat(dbtest.EtcdBin); err != nil {
		t.Skipf("NOT TESTED: etcd is not installed (scripts/install-test-deps): %v", err)
	}
	if o.Dir == "" {
		o.Dir = filepath.Join(scratch(t), "data")
	}
	e, err := dbtest.StartEtcd(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	a := &app{t: t, Etcd: e}
	t.Cleanup(func() {
		if err := errors.Join(a.end(), e.Close()); err != nil {
			t.Error(err)
		}
	})
	if len(o.Cluster) < 2 {
		a.commits(50)
	}
	return a
}

func (a *app) commits(n int) {
	a.t.Helper()
	for range n {
		if err := a.commit(a.t.Context()); err != nil {
			a.t.Fatal(err)
		}
	}
}

// end ends whatever server has the data: a restore may have started another.
func (a *app) end() error {
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		pid, err := runningIn(a.Dir)
		if err != nil || pid == 0 {
			return errors.Join(err, a.Kill())
		}
		syscall.Kill(pid, syscall.SIGKILL)
		if time.Now().After(deadline) {
			return fmt.Errorf("process %d does not end", pid)
		}
	}
}

// commit commits one transaction of two writes, which belong together.
func (a *app) commit(ctx context.Context) error {
	n := strconv.FormatUint(a.acknowledged.Load()+1, 10)
	put := func(key string) map[string]any {
		return map[string]any{"request_put": map[string]any{"key": []byte(key), "value": []byte(n)}}
	}
	if err := a.Do(ctx, "/v3/kv/txn", map[string]any{"success": []any{put("t/" + n), put("last")}}, nil); err != nil {
		return err
	}
	a.acknowledged.Add(1)
	return nil
}

// load is a client that commits and one that reads.
type load struct {
	a     *app
	stop  context.CancelFunc
	reads atomic.Uint64
	wg    sync.WaitGroup
	mu    sync.Mutex
	err   error
}

func (a *app) load() (writertest.Load, error) {
	if pid, err := runningIn(a.Dir); err != nil {
		return nil, err
	} else if pid == 0 {
		if err := errors.Join(a.end(), a.Start(context.Background())); err != nil {
			return nil, err
		}
	}
	ctx, stop := context.WithCancel(context.Background())
	l := &load{a: a, stop: stop}
	l.wg.Go(func() {
		for ctx.Err() == nil {
			if err := a.commit(context.Background()); err != nil {
				l.failed(err)
				return
			}
		}
	})
	l.wg.Go(func() {
		for ctx.Err() == nil {
			if _, _, err := a.Get(context.Background(), "last"); err != nil {
				l.failed(err)
				return
			}
			l.reads.Add(1)
		}
	})
	return l, nil
}

func (l *load) failed(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = errors.Join(l.err, err)
}

func (l *load) Acknowledged() uint64 { return l.a.acknowledged.Load() }
func (l *load) Reads() uint64        { return l.reads.Load() }
func (l *load) Stop() error {
	l.stop()
	l.wg.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// check starts a server on the data, as after a power cut, and makes sure that it
// holds transactions 1 to n, each whole.
func (a *app) check() (uint64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := errors.Join(a.end(), a.Start(ctx)); err != nil {
		return 0, err
	}
	n, err := a.holds(ctx)
	if err != nil {
		return 0, err
	}
	// The server goes on from what it holds.
	a.acknowledged.Store(n)
	return n, nil
}

func (a *app) holds(ctx context.Context) (uint64, error) {
	last, ok, err := a.Get(ctx, "last")
	if err != nil || !ok {
		return 0, fmt.Errorf("there is no last transaction: %w", err)
	}
	n, err := strconv.ParseUint(last, 10, 64)
	if err != nil {
		return 0, err
	}
	var r struct {
		Count uint64 `json:"count,string"`
	}
	err = a.Do(ctx, "/v3/kv/range", map[string]any{"key": []byte("t/"), "range_end": []byte("t0"), "count_only": true}, &r)
	if err == nil && r.Count != n {
		err = fmt.Errorf("%d transactions are there and the last is %d", r.Count, n)
	}
	return n, err
}

// spec is what the kind finds.
func (a *app) spec(d writer.Discovery) writer.Spec {
	a.t.Helper()
	specs, err := Kind{}.Discover(context.Background(), d)
	if err != nil || len(specs) != 1 {
		a.t.Fatalf("Discover gives %d specs, %v", len(specs), err)
	}
	return specs[0]
}

func (a *app) found() writer.Discovery { return writer.Discovery{Auto: true, Paths: []string{a.Dir}} }

func (a *app) configured(more string) writer.Discovery {
	return writer.Discovery{Configs: []writer.Config{{Kind: KindName, Config: json.RawMessage(fmt.Sprintf(`{"directory": %q%s}`, a.Dir, more))}}}
}

// host starts the writer in a process of its own.
func (a *app) host(s writer.Spec) (*writer.Remote, func() error, error) {
	text, err := json.Marshal(s)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env, cmd.Dir, cmd.Stderr = []string{"PATH=/usr/bin:/bin", roleEnv + "=" + string(text)}, "/", os.Stderr
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: s.Owner.UID, Gid: s.Owner.GID, Groups: s.Owner.Groups}}
	}
	w, kill, err := writertest.Host(ctx, cmd)
	if err == nil {
		a.t.Cleanup(func() { kill() })
	}
	return w, kill, err
}

package host

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// The test program is also what it starts: hosts, and a program that owns a
// host and is killed. The first argument says which.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "host":
			os.Exit(Main(context.Background(), []writer.Kind{mirror{}, locks{}, fickle{}, asks{}}))
		case "silent":
			time.Sleep(time.Minute)
			os.Exit(0)
		case "owner":
			if err := ownerRole(os.Args[2]); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
		}
	}
	os.Exit(m.Run())
}

// identity is what a host's process looks like from within.
type identity struct {
	UID, GID int
	Groups   []int
	Umask    int
	Dir      string
	Env      []string
	Status   map[string]string // of /proc/self/status
	Session  int
	PID      int
	Files    map[string]string // descriptors, without those of the runtime
	Core     uint64
	// Dies: a command started from here can be ended by SIGTERM.
	Dies bool
}

// mirror is a kind that makes no writers: its error is the host's identity.
type mirror struct{ locks }

func (mirror) Name() string { return "mirror" }

func (mirror) New(context.Context, writer.Spec) (writer.Writer, error) {
	id := identity{UID: os.Getuid(), GID: os.Getgid(), Env: os.Environ(), PID: os.Getpid(),
		Status: map[string]string{}, Files: map[string]string{}}
	id.Groups, _ = os.Getgroups()
	id.Umask = unix.Umask(0o077)
	id.Dir, _ = os.Getwd()
	b, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(line, ":")
		id.Status[name] = strings.TrimSpace(value)
	}
	id.Session, _ = unix.Getsid(0)
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil, err
	}
	for _, fd := range fds {
		target, err := os.Readlink("/proc/self/fd/" + fd.Name())
		if err == nil && !strings.HasPrefix(target, "anon_inode:") {
			id.Files[fd.Name()] = target
		}
	}
	var core unix.Rlimit
	_ = unix.Getrlimit(unix.RLIMIT_CORE, &core)
	id.Core = core.Cur
	var exit *exec.ExitError
	if errors.As(exec.Command("/bin/sh", "-c", "kill -TERM $$; exit 0").Run(), &exit) {
		id.Dies = exit.Sys().(syscall.WaitStatus).Signaled()
	}
	text, err := json.Marshal(id)
	if err != nil {
		return nil, err
	}
	return nil, errors.New(string(text))
}

// locks is a kind whose writers lock a file in Freeze: the configuration is
// its name.
type locks struct{}

func (locks) Name() string { return "locks" }
func (locks) Class() vss.GUID {
	return vss.GUID{0xb3, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}
}
func (locks) Discover(context.Context, writer.Discovery) ([]writer.Spec, error) { return nil, nil }

func (locks) New(_ context.Context, s writer.Spec) (writer.Writer, error) {
	var name string
	if err := json.Unmarshal(s.Config, &name); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return &lockWriter{f: f, name: s.Name}, nil
}

type lockWriter struct {
	f    *os.File
	name string
}

func (w *lockWriter) Describe() writer.Description { return writer.Description{} }

func (w *lockWriter) Identify(context.Context) (*metadata.WriterMetadata, error) {
	return nil, errors.New("not asked for in these tests")
}

func (w *lockWriter) Freeze(context.Context, *writer.Event) error {
	return unix.Flock(int(w.f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
}

func (w *lockWriter) Thaw(context.Context, *writer.Event) error {
	return unix.Flock(int(w.f.Fd()), unix.LOCK_UN)
}

func (w *lockWriter) Abort(ctx context.Context, _ *writer.Event) error {
	if w.name == "hangs in Abort" {
		select {}
	}
	if err := os.WriteFile(w.f.Name()+".aborted", nil, 0o600); err != nil {
		return err
	}
	return w.Thaw(ctx, nil)
}

// fickle is a kind that does what the configuration says instead of making a
// writer.
type fickle struct{ locks }

func (fickle) Name() string { return "fickle" }

func (fickle) New(ctx context.Context, s writer.Spec) (writer.Writer, error) {
	var what string
	if err := json.Unmarshal(s.Config, &what); err != nil {
		return nil, err
	}
	switch what {
	case "not mine":
		return nil, fmt.Errorf("%s: %w", s.Name, writer.ErrNotMine)
	case "veto":
		return nil, vss.Errorf(vss.ErrWriterErrorRetryable, "open", s.Name, "come again")
	case "panic":
		panic("in New")
	case "exit":
		os.Exit(3)
	case "hang":
		select {}
	case "nil":
		return nil, nil
	case "meet":
		return &lockWriter{name: s.Name}, meet(ctx)
	}
	return locks{}.New(ctx, s)
}

// party is how many meet, and met counts who has come.
const party = 16

var met atomic.Int32

// meet returns when all of the party are being made at the same time.
func meet(ctx context.Context) error {
	met.Add(1)
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for met.Load() < party {
		select {
		case <-ctx.Done():
			return fmt.Errorf("alone with %d of %d: %w", met.Load(), party, ctx.Err())
		case <-time.After(time.Millisecond):
		}
	}
	return nil
}

// me is the owner that this process can start hosts for in any case.
func me() writer.Owner {
	return writer.Owner{UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}
}

func spec(kind, name string, o writer.Owner, config string) writer.Spec {
	b, _ := json.Marshal(config)
	return writer.Spec{Kind: kind, Name: name, Owner: o, Config: b}
}

// start starts a host that ends with the test.
func start(t *testing.T, specs ...writer.Spec) *Host {
	t.Helper()
	h, err := Start(t.Context(), Options{Args: []string{"host"}, Stderr: os.Stderr}, specs)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(context.Background()); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return h
}

// lockFile makes a file to lock.
func lockFile(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "lock")
	if err := os.WriteFile(name, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	return name
}

// isLocked reports whether somebody has locked a file.
func isLocked(t *testing.T, name string) bool {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err != nil && err != unix.EWOULDBLOCK {
		t.Fatal(err)
	}
	return err != nil
}

// within is the time in which whatever is held must be free again.
const within = time.Second

func mustBeFree(t *testing.T, name, when string) {
	t.Helper()
	for end := time.Now().Add(within); isLocked(t, name); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("still locked %v %s", within, when)
		}
	}
}

func event() *writer.Event { return &writer.Event{SessionID: vss.NewGUID()} }

// freeze freezes a host's only writer.
func freeze(t *testing.T, h *Host, file string) {
	t.Helper()
	if len(h.Writers()) != 1 {
		t.Fatalf("%d writers, errors %v; want one", len(h.Writers()), h.Errors())
	}
	if err := h.Writers()[0].Freeze(t.Context(), event()); err != nil {
		t.Fatal(err)
	}
	if !isLocked(t, file) {
		t.Fatal("not locked after Freeze")
	}
}

// ownerRole starts a host, freezes its writer, and waits to be killed.
func ownerRole(file string) error {
	signal.Ignore(syscall.SIGINT)
	h, err := Start(context.Background(), Options{Args: []string{"host"}}, []writer.Spec{spec("locks", "w", me(), file)})
	if err != nil {
		return err
	}
	if err := h.Writers()[0].Freeze(context.Background(), event()); err != nil {
		return err
	}
	fmt.Println("ready", h.PID())
	select {}
}

// startOwner starts a process that owns a host with a frozen writer.
func startOwner(t *testing.T, file string) (cmd *exec.Cmd, hostPID int) {
	t.Helper()
	cmd = exec.Command("/proc/self/exe", "owner", file)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		// The host ends by itself then, and may still have files in the test's directory.
		for end := time.Now().Add(10 * time.Second); hostPID != 0 && syscall.Kill(hostPID, 0) == nil && time.Now().Before(end); {
			time.Sleep(5 * time.Millisecond)
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	hostPID, err = strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(line, "ready ")))
	if err != nil {
		t.Fatal(err)
	}
	return cmd, hostPID
}

package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	osignal "os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/session/coordinator/host"
	units "github.com/sombra-backup/sombra/session/coordinator/systemd"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
	"github.com/sombra-backup/sombra/writer/writers/systemd"
	"github.com/sombra-backup/sombra/writer/writertest"
)

// TestUnitWriterPassesTheSuite runs the conformance suite of writers in a host that
// systemd runs, with a service that acknowledges numbers that it has written.
func TestUnitWriterPassesTheSuite(t *testing.T) {
	if len(insideSuite) == 2 {
		writertest.Run(t, func(t *testing.T) *writertest.Subject { return newCounted(t, insideSuite[0], insideSuite[1]).subject() })
		if insideSuite[0] == "stop" {
			t.Run("a hold that fails is undone without anybody", func(t *testing.T) { newCounted(t, insideSuite[0], insideSuite[1]).failsAlone() })
		}
		t.Run("an Abort that has undone nothing says so", func(t *testing.T) { newCounted(t, insideSuite[0], insideSuite[1]).abortInVain() })
		return
	}
	for _, how := range []string{"stop", "freeze"} {
		t.Run(how, func(t *testing.T) {
			dir := scratch(t)
			h := newBooted(t, dir, nil)
			h.must(os.MkdirAll(h.data("app"), 0o755))
			h.unit("app.service", "[Unit]\nStartLimitIntervalSec=0\n[Service]\nType=notify\nExecStart="+
				h.bin("test")+" test-counter "+h.data("")+"\n")
			h.unit("needs.target", "[Unit]\nRequires=app.service\nAfter=app.service\nWants=bystander.service\n")
			h.unit("bystander.service", "[Service]\nType=exec\nExecStart=/bin/sleep infinity\n")
			h.start()
			out, code := h.run(h.bin("test"), "test-unit-suite", how, h.data(""))
			if code != 0 || strings.Contains(out, "--- FAIL") {
				t.Errorf("exit code %d\n%s", code, out)
			}
			passed, skipped := strings.Count(out, "    --- PASS"), strings.Count(out, "    --- SKIP")
			t.Logf("%d checks passed, %d were skipped", passed, skipped)
			// Nothing can stand against a freeze, and no logs are truncated.
			most := map[string]int{"stop": 1, "freeze": 3}[how]
			if passed < 15 || skipped > most {
				t.Errorf("%d checks passed and %d were skipped\n%s", passed, skipped, out)
			}
		})
	}
}

// insideSuite is how a unit is held and where its data is, in the process that runs
// the suite inside the host.
var insideSuite []string

// unitSuite is that process.
func unitSuite(m *testing.M, args []string) int {
	insideSuite = args
	os.Args = []string{os.Args[0], "-test.v", "-test.run=^TestUnitWriterPassesTheSuite$"}
	return m.Run()
}

// counted is the service and its client.
type counted struct {
	t        *testing.T
	how, dir string
	acked    atomic.Uint64
}

func newCounted(t *testing.T, how, dir string) *counted {
	c := &counted{t: t, how: how, dir: dir}
	os.Remove(c.blocked())
	c.systemctl("stop", "app")
	os.Remove(c.file())
	if err := os.WriteFile(c.file(), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c.systemctl("start", "app")
	return c
}

func (c *counted) file() string    { return filepath.Join(c.dir, "app", "numbers") }
func (c *counted) blocked() string { return filepath.Join(c.dir, "blocked") }

func (c *counted) systemctl(args ...string) {
	c.t.Helper()
	if out, err := exec.Command("systemctl", args...).CombinedOutput(); err != nil {
		c.t.Fatalf("systemctl %v: %v: %s", args, err, out)
	}
}

func (c *counted) subject() *writertest.Subject {
	w, kill, err := c.again()
	if err != nil {
		c.t.Fatal(err)
	}
	s := &writertest.Subject{Writer: w, Kill: kill, Again: c.again, Check: c.check,
		Load: func() (writertest.Load, error) { return c.load(), nil }}
	if c.how == "stop" {
		s.Block = func() (func(), error) {
			return func() { os.Remove(c.blocked()) }, os.WriteFile(c.blocked(), nil, 0o600)
		}
	}
	return s
}

// again starts a writer host as a session does, with the unit behind it.
func (c *counted) again() (writer.Writer, func() error, error) {
	ctx := context.Background()
	specs, err := systemd.Kind{}.Discover(ctx, writer.Discovery{Configs: []writer.Config{{Kind: "systemd", Name: "app",
		Config: []byte(fmt.Sprintf(`{"unit":"app","paths":[%q],"how":%q}`, filepath.Join(c.dir, "app"), c.how))}}})
	if err != nil {
		return nil, nil, err
	}
	h, err := host.Start(ctx, host.Options{Args: []string{"test-unit-host"}, Stderr: os.Stderr}, specs)
	if err != nil {
		return nil, nil, err
	}
	if err := errors.Join(h.Errors()...); err != nil {
		return nil, nil, err
	}
	kill := func() error {
		h.Kill()
		<-h.Done()
		return nil
	}
	c.t.Cleanup(func() { kill() })
	return h.Writers()[0].Remote, kill, nil
}

// abortInVain has somebody else work on the unit for as long as an Abort may take: it
// is no success, as the unit is held still, and another undoes it.
func (c *counted) abortInVain() {
	w, kill, err := c.again()
	if err != nil {
		c.t.Fatal(err)
	}
	defer kill()
	ctx, cancel := context.WithTimeout(context.Background(), longest)
	defer cancel()
	e := &writer.Event{}
	if err := w.Freeze(ctx, e); err != nil {
		c.t.Fatal(err)
	}
	lock, err := os.Open("/run/sombra/units/app.service.lock")
	if err != nil {
		c.t.Fatal(err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		c.t.Fatal(err)
	}
	short, stop := context.WithTimeout(ctx, 2*time.Second)
	defer stop()
	err = w.Abort(short, e)
	late := errors.Is(err, vss.ErrWriterNotResponding) // on a machine that is slow just then
	if err == nil || !late && (!strings.Contains(err.Error(), "app.service") || !strings.Contains(err.Error(), "may still be stopped or frozen")) {
		c.t.Errorf("Abort, of a unit that is held still, says %v", err)
	}
	lock.Close()
	if err := w.Abort(ctx, e); err != nil {
		c.t.Error(err)
	}
	c.goesOn()
}

// failsAlone has a hold fail and nobody left to undo it: the service goes on all
// the same when it has stopped, and so does what needs it, but not what the
// administrator has stopped.
func (c *counted) failsAlone() {
	held, err := units.NewHeld(writer.Spec{Kind: "systemd", Name: "app", Unit: "app.service", UnitConfigured: true})
	if err != nil {
		c.t.Fatal(err)
	}
	c.systemctl("start", "needs.target")
	c.systemctl("stop", "bystander.service")
	if err := os.WriteFile(c.blocked(), nil, 0o600); err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { // its time is up when it is sure that the service is being stopped
		for ctx.Err() == nil {
			if c.state("app") == "deactivating" {
				cancel()
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	if err := held.Hold(ctx); err == nil {
		c.t.Error("a service that does not stop is said to be held")
	}
	os.Remove(c.blocked())
	waitFor(c.t, longest, "the service has stopped", func() bool { return c.state("app") != "deactivating" })
	c.goesOn()
	waitFor(c.t, longest, "the target is reached again", func() bool { return c.state("needs.target") == "active" })
	if got := c.state("bystander"); got != "inactive" {
		c.t.Errorf("what the administrator had stopped is %s", got)
	}
	c.systemctl("stop", "needs.target")
}

// goesOn waits until the service acknowledges numbers.
func (c *counted) goesOn() {
	l := c.load()
	defer l.Stop()
	for from, end := l.Acknowledged(), time.Now().Add(20*time.Second); l.Acknowledged() < from+3; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			c.t.Fatal("the service stays down")
		}
	}
}

func (c *counted) state(unit string) string {
	out, _ := exec.Command("systemctl", "is-active", unit).Output() // its exit code says the same
	return strings.TrimSpace(string(out))
}

// check reads the numbers with the service down.
func (c *counted) check() (uint64, error) {
	c.systemctl("stop", "app")
	n, err := readNumbers(c.file())
	c.systemctl("start", "app")
	return n, err
}

func readNumbers(name string) (n uint64, err error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if n++; line != fmt.Sprintln(n) {
			return 0, fmt.Errorf("line %d of %s is %q", n, name, line)
		}
	}
	return n, nil
}

// countedLoad is one client, who gets past a service that is down by trying again.
type countedLoad struct {
	*counted
	cancel context.CancelFunc
	done   sync.WaitGroup
}

func (c *counted) load() *countedLoad {
	ctx, cancel := context.WithCancel(context.Background())
	l := &countedLoad{counted: c, cancel: cancel}
	l.done.Go(func() {
		for ctx.Err() == nil {
			l.talk(ctx)
			time.Sleep(time.Millisecond)
		}
	})
	return l
}

func (l *countedLoad) talk(ctx context.Context) {
	conn, err := net.Dial("unix", filepath.Join(l.dir, "socket"))
	if err != nil {
		return
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	for answers := bufio.NewScanner(conn); ; {
		next := l.acked.Load() + 1
		if _, err := fmt.Fprintln(conn, next); err != nil || !answers.Scan() || answers.Text() != fmt.Sprint(next) {
			return
		}
		l.acked.Store(next)
	}
}

func (l *countedLoad) Acknowledged() uint64 { return l.acked.Load() }
func (l *countedLoad) Reads() uint64        { return 0 }
func (l *countedLoad) Stop() error {
	l.cancel()
	l.done.Wait()
	return nil
}

// counterService writes each number that it is sent to its file, once, and
// acknowledges it then. It does not end as long as it is blocked.
func counterService(args []string) error {
	dir := args[0]
	stop := make(chan os.Signal, 1)
	osignal.Notify(stop, syscall.SIGTERM)
	name := filepath.Join(dir, "app", "numbers")
	last, err := readNumbers(name)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	socket := filepath.Join(dir, "socket")
	os.Remove(socket) // of one that was killed
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	ready, err := net.Dial("unixgram", os.Getenv("NOTIFY_SOCKET"))
	if err != nil {
		return err
	}
	if _, err := ready.Write([]byte("READY=1")); err != nil {
		return err
	}
	var mu sync.Mutex
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				for in := bufio.NewScanner(conn); in.Scan(); {
					n, err := strconv.ParseUint(in.Text(), 10, 64)
					mu.Lock()
					if err == nil && n == last+1 {
						if _, err = fmt.Fprintln(f, n); err == nil {
							last = n
						}
					}
					known := n <= last
					mu.Unlock()
					if err != nil || !known {
						return
					}
					fmt.Fprintln(conn, n)
				}
			}()
		}
	}()
	<-stop
	for {
		if _, err := os.Lstat(filepath.Join(dir, "blocked")); err != nil {
			mu.Lock() // whole lines
			return nil
		}
		time.Sleep(5 * time.Millisecond)
	}
}

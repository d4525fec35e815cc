//go:build linux

package testwriter

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
	"github.com/sombra-backup/sombra/writer/writertest"
)

// roleEnv makes the test binary another program.
const roleEnv = "TESTWRITER_TEST_ROLE"

func TestMain(m *testing.M) {
	role := os.Getenv(roleEnv)
	if role == "" {
		os.Exit(m.Run())
	}
	var err error
	switch role {
	case "host":
		err = host(os.Args[1])
	case "run":
		err = Run(context.Background(), os.Args[1], os.Args[2], os.Stdout)
	case "client":
		err = client(os.Args[1])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, role+":", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func host(config string) error {
	w, err := Kind{}.New(context.Background(), writer.Spec{Config: json.RawMessage(config)})
	if err != nil {
		return err
	}
	return writertest.Serve(context.Background(), w)
}

// client commits transactions for ever: it appends the next number to both
// files of a directory while it holds the lock, and prints it after.
func client(dir string) error {
	for {
		n, err := commit(dir)
		if err != nil {
			return err
		}
		fmt.Println(n)
	}
}

// commit writes one transaction into two files, so that a copy of one without
// the other shows.
func commit(dir string) (uint64, error) {
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return 0, err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return 0, err
	}
	var n uint64
	for _, name := range []string{"one", "two"} {
		f, err := os.OpenFile(filepath.Join(dir, "data", name), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o666)
		if err != nil {
			return 0, err
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return 0, err
		}
		n = uint64(info.Size())/8 + 1
		if _, err := f.Write(binary.BigEndian.AppendUint64(nil, n)); err != nil {
			return 0, err
		}
	}
	return n, nil
}

// count checks the data and tells how many transactions it holds.
func count(dir string) (uint64, error) {
	var counts [2]uint64
	for i, name := range []string{"one", "two"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, err
		}
		for len(data) >= 8 {
			if n := binary.BigEndian.Uint64(data); n != counts[i]+1 {
				return 0, fmt.Errorf("%s: %d follows %d", name, n, counts[i])
			}
			counts[i]++
			data = data[8:]
		}
		if len(data) > 0 {
			return 0, fmt.Errorf("%s ends within a transaction", name)
		}
	}
	if counts[0] != counts[1] {
		return 0, fmt.Errorf("one file holds %d transactions and the other %d", counts[0], counts[1])
	}
	return counts[0], nil
}

func start(t *testing.T, role string, args ...string) (*exec.Cmd, io.ReadCloser) {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), roleEnv+"="+role)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return cmd, out
}

// locked makes a directory and a configuration with a lock file.
func locked(t *testing.T, attributes string) (dir, config string) {
	t.Helper()
	dir = t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "data"), 0o755); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf(`<TestWriter lockFile="%[1]s/lock" supportsCopy="yes" %[2]s>
		<RestoreMethod method="RESTORE_IF_CAN_BE_REPLACED" writerRestore="always"/>
		<Component componentType="filegroup" componentName="Files"><ComponentFile path="%[1]s/data" filespec="*"/></Component>
	</TestWriter>`, dir, attributes)
	config = filepath.Join(dir, "config.xml")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir, config
}

// Other processes' changes stop at Freeze and go on at Thaw, and a copy made in
// between holds every transaction whole.
func TestLockFileHoldsOtherProcesses(t *testing.T) {
	dir, config := locked(t, "")
	c, err := Load(config)
	if err != nil {
		t.Fatal(err)
	}
	w := New(c, "n", nil)
	if d := w.Describe(); d.Stillness != writer.FilesStill {
		t.Errorf("stillness %v", d.Stillness)
	}
	_, out := start(t, "client", dir)
	go io.Copy(io.Discard, out)
	for range 20 {
		await(t, "transactions", func() bool { return size(t, dir) > 0 })
		e := &writer.Event{}
		if err := w.Freeze(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		copied := t.TempDir()
		for _, name := range []string{"one", "two"} {
			time.Sleep(2 * time.Millisecond) // a changing pair would differ
			if err := copyFile(filepath.Join(dir, "data", name), filepath.Join(copied, name)); err != nil {
				t.Fatal(err)
			}
		}
		held := size(t, dir)
		if _, err := count(copied); err != nil {
			t.Errorf("the copy: %v", err)
		}
		if now := size(t, dir); now != held {
			t.Errorf("files grew from %d to %d bytes while frozen", held, now)
		}
		if err := w.Thaw(t.Context(), &writer.Event{}); err != nil {
			t.Fatal(err)
		}
		await(t, "work to go on after Thaw", func() bool { return size(t, dir) > held })
	}
}

func size(t *testing.T, dir string) int64 {
	t.Helper()
	info, err := os.Stat(filepath.Join(dir, "data", "two"))
	if errors.Is(err, os.ErrNotExist) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for begun := time.Now(); !done(); time.Sleep(time.Millisecond) {
		if time.Since(begun) > 10*time.Second {
			t.Fatalf("10 s have passed without %s", what)
		}
	}
}

func TestFreezeGivesUpOnALockThatIsNotFreed(t *testing.T) {
	dir, config := locked(t, "")
	c, err := Load(config)
	if err != nil {
		t.Fatal(err)
	}
	lock, err := takeLock(t.Context(), filepath.Join(dir, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	w := New(c, "n", nil)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := w.Freeze(ctx, &writer.Event{}); !errors.Is(err, vss.ErrWriterErrorTimeout) {
		t.Errorf("got %v, want VSS_E_WRITERERROR_TIMEOUT", err)
	}
	lock.Close()
	e := &writer.Event{}
	if err := w.Freeze(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	if err := w.Abort(t.Context(), &writer.Event{}); err != nil {
		t.Fatal(err)
	}
	if l, err := takeLock(t.Context(), filepath.Join(dir, "lock")); err != nil {
		t.Error(err)
	} else {
		l.Close()
	}
}

// The Test Writer as a program of its own, killed while it holds the lock.
func TestRun(t *testing.T) {
	dir, config := locked(t, `verbosity="high"`)
	socket := filepath.Join(dir, "socket")
	cmd, out := start(t, "run", config, socket)
	var printed strings.Builder
	var mu sync.Mutex
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := out.Read(buf)
			mu.Lock()
			printed.Write(buf[:n])
			mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	var conn net.Conn
	await(t, "a socket", func() (ok bool) {
		var err error
		conn, err = net.Dial("unix", socket)
		return err == nil
	})
	c, err := writer.Dial(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ws, err := c.Writers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ws[0].Identify(t.Context()); err != nil {
		t.Fatal(err)
	}
	if ws[0].Class() != vss.TestWriterClass || ws[0].InstanceName() != config {
		t.Errorf("identity: %v %q", ws[0].Class(), ws[0].InstanceName())
	}
	if err := ws[0].Freeze(t.Context(), &writer.Event{}); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { _, err := commit(dir); done <- err }()
	select {
	case err := <-done:
		t.Fatalf("a transaction was committed while frozen: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	mu.Lock()
	if text := printed.String(); !strings.Contains(text, "Freeze") {
		t.Errorf("the log says %q", text)
	}
	mu.Unlock()
	cmd.Process.Kill()
	select {
	case err := <-done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(time.Second):
		t.Error("the application was still held 1 s after the writer was killed")
	}
}

func TestKind(t *testing.T) {
	dir, config := locked(t, "")
	t.Setenv("TESTWRITER_TEST_PLACE", dir)
	entry := writer.Config{Kind: "testwriter", Required: true, Config: json.RawMessage(
		fmt.Sprintf(`{"file":%q,"log":%q,"environment":["TESTWRITER_TEST_PLACE"]}`, config, filepath.Join(dir, "log")))}
	specs, err := Kind{}.Discover(t.Context(), writer.Discovery{Auto: true, Paths: []string{"/"}, Configs: []writer.Config{entry}})
	if err != nil || len(specs) != 1 {
		t.Fatalf("%v, %v", specs, err)
	}
	s := specs[0]
	if s.Name != config || !s.Required || s.Discovered || s.Owner.UID != uint32(os.Geteuid()) {
		t.Errorf("spec: %+v", s)
	}
	os.Unsetenv("TESTWRITER_TEST_PLACE") // as it is in a writer host
	w, err := Kind{}.New(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := w.(*testWriter).env.expand("%TESTWRITER_TEST_PLACE%/x"); err != nil || p != filepath.Join(dir, "x") {
		t.Errorf("%q, %v", p, err)
	}
	if _, err := w.Identify(t.Context()); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "log")); err != nil || !strings.Contains(string(text), "Identify") {
		t.Errorf("log: %q, %v", text, err)
	}
	if specs, err := (Kind{}).Discover(t.Context(), writer.Discovery{Auto: true, Paths: []string{dir}}); err != nil || len(specs) != 0 {
		t.Errorf("without configuration: %v, %v", specs, err)
	}
	for text, want := range map[string]string{
		`{}`: "file", `{"file":"x"}`: "full path", `{"file":"/x","log":"y"}`: "log", `{"file":"/nowhere/x"}`: "/nowhere/x",
		`{"fil":"/x"}`: "fil", fmt.Sprintf(`{"file":%q,"environment":["TESTWRITER_TEST_NONE"]}`, config): "TESTWRITER_TEST_NONE",
	} {
		_, err := Kind{}.Discover(t.Context(), writer.Discovery{Configs: []writer.Config{{Config: json.RawMessage(text)}}})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q in it", text, err, want)
		}
	}
}

func TestConformance(t *testing.T) {
	writertest.Run(t, func(t *testing.T) *writertest.Subject {
		dir, config := locked(t, "")
		spec := fmt.Sprintf(`{"file":%q}`, config)
		again := func() (writer.Writer, func() error, error) {
			cmd := exec.Command(os.Args[0], spec)
			cmd.Env = append(os.Environ(), roleEnv+"=host")
			cmd.Stderr = os.Stderr
			w, kill, err := writertest.Host(t.Context(), cmd)
			if err == nil {
				t.Cleanup(func() { kill() })
			}
			return w, kill, err
		}
		w, kill, err := again()
		if err != nil {
			t.Fatal(err)
		}
		return &writertest.Subject{
			Writer: w, Kill: kill, Again: again,
			Load: func() (writertest.Load, error) { return newLoad(dir) },
			Block: func() (func(), error) {
				lock, err := takeLock(t.Context(), filepath.Join(dir, "lock"))
				return func() { lock.Close() }, err
			},
			Check: func() (uint64, error) { return count(filepath.Join(dir, "data")) },
		}
	})
}

// load is clients that commit.
type load struct {
	n     atomic.Uint64
	reads atomic.Uint64
	stop  context.CancelFunc
	done  chan error
}

func newLoad(dir string) (*load, error) {
	n, err := count(filepath.Join(dir, "data"))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{stop: cancel, done: make(chan error, 2)}
	l.n.Store(n)
	go func() { // readers need no lock
		for ctx.Err() == nil {
			if _, err := os.ReadFile(filepath.Join(dir, "data", "one")); err != nil && !errors.Is(err, os.ErrNotExist) {
				l.done <- err
				return
			}
			l.reads.Add(1)
			time.Sleep(time.Millisecond)
		}
		l.done <- nil
	}()
	go func() {
		for ctx.Err() == nil {
			n, err := commit(dir)
			if err != nil {
				l.done <- err
				return
			}
			l.n.Store(n)
		}
		l.done <- nil
	}()
	return l, nil
}

func (l *load) Acknowledged() uint64 { return l.n.Load() }
func (l *load) Reads() uint64        { return l.reads.Load() }
func (l *load) Stop() error          { l.stop(); return errors.Join(<-l.done, <-l.done) }

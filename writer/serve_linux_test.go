package writer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/vss"

	writerv1 "github.com/sombra-backup/sombra/proto/sombra/writer/v1"
)

// childEnv makes the test binary play one end of a connection; see [children].
const childEnv = "SOMBRA_WRITER_TEST_CHILD"

func TestMain(m *testing.M) {
	if role := os.Getenv(childEnv); role != "" {
		if err := children[role](); err != nil {
			fmt.Fprintln(os.Stderr, role+":", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// children are the roles of child processes.
var children = map[string]func() error{
	// A writer host with the inherited end of a socket pair.
	"host": func() error {
		conn, err := net.FileConn(os.NewFile(3, "conn"))
		if err != nil {
			return err
		}
		return (&Server{Log: quiet}).ServeConn(context.Background(), conn, hostWriter())
	},
	// A requester that freezes the writer at a socket and is then killed.
	"freezer": func() error {
		conn, err := net.Dial("unix", os.Args[1])
		if err != nil {
			return err
		}
		return freezeAndWait(conn)
	},
	// The same, over an inherited end of a socket pair.
	"pairfreezer": func() error {
		conn, err := net.FileConn(os.NewFile(3, "conn"))
		if err != nil {
			return err
		}
		return freezeAndWait(conn)
	},
}

func freezeAndWait(conn net.Conn) error {
	ctx := context.Background()
	c, err := Dial(ctx, conn)
	if err != nil {
		return err
	}
	ws, err := c.Writers(ctx)
	if err != nil {
		return err
	}
	e := &Event{SessionID: sessionA}
	if err := ws[0].PrepareForBackup(ctx, e); err != nil {
		return err
	}
	if err := ws[0].Freeze(ctx, e); err != nil {
		return err
	}
	fmt.Println("frozen")
	select {}
}

// hostWriter is what the child named host serves.
func hostWriter() *script {
	s := &script{desc: Description{
		Level: vss.LevelBackEnd, FreezeTimeout: 5 * time.Second, Stillness: FilesStill,
		NamesProcesses: true, ReadsPaused: true, Weak: "only a test",
	}}
	s.do = map[EventKind]func(context.Context, *Event) error{
		EventFreeze: func(ctx context.Context, e *Event) error {
			e.Frozen(FreezeReport{LockWait: 3 * time.Millisecond, Processes: []int{os.Getpid(), 1}})
			e.SetWriterFailure(vss.OK, 7, "slow today")
			return nil
		},
		EventPostSnapshot: func(ctx context.Context, e *Event) error {
			e.SetWriterFailure(vss.ErrWriterErrorRetryable, 42, "try again")
			return vss.Errorf(vss.ErrWriterErrorRetryable, "PostSnapshot", "script", "set %v of %v", e.SnapshotSetID, e.Snapshots)
		},
		EventThaw: func(ctx context.Context, e *Event) error {
			if deadline, ok := ctx.Deadline(); !ok || time.Until(deadline) > time.Minute {
				return fmt.Errorf("deadline %v %v", deadline, ok)
			}
			return nil
		},
		EventBackupShutdown: func(ctx context.Context, e *Event) error { panic("shutdown") },
	}
	return s
}

// socketPair gives two connected ends; the second is for a child.
func socketPair(t *testing.T) (net.Conn, *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "theirs")
	conn, err := net.FileConn(ours)
	ours.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(); theirs.Close() })
	return conn, theirs
}

// child starts the test binary in a role, and gives it and its output.
func child(t *testing.T, role string, file *os.File, args ...string) (*exec.Cmd, io.Reader) {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), childEnv+"="+role)
	cmd.Stderr = os.Stderr
	if file != nil {
		cmd.ExtraFiles = []*os.File{file}
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if file != nil {
		file.Close()
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return cmd, out
}

// connect serves writers in this process over a socket pair.
func connect(t *testing.T, writers ...Writer) (*Client, []*Remote) {
	t.Helper()
	conn, file := socketPair(t)
	other, err := net.FileConn(file)
	file.Close()
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- (&Server{Log: quiet}).ServeConn(context.Background(), other, writers...) }()
	c, err := Dial(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		if err := <-served; err != nil {
			t.Errorf("ServeConn: %v", err)
		}
	})
	ws, err := c.Writers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c, ws
}

// await waits for something that is promised within a time.
func await(t *testing.T, within time.Duration, what string, done func() bool) {
	t.Helper()
	for start := time.Now(); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Since(start) > within {
			t.Fatalf("not within %v: %s", within, what)
		}
	}
}

func TestRemoteWriterInAnotherProcess(t *testing.T) {
	conn, file := socketPair(t)
	cmd, _ := child(t, "host", file)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	c, err := Dial(ctx, conn)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ws, err := c.Writers(ctx)
	if err != nil || len(ws) != 1 {
		t.Fatalf("Writers: %v, %v", ws, err)
	}
	w := ws[0]
	if got, want := w.Describe(), hostWriter().desc; got != want {
		t.Errorf("Describe: got %+v, want %+v", got, want)
	}
	if !w.Instance().IsZero() {
		t.Error("the instance id is known before Identify")
	}
	doc, err := w.Identify(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(doc.SaveAsXML()), string(testDocument().SaveAsXML()); got != want {
		t.Errorf("document: got %s, want %s", got, want)
	}
	if w.Instance() != testInstance || w.Class() != testClass || w.InstanceName() != "script one" {
		t.Errorf("identity: %v %v %q", w.Instance(), w.Class(), w.InstanceName())
	}
	if uid, pid, err := PeerOwner(conn); err != nil || uid != uint32(os.Getuid()) || pid == 0 {
		t.Errorf("PeerOwner: %d, %d, %v", uid, pid, err)
	}

	e := &Event{SessionID: sessionA, SnapshotSetID: sessionB, Snapshots: []Snapshot{{ID: sessionA, VolumeID: "vol", VolumeRoot: "/v", DeviceRoot: "/d"}}}
	if err := w.PrepareForBackup(ctx, e); err != nil {
		t.Fatal(err)
	}
	if err := w.PrepareForSnapshot(ctx, e); err != nil { // the writer has no such handler
		t.Fatal(err)
	}
	if err := w.Freeze(ctx, e); err != nil {
		t.Fatal(err)
	}
	if e.Report.LockWait != 3*time.Millisecond || !slices.Equal(e.Report.Processes, []int{cmd.Process.Pid, 1}) {
		t.Errorf("freeze report: %+v", e.Report)
	}
	if f := e.Failure; f == nil || *f != (Failure{vss.OK, 7, "slow today"}) {
		t.Errorf("failure: %+v", f)
	}
	if err := w.Thaw(ctx, e); err != nil {
		t.Fatal(err)
	}
	err = w.PostSnapshot(ctx, e)
	wantCode(t, err, vss.ErrWriterErrorRetryable)
	local := hostWriter().PostSnapshot(ctx, e)
	if err == nil || err.Error() != local.Error() {
		t.Errorf("the error reads %q, where it was made %q", err, local)
	}
	if f := e.Failure; f == nil || *f != (Failure{vss.ErrWriterErrorRetryable, 42, "try again"}) {
		t.Errorf("failure: %+v", f)
	}
	if err := w.BackupComplete(ctx, e); err != nil {
		t.Fatal(err)
	}
	if e.Failure != nil {
		t.Errorf("the failure of an earlier event came again: %+v", e.Failure)
	}
	wantCode(t, w.BackupShutdown(ctx, e), vss.ErrWriterErrorNonRetryable) // it panics, and lives on
	for _, k := range []EventKind{EventPreRestore, EventPostRestore, EventAbort} {
		if err := Notify(ctx, w, k, e); err != nil {
			t.Errorf("%v: %v", k, err)
		}
	}

	// A writer whose process dies is seen as gone at once.
	cmd.Process.Kill()
	select {
	case <-c.Done():
	case <-time.After(time.Second):
		t.Fatal("Done was not closed within 1 s of the writer's death")
	}
	wantCode(t, w.Freeze(ctx, e), vss.ErrWriterNotResponding)
}

func TestWritersAreReleasedWhenTheClientIsKilled(t *testing.T) {
	t.Run("socket", func(t *testing.T) {
		s := &script{}
		path := filepath.Join(t.TempDir(), "w.sock")
		serve(t, path, s)
		cmd, out := child(t, "freezer", nil, path)
		awaitReleased(t, s, cmd, out)
		// The next one is served as if nothing had been.
		cmd, out = child(t, "freezer", nil, path)
		awaitReleased(t, s, cmd, out)
	})
	t.Run("socket pair", func(t *testing.T) {
		s := &script{}
		conn, file := socketPair(t)
		cmd, out := child(t, "pairfreezer", file)
		served := make(chan error, 1)
		go func() { served <- (&Server{Log: quiet}).ServeConn(t.Context(), conn, s) }()
		awaitReleased(t, s, cmd, out)
		select {
		case err := <-served:
			if err != nil {
				t.Errorf("ServeConn: %v", err)
			}
		case <-time.After(5 * time.Second):
			t.Error("ServeConn did not return at the end of its connection")
		}
	})
}

func awaitReleased(t *testing.T, s *script, cmd *exec.Cmd, out io.Reader) {
	t.Helper()
	line := make([]byte, len("frozen\n"))
	if _, err := io.ReadFull(out, line); err != nil {
		t.Fatalf("the child did not freeze the writer: %v", err)
	}
	before := len(s.events())
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(t, time.Second, "Abort and BackupShutdown after the client was killed", func() bool {
		return slices.Equal(s.events()[before:], []string{"Abort", "BackupShutdown"})
	})
}

// serve runs Serve until the test ends.
func serve(t *testing.T, path string, writers ...Writer) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- (&Server{Log: quiet}).Serve(ctx, path, writers...) }()
	await(t, 5*time.Second, "a socket", func() bool {
		conn, err := net.Dial("unix", path)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	stop = func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		served <- nil
	}
	t.Cleanup(stop)
	return stop
}

func TestServeReleasesWritersWhenItEnds(t *testing.T) {
	s := &script{}
	path := filepath.Join(t.TempDir(), "w.sock")
	stop := serve(t, path, s)
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Dial(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ws, err := c.Writers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := ws[0].Freeze(t.Context(), &Event{SessionID: sessionA}); err != nil {
		t.Fatal(err)
	}
	stop()
	wantEvents(t, s, "Freeze", "Abort", "BackupShutdown")
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

func TestServeAndTheSocketsThatWereThere(t *testing.T) {
	dir := t.TempDir()
	t.Run("nobody listens", func(t *testing.T) {
		path := filepath.Join(dir, "stale")
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		l.(*net.UnixListener).SetUnlinkOnClose(false)
		l.Close()
		serve(t, path, &script{})
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("socket: %v, %v; want mode 0600", info, err)
		}
	})
	t.Run("somebody listens", func(t *testing.T) {
		path := filepath.Join(dir, "live")
		serve(t, path, &script{})
		if err := Serve(t.Context(), path, &script{}); err == nil || !strings.Contains(err.Error(), "another program listens") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a link to a victim's file or socket", func(t *testing.T) {
		victim := filepath.Join(dir, "victim")
		if err := os.WriteFile(victim, []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "link")
		if err := os.Symlink(victim, path); err != nil {
			t.Fatal(err)
		}
		if err := Serve(t.Context(), path, &script{}); err == nil || !strings.Contains(err.Error(), "no socket") {
			t.Errorf("got %v", err)
		}
		if info, err := os.Lstat(victim); err != nil || info.Mode().Perm() != 0o644 {
			t.Errorf("the victim's file: %v, %v", info, err)
		}
	})
	t.Run("replaced while serving", func(t *testing.T) {
		path := filepath.Join(dir, "mine")
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- Serve(ctx, path, &script{}) }()
		for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
			if info, err := os.Lstat(path); err == nil && info.Mode().Perm() == 0o600 {
				break
			}
			if time.Now().After(end) {
				t.Fatal("there is no socket")
			}
		}
		time.Sleep(50 * time.Millisecond)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		other, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("another program's socket was removed: %v", err)
		}
	})
	t.Run("no socket", func(t *testing.T) {
		path := filepath.Join(dir, "file")
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := Serve(t.Context(), path, &script{}); err == nil || !strings.Contains(err.Error(), "no socket") {
			t.Errorf("got %v", err)
		}
		if _, err := os.Stat(path); err != nil {
			t.Errorf("the file is gone: %v", err)
		}
	})
}

func TestCallsEndWithTheirContext(t *testing.T) {
	s := &script{}
	hang := func(context.Context, *Event) error { select {} }
	s.do = map[EventKind]func(context.Context, *Event) error{EventPrepareForBackup: hang}
	_, ws := connect(t, s)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	start := time.Now()
	err := ws[0].PrepareForBackup(ctx, &Event{SessionID: sessionA})
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("the call took %v", took)
	}
	if !errors.Is(err, vss.ErrWriterNotResponding) && !errors.Is(err, vss.ErrWriterErrorTimeout) {
		t.Errorf("got %v, want VSS_E_WRITER_NOT_RESPONDING or VSS_E_WRITERERROR_TIMEOUT", err)
	}
	if err := ws[0].Abort(t.Context(), &Event{SessionID: sessionA}); err != nil {
		t.Errorf("Abort beside a hanging handler: %v", err)
	}
	wantEvents(t, s, "PrepareForBackup", "Abort")
}

func TestTheServerReleasesAWriterNobodyThaws(t *testing.T) {
	s := &script{}
	_, ws := connect(t, s)
	e := &Event{SessionID: sessionA, Limit: 100 * time.Millisecond}
	if err := ws[0].Freeze(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	await(t, 5*time.Second, "Abort after the limit", func() bool { return slices.Contains(s.events(), "Abort") })
	wantCode(t, ws[0].Thaw(t.Context(), e), vss.ErrWriterErrorTimeout)
	wantEvents(t, s, "Freeze", "Abort")
}

func TestAWriterThatCannotBeReleasedEndsServeConn(t *testing.T) {
	s := &script{do: map[EventKind]func(context.Context, *Event) error{
		EventAbort: func(context.Context, *Event) error { return errors.New("stuck") },
	}}
	conn, file := socketPair(t)
	other, err := net.FileConn(file)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- (&Server{Log: quiet}).ServeConn(context.Background(), other, s) }()
	c, err := Dial(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	ws, err := c.Writers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := ws[0].Freeze(t.Context(), &Event{SessionID: sessionA}); err != nil {
		t.Fatal(err)
	}
	c.Close()
	select {
	case err := <-served:
		if err == nil {
			t.Error("ServeConn says that all is well")
		}
	case <-time.After(20 * time.Second):
		t.Error("ServeConn did not return")
	}
}

func TestRequestsThatMakeNoSense(t *testing.T) {
	c, _ := connect(t, &script{})
	call := func(req *writerv1.EventRequest) error {
		_, err := c.rpc.Freeze(t.Context(), req)
		return errorOfCall(t.Context(), "Freeze", "test", err)
	}
	for _, test := range []struct {
		name string
		req  *writerv1.EventRequest
		want vss.Code
	}{
		{"unknown writer", &writerv1.EventRequest{Handle: 9}, vss.ErrObjectNotFound},
		{"largest handle", &writerv1.EventRequest{Handle: 1<<32 - 1}, vss.ErrObjectNotFound},
		{"bad session", &writerv1.EventRequest{SessionId: "x"}, vss.ErrInvalidArgument},
		{"bad set", &writerv1.EventRequest{SnapshotSetId: "{}"}, vss.ErrInvalidArgument},
		{"bad shadow copy", &writerv1.EventRequest{Snapshots: []*writerv1.Snapshot{{Id: "1"}}}, vss.ErrInvalidArgument},
		{"too many shadow copies", &writerv1.EventRequest{Snapshots: slices.Repeat([]*writerv1.Snapshot{{}}, 65)}, vss.ErrInvalidArgument},
		{"too many open files", &writerv1.EventRequest{OpenFiles: slices.Repeat([]*writerv1.OpenFile{{}}, maxFiles+1)}, vss.ErrInvalidArgument},
		{"components that are no XML", &writerv1.EventRequest{Components: []byte("<<<")}, vss.ErrInvalidArgument},
		{"empty components", &writerv1.EventRequest{Components: []byte{}}, vss.ErrInvalidArgument},
		{"a message too large", &writerv1.EventRequest{Components: make([]byte, MaxMessage)}, vss.ErrWriterErrorOutOfResources},
	} {
		t.Run(test.name, func(t *testing.T) { wantCode(t, call(test.req), test.want) })
	}
	if _, err := c.rpc.Identify(t.Context(), &writerv1.IdentifyRequest{Handle: 7}); !errors.Is(errorOfCall(t.Context(), "", "", err), vss.ErrObjectNotFound) {
		t.Errorf("Identify of an unknown writer: %v", err)
	}
	// It still works.
	if err := call(&writerv1.EventRequest{}); err != nil {
		t.Error(err)
	}
}

func TestPeersThatSpeakNothingOfIt(t *testing.T) {
	t.Run("client", func(t *testing.T) {
		s := &script{}
		path := filepath.Join(t.TempDir(), "w.sock")
		serve(t, path, s)
		for _, text := range []string{"", "GET / HTTP/1.1\r\n\r\n", strings.Repeat("\x00", 1<<16), "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff"} {
			conn, err := net.Dial("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			conn.SetDeadline(time.Now().Add(5 * time.Second))
			io.WriteString(conn, text)
			conn.Close()
		}
		wantEvents(t, s)
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		c, err := Dial(t.Context(), conn)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	})
	for name, text := range map[string]string{"server closes": "", "server talks": "hello\n" + strings.Repeat("x", 100)} {
		t.Run(name, func(t *testing.T) {
			conn, file := socketPair(t)
			file.WriteString(text)
			file.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if _, err := Dial(ctx, conn); !errors.Is(err, vss.ErrWriterNotResponding) {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("server is silent", func(t *testing.T) {
		conn, _ := socketPair(t)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := Dial(ctx, conn); !errors.Is(err, vss.ErrWriterNotResponding) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}

func TestManyConnectionsAreRefusedAndTheRestServed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "w.sock")
	serve(t, path, &script{})
	var open []*Client
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for i := range maxConns + 2 {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		c, err := Dial(ctx, conn)
		if i < maxConns-1 && err != nil { // serve's own probe may still be counted
			t.Fatalf("connection %d: %v", i, err)
		}
		if i > maxConns && err == nil {
			t.Errorf("connection %d of at most %d was served", i+1, maxConns)
		}
		if err == nil {
			open = append(open, c)
		}
	}
}

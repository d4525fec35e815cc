package child

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "child" {
		if err := childRole(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// childRole starts a process that outlives it, says which, and then answers
// every frame with that frame.
func childRole() error {
	conn, err := Inherited("child-test")
	if err != nil {
		return err
	}
	outlives := exec.Command("/bin/sleep", "20")
	if err := outlives.Start(); err != nil {
		return err
	}
	if err := WriteFrame(conn, outlives.Process.Pid); err != nil {
		return err
	}
	for {
		var v any
		if err := ReadFrame(conn, &v); err != nil {
			if err == io.EOF {
				return nil
			}
			return err
		}
		if err := WriteFrame(conn, v); err != nil {
			return err
		}
	}
}

func start(t *testing.T) *Process {
	t.Helper()
	p, err := Start(Options{Args: []string{"child"}, Name: "child", Stderr: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Kill(); p.Conn.Close(); <-p.Done() })
	var outlives int
	if err := ReadFrame(p.Conn, &outlives); err != nil || outlives <= 0 {
		t.Fatal(outlives, err)
	}
	t.Cleanup(func() { _ = unix.Kill(outlives, unix.SIGKILL) })
	if err := WriteFrame(p.Conn, "hello"); err != nil {
		t.Fatal(err)
	}
	var answer string
	if err := ReadFrame(p.Conn, &answer); err != nil || answer != "hello" {
		t.Fatalf("%q, %v", answer, err)
	}
	return p
}

func TestChildSeesTheEndOfItsParentsConnection(t *testing.T) {
	p := start(t)
	if !slices.Contains(PIDs(), p.PID()) {
		t.Error("the child is not among ours")
	}
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", p.PID()))
	if err != nil || strings.TrimSpace(string(comm)) != "child-test" {
		t.Errorf("it is called %q, %v", comm, err)
	}
	p.Conn.Close()
	select {
	case <-p.Done():
	case <-time.After(5 * time.Second):
		t.Fatal("the child goes on after the connection's end")
	}
	if err := p.Err(); err != nil {
		t.Error(err)
	}
	if slices.Contains(PIDs(), p.PID()) {
		t.Error("a child that has ended is among ours")
	}
}

func TestParentSeesTheChildsEndThoughTheChildsChildrenGoOn(t *testing.T) {
	p := start(t)
	p.Kill()
	ended := make(chan error, 1)
	go func() {
		var v any
		ended <- ReadFrame(p.Conn, &v)
	}()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("a frame came from a child that was killed")
		}
	case <-time.After(5 * time.Second):
		t.Fatal("the connection does not end with the child")
	}
	<-p.Done()
	if err := p.Err(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("%v, want an error that says it was killed", err)
	}
}

func TestOtherChildrenDoNotKeepTheConnectionOpen(t *testing.T) {
	p := start(t)
	other := exec.Command("/bin/sleep", "20")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Process.Kill(); _ = other.Wait() }()
	second := start(t)
	p.Conn.Close()
	select {
	case <-p.Done():
	case <-time.After(5 * time.Second):
		t.Error("the child goes on after the connection's end")
	}
	select {
	case <-second.Done():
		t.Error("another child ended with it")
	default:
	}
}

// Package server starts real servers of storage on this machine's loopback
// address, for tests: an S3 gateway (versitygw), a GCS one (fake-gcs-server), an
// Azure one (azurite), and OpenSSH's sshd. The programs are installed once, at
// versions that are pinned here, below the user's cache directory.
package server

import (
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// tail is the end of what a program printed.
func tail(out []byte) string {
	const most = 2000
	if len(out) > most {
		out = out[len(out)-most:]
	}
	return strings.TrimSpace(string(out))
}

// output keeps the end of what a server prints.
type output struct {
	mu   sync.Mutex
	text []byte
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text = append(o.text, p...)
	if len(o.text) > 1<<20 {
		o.text = o.text[len(o.text)-1<<19:]
	}
	return len(p), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return tail(o.text)
}

// freeAddr gives an address of this machine where nothing listens.
func freeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// process is a server that runs.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{}
}

// kill ends it at once.
func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.ended
}

// start runs a server until the test ends, and waits until it listens.
func start(t testing.TB, addr string, cmd *exec.Cmd) *process {
	t.Helper()
	out := &output{}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", cmd.Path, err)
	}
	ended := make(chan struct{})
	running := &process{cmd, ended}
	go func() {
		cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		running.kill()
		if t.Failed() {
			t.Logf("%s printed: %s", filepath.Base(cmd.Path), out)
		}
	})
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
			return running
		}
		select {
		case <-ended:
			t.Fatalf("%s ended at once: %s", cmd.Path, out)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not listen at %s: %s", cmd.Path, addr, out)
		}
	}
}

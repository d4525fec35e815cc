// Package server starts real servers of storage on this machine's loopback
// address, for tests: an S3 gateway (versitygw), a GCS one (fake-gcs-server), an
// Azure one (azurite), and OpenSSH's sshd. The programs are installed once, at
// versions that are pinned here, below the user's cache directory.
package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// module is a server program that comes as a Go module.
type module struct{ name, path, version string }

var (
	versitygw = module{"versitygw", "github.com/versity/versitygw/cmd/versitygw", "v1.8.0"}
	fakeGCS   = module{"fake-gcs-server", "github.com/fsouza/fake-gcs-server", "v1.56.1"}
)

// azuriteVersion is the version of the npm package.
const azuriteVersion = "3.37.0"

// cacheDir is where the programs are kept.
func cacheDir() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		dir = filepath.Join("/var/tmp", fmt.Sprintf("sombra-cache-%d", os.Getuid()))
	}
	dir = filepath.Join(dir, "sombra-test")
	return dir, os.MkdirAll(dir, 0o700)
}

// install gives the program's path, and builds it if it is not there yet.
func (m module) install(ctx context.Context) (string, error) {
	dir, err := cacheDir()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, m.name+"-"+m.version)
	if runtime.GOOS == "windows" {
		path += ".exe"
	}
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	temp, err := os.MkdirTemp(dir, ".build-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(temp)
	cmd := exec.CommandContext(ctx, "go", "install", m.path+"@"+m.version)
	cmd.Dir = temp
	cmd.Env = append(os.Environ(), "GOBIN="+temp, "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("install %s: %w: %s", m.path, err, tail(out))
	}
	built := filepath.Join(temp, m.name)
	if runtime.GOOS == "windows" {
		built += ".exe"
	}
	return path, os.Rename(built, path)
}

// installAzurite gives the path of azurite's script for node.
func installAzurite(ctx context.Context) (string, error) {
	dir, err := cacheDir()
	if err != nil {
		return "", err
	}
	dir = filepath.Join(dir, "azurite-"+azuriteVersion)
	script := filepath.Join("node_modules", "azurite", "dist", "src", "blob", "main.js")
	if _, err := os.Stat(filepath.Join(dir, script)); err == nil {
		return filepath.Join(dir, script), nil
	}
	temp, err := os.MkdirTemp(filepath.Dir(dir), ".npm-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(temp)
	cmd := exec.CommandContext(ctx, "npm", "install", "--prefix", temp, "--no-audit", "--no-fund", "azurite@"+azuriteVersion)
	cmd.Dir = temp
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("install azurite: %w: %s", err, tail(out))
	}
	if err := os.Rename(temp, dir); err != nil && !errors.Is(err, os.ErrExist) {
		if _, err := os.Stat(filepath.Join(dir, script)); err != nil {
			return "", err
		}
	}
	return filepath.Join(dir, script), nil
}

// Install installs all that can be installed, and says what cannot.
func Install(ctx context.Context) error {
	var errs []error
	for _, m := range []module{versitygw, fakeGCS} {
		_, err := m.install(ctx)
		errs = append(errs, err)
	}
	_, err := installAzurite(ctx)
	return errors.Join(append(errs, err)...)
}

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

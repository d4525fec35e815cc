package dbtest

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// EtcdBin is the server's program, as Debian has it.
const EtcdBin = "/usr/bin/etcd"

// etcdUser owns the data if the caller is root.
const etcdUser = "etcd"

// etcdStart is the longest a server may take until it answers.
const etcdStart = time.Minute

// EtcdOptions says which server to start.
type EtcdOptions struct {
	// Dir is the directory of the data. It is made if it is not there. The
	// server's user must be able to reach it.
	Dir string
	// WAL is a directory of its own for the write-ahead log, in a directory that
	// the server gets, too; empty means within Dir.
	WAL string
	// Name is the member's name; empty means "m".
	Name string
	// Cluster are the names of all members of a new cluster, which listen to each
	// other below Home; empty means that this one is alone. A member of several
	// answers only when most of them run, so that StartEtcd does not wait for it.
	Cluster []string
	// Home is where the sockets of a cluster's members are; empty means a
	// directory of its own. It must be the same for all of them.
	Home string
	// Args are further arguments.
	Args []string
}

// Etcd is an etcd server. Its methods are for one goroutine at a time, but for
// Put, Get and Do.
type Etcd struct {
	Dir    string // of the data
	Socket string // path of the unix socket of clients
	URL    string // the URL for it, for who runs in the directory Home
	Home   string // the server's working directory, with its sockets
	Log    string // path of the server's log
	PID    int    // 0 while it does not run

	// UID and GID are whom the server runs as.
	UID, GID int

	opts    EtcdOptions
	ownHome bool
	exited  chan struct{} // closed when the process is gone
	watcher *watcher
	client  *http.Client
}

// StartEtcd starts a server, and returns when it answers, unless it is one of
// several. ctx limits the start alone. Clients reach it by a unix socket. Close
// ends it.
func StartEtcd(ctx context.Context, o EtcdOptions) (*Etcd, error) {
	if o.Name == "" {
		o.Name = "m"
	}
	if len(o.Cluster) == 0 {
		o.Cluster = []string{o.Name}
	}
	e := &Etcd{Dir: filepath.Clean(o.Dir), Home: o.Home, opts: o}
	var err error
	if e.Home == "" {
		// A socket's path may have 107 bytes; those of tests are often longer.
		if e.Home, err = Scratch(""); err != nil {
			return nil, err
		}
		e.ownHome = true
	}
	number := slices.Index(o.Cluster, o.Name)
	e.URL = "unix://localhost:" + strconv.Itoa(2000+number)
	e.Socket = filepath.Join(e.Home, strings.TrimPrefix(e.URL, "unix://"))
	e.Log = filepath.Join(e.Home, o.Name+".log")
	e.client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", e.Socket)
		}}}
	err = e.become()
	dirs := []string{e.Dir, e.Home}
	if o.WAL != "" {
		dirs = append(dirs, filepath.Dir(o.WAL))
	}
	for _, dir := range dirs {
		if err == nil {
			err = errors.Join(os.MkdirAll(dir, 0o700), os.Chown(dir, e.UID, e.GID))
		}
	}
	if err == nil {
		err = e.Start(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start etcd in %s: %w", e.Dir, err), e.Close())
	}
	return e, nil
}

// become decides whom the server runs as.
func (e *Etcd) become() error {
	e.UID, e.GID = os.Geteuid(), os.Getegid()
	if e.UID != 0 {
		return nil
	}
	u, err := user.Lookup(etcdUser)
	if err != nil {
		return fmt.Errorf("find the user it runs as: %w", err)
	}
	if e.UID, err = strconv.Atoi(u.Uid); err != nil {
		return err
	}
	e.GID, err = strconv.Atoi(u.Gid)
	return err
}

// peerURL is where a member listens to the others.
func (e *Etcd) peerURL(name string) string {
	return "unix://localhost:" + strconv.Itoa(3000+slices.Index(e.opts.Cluster, name))
}

// Args are the server's arguments.
func (e *Etcd) Args() []string {
	var cluster []string
	for _, name := range e.opts.Cluster {
		cluster = append(cluster, name+"="+e.peerURL(name))
	}
	peer := e.peerURL(e.opts.Name)
	args := []string{"--name", e.opts.Name, "--data-dir", e.Dir, "--listen-client-urls", e.URL, "--advertise-client-urls", e.URL,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", strings.Join(cluster, ","), "--logger", "zap"}
	if e.opts.WAL != "" {
		args = append(args, "--wal-dir", e.opts.WAL)
	}
	return append(args, e.opts.Args...)
}

// Start starts the server again and returns when it answers.
func (e *Etcd) Start(ctx context.Context) error {
	if e.PID != 0 {
		return fmt.Errorf("it runs as process %d", e.PID)
	}
	// One that was killed has left its sockets, which etcd does not replace.
	for _, url := range []string{e.URL, e.peerURL(e.opts.Name)} {
		if err := os.Remove(filepath.Join(e.Home, strings.TrimPrefix(url, "unix://"))); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	log, err := os.OpenFile(e.Log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(EtcdBin, e.Args()...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = e.Home, log, log
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + e.Home}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(e.UID), Gid: uint32(e.GID)}
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		cmd.Wait() // how it ended stands in its log
	}()
	e.PID, e.exited = cmd.Process.Pid, exited
	scratch := ""
	if e.ownHome {
		scratch = e.Home
	}
	if e.watcher, err = watchOver(e.PID, scratch); err != nil {
		return errors.Join(err, e.Kill())
	}
	if len(e.opts.Cluster) > 1 {
		return nil
	}
	if err := e.Await(ctx); err != nil {
		return errors.Join(fmt.Errorf("%w; it said:\n%s", err, tail(e.Log)), e.Kill())
	}
	return nil
}

// Await waits until the server answers.
func (e *Etcd) Await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, etcdStart)
	defer cancel()
	for {
		_, _, err := e.Get(ctx, "there is no such key")
		if err == nil {
			return nil
		}
		select {
		case <-e.exited:
			return errors.New("it has ended")
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// Stop stops the server with SIGTERM.
func (e *Etcd) Stop(ctx context.Context) error { return e.end(ctx, syscall.SIGTERM) }

// Kill ends the server by SIGKILL, and returns when it is gone.
func (e *Etcd) Kill() error { return e.end(context.Background(), syscall.SIGKILL) }

func (e *Etcd) end(ctx context.Context, signal syscall.Signal) error {
	if e.PID == 0 {
		return nil
	}
	if err := syscall.Kill(e.PID, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("end etcd in %s: %w", e.Dir, err)
	}
	select {
	case <-e.exited:
	case <-ctx.Done():
		return fmt.Errorf("end etcd in %s: process %d is still there: %w", e.Dir, e.PID, context.Cause(ctx))
	}
	e.PID = 0
	e.client.CloseIdleConnections()
	w := e.watcher
	e.watcher = nil
	if w == nil {
		return nil
	}
	return w.release()
}

// Exited is closed when the process that was started last is gone.
func (e *Etcd) Exited() <-chan struct{} { return e.exited }

// Close kills the server if it runs and removes what StartEtcd made beside the
// data.
func (e *Etcd) Close() error {
	err := e.Kill()
	if e.ownHome {
		err = errors.Join(err, os.RemoveAll(e.Home))
	}
	return err
}

// Put sets a key. When it returns without an error the server has acknowledged it.
func (e *Etcd) Put(ctx context.Context, key, value string) error {
	return e.Do(ctx, "/v3/kv/put", map[string]any{"key": []byte(key), "value": []byte(value)}, nil)
}

// Get reads a key.
func (e *Etcd) Get(ctx context.Context, key string) (value string, ok bool, err error) {
	var a struct {
		KVs []struct{ Value string } `json:"kvs"`
	}
	if err := e.Do(ctx, "/v3/kv/range", map[string]any{"key": []byte(key)}, &a); err != nil || len(a.KVs) == 0 {
		return "", false, err
	}
	b, err := base64.StdEncoding.DecodeString(a.KVs[0].Value)
	return string(b), true, err
}

// Do calls the server's JSON interface.
func (e *Etcd) Do(ctx context.Context, call string, in, out any) error {
	text, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://localhost"+call, bytes.NewReader(text))
	if err != nil {
		return err
	}
	resp, err := e.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("etcd %s: %s: %s", call, resp.Status, bytes.TrimSpace(body))
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(body, out)
}

// Etcdctl runs etcdctl for this server and gives what it prints.
func (e *Etcd) Etcdctl(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "etcdctl", append([]string{"--endpoints", e.URL}, args...)...)
	cmd.Dir, cmd.Env = e.Home, []string{"PATH=/usr/bin:/bin", "ETCDCTL_API=3"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("etcdctl %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

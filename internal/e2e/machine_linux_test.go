package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/requester"
)

// machine is what a computer has of Sombra: a home, a state directory, a
// configuration, and a way to a repository.
type machine struct {
	t    *testing.T
	dir  string // home, state and configuration lie in it
	repo string
	// stateDir is the state directory; empty means one below dir.
	stateDir string
	// passwordFile has the repository's password. Empty: it is in the environment.
	passwordFile string
	// user runs the command; nil is who runs the tests.
	user *syscall.Credential
	// through is a command that runs the program, such as unshare.
	through []string
}

// newMachine makes one with an empty repository.
func newMachine(t *testing.T) *machine {
	t.Helper()
	m := bareMachine(t, filepath.Join(scratch(t), "repository"))
	m.must("init")
	return m
}

// bareMachine is one that has nothing but a repository's place.
func bareMachine(t *testing.T, repo string) *machine {
	t.Helper()
	return &machine{t: t, dir: scratch(t), repo: repo}
}

// scratch is a directory on a real file system, not on tmpfs.
func scratch(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "sombra-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func (m *machine) state() string {
	if m.stateDir != "" {
		return m.stateDir
	}
	return filepath.Join(m.dir, "state")
}

// configure writes the configuration.
func (m *machine) configure(yaml string) {
	m.t.Helper()
	write(m.t, filepath.Join(m.dir, "sombra.yaml"), yaml)
}

func (m *machine) env() []string {
	config := filepath.Join(m.dir, "sombra.yaml")
	if _, err := os.Stat(config); err != nil {
		config = os.DevNull
	}
	password := "SOMBRA_PASSWORD=e2e"
	if m.passwordFile != "" {
		password = "SOMBRA_PASSWORD_FILE=" + m.passwordFile
	}
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + m.dir, "SOMBRA_STATE_DIR=" + m.state(), "SOMBRA_CONFIG=" + config,
		"SOMBRA_REPOSITORY=" + m.repo, password}
}

// outcome is how a command ended.
type outcome struct {
	t        *testing.T
	args     []string
	code     int // -1 if it was killed
	out, err string
	took     time.Duration
	usage    *syscall.Rusage
}

// longest is how long any command of these tests may take.
const longest = 2 * time.Minute

// command is the program with arguments, ready to be started.
func (m *machine) command(args ...string) *exec.Cmd {
	line := append(append([]string{}, m.through...), append([]string{program}, args...)...)
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Env, cmd.Dir = m.env(), "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: m.user}
	return cmd
}

// sombra runs the program to its end.
func (m *machine) sombra(args ...string) *outcome {
	m.t.Helper()
	r := m.start(false, args...)
	return r.wait()
}

// must runs it and takes no other exit code than 0.
func (m *machine) must(args ...string) *outcome {
	m.t.Helper()
	return m.sombra(args...).exits(0)
}

// exits checks the exit code.
func (o *outcome) exits(codes ...int) *outcome {
	o.t.Helper()
	for _, c := range codes {
		if o.code == c {
			return o
		}
	}
	o.t.Fatalf("sombra %s: exit code %d, want %v\n%s\n%s", strings.Join(o.args, " "), o.code, codes, o.out, o.err)
	return o
}

// says checks that the output names something.
func (o *outcome) says(words ...string) *outcome {
	o.t.Helper()
	for _, w := range words {
		if !strings.Contains(o.out, w) && !strings.Contains(o.err, w) {
			o.t.Errorf("sombra %s: it does not say %q:\n%s\n%s", strings.Join(o.args, " "), w, o.out, o.err)
		}
	}
	return o
}

// summary reads the result out of the JSON lines of a backup.
func (o *outcome) summary() requester.Result {
	o.t.Helper()
	var r requester.Result
	o.line("summary", &r)
	return r
}

// line reads the JSON line of a type.
func (o *outcome) line(kind string, v any) {
	o.t.Helper()
	for line := range strings.Lines(o.out) {
		if messageType(line) != kind {
			continue
		}
		unmarshal(o.t, line, v)
		return
	}
	o.t.Fatalf("sombra %s: no JSON line %q:\n%s\n%s", strings.Join(o.args, " "), kind, o.out, o.err)
}

func unmarshal(t *testing.T, text string, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}

func messageType(line string) string {
	var m struct {
		Type string `json:"message_type"`
	}
	if json.Unmarshal([]byte(line), &m) != nil {
		return ""
	}
	return m.Type
}

// running is the program at work.
type running struct {
	*machine
	cmd     *exec.Cmd
	args    []string
	started time.Time
	stdout  *bufio.Reader
	pipe    *os.File
	out     bytes.Buffer
	reading sync.Once
	drained chan struct{}
	ended   *outcome
	// stderr is a file, since the keeper has it, too, and may outlive the run.
	stderr *os.File
}

// start starts the program. With narrow its output is a pipe so small that it
// stands still soon after nobody reads on.
func (m *machine) start(narrow bool, args ...string) *running {
	m.t.Helper()
	r := &running{machine: m, args: args, cmd: m.command(args...), started: time.Now(), drained: make(chan struct{})}
	near, far, err := os.Pipe()
	if err != nil {
		m.t.Fatal(err)
	}
	size := 1 << 20
	if narrow {
		size = 4096
	}
	pipeSize(m.t, far, size)
	r.pipe, r.stdout = near, bufio.NewReaderSize(near, 4096)
	if r.stderr, err = os.CreateTemp(m.dir, "stderr-"); err != nil {
		m.t.Fatal(err)
	}
	r.cmd.Stdout, r.cmd.Stderr = far, r.stderr
	if err := r.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	far.Close()
	m.t.Cleanup(func() {
		if r.ended == nil {
			r.cmd.Process.Kill()
			r.wait()
		}
	})
	return r
}

// read reads all output, beside whatever else goes on.
func (r *running) read() {
	r.reading.Do(func() {
		defer close(r.drained)
		io.Copy(&r.out, r.stdout) // an error shows in what is missing
	})
}

// until reads the output up to the first line for which ok holds. It reports
// whether there was one.
func (r *running) until(ok func(line string) bool) bool {
	for {
		line, err := r.stdout.ReadString('\n')
		r.out.WriteString(line)
		if err != nil {
			return false
		}
		if ok(line) {
			return true
		}
	}
}

// wait reads all output and waits for the program's end.
func (r *running) wait() *outcome {
	r.t.Helper()
	if r.ended != nil {
		return r.ended
	}
	timer := time.AfterFunc(longest-time.Since(r.started), func() {
		r.t.Errorf("sombra %s: still at work after %v", strings.Join(r.args, " "), longest)
		r.cmd.Process.Kill()
	})
	defer timer.Stop()
	// Only the program itself holds the other end: its children have none.
	r.read()
	<-r.drained
	r.pipe.Close()
	err := r.cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		r.t.Fatal(err)
	}
	said, err := os.ReadFile(r.stderr.Name())
	if err != nil {
		r.t.Fatal(err)
	}
	r.stderr.Close()
	r.ended = &outcome{t: r.t, args: r.args, code: r.cmd.ProcessState.ExitCode(), out: r.out.String(), err: string(said),
		took: time.Since(r.started), usage: r.cmd.ProcessState.SysUsage().(*syscall.Rusage)}
	return r.ended
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

package launch

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/writer"
)

// Process is a program that was started.
type Process struct {
	pid  int
	done chan struct{}
	err  error
}

// PID is its process id.
func (p *Process) PID() int { return p.pid }

// Done is closed when it has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err says, after Done, how it ended: nil if with status 0.
func (p *Process) Err() error { return p.err }

// prelude is run by the shell in the program's place before it becomes the
// program. The file mode mask belongs to the whole of this process and cannot be
// set for one child alone in another way.
const prelude = `umask 022 && exec "$@"`

// shell is the one that every Linux has.
const shell = "/bin/sh"

func start(_ writer.Spec, p Program) (*Process, error) {
	if err := executable(p.Path); err != nil {
		return nil, fmt.Errorf("start %s: %w", p.Path, err)
	}
	cmd := exec.Command(shell, append([]string{"-c", prelude, "sh", p.Path}, p.Args...)...)
	cmd.Env, cmd.Dir = p.Env, p.Dir
	if cmd.Env == nil {
		cmd.Env = Environment()
	}
	if cmd.Dir == "" {
		cmd.Dir = "/"
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if p.Log != "" {
		f, err := os.OpenFile(p.Log, os.O_WRONLY|os.O_APPEND|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o640)
		if err != nil {
			return nil, fmt.Errorf("start %s: %w", p.Path, err)
		}
		defer f.Close()
		if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
			return nil, fmt.Errorf("start %s: its log %s is no regular file", p.Path, p.Log)
		}
		cmd.Stdout, cmd.Stderr = f, f
	}
	// What was inherited here is not passed on; what Go opens never is.
	if err := unix.CloseRange(3, ^uint(0)>>1, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return nil, fmt.Errorf("start %s: close descriptors: %w", p.Path, err)
	}
	begin := untied
	if p.Tied {
		begin = Tied
	}
	ended, err := begin(cmd, syscall.SIGKILL)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", p.Path, err)
	}
	out := &Process{pid: cmd.Process.Pid, done: make(chan struct{})}
	go func() {
		defer close(out.done)
		if err := <-ended; err != nil {
			out.err = fmt.Errorf("%s: %w: %w", p.Path, ErrEnded, err)
		}
	}()
	return out, nil
}

// untied starts a command that outlives this process.
func untied(cmd *exec.Cmd, _ syscall.Signal) (<-chan error, error) {
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	out := make(chan error, 1)
	go func() { out <- cmd.Wait() }()
	return out, nil
}

// executable reports why a file cannot be started, before a shell would say so in
// its own words.
func executable(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("it is no program")
	}
	return unix.Access(path, unix.X_OK)
}

// Environment is what a program gets that is given none.
func Environment() []string {
	env := []string{}
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		switch {
		case strings.HasPrefix(name, "LC_"):
		case name == "PATH", name == "LANG", name == "LANGUAGE", name == "TZ", name == "HOME", name == "USER", name == "LOGNAME":
		default:
			continue
		}
		env = append(env, kv)
	}
	return env
}

package child

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// self is the running program even if its file has been replaced or lies where
// the child's user may not look.
const self = "/proc/self/exe"

// Options says what to start.
type Options struct {
	// Exe is the program; empty means the one that is running.
	Exe string
	// Args are its arguments, without the program's name.
	Args []string
	// Env is its environment; nil means Env().
	Env []string
	// Name is what it is called in errors.
	Name string
	// Credential is the identity it gets; nil means ours.
	Credential *syscall.Credential
	// Confine takes from it the way to more rights than its identity has:
	// no_new_privs is set, ambient and inheritable capabilities are cleared.
	Confine bool
	// Stderr is its standard error; nil leads nowhere.
	Stderr *os.File
	// Files are ends of further socket pairs for it, which stay the caller's to
	// close: see [InheritedFile].
	Files []*os.File
}

// Process is a child that was started.
type Process struct {
	// Conn leads to the child.
	Conn *net.UnixConn

	cmd  *exec.Cmd
	done chan struct{}
	err  error
}

// ours are the processes started here that have not been waited for.
var ours struct {
	sync.Mutex
	pids map[int]bool
}

// PIDs lists the children of this process that [Start] started and that have
// not ended. They must never be stopped.
func PIDs() []int {
	ours.Lock()
	defer ours.Unlock()
	list := make([]int, 0, len(ours.pids))
	for pid := range ours.pids {
		list = append(list, pid)
	}
	return list
}

// Start starts a child in a session of its own, so that an interrupt typed at
// the terminal does not reach it, and with the root directory as its working
// directory.
func Start(o Options) (*Process, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("start %s: socketpair: %w", o.Name, err)
	}
	near, far := os.NewFile(uintptr(fds[0]), "near end"), os.NewFile(uintptr(fds[1]), "far end")
	defer near.Close()
	defer far.Close()
	conn, err := net.FileConn(near)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", o.Name, err)
	}
	p := &Process{Conn: conn.(*net.UnixConn), cmd: command(o, far), done: make(chan struct{})}
	if err := p.start(o.Confine); err != nil {
		conn.Close()
		return nil, fmt.Errorf("start %s: %w", o.Name, err)
	}
	return p, nil
}

func command(o Options, far *os.File) *exec.Cmd {
	exe := o.Exe
	if own, err := os.Executable(); exe == "" || err == nil && exe == own {
		exe = self
	}
	cmd := exec.Command(exe, o.Args...)
	if exe == self {
		cmd.Args[0] = os.Args[0]
	}
	cmd.Env = o.Env
	if cmd.Env == nil {
		cmd.Env = Env()
	}
	cmd.Dir = "/"
	cmd.Stderr = nil
	if o.Stderr != nil {
		cmd.Stderr = o.Stderr
	}
	cmd.ExtraFiles = append([]*os.File{far}, o.Files...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: o.Credential}
	return cmd
}

func (p *Process) start(confine bool) error {
	if err := closeOnExec(); err != nil {
		return err
	}
	started := make(chan error, 1)
	go func() {
		if confine {
			// What a thread gives up it never gets back, so this one is
			// not given back to the runtime: it ends with the goroutine.
			runtime.LockOSThread()
			if err := giveUpRights(); err != nil {
				started <- err
				return
			}
		}
		ours.Lock()
		defer ours.Unlock()
		err := p.cmd.Start()
		if err == nil {
			if ours.pids == nil {
				ours.pids = make(map[int]bool)
			}
			ours.pids[p.cmd.Process.Pid] = true
		}
		started <- err
	}()
	if err := <-started; err != nil {
		return err
	}
	go func() {
		p.err = p.cmd.Wait()
		ours.Lock()
		delete(ours.pids, p.PID())
		ours.Unlock()
		close(p.done)
	}()
	return nil
}

// closeOnExec keeps from the child what we inherited ourselves. Descriptors
// that this program opens have the flag already.
func closeOnExec() error {
	err := unix.CloseRange(3, ^uint(0)>>1, unix.CLOSE_RANGE_CLOEXEC)
	if !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EPERM) {
		return err
	}
	// Linux before 5.11, or a sandbox that does not know the call.
	dir, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, e := range dir {
		var fd int
		if _, err := fmt.Sscan(e.Name(), &fd); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}

// giveUpRights takes from the calling thread, and what it starts, the ways to
// more rights.
func giveUpRights() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
	if err != nil && !errors.Is(err, unix.EINVAL) { // EINVAL: Linux before 4.3 has none
		return fmt.Errorf("ambient capabilities: %w", err)
	}
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := capget(&head, &data); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	data[0].Inheritable, data[1].Inheritable = 0, 0
	if err := unix.Capset(&head, &data[0]); err != nil {
		return fmt.Errorf("inheritable capabilities: %w", err)
	}
	return nil
}

func capget(head *unix.CapUserHeader, data *[2]unix.CapUserData) error {
	_, _, errno := unix.Syscall(unix.SYS_CAPGET, uintptr(unsafe.Pointer(head)), uintptr(unsafe.Pointer(data)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// PID is the child's process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the child has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err says, after Done, how the child ended: nil if with status 0.
func (p *Process) Err() error { return p.err }

// Kill ends the child at once.
func (p *Process) Kill() { p.cmd.Process.Kill() }

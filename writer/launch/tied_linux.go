package launch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// Tied starts a command that serves this process alone, as a server that recovers
// restored data where nobody else reaches it. When this process ends, however it
// does, the program gets the signal. What is returned gives, once, how the program
// ended.
func Tied(cmd *exec.Cmd, sig syscall.Signal) (ended <-chan error, err error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = sig
	started, out := make(chan error), make(chan error, 1)
	go func() {
		// The kernel takes the thread for the parent: it must not end before.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			out <- cmd.Wait()
		}
	}()
	return out, <-started
}

// scratchPrefix begins the names of such directories, before what they are for and
// whose they are.
const scratchPrefix = "sombra-"

// Scratch makes a directory for a program that is tied to this process, among the
// temporary ones. Those that processes of the same user have left which were killed
// are removed. What it is for is a word without "-".
func Scratch(purpose string) (string, error) {
	begin := scratchPrefix + purpose + "-"
	list, err := filepath.Glob(filepath.Join(os.TempDir(), begin+"*-*"))
	if err != nil {
		return "", err
	}
	for _, dir := range list {
		number, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), begin), "-")
		pid, err := strconv.Atoi(number)
		info, serr := os.Lstat(dir)
		if err != nil || serr != nil || !info.IsDir() || pid <= 0 {
			continue
		}
		if st, ok := info.Sys().(*syscall.Stat_t); !ok || int(st.Uid) != os.Geteuid() {
			continue
		}
		if lives(pid) {
			continue // it is somebody's, or a process has that number again
		}
		if err := os.RemoveAll(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("remove what a killed process has left: %w", err)
		}
	}
	return os.MkdirTemp("", begin+strconv.Itoa(os.Getpid())+"-")
}

// lives reports whether there is a process that has not ended, waited for or not.
func lives(pid int) bool {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return false
	}
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return true
	}
	// The name, in parentheses, may hold anything.
	_, after, _ := strings.Cut(string(data[strings.LastIndexByte(string(data), ')')+1:]), " ")
	return !strings.HasPrefix(after, "Z") && !strings.HasPrefix(after, "X")
}

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// process is one that runs the program.
type process struct {
	pid, parent int
	role        string // its first argument
}

// The roles in which the program starts itself.
const (
	roleKeeper = "__keeper"
	roleHost   = "__writer-host"
)

// processes lists the living processes that run the program. Zombies are dead.
func processes(t *testing.T) (list []process) {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		exe, err := os.Readlink(dir + "/exe")
		if err != nil || exe != program {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(dir))
		state, parent, ok := stat(pid)
		if !ok || state == "Z" || state == "X" {
			continue
		}
		cmdline, _ := os.ReadFile(dir + "/cmdline")
		args := strings.Split(string(cmdline), "\x00")
		p := process{pid: pid, parent: parent}
		if len(args) > 1 {
			p.role = args[1]
		}
		list = append(list, p)
	}
	return list
}

// stat reads a process's state and parent.
func stat(pid int) (state string, parent int, ok bool) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", 0, false
	}
	// The name, in parentheses, may hold anything.
	f := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	if len(f) < 2 {
		return "", 0, false
	}
	parent, _ = strconv.Atoi(f[1])
	return f[0], parent, true
}

// dead reports whether a process has ended, waited for or not.
func dead(pid int) bool {
	state, _, ok := stat(pid)
	return !ok || state == "Z" || state == "X"
}

// childOf gives the child of a process that has a role.
func childOf(t *testing.T, parent int, role string) int {
	t.Helper()
	for _, p := range processes(t) {
		if p.parent == parent && p.role == role {
			return p.pid
		}
	}
	t.Fatalf("process %d has no child %s", parent, role)
	return 0
}

// left lists what a run may not leave behind: processes, files of shadow copies
// on the volume and in the state directory, and journals.
func (m *machine) left(volume string) (list []string) {
	m.t.Helper()
	for _, p := range processes(m.t) {
		list = append(list, fmt.Sprintf("process %d %s", p.pid, p.role))
	}
	for _, place := range []string{filepath.Join(volume, ".sombra"), filepath.Join(m.state(), "journal"), filepath.Join(m.state(), "shadow")} {
		filepath.WalkDir(place, func(p string, d os.DirEntry, err error) error {
			if err == nil && p != place {
				list = append(list, p)
			}
			return nil
		})
	}
	return list
}

func pipeSize(t *testing.T, f *os.File, size int) {
	t.Helper()
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETPIPE_SZ, size); err != nil {
		t.Fatal(err)
	}
}

// tryFlock reports whether a lock file is free.
func tryFlock(t *testing.T, name string) bool {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil
}

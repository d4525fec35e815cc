package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// lend leaves a server that runs to a restore, and writes nothing meanwhile.
// Starting it takes it back.
func (l *faultLoad) lend(s *serverApp) {
	l.mu.Lock()
	l.down = true
	l.mu.Unlock()
	s.lent = true
}

// answer asks the server that runs on the data, whoever has started it, for its
// last number.
func (a *serverApp) answer() (last int64, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, err := a.dial(ctx)
	if err != nil {
		return 0, err
	}
	defer c.close()
	return c.sound(ctx)
}

// serverInRestore is effect for a server, the one that is stopped, or the one that
// a writer starts to recover what was restored or for good.
func (c faultCell) serverInRestore(a *serverApp) effect {
	e := effect{hit: []string{a.name()}, codes: []int{0, 3, 5}, late: c.point == "PostRestore"}
	var pids []int
	each := func(sig syscall.Signal) (errs error) {
		for _, pid := range pids {
			if err := syscall.Kill(pid, sig); !errors.Is(err, syscall.ESRCH) {
				errs = errors.Join(errs, err)
			}
		}
		return errs
	}
	strike := func(sig syscall.Signal) func(r *running) error {
		return func(r *running) error {
			for end := time.Now().Add(10 * time.Second); time.Now().Before(end) && !dead(r.cmd.Process.Pid); time.Sleep(2 * time.Millisecond) {
				if pids = usersOf(a.dir); len(pids) > 0 {
					return each(sig)
				}
			}
			return nil // it needs none
		}
	}
	switch {
	case c.point == pointRestoring && (c.fault == faultKilled || c.fault == faultHung):
		return not("it does not run while its files are written")
	case c.fault == faultKilled:
		e.strike = strike(syscall.SIGKILL)
		if a.tidy != nil {
			e.undo = func() error {
				if len(usersOf(a.dir)) == 0 { // else it is what the restore has started
					a.tidy()
				}
				return nil
			}
		}
	case c.fault == faultHung:
		e.strike = strike(syscall.SIGSTOP)
		e.undo = func() error { return each(syscall.SIGCONT) }
	case c.fault == faultFull || c.fault == faultStateFull:
		return not("its volume has its shadow copies, too: see provider")
	case c.fault == faultRestarted:
		return not("a restore keeps it stopped: see killed")
	default:
		return not("what fails in it reaches the backup through its writer: see host")
	}
	return e
}

// spoil takes away what the server cannot be started without.
func (a *serverApp) spoil() error { return os.RemoveAll(filepath.Join(a.dir, a.needs)) }

// usersOf lists the processes, but the program's own, that work in a directory or
// have files below it open.
func usersOf(dir string) (list []int) {
	links, _ := filepath.Glob("/proc/[0-9]*/cwd")
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, link := range append(links, fds...) {
		target, err := os.Readlink(link)
		if err != nil || target != dir && !strings.HasPrefix(target, dir+"/") {
			continue
		}
		pid, _ := strconv.Atoi(strings.Split(link, "/")[2])
		if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err != nil || exe == program || slices.Contains(list, pid) {
			continue
		}
		list = append(list, pid)
	}
	return list
}

// killAll ends whoever has files below a directory open.
func killAll(dir string) error {
	var killed []int
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		// A server is not ours to wait for, and its number is taken for its life
		// as long as nobody has.
		killed = slices.DeleteFunc(killed, func(pid int) bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) })
		pids := usersOf(dir)
		if len(pids)+len(killed) == 0 {
			return nil
		}
		killed = append(killed, pids...)
		if time.Now().After(end) {
			return fmt.Errorf("processes %v still have files in %s open", pids, dir)
		}
		for _, pid := range pids {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return err
			}
		}
	}
}

// noServerLeft waits until no server that did not run before has data open and, if
// directories count too, nothing is left of one that only a writer could reach: of
// a writer's process that was killed those remain until the next restore.
func (w *faultWorld) noServerLeft(of string, since time.Time, directories bool) {
	w.t.Helper()
	var list []string
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		list = nil
		for _, a := range w.apps {
			s, ok := a.faultApp.(*serverApp)
			if !ok {
				continue
			}
			for _, pid := range usersOf(s.dir) {
				cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
				text := strings.ReplaceAll(string(cmdline), "\x00", " ")
				private := strings.Contains(text, "/sombra-pg-") || strings.Contains(text, "/sombra-mariadb-") || strings.Contains(text, "--name sombra ")
				if private || !s.lent {
					list = append(list, fmt.Sprintf("process %d %q", pid, text))
				}
			}
		}
		for _, kind := range []string{"pg", "mariadb", "etcd"} {
			dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), "sombra-"+kind+"-*"))
			if !directories {
				dirs = nil
			}
			for _, dir := range dirs {
				if info, err := os.Stat(dir); err == nil && info.ModTime().After(since) {
					list = append(list, dir)
				}
			}
		}
		if len(list) == 0 {
			return
		}
	}
	w.t.Errorf("left after %s: %v", of, list)
}

// nothingAside checks that no old data is kept beside what was restored.
func (w *faultWorld) nothingAside() {
	w.t.Helper()
	for _, a := range w.apps {
		s, ok := a.faultApp.(*serverApp)
		if !ok {
			continue
		}
		filepath.WalkDir(s.dir, func(p string, d os.DirEntry, err error) error {
			if err == nil && strings.HasPrefix(d.Name(), ".sombra") && !strings.HasSuffix(d.Name(), ".log") {
				w.t.Errorf("left in the data of %s: %s", a.name(), p)
			}
			return nil
		})
	}
}

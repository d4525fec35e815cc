package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/sombra-backup/sombra/writer"
	"github.com/sombra-backup/sombra/writer/launch"
)

// binDirs are where distributions put the server's programs.
var binDirs = []string{"/usr/lib/postgresql/" + tested + "/bin", "/usr/pgsql-" + tested + "/bin", "/usr/lib64/postgresql/bin", "/usr/local/pgsql/bin", "/usr/bin"}

// programs finds the directory of the server's programs.
func (w *pgWriter) programs() (string, error) {
	dirs := binDirs
	if w.conf.Bin != "" {
		dirs = []string{w.conf.Bin}
	}
	for _, dir := range dirs {
		if info, err := os.Stat(filepath.Join(dir, "postgres")); err == nil && info.Mode().IsRegular() {
			return dir, nil
		}
	}
	return "", fmt.Errorf(`the server's program, postgres, is in none of %s; install PostgreSQL %s, or name the directory ("bin") in the writer's configuration`,
		strings.Join(dirs, ", "), tested)
}

// commandOf gives the directory of a server's program and its arguments, with which
// it is started again.
func commandOf(pid int) (bin string, args []string) {
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err == nil {
		bin = filepath.Dir(strings.TrimSuffix(exe, " (deleted)"))
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return bin, nil
	}
	for i, arg := range bytes.Split(bytes.TrimSuffix(b, []byte{0}), []byte{0}) {
		if i > 0 {
			args = append(args, string(arg))
		}
	}
	return bin, args
}

// stop stops the server in a directory: through its unit if it has one, else as
// pg_ctl does, with clients sent away (fast).
func (w *pgWriter) stop(ctx context.Context, data string, p *postmaster) error {
	if s := w.spec.Service; s != nil {
		if active, err := s.Active(ctx); err == nil && active {
			if err := s.Stop(ctx); err != nil {
				return fmt.Errorf("stop %s, which runs the server of %s: %w", s.Name(), data, err)
			}
		}
	}
	for first := true; ; first = false {
		now, err := runs(data)
		if err != nil {
			return err
		}
		if now == nil {
			return nil
		}
		if now.pid != p.pid {
			return fmt.Errorf("the server of %s was started again while it was to be stopped; stop whoever starts it, and restore again", data)
		}
		if first {
			if err := syscall.Kill(p.pid, syscall.SIGINT); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("stop the server of %s (process %d): %w", data, p.pid, err)
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the server of %s (process %d) does not stop: %w", data, p.pid, context.Cause(ctx))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// startAgain starts a recovered cluster if it ran before, or as the user wishes.
func (w *pgWriter) startAgain(ctx context.Context, e *writer.Event, to places, state asideState, wish startWish) error {
	if to.beside {
		if wish == startAlways {
			note(e, "the cluster in %s is recovered and not started: it lies beside the one that is there, and needs a port of its own", to.data)
		}
		return nil
	}
	if wish == startNever || wish == startAsBefore && !state.Running {
		return nil
	}
	return w.start(ctx, to, state)
}

// start starts the cluster: by its unit, else with the arguments it had.
func (w *pgWriter) start(ctx context.Context, to places, state asideState) error {
	if s := w.spec.Service; s != nil {
		if err := s.Start(ctx); err != nil {
			return fmt.Errorf("the cluster in %s is recovered, but %s could not be started: %w", to.data, s.Name(), err)
		}
		return w.awaitStart(ctx, to.data, nil)
	}
	bin, args := state.Bin, state.Args
	if bin == "" {
		var err error
		if bin, err = w.programs(); err != nil {
			return err
		}
	}
	if len(args) == 0 {
		args = []string{"-D", to.data}
	}
	p, err := launch.Start(w.spec, launch.Program{Path: filepath.Join(bin, "postgres"), Args: args, Log: filepath.Join(to.data, "sombra-start.log")})
	if err != nil {
		return err
	}
	return w.awaitStart(ctx, to.data, p)
}

// awaitStart waits until the server accepts connections.
func (w *pgWriter) awaitStart(ctx context.Context, data string, p *launch.Process) error {
	var ended <-chan struct{}
	if p != nil {
		ended = p.Done()
	}
	for {
		if now, err := runs(data); err == nil && now != nil && (now.ready || now.follows) {
			return nil
		}
		select {
		case <-ended:
			return fmt.Errorf("the cluster in %s is recovered, but its server ended: %w; see %s", data, p.Err(), filepath.Join(data, "sombra-start.log"))
		case <-ctx.Done():
			return fmt.Errorf("the cluster in %s is recovered, but its server does not answer yet: %w", data, context.Cause(ctx))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

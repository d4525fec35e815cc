package mariadb

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
	"github.com/sombra-backup/sombra/writer/launch"
	"golang.org/x/sys/unix"
)

// stop stops the server, and notes before how it was started: a restore that is
// killed while it waits leaves a server that ends, and the next one starts it. A stop
// by a signal is an orderly one, and the data's owner may send it.
func (w *dbWriter) stop(ctx context.Context, pid int, a *aside) error {
	if isPrivate(pid) { // how the server ran before that restore is noted
		return w.terminate(ctx, pid)
	}
	command, err := startedBy(pid)
	if err != nil {
		return err
	}
	active := false
	if w.service != nil {
		if active, err = w.service.Active(ctx); err != nil {
			return err
		}
	}
	a.state.Ran, a.state.Unit, a.state.Stopping, a.state.PID, a.state.More = command, active, time.Now().UTC(), pid, false
	if err := a.save(); err != nil {
		return fmt.Errorf("note how the server of %s runs: %w; it goes on, and nothing was changed; restore again when that can be written", w.dir, err)
	}
	if active {
		if err := w.service.Stop(ctx); err != nil {
			return fmt.Errorf("stop %s, the server of %s: %w; nothing was moved: stop it yourself and restore again, or see that it runs", w.service.Name(), w.dir, err)
		}
	}
	if now, err := lockedBy(w.dir); err != nil || now == 0 {
		return err
	}
	return w.terminate(ctx, pid)
}

// startedBy gives the command line that a server runs by.
func startedBy(pid int) ([]string, error) {
	command := commandLine(pid)
	if len(command) == 0 {
		return nil, nil
	}
	exe, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/exe")
	switch {
	case err == nil:
		command[0] = exe
	case !filepath.IsAbs(command[0]):
		// A server that root has started keeps its program to root.
		if command[0], err = program(filepath.Base(command[0])); err != nil {
			return nil, err
		}
	}
	return command, nil
}

// terminate has a server shut down, and waits for its end.
func (w *dbWriter) terminate(ctx context.Context, pid int) error {
	if err := unix.Kill(pid, unix.SIGTERM); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("stop the server of %s, process %d: %w; stop it yourself and restore again", w.dir, pid, err)
	}
	return w.waitStopped(ctx)
}

// waitStopped waits until no server runs.
func (w *dbWriter) waitStopped(ctx context.Context) error {
	for {
		pid, err := lockedBy(w.dir)
		if err != nil || pid == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the server of %s, process %d, does not stop: %w; it was asked to and may end yet: wait for that, or see its error log for what it waits for, and restore again, or start it", w.dir, pid, context.Cause(ctx))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// readyLimit is the longest that a server may take to recover and accept
// connections, where nobody says another.
const readyLimit = 10 * time.Minute

// start starts the server as it was started before. One that did not run is started
// only if the configuration says how.
func (w *dbWriter) start(ctx context.Context, e *writer.Event, state *asideState) error {
	switch command := state.Ran; {
	case w.service != nil && (state.Unit || w.set.Unit != ""):
		if err := w.service.Start(ctx); err != nil {
			return fmt.Errorf("all files of %s are in their place; start %s: %w; see its log, and start it by hand", w.dir, w.service.Name(), err)
		}
		return nil
	case len(w.set.Start) > 0:
		return w.startCommand(ctx, w.set.Start)
	case len(command) > 0:
		return w.startCommand(ctx, command)
	}
	e.SetWriterFailure(vss.OK, 0, fmt.Sprintf("the server of %s is restored and left stopped, since it did not run before; start it", w.dir))
	return nil
}

// startCommand starts a command that is, or becomes, the server, and waits until
// that accepts connections.
func (w *dbWriter) startCommand(ctx context.Context, command []string) error {
	p, err := launch.Start(w.spec, launch.Program{Path: command[0], Args: command[1:], Log: filepath.Join(w.dir, "start.err")})
	if err != nil {
		return fmt.Errorf("all files of %s are in their place; start the server by %s: %w; start it by hand", w.dir, command[0], err)
	}
	err = waitReady(ctx, p, filepath.Join(w.dir, "start.err"), func(ctx context.Context) error {
		pid, err := lockedBy(w.dir)
		if err != nil || pid == 0 {
			return errors.Join(err, errors.New("no server runs"))
		}
		socket := listensOn(pid)
		if socket == "" {
			return errors.New("it does not listen on a socket")
		}
		l, err := w.set.account()
		if err != nil {
			return err
		}
		s, err := dial(&w.set, socket, l)
		if err != nil {
			return err
		}
		defer s.close()
		return s.db.PingContext(ctx)
	})
	if err != nil {
		err = fmt.Errorf("all files of %s are in their place: %w; see its error log, and start it by hand", w.dir, err)
	}
	return err
}

// waitReady waits until a server that was started answers. One that refuses the
// account answers, too.
func waitReady(ctx context.Context, p *launch.Process, log string, ping func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	for {
		err := ping(ctx)
		if err == nil || answered(err) {
			return nil
		}
		select {
		case <-p.Done():
			return fmt.Errorf("the server that was started has ended: %v; its last words: %s", p.Err(), lastWords(log))
		case <-ctx.Done():
			return fmt.Errorf("the server that was started does not answer: %w: %w", context.Cause(ctx), err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

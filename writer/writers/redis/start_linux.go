package redis

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/sombra-backup/sombra/writer/launch"
	"github.com/sombra-backup/sombra/writer/writers/redis/resp"
)

// startedBy finds out how a server that no unit runs is started: by its program and
// arguments where it shows them, else by its configuration file.
func (w *redisWriter) startedBy(i info) (program string, args []string, err error) {
	f := w.conf.Found
	file := i["config_file"]
	switch {
	case f.Program == "":
		return "", nil, errors.New("its program is not there any more; stop the server, restore, and start it again")
	case len(f.Args) > 0 && filepath.IsAbs(f.Args[0]):
		return f.Program, f.Args, nil
	case filepath.IsAbs(file):
		return f.Program, []string{file}, nil
	}
	return "", nil, errors.New("it was started without a configuration file and is of no unit of systemd, so that it cannot be started again as it was; stop it, restore, and start it again")
}

// stop stops a server, by its unit if it has one, and returns when it is gone.
func (w *redisWriter) stop(ctx context.Context, s *server, now facts, pid int) error {
	if u := w.spec.Service; u != nil {
		if err := u.Stop(ctx); err != nil {
			return fmt.Errorf("stop %s: %w", u.Name(), err)
		}
	} else if err := s.shutDown(ctx, now); err != nil {
		return err
	}
	for alive(pid) {
		if err := rest(ctx, backOff); err != nil {
			return fmt.Errorf("the server (process %d) does not end: %w", pid, err)
		}
	}
	again, err := w.running()
	if err == nil && again != 0 {
		err = fmt.Errorf("the server was stopped, and something started it again (process %d); name its unit in the configuration of the writer, or stop it yourself and restore again", again)
	}
	return err
}

// shutDown ends a server by its own command. One without an append-only file saves
// what it has: if nothing is restored, nothing is lost.
func (s *server) shutDown(ctx context.Context, now facts) error {
	// It refuses to end while it makes its first append-only file.
	if err := s.quiet(ctx, now); err != nil {
		return err
	}
	args := []string{"SAVE"}
	if now.aof {
		args = nil
	}
	_, err := s.do(ctx, "SHUTDOWN", args...)
	var refused resp.Error
	switch {
	case errors.As(err, &refused):
		return fmt.Errorf("SHUTDOWN: %w; the server's log says why", err)
	case ctx.Err() != nil:
		return fmt.Errorf("SHUTDOWN: %w", err)
	}
	return nil // it ends without an answer
}

// startAgain starts the server as it was, if PreRestore stopped it, and makes sure
// that it has loaded what was restored.
func (w *redisWriter) startAgain(ctx context.Context, m *mark, want stamp) error {
	if m == nil || !m.Ran {
		return nil
	}
	pid, err := w.running()
	if err != nil {
		return err
	}
	if pid == 0 {
		if err := w.start(ctx, m); err != nil {
			return fmt.Errorf("start the server: %w", err)
		}
	}
	return w.loaded(ctx, m, want)
}

func (w *redisWriter) start(ctx context.Context, m *mark) error {
	if u := w.spec.Service; u != nil {
		return u.Start(ctx)
	}
	if m.Unit {
		return errors.New("it was stopped by its unit, which is not known now; start it yourself")
	}
	_, err := launch.Start(w.spec, launch.Program{Path: m.Program, Args: m.Args})
	return err
}

// startLimit is how long a server may take to take connections.
const startLimit = 30 * time.Second

// loaded waits until the server has loaded its data, and looks whether that can be
// what was restored.
func (w *redisWriter) loaded(ctx context.Context, m *mark, want stamp) error {
	begun := time.Now()
	for {
		done, err := w.look(ctx, m, want)
		if done {
			return err
		}
		if err != nil && time.Since(begun) > startLimit {
			return fmt.Errorf("the server was started and does not answer: %w", err)
		}
		if rerr := rest(ctx, backOff); rerr != nil {
			return errors.Join(rerr, err)
		}
	}
}

// look asks a server that was started once; not done with no error is loading.
func (w *redisWriter) look(ctx context.Context, m *mark, want stamp) (done bool, err error) {
	pid, err := w.running()
	if err != nil {
		return true, err
	}
	if pid == 0 {
		return false, errors.New("no process of it is there; its log says why")
	}
	s, err := connect(ctx, w.listening(pid))
	if isLoading(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer s.close()
	i, err := s.info(ctx, "persistence", "keyspace")
	if err != nil || i["loading"] != "0" {
		return false, err
	}
	_, keys := i.keys()
	switch {
	case (i["aof_enabled"] == "1") != m.AOF:
		return true, errors.New("the server keeps its data in another way than before the restore (appendonly); it may not have loaded what was restored")
	case want.Keys > 0 && keys == 0:
		return true, fmt.Errorf("the server began empty, and the backup has %d keys; its log says why", want.Keys)
	}
	return true, nil
}

// isLoading reports whether a server refused a command because it is loading.
func isLoading(err error) bool {
	var refused resp.Error
	return errors.As(err, &refused) && strings.HasPrefix(string(refused), "LOADING")
}

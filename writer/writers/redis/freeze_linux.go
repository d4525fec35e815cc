package redis

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

const (
	// freezeLimit is the longest a Freeze and what follows may take if nobody
	// sets a limit: the model's own.
	freezeLimit = 60 * time.Second
	// look is how often the server is asked whether it is ready.
	lookEvery = time.Millisecond
	// backOff is how long clients get between two pauses.
	backOff = 20 * time.Millisecond
)

// snapshot is what was true of a server while it was held.
type snapshot struct {
	version  string
	runID    string
	dirty    int64 // writes since the last save
	saves    int64
	rewrites int64
	aofSize  int64
	keys     int64  // that never expire
	incr     string // the file that is appended to, and its size
	incrSize int64
}

// errBusy says that the server has to be let go on for a while first.
var errBusy = errors.New("busy")

// PrepareForSnapshot waits until the server makes no save and no rewrite, so that
// Freeze need not.
func (w *redisWriter) PrepareForSnapshot(ctx context.Context, _ *writer.Event) error {
	const event = "PrepareForSnapshot"
	if err := w.take(ctx, event); err != nil {
		return err
	}
	defer w.give()
	if w.facts.stopped {
		return nil
	}
	if err := w.prepare(ctx); err != nil {
		return w.failure(ctx, vss.ErrWriterErrorRetryable, event, err)
	}
	return nil
}

func (w *redisWriter) prepare(ctx context.Context) error {
	s, err := connect(ctx, w.conf)
	if err != nil {
		return err
	}
	defer s.close()
	return s.quiet(ctx, w.facts)
}

// quiet waits until the server is not at work on its files.
func (s *server) quiet(ctx context.Context, f facts) error {
	look := func() (info, error) {
		ctx, cancel := context.WithTimeoutCause(ctx, answerLimit, fmt.Errorf("the server does not answer within %v", answerLimit))
		defer cancel()
		return s.info(ctx, "persistence")
	}
	for {
		i, err := look()
		if err != nil {
			return err
		}
		if !f.working(i) {
			return nil
		}
		if err := rest(ctx, 10*backOff); err != nil {
			return fmt.Errorf("the server is still saving or rewriting its files: %w", err)
		}
	}
}

// working reports whether the server is about to change the component's files by
// itself. Beside an append-only file a save is none of them.
func (f *facts) working(i info) bool {
	if f.aof {
		return i["aof_rewrite_in_progress"] != "0" || i["aof_rewrite_scheduled"] != "0"
	}
	return i["rdb_bgsave_in_progress"] != "0"
}

func rest(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Freeze implements [writer.Writer]; see the package comment.
func (w *redisWriter) Freeze(ctx context.Context, e *writer.Event) error {
	const event = "Freeze"
	begun := time.Now()
	if err := w.take(ctx, event); err != nil {
		return err
	}
	defer w.give()
	if w.held != nil {
		return vss.Errorf(vss.ErrBadState, event, w.conf.Directory, "it is frozen already")
	}
	limit := e.Limit
	if limit <= 0 {
		limit = freezeLimit
	}
	ctx, cancel := context.WithDeadline(ctx, begun.Add(limit))
	defer cancel()
	if w.facts.stopped {
		if err := w.notRunning(); err != nil {
			return w.failure(ctx, vss.ErrWriterErrorRetryable, event, err)
		}
		return nil
	}
	wait, err := w.freeze(ctx, begun.Add(limit))
	if err != nil {
		return w.failure(ctx, vss.ErrWriterErrorNonRetryable, event, err)
	}
	e.Frozen(writer.FreezeReport{LockWait: wait})
	return nil
}

// notRunning makes sure that nobody has started the server of files that are still
// only because it does not run.
func (w *redisWriter) notRunning() error {
	pid, err := w.running()
	if err == nil && pid != 0 {
		err = fmt.Errorf("the server was not running when the backup began, and is now (process %d)", pid)
	}
	return err
}

// freeze holds writes until everything acknowledged is in the files. It tells how
// long it took until the pause that lasts began.
func (w *redisWriter) freeze(ctx context.Context, until time.Time) (time.Duration, error) {
	begun := time.Now()
	s, err := connect(ctx, w.conf)
	if err != nil {
		return 0, err
	}
	now, err := s.persistence(ctx)
	if err == nil && (now.aof != w.facts.aof || now.names != w.facts.names) {
		err = errors.New("how the server keeps its data was changed since the backup began; begin again")
	}
	if err != nil {
		return 0, errors.Join(err, s.close())
	}
	for {
		held, err := w.pause(ctx, s, until)
		if err != nil {
			return 0, errors.Join(err, s.close())
		}
		waited := time.Since(begun)
		shot, err := w.settle(ctx, held)
		if err == nil {
			w.held, w.frozen = held, shot
			return waited, nil
		}
		err = errors.Join(err, held.release(ctx))
		if !errors.Is(err, errBusy) {
			return 0, errors.Join(err, s.close())
		}
		if rerr := rest(ctx, backOff); rerr != nil {
			return 0, errors.Join(fmt.Errorf("the server was saving or rewriting its files all the time: %w", rerr), s.close())
		}
	}
}

// settle waits, while writes are held, until the files have all that was
// acknowledged and nothing is at work on them.
func (w *redisWriter) settle(ctx context.Context, h *hold) (*snapshot, error) {
	saved := false
	for {
		i, err := h.server.info(ctx, "server", "persistence", "keyspace", "replication")
		if err != nil {
			return nil, err
		}
		ready, err := w.facts.ready(i)
		switch {
		case err != nil:
			return nil, err
		case w.facts.working(i):
			if !saved {
				return nil, errBusy
			}
		case ready && (saved || !w.unsaved()):
			return w.facts.shot(i, w.conf.Directory)
		case !w.facts.aof && saved:
			return nil, fmt.Errorf("the save that was made for the backup failed (%s); the server's log says why", i["rdb_last_bgsave_status"])
		case !w.facts.aof:
			if _, err := h.server.do(ctx, "BGSAVE"); err != nil {
				return nil, fmt.Errorf("BGSAVE: %w", err)
			}
			saved = true
		}
		if err := rest(ctx, lookEvery); err != nil {
			return nil, fmt.Errorf("what was acknowledged is not in the files yet (%s): %w", w.facts.pending(i), err)
		}
	}
}

// unsaved reports whether there is no RDB file yet, or no more, though the server has
// nothing to save.
func (w *redisWriter) unsaved() bool {
	if w.facts.aof || w.facts.crash {
		return false
	}
	_, err := os.Lstat(w.facts.names.rdbPath(w.conf.Directory))
	return errors.Is(err, fs.ErrNotExist)
}

// pending says what is waited for.
func (f *facts) pending(i info) string {
	if f.aof {
		return i["aof_buffer_length"] + " bytes to be appended"
	}
	return i["rdb_changes_since_last_save"] + " changes to be saved"
}

// ready reports whether the files have all that was acknowledged, as long as
// nothing is at work on them.
func (f *facts) ready(i info) (bool, error) {
	switch {
	case i["loading"] != "0":
		return false, errors.New("the server is loading its data")
	case i["role"] != "master":
		return false, errors.New("the server has become a replica")
	case f.aof && i["aof_enabled"] != "1":
		return false, errors.New("the append-only file was turned off since the backup began; begin again")
	case f.aof && i["aof_last_write_status"] != "ok":
		return false, errors.New("the server could not write to its append-only file; its log says why")
	case f.aof:
		return i["aof_buffer_length"] == "0", nil
	case f.crash:
		return true, nil
	}
	return i["rdb_changes_since_last_save"] == "0" && i["rdb_saves"] != "" && i["rdb_last_bgsave_status"] == "ok", nil
}

// shot notes what is true now.
func (f *facts) shot(i info, dir string) (*snapshot, error) {
	n, err := i.numbers("rdb_changes_since_last_save", "rdb_saves", "aof_rewrites")
	if err != nil {
		return nil, err
	}
	s := &snapshot{version: i["redis_version"], runID: i["run_id"], dirty: n[0], saves: n[1], rewrites: n[2]}
	_, s.keys = i.keys()
	if !f.aof {
		if _, err := os.Lstat(f.names.rdbPath(dir)); err != nil && !f.crash {
			return nil, fmt.Errorf("the server says that it has saved its data: %w", err)
		}
		return s, nil
	}
	if s.aofSize, err = i.number("aof_current_size"); err != nil {
		return nil, err
	}
	m, err := readManifest(f.names.manifest(dir))
	if err != nil {
		return nil, err
	}
	if err := m.check(f.names.aofPath(dir)); err != nil {
		return nil, err
	}
	s.incr, s.incrSize, err = m.tail(f.names.aofPath(dir))
	return s, err
}

// Thaw implements [writer.Writer]. Before it lets go it asks the server whether it
// was held all the time; if not, the shadow copy cannot be trusted and it says so.
func (w *redisWriter) Thaw(ctx context.Context, _ *writer.Event) error {
	const event = "Thaw"
	if err := w.take(ctx, event); err != nil {
		return err
	}
	defer w.give()
	if w.facts.stopped {
		if err := w.notRunning(); err != nil {
			return w.failure(ctx, vss.ErrWriterErrorRetryable, event, err)
		}
		return nil
	}
	held := w.held
	w.held = nil
	if held == nil {
		return vss.Errorf(vss.ErrWriterErrorRetryable, event, w.conf.Directory, "it was not frozen any more, so it may have changed while the shadow copy was made")
	}
	changed := w.verify(ctx, held)
	if err := errors.Join(held.release(ctx), held.server.close()); err != nil {
		return w.failure(ctx, vss.ErrWriterErrorNonRetryable, event, errors.Join(err, changed))
	}
	if changed != nil {
		return w.failure(ctx, vss.ErrWriterErrorRetryable, event, fmt.Errorf("it may have changed while the shadow copy was made: %w", changed))
	}
	return nil
}

// verify makes sure that nothing was written, saved or rewritten since Freeze.
func (w *redisWriter) verify(ctx context.Context, h *hold) error {
	if err := h.lost(); err != nil {
		return err
	}
	i, err := h.server.info(ctx, "server", "persistence")
	if err != nil {
		return err
	}
	n, err := i.numbers("rdb_changes_since_last_save", "rdb_saves", "aof_rewrites")
	if err != nil {
		return err
	}
	was := w.frozen
	switch {
	case i["run_id"] != was.runID:
		return errors.New("the server was started again")
	case w.facts.working(i) || !w.facts.aof && n[1] != was.saves || w.facts.aof && n[2] != was.rewrites:
		return errors.New("the server began to save or rewrite its files")
	case n[1] == was.saves && (n[0] > was.dirty || n[0] != was.dirty && !w.facts.aof): // a save that ends takes its writes from the count
		return fmt.Errorf("the server took %d writes though they were held; somebody may have ended the pause (CLIENT UNPAUSE)", n[0]-was.dirty)
	}
	if w.facts.aof {
		size, err := i.number("aof_current_size")
		if err != nil || size != was.aofSize || i["aof_buffer_length"] != "0" {
			return errors.Join(errors.New("the append-only file has grown though writes were held"), err)
		}
	}
	return nil
}

// Abort implements [writer.Writer]. It may come at any time and as often as it
// likes. A writer made anew has nothing to undo: what a dead one held ends by
// itself.
func (w *redisWriter) Abort(ctx context.Context, _ *writer.Event) error {
	return w.finish(ctx, "Abort")
}

// BackupShutdown implements [writer.BackupShutdowner].
func (w *redisWriter) BackupShutdown(ctx context.Context, _ *writer.Event) error {
	return w.finish(ctx, "BackupShutdown")
}

// finish lets go of everything.
func (w *redisWriter) finish(ctx context.Context, event string) error {
	if err := w.take(ctx, event); err != nil {
		return err
	}
	defer w.give()
	held := w.held
	w.held = nil
	if held == nil {
		return nil
	}
	if err := errors.Join(held.release(ctx), held.server.close()); err != nil {
		return w.failure(ctx, vss.ErrWriterErrorNonRetryable, event, err)
	}
	return nil
}

package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// pgWriter is the writer of one cluster. From PrepareForBackup to BackupShutdown
// or Abort it has a connection to the server, if that runs and lets it in.
type pgWriter struct {
	conf     config
	spec     writer.Spec
	system   uint64
	segment  uint64
	layout   *layout // nil in a restore
	begun    *postmaster
	lacking  string // see foretell
	instance vss.GUID

	// turn holds a token while a handler uses what follows. Abort may come
	// beside another handler, and waits here until that one has seen that its
	// time is up.
	turn chan struct{}
	job  *job // of the backup under way; nil if there is none
}

var (
	_ writer.Writer           = (*pgWriter)(nil)
	_ writer.BackupPreparer   = (*pgWriter)(nil)
	_ writer.SnapshotPreparer = (*pgWriter)(nil)
	_ writer.PostSnapshotter  = (*pgWriter)(nil)
	_ writer.BackupCompleter  = (*pgWriter)(nil)
	_ writer.BackupShutdowner = (*pgWriter)(nil)
	_ writer.PreRestorer      = (*pgWriter)(nil)
	_ writer.PostRestorer     = (*pgWriter)(nil)
)

func newWriter(c config, s writer.Spec) *pgWriter {
	return &pgWriter{conf: c, spec: s, instance: vss.NewGUID(), turn: make(chan struct{}, 1)}
}

// Describe implements [writer.Writer]. A server that does not run when the writer
// is made must not run until Thaw; then its files are still by nature.
func (w *pgWriter) Describe() writer.Description {
	d := writer.Description{Level: vss.LevelBackEnd, Stillness: writer.FilesStill, Weak: w.lacking}
	if w.begun != nil {
		d.Stillness, d.NamesProcesses = writer.NothingHeld, true
	}
	return d
}

// job is one backup.
type job struct {
	typ   vss.BackupType
	prev  *stamp // what the backup builds upon; nil for a whole one
	db    *session
	found *postmaster // the server that was met
	temp  string      // slot that keeps the log until the outcome is known
	stamp stamp
	notes notes
	// began and ended tell where pg_backup_start and pg_backup_stop stand.
	backup  bool
	control control // as of Freeze, of a server that does not run
}

// logOnly reports whether the backup is of the log alone: nothing is frozen then.
func (j *job) logOnly() bool { return j.typ == vss.BackupTypeLog && j.prev != nil }

// advances reports whether the backup moves the chain of log backups on.
func (j *job) advances() bool {
	switch j.typ {
	case vss.BackupTypeFull, vss.BackupTypeIncremental, vss.BackupTypeLog:
		return true
	}
	return false
}

// take waits for the handler that is at work to end.
func (w *pgWriter) take(ctx context.Context, event string) error {
	select {
	case w.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return vss.Errorf(vss.ErrWriterErrorTimeout, event, w.conf.Data, "another event is still at work: %w", context.Cause(ctx))
	}
}

func (w *pgWriter) give() { <-w.turn }

// handle runs the body of a handler, and gives its error the code that fits.
func (w *pgWriter) handle(ctx context.Context, event string, body func() error) error {
	if err := w.take(ctx, event); err != nil {
		return err
	}
	defer w.give()
	err := body()
	if err == nil {
		return nil
	}
	code := vss.ErrWriterErrorNonRetryable
	switch {
	case ctx.Err() != nil:
		code = vss.ErrWriterErrorTimeout
	case errors.Is(err, errChanged):
		code = vss.ErrWriterErrorRetryable
	}
	return vss.Errorf(code, event, w.conf.Data, "%w", err)
}

// errChanged is of what may be otherwise if the backup is tried again.
var errChanged = errors.New("try again")

// component gives the cluster's component of a document's part.
func (w *pgWriter) component(p *metadata.WriterComponents) *metadata.Component {
	if p == nil {
		return nil
	}
	c, _ := p.Component("", w.conf.Data)
	return c
}

// note reports something that does not stop the backup.
func note(e *writer.Event, format string, args ...any) {
	text := strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", "; ")
	if e.Failure != nil && e.Failure.Message != "" {
		text = e.Failure.Message + "; " + text
	}
	e.SetWriterFailure(vss.OK, 0, text)
}

// PrepareForBackup implements [writer.BackupPreparer]: it connects to the server,
// and stages the log for a log backup.
func (w *pgWriter) PrepareForBackup(ctx context.Context, e *writer.Event) error {
	return w.handle(ctx, "PrepareForBackup", func() error {
		w.end(ctx)
		c := w.component(e.Components)
		if c == nil && e.State.SelectComponents {
			return nil // not chosen
		}
		j := &job{typ: e.State.Type}
		if err := w.prepare(ctx, e, j, c); err != nil {
			w.job = j
			w.end(ctx)
			return err
		}
		w.job = j
		return nil
	})
}

func (w *pgWriter) prepare(ctx context.Context, e *writer.Event, j *job, c *metadata.Component) error {
	if err := w.clearStaging(); err != nil {
		return err
	}
	if c != nil {
		if text, ok := c.PreviousBackupStamp(); ok && text != "" {
			prev, err := parseStamp(text)
			if err != nil {
				return err
			}
			j.prev = &prev
		}
	}
	var err error
	if j.found, err = w.server(); err != nil {
		return err
	}
	if j.found != nil {
		j.db, err = w.connect(ctx, j.found)
		if err != nil && j.logOnly() {
			return err
		}
		if err != nil {
			if now, cerr := readControl(w.conf.Data); cerr != nil || now.State != inProduction {
				return errors.Join(fmt.Errorf("the server of %s is a standby or recovers (its cluster is %v), and lets nobody in; back up its primary, or try again later: %w: %w", w.conf.Data, now.State, errChanged, err), cerr)
			}
			note(e, withoutConnection+": %v", err)
		}
	}
	if j.db == nil {
		if j.logOnly() {
			return fmt.Errorf("the server of %s does not run, and its log can be saved only with it; start it, or make a full backup", w.conf.Data)
		}
		return nil
	}
	if err := j.db.suits(); err != nil {
		return err
	}
	if j.logOnly() {
		return w.stageLog(ctx, e, j, c)
	}
	if w.conf.Logs && j.advances() {
		return w.keepLog(ctx, j)
	}
	return nil
}

// server finds the running server, which must be there if it was when the writer
// was made, and must not if it was not.
func (w *pgWriter) server() (*postmaster, error) {
	p, err := runs(w.conf.Data)
	switch {
	case err != nil:
		return nil, err
	case w.begun == nil && p != nil:
		return nil, fmt.Errorf("the server of %s was started meanwhile: %w", w.conf.Data, errChanged)
	case w.begun != nil && p == nil:
		return nil, fmt.Errorf("the server of %s has stopped meanwhile: %w", w.conf.Data, errChanged)
	}
	return p, nil
}

// PrepareForSnapshot implements [writer.SnapshotPreparer]: the server makes a
// checkpoint, so that there is little to recover and little to flush.
func (w *pgWriter) PrepareForSnapshot(ctx context.Context, e *writer.Event) error {
	return w.handle(ctx, "PrepareForSnapshot", func() error {
		j := w.job
		if j == nil || j.logOnly() || j.db == nil || w.conf.NoCheckpoint {
			return nil
		}
		if err := j.db.beginBackup(ctx); err != nil {
			if ctx.Err() != nil {
				return err
			}
			note(e, "there was no checkpoint before the backup, so that recovery takes longer: %v", err)
			return nil
		}
		j.backup = true
		return nil
	})
}

// Freeze implements [writer.Writer]. It holds nothing; see the package comment.
func (w *pgWriter) Freeze(ctx context.Context, e *writer.Event) error {
	return w.handle(ctx, "Freeze", func() error {
		if err := ctx.Err(); err != nil {
			return err
		}
		j := w.job
		if j == nil {
			return nil
		}
		p, err := w.server()
		if err != nil {
			return err
		}
		if err := w.unchanged(); err != nil {
			return err
		}
		if p == nil {
			j.control, err = readControl(w.conf.Data)
			return err
		}
		if !j.logOnly() {
			if err := w.mark(ctx, j); err != nil {
				return err
			}
		}
		pids, err := family(p.pid)
		if err != nil {
			return fmt.Errorf("the server of %s has stopped meanwhile: %w: %w", w.conf.Data, errChanged, err)
		}
		e.Frozen(writer.FreezeReport{Processes: pids})
		return nil
	})
}

// mark makes what was acknowledged durable and notes the position.
func (w *pgWriter) mark(ctx context.Context, j *job) error {
	j.notes.Base.First = time.Now().UTC()
	if j.db == nil {
		return nil
	}
	at, timeline, err := j.db.flush(ctx)
	if err != nil {
		return err
	}
	j.stamp.LSN, j.stamp.Timeline = at.String(), timeline
	j.notes.Base.FirstLSN = at.String()
	return nil
}

// unchanged makes sure that the cluster still lies where Identify said.
func (w *pgWriter) unchanged() error {
	now, err := readLayout(w.conf.Data)
	if err != nil {
		return err
	}
	if now.wal != w.layout.wal || !slices.Equal(now.spaces, w.layout.spaces) || !slices.Equal(now.dirs, w.layout.dirs) {
		return fmt.Errorf("directories or tablespaces of %s came or went since the backup began: %w", w.conf.Data, errChanged)
	}
	return nil
}

// Thaw implements [writer.Writer]. Of a server that did not run it makes sure that
// it was not started.
func (w *pgWriter) Thaw(ctx context.Context, e *writer.Event) error {
	return w.handle(ctx, "Thaw", func() error {
		j := w.job
		if j == nil {
			return nil
		}
		// All that the copy has was committed before now, and what is committed from
		// now on the logs have: a target may lie here.
		j.notes.Base.Last = time.Now().UTC()
		if j.found != nil {
			return nil
		}
		p, err := runs(w.conf.Data)
		if err != nil {
			return err
		}
		now, err := readControl(w.conf.Data)
		if err != nil {
			return err
		}
		if p != nil || now != j.control {
			return fmt.Errorf("the server of %s was started while the copy was made: %w", w.conf.Data, errChanged)
		}
		return nil
	})
}

// PostSnapshot implements [writer.PostSnapshotter]: it ends the backup at the
// server, and sets the stamp.
func (w *pgWriter) PostSnapshot(ctx context.Context, e *writer.Event) error {
	return w.handle(ctx, "PostSnapshot", func() error {
		j, c := w.job, w.component(e.Components)
		if j == nil || c == nil || j.logOnly() {
			return nil
		}
		// What was made just before the copy is not among its files.
		if err := w.unchanged(); err != nil {
			return err
		}
		j.stamp.System, j.notes.System = w.system, w.system
		if j.db != nil {
			if err := j.db.endBackup(ctx, j); err != nil {
				w.lost(ctx, e, j, err)
			}
		}
		if j.stamp.LSN == "" { // no connection: the control file tells
			now, err := readControl(w.conf.Data)
			if err != nil {
				return err
			}
			j.stamp.LSN, j.stamp.Timeline = now.Redo.String(), now.Timeline
		}
		if j.notes.Base.First.IsZero() {
			j.notes.Base.First = time.Now().UTC()
		}
		if j.notes.Base.Last.IsZero() { // nothing was frozen
			j.notes.Base.Last = time.Now().UTC()
		}
		j.notes.Timeline, j.stamp.Base = j.stamp.Timeline, j.notes.Base
		return j.keep(c)
	})
}

// keep puts stamp and notes into the component.
func (j *job) keep(c *metadata.Component) error {
	err := c.SetBackupMetadata(j.notes.encode())
	if errors.Is(err, vss.ErrObjectAlreadyExists) {
		err = nil // of an attempt before this one, which was not restored from
	}
	return errors.Join(err, c.SetBackupStamp(j.stamp.encode()))
}

// lost goes on without the connection, which the copy does not need, but the log
// backups do.
func (w *pgWriter) lost(ctx context.Context, e *writer.Event, j *job, err error) {
	text := "the copy is whole, but the connection to the server was lost: %v"
	if j.stamp.Slot != "" {
		text += "; no log backups can follow this backup"
	}
	note(e, text, err)
	j.stamp.Slot = ""
	j.db.close(ctx)
	j.db = nil
}

// Abort implements [writer.Writer]. It may come at any time and as often as it
// likes.
func (w *pgWriter) Abort(ctx context.Context, e *writer.Event) error {
	return w.handle(ctx, "Abort", func() error { return w.end(ctx) })
}

// BackupShutdown implements [writer.BackupShutdowner].
func (w *pgWriter) BackupShutdown(ctx context.Context, e *writer.Event) error {
	return w.handle(ctx, "BackupShutdown", func() error { return w.end(ctx) })
}

// end lets go of everything: with the connection the server drops the slot of a
// backup that did not succeed, and ends a backup it began.
func (w *pgWriter) end(ctx context.Context) error {
	if j := w.job; j != nil {
		w.job = nil
		if j.db != nil {
			j.db.close(ctx)
		}
	}
	return w.clearStaging()
}

// clearStaging removes what a log backup linked, also one that was killed.
func (w *pgWriter) clearStaging() error {
	if w.layout == nil || !w.conf.Logs {
		return nil
	}
	entries, err := os.ReadDir(w.staging())
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		errs = append(errs, os.Remove(w.staging()+"/"+e.Name()))
	}
	return errors.Join(errs...)
}

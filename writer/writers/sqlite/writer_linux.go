package sqlite

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// freezeLimit is the longest Freeze polls if its context sets no limit: the
// model's own.
const freezeLimit = 60 * time.Second

// dbWriter is the writer of one database. Its connection is open from
// PrepareForSnapshot, or Freeze, to Thaw or Abort.
type dbWriter struct {
	path     string
	name     string // of the instance
	instance vss.GUID

	// turn holds a token while a handler uses what follows. Abort may come
	// beside another handler, and waits here until that one has seen that its
	// time is up.
	turn chan struct{}
	db   *database // nil while not open
	// before is the database's stamp as PreRestore found it.
	before string
}

var (
	_ writer.Writer           = (*dbWriter)(nil)
	_ writer.SnapshotPreparer = (*dbWriter)(nil)
	_ writer.BackupShutdowner = (*dbWriter)(nil)
	_ writer.PreRestorer      = (*dbWriter)(nil)
	_ writer.PostRestorer     = (*dbWriter)(nil)
)

func newWriter(path, name string) *dbWriter {
	return &dbWriter{path: path, name: name, instance: vss.NewGUID(), turn: make(chan struct{}, 1)}
}

// Describe implements [writer.Writer].
func (w *dbWriter) Describe() writer.Description {
	return writer.Description{Level: vss.LevelBackEnd, Stillness: writer.FilesStill}
}

// Identify implements [writer.Writer].
func (w *dbWriter) Identify(context.Context) (*metadata.WriterMetadata, error) {
	m, err := metadata.NewWriterMetadata(metadata.Identity{
		InstanceID: w.instance, ClassID: classID, Name: writerName, InstanceName: w.name,
		Usage: vss.UsageUserData, Source: vss.SourceTransactedDB, MajorVersion: 1,
	})
	if err != nil {
		return nil, err
	}
	if err := w.describe(m); err != nil {
		return nil, fmt.Errorf("describe %s: %w", w.path, err)
	}
	return m, nil
}

func (w *dbWriter) describe(m *metadata.WriterMetadata) error {
	dir, base := filepath.Split(w.path)
	dir = filepath.Clean(dir)
	err := m.AddComponent(metadata.ComponentInfo{
		Type: vss.ComponentTypeDatabase, Name: w.path, Caption: "SQLite database " + base, Selectable: true,
	})
	if err != nil {
		return err
	}
	// Both logs come and go with transactions (R-SET-29).
	const comesAndGoes = vss.AllBackupRequired | vss.AllSnapshotRequired | vss.CreatedDuringBackup
	errs := []error{
		m.SetBackupSchema(vss.SchemaCopy),
		m.SetRestoreMethod(metadata.RestoreMethod{Method: vss.RestoreMethodIfCanReplace, WriterRestore: vss.WriterRestoreAlways}),
		m.AddDatabaseFiles("", w.path, dir, base, 0),
		m.AddDatabaseLogFiles("", w.path, dir, base+"-wal", comesAndGoes),
		m.AddDatabaseLogFiles("", w.path, dir, base+"-journal", comesAndGoes),
		m.AddExcludeFiles(vss.FileSpec{Path: dir, Pattern: base + "-shm"}),
	}
	for _, ending := range endings {
		errs = append(errs, m.AddExcludeFiles(vss.FileSpec{Path: dir, Pattern: base + ending + asideMark + "*"}))
	}
	return errors.Join(errs...)
}

// take waits for the handler that uses the database to end.
func (w *dbWriter) take(ctx context.Context, event string) error {
	select {
	case w.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return vss.Errorf(vss.ErrWriterErrorTimeout, event, w.path, "another event is still at work: %w", context.Cause(ctx))
	}
}

func (w *dbWriter) give() { <-w.turn }

// PrepareForSnapshot opens the database, which recovers what a crashed
// application left, so that Freeze need not.
func (w *dbWriter) PrepareForSnapshot(ctx context.Context, e *writer.Event) error {
	const event = "PrepareForSnapshot"
	if err := w.take(ctx, event); err != nil {
		return err
	}
	defer w.give()
	if err := w.prepare(e); err != nil {
		return vss.Errorf(vss.ErrWriterErrorNonRetryable, event, w.path, "%w", err)
	}
	if ctx.Err() != nil {
		return errors.Join(vss.Errorf(vss.ErrWriterErrorTimeout, event, w.path, "%w", context.Cause(ctx)), w.close())
	}
	return nil
}

// prepare undoes a restore that ended in between, and opens the database. What
// such a restore left that fits the database no more is not in the backup, and
// the user must hear of it.
func (w *dbWriter) prepare(e *writer.Event) error {
	p, err := openPlace(w.path)
	if err != nil {
		return err
	}
	defer p.close()
	if err := p.putBack(); err != nil {
		return err
	}
	left, err := p.aside()
	if err != nil {
		return err
	}
	if len(left) > 0 {
		e.SetWriterFailure(vss.OK, 0, fmt.Sprintf("beside %s lies what a restore that did not end left there, and it is not in the backup: %s; if you do not need it any more, remove it",
			w.path, strings.Join(left, ", ")))
	}
	return w.open()
}

// open opens the database unless it is open, and reads it if nobody locks it
// just now.
func (w *dbWriter) open() error {
	if w.db == nil {
		db, err := openDatabase(w.path)
		if err != nil {
			return err
		}
		w.db = db
	}
	if err := w.db.touch(); err != nil && !isBusy(err) {
		return errors.Join(fmt.Errorf("read %s: %w", w.path, err), w.close())
	}
	return nil
}

func (w *dbWriter) close() error {
	if w.db == nil {
		return nil
	}
	db := w.db
	w.db = nil
	return db.close()
}

// Freeze implements [writer.Writer]. It polls for SQLite's locks until it has
// them or ctx ends; see the package comment.
func (w *dbWriter) Freeze(ctx context.Context, e *writer.Event) error {
	const event = "Freeze"
	begun := time.Now()
	if err := w.take(ctx, event); err != nil {
		return err
	}
	defer w.give()
	if _, limited := ctx.Deadline(); !limited {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, freezeLimit)
		defer cancel()
	}
	err := w.freeze(ctx)
	if errors.Is(err, errReplaced) {
		// An application may put a new database in the place of the old one;
		// then the new one is the application's data.
		if err = w.close(); err == nil {
			err = w.freeze(ctx)
		}
	}
	if err != nil {
		code := vss.ErrWriterErrorNonRetryable
		switch {
		case ctx.Err() != nil:
			code = vss.ErrWriterErrorTimeout
		case errors.Is(err, errReplaced):
			code = vss.ErrWriterErrorRetryable
		}
		return vss.Errorf(code, event, w.path, "%w", errors.Join(err, w.close()))
	}
	e.Frozen(writer.FreezeReport{LockWait: time.Since(begun)})
	return nil
}

func (w *dbWriter) freeze(ctx context.Context) error {
	if w.db == nil {
		if err := w.open(); err != nil {
			return err
		}
	}
	return w.db.lock(ctx)
}

// Thaw implements [writer.Writer]. Before it gives the locks back it asks
// whether they were there all the time; if not, the shadow copy cannot be
// trusted and the writer says so.
func (w *dbWriter) Thaw(ctx context.Context, e *writer.Event) error {
	const event = "Thaw"
	if err := w.take(ctx, event); err != nil {
		return err
	}
	defer w.give()
	if w.db == nil || !w.db.inTxn {
		return vss.Errorf(vss.ErrWriterErrorRetryable, event, w.path, "it was not frozen any more, so it may have changed while the shadow copy was made")
	}
	lost := w.db.verify()
	if err := w.close(); err != nil {
		return vss.Errorf(vss.ErrWriterErrorNonRetryable, event, w.path, "%w", errors.Join(err, lost))
	}
	if lost != nil {
		return vss.Errorf(vss.ErrWriterErrorRetryable, event, w.path, "it may have changed while the shadow copy was made: %w", lost)
	}
	return nil
}

// Abort implements [writer.Writer]. It may come at any time and as often as it
// likes.
func (w *dbWriter) Abort(ctx context.Context, e *writer.Event) error { return w.finish(ctx, "Abort") }

// BackupShutdown implements [writer.BackupShutdowner].
func (w *dbWriter) BackupShutdown(ctx context.Context, e *writer.Event) error {
	return w.finish(ctx, "BackupShutdown")
}

// finish lets go of everything.
func (w *dbWriter) finish(ctx context.Context, event string) error {
	if err := w.take(ctx, event); err != nil {
		return err
	}
	defer w.give()
	if err := w.close(); err != nil {
		return vss.Errorf(vss.ErrWriterErrorNonRetryable, event, w.path, "%w", err)
	}
	return nil
}

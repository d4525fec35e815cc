package mariadb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// dbWriter is the writer of one server.
type dbWriter struct {
	dir      string // the data directory
	name     string // the instance name
	instance vss.GUID
	set      settings
	service  writer.Service // nil without a unit
	spec     writer.Spec
	pid      int // of the server when the writer was made, 0 if it did not run
	restore  bool
	places   []place // of the backup to be restored, outside the data directory

	known known // of the server as it was when the writer was made

	turn chan struct{} // held by the handler that is at work

	// Of the backup that goes on. All is nil or empty outside one.
	held    *hold    // the backup lock
	still   *stopped // the locks on a server that does not run
	facts   *facts   // what the server said of itself
	stamp   *stamp   // what this backup will be known by
	logged  bool     // a log backup that needs no Freeze
	spooled bool     // logs are linked
	spool   string   // where
	shared  spool    // where writers before this one linked them
	subdirs []string // as the document had them last
}

var (
	_ writer.BackupPreparer   = (*dbWriter)(nil)
	_ writer.SnapshotPreparer = (*dbWriter)(nil)
	_ writer.PostSnapshotter  = (*dbWriter)(nil)
	_ writer.BackupCompleter  = (*dbWriter)(nil)
	_ writer.BackupShutdowner = (*dbWriter)(nil)
)

func newWriter(s writer.Spec, c spec) *dbWriter {
	return &dbWriter{dir: c.Datadir, name: s.Name, instance: vss.NewGUID(), set: c.settings, service: s.Service, spec: s, pid: c.PID, restore: c.Restore, places: c.Places,
		turn: make(chan struct{}, 1)}
}

// Describe implements [writer.Writer].
func (w *dbWriter) Describe() writer.Description {
	d := writer.Description{Level: vss.LevelBackEnd, Stillness: writer.FilesStill, Weak: strings.Join(w.known.weak, "; ")}
	if w.pid != 0 {
		d.Stillness, d.NamesProcesses, d.FreezeTimeout = writer.CommitsHeld, true, w.known.longest
	}
	return d
}

// Identify implements [writer.Writer].
func (w *dbWriter) Identify(ctx context.Context) (*metadata.WriterMetadata, error) {
	if err := w.take(ctx, "Identify"); err != nil {
		return nil, err
	}
	defer w.give()
	m, err := w.identify(ctx)
	if err != nil && w.restore {
		// Whatever is wrong with what is there, it is to be replaced.
		l := &layout{spool: spoolBelow(w.dir)}
		l.data(w.dir, "*", everyImage)
		m, err = w.document(l, nil)
	}
	if err != nil {
		return nil, fmt.Errorf("MariaDB server of %s: %w", w.dir, err)
	}
	return m, nil
}

func (w *dbWriter) identify(ctx context.Context) (*metadata.WriterMetadata, error) {
	var f *facts
	if w.pid != 0 {
		s, err := connect(&w.set)
		if err != nil {
			return nil, err
		}
		defer s.close()
		if f, err = s.ask(ctx); err != nil {
			return nil, err
		}
	} else if err := w.checkStopped(); err != nil {
		return nil, err
	}
	l, err := lay(w.dir, f)
	if err != nil {
		return nil, err
	}
	w.spool, w.shared, w.subdirs = l.spool, l.shared, l.subdirs
	return w.document(l, f)
}

// document makes the document. f is nil of a server that does not run.
func (w *dbWriter) document(l *layout, f *facts) (*metadata.WriterMetadata, error) {
	m, err := metadata.NewWriterMetadata(metadata.Identity{
		ClassID: classID, InstanceID: w.instance, Name: writerName, InstanceName: w.name, Usage: vss.UsageUserData, Source: vss.SourceTransactedDB,
	})
	if err != nil {
		return nil, err
	}
	return m, w.describe(m, l, f)
}

// checkStopped looks at the version that a server which does not run had last.
func (w *dbWriter) checkStopped() error {
	version, err := lastVersion(w.dir)
	if err != nil || version == "" {
		return err // made by a server that has never been upgraded or checked
	}
	return checkVersion(version, w.set.AnyVersion)
}

// component gives the server's component if it was chosen.
func (w *dbWriter) component(e *writer.Event) *metadata.Component {
	if e.Components == nil {
		return nil
	}
	c, ok := e.Components.Component("", w.dir)
	if !ok {
		return nil
	}
	return c
}

// take waits for the handler that is at work to end.
func (w *dbWriter) take(ctx context.Context, event string) error {
	select {
	case w.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return vss.Errorf(vss.ErrWriterErrorTimeout, event, w.dir, "another event is still at work: %w", context.Cause(ctx))
	}
}

func (w *dbWriter) give() { <-w.turn }

// veto is a handler's error.
func (w *dbWriter) veto(ctx context.Context, event string, err error) error {
	code := vss.ErrWriterErrorNonRetryable
	switch {
	case ctx.Err() != nil, isLockTimeout(err):
		code = vss.ErrWriterErrorTimeout
	case errors.Is(err, errAgain):
		code = vss.ErrWriterErrorRetryable
	}
	return vss.Errorf(code, event, w.dir, "%w", err)
}

// errAgain is in errors that another try gets past.
var errAgain = errors.New("run the backup again")

// PrepareForBackup implements [writer.BackupPreparer]. For a log backup it begins a
// new binary log and links those to be saved.
func (w *dbWriter) PrepareForBackup(ctx context.Context, e *writer.Event) error {
	const event = "PrepareForBackup"
	if err := w.take(ctx, event); err != nil {
		return err
	}
	defer w.give()
	w.stamp, w.logged = nil, false
	c := w.component(e)
	if c == nil {
		return nil
	}
	if err := w.prepare(ctx, e, c); err != nil {
		err = errors.Join(err, c.SetPrepareForBackupFailureMsg(message(err)))
		return w.veto(ctx, event, err)
	}
	return nil
}

func (w *dbWriter) prepare(ctx context.Context, e *writer.Event, c *metadata.Component) error {
	if err := w.unspool(); err != nil {
		return err
	}
	if a, found, err := openAside(w.dir); err == nil && found {
		_ = a.forget(w.pid) // one that stays is in no backup's way
	}
	if e.State.Type != vss.BackupTypeLog {
		return nil
	}
	previous, ok := c.PreviousBackupStamp()
	if !ok {
		return nil // it will be saved whole
	}
	if w.pid == 0 {
		return errors.New("the server does not run, and only it can end a binary log; start it, or make a backup of another type")
	}
	from, err := parseStamp(previous)
	if err != nil {
		return err
	}
	to, err := w.rotate(ctx, from)
	if err != nil {
		return err
	}
	w.stamp, w.logged = to, true
	return w.note(c)
}

// PrepareForSnapshot implements [writer.SnapshotPreparer]. It takes the backup lock
// as far as that delays nobody.
func (w *dbWriter) PrepareForSnapshot(ctx context.Context, e *writer.Event) error {
	const event = "PrepareForSnapshot"
	if err := w.take(ctx, event); err != nil {
		return err
	}
	defer w.give()
	if w.logged || w.pid == 0 {
		return nil
	}
	if err := w.begin(ctx); err != nil {
		return w.veto(ctx, event, err)
	}
	return nil
}

// begin opens the connection that will hold the backup lock, unless it is open.
func (w *dbWriter) begin(ctx context.Context) error {
	if w.held != nil {
		return nil
	}
	h, err := newHold(ctx, &w.set)
	if err != nil {
		return err
	}
	w.held, w.facts = h, h.facts
	return nil
}

// freezeLimit is the longest wait for the backup lock where nobody says another.
const freezeLimit = 60 * time.Second

// Freeze implements [writer.Writer].
func (w *dbWriter) Freeze(ctx context.Context, e *writer.Event) error {
	const event = "Freeze"
	if err := w.take(ctx, event); err != nil {
		return err
	}
	defer w.give()
	begun := time.Now()
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, freezeLimit)
		defer cancel()
	}
	switch {
	case w.logged:
		return nil // nothing of it is in the shadow copy
	case w.pid == 0:
		return w.freezeStopped(ctx, e)
	}
	err := w.begin(ctx)
	if err == nil {
		err = w.held.freeze(ctx)
	}
	if err == nil {
		err = w.sameDatabases()
	}
	if err != nil {
		w.letGo()
		return w.veto(ctx, event, err)
	}
	w.stamp = &stamp{status: w.held.at, id: w.held.log}
	w.facts.Instant = time.Now().UTC()
	e.Frozen(writer.FreezeReport{LockWait: time.Since(begun), Processes: []int{w.held.pid}})
	return nil
}

// sameDatabases makes sure that no database was made after the document: its
// directory would not be in the backup.
func (w *dbWriter) sameDatabases() error {
	now, err := subdirectories(w.dir)
	if err != nil {
		return err
	}
	for _, name := range now {
		if w.subdirs != nil && !slices.Contains(w.subdirs, name) {
			return fmt.Errorf("database directory %s was made after the backup had begun: %w", name, errAgain)
		}
	}
	return nil
}

func (w *dbWriter) freezeStopped(ctx context.Context, e *writer.Event) error {
	if w.still != nil {
		return nil
	}
	s, err := holdStopped(w.dir)
	if err != nil {
		return w.veto(ctx, "Freeze", fmt.Errorf("%w: %w", err, errAgain))
	}
	w.still = s
	w.stamp = &stamp{}
	e.Frozen(writer.FreezeReport{})
	return nil
}

// Thaw implements [writer.Writer]. If the lock was lost meanwhile the shadow copy
// cannot be trusted, and the writer says so.
func (w *dbWriter) Thaw(ctx context.Context, e *writer.Event) error {
	const event = "Thaw"
	if err := w.take(ctx, event); err != nil {
		return err
	}
	defer w.give()
	switch {
	case w.logged:
		return nil
	case w.still != nil:
		err := w.still.release()
		w.still = nil
		return err
	case w.held == nil || !w.held.frozen:
		return vss.Errorf(vss.ErrWriterErrorRetryable, event, w.dir, "it was not frozen any more, so commits may have been acknowledged while the shadow copy was made")
	}
	err := w.held.end(ctx)
	w.letGo()
	if err != nil {
		return vss.Errorf(vss.ErrWriterErrorRetryable, event, w.dir, "the connection that held the backup lock was lost, so commits may have been acknowledged while the shadow copy was made: %w", err)
	}
	return nil
}

// letGo gives back the backup lock and all locks, if there are any.
func (w *dbWriter) letGo() {
	if w.held != nil {
		w.held.release()
		w.held = nil
	}
	if w.still != nil {
		w.still.release()
		w.still = nil
	}
}

// PostSnapshot implements [writer.PostSnapshotter].
func (w *dbWriter) PostSnapshot(ctx context.Context, e *writer.Event) error {
	const event = "PostSnapshot"
	if err := w.take(ctx, event); err != nil {
		return err
	}
	defer w.give()
	c := w.component(e)
	if c == nil || w.logged || w.stamp == nil {
		return nil
	}
	if err := w.note(c); err != nil {
		return w.veto(ctx, event, err)
	}
	return nil
}

// note keeps the stamp with the backup, and what a restore needs to know.
func (w *dbWriter) note(c *metadata.Component) error {
	text, err := json.Marshal(w.facts)
	if err == nil {
		err = c.SetBackupStamp(vss.BackupStamp(w.stamp.String()))
	}
	if _, noted := c.BackupMetadata(); err == nil && w.facts != nil && !noted { // it can be set once only
		err = c.SetBackupMetadata(string(text))
	}
	return err
}

// BackupComplete implements [writer.BackupCompleter].
func (w *dbWriter) BackupComplete(ctx context.Context, e *writer.Event) error {
	const event = "BackupComplete"
	if err := w.take(ctx, event); err != nil {
		return err
	}
	defer w.give()
	w.letGo()
	err := w.unspool()
	if c := w.component(e); c != nil {
		if ok, known := c.BackupSucceeded(); ok && known {
			err = errors.Join(err, w.truncate(ctx, e))
		}
	}
	w.stamp, w.logged = nil, false
	if err != nil {
		return w.veto(ctx, event, err)
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
	w.letGo()
	w.stamp, w.logged = nil, false
	if err := w.unspool(); err != nil {
		return w.veto(ctx, event, err)
	}
	return nil
}

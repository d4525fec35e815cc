package systemd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// unitWriter holds one unit.
type unitWriter struct {
	name     string
	config   config
	unit     writer.ServiceHolder
	instance vss.GUID

	mu sync.Mutex
	// idle: the unit did not run when it was frozen, so that nobody may have
	// started it by Thaw.
	idle bool
}

var (
	_ writer.Writer           = (*unitWriter)(nil)
	_ writer.SnapshotPreparer = (*unitWriter)(nil)
	_ writer.PreRestorer      = (*unitWriter)(nil)
	_ writer.PostRestorer     = (*unitWriter)(nil)
)

func newWriter(name string, c config, unit writer.ServiceHolder) *unitWriter {
	return &unitWriter{name: name, config: c, unit: unit, instance: vss.NewGUID()}
}

// Describe implements [writer.Writer].
func (w *unitWriter) Describe() writer.Description {
	return writer.Description{
		Level: w.config.level, Stillness: writer.FilesStill, ReadsPaused: true, OutlivesProcess: true,
	}
}

// Identify implements [writer.Writer].
func (w *unitWriter) Identify(context.Context) (*metadata.WriterMetadata, error) {
	doc, err := metadata.NewWriterMetadata(metadata.Identity{
		InstanceID: w.instance, ClassID: classID, Name: "Sombra systemd Unit Writer", InstanceName: w.name,
		Usage: vss.UsageUserData, Source: vss.SourceOther,
	})
	if err != nil {
		return nil, err
	}
	errs := []error{
		doc.SetBackupSchema(vss.SchemaCopy),
		doc.SetRestoreMethod(metadata.RestoreMethod{Method: vss.RestoreMethodIfCanReplace, WriterRestore: vss.WriterRestoreAlways}),
		doc.AddComponent(metadata.ComponentInfo{
			Type: vss.ComponentTypeFileGroup, Name: w.config.Unit, Caption: "Files of " + w.config.Unit,
			Selectable: true, SelectableForRestore: true,
		}),
	}
	for _, p := range w.config.Paths {
		spec, err := fileSpec(p)
		if err != nil {
			return nil, fmt.Errorf("unit %s: %w", w.config.Unit, err)
		}
		errs = append(errs, doc.AddFilesToFileGroup("", w.config.Unit, spec, "", 0))
	}
	for _, spec := range w.config.excluded() {
		errs = append(errs, doc.AddExcludeFiles(spec))
	}
	return doc, errors.Join(errs...)
}

// fileSpec is the file set of a path: a directory with all that is in it, or one
// file. Links that lead to it are resolved, as a file set's are not. What is not
// there, in a restore, is taken for a directory.
func fileSpec(path string) (vss.FileSpec, error) {
	real, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		return vss.FileSpec{Path: path, Pattern: "*", Recursive: true}, nil
	}
	if err != nil {
		return vss.FileSpec{}, fmt.Errorf("%w; correct its paths in the configuration", err)
	}
	info, err := os.Stat(real)
	if err != nil {
		return vss.FileSpec{}, err
	}
	if info.IsDir() {
		return vss.FileSpec{Path: real, Pattern: "*", Recursive: true}, nil
	}
	if vss.HasWildcard(filepath.Base(real)) {
		return vss.FileSpec{}, fmt.Errorf("the name of %s holds a wildcard; give its directory instead", real)
	}
	return vss.FileSpec{Path: filepath.Dir(real), Pattern: filepath.Base(real)}, nil
}

// PrepareForSnapshot implements [writer.SnapshotPreparer]: a unit that cannot be
// looked at is reported before anything is held.
func (w *unitWriter) PrepareForSnapshot(ctx context.Context, _ *writer.Event) error {
	if _, err := w.unit.Active(ctx); err != nil {
		return w.failure("PrepareForSnapshot", err)
	}
	return nil
}

// Freeze implements [writer.Writer].
func (w *unitWriter) Freeze(ctx context.Context, e *writer.Event) error {
	const event = "Freeze"
	w.mu.Lock()
	defer w.mu.Unlock()
	begun := time.Now()
	active, err := w.unit.Active(ctx)
	if err != nil {
		return w.failure(event, err)
	}
	w.idle = !active
	if w.config.How == howStop || !active {
		// Of one that does not run, what would start it is stopped.
		err = w.unit.Hold(ctx)
	} else {
		err = w.unit.Freeze(ctx)
	}
	if err != nil {
		return w.failure(event, err)
	}
	report := writer.FreezeReport{}
	if !active {
		report.LockWait = time.Since(begun) // nobody was kept waiting
	}
	e.Frozen(report)
	return nil
}

// Thaw implements [writer.Writer]. If the unit was started, or let go, by somebody
// else the shadow copy cannot be trusted, and the writer says so.
func (w *unitWriter) Thaw(ctx context.Context, _ *writer.Event) error {
	const event = "Thaw"
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.idle {
		active, err := w.unit.Active(ctx)
		if err == nil && active {
			err = vss.Errorf(vss.ErrWriterErrorInconsistentSnapshot, event, w.config.Unit, "it was started while the shadow copy was made")
		}
		if err != nil {
			return w.failure(event, errors.Join(err, w.unit.Thaw(ctx)))
		}
	}
	if err := w.unit.Thaw(ctx); err != nil {
		return w.failure(event, err)
	}
	return nil
}

// Abort implements [writer.Writer]. It undoes what any process did, and does not
// wait for a handler that still runs: what that does is undone by another Abort.
// Of a unit that has not yet stopped it waits for most of its time once systemd has
// taken its start on, which does it when it can. Whatever else takes too long is a
// failure: the unit may still be held.
func (w *unitWriter) Abort(ctx context.Context, _ *writer.Event) error {
	const event = "Abort"
	most, cancel := mostOf(ctx, 0.9) // there is to be time to say that it failed
	defer cancel()
	starting, err := w.unit.LetGo(most)
	if err == nil || errors.Is(err, vss.ErrWriterErrorInconsistentSnapshot) { // it stays noted until it is seen to run
		waiting, cancel := mostOf(ctx, 0.75)
		defer cancel()
		err = w.unit.Thaw(waiting)
	}
	switch {
	case err == nil, errors.Is(err, vss.ErrWriterErrorInconsistentSnapshot):
		return nil // there is no shadow copy any more
	case starting && errors.Is(err, context.DeadlineExceeded):
		slog.Warn("unit has not stopped, or not started, yet; systemd starts it as soon as it can", "unit", w.config.Unit)
		return nil
	}
	return w.failure(event, fmt.Errorf("it may still be stopped or frozen; see: systemctl status %s: %w", w.config.Unit, err))
}

// mostOf ends after a part of the time that is left, by its own clock alone: a call
// under it that takes too long fails with context.DeadlineExceeded and nothing else.
func mostOf(ctx context.Context, part float64) (context.Context, context.CancelFunc) {
	most, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	ended := context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })
	clock := func() bool { return true }
	if end, ok := ctx.Deadline(); ok {
		clock = time.AfterFunc(time.Duration(part*float64(time.Until(end))), func() { cancel(context.DeadlineExceeded) }).Stop
	}
	return most, func() {
		ended()
		clock()
		cancel(nil)
	}
}

// PreRestore implements [writer.PreRestorer]: the unit is stopped for its files,
// unless they go elsewhere.
func (w *unitWriter) PreRestore(ctx context.Context, e *writer.Event) error {
	const event = "PreRestore"
	c := w.chosen(e)
	if c == nil || elsewhere(c) {
		return nil
	}
	if err := w.unit.Stop(ctx); err != nil {
		err = w.failure(event, err)
		return errors.Join(err, c.SetPreRestoreFailureMsg(oneLine(err)))
	}
	return nil
}

// PostRestore implements [writer.PostRestorer]: what was stopped is started again,
// if no more restores follow and the files are not half of one kind and half of
// another.
func (w *unitWriter) PostRestore(ctx context.Context, e *writer.Event) error {
	const event = "PostRestore"
	c := w.chosen(e)
	if c == nil || elsewhere(c) || c.AdditionalRestores() {
		return nil
	}
	err := error(nil)
	if c.FileRestoreStatus() == vss.FileRestoreStatusFailed {
		err = fmt.Errorf("some of its files were restored and some were not, so it is not started; restore again, or start it as it is: systemctl start %s", w.config.Unit)
	} else if err = w.unit.Release(ctx); errors.Is(err, vss.ErrWriterErrorInconsistentSnapshot) {
		err = fmt.Errorf("somebody else started it while its files were restored; restart it: systemctl restart %s", w.config.Unit)
	}
	if err != nil {
		err = w.failure(event, err)
		return errors.Join(err, c.SetPostRestoreFailureMsg(oneLine(err)))
	}
	return nil
}

// chosen gives the unit's component if it is to be restored.
func (w *unitWriter) chosen(e *writer.Event) *metadata.Component {
	if e.Components == nil {
		return nil
	}
	c, ok := e.Components.Component("", w.config.Unit)
	if !ok {
		return nil
	}
	if selected, _ := c.SelectedForRestore(); !selected {
		return nil
	}
	return c
}

// elsewhere reports whether the files are restored beside those that are the
// unit's.
func elsewhere(c *metadata.Component) bool { return len(c.NewTargets()) > 0 }

// failure gives an error a code that a writer uses.
func (w *unitWriter) failure(event string, err error) error {
	code := vss.ErrWriterErrorNonRetryable
	switch {
	case errors.Is(err, vss.ErrWriterErrorInconsistentSnapshot):
		code = vss.ErrWriterErrorInconsistentSnapshot
	case errors.Is(err, context.DeadlineExceeded):
		code = vss.ErrWriterErrorTimeout
	}
	return vss.Errorf(code, event, w.config.Unit, "%w", err)
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

package testwriter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// testWriter is one instance of the Test Writer.
type testWriter struct {
	config   *Config
	name     string
	instance vss.GUID
	style    vss.PathStyle
	env      environment
	log      *journal
	fails    *failures

	mu     sync.Mutex
	plans  []*plan // of the backup under way
	spit   spit
	lock   *os.File // held while frozen, if the configuration has a lock file
	frozen bool
}

var _ interface {
	writer.Writer
	writer.BackupPreparer
	writer.SnapshotPreparer
	writer.PostSnapshotter
	writer.BackupCompleter
	writer.BackupShutdowner
	writer.PreRestorer
	writer.PostRestorer
} = (*testWriter)(nil)

// New makes a writer of a configuration. name is the instance name; what the
// writer does is printed to log, which may be nil.
func New(c *Config, name string, log io.Writer) writer.Writer { return newWriter(c, name, log) }

func newWriter(c *Config, name string, log io.Writer) *testWriter {
	return &testWriter{
		config: c, name: name, instance: vss.NewGUID(), style: hostStyle(),
		log:   &journal{name: name, level: c.Verbosity, out: log},
		fails: &failures{events: append([]FailEvent(nil), c.FailEvents...)},
	}
}

// Describe implements [writer.Writer].
func (w *testWriter) Describe() writer.Description {
	return writer.Description{Stillness: w.config.Stillness, NamesProcesses: w.config.PIDFile != ""}
}

// Identify implements [writer.Writer]. One that fails makes the writer absent
// (T-2).
func (w *testWriter) Identify(context.Context) (*metadata.WriterMetadata, error) {
	w.log.event("Identify")
	if err := w.fails.at(writer.EventIdentify, w.log); err != nil {
		return nil, err
	}
	return w.config.document(w.instance, w.name)
}

// PrepareForBackup implements [writer.BackupPreparer]. A type of backup that is
// not declared is noted, and the work goes on (T-4).
func (w *testWriter) PrepareForBackup(_ context.Context, e *writer.Event) error {
	w.log.event("PrepareForBackup: %v, session %v", e.State.Type, e.SessionID)
	if err := w.fails.at(writer.EventPrepareForBackup, w.log); err != nil {
		return err
	}
	if !w.config.supportsType(e.State.Type) {
		w.log.event("PrepareForBackup: type %v is not in this writer's backup schema", e.State.Type)
	}
	chosen, err := w.chosen(e)
	if err != nil {
		return err
	}
	var plans []*plan
	for _, c := range chosen {
		p, err := w.config.newPlan(c, e.State.Type, e.State.PartialFileSupport, w.style, w.env)
		if err != nil {
			return vss.Errorf(vss.ErrWriterErrorNonRetryable, "PrepareForBackup", c.FullPath(), "%w", err)
		}
		w.log.detail("PrepareForBackup: component %s, a set of %d", c.FullPath(), len(p.members))
		if len(c.Partial) > 0 && !e.State.PartialFileSupport {
			w.log.event("PrepareForBackup: the requester takes no partial files; those of %s are to be saved whole", c.FullPath())
		}
		plans = append(plans, p)
	}
	if err := w.addEarly(e, plans); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.plans = plans
	return nil
}

// chosen gives the explicit components, or all of the writer's that no other
// includes if none are chosen one by one (R-SEL-14).
func (w *testWriter) chosen(e *writer.Event) ([]*Component, error) {
	var chosen []*Component
	if !e.State.SelectComponents {
		for i := range w.config.Components {
			if c := &w.config.Components[i]; !w.config.hasSelectableAncestor(c) {
				chosen = append(chosen, c)
			}
		}
		return chosen, nil
	}
	if e.Components == nil {
		return nil, nil
	}
	for _, c := range e.Components.Components() {
		m := w.config.component(c.LogicalPath(), c.Name())
		if m == nil {
			w.log.wrong("component %s was added, and this writer has none such (R-SEL-15)", c.FullPath())
			return nil, vss.Errorf(vss.ErrWriterErrorNonRetryable, "PrepareForBackup", c.FullPath(), "the writer has no such component")
		}
		chosen = append(chosen, m)
	}
	for _, text := range w.config.checkSelection(chosen) {
		w.log.wrong("%s", text)
	}
	return chosen, nil
}

// PrepareForSnapshot implements [writer.SnapshotPreparer].
func (w *testWriter) PrepareForSnapshot(_ context.Context, e *writer.Event) error {
	w.log.event("PrepareForSnapshot: %d shadow copies", len(e.Snapshots))
	return w.fails.at(writer.EventPrepareForSnapshot, w.log)
}

// Freeze implements [writer.Writer]: it takes the lock, copies spit files aside
// (T-5) and notes what the shadow copy must hold.
func (w *testWriter) Freeze(ctx context.Context, e *writer.Event) error {
	w.log.event("Freeze")
	start := time.Now()
	if err := w.hold(ctx); err != nil {
		return vss.Errorf(lockCode(err), "Freeze", "test writer", "%w", err)
	}
	report := writer.FreezeReport{LockWait: time.Since(start)}
	err := w.fails.at(writer.EventFreeze, w.log)
	if err == nil {
		report.Processes, err = w.processes()
	}
	if err == nil {
		err = w.prepareFiles()
	}
	if err != nil {
		w.log.failure("Freeze: %v", err)
		return errors.Join(err, w.letGo(true))
	}
	e.Frozen(report)
	w.log.detail("Freeze: done after %v, of which %v for the lock", time.Since(start), report.LockWait)
	return nil
}

func lockCode(err error) vss.Code {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return vss.ErrWriterErrorTimeout
	}
	return vss.ErrWriterErrorNonRetryable
}

// hold takes the lock.
func (w *testWriter) hold(ctx context.Context) error {
	var lock *os.File
	if w.config.LockFile != "" {
		path, err := w.env.expand(w.config.LockFile)
		if err != nil {
			return err
		}
		if lock, err = takeLock(ctx, path); err != nil {
			return err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lock, w.frozen = lock, true
	return nil
}

// prepareFiles copies spit files and notes what is to be saved. After an Abort
// that came while Freeze hung there is nothing to be done any more.
func (w *testWriter) prepareFiles() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.frozen {
		return errors.New("Abort came meanwhile")
	}
	for _, p := range w.plans {
		if err := w.spit.copyOut(p, w.config.Delete.Files, w.log); err != nil {
			return err
		}
		if err := p.capture(w.config.Check.Includes); err != nil {
			return err
		}
		w.log.detail("Freeze: component %s has %d files to be checked", p.component.FullPath(), len(p.manifest.Files))
	}
	return nil
}

// processes reads the process ids in the PID file.
func (w *testWriter) processes() ([]int, error) {
	if w.config.PIDFile == "" {
		return nil, nil
	}
	path, err := w.env.expand(w.config.PIDFile)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, s := range strings.Fields(string(text)) {
		pid, err := strconv.Atoi(s)
		if err != nil || pid <= 0 {
			return nil, fmt.Errorf("%s: %.40q is no process id", path, s)
		}
		pids = append(pids, pid)
	}
	return pids, nil
}

// letGo frees the lock; with undo, files go back where they were.
func (w *testWriter) letGo(undo bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var err error
	if undo {
		err = w.spit.undo()
		w.forget()
	}
	if w.lock != nil {
		err = errors.Join(err, w.lock.Close())
	}
	w.lock, w.frozen = nil, false
	return err
}

// forget drops what was noted of the files; the choice of components stays.
func (w *testWriter) forget() {
	for _, p := range w.plans {
		p.manifest.Files, p.files, p.partials, p.differs = nil, nil, nil, nil
	}
}

// Thaw implements [writer.Writer].
func (w *testWriter) Thaw(context.Context, *writer.Event) error {
	w.log.event("Thaw")
	err := w.fails.at(writer.EventThaw, w.log)
	return errors.Join(err, w.letGo(false))
}

// PostSnapshot implements [writer.PostSnapshotter]: partial and differenced
// files are added (T-3), and what the configuration says is deleted.
func (w *testWriter) PostSnapshot(_ context.Context, e *writer.Event) error {
	w.log.event("PostSnapshot")
	if err := w.fails.at(writer.EventPostSnapshot, w.log); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.report(e); err != nil {
		w.log.failure("PostSnapshot: %v", err)
		return vss.Errorf(vss.ErrWriterErrorNonRetryable, "PostSnapshot", "test writer", "%w", err)
	}
	for _, p := range w.plans {
		for _, d := range []struct {
			on    bool
			what  string
			paths []string
		}{
			{w.config.Delete.Files, "files", p.files},
			{w.config.Delete.Partial, "partial files", p.partials},
			{w.config.Delete.Differenced, "differenced files", p.differs},
		} {
			if !d.on {
				continue
			}
			w.log.detail("PostSnapshot: deletes %d %s of %s", len(d.paths), d.what, p.component.FullPath())
			if err := remove(d.paths); err != nil {
				return vss.Errorf(vss.ErrWriterErrorNonRetryable, "PostSnapshot", p.component.FullPath(), "%w", err)
			}
		}
	}
	return nil
}

// report writes into the Backup Components Document.
func (w *testWriter) report(e *writer.Event) error {
	if e.Components == nil {
		return nil
	}
	for _, p := range w.plans {
		c, ok := e.Components.Component(p.component.LogicalPath, p.component.Name)
		if !ok {
			continue
		}
		if w.config.AddIn == writer.EventPostSnapshot {
			if err := p.addChanges(c, e.State.PartialFileSupport); err != nil {
				return err
			}
		}
		if !w.config.Check.Includes {
			continue
		}
		text, err := p.manifest.encode()
		if err != nil {
			return err
		}
		if err := c.SetBackupMetadata(text); err != nil {
			return err
		}
	}
	return nil
}

// addEarly adds partial and differenced files before there is a shadow copy, as
// must be where none is made (D-32).
func (w *testWriter) addEarly(e *writer.Event, plans []*plan) error {
	for _, p := range plans {
		if e.Components == nil || w.config.AddIn != writer.EventPrepareForBackup {
			return nil
		}
		if c, ok := e.Components.Component(p.component.LogicalPath, p.component.Name); ok {
			if err := p.addChanges(c, e.State.PartialFileSupport); err != nil {
				return vss.Errorf(vss.ErrWriterErrorNonRetryable, "PrepareForBackup", p.component.FullPath(), "%w", err)
			}
		}
	}
	return nil
}

// addChanges adds the partial and differenced files of a component set to the
// component that stands for the set (R-SEL-17).
func (p *plan) addChanges(c *metadata.Component, partial bool) error {
	for _, m := range p.members {
		if err := addChanges(c, m, partial); err != nil {
			return err
		}
	}
	return nil
}

func addChanges(c *metadata.Component, m *Component, partial bool) error {
	for _, f := range m.Partial {
		if !partial {
			break // R-SET-35
		}
		if err := c.AddPartialFile(metadata.PartialFile{Path: f.Path, Name: f.Name, Ranges: f.Ranges}); err != nil {
			return err
		}
	}
	for _, d := range m.Differenced {
		f := metadata.DifferencedFile{FileSpec: d.FileSpec}
		if !d.Since.IsZero() {
			f.LastModifyTime = vss.FileTimeOf(d.Since)
		}
		if err := c.AddDifferencedFilesByLastModifyTime(f); err != nil {
			return err
		}
	}
	return nil
}

// BackupComplete implements [writer.BackupCompleter]. One that fails is never
// reported to the requester (T-2); that is the service's doing.
func (w *testWriter) BackupComplete(_ context.Context, e *writer.Event) error {
	w.log.event("BackupComplete")
	if e.Components != nil {
		for _, c := range e.Components.Components() {
			switch ok, known := c.BackupSucceeded(); {
			case !known:
				w.log.wrong("SetBackupSucceeded was not called for component %s", c.FullPath())
			case !ok:
				w.log.event("BackupComplete: the backup of component %s failed", c.FullPath())
			}
		}
	}
	return w.fails.at(writer.EventBackupComplete, w.log)
}

// BackupShutdown implements [writer.BackupShutdowner].
func (w *testWriter) BackupShutdown(context.Context, *writer.Event) error {
	w.log.event("BackupShutdown")
	err := w.fails.at(writer.EventBackupShutdown, w.log)
	w.mu.Lock()
	defer w.mu.Unlock()
	err = errors.Join(err, w.spit.clean())
	w.plans = nil
	return err
}

// Abort implements [writer.Writer].
func (w *testWriter) Abort(context.Context, *writer.Event) error {
	w.log.event("Abort")
	err := w.fails.at(writer.EventAbort, w.log)
	return errors.Join(err, w.letGo(true))
}

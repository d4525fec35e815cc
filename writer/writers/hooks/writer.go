package hooks

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// hooksWriter runs the scripts of one directory.
type hooksWriter struct {
	name     string
	config   config
	instance vss.GUID

	mu sync.Mutex
	// seen: an event of a backup has come, so that what is frozen is known.
	// Until then Abort must take it that a process that died has frozen all.
	seen bool
	// started are the scripts whose freeze was started and whose thaw has not
	// succeeded, in the order they were started.
	started []string
}

var _ writer.BackupPreparer = (*hooksWriter)(nil)

func newWriter(name string, c config) (*hooksWriter, error) {
	if _, err := trustedScripts(c.Directory); err != nil {
		return nil, err
	}
	w := &hooksWriter{name: name, config: c, instance: vss.NewGUID()}
	if _, err := w.document(); err != nil {
		return nil, err
	}
	return w, nil
}

// Describe implements [writer.Writer].
func (w *hooksWriter) Describe() writer.Description {
	d := writer.Description{
		Stillness:       writer.CommitsHeld,
		OutlivesProcess: true,
		Weak:            "scripts: nothing shows that files are still",
	}
	if w.config.FilesStill {
		d.Stillness = writer.FilesStill
		d.Weak = "scripts: files are still by the configuration's word alone"
	}
	return d
}

// Identify implements [writer.Writer].
func (w *hooksWriter) Identify(context.Context) (*metadata.WriterMetadata, error) {
	return w.document()
}

func (w *hooksWriter) document() (*metadata.WriterMetadata, error) {
	doc, err := metadata.NewWriterMetadata(metadata.Identity{
		InstanceID: w.instance, ClassID: classID, Name: "Sombra Hooks Writer", InstanceName: w.name,
		Usage: vss.UsageUserData, Source: vss.SourceOther,
	})
	if err != nil {
		return nil, err
	}
	if err := doc.SetBackupSchema(vss.SchemaCopy); err != nil {
		return nil, err
	}
	err = doc.SetRestoreMethod(metadata.RestoreMethod{
		Method: vss.RestoreMethodIfCanReplace, WriterRestore: vss.WriterRestoreNever,
	})
	if err != nil {
		return nil, err
	}
	if len(w.config.Components) == 0 {
		return doc, doc.AddComponent(component(filepath.Base(w.config.Directory), "Scripts in "+w.config.Directory))
	}
	for _, name := range w.config.names() {
		if err := doc.AddComponent(component(name, "")); err != nil {
			return nil, err
		}
		if err := addPaths(doc, name, w.config.Components[name]); err != nil {
			return nil, err
		}
	}
	return doc, nil
}

func component(name, caption string) metadata.ComponentInfo {
	return metadata.ComponentInfo{
		Type: vss.ComponentTypeFileGroup, Name: name, Caption: caption,
		Selectable: true, SelectableForRestore: true,
	}
}

// addPaths makes a file set of each path: a directory with all that is in it,
// or one file. Links that lead to it are resolved, as a file set's are not.
func addPaths(doc *metadata.WriterMetadata, name string, paths []string) error {
	for _, p := range paths {
		real, err := filepath.EvalSymlinks(p)
		if err != nil {
			return fmt.Errorf("component %q: %w; correct its paths in the configuration", name, err)
		}
		info, err := os.Stat(real)
		if err != nil {
			return fmt.Errorf("component %q: %w", name, err)
		}
		spec := vss.FileSpec{Path: real, Pattern: "*", Recursive: true}
		if !info.IsDir() {
			spec = vss.FileSpec{Path: filepath.Dir(real), Pattern: filepath.Base(real)}
			if vss.HasWildcard(spec.Pattern) {
				return fmt.Errorf("component %q: the name of %s holds a wildcard; give its directory instead", name, real)
			}
		}
		if err := doc.AddFilesToFileGroup("", name, spec, "", 0); err != nil {
			return fmt.Errorf("component %q: path %s: %w", name, p, err)
		}
	}
	return nil
}

// PrepareForBackup implements [writer.BackupPreparer]: scripts that cannot be
// run are reported before anything is frozen.
func (w *hooksWriter) PrepareForBackup(context.Context, *writer.Event) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = true
	if _, err := trustedScripts(w.config.Directory); err != nil {
		return failure("PrepareForBackup", w.config.Directory, err)
	}
	return nil
}

// Freeze implements [writer.Writer]: every script with "freeze", in the order of
// their names. The first that fails ends it.
func (w *hooksWriter) Freeze(ctx context.Context, e *writer.Event) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = true
	if len(w.started) > 0 {
		return vss.Errorf(vss.ErrWriterErrorRetryable, "Freeze", w.started[0], "it has not been thawed since the last freeze")
	}
	scripts, err := trustedScripts(w.config.Directory)
	if err != nil {
		return failure("Freeze", w.config.Directory, err)
	}
	for _, script := range scripts {
		// Noted before it starts: a script that fails half-way is thawed too.
		w.started = append(w.started, script)
		if err := w.call(ctx, script, "freeze"); err != nil {
			err = failure("Freeze", script, err)
			e.SetWriterFailure(writer.FailureCode(err), exitStatus(err), err.Error())
			return err
		}
	}
	return nil
}

// Thaw implements [writer.Writer]: every script whose freeze was started, with
// "thaw", in reverse order, all of them even if one fails.
func (w *hooksWriter) Thaw(ctx context.Context, e *writer.Event) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.thaw(ctx, e, "Thaw")
}

// Abort implements [writer.Writer]. In a new process it is sent to undo what
// one that died has frozen: it cannot know what that was, so that every script
// is thawed.
func (w *hooksWriter) Abort(ctx context.Context, e *writer.Event) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.seen {
		scripts, err := trustedScripts(w.config.Directory)
		if err != nil {
			return failure("Abort", w.config.Directory, err)
		}
		w.started = scripts
		w.seen = true
	}
	return w.thaw(ctx, e, "Abort")
}

// thaw goes on although ctx has ended, since a script left frozen is worse than
// an event that takes too long; each script still has its own limit.
func (w *hooksWriter) thaw(ctx context.Context, e *writer.Event, op string) error {
	ctx = context.WithoutCancel(ctx)
	var errs []error
	var left []string
	for _, script := range slices.Backward(w.started) {
		if err := checkTrust(script); err != nil {
			errs, left = append(errs, err), append(left, script)
			continue
		}
		if err := w.call(ctx, script, "thaw"); err != nil {
			errs, left = append(errs, err), append(left, script)
		}
	}
	slices.Reverse(left)
	w.started = left
	if len(errs) == 0 {
		return nil
	}
	err := failure(op, w.config.Directory, errors.Join(errs...))
	e.SetWriterFailure(writer.FailureCode(err), exitStatus(errs[0]), err.Error())
	return err
}

func (w *hooksWriter) call(ctx context.Context, script, argument string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, w.config.timeout,
		fmt.Errorf("it took longer than %v: %w", w.config.timeout, context.DeadlineExceeded))
	defer cancel()
	return run(ctx, script, argument)
}

// failure gives an error the code a writer uses: a timeout, or one that would
// likely come again.
func failure(op, object string, err error) error {
	code := vss.ErrWriterErrorNonRetryable
	if errors.Is(err, context.DeadlineExceeded) {
		code = vss.ErrWriterErrorTimeout
	}
	return &vss.Error{Op: op, Object: object, Code: code, Err: err}
}

package etcd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
	"github.com/sombra-backup/sombra/writer/kept"
)

// etcdWriter is the writer of one member's data.
type etcdWriter struct {
	conf     config
	spec     writer.Spec
	instance vss.GUID
	// running: a server ran when the writer was made; members is how many its
	// cluster had then, 0 if that is not known.
	running bool
	members int
	version string

	mu sync.Mutex
	// idle: no server ran when it was frozen.
	idle bool
}

var (
	_ writer.Writer          = (*etcdWriter)(nil)
	_ writer.BackupPreparer  = (*etcdWriter)(nil)
	_ writer.PostSnapshotter = (*etcdWriter)(nil)
	_ writer.PreRestorer     = (*etcdWriter)(nil)
	_ writer.PostRestorer    = (*etcdWriter)(nil)
)

// asideName is the directory in which a restore keeps what was there before.
const asideName = kept.Directory

// everyImage saves a file set in every backup from the shadow copy: each is a whole
// instant. What did not change is not stored again.
const everyImage = vss.FullBackupRequired | vss.DifferentialBackupRequired | vss.IncrementalBackupRequired |
	vss.FullSnapshotRequired | vss.DifferentialSnapshotRequired | vss.IncrementalSnapshotRequired

var (
	errGone    = errors.New("it has ended")
	errVersion = errors.New("no test has met this version; set any_version: true in the configuration of the writer to have it served all the same")
)

// tested are the versions that tests have met.
const tested = "3.4."

func newWriter(c config, s writer.Spec) *etcdWriter {
	return &etcdWriter{conf: c, spec: s, instance: vss.NewGUID()}
}

// learn finds out what the document says of the server.
func (w *etcdWriter) learn(ctx context.Context) error {
	pid, err := runningIn(w.conf.Directory)
	if err != nil {
		return err
	}
	if w.running = pid != 0; !w.running {
		if w.conf.Found.PID != 0 {
			return errGone
		}
		return nil
	}
	w.version, err = versionOf(ctx, w.conf.Found.Command)
	if err != nil {
		return fmt.Errorf("find out its version: %w", err)
	}
	if err := supported(w.version, w.conf); err != nil {
		return err
	}
	w.members = members(ctx, w.conf.Found.Command)
	return nil
}

// supported refuses versions that no test has met.
func supported(version string, c config) error {
	if !strings.HasPrefix(version, tested) && !c.AnyVersion {
		return fmt.Errorf("version %.60s: %w", version, errVersion)
	}
	return nil
}

// versionOf asks the program itself: a server may want certificates of clients.
func versionOf(ctx context.Context, c command) (string, error) {
	if !filepath.IsAbs(c.Program) {
		return "", fmt.Errorf("its program %q is not there", c.Program)
	}
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	out, err := exec.CommandContext(ctx, c.Program, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("%s --version: %w", c.Program, err)
	}
	for line := range strings.Lines(string(out)) {
		if v, ok := strings.CutPrefix(line, "etcd Version:"); ok {
			return strings.TrimSpace(v), nil
		}
	}
	return "", fmt.Errorf("%s --version: it prints no version", c.Program)
}

// Describe implements [writer.Writer].
func (w *etcdWriter) Describe() writer.Description {
	d := writer.Description{Level: vss.LevelBackEnd, Stillness: writer.NothingHeld, NamesProcesses: true}
	if !w.running {
		d.Stillness, d.NamesProcesses = writer.FilesStill, false
	}
	return d
}

// Identify implements [writer.Writer].
func (w *etcdWriter) Identify(context.Context) (*metadata.WriterMetadata, error) {
	m, err := metadata.NewWriterMetadata(metadata.Identity{
		InstanceID: w.instance, ClassID: classID, Name: "Sombra etcd Writer", InstanceName: w.spec.Name,
		Usage: vss.UsageUserData, Source: vss.SourceTransactedDB, MajorVersion: 1,
	})
	if err != nil {
		return nil, err
	}
	if err := w.describe(m); err != nil {
		return nil, fmt.Errorf("describe the etcd data in %s: %w", w.conf.Directory, err)
	}
	return m, nil
}

func (w *etcdWriter) describe(m *metadata.WriterMetadata) error {
	dir := w.conf.Directory
	const schema = vss.SchemaCopy | vss.SchemaDifferential | vss.SchemaIncremental | vss.SchemaTimestamped | vss.SchemaNewTarget
	errs := []error{
		m.AddComponent(metadata.ComponentInfo{Type: vss.ComponentTypeDatabase, Name: dir, Caption: w.caption(), Selectable: true}),
		m.SetBackupSchema(schema),
		m.SetRestoreMethod(metadata.RestoreMethod{Method: vss.RestoreMethodIfCanReplace, WriterRestore: vss.WriterRestoreAlways}),
		m.AddDatabaseFiles("", dir, filepath.Join(dir, "member", "snap"), "*", everyImage|vss.CreatedDuringBackup),
		m.AddDatabaseLogFiles("", dir, w.conf.walDir(), "*.wal", everyImage|vss.CreatedDuringBackup),
		m.AddExcludeFiles(vss.FileSpec{Path: filepath.Join(dir, "member", "snap"), Pattern: "tmp*"}),
		m.AddExcludeFiles(vss.FileSpec{Path: w.conf.walDir(), Pattern: "*.tmp"}),
		m.AddExcludeFiles(vss.FileSpec{Path: dir, Pattern: launchLog}),
	}
	for _, place := range w.places() {
		errs = append(errs, m.AddExcludeFiles(vss.FileSpec{Path: filepath.Join(place, asideName), Pattern: "*", Recursive: true}))
	}
	return errors.Join(errs...)
}

// caption says of what cluster it is a member, for who reads the document later.
func (w *etcdWriter) caption() string {
	text := "etcd data in " + w.conf.Directory
	switch {
	case !w.running:
		return text + ", whose server does not run"
	case w.members == 0:
		return text + ", a member of a cluster of unknown size"
	case w.members == 1:
		return text + ", the only member of its cluster"
	}
	return fmt.Sprintf("%s, one of the %d members of its cluster; to be restored as a new cluster only", text, w.members)
}

// places are the directories in which a restore keeps what was there before.
func (w *etcdWriter) places() []string {
	list := []string{w.conf.Directory}
	if w.conf.WAL != "" {
		list = append(list, w.conf.WAL)
	}
	return list
}

// walOf is the log's directory in a stored component, empty if it is the usual one.
func walOf(c *metadata.ComponentInfo) string {
	for _, set := range c.FileSets {
		if set.Pattern == "*.wal" && set.Path != filepath.Join(c.Name, "member", "wal") && checkDir(set.Path) == nil {
			return set.Path
		}
	}
	return ""
}

// remembered is what a component keeps of the server it is of (its backup metadata).
type remembered struct {
	// Members is how many members the cluster had, 0 if that was not known.
	Members int    `json:"members"`
	Version string `json:"version,omitempty"`
}

// PrepareForBackup implements [writer.BackupPreparer].
func (w *etcdWriter) PrepareForBackup(ctx context.Context, e *writer.Event) error {
	c, ok := w.component(e)
	if !ok {
		return nil
	}
	if _, known := c.BackupMetadata(); known {
		return nil // it comes again
	}
	r := remembered{Members: w.members, Version: w.version}
	if w.running {
		if n := members(ctx, w.conf.Found.Command); n > r.Members {
			r.Members = n
		}
	}
	text, err := json.Marshal(r)
	if err == nil {
		err = c.SetBackupMetadata(string(text))
	}
	if err != nil {
		return w.failure("PrepareForBackup", vss.ErrWriterErrorNonRetryable, err)
	}
	return nil
}

func (w *etcdWriter) component(e *writer.Event) (*metadata.Component, bool) {
	if e.Components == nil {
		return nil, false
	}
	return e.Components.Component("", w.conf.Directory)
}

// Freeze implements [writer.Writer]. It holds nothing; it looks who writes the files.
func (w *etcdWriter) Freeze(_ context.Context, e *writer.Event) error {
	begun := time.Now()
	pid, err := runningIn(w.conf.Directory)
	switch {
	case err != nil:
		return w.failure("Freeze", vss.ErrWriterErrorNonRetryable, err)
	case pid != 0 && !w.running:
		return w.failure("Freeze", vss.ErrWriterErrorRetryable, errors.New("its server did not run when the backup began, and was started since; back up again"))
	}
	w.mu.Lock()
	w.idle = pid == 0
	w.mu.Unlock()
	r := writer.FreezeReport{}
	if pid != 0 {
		r.Processes = []int{pid}
	}
	r.LockWait = time.Since(begun)
	e.Frozen(r)
	return nil
}

// Thaw implements [writer.Writer].
func (w *etcdWriter) Thaw(context.Context, *writer.Event) error {
	w.mu.Lock()
	idle := w.idle
	w.mu.Unlock()
	if !idle {
		return nil
	}
	pid, err := runningIn(w.conf.Directory)
	if err == nil && pid == 0 {
		return nil
	}
	if err == nil {
		err = fmt.Errorf("its server was started while the shadow copy was made, as process %d", pid)
	}
	return w.failure("Thaw", vss.ErrWriterErrorInconsistentSnapshot, err)
}

// Abort implements [writer.Writer]. There is nothing to undo.
func (w *etcdWriter) Abort(context.Context, *writer.Event) error { return nil }

// PostSnapshot implements [writer.PostSnapshotter]: each backup is stamped, so that
// the next one of a chain finds what it builds upon.
func (w *etcdWriter) PostSnapshot(_ context.Context, e *writer.Event) error {
	c, ok := w.component(e)
	if !ok {
		return nil
	}
	if err := c.SetBackupStamp(vss.BackupStamp(e.SnapshotSetID.String())); err != nil {
		return w.failure("PostSnapshot", vss.ErrWriterErrorNonRetryable, err)
	}
	return nil
}

func (w *etcdWriter) failure(event string, code vss.Code, err error) error {
	return vss.Errorf(code, event, w.conf.Directory, "%w", err)
}

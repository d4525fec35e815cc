// Package sessiontest is the suite every implementation of [session.Session]
// passes, directly and through whatever carries its calls elsewhere.
//
// Its writers are real ones whose behaviour each test decides, its shadow copies
// are made by whatever provider serves the directory the tests run in.
package sessiontest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// Harness makes sessions of the implementation to be tested.
type Harness struct {
	// Open makes a session with these writers and no others.
	Open func(t *testing.T, o Options) session.Session
	// Dir makes an empty directory on a volume of which shadow copies can be
	// made.
	Dir func(t *testing.T) string
}

// Options is what a session is made with.
type Options struct {
	session.Options
	// State, if not empty, is a directory that sessions share by what is kept
	// between them: persistent shadow copies.
	State   string
	Writers []*Script
}

// Run runs the suite.
func Run(t *testing.T, h Harness) {
	t.Run("Order", func(t *testing.T) { testOrder(t, h) })
	t.Run("Backup", func(t *testing.T) { testBackup(t, h) })
	t.Run("Levels", func(t *testing.T) { testLevels(t, h) })
	t.Run("Veto", func(t *testing.T) { testVeto(t, h) })
	t.Run("Hang", func(t *testing.T) { testHang(t, h) })
	t.Run("Report", func(t *testing.T) { testReport(t, h) })
	t.Run("Abort", func(t *testing.T) { testAbort(t, h) })
	t.Run("Interrupt", func(t *testing.T) { testInterrupt(t, h) })
	t.Run("Components", func(t *testing.T) { testComponents(t, h) })
	t.Run("Contexts", func(t *testing.T) { testContexts(t, h) })
	t.Run("Filter", func(t *testing.T) { testFilter(t, h) })
	t.Run("Tree", func(t *testing.T) { testTree(t, h) })
	t.Run("Target", func(t *testing.T) { testTarget(t, h) })
	t.Run("Errors", func(t *testing.T) { testErrors(t, h) })
	t.Run("LargeDirectory", func(t *testing.T) { testLargeDirectory(t, h) })
	t.Run("ChangedRanges", func(t *testing.T) { ChangedRanges(t, h) })
	t.Run("Restore", func(t *testing.T) { testRestore(t, h) })
}

// rig is one session with its writers and their data.
type rig struct {
	t       *testing.T
	s       session.Session
	log     *Log
	writers []*Script
	dir     string
	volume  string
	snap    vss.GUID
}

// classes are the classes of the writers a rig makes, in order.
var classes = []vss.GUID{
	vss.MustParseGUID("8f7d3c10-0000-4000-8000-000000000001"),
	vss.MustParseGUID("8f7d3c10-0000-4000-8000-000000000002"),
	vss.MustParseGUID("8f7d3c10-0000-4000-8000-000000000003"),
	vss.MustParseGUID("8f7d3c10-0000-4000-8000-000000000004"),
}

// shortLimits make tests of what hangs short.
var shortLimits = session.Limits{
	Writer: 3 * time.Second, Hold: 5 * time.Second, Event: time.Second, Identify: 5 * time.Second, Discovered: time.Second,
}

// newRig opens a session whose writers have the names given, each with one file
// "name" that holds its name.
func newRig(t *testing.T, h Harness, o Options, names ...string) *rig {
	t.Helper()
	r := &rig{t: t, log: new(Log), dir: h.Dir(t)}
	release := make(chan struct{})
	for i, name := range names {
		w := &Script{Name: name, Class: classes[i], Dir: filepath.Join(r.dir, name), Log: r.log,
			On: map[writer.EventKind]Behaviour{}, Release: release}
		w.Description.Stillness = writer.FilesStill
		must(t, os.MkdirAll(w.Dir, 0o755))
		must(t, os.WriteFile(filepath.Join(w.Dir, name), []byte(name), 0o644))
		r.writers = append(r.writers, w)
	}
	o.Writers = r.writers
	r.s = h.Open(t, o)
	t.Cleanup(func() {
		close(release)
		if err := r.s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return r
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func ctx(t *testing.T) context.Context {
	t.Helper()
	c, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return c
}

// component is the one component of a writer.
func component(w *Script) session.Component {
	return session.Component{Instance: w.Instance(), Writer: w.Class, Type: vss.ComponentTypeFileGroup, Name: "data"}
}

// scope claims every writer's files.
func (r *rig) scope() session.Scope {
	loc, err := r.s.ResolvePath(ctx(r.t), r.dir)
	must(r.t, err)
	r.volume = loc.Volume
	var sc session.Scope
	for _, w := range r.writers {
		l, err := r.s.ResolvePath(ctx(r.t), w.Dir)
		must(r.t, err)
		sc.Claims = append(sc.Claims, claim(w, l.Name))
	}
	sc.Unclaimed = append(sc.Unclaimed, fileSet(loc.Name))
	return sc
}

// stage is how far a backup is taken.
type stage int

const (
	initialized stage = iota + 1
	metadataGathered
	componentsAdded
	setStarted
	volumeAdded
	backupPrepared
	snapshotTaken
	backupCompleted
)

// run takes a backup to a stage. It fails the test if a call that comes before
// the last one fails; the last one's error is returned.
func (r *rig) run(to stage) error { return r.resume(0, to) }

// resume goes on with a backup that has come to a stage.
func (r *rig) resume(from, to stage) error {
	r.t.Helper()
	c := ctx(r.t)
	state := session.BackupState{SelectComponents: true, Type: vss.BackupTypeFull}
	steps := []struct {
		stage stage
		do    func() error
	}{
		{initialized, func() error { return r.s.InitializeForBackup(c, nil) }},
		{initialized, func() error { return r.s.SetBackupState(c, state) }},
		{metadataGathered, func() error { return r.s.GatherWriterMetadata(c, nil) }},
		{componentsAdded, func() error {
			var errs []error
			for _, w := range r.writers {
				errs = append(errs, r.s.AddComponent(c, component(w)))
			}
			return errors.Join(errs...)
		}},
		{setStarted, func() error { _, err := r.s.StartSnapshotSet(c); return err }},
		{volumeAdded, func() (err error) {
			sc := r.scope()
			r.snap, err = r.s.AddToSnapshotSet(c, r.volume, vss.GUID{}, sc)
			return err
		}},
		{backupPrepared, func() error { return r.s.PrepareForBackup(c, nil) }},
		{snapshotTaken, func() error { return r.s.DoSnapshotSet(c, nil) }},
		{backupCompleted, func() error {
			var errs []error
			for _, w := range r.writers {
				errs = append(errs, r.s.SetBackupSucceeded(c, component(w), true))
			}
			return errors.Join(append(errs, r.s.BackupComplete(c, nil))...)
		}},
	}
	for _, st := range steps {
		if st.stage <= from {
			continue
		}
		if st.stage > to {
			break
		}
		err := st.do()
		if st.stage == to && err != nil {
			return err
		}
		must(r.t, err)
	}
	return nil
}

// status gathers and returns the status of one writer.
func (r *rig) status(w *Script) session.WriterStatus {
	r.t.Helper()
	c := ctx(r.t)
	must(r.t, r.s.GatherWriterStatus(c, nil))
	list, err := r.s.WriterStatus(c)
	must(r.t, err)
	i := slices.IndexFunc(list, func(s session.WriterStatus) bool { return s.Instance == w.Instance() })
	if i < 0 {
		r.t.Fatalf("no status of %v among %d", w, len(list))
	}
	return list[i]
}

// wantCode checks the model's code of an error.
func wantCode(t *testing.T, err error, want vss.Code) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("error %v, want %v", err, want)
	}
}

// wantEvents checks which events a writer saw.
func (r *rig) wantEvents(w *Script, want ...writer.EventKind) {
	r.t.Helper()
	if got := r.log.Of(w.Name); !slices.Equal(got, want) {
		r.t.Errorf("%v saw %v, want %v", w, got, want)
	}
}

// document is the present Backup Components Document.
func (r *rig) document() *metadata.BackupComponents {
	r.t.Helper()
	text, err := r.s.BackupComponents(ctx(r.t))
	must(r.t, err)
	doc, err := metadata.ParseBackupComponents(text)
	must(r.t, err)
	return doc
}

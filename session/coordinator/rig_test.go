package coordinator_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/provider/providers/precopy"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/session/coordinator"
	"github.com/sombra-backup/sombra/session/sessiontest"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// rig is a session over scripted writers, and a real provider whose steps a test
// can get in between of.
type rig struct {
	t       *testing.T
	o       coordinator.Options
	s       session.Session
	dir     string
	log     *sessiontest.Log
	writers []*sessiontest.Script
	prov    *hooked
	scope   func(session.Scope) session.Scope // changes what is claimed; may be nil
	typ     vss.BackupType
	volume  string
	snap    vss.GUID
}

// newRig makes writers of the names given, each with one file; the session is
// opened by the first call that needs it.
func newRig(t *testing.T, names ...string) *rig {
	t.Helper()
	r := &rig{t: t, typ: vss.BackupTypeFull, dir: scratch(t), log: new(sessiontest.Log), prov: &hooked{Provider: precopy.New()}}
	r.o = options(filepath.Join(scratch(t), "state"))
	r.o.Providers = []provider.Provider{r.prov}
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	for i, name := range names {
		w := &sessiontest.Script{Name: name, Class: scriptClass, Dir: filepath.Join(r.dir, name), Log: r.log,
			On: map[writer.EventKind]sessiontest.Behaviour{}, Release: release}
		w.Class[15] += byte(i + 1)
		w.Description.Stillness = writer.FilesStill
		must(t, os.Mkdir(w.Dir, 0o755))
		must(t, os.WriteFile(filepath.Join(w.Dir, "f"), []byte(name), 0o644))
		r.writers = append(r.writers, w)
		r.o.InProcess = append(r.o.InProcess, w)
	}
	return r
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func deadline(t *testing.T) context.Context {
	t.Helper()
	c, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return c
}

// open opens the session, which is closed with the test.
func (r *rig) open() session.Session {
	r.t.Helper()
	if r.s == nil {
		s := open(r.t, r.o)
		r.s = s
		r.t.Cleanup(func() {
			if err := s.Close(); err != nil {
				r.t.Errorf("Close: %v", err)
			}
		})
	}
	return r.s
}

func scriptComponent(w *sessiontest.Script) session.Component {
	return session.Component{Instance: w.Instance(), Writer: w.Class, Type: vss.ComponentTypeFileGroup, Name: "data"}
}

// steps are the calls of a backup, in order, by name.
func (r *rig) steps(c context.Context) []namedStep {
	s := r.open()
	each := func(fn func(session.Component) error) error {
		var errs []error
		for _, w := range r.writers {
			errs = append(errs, fn(scriptComponent(w)))
		}
		return errors.Join(errs...)
	}
	return []namedStep{
		{"InitializeForBackup", func() error { return s.InitializeForBackup(c, nil) }},
		{"SetBackupState", func() error {
			return s.SetBackupState(c, session.BackupState{SelectComponents: true, Type: r.typ})
		}},
		{"GatherWriterMetadata", func() error { return s.GatherWriterMetadata(c, nil) }},
		{"AddComponent", func() error { return each(func(sc session.Component) error { return s.AddComponent(c, sc) }) }},
		{"StartSnapshotSet", func() error { _, err := s.StartSnapshotSet(c); return err }},
		{"AddToSnapshotSet", func() (err error) { r.snap, err = r.add(c); return err }},
		{"PrepareForBackup", func() error { return s.PrepareForBackup(c, nil) }},
		{"DoSnapshotSet", func() error { return s.DoSnapshotSet(c, nil) }},
		{"SetBackupSucceeded", func() error {
			return each(func(sc session.Component) error { return s.SetBackupSucceeded(c, sc, true) })
		}},
		{"BackupComplete", func() error { return s.BackupComplete(c, nil) }},
	}
}

type namedStep struct {
	name string
	do   func() error
}

// add adds the volume of the directory to the set, with each writer's files as
// its claim.
func (r *rig) add(c context.Context) (vss.GUID, error) {
	var sc session.Scope
	for _, w := range r.writers {
		loc, err := r.s.ResolvePath(c, w.Dir)
		if err != nil {
			return vss.GUID{}, err
		}
		r.volume = loc.Volume
		sc.Claims = append(sc.Claims, provider.Claim{Writer: w.Instance().String(),
			Files: []provider.FileSet{{Dir: loc.Name, Pattern: "*", Recursive: true}}})
	}
	if r.scope != nil {
		sc = r.scope(sc)
	}
	return r.s.AddToSnapshotSet(c, r.volume, vss.GUID{}, sc)
}

// to takes a backup up to and including the step called last. Only that one may
// fail.
func (r *rig) to(last string) error {
	r.t.Helper()
	return r.from("", last)
}

// from goes on after the step called first.
func (r *rig) from(first, last string) error {
	r.t.Helper()
	begun := first == ""
	for _, st := range r.steps(deadline(r.t)) {
		if begun {
			err := st.do()
			if st.name == last {
				return err
			}
			if err != nil {
				r.t.Fatalf("%s: %v", st.name, err)
			}
		}
		begun = begun || st.name == first
	}
	r.t.Fatalf("no step %q", last)
	return nil
}

func (r *rig) status(w *sessiontest.Script) session.WriterStatus {
	r.t.Helper()
	return statusOf(r.t, r.s, w.Instance())
}

func statusOf(t *testing.T, s session.Session, instance vss.GUID) session.WriterStatus {
	t.Helper()
	c := deadline(t)
	must(t, s.GatherWriterStatus(c, nil))
	list, err := s.WriterStatus(c)
	must(t, err)
	i := slices.IndexFunc(list, func(st session.WriterStatus) bool { return st.Instance == instance })
	if i < 0 {
		t.Fatalf("no status of %v", instance)
	}
	return list[i]
}

// wantFailed checks how a writer stands.
func (r *rig) wantFailed(w *sessiontest.Script, state vss.WriterState, code vss.Code) {
	r.t.Helper()
	if st := r.status(w); st.State != state || st.Failure != code {
		r.t.Errorf("writer %s: %v, %v (%s); want %v, %v", w.Name, st.State, st.Failure, st.Message, state, code)
	}
}

func (r *rig) receipt(w *sessiontest.Script) session.WriterReceipt {
	r.t.Helper()
	rc, err := r.s.Receipt(deadline(r.t))
	must(r.t, err)
	i := slices.IndexFunc(rc.Writers, func(x session.WriterReceipt) bool { return x.Instance == w.Instance() })
	if i < 0 {
		r.t.Fatalf("no receipt of %s", w.Name)
	}
	return rc.Writers[i]
}

// hooked is a real provider that calls back at its steps, and that can be made to
// say other things of itself.
type hooked struct {
	provider.Provider
	at     func(step string) error
	caps   func(*provider.Capabilities)
	copied func(*provider.Copied)
}

func (h *hooked) call(step string) error {
	if h.at == nil {
		return nil
	}
	return h.at(step)
}

func (h *hooked) Supports(ctx context.Context, v provider.Volume, area string) (provider.Capabilities, error) {
	c, err := h.Provider.Supports(ctx, v, area)
	if h.caps != nil {
		h.caps(&c)
	}
	return c, err
}

func (h *hooked) BeginPrepare(ctx context.Context, r provider.Request) (provider.Snapshot, error) {
	s, err := h.Provider.BeginPrepare(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := h.call("BeginPrepare"); err != nil {
		return nil, errors.Join(err, s.Abort(ctx))
	}
	return &hookedSnapshot{s, h}, nil
}

type hookedSnapshot struct {
	provider.Snapshot
	h *hooked
}

func (s *hookedSnapshot) EndPrepare(ctx context.Context) error {
	return errors.Join(s.Snapshot.EndPrepare(ctx), s.h.call("EndPrepare"))
}

func (s *hookedSnapshot) PreCommit(ctx context.Context) error {
	return errors.Join(s.h.call("PreCommit"), s.Snapshot.PreCommit(ctx))
}

func (s *hookedSnapshot) Commit(ctx context.Context) error {
	return errors.Join(s.Snapshot.Commit(ctx), s.h.call("Commit"))
}

func (s *hookedSnapshot) PostCommit(ctx context.Context) (provider.Copied, error) {
	c, err := s.Snapshot.PostCommit(ctx)
	if s.h.copied != nil {
		s.h.copied(&c)
	}
	return c, errors.Join(err, s.h.call("PostCommit"))
}

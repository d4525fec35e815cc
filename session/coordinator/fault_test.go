package coordinator_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/provider/providers/precopy"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/session/sessiontest"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// faulty is a real provider one step of which fails or hangs.
type faulty struct {
	provider.Provider
	step    string
	hang    chan struct{} // hangs until closed; nil: fails
	reached atomic.Bool
}

func (f *faulty) hit(step string) error {
	if step != f.step {
		return nil
	}
	f.reached.Store(true)
	if f.hang != nil {
		<-f.hang
		return nil
	}
	return errors.New("as the test wants")
}

func (f *faulty) BeginPrepare(ctx context.Context, r provider.Request) (provider.Snapshot, error) {
	if err := f.hit("BeginPrepare"); err != nil {
		return nil, err
	}
	s, err := f.Provider.BeginPrepare(ctx, r)
	return &faultySnapshot{s, f}, err
}

type faultySnapshot struct {
	provider.Snapshot
	f *faulty
}

func (s *faultySnapshot) EndPrepare(ctx context.Context) error {
	return errors.Join(s.f.hit("EndPrepare"), s.Snapshot.EndPrepare(ctx))
}

func (s *faultySnapshot) PreCommit(ctx context.Context) error {
	return errors.Join(s.f.hit("PreCommit"), s.Snapshot.PreCommit(ctx))
}

func (s *faultySnapshot) Commit(ctx context.Context) error {
	return errors.Join(s.f.hit("Commit"), s.Snapshot.Commit(ctx))
}

func (s *faultySnapshot) PostCommit(ctx context.Context) (provider.Copied, error) {
	c, err := s.Snapshot.PostCommit(ctx)
	return c, errors.Join(s.f.hit("PostCommit"), err)
}

// TestProviderFailureAbortsTheSet: a provider that fails or hangs in any step
// makes the whole set fail (D-7); everything that was frozen is thawed, every
// writer that may need it gets Abort, no copy is left, and the next backup goes
// well.
func TestProviderFailureAbortsTheSet(t *testing.T) {
	for _, step := range []string{"BeginPrepare", "EndPrepare", "PreCommit", "Commit", "PostCommit"} {
		for _, hang := range []bool{false, true} {
			if hang && step == "BeginPrepare" {
				continue // AddToSnapshotSet is the caller's to interrupt
			}
			name := step + "/error"
			if hang {
				name = step + "/hang"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel() // they mostly wait
				providerFails(t, step, hang)
			})
		}
	}
}

func providerFails(t *testing.T, step string, hang bool) {
	dir, state := scratch(t), filepath.Join(scratch(t), "state")
	log := new(sessiontest.Log)
	w := &sessiontest.Script{Name: "one", Class: scriptClass, Dir: filepath.Join(dir, "one"), Log: log,
		On: map[writer.EventKind]sessiontest.Behaviour{}}
	w.Description.Stillness = writer.FilesStill
	if err := os.MkdirAll(w.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.Dir, "f"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	f := &faulty{Provider: precopy.New(), step: step}
	if hang {
		f.hang = make(chan struct{})
	}
	o := options(state)
	o.Providers = []provider.Provider{f}
	o.InProcess = []writer.Writer{w}
	o.Limits = session.Limits{Writer: 5 * time.Second, Hold: time.Second, Prepare: time.Second, Event: 5 * time.Second}

	start := time.Now()
	s := open(t, o)
	err := wholeBackup(s, w, dir)
	if err == nil {
		t.Error("the backup succeeds although its provider fails")
	}
	if !f.reached.Load() {
		t.Fatal("the fault was not hit")
	}
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("took %v", took)
	}
	want := vss.ErrUnexpectedProviderError
	if hang {
		want = map[string]vss.Code{"EndPrepare": vss.ErrFlushWritesTimeout, "PreCommit": vss.ErrHoldWritesTimeout,
			"Commit": vss.ErrHoldWritesTimeout, "PostCommit": vss.ErrProviderVeto}[step]
	}
	if !errors.Is(err, want) {
		t.Errorf("error %v, want %v", err, want)
	}
	events := log.Of("one")
	frozen := slices.Contains(events, writer.EventFreeze)
	if frozen != slices.Contains(events, writer.EventThaw) {
		t.Errorf("Freeze without Thaw: %v", events)
	}
	if begun := slices.Contains(events, writer.EventPrepareForBackup); begun && !slices.Contains(events, writer.EventAbort) {
		t.Errorf("no Abort: %v", events)
	}
	if hang {
		close(f.hang)
	}
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}

	o.Providers = []provider.Provider{precopy.New()}
	again := open(t, o)
	if err := wholeBackup(again, w, dir); err != nil {
		t.Errorf("the next backup: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	// A call that was left behind deletes its copy when it comes back.
	within(t, 10*time.Second, "nothing of a shadow copy is left", func() bool { return len(left(state, dir)) == 0 })
}

// wholeBackup takes a backup of one writer to BackupComplete.
func wholeBackup(s session.Session, w *sessiontest.Script, dir string) error {
	c, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	comp := session.Component{Instance: w.Instance(), Writer: w.Class, Type: vss.ComponentTypeFileGroup, Name: "data"}
	var loc session.Location
	var err error
	for _, step := range []func() error{
		func() error { return s.InitializeForBackup(c, nil) },
		func() error {
			return s.SetBackupState(c, session.BackupState{SelectComponents: true, Type: vss.BackupTypeFull})
		},
		func() error { return s.GatherWriterMetadata(c, nil) },
		func() error { return s.AddComponent(c, comp) },
		func() error { _, err := s.StartSnapshotSet(c); return err },
		func() error { loc, err = s.ResolvePath(c, w.Dir); return err },
		func() error {
			_, err := s.AddToSnapshotSet(c, loc.Volume, vss.GUID{}, session.Scope{Claims: []provider.Claim{{
				Writer: w.Instance().String(), Files: []provider.FileSet{{Dir: loc.Name, Pattern: "*", Recursive: true}}}}})
			return err
		},
		func() error { return s.PrepareForBackup(c, nil) },
		func() error { return s.DoSnapshotSet(c, nil) },
		func() error { return s.SetBackupSucceeded(c, comp, true) },
		func() error { return s.BackupComplete(c, nil) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

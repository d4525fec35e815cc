package sessiontest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// wholeBackup is what a writer sees in a backup that goes well.
var wholeBackup = []writer.EventKind{
	writer.EventPrepareForBackup, writer.EventPrepareForSnapshot, writer.EventFreeze, writer.EventThaw,
	writer.EventPostSnapshot, writer.EventBackupComplete, writer.EventBackupShutdown,
}

// testBackup takes a backup whole and looks at states, document and receipt on
// the way.
func testBackup(t *testing.T, h Harness) {
	r := newRig(t, h, Options{}, "one", "two")
	one, two := r.writers[0], r.writers[1]
	one.On[writer.EventPrepareForBackup] = Behaviour{Do: func(_ context.Context, e *writer.Event) error {
		c, ok := e.Components.Component("", "data")
		if !ok {
			return errors.New("no component data in PrepareForBackup")
		}
		return c.SetBackupMetadata("said in PrepareForBackup")
	}}
	one.On[writer.EventPostSnapshot] = Behaviour{Do: func(_ context.Context, e *writer.Event) error {
		c, _ := e.Components.Component("", "data")
		if len(e.Snapshots) != 1 || e.Snapshots[0].DeviceRoot == "" {
			return errors.New("PostSnapshot does not say where the copy is")
		}
		return c.SetBackupStamp("lsn 17")
	}}
	var outcome atomic.Int32
	one.On[writer.EventBackupComplete] = Behaviour{Do: func(_ context.Context, e *writer.Event) error {
		c, _ := e.Components.Component("", "data")
		if ok, known := c.BackupSucceeded(); known && ok {
			outcome.Store(1)
		}
		return c.SetRestoreMetadata("too late") // the document is read-only by now
	}}

	must(t, r.run(backupPrepared))
	if st := r.status(one); st.State != vss.WriterStable || st.Failure != vss.OK {
		t.Errorf("after PrepareForBackup: %v %v", st.State, st.Failure)
	}
	must(t, r.resume(backupPrepared, snapshotTaken))
	if st := r.status(one); st.State != vss.WriterWaitingForBackupComplete {
		t.Errorf("after DoSnapshotSet: %v, want %v", st.State, vss.WriterWaitingForBackupComplete)
	}
	doc := r.document()
	w, ok := doc.Writer(one.Instance())
	if !ok {
		t.Fatal("the writer is not in the document")
	}
	c, _ := w.Component("", "data")
	if m, _ := c.BackupMetadata(); m != "said in PrepareForBackup" {
		t.Errorf("backup metadata %q", m)
	}
	if s, _ := c.BackupStamp(); s != "lsn 17" {
		t.Errorf("backup stamp %q", s)
	}
	rc, err := r.s.Receipt(ctx(t))
	must(t, err)
	if len(rc.Writers) != 2 || len(rc.Volumes) != 1 || rc.Hold <= 0 || rc.Instant.IsZero() {
		t.Errorf("receipt %+v", rc)
	}
	must(t, r.resume(snapshotTaken, backupCompleted))
	if outcome.Load() != 1 {
		t.Error("BackupComplete did not show that the component was saved")
	}
	if st := r.status(one); st.State != vss.WriterStable {
		t.Errorf("after BackupComplete: %v", st.State)
	}
	doc = r.document()
	w, _ = doc.Writer(one.Instance())
	c, _ = w.Component("", "data")
	if m, ok := c.RestoreMetadata(); ok {
		t.Errorf("BackupComplete changed the document: %q", m)
	}
	if ok, _ := c.BackupSucceeded(); !ok {
		t.Error("the saved mark is not in the document")
	}
	if _, err := r.s.SaveAsXML(ctx(t)); err != nil {
		t.Errorf("SaveAsXML: %v", err)
	}
	must(t, r.s.Close())
	r.wantEvents(one, wholeBackup...)
	r.wantEvents(two, wholeBackup...)
}

// testLevels: Freeze goes front-end, back-end, system, each level after the one
// before has frozen; Thaw goes the other way.
func testLevels(t *testing.T, h Harness) {
	r := newRig(t, h, Options{}, "system", "back", "front")
	r.writers[0].Level, r.writers[1].Level, r.writers[2].Level = vss.LevelSystem, vss.LevelBackEnd, vss.LevelFrontEnd
	for _, w := range r.writers {
		w.On[writer.EventFreeze] = Behaviour{Do: func(context.Context, *writer.Event) error {
			time.Sleep(10 * time.Millisecond)
			return nil
		}}
	}
	must(t, r.run(snapshotTaken))
	var freeze, thaw []string
	for _, s := range r.log.All() {
		switch s.Event {
		case writer.EventFreeze:
			freeze = append(freeze, s.Writer)
		case writer.EventThaw:
			thaw = append(thaw, s.Writer)
		}
	}
	if want := []string{"front", "back", "system"}; !slices.Equal(freeze, want) {
		t.Errorf("Freeze in the order %v, want %v", freeze, want)
	}
	if want := []string{"system", "back", "front"}; !slices.Equal(thaw, want) {
		t.Errorf("Thaw in the order %v, want %v", thaw, want)
	}
}

// failing is what becomes of a writer that fails in an event, and of the set.
type failing struct {
	event writer.EventKind
	state vss.WriterState
	// abort: the writer gets Abort.
	abort bool
	// more are the events the writer gets after the one it failed in, without
	// Abort and BackupShutdown.
	more []writer.EventKind
}

var failures = []failing{
	{writer.EventPrepareForBackup, vss.WriterFailedAtPrepareBackup, false, nil},
	{writer.EventPrepareForSnapshot, vss.WriterFailedAtPrepareSnapshot, false, nil},
	{writer.EventFreeze, vss.WriterFailedAtFreeze, true, nil},
	{writer.EventThaw, vss.WriterFailedAtThaw, true, nil},
	{writer.EventPostSnapshot, vss.WriterFailedAtPostSnapshot, false, nil},
	{writer.EventBackupComplete, vss.WriterFailedAtBackupComplete, false, nil},
}

// stageOf is the call in which an event comes.
func stageOf(k writer.EventKind) stage {
	switch k {
	case writer.EventPrepareForBackup:
		return backupPrepared
	case writer.EventBackupComplete:
		return backupCompleted
	}
	return snapshotTaken
}

// testVeto: a writer that refuses is out alone and the set goes on (D-7), unless
// it is required.
func testVeto(t *testing.T, h Harness) {
	for _, f := range failures {
		t.Run(f.event.String(), func(t *testing.T) {
			r := newRig(t, h, Options{Options: session.Options{Limits: shortLimits}}, "bad", "good")
			bad, good := r.writers[0], r.writers[1]
			bad.On[f.event] = Behaviour{Fail: vss.ErrWriterErrorRetryable}
			must(t, r.run(stageOf(f.event)))
			st := r.status(bad)
			if st.State != f.state || st.Failure != vss.ErrWriterErrorRetryable {
				t.Errorf("state %v, code %v; want %v, %v", st.State, st.Failure, f.state, vss.ErrWriterErrorRetryable)
			}
			if st.Message == "" || st.Event != f.event.String() {
				t.Errorf("message %q, event %q", st.Message, st.Event)
			}
			must(t, r.resume(stageOf(f.event), backupCompleted))
			must(t, r.s.Close())
			r.wantEvents(good, wholeBackup...)
			r.wantFailed(bad, f)
		})
	}
	t.Run("Identify", func(t *testing.T) {
		r := newRig(t, h, Options{}, "bad", "good")
		r.writers[0].On[writer.EventIdentify] = Behaviour{Fail: vss.ErrWriterErrorNonRetryable}
		must(t, r.run(metadataGathered))
		list, err := r.s.WriterMetadata(ctx(t))
		must(t, err)
		if len(list) != 1 || list[0].Instance != r.writers[1].Instance() {
			t.Errorf("%d writers listed, want only the good one", len(list))
		}
		// But it is not forgotten: its data would pass for nobody's.
		must(t, r.s.GatherWriterStatus(ctx(t), nil))
		states, err := r.s.WriterStatus(ctx(t))
		must(t, err)
		if len(states) != 2 || states[0].Instance != r.writers[1].Instance() || states[1].State != vss.WriterFailedAtIdentify || states[1].Message == "" {
			t.Errorf("states %+v, want the good writer's and then that the other failed Identify", states)
		}
	})
}

// wantFailed checks the events of a writer that failed in one.
func (r *rig) wantFailed(w *Script, f failing) {
	r.t.Helper()
	var want []writer.EventKind
	for _, k := range wholeBackup {
		want = append(want, k)
		if k == f.event {
			break
		}
	}
	want = append(want, f.more...)
	var got []writer.EventKind
	aborts := 0
	for _, k := range r.log.Of(w.Name) {
		switch k {
		case writer.EventAbort:
			aborts++
		case writer.EventBackupShutdown:
		default:
			got = append(got, k)
		}
	}
	if !slices.Equal(got, want) {
		r.t.Errorf("%v saw %v, want %v", w, got, want)
	}
	if (aborts > 0) != f.abort {
		r.t.Errorf("%v saw Abort %d times, want any: %v", w, aborts, f.abort)
	}
	if n := r.log.Count(w.Name, writer.EventBackupShutdown); n != 1 {
		r.t.Errorf("%v saw BackupShutdown %d times, want once", w, n)
	}
}

// testHang: a writer that does not come back is out after its limit, the others
// are let go in time, and the set goes on.
func testHang(t *testing.T, h Harness) {
	for _, f := range failures {
		t.Run(f.event.String(), func(t *testing.T) {
			r := newRig(t, h, Options{Options: session.Options{Limits: shortLimits}}, "bad", "good")
			bad, good := r.writers[0], r.writers[1]
			bad.On[f.event] = Behaviour{Hang: true}
			start := time.Now()
			must(t, r.run(stageOf(f.event)))
			if took := time.Since(start); took > 10*time.Second {
				t.Errorf("took %v", took)
			}
			st := r.status(bad)
			if st.State != f.state || st.Failure != vss.ErrWriterErrorTimeout {
				t.Errorf("state %v, code %v; want %v, %v", st.State, st.Failure, f.state, vss.ErrWriterErrorTimeout)
			}
			if f.event == writer.EventFreeze || f.event == writer.EventThaw {
				r.wantHeldBriefly(good, 5*time.Second)
			}
			must(t, r.resume(stageOf(f.event), backupCompleted))
		})
	}
}

// wantHeldBriefly checks how long a writer was frozen.
func (r *rig) wantHeldBriefly(w *Script, limit time.Duration) {
	r.t.Helper()
	var frozen, thawed time.Time
	for _, s := range r.log.All() {
		if s.Writer == w.Name && s.Event == writer.EventFreeze {
			frozen = s.At
		}
		if s.Writer == w.Name && s.Event == writer.EventThaw {
			thawed = s.At
		}
	}
	if frozen.IsZero() || thawed.IsZero() || thawed.Sub(frozen) > limit {
		r.t.Errorf("%v was frozen from %v to %v", w, frozen, thawed)
	}
}

// testReport: a failure reported beside success is told and stops nothing.
func testReport(t *testing.T, h Harness) {
	r := newRig(t, h, Options{}, "one")
	w := r.writers[0]
	w.On[writer.EventPostSnapshot] = Behaviour{Report: vss.ErrWriterErrorPartialFailure}
	must(t, r.run(snapshotTaken))
	st := r.status(w)
	if st.State != vss.WriterWaitingForBackupComplete || st.Failure != vss.ErrWriterErrorPartialFailure || st.Application != 7 {
		t.Errorf("status %+v", st)
	}
	must(t, r.resume(snapshotTaken, backupCompleted))
	must(t, r.s.Close())
	r.wantEvents(w, wholeBackup...)
}

// testAbort: Abort comes wherever a writer may need it, and BackupShutdown ends
// every backup; a shadow copy is never left.
func testAbort(t *testing.T, h Harness) {
	how := map[string]func(*rig) error{
		"AbortBackup": func(r *rig) error { return errors.Join(r.s.AbortBackup(ctx(r.t)), r.s.Close()) },
		"Close":       func(r *rig) error { return r.s.Close() },
	}
	for name, end := range how {
		for _, tt := range []struct {
			at    stage
			abort int
			down  int
		}{
			{metadataGathered, 0, 0}, {componentsAdded, 0, 1}, {volumeAdded, 0, 1}, {backupPrepared, 1, 1}, {snapshotTaken, 0, 1},
			{backupCompleted, 0, 1},
		} {
			t.Run(name+"/"+tt.at.String(), func(t *testing.T) {
				r := newRig(t, h, Options{}, "one")
				must(t, r.run(tt.at))
				must(t, end(r))
				if n := r.log.Count("one", writer.EventAbort); n != tt.abort {
					t.Errorf("Abort came %d times, want %d", n, tt.abort)
				}
				if n := r.log.Count("one", writer.EventBackupShutdown); n != tt.down {
					t.Errorf("BackupShutdown came %d times, want %d", n, tt.down)
				}
				r.wantNothingLeft()
			})
		}
	}
}

func (s stage) String() string {
	return [...]string{"start", "InitializeForBackup", "GatherWriterMetadata", "AddComponent", "StartSnapshotSet",
		"AddToSnapshotSet", "PrepareForBackup", "DoSnapshotSet", "BackupComplete"}[s]
}

// wantNothingLeft checks that no file of a shadow copy is in the directory of the
// test or beside it.
func (r *rig) wantNothingLeft() {
	r.t.Helper()
	err := filepath.WalkDir(r.dir, func(p string, d os.DirEntry, err error) error {
		if err == nil && d.Name() == ".sombra" {
			if left, _ := os.ReadDir(p); len(left) > 0 {
				r.t.Errorf("%s holds %d entries", p, len(left))
			}
		}
		return err
	})
	must(r.t, err)
}

// testInterrupt: AbortBackup ends a DoSnapshotSet that is under way, and lets go.
func testInterrupt(t *testing.T, h Harness) {
	r := newRig(t, h, Options{}, "one", "two")
	frozen := make(chan struct{})
	r.writers[0].On[writer.EventFreeze] = Behaviour{Do: func(c context.Context, _ *writer.Event) error {
		close(frozen)
		<-c.Done()
		return context.Cause(c)
	}}
	must(t, r.run(backupPrepared))
	done := make(chan error, 1)
	go func() { done <- r.s.DoSnapshotSet(ctx(t), nil) }()
	select {
	case <-frozen:
	case <-time.After(20 * time.Second):
		t.Fatal("Freeze never came")
	}
	must(t, r.s.AbortBackup(ctx(t)))
	select {
	case err := <-done:
		if err == nil {
			t.Error("DoSnapshotSet succeeds although it was interrupted")
		}
	case <-time.After(20 * time.Second):
		t.Fatal("DoSnapshotSet goes on after AbortBackup")
	}
	if n := r.log.Count("two", writer.EventAbort); n == 0 {
		t.Error("the other writer got no Abort")
	}
	wantCode(t, r.s.DoSnapshotSet(ctx(t), nil), vss.ErrBadState)
}

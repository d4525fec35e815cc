package coordinator_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/session/sessiontest"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// setters are what a writer can try on a component, and the events in which it
// may.
var setters = []struct {
	name string
	may  []writer.EventKind
	call func(*metadata.Component) error
}{
	{"SetBackupMetadata", backupEvents, func(c *metadata.Component) error { return c.SetBackupMetadata("m") }},
	{"SetBackupStamp", backupEvents, func(c *metadata.Component) error { return c.SetBackupStamp("s") }},
	{"AddPartialFile", backupEvents, func(c *metadata.Component) error {
		return c.AddPartialFile(metadata.PartialFile{Path: "/p", Name: "f", Ranges: "0:1"})
	}},
	{"AddDifferencedFilesByLastModifyTime", backupEvents, func(c *metadata.Component) error {
		return c.AddDifferencedFilesByLastModifyTime(metadata.DifferencedFile{FileSpec: vss.FileSpec{Path: "/p", Pattern: "*"}, LastModifyTime: vss.FileTimeOf(time.Unix(1e9, 0))})
	}},
	{"SetPrepareForBackupFailureMsg", backupEvents[:1], func(c *metadata.Component) error { return c.SetPrepareForBackupFailureMsg("x") }},
	{"SetPostSnapshotFailureMsg", backupEvents[1:], func(c *metadata.Component) error { return c.SetPostSnapshotFailureMsg("x") }},
	{"SetRestoreMetadata", []writer.EventKind{writer.EventPrepareForBackup, writer.EventPreRestore},
		func(c *metadata.Component) error { return c.SetRestoreMetadata("m") }},
	{"SetRestoreTarget", restoreEvents[:1], func(c *metadata.Component) error { return c.SetRestoreTarget(vss.RestoreTargetDirected) }},
	{"AddDirectedTarget", restoreEvents[:1], func(c *metadata.Component) error {
		return c.AddDirectedTarget(metadata.DirectedTarget{SourcePath: "/a", SourceName: "f", SourceRanges: "0:1",
			DestinationPath: "/b", DestinationName: "g", DestinationRanges: "0:1"})
	}},
	{"SetPreRestoreFailureMsg", restoreEvents[:1], func(c *metadata.Component) error { return c.SetPreRestoreFailureMsg("x") }},
	{"SetPostRestoreFailureMsg", restoreEvents[1:], func(c *metadata.Component) error { return c.SetPostRestoreFailureMsg("x") }},
	{"SetFailure", slices.Concat(backupEvents, restoreEvents), func(c *metadata.Component) error {
		return c.SetFailure(metadata.Failure{Code: vss.ErrWriterErrorRetryable, Message: "x"})
	}},
	// The requester's.
	{"SetBackupSucceeded", nil, func(c *metadata.Component) error { return c.SetBackupSucceeded(true) }},
	{"SetBackupOptions", nil, func(c *metadata.Component) error { return c.SetBackupOptions("o") }},
	{"SetPreviousBackupStamp", nil, func(c *metadata.Component) error { return c.SetPreviousBackupStamp("s") }},
	{"SetRestoreOptions", nil, func(c *metadata.Component) error { return c.SetRestoreOptions("o") }},
	{"SetAdditionalRestores", nil, func(c *metadata.Component) error { return c.SetAdditionalRestores(true) }},
	{"SetFileRestoreStatus", nil, func(c *metadata.Component) error { return c.SetFileRestoreStatus(vss.FileRestoreStatusAll) }},
	{"AddNewTarget", nil, func(c *metadata.Component) error {
		return c.AddNewTarget(metadata.NewTarget{FileSpec: vss.FileSpec{Path: "/p", Pattern: "*"}, NewPath: "/q"})
	}},
}

var (
	backupEvents  = []writer.EventKind{writer.EventPrepareForBackup, writer.EventPostSnapshot}
	restoreEvents = []writer.EventKind{writer.EventPreRestore, writer.EventPostRestore}
)

// try is what a writer does that calls a setter in an event.
func try(call func(*metadata.Component) error) sessiontest.Behaviour {
	return sessiontest.Behaviour{Do: func(_ context.Context, e *writer.Event) error {
		c, ok := e.Components.Component("", "data")
		if !ok {
			return errors.New("no component")
		}
		return call(c)
	}}
}

// TestWhoMayWriteWhen: each setter is taken in the events for it and refused,
// with the writer's failure and no trace in the document, in the others.
func TestWhoMayWriteWhen(t *testing.T) {
	for _, s := range setters {
		for _, kind := range slices.Concat(backupEvents, restoreEvents) {
			t.Run(s.name+"/"+kind.String(), func(t *testing.T) {
				t.Parallel()
				r := newRig(t, "one")
				w := r.writers[0]
				w.On[kind] = try(s.call)
				var before, after []byte
				if slices.Contains(backupEvents, kind) {
					before, after = backupDocuments(t, r, true)
				} else {
					before, after = restoreDocuments(t, r)
				}
				st := r.status(w)
				if may := slices.Contains(s.may, kind); may != (st.Event == "") {
					t.Errorf("taken: %v, want %v: %v, %s", st.Event == "", may, st.State, st.Message)
				}
				if changed := string(before) != string(after); changed != slices.Contains(s.may, kind) {
					t.Errorf("the document is changed: %v\n%s", changed, after)
				}
			})
		}
	}
}

// TestR_SET_35_PartialFilesOnlyWhereAllowed: what SetBackupState did not allow is
// refused.
func TestR_SET_35_PartialFilesOnlyWhereAllowed(t *testing.T) {
	for _, kind := range backupEvents {
		r := newRig(t, "one")
		r.writers[0].On[kind] = try(func(c *metadata.Component) error {
			return c.AddPartialFile(metadata.PartialFile{Path: "/p", Name: "f", Ranges: "0:1"})
		})
		before, after := backupDocuments(t, r, false)
		if st := r.status(r.writers[0]); st.Event != kind.String() || st.Failure != vss.ErrWriterErrorNonRetryable {
			t.Errorf("%v: %+v", kind, st)
		}
		if string(before) != string(after) {
			t.Errorf("%v: the document is changed: %s", kind, after)
		}
	}
}

// backupDocuments takes a backup to its shadow copy and gives the document before
// PrepareForBackup and after that.
func backupDocuments(t *testing.T, r *rig, partial bool) (before, after []byte) {
	t.Helper()
	c := deadline(t)
	must(t, r.to("InitializeForBackup"))
	must(t, r.s.SetBackupState(c, session.BackupState{SelectComponents: true, Type: vss.BackupTypeFull, PartialFileSupport: partial}))
	must(t, r.from("SetBackupState", "AddToSnapshotSet"))
	before, err := r.s.BackupComponents(c)
	must(t, err)
	must(t, r.from("AddToSnapshotSet", "DoSnapshotSet"))
	after, err = r.s.BackupComponents(c)
	must(t, err)
	return before, after
}

// restoreDocuments takes a restore to its end and gives the document before
// PreRestore and after PostRestore.
func restoreDocuments(t *testing.T, r *rig) (before, after []byte) {
	t.Helper()
	c := deadline(t)
	w := r.writers[0]
	doc := metadata.NewBackupComponents()
	must(t, doc.SetBackupState(metadata.BackupState{SelectComponents: true, Type: vss.BackupTypeFull}))
	_, err := doc.AddComponent(metadata.WriterKey{InstanceID: w.Instance(), ClassID: w.Class}, vss.ComponentTypeFileGroup, "", "data")
	must(t, err)
	s := r.open()
	must(t, s.InitializeForRestore(c, doc.SaveAsXML(), nil))
	must(t, s.GatherWriterMetadata(c, nil))
	must(t, s.SetSelectedForRestore(c, scriptComponent(w), true, vss.GUID{}))
	before, err = s.BackupComponents(c)
	must(t, err)
	must(t, s.PreRestore(c, nil))
	must(t, s.PostRestore(c, nil))
	after, err = s.BackupComponents(c)
	must(t, err)
	return before, after
}

// TestR_SEL_29_DeselectedWriterGetsNoEvents: a writer whose only component was
// selected and then was not is none of the restore.
func TestR_SEL_29_DeselectedWriterGetsNoEvents(t *testing.T) {
	r := newRig(t, "one")
	w := r.writers[0]
	c := deadline(t)
	doc := metadata.NewBackupComponents()
	_, err := doc.AddComponent(metadata.WriterKey{InstanceID: w.Instance(), ClassID: w.Class}, vss.ComponentTypeFileGroup, "", "data")
	must(t, err)
	s := r.open()
	must(t, s.InitializeForRestore(c, doc.SaveAsXML(), nil))
	must(t, s.GatherWriterMetadata(c, nil))
	if err := s.AddRestoreSubcomponent(c, scriptComponent(w), "data", "sub"); !errors.Is(err, vss.ErrBadState) {
		t.Errorf("R-SEL-24: a subcomponent of what is not selected: %v", err)
	}
	must(t, s.SetSelectedForRestore(c, scriptComponent(w), true, vss.GUID{}))
	must(t, s.SetSelectedForRestore(c, scriptComponent(w), false, vss.GUID{}))
	must(t, s.PreRestore(c, nil))
	must(t, s.PostRestore(c, nil))
	if events := r.log.Of("one"); len(events) > 0 {
		t.Errorf("it got %v", events)
	}
}

package sessiontest

import (
	"testing"

	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// testComponents: what AddComponent and its kin refuse.
func testComponents(t *testing.T, h Harness) {
	r := newRig(t, h, Options{}, "one", "two")
	must(t, r.run(metadataGathered))
	c := ctx(t)
	good := component(r.writers[0])
	must(t, r.s.AddComponent(c, good))
	wantCode(t, r.s.AddComponent(c, good), vss.ErrObjectAlreadyExists) // R-SEL-1
	unknown := good
	unknown.Name = "no such component"
	wantCode(t, r.s.AddComponent(c, unknown), vss.ErrObjectNotFound) // R-SEL-15
	stranger := good
	stranger.Instance = vss.NewGUID()
	wantCode(t, r.s.AddComponent(c, stranger), vss.ErrObjectNotFound)
	wantCode(t, r.s.SetBackupOptions(c, unknown, "x"), vss.ErrObjectNotFound)
	must(t, r.s.SetBackupOptions(c, good, "compress"))
	must(t, r.s.SetPreviousBackupStamp(c, good, "lsn 3"))

	// R-SEL-12, R-SEL-13: only explicit components are in the document, and a
	// writer without any gets no events.
	must(t, r.resume(componentsAdded, snapshotTaken))
	doc := r.document()
	if n := len(doc.Writers()); n != 1 {
		t.Errorf("%d writers in the document, want 1", n)
	}
	w, _ := doc.Writer(r.writers[0].Instance())
	mc, _ := w.Component("", "data")
	if o, _ := mc.BackupOptions(); o != "compress" {
		t.Errorf("backup options %q", o)
	}
	if p, _ := mc.PreviousBackupStamp(); p != "lsn 3" {
		t.Errorf("previous stamp %q", p)
	}
	wantCode(t, r.s.SetBackupSucceeded(c, component(r.writers[1]), true), vss.ErrObjectNotFound)
	must(t, r.s.Close())
	r.wantEvents(r.writers[1])
}

// testContexts: contexts without writers have none, and refuse what is theirs.
func testContexts(t *testing.T, h Harness) {
	r := newRig(t, h, Options{}, "one")
	c := ctx(t)
	must(t, r.s.InitializeForBackup(c, nil))
	wantCode(t, r.s.SetContext(c, vss.ContextAll), vss.ErrUnsupportedContext)
	must(t, r.s.SetContext(c, vss.ContextFileShareBackup))
	wantCode(t, r.s.SetContext(c, vss.ContextBackup), vss.ErrBadState) // at most once
	wantCode(t, r.s.SetBackupState(c, session.BackupState{Type: vss.BackupTypeUndefined}), vss.ErrInvalidArgument)
	wantCode(t, r.s.SetBackupState(c, session.BackupState{Type: vss.BackupTypeOther}), vss.ErrInvalidArgument) // R-TYPE-1
	must(t, r.s.GatherWriterMetadata(c, nil))
	if list, err := r.s.WriterMetadata(c); err != nil || len(list) != 0 {
		t.Errorf("%d writers, error %v, in a context without writers", len(list), err)
	}
	if err := r.s.AddComponent(c, component(r.writers[0])); err == nil {
		t.Error("AddComponent succeeds in a context without writers")
	}
	set, err := r.s.StartSnapshotSet(c)
	must(t, err)
	if set.IsZero() {
		t.Error("the set has no id")
	}
	sc := r.scope()
	id, err := r.s.AddToSnapshotSet(c, r.volume, vss.GUID{}, sc)
	must(t, err)
	_, err = r.s.AddToSnapshotSet(c, r.volume, vss.GUID{}, sc)
	wantCode(t, err, vss.ErrObjectAlreadyExists)
	_, err = r.s.AddToSnapshotSet(c, r.volume+"?", vss.GUID{}, sc)
	wantCode(t, err, vss.ErrObjectNotFound)
	if err := r.s.PrepareForBackup(c, nil); err == nil {
		t.Error("PrepareForBackup succeeds in a context without writers")
	}
	must(t, r.s.DoSnapshotSet(c, nil))
	p, err := r.s.SnapshotProperties(c, id)
	must(t, err)
	if p.ID != id || p.SetID != set || p.Count != 1 || p.Volume != r.volume || p.Created.IsZero() {
		t.Errorf("properties %+v", p)
	}
	must(t, r.s.Close())
	r.wantEvents(r.writers[0])
	r.wantNothingLeft()
}

// testFilter: classes and instances can be left out before Identify.
func testFilter(t *testing.T, h Harness) {
	for name, tt := range map[string]struct {
		filter func(*rig) error
		want   []string
	}{
		"EnableWriterClasses":    {func(r *rig) error { return r.s.EnableWriterClasses(ctx(r.t), classes[1]) }, []string{"two"}},
		"DisableWriterClasses":   {func(r *rig) error { return r.s.DisableWriterClasses(ctx(r.t), classes[1]) }, []string{"one"}},
		"DisableWriterInstances": {func(r *rig) error { return r.s.DisableWriterInstances(ctx(r.t), r.writers[0].Instance()) }, []string{"two"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, h, Options{}, "one", "two")
			must(t, r.run(initialized))
			must(t, tt.filter(r))
			must(t, r.resume(initialized, metadataGathered))
			list, err := r.s.WriterMetadata(ctx(t))
			must(t, err)
			if len(list) != len(tt.want) {
				t.Fatalf("%d writers, want %v", len(list), tt.want)
			}
			for _, w := range r.writers {
				if w.Name == tt.want[0] && list[0].Instance != w.Instance() {
					t.Errorf("the writer left is not %s", w.Name)
				}
			}
		})
	}
}

// testRestore runs a restore of the document of a backup.
func testRestore(t *testing.T, h Harness) {
	b := newRig(t, h, Options{}, "one", "two")
	must(t, b.run(backupCompleted))
	c := ctx(t)
	doc, err := b.s.SaveAsXML(c)
	must(t, err)
	infos, err := b.s.WriterMetadata(c)
	must(t, err)
	var stored []session.StoredWriter
	for _, i := range infos {
		stored = append(stored, session.StoredWriter{Document: i.Document})
	}
	must(t, b.s.Close())

	r := newRig(t, h, Options{}, "one", "two")
	one, two := r.writers[0], r.writers[1]
	wantCode(t, r.s.InitializeForRestore(c, []byte("<x"), nil), vss.ErrInvalidXMLDocument)
	must(t, r.s.InitializeForRestore(c, doc, stored))
	wantCode(t, r.s.PreRestore(c, nil), vss.ErrBadState)
	must(t, r.s.GatherWriterMetadata(c, nil))
	comp := component(b.writers[0]) // as the backup knows it
	must(t, r.s.SetSelectedForRestore(c, comp, true, vss.GUID{}))
	unknown := comp
	unknown.Name = "gone"
	wantCode(t, r.s.SetSelectedForRestore(c, unknown, true, vss.GUID{}), vss.ErrObjectNotFound)
	must(t, r.s.SetRestoreOptions(c, comp, `"Authoritative"="All"`))
	must(t, r.s.SetAdditionalRestores(c, comp, true))
	wantCode(t, r.s.SetFileRestoreStatus(c, comp, vss.FileRestoreStatusAll), vss.ErrBadState)
	must(t, r.s.PreRestore(c, nil))
	wantCode(t, r.s.SetAdditionalRestores(c, comp, false), vss.ErrBadState)
	if st := r.status(one); st.State != vss.WriterStable {
		t.Errorf("after PreRestore: %v", st.State)
	}
	must(t, r.s.SetFileRestoreStatus(c, comp, vss.FileRestoreStatusAll))
	one.On[writer.EventPostRestore] = Behaviour{Fail: vss.ErrWriterErrorNonRetryable}
	must(t, r.s.PostRestore(c, nil))
	if st := r.status(one); st.State != vss.WriterFailedAtPostRestore || st.Failure != vss.ErrWriterErrorNonRetryable {
		t.Errorf("after a failed PostRestore: %v %v", st.State, st.Failure)
	}
	must(t, r.s.Close())
	// No Abort exists in a restore, and R-SEL-29: who has nothing selected
	// gets no events.
	r.wantEvents(one, writer.EventPreRestore, writer.EventPostRestore)
	r.wantEvents(two)

	// R-SEL-28: a component whose writer is not running cannot be selected.
	lone := newRig(t, h, Options{}, "three")
	lone.writers[0].Class = classes[2]
	must(t, lone.s.InitializeForRestore(c, doc, nil))
	must(t, lone.s.GatherWriterMetadata(c, nil))
	wantCode(t, lone.s.SetSelectedForRestore(c, comp, true, vss.GUID{}), vss.ErrObjectNotFound)
}

package testwriter

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// listing makes a writer that lists a partial and a differenced file, and its
// part of a Backup Components Document.
func listing(t *testing.T, attributes string) (w *testWriter, log *bytes.Buffer, part *metadata.WriterComponents) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "x"), []byte("some"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Parse(fmt.Appendf(nil, `<TestWriter supportsIncremental="yes" checkIncludes="yes" %s><RestoreMethod method="RESTORE_IF_CAN_REPLACE" writerRestore="always"/>
		<Component componentType="filegroup" componentName="c"><ComponentFile path="%s" filespec="*"/>
		<PartialFile path="%[2]s" filespec="x" ranges="0:1"/><DifferencedFile path="%[2]s" filespec="*"/></Component></TestWriter>`, attributes, dir), "f.xml", hostStyle())
	if err != nil {
		t.Fatal(err)
	}
	log = new(bytes.Buffer)
	w = newWriter(c, "w", log)
	doc, err := w.Identify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	id := doc.Identity()
	b := metadata.NewBackupComponents()
	if _, err := b.AddComponent(metadata.WriterKey{InstanceID: id.InstanceID, ClassID: id.ClassID, Schema: doc.BackupSchema()}, vss.ComponentTypeFileGroup, "", "c"); err != nil {
		t.Fatal(err)
	}
	part, ok := b.Writer(id.InstanceID)
	if !ok {
		t.Fatal("the document has no such writer")
	}
	return w, log, part
}

// R-SET-31, D-32: in which event the lists are added, and that a time left out is
// zero.
func TestListsAreAddedInTheirEvent(t *testing.T) {
	for attributes, early := range map[string]bool{"": false, `addIn="PostSnapshot"`: false, `addIn="PrepareForBackup"`: true} {
		w, _, part := listing(t, attributes)
		e := &writer.Event{Components: part, State: writer.BackupState{SelectComponents: true, Type: vss.BackupTypeIncremental, PartialFileSupport: true}}
		for _, kind := range []writer.EventKind{writer.EventPrepareForBackup, writer.EventPostSnapshot} {
			if err := writer.Notify(t.Context(), w, kind, e); err != nil {
				t.Fatal(err)
			}
			c, _ := part.Component("", "c")
			want := 1
			if kind == writer.EventPrepareForBackup && !early {
				want = 0
			}
			if n, m := len(c.PartialFiles()), len(c.DifferencedFiles()); n != want || m != want {
				t.Errorf("%q: after %v %d partial and %d differenced files, want %d", attributes, kind, n, m, want)
			}
			for _, d := range c.DifferencedFiles() {
				if !d.LastModifyTime.IsZero() {
					t.Errorf("the time is %v, want zero", d.LastModifyTime)
				}
			}
		}
	}
}

// R-RES-28: before the last restore of a chain nothing is checked.
func TestNothingIsCheckedBeforeTheLastRestore(t *testing.T) {
	for _, more := range []bool{true, false} {
		w, _, part := listing(t, "")
		c, _ := part.Component("", "c")
		for _, err := range []error{c.SetSelectedForRestore(true, vss.GUID{}), c.SetFileRestoreStatus(vss.FileRestoreStatusAll), c.SetAdditionalRestores(more)} {
			if err != nil {
				t.Fatal(err)
			}
		}
		// The component has no backup metadata, which is a fault.
		err := writer.Notify(t.Context(), w, writer.EventPostRestore, &writer.Event{Components: part})
		if (err != nil) == more {
			t.Errorf("additional restores %v: %v", more, err)
		}
	}
}

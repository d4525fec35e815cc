package metadata

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/vss"
)

// asWriter gives the writer its part, lets it work on it, and takes it back.
func asWriter(t *testing.T, b *BackupComponents, work func(*WriterComponents) []error) error {
	t.Helper()
	instance := b.Writers()[0].Key().InstanceID
	part, err := b.WriterPart(instance)
	if err != nil {
		t.Fatal(err)
	}
	w, err := ParseWriterPart(part)
	if err != nil {
		t.Fatalf("%v in %s", err, part)
	}
	for i, err := range work(w) {
		if err != nil {
			t.Fatalf("call %d: %v", i, err)
		}
	}
	return b.MergeWriterPart(instance, w.Part())
}

func TestAPartHoldsOneWriterInstance(t *testing.T) {
	for _, src := range []string{`<BACKUP_COMPONENTS/>`, string(testdata(t, "bcd-fresh.xml"))} {
		_, err := ParseWriterPart([]byte(src))
		checkBroken(t, src, err, 1, "not 1")
	}
}

func TestWriterPartShowsOneWriterTheStateAndItsComponents(t *testing.T) {
	b := parseBackup(t, "bcd-fresh.xml")
	part, err := b.WriterPart(b.Writers()[1].Key().InstanceID)
	if err != nil {
		t.Fatal(err)
	}
	p, err := ParseBackupComponents(part)
	if err != nil {
		t.Fatal(err)
	}
	state, _ := b.BackupState()
	if got, ok := p.BackupState(); !ok || got != state || p.SnapshotSetID() != b.SnapshotSetID() {
		t.Errorf("state %+v", got)
	}
	if len(p.Writers()) != 1 || !reflect.DeepEqual(viewComponent(p.Writers()[0].Components()[0]), viewComponent(b.Writers()[1].Components()[0])) {
		t.Errorf("part: %s", part)
	}
	if strings.Contains(string(part), "Racks") {
		t.Error("a writer is shown another's components")
	}
	if _, err := b.WriterPart(vss.NewGUID()); !errors.Is(err, vss.ErrObjectNotFound) {
		t.Errorf("unknown instance: %v", err)
	}
}

// writerCalls are the calls IVssComponent lets a writer make.
func writerCalls(c *Component) []error {
	return []error{
		c.SetBackupMetadata("m\n"), c.SetBackupStamp("s"), c.SetRestoreMetadata("r"), c.SetRestoreTarget(vss.RestoreTargetDirected),
		c.SetPrepareForBackupFailureMsg("1"), c.SetPostSnapshotFailureMsg("2"), c.SetPreRestoreFailureMsg("3"), c.SetPostRestoreFailureMsg(""),
		c.AddPartialFile(PartialFile{Path: "/d", Name: "f", Ranges: "0:1", Metadata: "x"}),
		c.AddDifferencedFilesByLastModifyTime(DifferencedFile{vss.FileSpec{Path: "/d", Pattern: "*"}, 5}),
		c.AddDirectedTarget(DirectedTarget{"/d", "f", "0:1", "/d", "g", "0:1"}),
		c.SetFailure(Failure{vss.ErrWriterErrorNonRetryable, 1, "why"}),
	}
}

func TestMergeTakesOverAllAWriterMaySet(t *testing.T) {
	for _, name := range []string{"bcd-fresh.xml", "bcd-everything.xml"} {
		b := parseBackup(t, name)
		c := b.Writers()[0].Components()[0]
		want := b.Clone()
		calls := writerCalls
		if name == "bcd-everything.xml" { // its metadata is set, which cannot be done twice
			calls = func(c *Component) []error {
				return []error{c.SetBackupStamp("new"), c.AddPartialFile(PartialFile{Path: "/d", Name: "z", Ranges: "1:1"}), c.SetFailure(Failure{vss.OK, 0, "well again"})}
			}
		}
		calls(want.Writers()[0].Components()[0])
		if err := asWriter(t, b, func(w *WriterComponents) []error { return calls(w.Components()[0]) }); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := viewBackup(b); !reflect.DeepEqual(got, viewBackup(want)) {
			t.Errorf("%s: got  %+v\nwant %+v", name, got, viewBackup(want))
		}
		if stamp, ok := c.BackupStamp(); !ok || stamp == "lsn:77" {
			t.Errorf("%s: a component got before the merge does not see it", name)
		}
		if err := asWriter(t, b, func(*WriterComponents) []error { return nil }); err != nil {
			t.Errorf("%s: an unchanged part after it: %v", name, err)
		}
	}
}

func TestMergeOfAnUnchangedPartChangesNothing(t *testing.T) {
	for name, data := range fixtures(t, "bcd-") {
		b := parseBackup(t, name)
		if err := asWriter(t, b, func(*WriterComponents) []error { return nil }); err != nil || !bytes.Equal(b.SaveAsXML(), data) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestMergeRefusesWhatIsNotTheWriters(t *testing.T) {
	data := string(testdata(t, "bcd-everything.xml"))
	replace := func(old, new string) string {
		if !strings.Contains(data, old) {
			t.Fatalf("%q is not in the document", old)
		}
		return strings.Replace(data, old, new, 1)
	}
	for name, c := range map[string]struct {
		part string
		want vss.Code
	}{
		"broken":                    {"<", vss.ErrInvalidXMLDocument},
		"backup type":               {replace(`backupType="incremental"`, `backupType="full"`), vss.ErrInvalidArgument},
		"unknown state":             {replace(` later="x"`, ``), vss.ErrInvalidArgument},
		"new state":                 {replace(` later="x"`, ` later="x" more="y"`), vss.ErrInvalidArgument},
		"class":                     {replace(`writerId="c3a1`, `writerId="d3a1`), vss.ErrInvalidArgument},
		"instance":                  {replace(`instanceId="7d9a`, `instanceId="8d9a`), vss.ErrInvalidArgument},
		"schema":                    {replace(`backupSchema="4987"`, `backupSchema="0"`), vss.ErrInvalidArgument},
		"component renamed":         {replace(`componentName="Racks"`, `componentName="Rocks"`), vss.ErrInvalidArgument},
		"component moved":           {replace(`logicalPath="House" componentName`, `componentName`), vss.ErrInvalidArgument},
		"component type":            {replace(`componentType="filegroup"`, `componentType="database"`), vss.ErrInvalidArgument},
		"component added":           {replace(`</WRITER_COMPONENTS>`, `<COMPONENT componentName="b" componentType="filegroup"/></WRITER_COMPONENTS>`), vss.ErrInvalidArgument},
		"writer added":              {replace(`</BACKUP_COMPONENTS>`, `<WRITER_COMPONENTS instanceId="7d9a2b4c-aaaa-4bbb-8ccc-0123456789ac" writerId="7d9a2b4c-aaaa-4bbb-8ccc-0123456789ac"/></BACKUP_COMPONENTS>`), vss.ErrInvalidArgument},
		"succeeded":                 {replace(`backupSucceeded="yes"`, `backupSucceeded="no"`), vss.ErrInvalidArgument},
		"options":                   {replace(`backupOptions="quick"`, `backupOptions="slow"`), vss.ErrInvalidArgument},
		"previous stamp":            {replace(`previousBackupStamp="lsn:42"`, ``), vss.ErrInvalidArgument},
		"selection":                 {replace(`selectedForRestore="yes"`, `selectedForRestore="no"`), vss.ErrInvalidArgument},
		"stamp taken away":          {replace(` backupStamp="lsn:77"`, ``), vss.ErrInvalidArgument},
		"metadata a second time":    {replace(`line 2"`, `line 3"`), vss.ErrObjectAlreadyExists},
		"partial file changed":      {replace(`filespec="big"`, `filespec="small"`), vss.ErrInvalidArgument},
		"differenced taken away":    {replace(`<DIFFERENCED_FILES path="/srv/cellar/new" filespec="*.x"/>`, ``), vss.ErrInvalidArgument},
		"ranges path of a new file": {replace(`<FAILURE`, `<PARTIAL_FILE path="/x" filespec="y" ranges="0:1" rangesFilePath="/etc/shadow"/><FAILURE`), vss.ErrInvalidArgument},
		"bad ranges":                {replace(`<FAILURE`, `<PARTIAL_FILE path="/x" filespec="y" ranges="0"/><FAILURE`), vss.ErrInvalidArgument},
		"wildcard in a name":        {replace(`<FAILURE`, `<PARTIAL_FILE path="/x" filespec="*" ranges="0:1"/><FAILURE`), vss.ErrInvalidArgument},
		"new target":                {replace(`<FAILURE`, `<NEW_TARGET path="/x" filespec="*" newPath="/y"/><FAILURE`), vss.ErrInvalidArgument},
		"mapping":                   {replace(`alternatePath="/srv/spare"`, `alternatePath="/etc"`), vss.ErrInvalidArgument},
		"subcomponent taken away":   {replace(`<RESTORE_SUBCOMPONENT logicalPath="House\Racks" componentName="Top" repair="no"/>`, ``), vss.ErrInvalidArgument},
		"unknown element":           {replace(`<FAILURE`, `<NOVELTY/><FAILURE`), vss.ErrInvalidArgument},
		"foreign element changed":   {replace(`>kept<`, `>lost<`), vss.ErrInvalidArgument},
		"code":                      {replace(`hr="0x800423F4"`, `hr="0x80042301"`), vss.ErrInvalidArgument},
		"target undefined":          {replace(`restoreTarget="directed"`, `restoreTarget="undefined"`), vss.ErrInvalidArgument},
	} {
		b := parseBackup(t, "bcd-everything.xml")
		// Beside the root's other children, which no part holds, a part is the document.
		part := strings.Replace(c.part, `<LUN_INFORMATION disk="0"/>`, ``, 1)
		err := b.MergeWriterPart(b.Writers()[0].Key().InstanceID, []byte(part))
		if vss.CodeOf(err) != c.want || !strings.Contains(err.Error(), "7d9a2b4c-aaaa-4bbb-8ccc-0123456789ab") {
			t.Errorf("%s: %v, want %v naming the instance", name, err, c.want)
		}
		if string(b.SaveAsXML()) != data {
			t.Errorf("%s: refused, and yet the document changed", name)
		}
	}
	b := parseBackup(t, "bcd-everything.xml")
	if err := b.MergeWriterPart(vss.NewGUID(), []byte(data)); !errors.Is(err, vss.ErrObjectNotFound) {
		t.Errorf("unknown instance: %v", err)
	}
}

// TestManyWritersAreReadInLinearTime gives a document of which a quadratic
// reader would make many minutes.
func TestManyWritersAreReadInLinearTime(t *testing.T) {
	var doc strings.Builder
	doc.WriteString(`<BACKUP_COMPONENTS>`)
	for range 100_000 {
		id := vss.NewGUID().String()
		doc.WriteString(`<WRITER_COMPONENTS instanceId="` + id + `" writerId="` + id + `"/>`)
	}
	doc.WriteString(`</BACKUP_COMPONENTS>`)
	done := make(chan error, 1)
	go func() {
		_, err := ParseBackupComponents([]byte(doc.String()))
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(30 * time.Second):
		t.Error("not read within 30 s")
	}
}

package metadata

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/sombra-backup/sombra/metadata/internal/canon"
	"github.com/sombra-backup/sombra/vss"
)

// testdata reads one of the documents written for these tests.
func testdata(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// fixtures gives all of them whose name begins with prefix; there must be some.
func fixtures(t testing.TB, prefix string) map[string][]byte {
	t.Helper()
	names, err := filepath.Glob(filepath.Join("testdata", prefix+"*.xml"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no documents testdata/%s*.xml: %v", prefix, err)
	}
	m := make(map[string][]byte)
	for _, n := range names {
		m[filepath.Base(n)] = testdata(t, filepath.Base(n))
	}
	return m
}

func form(t testing.TB, data []byte) string {
	t.Helper()
	f, err := canon.Form(data)
	if err != nil {
		t.Fatalf("independent reader: %v", err)
	}
	return f
}

func toUTF16(s string, order binary.AppendByteOrder) []byte {
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		b = order.AppendUint16(b, u)
	}
	return b
}

// writerView is every answer a Writer Metadata Document gives.
type writerView struct {
	Identity    Identity
	Schema      vss.BackupSchema
	Method      RestoreMethod
	HasMethod   bool
	Mappings    []AlternateLocationMapping
	Components  []ComponentInfo
	Exclude     []vss.FileSpec
	ExcludeFrom []vss.FileSpec
	Problems    []Problem
}

func viewWriter(m *WriterMetadata) writerView {
	v := writerView{Identity: m.Identity(), Schema: m.BackupSchema(), Mappings: m.AlternateLocationMappings(),
		Exclude: m.ExcludeFiles(), ExcludeFrom: m.ExcludeFilesFromSnapshot(), Problems: m.Validate(vss.Windows)}
	v.Method, v.HasMethod = m.RestoreMethod()
	for _, c := range m.Components() {
		flat := *c
		flat.node = nil
		v.Components = append(v.Components, flat)
	}
	return v
}

// componentView is every answer a component of a Backup Components Document
// gives.
type componentView struct {
	Writer WriterKey
	ID     vss.ComponentID
	Type   vss.ComponentType
	Texts  []string
	Flags  []any
	Lists  lists
}

// backupView is every answer a Backup Components Document gives.
type backupView struct {
	State       BackupState
	HasState    bool
	RestoreType vss.RestoreType
	Set         vss.GUID
	Components  []componentView
	Problems    []Problem
}

func viewBackup(b *BackupComponents) backupView {
	v := backupView{RestoreType: b.RestoreType(), Set: b.SnapshotSetID(), Problems: b.Validate()}
	v.State, v.HasState = b.BackupState()
	for _, w := range b.Writers() {
		for _, c := range w.Components() {
			v.Components = append(v.Components, viewComponent(c))
		}
	}
	return v
}

func viewComponent(c *Component) componentView {
	v := componentView{Writer: c.Writer(), ID: c.ID(), Type: c.Type(), Lists: c.readLists(&reader{})}
	text := func(s string, ok bool) { v.Texts = append(v.Texts, fmt.Sprintf("%q %v", s, ok)) }
	text(c.BackupOptions())
	text(c.BackupMetadata())
	text(c.RestoreMetadata())
	text(c.RestoreOptions())
	text(c.RestoreName())
	text(c.PrepareForBackupFailureMsg())
	text(c.PostSnapshotFailureMsg())
	text(c.PreRestoreFailureMsg())
	text(c.PostRestoreFailureMsg())
	text(c.Caption(), true)
	stamp, ok := c.BackupStamp()
	text(string(stamp), ok)
	stamp, ok = c.PreviousBackupStamp()
	text(string(stamp), ok)
	succeeded, known := c.BackupSucceeded()
	selected, instance := c.SelectedForRestore()
	roll, point := c.RollForward()
	failure, failed := c.Failure()
	v.Flags = []any{succeeded, known, selected, instance, roll, point, failure, failed,
		c.AdditionalRestores(), c.RestoreTarget(), c.FileRestoreStatus(), c.AuthoritativeRestore()}
	return v
}

func TestDocumentsComeBackByteForByteAndEquivalentWhenRewritten(t *testing.T) {
	for name, data := range fixtures(t, "wmd-") {
		m, err := ParseWriterMetadata(bytes.Clone(data))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		checkKept(t, name, data, m.SaveAsXML(), m.Rewrite(), m.Clone().SaveAsXML())
		again, err := ParseWriterMetadata(m.Rewrite())
		if err != nil || !reflect.DeepEqual(viewWriter(again), viewWriter(m)) || !reflect.DeepEqual(viewWriter(m.Clone()), viewWriter(m)) {
			t.Errorf("%s: rewritten or cloned it answers otherwise (%v)", name, err)
		}
	}
	for name, data := range fixtures(t, "bcd-") {
		b, err := ParseBackupComponents(bytes.Clone(data))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		checkKept(t, name, data, b.SaveAsXML(), b.Rewrite(), b.Clone().SaveAsXML())
		again, err := ParseBackupComponents(b.Rewrite())
		if err != nil || !reflect.DeepEqual(viewBackup(again), viewBackup(b)) || !reflect.DeepEqual(viewBackup(b.Clone()), viewBackup(b)) {
			t.Errorf("%s: rewritten or cloned it answers otherwise (%v)", name, err)
		}
	}
}

func checkKept(t *testing.T, name string, data, saved, rewritten, cloned []byte) {
	t.Helper()
	if !bytes.Equal(saved, data) || !bytes.Equal(cloned, data) {
		t.Errorf("%s: unchanged, it is saved with other bytes", name)
	}
	if got, want := form(t, rewritten), form(t, data); got != want {
		t.Errorf("%s: rewritten it is not equivalent:\n%s\nwant\n%s", name, got, want)
	}
}

func TestDocumentsInUTF16AnswerTheSame(t *testing.T) {
	for name, data := range fixtures(t, "wmd-") {
		want, err := ParseWriterMetadata(data)
		if err != nil {
			t.Fatal(err)
		}
		for _, order := range []binary.AppendByteOrder{binary.LittleEndian, binary.BigEndian} {
			wide := toUTF16(string(data), order)
			m, err := ParseWriterMetadata(wide)
			if err != nil || !reflect.DeepEqual(viewWriter(m), viewWriter(want)) {
				t.Errorf("%s in %v: %v", name, order, err)
				continue
			}
			if !bytes.Equal(m.SaveAsXML(), wide) || form(t, m.Rewrite()) != form(t, data) {
				t.Errorf("%s in %v: not kept", name, order)
			}
		}
	}
}

func TestBrokenDocumentsNameTheirPlace(t *testing.T) {
	const writerHead = `<WRITER_METADATA xmlns="x-schema:#VssWriterMetadataInfo">` + "\n"
	const id = `<IDENTIFICATION writerId="c3a1f0de-1111-4222-8333-944455556666" instanceId="c3a1f0de-1111-4222-8333-944455556667"/>` + "\n"
	const locations = writerHead + id + "<BACKUP_LOCATIONS>\n"
	for src, c := range map[string]struct {
		line int
		text string
	}{
		`<WRITER_METADATA`:                     {1, "not closed"},
		`<X/>`:                                 {1, "root element is X"},
		`<WRITER_METADATA xmlns="urn:other"/>`: {1, `namespace "urn:other"`},
		writerHead + `</WRITER_METADATA>`:      {1, "no element IDENTIFICATION"},
		writerHead + `<IDENTIFICATION/></WRITER_METADATA>`:                                                                            {2, "instanceId"},
		writerHead + id + id + `</WRITER_METADATA>`:                                                                                   {3, "second element IDENTIFICATION"},
		writerHead + id + `<RESTORE_METHOD rebootRequired="maybe"/>` + `</WRITER_METADATA>`:                                           {3, `"maybe", not "yes" or "no"`},
		writerHead + id + `<RESTORE_METHOD/>` + "\n" + `<RESTORE_METHOD/></WRITER_METADATA>`:                                          {4, "second element RESTORE_METHOD"},
		locations + `<FILE_GROUP/></BACKUP_LOCATIONS></WRITER_METADATA>`:                                                              {4, "no attribute componentName"},
		locations + `<FILE_GROUP componentName="a"/>` + "\n" + `<DATABASE componentName="a"/></BACKUP_LOCATIONS></WRITER_METADATA>`:   {5, `"a" stands twice`}, // R-SEL-1
		locations + `<FILE_GROUP componentName="a" componentFlags="-1"/></BACKUP_LOCATIONS></WRITER_METADATA>`:                        {4, `"-1", not a number`},
		locations + `<FILE_GROUP componentName="a" componentFlags="4294967296"/></BACKUP_LOCATIONS></WRITER_METADATA>`:                {4, "not a number of 32 bits"},
		locations + `<FILE_GROUP componentName="a" icon="?"/></BACKUP_LOCATIONS></WRITER_METADATA>`:                                   {4, "base64"},
		locations + `<FILE_GROUP componentName="a"><FILE_LIST path="x"/></FILE_GROUP></BACKUP_LOCATIONS></WRITER_METADATA>`:           {4, "no attribute filespec"},
		locations + `<FILE_GROUP componentName="a"><DEPENDENCY componentName="x"/></FILE_GROUP></BACKUP_LOCATIONS></WRITER_METADATA>`: {4, "writerId"},
		locations + `<EXCLUDE_FILES filespec="x"/></BACKUP_LOCATIONS></WRITER_METADATA>`:                                              {4, "no attribute path"},
		writerHead + id + `<RESTORE_METHOD><ALTERNATE_LOCATION_MAPPING path="" filespec=""/></RESTORE_METHOD></WRITER_METADATA>`:      {3, "alternatePath"},
	} {
		_, err := ParseWriterMetadata([]byte(src))
		checkBroken(t, src, err, c.line, c.text)
	}
	const backupHead = `<BACKUP_COMPONENTS xmlns="x-schema:#VssComponentMetadata">` + "\n"
	const writer = `<WRITER_COMPONENTS instanceId="c3a1f0de-1111-4222-8333-944455556666" writerId="c3a1f0de-1111-4222-8333-944455556667">` + "\n"
	const end = "</WRITER_COMPONENTS></BACKUP_COMPONENTS>"
	for src, c := range map[string]struct {
		line int
		text string
	}{
		`<BACKUP_COMPONENTS snapshotSetId="x"/>`:                                                                                             {1, "snapshotSetId"},
		`<BACKUP_COMPONENTS selectComponents="1"/>`:                                                                                          {1, "selectComponents"},
		backupHead + `<WRITER_COMPONENTS/></BACKUP_COMPONENTS>`:                                                                              {2, "instanceId"},
		backupHead + writer + `</WRITER_COMPONENTS>` + "\n" + writer + end:                                                                   {4, "stands twice"},
		backupHead + writer + `<COMPONENT/>` + end:                                                                                           {3, "componentName"},
		backupHead + writer + `<COMPONENT componentName="a"/><COMPONENT logicalPath="\" componentName="a"/>` + end:                           {3, `"a" stands twice`}, // R-SEL-1
		backupHead + writer + `<COMPONENT componentName="a" backupSucceeded=""/>` + end:                                                      {3, "backupSucceeded"},
		backupHead + writer + `<COMPONENT componentName="a"><PARTIAL_FILE/></COMPONENT>` + end:                                               {3, "path"},
		backupHead + writer + `<COMPONENT componentName="a"><DIFFERENCED_FILES path="" filespec="" lastModifyTime="now"/></COMPONENT>` + end: {3, "64 bits"},
		backupHead + writer + `<COMPONENT componentName="a"><FAILURE hr="bad"/></COMPONENT>` + end:                                           {3, "0x800423F4"},
	} {
		_, err := ParseBackupComponents([]byte(src))
		checkBroken(t, src, err, c.line, c.text)
	}
}

func checkBroken(t *testing.T, src string, err error, line int, text string) {
	t.Helper()
	var se *SyntaxError
	if !errors.As(err, &se) || !errors.Is(err, vss.ErrInvalidXMLDocument) || se.Line != line || se.Column < 1 || !strings.Contains(err.Error(), text) {
		t.Errorf("%s\ngives %v\nwant VSS_E_INVALID_XML_DOCUMENT at line %d with %q", src, err, line, text)
	}
}

func TestUnknownWordsAreProblemsNotErrors(t *testing.T) {
	data := bytes.Replace(testdata(t, "wmd-method-last-one-line.xml"), []byte("REPLACE_AT_REBOOT"), []byte("SOME_DAY"), 1)
	m, err := ParseWriterMetadata(data)
	if err != nil {
		t.Fatal(err)
	}
	if method, ok := m.RestoreMethod(); !ok || method.Method != vss.RestoreMethodUndefined {
		t.Errorf("method %v, %v", method, ok)
	}
	if text := fmt.Sprint(m.Validate(vss.Windows)); !strings.Contains(text, `unknown word "SOME_DAY"`) || !strings.Contains(text, "R-RES-13") {
		t.Errorf("problems: %s", text)
	}
	if !bytes.Equal(m.SaveAsXML(), data) {
		t.Error("the word is not kept")
	}
}

func FuzzWriterMetadata(f *testing.F) {
	for _, data := range fixtures(f, "wmd-") {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := ParseWriterMetadata(bytes.Clone(data))
		if err != nil {
			var se *SyntaxError
			if !errors.As(err, &se) || !errors.Is(err, vss.ErrInvalidXMLDocument) {
				t.Fatalf("%v", err)
			}
			return
		}
		if !bytes.Equal(m.SaveAsXML(), data) {
			t.Fatal("unchanged, it is saved with other bytes")
		}
		again, err := ParseWriterMetadata(m.Rewrite())
		if err != nil || !reflect.DeepEqual(viewWriter(again), viewWriter(m)) {
			t.Fatalf("rewritten as %q it answers otherwise (%v)", m.Rewrite(), err)
		}
		_ = m.IndexFileSets(vss.Windows, nil).Claims(`C:\a`, "b")
	})
}

func FuzzBackupComponents(f *testing.F) {
	for _, data := range fixtures(f, "bcd-") {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := ParseBackupComponents(bytes.Clone(data))
		if err != nil {
			var se *SyntaxError
			if !errors.As(err, &se) || !errors.Is(err, vss.ErrInvalidXMLDocument) {
				t.Fatalf("%v", err)
			}
			return
		}
		view := viewBackup(b)
		again, err := ParseBackupComponents(b.Rewrite())
		if err != nil || !reflect.DeepEqual(viewBackup(again), view) {
			t.Fatalf("rewritten as %q it answers otherwise (%v)", b.Rewrite(), err)
		}
		for _, w := range b.Writers() {
			part, err := b.WriterPart(w.Key().InstanceID)
			if err != nil {
				t.Fatal(err)
			}
			if err := b.MergeWriterPart(w.Key().InstanceID, part); err != nil {
				t.Fatalf("an unchanged part %q is refused: %v", part, err)
			}
		}
		if !bytes.Equal(b.SaveAsXML(), data) || !reflect.DeepEqual(viewBackup(b), view) {
			t.Fatal("taking back unchanged parts changed the document")
		}
	})
}

// FuzzMergeWriterPart takes parts from a hostile writer: whatever it sends, only
// what a writer may set is changed.
func FuzzMergeWriterPart(f *testing.F) {
	for _, data := range fixtures(f, "bcd-") {
		f.Add(data)
	}
	base := testdata(f, "bcd-everything.xml")
	f.Fuzz(func(t *testing.T, part []byte) {
		b, err := ParseBackupComponents(base)
		if err != nil {
			t.Fatal(err)
		}
		before := b.Clone()
		w := b.Writers()[0]
		if err := b.MergeWriterPart(w.Key().InstanceID, part); err != nil {
			if !bytes.Equal(b.SaveAsXML(), base) {
				t.Fatalf("refused (%v), and yet the document changed", err)
			}
			return
		}
		c, old := w.Components()[0], before.Writers()[0].Components()[0]
		if err := old.compare(c); err != nil {
			t.Fatalf("%q changed what a writer may not: %v", part, err)
		}
		if _, err := ParseBackupComponents(b.SaveAsXML()); err != nil {
			t.Fatalf("%q makes a document that cannot be read: %v", part, err)
		}
	})
}

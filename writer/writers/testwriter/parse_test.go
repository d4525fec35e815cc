package testwriter

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
	"github.com/sombra-backup/sombra/writer/writers/testwriter/cases"
)

const everything = `<?xml version="1.0"?>
<TestWriter usage="USER_DATA" verbosity="high" deleteFiles="yes" deletePartialFiles="yes" deleteDifferencedFiles="yes"
            checkIncludes="yes" checkExcludes="no" supportsCopy="yes" supportsDifferential="yes" supportsIncremental="yes"
            supportsLog="yes" supportsNewTarget="no" lockFile="c:\lock" pidFile="c:\pids" stillness="commitsHeld">
    <RestoreMethod method="RESTORE_IF_CAN_REPLACE" writerRestore="always" rebootRequired="yes">
        <AlternateLocationMapping path="c:\files" filespec="*.txt" recursive="yes" alternatePath="c:\altfiles"/>
    </RestoreMethod>
    <!-- a comment -->
    <ExcludeFile path="c:\files" filespec="temp*.*" recursive="yes"/>
    <Component componentType="filegroup" logicalPath="a\b" componentName="Files" selectable="no" selectableForRestore="yes">
        <ComponentFile path="c:\files" filespec="*.txt" recursive="yes" alternatePath="c:\spit" diffBackupRequired="no" logSnapshotRequired="no"/>
        <PartialFile path="c:\files" filespec="partial.txt" ranges="0:5, 0x64:20"/>
        <DifferencedFile path="c:\files" filespec="*.txt" recursive="yes" year="2007" month="1" day="22" hour="12" minute="44" second="17"/>
        <Dependency writerId="11111111-2222-4333-8444-555555555555" logicalPath="P" componentName="C"/>
    </Component>
    <Component componentType="database" componentName="Db">
        <ComponentFile path="%ProgramData%\db" filespec="*.log" logFile="yes"/>
    </Component>
    <FailEvent writerEvent="Freeze" retryable="yes" numFailures="2"/>
    <FailEvent writerEvent="PrepareForSnapsot" retryable="no"/>
    <FailEvent writerEvent="Thaw" action="hang" seconds="3"/>
</TestWriter>`

func TestParseReadsEverything(t *testing.T) {
	c, err := Parse([]byte(everything), "all.xml", vss.Windows)
	if err != nil {
		t.Fatal(err)
	}
	if c.Usage != vss.UsageUserData || c.Verbosity != High || c.Delete != (Delete{true, true, true}) || c.Check != (Check{Includes: true}) ||
		c.Supports != (Supports{Copy: true, Differential: true, Incremental: true, Log: true}) ||
		c.LockFile != `c:\lock` || c.PIDFile != `c:\pids` || c.Stillness != writer.CommitsHeld {
		t.Errorf("root: %+v", c)
	}
	// D-27: both spellings of the method are understood.
	if c.Restore.Method != vss.RestoreMethodIfCanReplace || c.Restore.WriterRestore != vss.WriterRestoreAlways || !c.Restore.RebootRequired {
		t.Errorf("restore method: %+v", c.Restore)
	}
	if m := c.Mappings; len(m) != 1 || m[0].AlternatePath != `c:\altfiles` || m[0].Pattern != "*.txt" {
		t.Errorf("mappings: %+v", m)
	}
	if x := c.ExcludeFiles; len(x) != 1 || x[0] != (vss.FileSpec{Path: `c:\files`, Pattern: "temp*.*", Recursive: true}) {
		t.Errorf("exclude: %+v", x)
	}
	files := c.Components[0]
	if files.FullPath() != `a\b\Files` || files.Selectable || !files.SelectableForRestore {
		t.Errorf("component: %+v", files)
	}
	const mask = vss.DefaultFileSpecBackupType &^ vss.DifferentialBackupRequired &^ vss.LogSnapshotRequired
	if f := files.Files[0]; f.BackupType != mask || f.AlternatePath != `c:\spit` || !f.Recursive {
		t.Errorf("file: %+v", f)
	}
	if p := files.Partial[0]; p != (PartialFile{`c:\files`, "partial.txt", "0:5, 0x64:20"}) {
		t.Errorf("partial file: %+v", p)
	}
	if d := files.Differenced[0]; !d.Since.Equal(time.Date(2007, 1, 22, 12, 44, 17, 0, time.Local)) {
		t.Errorf("differenced file: %+v", d)
	}
	if d := files.Dependencies[0]; d.LogicalPath != "P" || d.Name != "C" {
		t.Errorf("dependency: %+v", d)
	}
	if db := c.Components[1]; db.Type != vss.ComponentTypeDatabase || !db.Selectable || !db.Files[0].Log || db.Files[0].BackupType != vss.DefaultFileSpecBackupType {
		t.Errorf("database: %+v", db)
	}
	want := []FailEvent{
		{Event: writer.EventFreeze, Retryable: true, Count: 2},
		{Event: writer.EventPrepareForSnapshot, Count: -1},
		{Event: writer.EventThaw, Count: -1, Hang: 3 * time.Second},
	}
	for i, w := range want {
		if c.FailEvents[i] != w {
			t.Errorf("fail event %d: %+v, want %+v", i, c.FailEvents[i], w)
		}
	}

	doc, err := c.document(vss.NewGUID(), "x")
	if err != nil {
		t.Fatal(err)
	}
	const schema = vss.SchemaCopy | vss.SchemaDifferential | vss.SchemaIncremental | vss.SchemaLog | vss.SchemaLastModify
	if doc.BackupSchema() != schema {
		t.Errorf("schema: got %v, want %v", doc.BackupSchema(), schema)
	}
	if problems := doc.Validate(vss.Windows); len(problems) != 0 {
		t.Errorf("the document has faults: %v", problems)
	}
	db, _ := doc.Component("", "Db")
	if s := db.Files(metadata.DatabaseLogFiles); len(s) != 1 || s[0].Path != `%ProgramData%\db` {
		t.Errorf("database log files: %+v; the environment stays as it is (R-SET-8)", s)
	}
}

func TestDefaults(t *testing.T) {
	c, err := Parse([]byte(`<TestWriter><RestoreMethod method="CUSTOM" writerRestore="never"/><Component componentType="filegroup" componentName="x"/></TestWriter>`), "f", vss.POSIX)
	if err != nil {
		t.Fatal(err)
	}
	if c.Verbosity != Medium || !c.Supports.NewTarget || c.Supports.Copy || c.Usage != vss.UsageUserData || c.Stillness != writer.FilesStill || !c.Components[0].Selectable {
		t.Errorf("%+v", c)
	}
}

func TestParseErrorsSayWhereAndWhatToDo(t *testing.T) {
	const method = `<RestoreMethod method="CUSTOM" writerRestore="never"/>`
	in := func(inner string) string { return "<TestWriter>\n  " + method + "\n  " + inner + "\n</TestWriter>" }
	comp := func(inner string) string {
		return in(`<Component componentType="filegroup" componentName="c">` + inner + `</Component>`)
	}
	for _, test := range []struct{ name, text, want string }{
		{"no XML", "<TestWriter", "f.xml:1:"},
		{"another root", "<Writer/>", "must be TestWriter"},
		{"a namespace", `<TestWriter xmlns="u">` + method + `</TestWriter>`, `"xmlns"`},
		{"unknown attribute", `<TestWriter deleteFile="yes">` + method + `</TestWriter>`, `f.xml:1:1: element TestWriter has no attribute "deleteFile"; it may have usage, verbosity, deleteFiles`},
		{"neither yes nor no", `<TestWriter deleteFiles="true">` + method + `</TestWriter>`, `write "yes" or "no"`},
		{"usage", `<TestWriter usage="DATA">` + method + `</TestWriter>`, `"DATA" is none of`},
		{"verbosity", `<TestWriter verbosity="loud">` + method + `</TestWriter>`, `"loud" is none of high, low, medium`},
		{"lock file", `<TestWriter lockFile="lock">` + method + `</TestWriter>`, "write a full path, such as /srv/data"},
		{"text", `<TestWriter>` + method + `x</TestWriter>`, `holds text, "x"`},
		{"no method", `<TestWriter/>`, "lacks the element RestoreMethod"},
		{"method not first", "<TestWriter>\n<ExcludeFile path='/a' filespec='*'/>\n" + method + "</TestWriter>", "f.xml:2:1: element RestoreMethod must be the first"},
		{"two methods", in(method), "f.xml:3:3: element RestoreMethod must be the first"},
		{"method without its word", `<TestWriter><RestoreMethod writerRestore="never"/></TestWriter>`, "lacks the attribute method"},
		{"method undefined", `<TestWriter><RestoreMethod method="UNDEFINED" writerRestore="never"/></TestWriter>`, "cannot be undefined"},
		{"service missing", `<TestWriter><RestoreMethod method="STOP_RESTORE_START" writerRestore="never"/></TestWriter>`, "attribute service"},
		{"service too much", `<TestWriter><RestoreMethod method="CUSTOM" service="s" writerRestore="never"/></TestWriter>`, "attribute service"},
		{"unknown element", in(`<Exclude/>`), "f.xml:3:3: element Exclude cannot stand in TestWriter; there may be RestoreMethod, ExcludeFile, Component, FailEvent"},
		{"element in an element", in(`<FailEvent writerEvent="Thaw" retryable="no"><a/></FailEvent>`), "element a cannot stand in FailEvent; there may be nothing"},
		{"relative path", in(`<ExcludeFile path="a" filespec="*"/>`), "write a full path"},
		{"directory in a pattern", in(`<ExcludeFile path="/a" filespec="b/*"/>`), "directory part"},
		{"no pattern", in(`<ExcludeFile path="/a"/>`), "lacks the attribute filespec"},
		{"component type", in(`<Component componentType="files" componentName="c"/>`), `"files" is none of`},
		{"component name", in(`<Component componentType="filegroup" componentName="a\b"/>`), "backslash"},
		{"logical path", in(`<Component componentType="filegroup" componentName="a" logicalPath="\x"/>`), "empty part"},
		{"component twice", in(`<Component componentType="filegroup" componentName="a"/><Component componentType="database" componentName="a"/>`), "stands twice"},
		{"database with subdirectories", in(`<Component componentType="database" componentName="a"><ComponentFile path="/a" filespec="*" recursive="yes"/></Component>`), "R-SET-7"},
		{"log file of a group", comp(`<ComponentFile path="/a" filespec="*" logFile="yes"/>`), "only a component of type database"},
		{"empty mask", comp(`<ComponentFile path="/a" filespec="*" fullBackupRequired="no" diffBackupRequired="no" incBackupRequired="no" logBackupRequired="no" fullSnapshotRequired="no" diffSnapshotRequired="no" incSnapshotRequired="no" logSnapshotRequired="no"/>`), "leave the element out"},
		{"wildcard in a partial file", comp(`<PartialFile path="/a" filespec="*" ranges="0:1"/>`), "R-SET-35"},
		{"ranges", comp(`<PartialFile path="/a" filespec="x" ranges="5-9"/>`), `such as "0:5,100:20"`},
		{"no such day", comp(`<DifferencedFile path="/a" filespec="x" year="2023" month="2" day="29" hour="0" minute="0" second="0"/>`), "there is no 2023-02-29"},
		{"part of a time", comp(`<DifferencedFile path="/a" filespec="x" year="2023"/>`), "lacks the attribute month"},
		{"event to add in", `<TestWriter addIn="Thaw"><RestoreMethod method="CUSTOM" writerRestore="never"/></TestWriter>`, `"Thaw" is none of PostSnapshot, PrepareForBackup`},
		{"no such hour", comp(`<DifferencedFile path="/a" filespec="x" year="2023" month="2" day="2" hour="24" minute="0" second="0"/>`), "from 0 to 23"},
		{"dependency", comp(`<Dependency writerId="x" componentName="c"/>`), "is no GUID"},
		{"event", in(`<FailEvent writerEvent="Frieze" retryable="no"/>`), `"Frieze"`},
		{"fail without class", in(`<FailEvent writerEvent="Freeze"/>`), "lacks the attribute retryable"},
		{"hang without time", in(`<FailEvent writerEvent="Freeze" action="hang"/>`), "needs the attribute seconds"},
		{"hang with class", in(`<FailEvent writerEvent="Freeze" action="hang" seconds="1" retryable="no"/>`), "no meaning"},
		{"time without hang", in(`<FailEvent writerEvent="Freeze" retryable="no" seconds="1"/>`), `needs action="hang"`},
		{"no time", in(`<FailEvent writerEvent="Freeze" action="hang" seconds="0"/>`), "from 1 to"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := Parse([]byte(test.text), "f.xml", vss.POSIX)
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.HasPrefix(err.Error(), "f.xml:") || !errors.Is(err, vss.ErrInvalidXMLDocument) {
				t.Errorf("got %v\nwant %q in it", err, test.want)
			}
		})
	}
}

func TestLoadNamesTheFile(t *testing.T) {
	dir := t.TempDir()
	if _, err := Load(filepath.Join(dir, "absent.xml")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	big := filepath.Join(dir, "big.xml")
	if err := os.WriteFile(big, make([]byte, maxConfig+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(big); err == nil || !strings.Contains(err.Error(), big) {
		t.Errorf("got %v", err)
	}
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte(everything), true)
	all, err := cases.Load("testdata")
	if err != nil {
		f.Fatal(err)
	}
	for _, c := range all {
		f.Add(c.Config, false)
	}
	f.Fuzz(func(t *testing.T, data []byte, windows bool) {
		style := vss.POSIX
		if windows {
			style = vss.Windows
		}
		c, err := Parse(data, "f.xml", style)
		if err != nil {
			if !errors.Is(err, vss.ErrInvalidXMLDocument) || !strings.HasPrefix(err.Error(), "f.xml:") {
				t.Errorf("error without place or code: %v", err)
			}
			return
		}
		doc, err := c.document(vss.NewGUID(), "fuzz")
		if err != nil {
			return // a dependency on its own class, for one, the model refuses
		}
		if _, err := metadata.ParseWriterMetadata(doc.SaveAsXML()); err != nil {
			t.Errorf("the document it makes cannot be read: %v", err)
		}
	})
}

func FuzzManifest(f *testing.F) {
	f.Add(`{"version":1,"files":[{"component":"c","path":"/a","filespec":"*","name":"x","size":1,"ranges":[{"offset":0,"length":1,"sha256":""}]}]}`)
	f.Add(`{"version":1,"files":[{"raw":"Li4vLi4v"}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		m, err := decodeManifest(text)
		if err != nil {
			return
		}
		for _, e := range m.Files {
			if !filepath.IsLocal(e.name()) {
				t.Errorf("a name that leads elsewhere: %q", e.name())
			}
		}
		again, err := m.encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeManifest(again); err != nil {
			t.Errorf("what was read cannot be read again: %v", err)
		}
	})
}

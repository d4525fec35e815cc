package metadata

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/vss"
)

func everything(t *testing.T) *WriterMetadata {
	t.Helper()
	m, err := ParseWriterMetadata(testdata(t, "wmd-everything.xml"))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestWriterMetadataAnswersEveryQuestion(t *testing.T) {
	m := everything(t)
	wantID := Identity{vss.MustParseGUID("7d9a2b4c-aaaa-4bbb-8ccc-0123456789ab"), vss.MustParseGUID("c3a1f0de-1111-4222-8333-944455556666"),
		"Cellar Writer", "cellar-1", vss.UsageOther, vss.SourceTransactedDB, 2, 17}
	if m.Identity() != wantID {
		t.Errorf("identity %+v", m.Identity())
	}
	if m.BackupSchema() != 4987 {
		t.Errorf("schema %v", m.BackupSchema())
	}
	wantMethod := RestoreMethod{vss.RestoreMethodStopRestoreStart, "cellard", "https://cellar.example/restore", vss.WriterRestoreIfReplaceFails, true}
	if method, ok := m.RestoreMethod(); !ok || method != wantMethod {
		t.Errorf("method %+v, %v", method, ok)
	}
	wantMapping := []AlternateLocationMapping{{vss.FileSpec{Path: "/srv/cellar/racks/", Pattern: "*.*", Recursive: true}, "/srv/spare"}}
	if !slices.Equal(m.AlternateLocationMappings(), wantMapping) {
		t.Errorf("mappings %+v", m.AlternateLocationMappings())
	}
	if got := m.ExcludeFiles(); !slices.Equal(got, []vss.FileSpec{{Path: "/srv/cellar/racks", Pattern: "*.tmp", Recursive: true}}) {
		t.Errorf("excludes %v", got)
	}
	if got := m.ExcludeFilesFromSnapshot(); !slices.Equal(got, []vss.FileSpec{{Path: `\System Volume Information\Heat`, Pattern: "*.*", Recursive: true}}) {
		t.Errorf("excludes from the shadow copy %v", got)
	}
	if n := len(m.Components()); n != 3 {
		t.Fatalf("%d components", n)
	}
	racks, ok := m.Component("House", "Racks")
	if !ok {
		t.Fatal("no component House\\Racks")
	}
	testWriter := vss.TestWriterClass
	want := ComponentInfo{
		Type: vss.ComponentTypeFileGroup, LogicalPath: "House", Name: "Racks",
		Caption: "Two lines: first & \"second\"\nafter a reference", Icon: []byte{0, 1, 2, 3, 4},
		NotifyOnBackupComplete: true, Selectable: true, SelectableForRestore: true, Flags: vss.FlagAppRollbackRecovery | vss.FlagNotSystemState,
		FileSets: []FileSet{
			{vss.FileSpec{Path: "/srv/cellar/racks", Pattern: "*", Recursive: true}, FileGroupFiles, "/srv/spit", vss.CreatedDuringBackup | vss.AllBackupRequired},
			{vss.FileSpec{Path: "/etc/cellar", Pattern: "cellar.conf"}, FileGroupFiles, "", vss.DefaultFileSpecBackupType},
		},
		Dependencies: []Dependency{{testWriter, `\\cave\Wines`, "Reds"}, {testWriter, "", "Whites"}},
		node:         racks.node,
	}
	if !reflect.DeepEqual(*racks, want) {
		t.Errorf("got  %+v\nwant %+v", *racks, want)
	}
	ledger, ok := m.Component(`\House`, "Ledger") // D-18: stored and asked with a leading backslash
	if !ok || ledger.Type != vss.ComponentTypeDatabase || !ledger.RestoreMetadata || ledger.Selectable || ledger.FullPath() != `House\Ledger` {
		t.Fatalf("ledger %+v", ledger)
	}
	if data, logs := ledger.Files(DatabaseFiles), ledger.Files(DatabaseLogFiles); len(data) != 1 || len(logs) != 1 || logs[0].BackupType != vss.LogBackupRequired|vss.LogSnapshotRequired || len(ledger.Files(FileGroupFiles)) != 0 {
		t.Errorf("data %v, logs %v", data, logs)
	}
	if id := m.ComponentID(ledger); id != (vss.ComponentID{WriterClass: wantID.ClassID, LogicalPath: "House", Name: "Ledger"}) {
		t.Errorf("identity %v", id)
	}
	if _, ok := m.Component("", "Racks"); ok {
		t.Error("a component is found at a wrong path")
	}
}

func TestMinimalDocumentAnswersWithDefaults(t *testing.T) {
	m, err := ParseWriterMetadata([]byte(`<WRITER_METADATA><IDENTIFICATION writerId="c3a1f0de-1111-4222-8333-944455556666" instanceId="c3a1f0de-1111-4222-8333-944455556667"/>
<BACKUP_LOCATIONS><FILE_GROUP componentName="a"><FILE_LIST path="p" filespec="f"/></FILE_GROUP></BACKUP_LOCATIONS></WRITER_METADATA>`))
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := m.RestoreMethod(); ok || m.BackupSchema() != 0 {
		t.Error("a restore method or schema out of nowhere")
	}
	if c := m.Components()[0]; c.Selectable || c.Flags != 0 || c.FileSets[0].Recursive || c.FileSets[0].BackupType != 3855 {
		t.Errorf("%+v", c)
	}
}

// build makes a document by the calls of IVssCreateWriterMetadata.
func build(t *testing.T) *WriterMetadata {
	t.Helper()
	m, err := NewWriterMetadata(Identity{InstanceID: vss.NewGUID(), ClassID: vss.NewGUID(), Name: "Builder & Sons", InstanceName: "one",
		Usage: vss.UsageUserData, Source: vss.SourceNonTransactedDB, MajorVersion: 1})
	if err != nil {
		t.Fatal(err)
	}
	for i, err := range []error{
		m.SetBackupSchema(vss.SchemaIncremental | vss.SchemaTimestamped | vss.SchemaLog),
		m.SetRestoreMethod(RestoreMethod{Method: vss.RestoreMethodIfCanReplace, WriterRestore: vss.WriterRestoreAlways}),
		m.AddAlternateLocationMapping(AlternateLocationMapping{vss.FileSpec{Path: "/d", Pattern: "*"}, "/alt"}),
		m.AddComponent(ComponentInfo{Type: vss.ComponentTypeFileGroup, LogicalPath: "p", Name: "files", Caption: "two\nlines", Icon: []byte("icon"), Selectable: true}),
		m.AddFilesToFileGroup("p", "files", vss.FileSpec{Path: "/d", Pattern: "*"}, "", 0),
		m.AddFilesToFileGroup("p", "files", vss.FileSpec{Path: "/e", Pattern: "x", Recursive: true}, "/spit", vss.AllBackupRequired),
		m.AddComponent(ComponentInfo{Type: vss.ComponentTypeDatabase, Name: "db"}),
		m.AddDatabaseFiles("", "db", "/var/db", "data", 0),
		m.AddDatabaseLogFiles("", "db", "/var/db", "log*", vss.LogBackupRequired),
		m.AddComponentDependency("", "db", Dependency{vss.TestWriterClass, `\\host\x`, "y"}),
		m.AddExcludeFiles(vss.FileSpec{Path: "/d", Pattern: "*.tmp"}),
		m.AddExcludeFilesFromSnapshot(vss.FileSpec{Path: "/d", Pattern: "*.cache"}),
	} {
		if err != nil {
			t.Fatalf("call %d: %v", i, err)
		}
	}
	return m
}

func TestBuiltDocumentReadsBackAsBuilt(t *testing.T) {
	m := build(t)
	again, err := ParseWriterMetadata(m.SaveAsXML())
	if err != nil {
		t.Fatalf("%v in\n%s", err, m.SaveAsXML())
	}
	if got, want := viewWriter(again), viewWriter(m); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v\nin %s", got, want, m.SaveAsXML())
	}
	if p := m.Validate(vss.POSIX); len(p) != 0 {
		t.Errorf("problems: %v", p)
	}
	if !reflect.DeepEqual(viewWriter(m.Clone()), viewWriter(m)) {
		t.Error("the clone answers otherwise")
	}
}

func TestBuiltDocumentHasTheShapeOfRealOnes(t *testing.T) {
	m, err := NewWriterMetadata(Identity{InstanceID: vss.MustParseGUID("11111111-2222-4333-8444-555566667777"), ClassID: vss.TestWriterClass,
		Name: "Task Writer", Usage: vss.UsageBootableSystemState, Source: vss.SourceOther})
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		m.SetRestoreMethod(RestoreMethod{Method: vss.RestoreMethodAtRebootIfCannotReplace, WriterRestore: vss.WriterRestoreNever}),
		m.AddComponent(ComponentInfo{Type: vss.ComponentTypeFileGroup, Name: "TasksStore", Caption: "Tasks Store"}),
		m.AddFilesToFileGroup("", "TasksStore", vss.FileSpec{Path: `%WinDir%\Tasks`, Pattern: "*", Recursive: true}, "", 0),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	const want = `<WRITER_METADATA xmlns="x-schema:#VssWriterMetadataInfo" version="1.2"><IDENTIFICATION writerId="5affb034-969f-4919-8875-88f830d0ef89" instanceId="11111111-2222-4333-8444-555566667777" friendlyName="Task Writer" usage="BOOTABLE_SYSTEM_STATE" dataSource="OTHER" majorVersion="0" minorVersion="0"/>` +
		`<RESTORE_METHOD method="REPLACE_AT_REBOOT_IF_CANNOT_REPLACE" writerRestore="never" rebootRequired="no"/>` +
		`<BACKUP_LOCATIONS><FILE_GROUP componentName="TasksStore" caption="Tasks Store" restoreMetadata="no" notifyOnBackupComplete="no" selectable="no" selectableForRestore="no" componentFlags="0">` +
		`<FILE_LIST path="%WinDir%\Tasks" filespec="*" recursive="yes" filespecBackupType="3855"/></FILE_GROUP></BACKUP_LOCATIONS></WRITER_METADATA>`
	if got := string(m.SaveAsXML()); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestBuilderGivesTheModelsCodes(t *testing.T) {
	m := build(t)
	spec := vss.FileSpec{Path: "/x", Pattern: "*"}
	group := func(path, name string) ComponentInfo {
		return ComponentInfo{Type: vss.ComponentTypeFileGroup, LogicalPath: path, Name: name}
	}
	before := string(m.SaveAsXML())
	for name, c := range map[string]struct {
		err  error
		want vss.Code
	}{
		"R-SEL-1 same path and name":            {m.AddComponent(group("p", "files")), vss.ErrObjectAlreadyExists},
		"R-SEL-1 same name, other type":         {m.AddComponent(group("", "db")), vss.ErrObjectAlreadyExists},
		"R-SEL-3 backslash in the name":         {m.AddComponent(group("", `a\b`)), vss.ErrInvalidArgument},
		"R-SEL-3 no name":                       {m.AddComponent(group("p", "")), vss.ErrInvalidArgument},
		"R-SEL-3 logical path begins with one":  {m.AddComponent(group(`\p`, "a")), vss.ErrInvalidArgument},
		"no type":                               {m.AddComponent(ComponentInfo{Name: "x"}), vss.ErrInvalidArgument},
		"caption XML cannot hold":               {m.AddComponent(ComponentInfo{Type: vss.ComponentTypeFileGroup, Name: "x", Caption: "\x00"}), vss.ErrInvalidArgument},
		"files of an unknown component":         {m.AddFilesToFileGroup("", "none", spec, "", 0), vss.ErrObjectNotFound},
		"files of a group in a database":        {m.AddFilesToFileGroup("", "db", spec, "", 0), vss.ErrInvalidArgument},
		"database files in a group":             {m.AddDatabaseFiles("p", "files", "/x", "*", 0), vss.ErrInvalidArgument},
		"database log files in a group":         {m.AddDatabaseLogFiles("p", "files", "/x", "*", 0), vss.ErrInvalidArgument},
		"database files of an unknown one":      {m.AddDatabaseFiles("p", "db", "/x", "*", 0), vss.ErrObjectNotFound},
		"R-SET-1 pattern with a directory":      {m.AddFilesToFileGroup("p", "files", vss.FileSpec{Path: "/x", Pattern: "a/b"}, "", 0), vss.ErrInvalidArgument},
		"R-SET-1 no path":                       {m.AddExcludeFiles(vss.FileSpec{Pattern: "*"}), vss.ErrInvalidArgument},
		"second restore method":                 {m.SetRestoreMethod(RestoreMethod{Method: vss.RestoreMethodCustom, WriterRestore: vss.WriterRestoreNever}), vss.ErrObjectAlreadyExists},
		"R-SEL-32 dependency on itself":         {m.AddComponentDependency("", "db", Dependency{m.Identity().ClassID, "", "x"}), vss.ErrInvalidArgument},
		"R-SEL-32 dependency of an unknown one": {m.AddComponentDependency("", "none", Dependency{vss.TestWriterClass, "", "x"}), vss.ErrObjectNotFound},
		"dependency on nothing":                 {m.AddComponentDependency("", "db", Dependency{vss.TestWriterClass, "", ""}), vss.ErrInvalidArgument},
		"mapping to nowhere":                    {m.AddAlternateLocationMapping(AlternateLocationMapping{spec, ""}), vss.ErrInvalidArgument},
	} {
		if vss.CodeOf(c.err) != c.want {
			t.Errorf("%s: %v, want %v", name, c.err, c.want)
		}
	}
	if after := string(m.SaveAsXML()); after != before {
		t.Errorf("a refused call changed the document:\n%s\n%s", before, after)
	}
	empty, err := NewWriterMetadata(Identity{InstanceID: vss.NewGUID(), ClassID: vss.NewGUID()})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		err  error
		want vss.Code
	}{
		"mapping before the method":   {empty.AddAlternateLocationMapping(AlternateLocationMapping{spec, "/y"}), vss.ErrObjectNotFound},
		"service missing":             {empty.SetRestoreMethod(RestoreMethod{Method: vss.RestoreMethodStopRestoreStart, WriterRestore: vss.WriterRestoreNever}), vss.ErrInvalidArgument},
		"service with another method": {empty.SetRestoreMethod(RestoreMethod{Method: vss.RestoreMethodCustom, Service: "s", WriterRestore: vss.WriterRestoreNever}), vss.ErrInvalidArgument},
		"undefined method":            {empty.SetRestoreMethod(RestoreMethod{WriterRestore: vss.WriterRestoreNever}), vss.ErrInvalidArgument},
		"undefined writer restore":    {empty.SetRestoreMethod(RestoreMethod{Method: vss.RestoreMethodCustom}), vss.ErrInvalidArgument},
	} {
		if vss.CodeOf(c.err) != c.want {
			t.Errorf("%s: %v, want %v", name, c.err, c.want)
		}
	}
	if _, err := NewWriterMetadata(Identity{Name: "x"}); !errors.Is(err, vss.ErrInvalidArgument) {
		t.Errorf("a writer without ids: %v", err)
	}
}

func TestChangingALoadedDocumentKeepsTheUnknown(t *testing.T) {
	m := everything(t)
	if err := m.AddComponent(ComponentInfo{Type: vss.ComponentTypeFileGroup, Name: "New"}); err != nil {
		t.Fatal(err)
	}
	old, text := string(testdata(t, "wmd-everything.xml")), string(m.SaveAsXML())
	const added = `<FILE_GROUP componentName="New" restoreMetadata="no" notifyOnBackupComplete="no" selectable="no" selectableForRestore="no" componentFlags="0"/>`
	if want := strings.Replace(old, "\n  </BACKUP_LOCATIONS>", "\n    "+added+"\n  </BACKUP_LOCATIONS>", 1); text != want {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
}

// TestValidateListsWhatTheModelForbids gives one broken document for each rule.
func TestValidateListsWhatTheModelForbids(t *testing.T) {
	const id = `<IDENTIFICATION writerId="c3a1f0de-1111-4222-8333-944455556666" instanceId="c3a1f0de-1111-4222-8333-944455556667" friendlyName="w" usage="OTHER" dataSource="OTHER"/>`
	const method = `<RESTORE_METHOD method="CUSTOM" writerRestore="never"/>`
	doc := func(attrs, rest, locations string) string {
		return `<WRITER_METADATA ` + attrs + `>` + id + rest + `<BACKUP_LOCATIONS>` + locations + `</BACKUP_LOCATIONS></WRITER_METADATA>`
	}
	group := func(inner string) string {
		return `<FILE_GROUP componentName="a">` + inner + `</FILE_GROUP>`
	}
	for name, c := range map[string]struct{ src, want string }{
		"clean":                        {doc(``, method, group(`<FILE_LIST path="C:\a" filespec="*"/>`)), ""},
		"D-3 neither files nor method": {doc(``, ``, ``), ""},
		"R-TYPE-10":                    {doc(`backupSchema="6"`, ``, ``), "R-TYPE-10"},
		"R-TYPE-10 with both":          {doc(`backupSchema="7"`, ``, ``), ""},
		"R-TYPE-11 stamps":             {doc(`backupSchema="32"`, ``, ``), "R-TYPE-11"},
		"R-TYPE-11 times":              {doc(`backupSchema="64"`, ``, ``), "R-TYPE-11"},
		"R-TYPE-11 with one":           {doc(`backupSchema="97"`, ``, ``), ""},
		"R-TYPE-6":                     {doc(`backupSchema="8"`, ``, ``), "R-TYPE-6"},
		"unassigned schema bit":        {doc(`backupSchema="2048"`, ``, ``), "VSS_BACKUP_SCHEMA"},
		"R-RES-13 no method":           {doc(``, ``, group(``)), "R-RES-13"},
		"R-RES-13 no mapping":          {doc(``, `<RESTORE_METHOD method="RESTORE_TO_ALTERNATE_LOCATION" writerRestore="never"/>`, ``), "R-RES-13"},
		"R-RES-7":                      {doc(``, `<RESTORE_METHOD method="STOP_RESTORE_START" writerRestore="never"/>`, ``), "R-RES-7"},
		"R-RES-18":                     {doc(``, `<RESTORE_METHOD method="CUSTOM" writerRestore="never"><ALTERNATE_LOCATION_MAPPING path="C:\b" filespec="*" alternatePath="C:\c"/></RESTORE_METHOD>`, group(`<FILE_LIST path="C:\a" filespec="*"/>`)), "R-RES-18"},
		"R-RES-18 in other letters":    {doc(``, `<RESTORE_METHOD method="CUSTOM" writerRestore="never"><ALTERNATE_LOCATION_MAPPING path="c:\A\" filespec="*.*" alternatePath="C:\c"/></RESTORE_METHOD>`, group(`<FILE_LIST path="C:\a" filespec="*"/>`)), ""},
		"R-SEL-3":                      {doc(``, method, `<FILE_GROUP componentName="a\b"/>`), "R-SEL-3"},
		"R-SEL-32":                     {doc(``, method, group(`<DEPENDENCY writerId="C3A1F0DE-1111-4222-8333-944455556666" componentName="b"/>`)), "R-SEL-32"},
		"flags":                        {doc(``, method, `<FILE_GROUP componentName="a" componentFlags="8"/>`), "VSS_COMPONENT_FLAGS"},
		"mask":                         {doc(``, method, group(`<FILE_LIST path="C:\a" filespec="*" filespecBackupType="16"/>`)), "VSS_FILE_SPEC_BACKUP_TYPE"},
		"R-SET-1":                      {doc(``, method, group(`<FILE_LIST path="C:\a" filespec="b\c"/>`)), "R-SET-1"},
		"R-SET-1 of an exclude":        {doc(``, method, `<EXCLUDE_FILES path="C:\a*" filespec="b"/>`), "R-SET-1"},
		"R-SET-6":                      {doc(``, method, group(`<FILE_LIST path="C:\a" filespec="x"/><FILE_LIST path="c:\A\" filespec="X"/>`)), "R-SET-6"},
		"R-SET-7 wrong list":           {doc(``, method, group(`<DATABASE_FILES path="C:\a" filespec="x"/>`)), "R-SET-7"},
		"R-SET-7 recursion":            {doc(``, method, `<DATABASE componentName="a"><DATABASE_FILES path="C:\a" filespec="x" recursive="yes"/></DATABASE>`), "R-SET-7"},
		"usage":                        {strings.Replace(doc(``, ``, ``), `usage="OTHER"`, ``, 1), "GetIdentity"},
	} {
		m, err := ParseWriterMetadata([]byte(c.src))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var rules []string
		for _, p := range m.Validate(vss.Windows) {
			rules = append(rules, p.Rule)
			if p.Object == "" || p.Text == "" || !strings.Contains(p.String(), p.Rule) {
				t.Errorf("%s: %+v names nothing", name, p)
			}
		}
		if got := strings.Join(rules, " "); got != c.want {
			t.Errorf("%s: problems %q, want %q", name, got, c.want)
		}
	}
}

func TestIndexFindsSetsMappingsAndClaims(t *testing.T) {
	m := build(t)
	x := m.IndexFileSets(vss.POSIX, nil)
	if refs := x.Find(vss.FileSpec{Path: "/d/", Pattern: "*.*"}); len(refs) != 1 || refs[0].Component.Name != "files" {
		t.Errorf("find: %v", refs)
	}
	if refs := x.Find(vss.FileSpec{Path: "/d", Pattern: "*", Recursive: true}); refs != nil {
		t.Errorf("a recursive set is found: %v", refs)
	}
	if a, ok := x.Mapping(vss.FileSpec{Path: "/d", Pattern: "*"}); !ok || a.AlternatePath != "/alt" {
		t.Errorf("mapping: %v, %v", a, ok)
	}
	for path, want := range map[string]string{
		"/d/anything": "files", "/d/sub/anything": "", "/e/x": "files", "/e/1/2/x": "files", "/e/1/y": "",
		"/var/db/data": "db", "/var/db/log7": "db", "/var/db/Data": "", "/var/db2/data": "", "/": "",
	} {
		dir, name := vss.POSIX.Split(path)
		var got []string
		for _, r := range x.Claims(dir, name) {
			got = append(got, r.Component.Name)
		}
		if strings.Join(got, ",") != want {
			t.Errorf("%s is claimed by %q, want %q", path, got, want)
		}
	}
}

func TestIndexNamesWhatItCannotResolve(t *testing.T) {
	m := build(t)
	if err := m.AddFilesToFileGroup("p", "files", vss.FileSpec{Path: `%HERE%/x`, Pattern: "*"}, "", 0); err != nil {
		t.Fatal(err)
	}
	if err := m.AddFilesToFileGroup("p", "files", vss.FileSpec{Path: `%NOWHERE%/x`, Pattern: "*"}, "", 0); err != nil {
		t.Fatal(err)
	}
	x := m.IndexFileSets(vss.POSIX, func(name string) (string, bool) { return "/here", name == "HERE" })
	u := x.Unresolved()
	if len(u) != 1 || u[0].Component.Name != "files" || !errors.Is(u[0].Err, vss.ErrObjectNotFound) || !strings.Contains(fmt.Sprint(u[0].Err), "NOWHERE") {
		t.Errorf("unresolved: %+v", u)
	}
	if len(x.Claims("/here/x", "a")) != 1 || len(x.Find(vss.FileSpec{Path: "/here/x", Pattern: "*"})) != 1 || len(x.Find(vss.FileSpec{Path: "%HERE%/x", Pattern: "*"})) != 1 {
		t.Error("a resolved set is not found")
	}
}

// TestClaimsAgreesWithFileSpecMatches holds the index against a plain walk over
// all file sets.
func TestClaimsAgreesWithFileSpecMatches(t *testing.T) {
	m, err := NewWriterMetadata(Identity{InstanceID: vss.NewGUID(), ClassID: vss.NewGUID()})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.AddComponent(ComponentInfo{Type: vss.ComponentTypeFileGroup, Name: "c"}); err != nil {
		t.Fatal(err)
	}
	dirs := []string{`C:\`, `C:\a`, `c:\A\b`, `C:\a\b\c`, `D:\`, `\\s\h`, `\\?\Volume{1}\x`, `\y`}
	for _, dir := range dirs {
		for _, pattern := range []string{"*", "x*", "File", "?ile"} {
			for _, recursive := range []bool{true, false} {
				if err := m.AddFilesToFileGroup("", "c", vss.FileSpec{Path: dir, Pattern: pattern, Recursive: recursive}, "", 0); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	x := m.IndexFileSets(vss.Windows, nil)
	claimed := 0
	for _, dir := range append(dirs, `C:\a\b\c\d`, `E:\`, `\\s\h\i`, `C:\ab`) {
		for _, name := range []string{"file", "xyz", "other"} {
			want := 0
			for _, s := range m.Components()[0].FileSets {
				if s.Matches(dir, name, vss.Windows) {
					want++
				}
			}
			if got := len(x.Claims(dir, name)); got != want {
				t.Errorf("%s %s is claimed %d times, want %d", dir, name, got, want)
			}
			claimed += want
		}
	}
	if claimed == 0 {
		t.Error("nothing was claimed, so nothing was compared")
	}
}

package metadata

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/vss"
)

// realDocuments gives the folder of documents made by Windows Server, which are
// not part of this repository: $SOMBRA_VSSDOCS, or shared/vssdocs beside the
// repository.
func realDocuments(t testing.TB) string {
	t.Helper()
	dir, set := os.LookupEnv("SOMBRA_VSSDOCS")
	if !set {
		dir = filepath.Join("..", "..", "shared", "vssdocs")
	}
	if _, err := os.Stat(filepath.Join(dir, "BCDocument.xml")); err != nil {
		if set {
			t.Fatalf("SOMBRA_VSSDOCS: %v", err)
		}
		t.Skipf("SKIPPED: THE DOCUMENTS MADE BY WINDOWS ARE NOT READ: %v; name their folder in $SOMBRA_VSSDOCS. "+
			"The documents in testdata are read in any case.", err)
	}
	return dir
}

func realDocument(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(realDocuments(t), name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// realWriter is a line of the fixture table of the eleven writers.
type realWriter struct {
	name          string
	instanceName  string
	usage         vss.UsageType
	source        vss.SourceType
	method        vss.RestoreMethod // undefined: the document has none
	writerRestore vss.WriterRestore
	reboot        bool
	schema        vss.BackupSchema
	components    []string // "full path S=y SR=n flags=0 sets=2"
	exclude       int
	excludeFrom   int
}

const (
	bootable = vss.UsageBootableSystemState
	service  = vss.UsageSystemService
	userData = vss.UsageUserData
	atReboot = vss.RestoreMethodAtRebootIfCannotReplace
	never    = vss.WriterRestoreNever
)

var realWriters = []realWriter{
	{"Task Scheduler Writer", "", bootable, vss.SourceOther, atReboot, never, false, 0, []string{"TasksStore S=n SR=n flags=0 sets=2"}, 0, 0},
	{"VSS Metadata Store Writer", "", bootable, vss.SourceOther, atReboot, never, false, 0, []string{"WriterMetadataStore S=y SR=n flags=0 sets=1"}, 0, 0},
	{"Performance Counters Writer", "", bootable, vss.SourceOther, atReboot, never, false, 0, []string{"PerformanceCounters S=y SR=n flags=0 sets=8"}, 0, 0},
	{"System Writer", "", bootable, vss.SourceOther, atReboot, never, true, 0,
		[]string{"System Files S=y SR=n flags=0 sets=18897", "Win32 Services Files S=y SR=n flags=4 sets=28"}, 0, 0},
	{"ASR Writer", "", bootable, vss.SourceOther, vss.RestoreMethodIfCanReplace, never, true, 0, []string{
		`ASR\ASR S=n SR=n flags=0 sets=0`,
		`Volumes\Volume{c7463aba-f40d-11e9-80c7-806e6f6e6963} S=n SR=n flags=0 sets=0`,
		`Volumes\Volume{c7463abb-f40d-11e9-80c7-806e6f6e6963} S=n SR=n flags=0 sets=0`,
		`Volumes\Volume{43025f8a-07b0-11ea-80d1-0050569f7760} S=y SR=y flags=0 sets=0`,
		`Volumes\Volume{b26e0a9e-f4a4-11e9-80cd-0050569f7760} S=y SR=y flags=0 sets=0`,
		`Disks\harddisk3 S=y SR=y flags=0 sets=0`, `Disks\harddisk2 S=y SR=y flags=0 sets=0`,
		`Disks\harddisk1 S=y SR=y flags=0 sets=0`, `Disks\harddisk0 S=y SR=y flags=0 sets=0`,
		`BCD\BCD S=n SR=n flags=0 sets=1`}, 0, 0},
	{"SqlServerWriter", "Microsoft SQL Server 2017:SQLWriter", userData, vss.SourceTransactedDB, vss.RestoreMethodIfCanReplace, vss.WriterRestoreAlways, false, 881, []string{
		`WIN2012-SQL17-2\master S=y SR=y flags=2 sets=2`, `WIN2012-SQL17-2\model S=y SR=y flags=2 sets=2`,
		`WIN2012-SQL17-2\msdb S=y SR=y flags=2 sets=2`, `WIN2012-SQL17-2\SecondServerDb S=y SR=y flags=2 sets=2`,
		`WIN2012-SQL17-2\NonNimbleDatabase S=y SR=y flags=2 sets=2`, `WIN2012-SQL17-2\local1 S=y SR=y flags=2 sets=2`}, 0, 0},
	{"Shadow Copy Optimization Writer", "", userData, vss.SourceOther, 0, 0, false, 0, nil, 0, 17},
	{"BITS Writer", "", service, vss.SourceOther, 0, 0, false, 0, nil, 3, 0},
	{"WMI Writer", "", service, vss.SourceOther, vss.RestoreMethodAtReboot, never, true, 0, []string{"WMI S=n SR=n flags=0 sets=1"}, 0, 0},
	{"Registry Writer", "", bootable, vss.SourceOther, atReboot, never, true, 0, []string{"Registry S=y SR=n flags=0 sets=9"}, 5, 0},
	{"COM+ REGDB Writer", "", bootable, vss.SourceOther, atReboot, never, false, 0, []string{"COM+ REGDB S=y SR=n flags=0 sets=1"}, 0, 0},
}

func TestRealWriterMetadataAnswersTheFixtureTable(t *testing.T) {
	realDocuments(t)
	for i, want := range realWriters {
		name := fmt.Sprintf("WM%d.xml", i)
		t.Run(name, func(t *testing.T) {
			data := realDocument(t, name)
			m, err := ParseWriterMetadata(bytes.Clone(data))
			if err != nil {
				t.Fatal(err)
			}
			if got := summary(m); !reflect.DeepEqual(got, want) {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
			checkKept(t, name, data, m.SaveAsXML(), m.Rewrite(), m.Clone().SaveAsXML())
			again, err := ParseWriterMetadata(m.Rewrite())
			if err != nil || !reflect.DeepEqual(viewWriter(again), viewWriter(m)) {
				t.Errorf("rewritten it answers otherwise (%v)", err)
			}
			for _, p := range m.Validate(vss.Windows) {
				t.Errorf("a problem is found in a document of Microsoft's: %v", p)
			}
		})
	}
}

func summary(m *WriterMetadata) realWriter {
	id := m.Identity()
	w := realWriter{name: id.Name, instanceName: id.InstanceName, usage: id.Usage, source: id.Source, schema: m.BackupSchema(),
		exclude: len(m.ExcludeFiles()), excludeFrom: len(m.ExcludeFilesFromSnapshot())}
	if method, ok := m.RestoreMethod(); ok {
		w.method, w.writerRestore, w.reboot = method.Method, method.WriterRestore, method.RebootRequired
	}
	yn := map[bool]string{true: "y", false: "n"}
	for _, c := range m.Components() {
		w.components = append(w.components, fmt.Sprintf("%s S=%s SR=%s flags=%d sets=%d",
			c.FullPath(), yn[c.Selectable], yn[c.SelectableForRestore], c.Flags, len(c.FileSets)))
	}
	return w
}

func TestRealWriterMetadataDetails(t *testing.T) {
	asr, err := ParseWriterMetadata(realDocument(t, "WM4.xml"))
	if err != nil {
		t.Fatal(err)
	}
	c, ok := asr.Component("BCD", "BCD")
	if !ok || c.FileSets[0].FileSpec != (vss.FileSpec{Path: `\\?\Volume{c7463aba-f40d-11e9-80c7-806e6f6e6963}\Boot`, Pattern: "*.*", Recursive: true}) ||
		c.FileSets[0].BackupType != vss.DefaultFileSpecBackupType {
		t.Errorf("BCD: %+v", c)
	}
	// The caption has raw line breaks, which a conforming reader reports as blanks.
	if strings.ContainsAny(c.Caption, "\r\n") || !strings.Contains(c.Caption, "boot managers. All the files") || !strings.HasSuffix(c.Caption, "backed up. ") {
		t.Errorf("caption %q", c.Caption)
	}
	sql, err := ParseWriterMetadata(realDocument(t, "WM5.xml"))
	if err != nil {
		t.Fatal(err)
	}
	if c, ok := sql.Component("WIN2012-SQL17-2", "local1"); !ok || !c.NotifyOnBackupComplete || c.RestoreMetadata || c.Type != vss.ComponentTypeFileGroup ||
		c.FileSets[1].FileSpec != (vss.FileSpec{Path: `C:\SQL_LOCAL_DBS\MSSQL14.MSSQLSERVER\MSSQL\DATA`, Pattern: "local1_log.ldf"}) {
		t.Errorf("local1: %+v", c)
	}
	task, err := ParseWriterMetadata(realDocument(t, "WM0.xml"))
	if err != nil {
		t.Fatal(err)
	}
	if id := task.Identity(); id.ClassID.String() != "d61d61c8-d73a-4eee-8cdd-f6f9786b7124" || id.InstanceID.String() != "1bddd48e-5052-49db-9b07-b96f96727e6b" {
		t.Errorf("upper-case identifiers: %+v", id)
	}
}

func TestRealSystemWriterIsReadAndSearchedSwiftly(t *testing.T) {
	data := realDocument(t, "WM3.xml")
	start := time.Now()
	m, err := ParseWriterMetadata(data)
	if err != nil {
		t.Fatal(err)
	}
	parsed := time.Since(start)
	env := func(name string) (string, bool) {
		v, ok := map[string]string{"SYSTEMROOT": `C:\Windows`, "SYSTEMDRIVE": "C:", "WINDIR": `C:\Windows`, "PROGRAMDATA": `C:\ProgramData`}[strings.ToUpper(name)]
		return v, ok
	}
	x := m.IndexFileSets(vss.Windows, env)
	if u := x.Unresolved(); len(u) != 0 {
		t.Errorf("%d file sets are not resolved, the first: %v", len(u), u[0].Err)
	}
	for _, c := range m.Components() {
		for i := range c.FileSets {
			spec := c.FileSets[i].FileSpec
			if refs := x.Find(spec); len(refs) == 0 {
				t.Fatalf("%v is not found", spec)
			}
			if vss.HasWildcard(spec.Pattern) {
				continue
			}
			if spec, err = spec.Expand(env); err != nil {
				t.Fatal(err)
			}
			if refs := x.Claims(strings.ToUpper(spec.Path), strings.ToLower(spec.Pattern)); len(refs) == 0 {
				t.Fatalf("nobody claims %v", spec)
			}
		}
	}
	total := time.Since(start)
	t.Logf("18 925 file sets: read in %v, indexed and each found in %v", parsed, total-parsed)
	if total > 10*time.Second { // a promise that no step is quadratic, not a speed
		t.Errorf("reading and searching took %v", total)
	}
}

func TestRealBackupComponentsAnswer(t *testing.T) {
	data := realDocument(t, "BCDocument.xml")
	b, err := ParseBackupComponents(bytes.Clone(data))
	if err != nil {
		t.Fatal(err)
	}
	checkKept(t, "BCDocument.xml", data, b.SaveAsXML(), b.Rewrite(), b.Clone().SaveAsXML())
	state, ok := b.BackupState()
	if !ok || state != (BackupState{true, true, vss.BackupTypeFull, false}) {
		t.Errorf("state %+v, %v", state, ok)
	}
	if got := b.SnapshotSetID().String(); got != "e109943b-232e-4b52-8dc4-62b7de94761b" {
		t.Errorf("shadow copy set %s", got)
	}
	var got []string
	for _, w := range b.Writers() {
		for _, c := range w.Components() {
			if c.Type() != vss.ComponentTypeFileGroup || c.LogicalPath() != "" || c.RestoreTarget() != vss.RestoreTargetOriginal {
				t.Errorf("%s: %v, %q, %v", c.FullPath(), c.Type(), c.LogicalPath(), c.RestoreTarget())
			}
			if _, known := c.BackupSucceeded(); known {
				t.Errorf("%s: an outcome is known", c.FullPath())
			}
			got = append(got, c.FullPath())
		}
	}
	want := []string{"TasksStore", "WriterMetadataStore", "PerformanceCounters", "System Files", "Win32 Services Files", "WMI", "Registry", "COM+ REGDB"}
	if len(b.Writers()) != 7 || !reflect.DeepEqual(got, want) {
		t.Errorf("%d writers with %q", len(b.Writers()), got)
	}
	if p := b.Validate(); len(p) != 0 {
		t.Errorf("problems: %v", p)
	}
}

func TestRealManifestAnswers(t *testing.T) {
	data := realDocument(t, "Manifest.xml")
	m, err := ParseManifest(bytes.Clone(data))
	if err != nil {
		t.Fatal(err)
	}
	checkKept(t, "Manifest.xml", data, m.SaveAsXML(), m.Rewrite(), m.SaveAsXML())
	if len(m.ShadowCopySets) != 1 || m.ShadowCopySets[0].ID.String() != "e109943b-232e-4b52-8dc4-62b7de94761b" || m.ShadowCopySets[0].MachineName != "WIN2012-SQL17-2" {
		t.Fatalf("%+v", m.ShadowCopySets)
	}
	copies := m.ShadowCopySets[0].ShadowCopies
	if len(copies) != 1 || copies[0].Alias != "LocVolumeShadow" || copies[0].OriginalVolume != `C:\` || !copies[0].Provider.IsZero() {
		t.Errorf("%+v", copies)
	}
	if m.BackupComponentsFile != "BCDocument.xml" || len(m.Aliases) != 2 || m.Aliases[1].Name != "VSS_SHADOW_SET" || m.Logfile != "Dis7A07.tmp" {
		t.Errorf("%+v", m)
	}
	if len(m.Writers) != 11 {
		t.Fatalf("%d writers", len(m.Writers))
	}
	for i, w := range m.Writers {
		data := realDocument(t, w.File())
		wm, err := ParseWriterMetadata(data)
		if err != nil || wm.Identity().Name != w.Name || w.File() != fmt.Sprintf("WM%d.xml", i) {
			t.Errorf("%+v: %s, %v", w, w.File(), err)
		}
	}
}

package metadata

import (
	"bytes"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/vss"
)

func parseBackup(t *testing.T, name string) *BackupComponents {
	t.Helper()
	b, err := ParseBackupComponents(testdata(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBackupComponentsAnswersEveryQuestion(t *testing.T) {
	b := parseBackup(t, "bcd-everything.xml")
	if state, ok := b.BackupState(); !ok || state != (BackupState{true, true, vss.BackupTypeIncremental, true}) {
		t.Errorf("state %+v", state)
	}
	if b.RestoreType() != vss.RestoreTypeByCopy || b.SnapshotSetID().String() != "0c9d8e7f-0001-4002-8003-000400050006" {
		t.Errorf("%v, %v", b.RestoreType(), b.SnapshotSetID())
	}
	class := vss.MustParseGUID("c3a1f0de-1111-4222-8333-944455556666")
	c, err := b.Component(vss.ComponentID{WriterClass: class, LogicalPath: `\House`, Name: "Racks"})
	if err != nil {
		t.Fatal(err)
	}
	if c.Writer() != (WriterKey{vss.MustParseGUID("7d9a2b4c-aaaa-4bbb-8ccc-0123456789ab"), class, 4987}) || c.ID().FullPath() != `House\Racks` || c.Name() != "Racks" || c.Type() != vss.ComponentTypeFileGroup {
		t.Errorf("%+v, %v, %v", c.Writer(), c.ID(), c.Type())
	}
	for name, get := range map[string]func() (string, bool){
		"quick": c.BackupOptions, "line 1\nline 2": c.BackupMetadata, "r": c.RestoreMetadata, `"Authoritative"="All"`: c.RestoreOptions, `House\New`: c.RestoreName,
		"a": c.PrepareForBackupFailureMsg, "b": c.PostSnapshotFailureMsg, "c": c.PreRestoreFailureMsg, "d": c.PostRestoreFailureMsg,
	} {
		if got, ok := get(); !ok || got != name {
			t.Errorf("got %q, %v; want %q", got, ok, name)
		}
	}
	v := viewComponent(c)
	wantFlags := []any{true, true, true, vss.MustParseGUID("11111111-2222-4333-8444-555566667777"), vss.RollForwardPartial, "noon",
		Failure{vss.ErrWriterErrorNonRetryable, vss.ErrAccessDenied, "no <access>"}, true, true, vss.RestoreTargetDirected, vss.FileRestoreStatusFailed, true}
	if !reflect.DeepEqual(v.Flags, wantFlags) {
		t.Errorf("got  %v\nwant %v", v.Flags, wantFlags)
	}
	racks := vss.FileSpec{Path: "/srv/cellar/racks", Pattern: "*", Recursive: true}
	want := lists{
		partial:       []PartialFile{{"/srv/cellar/racks", "big", "64:448,0x1239E8577A:65536", "page size 8192", ""}, {"/srv/cellar/racks", "bigger", "File=/srv/ranges.bin", "", "/tmp/ranges.bin"}},
		differenced:   []DifferencedFile{{racks, 132222240005550001}, {vss.FileSpec{Path: "/srv/cellar/new", Pattern: "*.x"}, 0}},
		directed:      []DirectedTarget{{"/srv/cellar/racks", "1", "0:10,20:5", "/srv/b", "2", "5:10,100:5"}},
		newTargets:    []NewTarget{{vss.FileSpec{Path: "/etc/cellar", Pattern: "cellar.conf"}, "/etc/new"}},
		subcomponents: []RestoreSubcomponent{{`House\Racks`, "Top", false}},
		mappings:      []AlternateLocationMapping{{racks, "/srv/spare"}},
	}
	if !reflect.DeepEqual(v.Lists, want) {
		t.Errorf("got  %+v\nwant %+v", v.Lists, want)
	}
	if ranges, file, err := c.PartialFiles()[0].ReadRanges(); err != nil || file != "" || !slices.Equal(ranges, vss.Ranges{{Offset: 64, Length: 448}, {Offset: 0x1239E8577A, Length: 65536}}) {
		t.Errorf("ranges %v, %q, %v", ranges, file, err)
	}
	if _, file, err := c.PartialFiles()[1].ReadRanges(); err != nil || file != "/tmp/ranges.bin" { // R-RES-27
		t.Errorf("ranges file %q, %v", file, err)
	}
}

// fill sets everything there is on a component.
func fill(c *Component) []error {
	spec := vss.FileSpec{Path: "/d", Pattern: "*", Recursive: true}
	return []error{
		c.SetBackupSucceeded(true), c.SetBackupOptions("o\n"), c.SetBackupMetadata("<m>"), c.SetRestoreMetadata("\t"), c.SetBackupStamp("stamp"), c.SetPreviousBackupStamp(""),
		c.SetSelectedForRestore(true, vss.TestWriterClass), c.SetRestoreOptions(`"a"="b"`), c.SetAdditionalRestores(true), c.SetRestoreTarget(vss.RestoreTargetAlternate),
		c.SetFileRestoreStatus(vss.FileRestoreStatusNone), c.SetAuthoritativeRestore(true), c.SetRollForward(vss.RollForwardPartial, "p"), c.SetRestoreName("n"),
		c.SetPrepareForBackupFailureMsg("1"), c.SetPostSnapshotFailureMsg("2"), c.SetPreRestoreFailureMsg("3"), c.SetPostRestoreFailureMsg("4"),
		c.SetFailure(Failure{vss.ErrWriterErrorTimeout, 7, "late"}), c.SetFailure(Failure{vss.ErrWriterErrorRetryable, 8, "later"}),
		c.AddPartialFile(PartialFile{Path: "/d", Name: "f", Ranges: "0:1, 5:6", Metadata: "x"}), c.AddPartialFile(PartialFile{Path: "/d", Name: "g", Ranges: "File=/r"}),
		c.SetRangesFilePath(1, "/r2"),
		c.AddDifferencedFilesByLastModifyTime(DifferencedFile{spec, 99}), c.AddDirectedTarget(DirectedTarget{"/d", "f", "0:1", "/e", "g", "7:1"}),
		c.AddNewTarget(NewTarget{spec, "/new"}), c.AddRestoreSubcomponent(RestoreSubcomponent{c.FullPath(), "sub", true}),
		c.AddAlternativeLocationMapping(AlternateLocationMapping{spec, "/alt"}),
	}
}

func TestBuiltBackupComponentsReadBackAsBuilt(t *testing.T) {
	b := NewBackupComponents()
	if _, ok := b.BackupState(); ok || !b.SnapshotSetID().IsZero() || b.RestoreType() != vss.RestoreTypeUndefined {
		t.Error("a new document has state")
	}
	key := WriterKey{vss.NewGUID(), vss.NewGUID(), vss.SchemaIncremental}
	c, err := b.AddComponent(key, vss.ComponentTypeDatabase, `a\b`, "c")
	if err != nil {
		t.Fatal(err)
	}
	bare, err := b.AddComponent(WriterKey{vss.NewGUID(), vss.NewGUID(), 0}, vss.ComponentTypeFileGroup, "", "bare")
	if err != nil {
		t.Fatal(err)
	}
	errs := append(fill(c), b.SetBackupState(BackupState{SelectComponents: true, Type: vss.BackupTypeLog, PartialFileSupport: true}),
		b.SetRestoreState(vss.RestoreTypeByCopy), b.SetSnapshotSetID(vss.NewGUID()))
	for i, err := range errs {
		if err != nil {
			t.Errorf("call %d: %v", i, err)
		}
	}
	again, err := ParseBackupComponents(b.SaveAsXML())
	if err != nil {
		t.Fatalf("%v in\n%s", err, b.SaveAsXML())
	}
	if got, want := viewBackup(again), viewBackup(b); !reflect.DeepEqual(got, want) || len(want.Problems) != 0 {
		t.Errorf("got  %+v\nwant %+v\nin %s", got, want, b.SaveAsXML())
	}
	// What was never set answers S_FALSE, and what has a default that.
	v := viewComponent(bare)
	for i, text := range v.Texts {
		if i != 9 && text != `"" false` {
			t.Errorf("text %d of a bare component is %s", i, text)
		}
	}
	want := []any{false, false, false, vss.GUID{}, vss.RollForwardUndefined, "", Failure{}, false, false, vss.RestoreTargetOriginal, vss.FileRestoreStatusUndefined, false}
	if !reflect.DeepEqual(v.Flags, want) || !reflect.DeepEqual(v.Lists, lists{}) {
		t.Errorf("%v, %+v", v.Flags, v.Lists)
	}
	if stamp, ok := c.PreviousBackupStamp(); !ok || stamp != "" {
		t.Errorf("an empty stamp is not the same as none: %q, %v", stamp, ok)
	}
	if err := c.SetSelectedForRestore(true, vss.GUID{}); err != nil {
		t.Fatal(err)
	}
	if _, instance := c.SelectedForRestore(); !instance.IsZero() {
		t.Error("selected without an instance, one is left")
	}
	if err := c.SetRollForward(vss.RollForwardAll, ""); err != nil {
		t.Fatal(err)
	}
	if _, point := c.RollForward(); point != "" {
		t.Errorf("rolled forward to the end, and to %q", point)
	}
}

func TestFreshBackupComponentsHaveTheShapeOfRealOnes(t *testing.T) {
	b := NewBackupComponents()
	writer := WriterKey{vss.MustParseGUID("e7a1a9c4-0a0b-4c0d-8e0f-101112131416"), vss.TestWriterClass, 881}
	c, err := b.AddComponent(writer, vss.ComponentTypeFileGroup, "", "Late")
	if err == nil {
		_, err = b.AddComponent(writer, vss.ComponentTypeDatabase, "p", "Db")
	}
	if err == nil {
		err = b.SetBackupState(BackupState{true, true, vss.BackupTypeFull, false})
	}
	if err == nil {
		err = b.SetSnapshotSetID(vss.MustParseGUID("{0C9D8E7F-0001-4002-8003-000400050006}"))
	}
	if err != nil || c.FullPath() != "Late" {
		t.Fatal(err)
	}
	const want = `<BACKUP_COMPONENTS xmlns="x-schema:#VssComponentMetadata" version="1.2" bootableSystemStateBackup="yes" selectComponents="yes" backupType="full" partialFileSupport="no" snapshotSetId="0c9d8e7f-0001-4002-8003-000400050006">` +
		`<WRITER_COMPONENTS instanceId="e7a1a9c4-0a0b-4c0d-8e0f-101112131416" writerId="5affb034-969f-4919-8875-88f830d0ef89" backupSchema="881">` +
		`<COMPONENT componentName="Late" componentType="filegroup"/><COMPONENT logicalPath="p" componentName="Db" componentType="database"/></WRITER_COMPONENTS></BACKUP_COMPONENTS>`
	if got := string(b.SaveAsXML()); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestBackupComponentsGiveTheModelsCodes(t *testing.T) {
	b := parseBackup(t, "bcd-fresh.xml")
	key := b.Writers()[0].Key()
	other := WriterKey{vss.NewGUID(), key.ClassID, 0}
	add := func(k WriterKey, typ vss.ComponentType, path, name string) error {
		_, err := b.AddComponent(k, typ, path, name)
		return err
	}
	c, ok := b.Writers()[0].Component("House", "Racks")
	if !ok {
		t.Fatal("no component")
	}
	_, missing := b.Component(vss.ComponentID{WriterClass: vss.NewGUID(), LogicalPath: "House", Name: "Racks"})
	spec := vss.FileSpec{Path: "/d", Pattern: "*"}
	before := string(b.SaveAsXML())
	const group = vss.ComponentTypeFileGroup
	for name, x := range map[string]struct {
		err  error
		want vss.Code
	}{
		"R-SEL-1 twice":                        {add(key, group, "House", "Racks"), vss.ErrObjectAlreadyExists},
		"R-SEL-2 another instance":             {add(other, group, "House", "Racks"), vss.ErrObjectAlreadyExists},
		"R-SEL-3":                              {add(key, group, "", `a\b`), vss.ErrInvalidArgument},
		"no type":                              {add(key, 0, "", "a"), vss.ErrInvalidArgument},
		"no writer":                            {add(WriterKey{}, group, "", "a"), vss.ErrInvalidArgument},
		"another schema":                       {add(WriterKey{key.InstanceID, key.ClassID, 1}, group, "", "a"), vss.ErrInvalidArgument},
		"another class":                        {add(WriterKey{key.InstanceID, vss.NewGUID(), key.Schema}, group, "", "a"), vss.ErrInvalidArgument},
		"component of an unknown writer":       {missing, vss.ErrObjectNotFound},
		"R-TYPE-1 undefined":                   {b.SetBackupState(BackupState{}), vss.ErrInvalidArgument},
		"R-TYPE-1 other":                       {b.SetBackupState(BackupState{Type: vss.BackupTypeOther}), vss.ErrInvalidArgument},
		"restore type":                         {b.SetRestoreState(9), vss.ErrInvalidArgument},
		"restore target":                       {c.SetRestoreTarget(vss.RestoreTargetUndefined), vss.ErrInvalidArgument},
		"restore status":                       {c.SetFileRestoreStatus(4), vss.ErrInvalidArgument},
		"roll forward undefined":               {c.SetRollForward(vss.RollForwardUndefined, ""), vss.ErrInvalidArgument},
		"roll forward partial without a point": {c.SetRollForward(vss.RollForwardPartial, ""), vss.ErrInvalidArgument},
		"roll forward all with a point":        {c.SetRollForward(vss.RollForwardAll, "x"), vss.ErrInvalidArgument},
		"code no writer reports":               {c.SetFailure(Failure{Code: vss.ErrBadState}), vss.ErrInvalidArgument},
		"binary metadata":                      {c.SetBackupMetadata("\x00\x01"), vss.ErrInvalidArgument},
		"R-SET-35 wildcard":                    {c.AddPartialFile(PartialFile{Path: "/d", Name: "*", Ranges: "0:1"}), vss.ErrInvalidArgument},
		"R-SET-37 no ranges":                   {c.AddPartialFile(PartialFile{Path: "/d", Name: "f"}), vss.ErrInvalidArgument},
		"R-SET-38 relative ranges file":        {c.AddPartialFile(PartialFile{Path: "/d", Name: "f", Ranges: "File=r"}), vss.ErrInvalidArgument},
		"ranges file of no partial file":       {c.SetRangesFilePath(0, "/r"), vss.ErrObjectNotFound},
		"R-SET-31 pattern with a directory":    {c.AddDifferencedFilesByLastModifyTime(DifferencedFile{vss.FileSpec{Path: "/d", Pattern: "a/b"}, 0}), vss.ErrInvalidArgument},
		"R-RES-23 unequal number":              {c.AddDirectedTarget(DirectedTarget{"/d", "f", "0:1,2:3", "/d", "f", "0:1"}), vss.ErrInvalidArgument},
		"R-RES-23 unequal length":              {c.AddDirectedTarget(DirectedTarget{"/d", "f", "0:1", "/d", "f", "0:2"}), vss.ErrInvalidArgument},
		"R-RES-23 wildcard":                    {c.AddDirectedTarget(DirectedTarget{"/d", "f", "0:1", "/d", "?", "0:1"}), vss.ErrInvalidArgument},
		"new target nowhere":                   {c.AddNewTarget(NewTarget{spec, ""}), vss.ErrInvalidArgument},
		"mapping nowhere":                      {c.AddAlternativeLocationMapping(AlternateLocationMapping{spec, ""}), vss.ErrInvalidArgument},
		"R-SEL-24 not below":                   {c.AddRestoreSubcomponent(RestoreSubcomponent{"House", "x", false}), vss.ErrInvalidArgument},
		"R-SEL-24 at the root":                 {c.AddRestoreSubcomponent(RestoreSubcomponent{"", "x", false}), vss.ErrInvalidArgument},
	} {
		if vss.CodeOf(x.err) != x.want {
			t.Errorf("%s: %v, want %v", name, x.err, x.want)
		}
	}
	if after := string(b.SaveAsXML()); after != before {
		t.Errorf("a refused call changed the document:\n%s\n%s", before, after)
	}
	for name, call := range map[string]func() error{
		"SetBackupMetadata":      func() error { return c.SetBackupMetadata("x") },
		"R-RES-31":               func() error { return c.SetRestoreOptions("x") },
		"AddRestoreSubcomponent": func() error { return c.AddRestoreSubcomponent(RestoreSubcomponent{`House\Racks`, "s", false}) },
	} {
		if err := call(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := call(); !errors.Is(err, vss.ErrObjectAlreadyExists) || !strings.Contains(err.Error(), `House\Racks`) {
			t.Errorf("%s a second time: %v", name, err)
		}
	}
}

func TestDirectedTargetPairs(t *testing.T) {
	pairs, err := DirectedTarget{SourceRanges: "0:10, 20:5", DestinationRanges: "5:10,100:0x5"}.Pairs()
	if err != nil || !slices.Equal(pairs, []RangePair{{0, 5, 10}, {20, 100, 5}}) {
		t.Errorf("%v, %v", pairs, err)
	}
}

func TestCloneIsIndependent(t *testing.T) {
	b := parseBackup(t, "bcd-fresh.xml")
	c := b.Clone()
	for i, err := range fill(c.Writers()[0].Components()[0]) {
		if err != nil {
			t.Fatalf("call %d: %v", i, err)
		}
	}
	if !bytes.Equal(b.SaveAsXML(), testdata(t, "bcd-fresh.xml")) {
		t.Error("a change of the clone changed the document")
	}
	if reflect.DeepEqual(viewBackup(b), viewBackup(c)) {
		t.Error("the clone did not change")
	}
}

func TestValidateNamesTwoInstancesWithOneComponent(t *testing.T) {
	b, err := ParseBackupComponents([]byte(`<BACKUP_COMPONENTS backupType="sometimes">
<WRITER_COMPONENTS instanceId="c3a1f0de-1111-4222-8333-944455556661" writerId="c3a1f0de-1111-4222-8333-944455556667"><COMPONENT componentName="a" componentType="filegroup"/></WRITER_COMPONENTS>
<WRITER_COMPONENTS instanceId="c3a1f0de-1111-4222-8333-944455556662" writerId="c3a1f0de-1111-4222-8333-944455556667"><COMPONENT componentName="a" componentType="filegroup"/><COMPONENT componentName="b\c"/></WRITER_COMPONENTS></BACKUP_COMPONENTS>`))
	if err != nil {
		t.Fatal(err)
	}
	var rules []string
	for _, p := range b.Validate() {
		rules = append(rules, p.Rule)
	}
	if got := strings.Join(rules, " "); got != "documents R-SEL-2 VSS_COMPONENT_TYPE R-SEL-3" {
		t.Errorf("problems: %v", b.Validate())
	}
}

// A restore begins from what the backup said: what else a medium put into the
// document goes, and what the backup said stays.
func TestClearRestoreLeavesWhatABackupSaid(t *testing.T) {
	b := parseBackup(t, "bcd-everything.xml")
	class := vss.MustParseGUID("c3a1f0de-1111-4222-8333-944455556666")
	c, err := b.Component(vss.ComponentID{WriterClass: class, LogicalPath: "House", Name: "Racks"})
	if err != nil {
		t.Fatal(err)
	}
	before := c.readLists(&reader{})
	stamp, _ := c.BackupStamp()
	if !b.ClearRestore() {
		t.Error("there was nothing to clear")
	}
	got := c.readLists(&reader{})
	if len(got.directed)+len(got.newTargets)+len(got.subcomponents)+len(got.mappings) != 0 || got.partial[1].RangesFilePath != "" {
		t.Errorf("left: %+v", got)
	}
	if len(got.partial) != len(before.partial) || len(got.differenced) != len(before.differenced) {
		t.Errorf("lists of the backup are gone: %+v", got)
	}
	selected, instance := c.SelectedForRestore()
	roll, point := c.RollForward()
	_, options := c.RestoreOptions()
	_, name := c.RestoreName()
	if selected || !instance.IsZero() || roll != vss.RollForwardUndefined || point != "" || options || name || c.AdditionalRestores() || c.AuthoritativeRestore() ||
		c.RestoreTarget() != vss.RestoreTargetOriginal || c.FileRestoreStatus() != vss.FileRestoreStatusUndefined || b.RestoreType() != vss.RestoreTypeUndefined {
		t.Errorf("left: %s", b.SaveAsXML())
	}
	if ok, known := c.BackupSucceeded(); !ok || !known {
		t.Error("the outcome of the backup is gone")
	}
	if now, _ := c.BackupStamp(); now != stamp {
		t.Errorf("stamp %q, was %q", now, stamp)
	}
	if b.ClearRestore() {
		t.Error("there is still something to clear")
	}
	saved := b.SaveAsXML()
	if again, err := ParseBackupComponents(saved); err != nil || again.ClearRestore() || !bytes.Equal(again.SaveAsXML(), saved) {
		t.Errorf("the saved document: %v", err)
	}
}

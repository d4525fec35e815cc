package requester

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// listHost is a host in memory with one component, "db" of the writer "app", whose
// writer lists files when the shadow copy is there.
type listHost struct {
	*memHost
	t    *testing.T
	v    *memVolume
	repo *repository.Repository
	made int64 // shadow copy sets
	// at is the call after which the writer adds to its lists.
	at          string
	partial     []metadata.PartialFile
	differenced []metadata.DifferencedFile
}

func newListHost(t *testing.T, mask vss.FileSpecBackupType, volumes ...*memVolume) *listHost {
	v := &memVolume{id: "root", root: "/", files: map[string]string{}, inodes: map[string]uint64{}, times: map[string]time.Time{}, live: map[string]string{}, atomic: true}
	l := &listHost{memHost: newMemHost(append([]*memVolume{v}, volumes...)...), t: t, v: v, repo: memRepo(t), at: "DoSnapshotSet"}
	l.native = true // a service of the host's own refuses nothing of what is listed
	l.writer(t, "app", func(m *metadata.WriterMetadata) []error {
		return []error{m.SetBackupSchema(vss.SchemaCopy | vss.SchemaIncremental | vss.SchemaDifferential | vss.SchemaLastModify),
			m.AddComponent(metadata.ComponentInfo{Type: vss.ComponentTypeFileGroup, Name: "db", Selectable: true}),
			m.AddFilesToFileGroup("", "db", spec("/db", "*.dat", true), "", mask),
			m.AddExcludeFiles(spec("/db", "*.no.dat", true))}
	})
	l.after = func(call string) {
		if call == l.at {
			l.list()
		}
	}
	return l
}

func (l *listHost) open(ctx context.Context) (session.Session, error) {
	_, err := l.memHost.open(ctx)
	return l, err
}

func (l *listHost) Receipt(context.Context) (session.Receipt, error) {
	l.made++
	return session.Receipt{Instant: time.Unix(1e9+l.made, 0)}, nil
}

func (l *listHost) list() {
	c, err := l.bcd.Component(vss.ComponentID{WriterClass: l.explicit[0].Writer, Name: "db"})
	for _, p := range l.partial {
		err = errors.Join(err, c.AddPartialFile(p))
	}
	for _, d := range l.differenced {
		err = errors.Join(err, c.AddDifferencedFilesByLastModifyTime(d))
	}
	if err != nil {
		l.t.Error(err)
	}
}

func (l *listHost) backup(typ vss.BackupType) *Result {
	l.t.Helper()
	return l.run(Request{Type: typ, Selectors: Selectors{Writers: []string{"app"}}})
}

func (l *listHost) run(r Request) *Result {
	l.t.Helper()
	res, err := Backup(l.t.Context(), l.open, l.repo, r, nil)
	if err != nil {
		l.t.Fatalf("backup: %v", err)
	}
	return res
}

// holds compares the files of a record, each with its facts after a bar: "T" if
// this backup read it, "O" if only ranges are held, then the ranges.
func (l *listHost) holds(what string, res *Result, want ...string) {
	l.t.Helper()
	content, _ := readRecord(l.t, l.repo, res.Record)
	var got []string
	for e, err := range res.Record.Table().All(l.t.Context()) {
		if err != nil {
			l.t.Fatal(err)
		}
		if e.Type != repository.Regular {
			continue
		}
		text := fmt.Sprintf("%s=%s|", e.Path, content[e.Path])
		if e.Attrs[AttrRead] == ReadMark(res.Record) {
			text += "T"
		}
		if e.Attrs[AttrPartial] != "" {
			text += "O"
		}
		if ranges, ok, err := ReadEntryRanges(l.t.Context(), res.Record, e); err != nil {
			l.t.Error(err)
		} else if ok {
			text += " " + ranges.Format()
		}
		got = append(got, text)
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		l.t.Errorf("%s: the record has %q, want %q; %+v", what, got, want, res.Failures)
	}
}

// fails looks that the component failed, because of the file.
func (l *listHost) fails(what string, res *Result, path, rule string) {
	l.t.Helper()
	if res.Outcome != Incomplete || res.Components[0].Succeeded || l.succeeded["db"] {
		l.t.Errorf("%s: outcome %v, component %+v, told %v", what, res.Outcome, res.Components, l.succeeded)
	}
	for _, f := range res.Failures {
		if f.Path == path && strings.Contains(f.Error, rule) && f.Component == "db" {
			return
		}
	}
	l.t.Errorf("%s: failures %+v, want %s and %s", what, res.Failures, path, rule)
}

func rangesOf(dir, name, ranges string) metadata.PartialFile {
	return metadata.PartialFile{Path: dir, Name: name, Ranges: ranges}
}

func newer(s vss.FileSpec, since int64) metadata.DifferencedFile {
	d := metadata.DifferencedFile{FileSpec: s}
	if since != 0 {
		d.LastModifyTime = vss.FileTimeOf(time.Unix(1e9+since, 0))
	}
	return d
}

func (l *listHost) write(name, content string, modified int64) {
	l.v.files[name], l.v.times[name] = content, time.Unix(1e9+modified, 0)
}

func TestR_SET_44_ListsAreReadAfterTheShadowCopy(t *testing.T) {
	l := newListHost(t, everyMask)
	l.write("db/a.dat", "0123456789", 0)
	l.write("db/b.dat", "whole", 0)
	l.partial = []metadata.PartialFile{rangesOf("/db", "a.dat", "2:3,7:100")}
	l.holds("PostSnapshot", l.backup(vss.BackupTypeFull), "db/a.dat=\x00\x00234\x00\x00789|TO 2:3,7:3", "db/b.dat=whole|T")
	l.at = "PrepareForBackup"
	l.holds("PrepareForBackup", l.backup(vss.BackupTypeCopy), "db/a.dat=\x00\x00234\x00\x00789|TO 2:3,7:3", "db/b.dat=whole|T")
}

// TestD_32_ListsWithoutAShadowCopy: where no file needs a copy there is no
// DoSnapshotSet, and the lists are those of PrepareForBackup.
func TestD_32_ListsWithoutAShadowCopy(t *testing.T) {
	l := newListHost(t, vss.AllBackupRequired)
	l.at = "PrepareForBackup"
	l.write("db/a.dat", "0123456789", 0)
	l.write("else/n", "abcdef", 0)
	l.partial = []metadata.PartialFile{rangesOf("/db", "a.dat", "2:3"), rangesOf("/else", "n", "1:2")}
	res := l.backup(vss.BackupTypeFull)
	if l.saw("DoSnapshotSet") || res.Outcome != Complete {
		t.Errorf("outcome %v, calls %q", res.Outcome, l.calls)
	}
	l.holds("live", res, "db/a.dat=\x00\x00234\x00\x00\x00\x00\x00|TO 2:3", "else/n=\x00bc\x00\x00\x00|TO 1:2")
}

func TestR_SET_34_NewFileOnAnotherVolumeFailsItsComponentOnly(t *testing.T) {
	far := &memVolume{id: "far", root: "/far", files: map[string]string{"n": "abc", "d/x": "abc"}, atomic: true}
	l := newListHost(t, everyMask, far)
	l.write("db/a.dat", "data", 0)
	l.partial = []metadata.PartialFile{rangesOf("/far", "n", "0:1")}
	res := l.backup(vss.BackupTypeFull)
	l.fails("partial", res, "/far/n", "which is not in the shadow copy set")
	l.holds("partial", res, "db/a.dat=data|T")
	if got := res.Components[0].WriterErrors; len(got) != 1 || !strings.Contains(got[0], "/far/n: ") {
		t.Errorf("writer errors %q", got)
	}
	l.partial = nil
	l.backup(vss.BackupTypeFull)
	l.differenced = []metadata.DifferencedFile{newer(spec("/far/d", "*", false), 1)}
	l.fails("differenced", l.backup(vss.BackupTypeIncremental), "/far/d/*", "which is not in the shadow copy set")
}

func TestR_SET_35_NativeServiceDoesNotRefuse(t *testing.T) {
	l := newListHost(t, everyMask)
	l.write("db/a.dat", "data", 0)
	l.partial = []metadata.PartialFile{rangesOf("/db", "a.dat", "0:1")}
	res := l.run(Request{Type: vss.BackupTypeFull, NoPartial: true, Selectors: Selectors{Writers: []string{"app"}}})
	l.fails("--no-partial", res, "/db/a.dat", "--no-partial")
	l.holds("--no-partial", res, "db/a.dat=data|T")
	state, _ := l.bcd.BackupState()
	if state.PartialFileSupport {
		t.Error("the writers were told that partial files are taken")
	}
	l.run(Request{Type: vss.BackupTypeFull, Selectors: Selectors{Writers: []string{"app"}}})
	if state, _ = l.bcd.BackupState(); !state.PartialFileSupport {
		t.Error("the writers were not told that partial files are taken")
	}
}

func TestR_SET_5_ListedFileThatIsNotThere(t *testing.T) {
	l := newListHost(t, everyMask)
	l.write("db/a.dat", "data", 0)
	l.partial = []metadata.PartialFile{rangesOf("/db", "gone.dat", "0:1")}
	l.fails("partial", l.backup(vss.BackupTypeFull), "/db/gone.dat", "not there")
	l.partial = nil
	l.backup(vss.BackupTypeFull)
	l.differenced = []metadata.DifferencedFile{newer(spec("/else", "gone", false), 1), newer(spec("/else", "*.none", true), 1)}
	l.fails("differenced", l.backup(vss.BackupTypeIncremental), "/else/gone", "not there")
}

func TestR_SET_40_RangesFileIsReadFromTheLivePath(t *testing.T) {
	file := func(n uint64, ranges ...vss.Range) string {
		data := vss.AppendRangesFile(nil, ranges)
		data[0] = byte(n)
		return string(data)
	}
	good := file(2, vss.Range{Offset: 6, Length: 2}, vss.Range{Offset: 1, Length: 2})
	for _, c := range []struct{ what, live, copied, wrong string }{
		{"written after the shadow copy", good, "nothing", ""},
		{"short", good[:20], good, "claims"},
		{"long", good + "x", good, ""},
		{"claims more", file(200, vss.Range{}), good, ""},
		{"empty", "", good, "ends within its count"},
		{"unreadable", "unreadable", good, "bad block"},
	} {
		l := newListHost(t, everyMask)
		l.write("db/a.dat", "0123456789", 0)
		l.write("aside/r", c.copied, 0)
		l.v.live["aside/r"] = c.live
		l.partial = []metadata.PartialFile{rangesOf("/db", "a.dat", "File=/aside/r")}
		res := l.backup(vss.BackupTypeFull)
		if c.what != "written after the shadow copy" {
			l.fails(c.what, res, "/db/a.dat", "ranges file")
			continue
		}
		l.holds(c.what, res, "db/a.dat=\x0012\x00\x00\x0067\x00\x00|TO 1:2,6:2")
		files, err := ReadRangesFiles(t.Context(), res.Record)
		if err != nil || len(files) != 1 {
			t.Fatalf("ranges files %+v, %v", files, err)
		}
		data, err := res.Record.Document(t.Context(), files[0].Document, 1<<20)
		if err != nil || string(data) != good || files[0].Path != "/aside/r" {
			t.Errorf("%+v holds %q, %v", files[0], data, err)
		}
	}
	l := newListHost(t, everyMask)
	l.write("db/a.dat", "0123456789", 0)
	l.partial = []metadata.PartialFile{rangesOf("/db", "a.dat", "/not/there")}
	l.fails("no ranges file", l.backup(vss.BackupTypeFull), "/db/a.dat", "ranges file /not/there")
}

// TestPartialFilesUponABase gives ranges in all the ways that are not stated:
// overlapping, out of order, empty, past the end.
func TestPartialFilesUponABase(t *testing.T) {
	const old = "0123456789"
	for _, c := range []struct{ now, ranges, want string }{
		{"ABCDEFGHIJ", "2:3", "db/a.dat=01CDE56789|T 2:3"},
		{"ABCDEFGHIJ", "4:3,2:3,0:1", "db/a.dat=A1CDEFG789|T 0:1,2:5"},
		{"ABCDEFGHIJ", "0:0", "db/a.dat=0123456789|T "},
		{"ABCDEFGHIJ", "3:0,5:1", "db/a.dat=01234F6789|T 5:1"},
		{"ABCDEFGHIJ", "8:0xffffffffffffff,0xffffffffffffffff:0", "db/a.dat=01234567IJ|T 8:2"},
		{"ABCDEFGHIJ", "10:5", "db/a.dat=0123456789|T "},
		{"ABCDEF", "4:100", "db/a.dat=0123EF|T 4:2"},
		{"ABCDEFGHIJKLM", "1:1", "db/a.dat=0B23456789KLM|T 1:1,10:3"},
		{"ABCDEFGHIJKLM", "1:1,9:2", "db/a.dat=0B2345678JKLM|T 1:1,9:4"},
		{"", "1:1", "db/a.dat=|T "},
	} {
		l := newListHost(t, everyMask)
		l.write("db/a.dat", old, 0)
		l.backup(vss.BackupTypeFull)
		l.write("db/a.dat", c.now, 5)
		l.partial = []metadata.PartialFile{rangesOf("/db", "a.dat", c.ranges)}
		res := l.backup(vss.BackupTypeIncremental)
		l.holds(c.now+" "+c.ranges, res, c.want)
		if res.Outcome != Complete {
			t.Errorf("%s: outcome %v", c.ranges, res.Outcome)
		}
	}
}

// TestPartialFileOfWhichTheBaseIsNoHelp: the base lacks it, has ranges only, or
// has another component's file.
func TestPartialFileOfWhichTheBaseIsNoHelp(t *testing.T) {
	l := newListHost(t, everyMask)
	l.write("db/a.dat", "0123456789", 0)
	l.partial = []metadata.PartialFile{rangesOf("/db", "a.dat", "0:3")}
	l.backup(vss.BackupTypeFull)
	l.write("db/b.dat", "abcdef", 0)
	l.partial = []metadata.PartialFile{rangesOf("/db", "a.dat", "2:3"), rangesOf("/db", "b.dat", "1:1")}
	l.holds("ranges upon ranges", l.backup(vss.BackupTypeIncremental),
		"db/a.dat=\x00\x00234\x00\x00\x00\x00\x00|TO 2:3", "db/b.dat=abcdef|T")
}

// TestPartialFileWithoutABaseIsSavedWhole: a writer without stamps does not know
// that what it counts its ranges from is not in this repository (R-TYPE-14).
func TestPartialFileWithoutABaseIsSavedWhole(t *testing.T) {
	for typ, want := range map[vss.BackupType]string{
		vss.BackupTypeIncremental: "db/a.dat=0123456789|T", vss.BackupTypeDifferential: "db/a.dat=0123456789|T", vss.BackupTypeLog: "db/a.dat=0123456789|T",
		vss.BackupTypeFull: "db/a.dat=012\x00\x00\x00\x00\x00\x00\x00|TO 0:3", vss.BackupTypeCopy: "db/a.dat=012\x00\x00\x00\x00\x00\x00\x00|TO 0:3",
	} {
		l := newListHost(t, everyMask)
		l.write("db/a.dat", "0123456789", 0)
		l.partial = []metadata.PartialFile{rangesOf("/db", "a.dat", "0:3")}
		l.holds(typ.Word(), l.backup(typ), want)
	}
}

func TestR_SET_31_DifferencedFilesUponABase(t *testing.T) {
	noMask := everyMask &^ vss.IncrementalBackupRequired
	l := newListHost(t, noMask)
	for _, n := range []string{"a", "b", "x/c"} {
		l.write("db/"+n+".dat", n+"1", 0)
	}
	l.write("db/d.no.dat", "excluded", 0)
	l.backup(vss.BackupTypeFull)
	for n, at := range map[string]int64{"a": 10, "b": 20, "x/c": 21, "new": 5} {
		l.write("db/"+n+".dat", n+"2", at)
	}
	l.write("else/old", "old", 20)
	l.write("else/newer", "newer", 21)
	l.differenced = []metadata.DifferencedFile{newer(spec("/db", "*.dat", true), 20), newer(spec("/else", "*", false), 20)}
	res := l.backup(vss.BackupTypeIncremental)
	l.holds("after a time", res, "db/a.dat=a1|", "db/b.dat=b1|", "db/x/c.dat=x/c2|T", "db/new.dat=new2|T", "else/newer=newer|T")
	if got := res.Components[0].Read; got.Differenced != 3 || got.Lacked != 2 || got.Unchanged != 2 || got.Whole != 3 {
		t.Errorf("D-28: read %+v", got)
	}

	// Zero: our own record of the base decides.
	l.differenced = []metadata.DifferencedFile{newer(spec("/db", "*.dat", true), 0), newer(spec("/else", "*", false), 0)}
	l.write("db/b.dat", "b3", 3) // older than the others, and yet not as it was
	l.holds("by our record", l.backup(vss.BackupTypeIncremental), "db/a.dat=a2|T", "db/b.dat=b3|T", "db/x/c.dat=x/c2|", "db/new.dat=new2|",
		"else/newer=newer|", "else/old=old|T")
}

// TestR_SET_41_ListsGoBeforeMasks: with a mask that has everything saved, what is
// listed is saved as listed all the same, R-SET-42 among it.
func TestR_SET_41_ListsGoBeforeMasks(t *testing.T) {
	l := newListHost(t, everyMask)
	l.write("db/a.dat", "a1", 0)
	l.write("db/p.dat", "0123", 0)
	l.backup(vss.BackupTypeFull)
	l.write("db/a.dat", "a2", 9)
	l.write("db/p.dat", "ABCD", 11)
	l.differenced = []metadata.DifferencedFile{newer(spec("/db", "*.dat", true), 10)}
	l.partial = []metadata.PartialFile{rangesOf("/db", "p.dat", "1:1"), rangesOf("/db", "x.no.dat", "1:1")}
	res := l.backup(vss.BackupTypeIncremental)
	l.holds("both", res, "db/a.dat=a1|", "db/p.dat=ABCD|T")
	if res.Outcome != Complete || len(res.Components[0].WriterErrors) != 1 || !slices.ContainsFunc(res.Warnings, func(w string) bool {
		return strings.Contains(w, "/db/p.dat") && strings.Contains(w, "both as a differenced and as a partial file") // R-SET-42
	}) {
		t.Errorf("outcome %v, warnings %q", res.Outcome, res.Warnings)
	}
	l.differenced = nil
	l.holds("partial", l.backup(vss.BackupTypeIncremental), "db/a.dat=a2|T", "db/p.dat=ABCD|T 1:1")
}

// TestListedFilesUnderChosenPaths: what a writer adds is its component's, and what
// it lists and need not be saved stays data of no writer, which is.
func TestListedFilesUnderChosenPaths(t *testing.T) {
	l := newListHost(t, everyMask)
	l.write("db/a.dat", "a", 0)
	l.write("else/old", "old", 20)
	l.write("else/newer", "newer", 21)
	l.write("else/part", "0123", 21)
	run := func(typ vss.BackupType) *Result { return l.run(Request{Type: typ, Paths: []string{"/"}}) }
	run(vss.BackupTypeFull)
	l.differenced = []metadata.DifferencedFile{newer(spec("/else", "*r", false), 20), newer(spec("/else", "ol*", false), 20)}
	l.partial = []metadata.PartialFile{rangesOf("/else", "part", "1:1")}
	res := run(vss.BackupTypeIncremental)
	content, sets := readRecord(t, l.repo, res.Record)
	if content["else/old"] != "old" || content["else/newer"] != "newer" || res.Outcome != Complete {
		t.Errorf("content %q, %+v", content, res.Failures)
	}
	want := map[string]string{"db/a.dat": "app:db", "else/newer": "app:db", "else/part": "app:db"}
	if !maps.Equal(sets, want) {
		t.Errorf("of components are %v, want %v", sets, want)
	}
}

// TestFilesListedNoMoreUnderChosenPaths: what a writer listed for the backup
// before stays its component's, once, though its path was chosen too.
func TestFilesListedNoMoreUnderChosenPaths(t *testing.T) {
	for _, lists := range []bool{false, true} {
		l := newListHost(t, everyMask)
		l.write("db/a.dat", "a", 0)
		l.write("else/n", "n1", 30)
		run := func(typ vss.BackupType) *Result { return l.run(Request{Type: typ, Paths: []string{"/"}}) }
		run(vss.BackupTypeFull)
		l.differenced = []metadata.DifferencedFile{newer(spec("/else", "n", false), 20)}
		run(vss.BackupTypeIncremental)
		l.differenced = nil
		if lists {
			l.partial = []metadata.PartialFile{rangesOf("/db", "a.dat", "0:1")}
		}
		res := run(vss.BackupTypeIncremental)
		content, sets := readRecord(t, l.repo, res.Record)
		if want := (map[string]string{"db/a.dat": "app:db", "else/n": "app:db"}); !maps.Equal(sets, want) || content["else/n"] != "n1" {
			t.Errorf("others listed %v: of components are %v, want %v", lists, sets, want)
		}
		if res.Totals.Files != 2 {
			t.Errorf("others listed %v: %d files counted, want 2", lists, res.Totals.Files)
		}
	}
}

// TestLongRangeLists: more ranges than an entry holds are a document, and are read
// back from it.
func TestLongRangeLists(t *testing.T) {
	l := newListHost(t, everyMask)
	var ranges vss.Ranges
	var want strings.Builder
	content := strings.Repeat("0123456789", 2000)
	for i := 0; i < len(content); i += 4 {
		ranges = append(ranges, vss.Range{Offset: uint64(i), Length: 2})
		want.WriteString(content[i:i+2] + "\x00\x00")
	}
	l.write("db/a.dat", content, 0)
	l.partial = []metadata.PartialFile{rangesOf("/db", "a.dat", ranges.Format())}
	res := l.backup(vss.BackupTypeFull)
	l.holds("long", res, "db/a.dat="+want.String()+"|TO "+ranges.Format())
	e, err := res.Record.Table().Lookup(t.Context(), rootID, "db/a.dat")
	if err != nil || e.Attrs[AttrRanges] != DocRanges+"0" {
		t.Errorf("ranges %.100q, %v", e.Attrs[AttrRanges], err)
	}
}

func TestPartialFileThatCannotBeReadFails(t *testing.T) {
	l := newListHost(t, everyMask)
	l.write("db/a.dat", "unreadable", 0)
	l.write("db/b.dat", "b", 0)
	l.partial = []metadata.PartialFile{rangesOf("/db", "a.dat", "0:3")}
	res := l.backup(vss.BackupTypeFull)
	l.fails("bad block", res, "/db/a.dat", "bad block")
}

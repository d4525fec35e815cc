package model

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/vss"
)

const (
	full         = vss.BackupTypeFull
	copied       = vss.BackupTypeCopy
	incremental  = vss.BackupTypeIncremental
	differential = vss.BackupTypeDifferential
	log          = vss.BackupTypeLog

	everything = vss.SchemaIncremental | vss.SchemaDifferential | vss.SchemaLog | vss.SchemaCopy
)

func list[V any](m map[string]V) string { return strings.Join(slices.Sorted(maps.Keys(m)), " ") }

// The vector of R-SET-4.
func TestSpecificationsR_SET_4(t *testing.T) {
	files := []string{"/Directory1/File1.txt", "/Directory1/File2.txt", "/Directory1/Directory2/File1.txt", "/Directory1/Directory2/File2.txt"}
	dirs := []string{"/Directory1", "/Directory1/Directory2", "/Directory1/Directory3"}
	for _, tt := range []struct {
		spec        Spec
		files, dirs string
	}{
		{Spec{"/Directory1", "File1.*", true}, "/Directory1/File1.txt /Directory1/Directory2/File1.txt", "/Directory1 /Directory1/Directory2 /Directory1/Directory3"},
		{Spec{"/Directory1", "*", true}, strings.Join(files, " "), "/Directory1 /Directory1/Directory2 /Directory1/Directory3"},
		{Spec{"/Directory1", "*", false}, "/Directory1/File1.txt /Directory1/File2.txt", ""},
	} {
		var got []string
		for _, f := range files {
			if tt.spec.Has(f) {
				got = append(got, f)
			}
		}
		if s := strings.Join(got, " "); s != tt.files {
			t.Errorf("%+v: files %q, want %q", tt.spec, s, tt.files)
		}
		if s := strings.Join(tt.spec.Dirs(dirs), " "); s != tt.dirs {
			t.Errorf("%+v: directories %q, want %q", tt.spec, s, tt.dirs)
		}
	}
}

func TestPatternsR_SET_2(t *testing.T) {
	for _, tt := range []struct {
		pattern, name string
		fits          bool
	}{
		{"*", "a", true}, {"*.*", "a", true}, {"*.*", "a.b", true}, {"a", "a", true}, {"a", "b", false}, {"a", "aa", false},
		{"Perfc???.dat", "Perfc001.dat", true}, {"Perfc???.dat", "Perfc01.dat", false}, {"?", "ä", true}, {"*.db", "x.db", true},
		{"*.db", ".db", true}, {"*.db", "x.db2", false}, {"a*b*c", "aXbXbc", true}, {"a*b*c", "aXc", false}, {"", "a", false},
	} {
		if got := Fits(tt.pattern, tt.name); got != tt.fits {
			t.Errorf("%q fits %q: %v", tt.name, tt.pattern, got)
		}
	}
}

// The vector of R-SEL-20.
func TestSelectionR_SEL_20(t *testing.T) {
	w := &Writer{Name: "MyWriter"}
	for full := range strings.SplitSeq(`Executables Executables\ConfigFiles LicenseInfo+ Security+ Security\UserInfo Security\Certificates writerData+ `+
		`writerData\Set1 writerData\Set1\Jan writerData\Set1\Dec writerData\Set2 writerData\Set2\Jan writerData\Set2\Dec `+
		`writerData\QueryLogs\Query writerData\Usage+ writerData\Usage\Jan writerData\Usage\Dec`, " ") {
		name, selectable := strings.CutSuffix(full, "+")
		w.Components = append(w.Components, Component{Path: name, Selectable: selectable})
	}
	const always = `Executables Executables\ConfigFiles`
	for _, tt := range []struct{ wanted, explicit, rest string }{
		{"", "", ""},
		{"LicenseInfo", always + " LicenseInfo", ""},
		{"Security", always + " Security", `Security\Certificates Security\UserInfo`},
		{"writerData", always + " writerData", `writerData\QueryLogs\Query writerData\Set1 writerData\Set1\Dec writerData\Set1\Jan ` +
			`writerData\Set2 writerData\Set2\Dec writerData\Set2\Jan writerData\Usage writerData\Usage\Dec writerData\Usage\Jan`},
		{`writerData\Usage`, always + ` writerData\Usage`, `writerData\Usage\Dec writerData\Usage\Jan`},
		{`writerData\Usage\Dec`, always + ` writerData\Usage`, `writerData\Usage\Dec writerData\Usage\Jan`},
		{"Executables", always, ""},
	} {
		explicit := w.Explicit(strings.Fields(tt.wanted)...)
		if got := strings.Join(explicit, " "); got != tt.explicit {
			t.Errorf("%s: explicit %q, want %q", tt.wanted, got, tt.explicit)
		}
		var rest []string
		for _, e := range explicit {
			for _, m := range w.Members(e) {
				if m != e {
					rest = append(rest, m)
				}
			}
		}
		slices.Sort(rest)
		if got := strings.Join(rest, " "); got != tt.rest {
			t.Errorf("%s: implicit %q, want %q", tt.wanted, got, tt.rest)
		}
	}
}

// bench is a writer of one component over a tree, and its history.
type bench struct {
	w    Writer
	tree Tree
	h    History
	time int64
}

func newBench(schema vss.BackupSchema, sets ...Set) *bench {
	return &bench{tree: Tree{}, w: Writer{Name: "w", Schema: schema, Components: []Component{{Path: "c", Selectable: true, Sets: sets}}}}
}

func (b *bench) write(name, data string) {
	b.time++
	b.tree["/d/"+name] = File{Data: data, Time: b.time}
}

// backup gives what the record holds, as "name=content" in order.
func (b *bench) backup(typ vss.BackupType) string {
	b.time++
	rec := b.h.Backup([]Writer{b.w}, Host{b.tree, b.tree}, Ask{Type: typ, Explicit: map[string][]string{"w": {"c"}}})
	return show(rec.Files)
}

func show(files map[string]Entry) string {
	var out []string
	for path, e := range files {
		data := []byte(e.Data)
		for i, known := range e.Known {
			if !known {
				data[i] = '.'
			}
		}
		out = append(out, strings.TrimPrefix(path, "/d/")+"="+string(data))
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func (b *bench) restored(i int) string {
	var out []string
	for path, data := range b.h.RestoreAll(i) {
		out = append(out, strings.TrimPrefix(path, "/d/")+"="+data)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func expect(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func everyFile(mask vss.FileSpecBackupType) Set { return Set{Spec: Spec{"/d", "*", true}, Mask: mask} }

// D-22: what was changed after the last full and before the last incremental
// backup is in the differential, not in the next incremental.
func TestWhatABackupBuildsUponD_22(t *testing.T) {
	mask := vss.DefaultFileSpecBackupType &^ (vss.IncrementalBackupRequired | vss.DifferentialBackupRequired)
	b := newBench(everything|vss.SchemaLastModify, everyFile(mask))
	b.write("a", "1")
	b.backup(full)
	since := b.time
	b.write("a", "2")
	b.w.Components[0].Differenced = []Differenced{{Spec: Spec{"/d", "*", true}, After: since}}
	expect(t, "incremental", b.backup(incremental), "a=2")
	b.w.Components[0].Differenced[0].After = b.time
	expect(t, "the next incremental", b.backup(incremental), "a=2")
	b.w.Components[0].Differenced[0].After = since
	expect(t, "the differential", b.backup(differential), "a=2")
	for i, base := range []int{-1, 0, 1, 0} {
		if got := b.h[i].Parts[ID{"w", "c"}].Base; got != base {
			t.Errorf("record %d builds upon %d, want %d", i, got, base)
		}
	}
}

// D-29 with its example: a component whose mask has LOG and not FULL is in every
// log backup, whole, and in no full one.
func TestLogBackupsD_29(t *testing.T) {
	b := newBench(everything,
		Set{Spec: Spec{"/d", "*.db", false}, Mask: vss.DefaultFileSpecBackupType},
		Set{Spec: Spec{"/d", "*.log", false}, Mask: vss.DefaultFileSpecBackupType, Log: true},
		Set{Spec: Spec{"/d", "*.old", false}, Mask: vss.DefaultFileSpecBackupType &^ vss.LogBackupRequired, Log: true},
		Set{Spec: Spec{"/d", "j*", false}, Mask: vss.LogBackupRequired})
	b.write("x.db", "d")
	b.write("1.log", "l")
	b.write("0.old", "o")
	b.write("j1", "j")
	expect(t, "full", b.backup(full), "0.old=o 1.log=l x.db=d")
	b.write("x.db", "D")
	delete(b.tree, "/d/1.log")
	b.write("2.log", "m")
	expect(t, "log", b.backup(log), "2.log=m j1=j")
	delete(b.tree, "/d/2.log")
	b.write("3.log", "n")
	expect(t, "log again", b.backup(log), "3.log=n j1=j")
	expect(t, "restore of the first log", b.restored(1), "0.old=o 1.log=l 2.log=m j1=j x.db=d")
	expect(t, "restore of the last", b.restored(2), "0.old=o 1.log=l 2.log=m 3.log=n j1=j x.db=d")
}

func TestTypesOfBackups(t *testing.T) {
	const all = everything
	for _, tt := range []struct {
		rule   string
		schema vss.BackupSchema
		asked  []vss.BackupType
		types  []vss.BackupType
		bases  []int
	}{
		{"R-TYPE-2", 0, []vss.BackupType{full, full}, []vss.BackupType{full, full}, []int{-1, -1}},
		{"R-TYPE-3", all, []vss.BackupType{copied, incremental, copied, incremental}, []vss.BackupType{copied, full, copied, incremental}, []int{-1, -1, -1, 1}},
		{"R-TYPE-4", all, []vss.BackupType{full, incremental, incremental}, []vss.BackupType{full, incremental, incremental}, []int{-1, 0, 1}},
		{"R-TYPE-5", all, []vss.BackupType{full, differential, differential, incremental}, []vss.BackupType{full, differential, differential, incremental}, []int{-1, 0, 0, 0}},
		{"R-TYPE-5 without a base", all, []vss.BackupType{differential, differential}, []vss.BackupType{full, full}, []int{-1, -1}},
		{"R-TYPE-6", all, []vss.BackupType{full, log, incremental, log, log}, []vss.BackupType{full, log, incremental, log, log}, []int{-1, 0, 0, 2, 3}},
		{"R-TYPE-6 without a base", all, []vss.BackupType{log, log}, []vss.BackupType{full, log}, []int{-1, 0}},
		{"D-30", 0, []vss.BackupType{full, incremental, differential, log, copied}, []vss.BackupType{full, full, full, full, copied}, []int{-1, -1, -1, -1, -1}},
		{"R-TYPE-10", all | 0x4, []vss.BackupType{full, incremental, differential, full, differential, incremental},
			[]vss.BackupType{full, incremental, full, full, differential, full}, []int{-1, 0, -1, -1, 3, -1}},
	} {
		b := newBench(tt.schema, everyFile(vss.DefaultFileSpecBackupType))
		for i, asked := range tt.asked {
			b.backup(asked)
			if p := b.h[i].Parts[ID{"w", "c"}]; p.Type != tt.types[i] || p.Base != tt.bases[i] {
				t.Errorf("%s: backup %d, %v: type %v upon %d, want %v upon %d", tt.rule, i, asked, p.Type, p.Base, tt.types[i], tt.bases[i])
			}
		}
	}
}

func TestABaseIsOneThatCanBeRestored(t *testing.T) {
	b := newBench(everything, everyFile(vss.DefaultFileSpecBackupType))
	for _, typ := range []vss.BackupType{full, incremental, incremental} {
		b.backup(typ)
	}
	b.h[1].Gone = true
	if p := b.h.Decide(&b.w, "c", incremental, false); p.Base != -1 {
		t.Errorf("the base is %d; record 2 lacks a link, and is what the writer goes by", p.Base)
	}
	b.h[2].Gone = true
	if p := b.h.Decide(&b.w, "c", incremental, false); p.Base != 0 {
		t.Errorf("the base is %d; 1 and 2 are gone", p.Base)
	}
	b.h[0].Parts[ID{"w", "c"}] = Part{Failed: true, Base: -1}
	if p := b.h.Decide(&b.w, "c", incremental, false); p.Base != -1 || p.Type != full {
		t.Errorf("%+v: nothing that may be built upon is left", p)
	}
}

func TestRecordsAreComplete(t *testing.T) {
	mask := vss.DefaultFileSpecBackupType &^ vss.IncrementalBackupRequired
	b := newBench(everything, everyFile(mask))
	b.write("a", "1")
	b.write("b", "1")
	b.write("gone", "1")
	expect(t, "full", b.backup(full), "a=1 b=1 gone=1")
	b.write("a", "2")
	b.write("new", "2")
	delete(b.tree, "/d/gone")
	expect(t, "incremental", b.backup(incremental), "a=1 b=1 new=2")
	expect(t, "differential", b.backup(differential), "a=2 b=1 new=2")
	expect(t, "restore", b.restored(1), "a=1 b=1 new=2")
}

func TestDifferencedAndPartialFiles(t *testing.T) {
	mask := vss.DefaultFileSpecBackupType &^ vss.IncrementalBackupRequired
	b := newBench(everything|vss.SchemaLastModify, everyFile(mask))
	for _, name := range []string{"a", "b", "p", "x"} {
		b.write(name, "0123456789")
	}
	b.w.Excludes = []Spec{{"/d", "x", false}}
	b.backup(full)
	b.write("a", "after")
	b.write("p", "ABCDEFGHIJKL")
	c := &b.w.Components[0]
	c.Partial = []Partial{{"/d/p", []Range{{2, 3}, {4, 2}}}, {"/d/x", []Range{{0, 1}}}, {"/other/n", []Range{{1, 2}, {5, 1 << 62}}}}
	b.tree["/other/n"] = File{Data: "abcdefgh", Time: b.time}
	expect(t, "D-28, R-SET-36, R-SET-34, R-SET-45", b.backup(incremental), "/other/n=abcdefgh a=0123456789 b=0123456789 p=01CDEF6789KL")
	c.Differenced = []Differenced{{Spec: Spec{"/d", "*", true}, After: b.time}}
	b.write("b", "B")
	expect(t, "R-SET-42: treated as differenced", b.backup(incremental), "/other/n=abcdefgh a=0123456789 b=B p=01CDEF6789KL")
	c.Differenced = []Differenced{{Spec: Spec{"/d", "*", true}}}
	expect(t, "R-SET-31: zero", b.backup(incremental), "/other/n=abcdefgh a=after b=B p=ABCDEFGHIJKL")
	b.w.Schema = everything
	expect(t, "R-SET-32", b.backup(incremental), "/other/n=abcdefgh a=after b=B p=ABCDEFGHIJKL")
	c.Differenced, c.Partial = nil, nil
	expect(t, "listed no more, and still there", b.backup(incremental), "/other/n=abcdefgh a=after b=B p=ABCDEFGHIJKL")
	delete(b.tree, "/other/n")
	expect(t, "and gone", b.backup(incremental), "a=after b=B p=ABCDEFGHIJKL")
}

func TestRangesAlone(t *testing.T) {
	b := newBench(everything, everyFile(vss.DefaultFileSpecBackupType))
	b.write("p", "abcdefgh")
	b.w.Components[0].Partial = []Partial{{"/d/p", []Range{{1, 2}, {5, 1 << 62}}}}
	expect(t, "full", b.backup(full), "p=.bc..fgh")
	b.write("p", "ABCDEFGHIJ")
	b.w.Components[0].Partial[0].Ranges = []Range{{0, 1}, {6, 0}}
	expect(t, "incremental upon ranges alone", b.backup(incremental), "p=A.........")
	expect(t, "copy", b.backup(copied), "p=A.........")
	if got := b.h.Restore(1, ID{"w", "c"})["/d/p"]; got != "Abc\x00\x00fgh\x00\x00" {
		t.Errorf("they are restored as %q", got)
	}
	b.w.Components[0].Partial = nil
	b.backup(full)
	b.tree["/d/p"] = File{Data: "another", Time: b.time, ID: 7}
	b.w.Components[0].Partial = []Partial{{"/d/p", []Range{{1, 2}}}}
	expect(t, "another file in its place", b.backup(incremental), "p=another")
}

func TestAlternatePathsAndExcludes(t *testing.T) {
	b := newBench(0, Set{Spec: Spec{"/d", "*", false}, Alternate: "/spit", Mask: vss.DefaultFileSpecBackupType})
	b.w.Excludes = []Spec{{"/d", "no", false}, {"/spit", "yes", false}}
	b.write("yes", "normal")
	for _, name := range []string{"yes", "no", "other"} {
		b.tree["/spit/"+name] = File{Data: "aside"}
	}
	expect(t, "R-SET-11, R-SET-12", b.backup(full), "other=aside yes=aside")
}

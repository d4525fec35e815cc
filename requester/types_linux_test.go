package requester_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/repository/store/mem"
	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// typedWriter is a writer of one component with a schema.
func typedWriter(w *world, name string, schema vss.BackupSchema, mask vss.FileSpecBackupType) *docWriter {
	d := newDocWriter(name, func(m *metadata.WriterMetadata) []error {
		return []error{m.SetBackupSchema(schema), group(m, "", name, true),
			m.AddFilesToFileGroup("", name, vss.FileSpec{Path: w.path(name), Pattern: "*", Recursive: true}, "", mask)}
	})
	w.writers = append(w.writers, d)
	return d
}

// stamping has a writer stamp its backups "s1", "s2" ... in the event, and gives
// what it was handed in PrepareForBackup, "-" for nothing.
func stamping(d *docWriter, in writer.EventKind) *[]string {
	given := &[]string{}
	n := 0
	handle := func(e *writer.Event, kind writer.EventKind) error {
		for _, c := range e.Components.Components() {
			if kind == writer.EventPrepareForBackup {
				stamp, ok := c.PreviousBackupStamp()
				if !ok {
					stamp = "-"
				}
				*given = append(*given, string(stamp))
			}
			if kind == in {
				n++
				if err := c.SetBackupStamp(vss.BackupStamp(strings.Repeat("s", n) + ` <&"é`)); err != nil {
					return err
				}
			}
		}
		return nil
	}
	for _, k := range []writer.EventKind{writer.EventPrepareForBackup, writer.EventPostSnapshot} {
		d.on[k] = func(e *writer.Event) error { return handle(e, k) }
	}
	return given
}

// TestStamps (R-TYPE-12 to R-TYPE-15): a stamp is kept and handed back as it is,
// that of the base, before PrepareForBackup; a backup without a base has none.
func TestStamps(t *testing.T) {
	const stamp = ` <&"é`
	for name, c := range map[string]struct {
		in   writer.EventKind
		mask vss.FileSpecBackupType
	}{
		"set in PostSnapshot":                               {writer.EventPostSnapshot, vss.DefaultFileSpecBackupType},
		"R-TYPE-13 set in PrepareForBackup, no shadow copy": {writer.EventPrepareForBackup, 0xF},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.write("app/a", "a")
			d := typedWriter(w, "app", both|logs|vss.SchemaTimestamped, c.mask)
			build := d.build
			d.build = func(m *metadata.WriterMetadata) []error {
				// In a log backup there is something to make a shadow copy of, too.
				return append(build(m), m.AddFilesToFileGroup("", "app", vss.FileSpec{Path: w.path("log"), Pattern: "*"}, "",
					c.mask&(vss.LogBackupRequired|vss.LogSnapshotRequired)))
			}
			w.mkdir("log")
			given := stamping(d, c.in)
			var got []requester.HistoryLine
			for _, typ := range []vss.BackupType{vss.BackupTypeIncremental, vss.BackupTypeFull, vss.BackupTypeIncremental, vss.BackupTypeCopy,
				vss.BackupTypeDifferential, vss.BackupTypeIncremental, vss.BackupTypeLog} {
				res := w.typed(typ)
				got = append(got, w.history(res.Record))
				if d.saw(writer.EventFreeze) != (c.in == writer.EventPostSnapshot) {
					t.Errorf("R-SET-28: the writer was frozen: %v", d.saw(writer.EventFreeze))
				}
			}
			s := func(n int) string { return strings.Repeat("s", n) + stamp }
			want := []string{"-", "-", s(2), "-", s(2), s(3), s(6)}
			if !slices.Equal(*given, want) {
				t.Errorf("the writer was handed %q, want %q", *given, want)
			}
			for i, l := range got {
				if l.BackupStamp != s(i+1) || l.Stamp != (want[i] != "-") {
					t.Errorf("backup %d: stamp %q, previous given %v; want %q", i+1, l.BackupStamp, l.Stamp, s(i+1))
				}
			}
			if l := got[0]; l.Type != "full" || l.Asked != "incremental" || len(l.Notes) != 1 {
				t.Errorf("the first incremental has nothing to build upon: %+v", l)
			}
		})
	}
}

// TestNoStampsForWritersThatUseNone (R-TYPE-11): the bit of stamps says nothing
// without incremental or differential backups, and without it none is handed over.
func TestNoStampsForWritersThatUseNone(t *testing.T) {
	for _, schema := range []vss.BackupSchema{both, logs | vss.SchemaTimestamped} {
		w := newWorld(t)
		w.write("app/a", "a")
		given := stamping(typedWriter(w, "app", schema, vss.DefaultFileSpecBackupType), writer.EventPostSnapshot)
		w.typed(vss.BackupTypeFull)
		typ := vss.BackupTypeIncremental
		if schema&logs != 0 {
			typ = vss.BackupTypeLog
		}
		if l := w.history(w.typed(typ).Record); l.Base == "" || l.Stamp {
			t.Errorf("schema %v: %+v", schema, l)
		}
		if !slices.Equal(*given, []string{"-", "-"}) {
			t.Errorf("schema %v: the writer was handed %q", schema, *given)
		}
	}
}

// TestNoShadowCopyThatNobodyNeeds (R-SET-27, R-SET-28): what masks let be read
// from the volume itself is, and with data of no writer the volume is in the set.
func TestNoShadowCopyThatNobodyNeeds(t *testing.T) {
	w := newWorld(t)
	w.write("app/a", "a")
	w.write("plain/p", "p")
	d := typedWriter(w, "app", both, 0xF)
	res := w.typed(vss.BackupTypeFull)
	if res.Receipt != nil || d.saw(writer.EventPrepareForSnapshot) || !d.saw(writer.EventBackupComplete) || !d.ok["app"] {
		t.Errorf("without a shadow copy: receipt %v, events %v, succeeded %v", res.Receipt, d.seen, d.ok)
	}
	for e, err := range res.Record.Table().All(t.Context()) {
		w.must(err)
		if e.Type == repository.Regular && e.Attrs[requester.AttrSource] != "live" {
			t.Errorf("%s was read from %q", e.Path, e.Attrs[requester.AttrSource])
		}
	}
	for _, v := range res.Plan.Volumes {
		if v.Provider != "" {
			t.Errorf("the plan has a shadow copy by %s", v.Provider)
		}
	}
	if _, err := w.open(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestHoleInAChain: a base counts only with its chain down to a full backup, and
// one that is older than what the writer remembers is none.
func TestHoleInAChain(t *testing.T) {
	w := newWorld(t)
	w.write("app/a", "a")
	typedWriter(w, "app", both|logs, vss.DefaultFileSpecBackupType)
	full := w.typed(vss.BackupTypeFull)
	inc := w.typed(vss.BackupTypeIncremental)
	w.typed(vss.BackupTypeIncremental)
	if _, err := w.repo.Forget(t.Context(), []repository.ID{inc.Record.ID}); err != nil {
		t.Fatal(err)
	}
	if l := w.history(w.typed(vss.BackupTypeLog).Record); l.Base != "" || l.Type != "full" || l.Counts != "log" {
		t.Errorf("log after a hole: %+v", l)
	}
	if l := w.history(w.typed(vss.BackupTypeDifferential).Record); l.Base != full.ID {
		t.Errorf("the full backup is still there: %+v", l)
	}
	if l := w.history(w.typed(vss.BackupTypeIncremental).Record); l.Base != "" || l.Type != "full" || l.Counts != "full" || len(l.Notes) != 1 {
		t.Errorf("incremental after a hole: %+v", l)
	}
	if l := w.history(w.typed(vss.BackupTypeIncremental).Record); l.Base == "" || l.Type != "incremental" {
		t.Errorf("a chain begun anew: %+v", l)
	}
}

// TestFailedComponentIsNoBase (R-SEL-18): nothing builds on a component that
// lacks a file.
func TestFailedComponentIsNoBase(t *testing.T) {
	w := newWorld(t)
	w.write("app/a", "a")
	d := typedWriter(w, "app", both, vss.DefaultFileSpecBackupType)
	full := w.typed(vss.BackupTypeFull)
	d.on[writer.EventFreeze] = func(*writer.Event) error { return errors.New("no") }
	res := w.backup(requester.Request{Type: vss.BackupTypeIncremental, Paths: []string{w.path("")}, AsPlainFiles: true})
	if l := w.history(res.Record); l.Succeeded {
		t.Fatalf("%+v", l)
	}
	delete(d.on, writer.EventFreeze)
	if l := w.history(w.typed(vss.BackupTypeIncremental).Record); l.Base != full.ID {
		t.Errorf("it builds upon %q, want %s", l.Base, full.ID)
	}
}

// TestExclusiveWriter (R-TYPE-10) mixes the two kinds.
func TestExclusiveWriter(t *testing.T) {
	w := newWorld(t)
	w.write("app/a", "a")
	typedWriter(w, "app", excl, vss.DefaultFileSpecBackupType)
	var got []string
	for _, typ := range []vss.BackupType{vss.BackupTypeFull, vss.BackupTypeDifferential, vss.BackupTypeIncremental, vss.BackupTypeIncremental,
		vss.BackupTypeDifferential, vss.BackupTypeIncremental, vss.BackupTypeFull, vss.BackupTypeDifferential} {
		l := w.history(w.typed(typ).Record)
		got = append(got, l.Asked+" as "+l.Type)
		if (l.Asked != l.Type) != (len(l.Notes) == 1) {
			t.Errorf("%s: notes %q", got[len(got)-1], l.Notes)
		}
	}
	want := []string{"full as full", "differential as differential", "incremental as full", "incremental as incremental",
		"differential as full", "incremental as incremental", "full as full", "differential as differential"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestStrictType (D-30): a log backup leaves out writers that do not know it, if
// asked to, and that is no failure; all else they have is a full one.
func TestStrictType(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"app", "other"} {
		w.write(name+"/a", "a")
	}
	typedWriter(w, "app", logs, vss.DefaultFileSpecBackupType)
	typedWriter(w, "other", 0, vss.DefaultFileSpecBackupType)
	r := requester.Request{Type: vss.BackupTypeLog, Paths: []string{w.path("")}}
	lax := w.backup(r)
	r.StrictType = true
	strict := w.backup(r)
	for _, c := range []struct {
		res  *requester.Result
		want []string
	}{{lax, []string{"app full", "other full"}}, {strict, []string{"app log"}}} {
		lines, err := requester.ReadHistory(t.Context(), c.res.Record)
		w.must(err)
		var got []string
		for _, l := range lines {
			got = append(got, l.Name+" "+l.Type)
		}
		slices.Sort(got)
		if !slices.Equal(got, c.want) || c.res.Outcome != requester.Complete {
			t.Errorf("got %q, %v, want %q; %s", got, c.res.Outcome, c.want, leftOut(c.res.LeftOut))
		}
	}
	if out := leftOut(strict.LeftOut); !strings.Contains(out, "other:other (") || !strings.Contains(out, "--strict-type") {
		t.Errorf("left out: %s", out)
	}
}

// TestHistoryWithAWriteOnlyKey: a machine that cannot read the repository makes
// the same chains, from what it keeps in its local states, also where trees are
// backed up in turn; without them it begins anew.
func TestHistoryWithAWriteOnlyKey(t *testing.T) {
	w := newWorld(t)
	st, o := mem.New(), repository.Options{KDF: repository.KDF{Time: 1, Memory: 64, Threads: 1}, TempDir: t.TempDir(), StateDir: t.TempDir()}
	full, err := repository.Create(t.Context(), st, []byte("secret"), o)
	w.must(err)
	defer full.Close()
	_, err = full.AddKey(t.Context(), []byte("agent"), repository.KeyOptions{WriteOnly: true})
	w.must(err)
	w.write("app/a", "a")
	w.write("app/b", "b")
	w.write("plain/p", "p")
	// An incremental backup need not save the files.
	given := stamping(typedWriter(w, "app", both|logs|vss.SchemaTimestamped, vss.DefaultFileSpecBackupType&^vss.IncrementalBackupRequired),
		writer.EventPostSnapshot)
	time.Sleep(young)
	backup := func(typ vss.BackupType, paths ...string) *requester.Result {
		if w.repo, err = repository.Open(t.Context(), st, []byte("agent"), o); err != nil {
			t.Fatal(err)
		}
		defer w.repo.Close()
		return w.backup(requester.Request{Type: typ, Paths: paths, Selectors: requester.Selectors{Writers: []string{"app"}}})
	}
	line := func(res *requester.Result) requester.HistoryLine {
		rec, err := full.Record(t.Context(), res.ID)
		w.must(err)
		return w.history(rec)
	}
	f := backup(vss.BackupTypeFull)
	i := backup(vss.BackupTypeIncremental)
	if n := i.Totals.Unchanged; n != 2 {
		t.Errorf("%d files were taken from the base, want 2", n)
	}
	other := backup(vss.BackupTypeCopy, w.path("plain"))
	j := backup(vss.BackupTypeIncremental, w.path("plain"))
	d := backup(vss.BackupTypeDifferential)
	l := backup(vss.BackupTypeLog)
	for _, c := range []struct {
		res  *requester.Result
		base string
	}{{f, ""}, {i, f.ID}, {other, ""}, {j, i.ID}, {d, f.ID}, {l, j.ID}} {
		if h := line(c.res); h.Base != c.base || h.Type != h.Asked {
			t.Errorf("%s: base %q, want %q, as %s", h.Asked, h.Base, c.base, h.Type)
		}
	}
	if got := len(*given); got != 6 || (*given)[3][:2] != "ss" || (*given)[4][:2] != "s " {
		t.Errorf("stamps given: %q", *given)
	}
	o.StateDir = t.TempDir()
	if h := line(backup(vss.BackupTypeIncremental)); h.Base != "" || h.Type != "full" || len(h.Notes) != 1 {
		t.Errorf("without a local state: %+v", h)
	}
}

// TestNewestRecordForgottenWithAWriteOnlyKey: if the record that a machine made
// last is forgotten, its writers' memory goes further than what older local states
// tell. Those without stamps begin anew, once.
func TestNewestRecordForgottenWithAWriteOnlyKey(t *testing.T) {
	w := newWorld(t)
	st, o := mem.New(), repository.Options{KDF: repository.KDF{Time: 1, Memory: 64, Threads: 1}, TempDir: t.TempDir(), StateDir: t.TempDir()}
	full, err := repository.Create(t.Context(), st, []byte("secret"), o)
	w.must(err)
	defer full.Close()
	_, err = full.AddKey(t.Context(), []byte("agent"), repository.KeyOptions{WriteOnly: true})
	w.must(err)
	w.write("app/a", "a")
	w.write("plain/p", "p")
	typedWriter(w, "app", both, vss.DefaultFileSpecBackupType)
	backup := func(typ vss.BackupType, paths ...string) (*requester.Result, requester.HistoryLine) {
		t.Helper()
		if w.repo, err = repository.Open(t.Context(), st, []byte("agent"), o); err != nil {
			t.Fatal(err)
		}
		defer w.repo.Close()
		res := w.backup(requester.Request{Type: typ, Paths: paths, Selectors: requester.Selectors{Writers: []string{"app"}}})
		rec, err := full.Record(t.Context(), res.ID)
		w.must(err)
		return res, w.history(rec)
	}
	base, _ := backup(vss.BackupTypeFull)
	time.Sleep(20 * time.Millisecond) // states are told apart by time
	gone, l := backup(vss.BackupTypeIncremental, w.path("plain"))
	if l.Base != base.ID {
		t.Fatalf("%+v", l)
	}
	_, err = full.Forget(t.Context(), []repository.ID{gone.Record.ID})
	w.must(err)
	anew, l := backup(vss.BackupTypeIncremental)
	if l.Base != "" || l.Type != "full" || !strings.Contains(strings.Join(anew.Warnings, "\n"), "not in the repository any more") {
		t.Errorf("it builds upon %q, as %s; warnings %q", l.Base, l.Type, anew.Warnings)
	}
	if next, l := backup(vss.BackupTypeIncremental); l.Base != anew.ID || strings.Contains(strings.Join(next.Warnings, "\n"), "any more") {
		t.Errorf("the next: %+v, %q", l, next.Warnings)
	}
}

package requester_test

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// configure makes the real Test Writer the world's only writer.
func (w *world) configure(config string) {
	w.t.Helper()
	file := filepath.Join(scratch(w.t), "config.xml")
	w.must(os.WriteFile(file, []byte(strings.ReplaceAll(config, "DIR", w.dir)), 0o600))
	c, err := json.Marshal(map[string]any{"file": file})
	w.must(err)
	w.opts.Kinds = testKinds
	w.opts.Options.Writers = []session.WriterConfig{{Kind: "testwriter", Name: "app", Config: c}}
}

// storeConfig is a database with every kind of file set.
func storeConfig(supports string) string {
	return `<TestWriter usage="USER_DATA" ` + supports + `>
  <RestoreMethod method="RESTORE_IF_CAN_BE_REPLACED" writerRestore="always" rebootRequired="no"/>
  <Component componentType="database" componentName="db" selectable="yes">
    <ComponentFile path="DIR/db" filespec="*.dat" incBackupRequired="no" diffBackupRequired="no"/>
    <ComponentFile path="DIR/db" filespec="*.idx" incBackupRequired="no"/>
    <ComponentFile path="DIR/db" filespec="*.new"/>
    <ComponentFile path="DIR/db" filespec="*.log" logFile="yes"/>
    <ComponentFile path="DIR/db" filespec="*.inc" fullBackupRequired="no" diffBackupRequired="no" logBackupRequired="no"/>
  </Component>
</TestWriter>`
}

const allTypes = `supportsCopy="yes" supportsIncremental="yes" supportsDifferential="yes" supportsLog="yes"`

// table reads which files below the data a record has, and of each its content
// and the records that transferred it and that it was taken from.
type tabled struct{ content, read, base string }

func (w *world) table(rec *repository.Record) map[string]tabled {
	w.t.Helper()
	out := map[string]tabled{}
	for e, err := range rec.Table().All(w.t.Context()) {
		w.must(err)
		rel, inside := strings.CutPrefix("/"+e.Path, w.dir+"/")
		if e.Type != repository.Regular || !inside {
			continue
		}
		f, err := w.repo.OpenContent(w.t.Context(), e.Content)
		w.must(err)
		data := make([]byte, f.Size())
		if f.Size() > 0 {
			_, err = f.ReadAt(data, 0)
			w.must(err)
		}
		out[rel] = tabled{string(data), e.Attrs[requester.AttrRead], e.Attrs[requester.AttrBase]}
	}
	return out
}

// transferred lists the files that a record's backup itself transferred.
func (w *world) transferred(rec *repository.Record) (out []string) {
	for name, f := range w.table(rec) {
		if f.read == rec.Started.UTC().Format(time.RFC3339Nano) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

func (w *world) history(rec *repository.Record) requester.HistoryLine {
	w.t.Helper()
	lines, err := requester.ReadHistory(w.t.Context(), rec)
	w.must(err)
	if len(lines) != 1 {
		w.t.Fatalf("%d lines of history, want one", len(lines))
	}
	return lines[0]
}

// typed makes a backup of the Test Writer's component.
func (w *world) typed(t vss.BackupType) *requester.Result {
	w.t.Helper()
	res := w.backup(requester.Request{Type: t, Selectors: requester.Selectors{Writers: []string{"app"}}})
	if res.Outcome != requester.Complete {
		w.t.Fatalf("%s: %v %+v %q", t.Word(), res.Outcome, res.Failures, res.Warnings)
	}
	return res
}

func (w *world) check(what string, rec *repository.Record, want map[string]string, transferred ...string) {
	w.t.Helper()
	got := w.table(rec)
	have := map[string]string{}
	for name, f := range got {
		have[name] = f.content
	}
	if !maps.Equal(have, want) {
		w.t.Errorf("%s: the record has %q, want %q", what, have, want)
	}
	slices.Sort(transferred)
	if t := w.transferred(rec); !slices.Equal(t, transferred) {
		w.t.Errorf("%s: it transferred %q, want %q", what, t, transferred)
	}
}

// TestTypesOfAChain makes every type of backup upon the others, and looks at what
// each transfers, what its record holds, and what it builds upon.
func TestTypesOfAChain(t *testing.T) {
	w := newWorld(t)
	w.configure(storeConfig(allTypes))
	for _, f := range []string{"a.dat", "a.idx", "a.new", "a.log", "a.inc"} {
		w.write("db/"+f, f+" 1")
	}
	full := w.typed(vss.BackupTypeFull)
	w.check("R-TYPE-2 full", full.Record, map[string]string{"db/a.dat": "a.dat 1", "db/a.idx": "a.idx 1", "db/a.new": "a.new 1", "db/a.log": "a.log 1"},
		"db/a.dat", "db/a.idx", "db/a.new", "db/a.log")

	for _, f := range []string{"a.dat", "a.idx", "a.new", "a.log", "a.inc", "b.dat"} {
		w.write("db/"+f, f+" 2")
	}
	inc := w.typed(vss.BackupTypeIncremental)
	w.check("R-SET-26 incremental", inc.Record, map[string]string{"db/a.dat": "a.dat 1", "db/b.dat": "b.dat 2", "db/a.idx": "a.idx 1",
		"db/a.new": "a.new 2", "db/a.log": "a.log 2", "db/a.inc": "a.inc 2"}, "db/b.dat", "db/a.new", "db/a.log", "db/a.inc")
	if f := w.table(inc.Record)["db/a.dat"]; f.base != full.ID {
		t.Errorf("a.dat continues %q, want %s", f.base, full.ID)
	}

	w.write("db/a.log", "a.log 3")
	w.write("db/a.dat", "a.dat 3")
	log := w.typed(vss.BackupTypeLog)
	w.check("R-TYPE-6 D-29 log", log.Record, map[string]string{"db/a.log": "a.log 3"}, "db/a.log")

	w.write("db/a.idx", "a.idx 4")
	w.must(os.Remove(w.path("db/b.dat")))
	w.must(os.Remove(w.path("db/a.inc")))
	diff := w.typed(vss.BackupTypeDifferential)
	w.check("R-TYPE-5 differential", diff.Record, map[string]string{"db/a.dat": "a.dat 1", "db/a.idx": "a.idx 4", "db/a.new": "a.new 2", "db/a.log": "a.log 3"},
		"db/a.idx", "db/a.new", "db/a.log")

	copied := w.typed(vss.BackupTypeCopy)
	w.check("R-TYPE-3 copy", copied.Record, map[string]string{"db/a.dat": "a.dat 3", "db/a.idx": "a.idx 4", "db/a.new": "a.new 2", "db/a.log": "a.log 3"},
		"db/a.dat", "db/a.idx", "db/a.new", "db/a.log")
	log2 := w.typed(vss.BackupTypeLog)
	inc2 := w.typed(vss.BackupTypeIncremental)
	diff2 := w.typed(vss.BackupTypeDifferential)

	for _, c := range []struct {
		rule        string
		res         *requester.Result
		base        *requester.Result
		asked, typ  string
		counts      string
		chainParent bool
	}{
		{"R-TYPE-2", full, nil, "full", "full", "full", false},
		{"R-TYPE-4", inc, full, "incremental", "incremental", "incremental", true},
		{"R-TYPE-6", log, inc, "log", "log", "log", true},
		{"R-TYPE-5, D-22: upon the last full, not the incremental", diff, full, "differential", "differential", "", true},
		{"R-TYPE-3", copied, nil, "copy", "copy", "", false},
		{"R-TYPE-3, R-TYPE-5: copy and differential are no bases", log2, log, "log", "log", "log", true},
		{"D-19: log is no base of an incremental", inc2, inc, "incremental", "incremental", "incremental", true},
		{"R-TYPE-5", diff2, full, "differential", "differential", "", true},
	} {
		l := w.history(c.res.Record)
		base := ""
		if c.base != nil {
			base = c.base.ID
		}
		if l.Asked != c.asked || l.Type != c.typ || l.Counts != c.counts || l.Base != base || !l.Succeeded || len(l.Notes) > 0 {
			t.Errorf("%s: line %+v, want %s, %s, %q upon %q", c.rule, l, c.asked, c.typ, c.counts, base)
		}
		var needed []string
		for _, id := range requester.Chain(c.res.Record) {
			needed = append(needed, id.String())
		}
		if want := slices.DeleteFunc([]string{base}, func(s string) bool { return s == "" }); !slices.Equal(needed, want) {
			t.Errorf("%s: the record needs %q, want %q", c.rule, needed, want)
		}
	}
}

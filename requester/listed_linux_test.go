package requester_test

import (
	"encoding/binary"
	"os"
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/provider/providers/precopy"
	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// entryOf finds a file of the data in a record.
func (w *world) entryOf(rec *repository.Record, name string) *repository.Entry {
	w.t.Helper()
	e, err := rec.Table().Lookup(w.t.Context(), "/", strings.TrimPrefix(w.path(name), "/"))
	if err != nil {
		w.t.Fatalf("%s: %v", name, err)
	}
	return e
}

func partialConfig(partial string) string {
	return `<TestWriter usage="USER_DATA" supportsCopy="yes" supportsIncremental="yes" supportsDifferential="yes">
  <RestoreMethod method="RESTORE_IF_CAN_BE_REPLACED" writerRestore="always" rebootRequired="no"/>
  <Component componentType="filegroup" componentName="db" selectable="yes">
    <ComponentFile path="DIR/db" filespec="*" incBackupRequired="no" diffBackupRequired="no"/>
    ` + partial + `
  </Component>
</TestWriter>`
}

// TestR_SET_36_PartialFileUponItsBase changes a file in place, in its ranges and
// besides, and lets it grow: the record has the ranges and the growth as they are
// now, and the rest as the base has it. D-28: the mask alone would save nothing.
func TestR_SET_36_PartialFileUponItsBase(t *testing.T) {
	w := newWorld(t)
	w.write("db/data", "0123456789")
	w.write("db/other", "other")
	w.configure(partialConfig(""))
	full := w.typed(vss.BackupTypeFull)
	w.write("db/data", "ABCDEFGHIJKL")
	w.configure(partialConfig(`<PartialFile path="DIR/db" filespec="data" ranges="4:2, 2:3, 100:7"/>`))
	res := w.typed(vss.BackupTypeIncremental)
	w.check("incremental", res.Record, map[string]string{"db/data": "01CDEF6789KL", "db/other": "other"}, "db/data")
	e := w.entryOf(res.Record, "db/data")
	for key, want := range map[string]string{requester.AttrRanges: "2:4,10:2", requester.AttrBase: full.ID, requester.AttrMatched: "partial",
		requester.AttrMask: "lacked", requester.AttrPartial: ""} {
		if e.Attrs[key] != want {
			t.Errorf("%s is %q, want %q", key, e.Attrs[key], want)
		}
	}
	if got := res.Components[0].Read; got != (requester.FilesRead{Ranged: 1, Unchanged: 1, Ranges: 2, RangedBytes: 6, Partial: 1, Lacked: 1}) {
		t.Errorf("read: %+v", got)
	}
}

// TestPartialFileThatIsAnotherFileIsReadWhole replaces the file: its writer's
// ranges are of the one that was there, if of any.
func TestPartialFileThatIsAnotherFileIsReadWhole(t *testing.T) {
	w := newWorld(t)
	w.write("db/data", "0123456789")
	w.configure(partialConfig(""))
	w.typed(vss.BackupTypeFull)
	w.write("db/new", "ABCDEFGHIJ")
	w.must(os.Rename(w.path("db/new"), w.path("db/data")))
	w.configure(partialConfig(`<PartialFile path="DIR/db" filespec="data" ranges="2:3"/>`))
	res := w.typed(vss.BackupTypeIncremental)
	w.check("incremental", res.Record, map[string]string{"db/data": "ABCDEFGHIJ"}, "db/data")
	if e := w.entryOf(res.Record, "db/data"); e.Attrs[requester.AttrRanges] != "" || e.Attrs[requester.AttrMatched] != "partial" {
		t.Errorf("facts %q", e.Attrs)
	}
}

// TestR_SET_40_RangesFileIsKept reads the ranges from a file outside of all sets,
// and finds it in the record.
func TestR_SET_40_RangesFileIsKept(t *testing.T) {
	w := newWorld(t)
	w.write("db/data", "0123456789")
	list := binary.LittleEndian.AppendUint64(nil, 2)
	for _, n := range []uint64{6, 3, 1, 2} {
		list = binary.LittleEndian.AppendUint64(list, n)
	}
	w.write("aside/ranges", string(list))
	for _, text := range []string{"File=DIR/aside/ranges", "DIR/aside/ranges"} { // D-16
		w.configure(partialConfig(`<PartialFile path="DIR/db" filespec="data" ranges="` + text + `"/>`))
		res := w.typed(vss.BackupTypeFull)
		e := w.entryOf(res.Record, "db/data")
		if e.Attrs[requester.AttrRanges] != "1:2,6:3" || e.Attrs[requester.AttrPartial] != "only" {
			t.Errorf("%s: facts %q", text, e.Attrs)
		}
		files, err := requester.ReadRangesFiles(t.Context(), res.Record)
		if err != nil || len(files) != 1 || files[0].Host != w.path("aside/ranges") {
			t.Fatalf("ranges files %+v, %v", files, err)
		}
		data, err := res.Record.Document(t.Context(), files[0].Document, 1<<20)
		if err != nil || string(data) != string(list) {
			t.Errorf("document %s holds %x, %v, want %x (R-SET-39)", files[0].Document, data, err, list)
		}
	}
}

// TestR_SET_34_NewFileThatAProviderHasNotCopied: what is listed after the shadow
// copy is not in it if it is taken file by file. That is told, and never passes
// for the writer's consistency.
func TestR_SET_34_NewFileThatAProviderHasNotCopied(t *testing.T) {
	w := newWorld(t)
	w.opts.Providers = []provider.Provider{precopy.New()}
	w.write("db/data", "0123456789")
	w.write("else/new", "abcdef")
	w.configure(partialConfig(`<PartialFile path="DIR/else" filespec="new" ranges="1:2"/>`))
	ask := requester.Request{Type: vss.BackupTypeFull, Selectors: requester.Selectors{Writers: []string{"app"}}}
	res := w.backup(ask)
	if c := res.Components[0]; res.Outcome != requester.Complete || !c.Succeeded || c.Level != "none" || res.Level != "none" {
		t.Errorf("outcome %v at %s, component %+v", res.Outcome, res.Level, c)
	}
	if e := w.entryOf(res.Record, "else/new"); e.Attrs[requester.AttrSource] != "live" || e.Attrs[requester.AttrRanges] != "1:2" {
		t.Errorf("facts %q", e.Attrs)
	}
	ask.Consistency = session.LevelCrash
	if res = w.backup(ask); res.Outcome != requester.LowerConsistency {
		t.Errorf("with --consistency crash the outcome is %v", res.Outcome)
	}
}

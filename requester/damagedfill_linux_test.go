//go:build linux

package requester_test

import (
	"os"
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/repository/store"
	"github.com/sombra-backup/sombra/repository/store/mem"
	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/vss"
)

// TestFilesThatTheBaseHasLostAreSavedWhole: a file that the type need not save has
// the base's content only if all of that is stored.
func TestFilesThatTheBaseHasLostAreSavedWhole(t *testing.T) {
	w := newWorld(t)
	st := mem.New()
	w.useRepository(st, repository.Options{PackSize: 1})
	typedWriter(w, "app", both, vss.DefaultFileSpecBackupType&^vss.IncrementalBackupRequired)
	w.write("app/a", "one")
	full := w.typed(vss.BackupTypeFull)
	w.write("app/a", "two")
	w.useRepository(st, repository.Options{PackSize: 1})
	if f := w.table(w.typed(vss.BackupTypeIncremental).Record)["app/a"]; f.content != "one" || f.base != full.ID ||
		f.read != requester.ReadMark(full.Record) {
		t.Fatalf("what need not be saved is %+v, not what the full backup read", f)
	}
	var packs []string
	w.must(st.List(t.Context(), "data/", func(i store.Info) error {
		packs = append(packs, i.Name)
		return nil
	}))
	if len(packs) == 0 {
		t.Fatal("there are no packs of data")
	}
	for _, p := range packs {
		w.must(st.Delete(t.Context(), p))
	}
	w.useRepository(st, repository.Options{PackSize: 1})
	res := w.typed(vss.BackupTypeIncremental)
	if f := w.table(res.Record)["app/a"]; f.content != "two" || f.base != "" {
		t.Errorf("it has %q upon %q, want it whole", f.content, f.base)
	}
	if !strings.Contains(strings.Join(res.Warnings, "\n"), "saved whole") {
		t.Errorf("it is not said: %q", res.Warnings)
	}
}

// TestWhatIsOfAnotherKindByNowIsSaved: a name that the type need not save is
// filled from the base only if it is of the same kind there.
func TestWhatIsOfAnotherKindByNowIsSaved(t *testing.T) {
	w := newWorld(t)
	typedWriter(w, "app", both, vss.DefaultFileSpecBackupType&^vss.IncrementalBackupRequired)
	w.write("app/a", "a")
	w.must(os.Symlink("a", w.path("app/b")))
	w.typed(vss.BackupTypeFull)
	for _, name := range []string{"app/a", "app/b"} {
		w.must(os.Remove(w.path(name)))
	}
	w.must(os.Symlink("elsewhere", w.path("app/a")))
	w.write("app/b", "b")
	rec := w.typed(vss.BackupTypeIncremental).Record
	if e := w.entryOf(rec, "app/a"); e.Type != repository.Symlink || e.LinkTarget != "elsewhere" || e.Attrs[requester.AttrBase] != "" {
		t.Errorf("a file that is a link by now: %v to %q", e.Type, e.LinkTarget)
	}
	if f := w.table(rec)["app/b"]; f.content != "b" || f.base != "" {
		t.Errorf("a link that is a file by now: %+v", f)
	}
}

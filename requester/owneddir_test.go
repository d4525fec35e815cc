package requester

import (
	"testing"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/vss"
)

// TestDirectoriesOfAComponentAreNobodysElse: a log backup takes nothing of a database's
// files, and its directories are no data of nobody for that: a restore would make them
// anew also where the writer has refused to have the database restored.
func TestDirectoriesOfAComponentAreNobodysElse(t *testing.T) {
	h := newMemHost(volume("srv/db/base/1/file", "srv/db/run/slot/state", "srv/db/log/1", "srv/other/x"))
	h.writer(t, "db", func(m *metadata.WriterMetadata) []error {
		return []error{
			m.SetBackupSchema(vss.SchemaLog | vss.SchemaIncremental),
			fileGroup(m, "db", true),
			m.AddFilesToFileGroup("", "db", spec("/srv/db/base", "*", true), "", vss.FullBackupRequired|vss.FullSnapshotRequired|vss.IncrementalBackupRequired|vss.IncrementalSnapshotRequired),
			m.AddFilesToFileGroup("", "db", spec("/srv/db/run", "*", true), "", vss.FullBackupRequired|vss.FullSnapshotRequired|vss.IncrementalBackupRequired|vss.IncrementalSnapshotRequired),
			m.AddFilesToFileGroup("", "db", spec("/srv/db/log", "*", false), "", vss.LogBackupRequired),
			m.AddExcludeFiles(spec("/srv/db/run", "*", true)),
		}
	})
	repo := memRepo(t)
	for _, typ := range []vss.BackupType{vss.BackupTypeFull, vss.BackupTypeIncremental, vss.BackupTypeLog} {
		res, err := Backup(t.Context(), h.open, repo, Request{Paths: []string{"/srv"}, Type: typ}, nil)
		if err != nil || res.Outcome != Complete || res.Components[0].BackupType != typ.Word() {
			t.Fatalf("%v: %v, %v, %+v", typ, err, res.Outcome, res.Components)
		}
		plain := map[string]bool{}
		for e, err := range res.Record.Table().All(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			plain[e.Path] = e.Type == repository.Directory && e.Attrs[AttrComponent] == ""
		}
		for dir, nobodys := range map[string]bool{"srv/db/base/1": false, "srv/db/run/slot": false, "srv/db": true, "srv/other": true} {
			if plain[dir] != nobodys {
				t.Errorf("%v: %s is among the data of nobody: %v, want %v", typ, dir, plain[dir], nobodys)
			}
		}
	}
}

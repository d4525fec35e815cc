package redis

import (
	"bytes"
	"maps"
	"testing"

	"github.com/sombra-backup/sombra/internal/dbtest"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// TestNothingIsLetGo: the row of this writer in docs/writers/truncation.md, for each
// type and outcome.
func TestNothingIsLetGo(t *testing.T) {
	t.Parallel()
	a := newApp(t, dbtest.RedisOptions{AppendOnly: true})
	w, _ := a.writer()
	for _, typ := range []vss.BackupType{vss.BackupTypeCopy, vss.BackupTypeFull, vss.BackupTypeIncremental, vss.BackupTypeDifferential, vss.BackupTypeLog} {
		for _, saved := range []bool{true, false} {
			p := newPlay(t, w)
			p.event.State.Type = typ
			p.freeze()
			before := p.copyFiles(a.Dir)
			p.send(writer.EventThaw, writer.EventPostSnapshot)
			if err := p.component().SetBackupSucceeded(saved); err != nil {
				t.Fatal(err)
			}
			p.send(writer.EventBackupComplete, writer.EventBackupShutdown)
			if after := p.copyFiles(a.Dir); !maps.EqualFunc(before, after, bytes.Equal) {
				t.Errorf("%v, saved %v: the files have changed", typ, saved)
			}
		}
	}
}

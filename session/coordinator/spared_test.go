package coordinator_test

import (
	"context"
	"slices"
	"testing"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/session/sessiontest"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// masked is a writer whose files need a shadow copy in the types of a mask alone.
type masked struct {
	*sessiontest.Script
	mask vss.FileSpecBackupType
}

func (w *masked) Identify(context.Context) (*metadata.WriterMetadata, error) {
	m, err := metadata.NewWriterMetadata(metadata.Identity{InstanceID: w.Instance(), ClassID: w.Class, Name: w.Name,
		InstanceName: w.Name, Usage: vss.UsageUserData, Source: vss.SourceOther})
	if err != nil {
		return nil, err
	}
	for _, err := range []error{
		m.SetRestoreMethod(metadata.RestoreMethod{Method: vss.RestoreMethodIfCanReplace, WriterRestore: vss.WriterRestoreAlways}),
		m.AddComponent(metadata.ComponentInfo{Type: vss.ComponentTypeFileGroup, Name: "data", Selectable: true, SelectableForRestore: true}),
		m.AddFilesToFileGroup("", "data", vss.FileSpec{Path: w.Dir, Pattern: "*", Recursive: true}, "", w.mask),
		m.SetBackupSchema(vss.SchemaCopy | vss.SchemaLog),
	} {
		if err != nil {
			return nil, err
		}
	}
	return m, nil
}

// In a log backup a writer whose logs are read where they are is prepared and told
// the end, and hears of no shadow copy that is made for others; in any other type,
// and if its logs need the copy, it is frozen like all.
func TestLogBackupFreezesNobodyWhoseLogsAreReadLive(t *testing.T) {
	ends := []writer.EventKind{writer.EventPrepareForBackup, writer.EventBackupComplete}
	holds := []writer.EventKind{writer.EventPrepareForSnapshot, writer.EventFreeze, writer.EventThaw, writer.EventPostSnapshot}
	const live = vss.LogBackupRequired | vss.FullBackupRequired | vss.FullSnapshotRequired
	for _, tt := range []struct {
		name    string
		typ     vss.BackupType
		mask    vss.FileSpecBackupType
		claimed bool
		frozen  bool
	}{
		{"logs read live", vss.BackupTypeLog, live, false, false},
		{"logs that need the copy", vss.BackupTypeLog, live | vss.LogSnapshotRequired, true, true},
		{"files in the copy all the same", vss.BackupTypeLog, live, true, true},
		{"a full backup", vss.BackupTypeFull, live, true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, "logs", "data")
			r.typ = tt.typ
			w := r.writers[0]
			r.o.InProcess[0] = &masked{w, tt.mask}
			if !tt.claimed {
				r.scope = func(s session.Scope) session.Scope {
					s.Claims = slices.DeleteFunc(s.Claims, func(c provider.Claim) bool { return c.Writer == w.Instance().String() })
					return s
				}
			}
			must(t, r.to("BackupComplete"))
			for _, kind := range ends {
				if n := r.log.Count("logs", kind); n != 1 {
					t.Errorf("%v %d times, want once", kind, n)
				}
			}
			for _, kind := range holds {
				if n := r.log.Count("logs", kind); (n == 1) != tt.frozen || n > 1 {
					t.Errorf("%v %d times; frozen %v", kind, n, tt.frozen)
				}
				if n := r.log.Count("data", kind); n != 1 {
					t.Errorf("the other one got %v %d times", kind, n)
				}
			}
			if n := r.log.Count("logs", writer.EventAbort); n != 0 {
				t.Errorf("Abort %d times", n)
			}
			if st := r.status(w); st.State != vss.WriterStable || st.Failure != vss.OK {
				t.Errorf("%v: %s", st.State, st.Message)
			}
		})
	}
}

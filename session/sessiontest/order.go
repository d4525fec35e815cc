package sessiontest

import (
	"errors"
	"testing"

	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// calls is every call that has a place in the order, under its name.
func (r *rig) calls() map[string]func() error {
	c := ctx(r.t)
	comp := component(r.writers[0])
	return map[string]func() error{
		"InitializeForBackup":  func() error { return r.s.InitializeForBackup(c, nil) },
		"InitializeForRestore": func() error { return r.s.InitializeForRestore(c, nil, nil) },
		"SetContext":           func() error { return r.s.SetContext(c, vss.ContextBackup) },
		"SetBackupState": func() error {
			return r.s.SetBackupState(c, session.BackupState{SelectComponents: true, Type: vss.BackupTypeFull})
		},
		"EnableWriterClasses":    func() error { return r.s.EnableWriterClasses(c, classes[0]) },
		"DisableWriterClasses":   func() error { return r.s.DisableWriterClasses(c, classes[3]) },
		"DisableWriterInstances": func() error { return r.s.DisableWriterInstances(c, classes[3]) },
		"GatherWriterMetadata":   func() error { return r.s.GatherWriterMetadata(c, nil) },
		"WriterMetadata":         func() error { _, err := r.s.WriterMetadata(c); return err },
		"AddComponent":           func() error { return r.s.AddComponent(c, comp) },
		"SetBackupOptions":       func() error { return r.s.SetBackupOptions(c, comp, "o") },
		"SetPreviousBackupStamp": func() error { return r.s.SetPreviousBackupStamp(c, comp, "s") },
		"StartSnapshotSet":       func() error { _, err := r.s.StartSnapshotSet(c); return err },
		"AddToSnapshotSet": func() error {
			_, err := r.s.AddToSnapshotSet(c, "no such volume", vss.GUID{}, session.Scope{})
			return err
		},
		"Estimates":          func() error { _, err := r.s.Estimates(c); return err },
		"PrepareForBackup":   func() error { return r.s.PrepareForBackup(c, nil) },
		"DoSnapshotSet":      func() error { return r.s.DoSnapshotSet(c, nil) },
		"Receipt":            func() error { _, err := r.s.Receipt(c); return err },
		"SetBackupSucceeded": func() error { return r.s.SetBackupSucceeded(c, comp, true) },
		"BackupComplete":     func() error { return r.s.BackupComplete(c, nil) },
		"SaveAsXML":          func() error { _, err := r.s.SaveAsXML(c); return err },
		"SetRestoreState":    func() error { return r.s.SetRestoreState(c, vss.RestoreTypeByCopy) },
		"SetSelectedForRestore": func() error {
			return r.s.SetSelectedForRestore(c, comp, true, vss.GUID{})
		},
		"PreRestore":           func() error { return r.s.PreRestore(c, nil) },
		"SetFileRestoreStatus": func() error { return r.s.SetFileRestoreStatus(c, comp, vss.FileRestoreStatusAll) },
		"PostRestore":          func() error { return r.s.PostRestore(c, nil) },
	}
}

// testOrder takes a backup to each stage and there tries the calls that do not
// belong: each must be VSS_E_BAD_STATE and must not have changed anything, which
// the rest of the backup shows by going on well.
func testOrder(t *testing.T, h Harness) {
	restoreOnly := []string{"SetRestoreState", "SetSelectedForRestore", "PreRestore", "SetFileRestoreStatus", "PostRestore"}
	tests := []struct {
		name  string
		stage stage
		wrong []string
	}{
		{"before InitializeForBackup", 0, []string{"SetContext", "SetBackupState", "GatherWriterMetadata", "AddComponent",
			"StartSnapshotSet", "AddToSnapshotSet", "PrepareForBackup", "DoSnapshotSet", "BackupComplete", "WriterMetadata", "Receipt"}},
		{"after InitializeForBackup", initialized, []string{"InitializeForBackup", "InitializeForRestore", "AddComponent",
			"AddToSnapshotSet", "Estimates", "PrepareForBackup", "DoSnapshotSet", "SetBackupSucceeded", "BackupComplete", "SaveAsXML", "WriterMetadata"}},
		{"after GatherWriterMetadata", metadataGathered, []string{"GatherWriterMetadata", "SetContext", "EnableWriterClasses",
			"DisableWriterClasses", "DisableWriterInstances", "PrepareForBackup", "DoSnapshotSet", "AddToSnapshotSet"}},
		{"after StartSnapshotSet", setStarted, []string{"StartSnapshotSet", "SetContext", "DoSnapshotSet", "SetBackupSucceeded", "BackupComplete"}},
		{"after PrepareForBackup", backupPrepared, []string{"PrepareForBackup", "AddComponent", "SetBackupOptions",
			"SetPreviousBackupStamp", "SetBackupState", "SetBackupSucceeded", "BackupComplete", "SaveAsXML", "Receipt"}},
		{"after DoSnapshotSet", snapshotTaken, []string{"DoSnapshotSet", "AddToSnapshotSet", "StartSnapshotSet", "PrepareForBackup", "Estimates"}},
		{"after BackupComplete", backupCompleted, []string{"BackupComplete", "SetBackupSucceeded", "DoSnapshotSet", "AddToSnapshotSet"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, h, Options{}, "one")
			if tt.stage > 0 {
				must(t, r.run(tt.stage))
			}
			calls := r.calls()
			for _, name := range append(restoreOnly, tt.wrong...) {
				if err := calls[name](); !errors.Is(err, vss.ErrBadState) {
					t.Errorf("%s: error %v, want %v", name, err, vss.ErrBadState)
				}
			}
			// Nothing has changed: the backup goes on to its end, and the
			// writer saw what it sees in one where nobody tried.
			must(t, r.resume(tt.stage, backupCompleted))
			must(t, r.s.Close())
			r.wantEvents(r.writers[0], wholeBackup...)
		})
	}
	t.Run("after Close", func(t *testing.T) {
		r := newRig(t, h, Options{}, "one")
		must(t, r.run(initialized))
		must(t, r.s.Close())
		for name, call := range r.calls() {
			if err := call(); err == nil {
				t.Errorf("%s succeeds on a closed session", name)
			}
		}
		must(t, r.s.Close())
	})
}

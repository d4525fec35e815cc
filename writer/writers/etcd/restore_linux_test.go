package etcd

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/internal/dbtest"
	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// playRestore plays a restore with an outcome; put is what happens between its
// events.
func (a *app) playRestore(outcome vss.FileRestoreStatus, put func()) error {
	a.t.Helper()
	ctx := context.Background()
	w, _, err := a.host(a.spec(a.configured("")))
	if err != nil {
		a.t.Fatal(err)
	}
	doc, err := w.Identify(ctx)
	if err != nil {
		a.t.Fatal(err)
	}
	id, info := doc.Identity(), doc.Components()[0]
	all := metadata.NewBackupComponents()
	c, err := all.AddComponent(metadata.WriterKey{InstanceID: id.InstanceID, ClassID: id.ClassID, Schema: doc.BackupSchema()}, info.Type, info.LogicalPath, info.Name)
	if err == nil {
		err = c.SetBackupMetadata(`{"members":1}`)
	}
	if err == nil {
		err = c.SetSelectedForRestore(true, vss.GUID{})
	}
	if err != nil {
		a.t.Fatal(err)
	}
	part, _ := all.Writer(id.InstanceID)
	e := &writer.Event{SessionID: vss.NewGUID(), Components: part}
	if err := writer.Notify(ctx, w, writer.EventPreRestore, e); err != nil {
		a.t.Fatal(err)
	}
	put()
	if c, _ = e.Components.Component(info.LogicalPath, info.Name); c.SetFileRestoreStatus(outcome) != nil {
		a.t.Fatal("the outcome cannot be set")
	}
	return writer.Notify(ctx, w, writer.EventPostRestore, e)
}

func (a *app) wantStopped(err error, says string) {
	a.t.Helper()
	if err == nil || !strings.Contains(err.Error(), says) {
		a.t.Errorf("error %v; it should say %q", err, says)
	}
	if pid, err := runningIn(a.Dir); err != nil || pid != 0 {
		a.t.Errorf("process %d runs, %v", pid, err)
	}
}

// What a restore that failed has left half done is not started by one after it that
// restores nothing, and what was there before both is kept.
func TestHalfARestoreIsNotStartedByTheNext(t *testing.T) {
	a := newApp(t, dbtest.EtcdOptions{})
	db := filepath.Join(a.Dir, dbName)
	a.wantStopped(a.playRestore(vss.FileRestoreStatusFailed, func() {
		if err := os.WriteFile(db, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}), "restore again")
	a.wantStopped(a.playRestore(vss.FileRestoreStatusNone, func() {}), "half done")
	if _, err := os.Lstat(filepath.Join(a.Dir, asideName, "1", "snap", "db")); err != nil {
		t.Error(err)
	}
}

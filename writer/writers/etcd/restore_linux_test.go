package etcd

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
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
	return a.playOperation(false, false, outcome, put)
}

// playOperation plays one operation of a restore: continues says that there was one
// before it, more that one follows.
func (a *app) playOperation(continues, more bool, outcome vss.FileRestoreStatus, put func()) error {
	a.t.Helper()
	ctx := context.Background()
	w, e := a.beginOperation(continues, more)
	if err := writer.Notify(ctx, w, writer.EventPreRestore, e); err != nil {
		return err
	}
	put()
	a.setOutcome(e, outcome)
	return writer.Notify(ctx, w, writer.EventPostRestore, e)
}

func (a *app) setOutcome(e *writer.Event, outcome vss.FileRestoreStatus) {
	a.t.Helper()
	if err := e.Components.Components()[0].SetFileRestoreStatus(outcome); err != nil {
		a.t.Fatal(err)
	}
}

// beginOperation gives what an operation sends to the writer.
func (a *app) beginOperation(continues, more bool) (writer.Writer, *writer.Event) {
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
		err = errors.Join(c.SetSelectedForRestore(true, vss.GUID{}), c.SetAdditionalRestores(more))
	}
	if err == nil && continues {
		err = c.SetPreviousBackupStamp("the one before")
	}
	if err != nil {
		a.t.Fatal(err)
	}
	part, _ := all.Writer(id.InstanceID)
	return w, &writer.Event{SessionID: vss.NewGUID(), Components: part}
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

// A restore that is refused before it puts anything aside puts nothing back either:
// what is aside is that of a restore before it, whose files are here.
func TestARefusedRestoreDoesNotPutBackWhatAnEarlierOnePutAside(t *testing.T) {
	a := newApp(t, dbtest.EtcdOptions{})
	db := filepath.Join(a.Dir, dbName)
	a.wantStopped(a.playRestore(vss.FileRestoreStatusFailed, func() {
		if err := os.WriteFile(db, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}), "restore again")
	w, e := a.beginOperation(false, false)
	if err := e.Components.Components()[0].SetRestoreOptions(`"cluster"="unknown"`); err != nil {
		t.Fatal(err)
	}
	a.wantStopped(writer.Notify(t.Context(), w, writer.EventPreRestore, e), "only cluster=new")
	a.setOutcome(e, vss.FileRestoreStatusNone)
	if err := writer.Notify(t.Context(), w, writer.EventPostRestore, e); err != nil {
		t.Error(err)
	}
	if pid, err := runningIn(a.Dir); err != nil || pid != 0 {
		t.Errorf("process %d runs, %v", pid, err)
	}
	if got, err := os.ReadFile(db); err != nil || string(got) != "half" {
		t.Errorf("of the restore that failed %d bytes are left, %v", len(got), err)
	}
	if _, err := os.Lstat(filepath.Join(a.Dir, asideName, "1", "snap", "db")); err != nil {
		t.Error(err)
	}
}

// A server that was started after a restore was killed goes on, on its data, when the
// next restore brings nothing; what the killed one has put aside stays.
func TestAServerUsedSinceAKilledRestoreGoesOnWhenNothingIsRestored(t *testing.T) {
	a := newApp(t, dbtest.EtcdOptions{})
	w, e := a.beginOperation(false, false)
	if err := writer.Notify(t.Context(), w, writer.EventPreRestore, e); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(a.Kill(), a.Start(t.Context())); err != nil {
		t.Fatal(err)
	}
	err := a.playRestore(vss.FileRestoreStatusNone, func() {})
	if err == nil || !strings.Contains(err.Error(), "goes on as before") {
		t.Errorf("it says %v", err)
	}
	if pid, err := runningIn(a.Dir); err != nil || pid == 0 {
		t.Errorf("the server does not run (%v)", err)
	}
	if _, err := os.Lstat(filepath.Join(a.Dir, asideName, "1", "snap", "db")); err != nil {
		t.Error(err)
	}
}

// A restore that has stopped the server and cannot move its files says what is where.
func TestARestoreThatCannotPutThingsAsideSaysWhereTheyAre(t *testing.T) {
	a := newApp(t, dbtest.EtcdOptions{})
	if err := os.MkdirAll(filepath.Join(a.Dir, asideName), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(a.Dir, asideName, "1"), nil, 0o644); err != nil { // in the way of a directory
		t.Fatal(err)
	}
	w, e := a.beginOperation(false, false)
	err := writer.Notify(t.Context(), w, writer.EventPreRestore, e)
	a.wantStopped(err, "not a directory")
	a.wantStopped(err, "the server is left stopped, and what was there before is in "+filepath.Join(a.Dir, asideName))
	if _, err := os.Lstat(filepath.Join(a.Dir, dbName)); err != nil {
		t.Error(err)
	}
}

// What one operation of a restore has brought is not mixed with what was there before
// when the next brings nothing, as when it is interrupted while it restores others'
// files.
func TestAnOperationThatRestoresNothingLeavesTheOneBeforeAlone(t *testing.T) {
	a := newApp(t, dbtest.EtcdOptions{})
	stray := filepath.Join(a.Dir, "member", "wal", "00000000000000ff-00000000000000ff.wal")
	if err := a.playOperation(false, true, vss.FileRestoreStatusAll, func() {
		if err := os.WriteFile(stray, []byte("of the backup"), 0o600); err != nil {
			t.Fatal(err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	a.wantStopped(a.playOperation(true, false, vss.FileRestoreStatusNone, func() {}), "kept in")
	if _, err := os.Lstat(filepath.Join(a.Dir, asideName, "1", "snap", "db")); err != nil {
		t.Errorf("what was there before: %v", err)
	}
	if _, err := os.Lstat(filepath.Join(a.Dir, dbName)); err == nil {
		t.Error("the old database lies among the restored files")
	}
}

// firstOperation plays the first of a chain, which restores what lay there before and
// one log file more.
func (a *app) firstOperation() (stray string) {
	a.t.Helper()
	stray = filepath.Join(a.Dir, "member", "wal", "00000000000000ff-00000000000000ff.wal.broken")
	err := a.playOperation(false, true, vss.FileRestoreStatusAll, func() {
		err := os.WriteFile(stray, []byte("of the backup"), 0o600)
		out, copied := exec.Command("cp", "-a", filepath.Join(a.Dir, asideName, "1")+"/.", filepath.Join(a.Dir, "member")).CombinedOutput()
		if err = errors.Join(err, copied); err != nil {
			a.t.Fatal(err, string(out))
		}
	})
	if err != nil {
		a.t.Fatal(err)
	}
	return stray
}

// A restore that ended between two operations, killed perhaps, is not gone on with by
// the first operation of the next: no log of it lies among that one's files.
func TestARestoreAfterAChainThatWasBrokenOffBeginsAnew(t *testing.T) {
	a := newApp(t, dbtest.EtcdOptions{})
	stray := a.firstOperation()
	a.wantStopped(a.playOperation(false, false, vss.FileRestoreStatusFailed, func() {
		if _, err := os.Lstat(stray); err == nil {
			t.Error("a log file of the restore before lies among the files of this one")
		}
	}), "restore again")
}

// The second operation does not stop a server that was started since the first, and
// does not put aside what that has restored.
func TestAChainDoesNotGoOnOverAServerThatWasStarted(t *testing.T) {
	a := newApp(t, dbtest.EtcdOptions{})
	a.firstOperation()
	if err := errors.Join(a.end(), a.Start(t.Context())); err != nil {
		t.Fatal(err)
	}
	err := a.playOperation(true, false, vss.FileRestoreStatusAll, func() { t.Error("the operation went on") })
	if err == nil || !strings.Contains(err.Error(), "before all backups of the chain") {
		t.Errorf("error %v", err)
	}
	if pid, err := runningIn(a.Dir); err != nil || pid == 0 {
		t.Errorf("process %d runs, %v", pid, err)
	}
}

// What a server has written that was started on the first part of a chain, and stopped
// again, is noticed and is there still, however often the chain is gone on with.
func TestAChainDoesNotGoOnOverWhatAServerHasWrittenThatWasStoppedAgain(t *testing.T) {
	a := newApp(t, dbtest.EtcdOptions{})
	n := a.acknowledged.Load()
	a.firstOperation()
	if _, err := a.check(); err != nil {
		t.Fatal(err)
	}
	a.commits(3)
	if err := a.end(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		w, e := a.beginOperation(true, false)
		a.wantStopped(writer.Notify(t.Context(), w, writer.EventPreRestore, e), "not as the chain's last restore left them")
		a.setOutcome(e, vss.FileRestoreStatusNone)
		a.wantStopped(writer.Notify(t.Context(), w, writer.EventPostRestore, e), "not as the chain's last restore left them")
	}
	if got, err := a.check(); err != nil || got != n+3 {
		t.Errorf("the server has %d transactions, %v; it had %d", got, err, n+3)
	}
}

// A chain of which nobody has touched what its first part restored goes on.
func TestAChainGoesOnOverWhatItHasRestored(t *testing.T) {
	a := newApp(t, dbtest.EtcdOptions{})
	a.firstOperation()
	w, e := a.beginOperation(true, true)
	if err := writer.Notify(t.Context(), w, writer.EventPreRestore, e); err != nil {
		t.Error(err)
	}
}

// A restore that succeeds removes what it has put aside, and what those before it have
// that did not end. What a server has run after stays, also when another succeeds.
func TestARestoreThatSucceedsRemovesOnlyWhatItHasPutAside(t *testing.T) {
	a := newApp(t, dbtest.EtcdOptions{})
	n := a.acknowledged.Load()
	home := filepath.Join(a.Dir, asideName)
	fails := func() {
		t.Helper()
		a.wantStopped(a.playRestore(vss.FileRestoreStatusFailed, func() {}), "restore again")
	}
	succeeds := func() *writer.Failure {
		t.Helper()
		w, e := a.beginOperation(false, false)
		if err := writer.Notify(t.Context(), w, writer.EventPreRestore, e); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("cp", "-a", filepath.Join(home, "1")+"/.", filepath.Join(a.Dir, "member")).CombinedOutput()
		if err != nil {
			t.Fatal(err, string(out))
		}
		a.setOutcome(e, vss.FileRestoreStatusAll)
		if err := writer.Notify(t.Context(), w, writer.EventPostRestore, e); err != nil {
			t.Fatal(err)
		}
		return e.Failure
	}

	fails()
	if f := succeeds(); f != nil {
		t.Errorf("the note is %+v", f)
	}
	if _, err := os.Lstat(home); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is left: %v", home, err)
	}

	fails()
	if err := errors.Join(a.Stop(t.Context()), a.Start(t.Context())); err != nil {
		t.Fatal(err) // somebody gave up, and began with an empty one
	}
	for range 2 {
		if f := succeeds(); f == nil || f.Code != vss.OK || !strings.Contains(f.Message, home+" has what was there before") {
			t.Errorf("the note is %+v", f)
		}
		left, err := os.ReadDir(home)
		if err != nil || len(left) != 1 || left[0].Name() != "1" {
			t.Fatalf("in %s are %v, %v; there should be 1 alone", home, left, err)
		}
		if _, err := os.Lstat(filepath.Join(home, "1", "snap", "db")); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := a.check(); err != nil || got != n {
		t.Errorf("the server has %d transactions, %v; it had %d", got, err, n)
	}
}

// Beside the live server the copy is started as the documentation says, and has what
// there was; the live one goes on meanwhile.
func TestARestoreBesideIsStartedByItself(t *testing.T) {
	a := newApp(t, dbtest.EtcdOptions{})
	n, beside := a.acknowledged.Load(), filepath.Join(scratch(t), "beside")
	w, e := a.beginOperation(false, false)
	doc, err := w.Identify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, set := range doc.Components()[0].FileSets {
		to := strings.Replace(set.Path, a.Dir, beside, 1)
		if err := e.Components.Components()[0].AddNewTarget(metadata.NewTarget{FileSpec: set.FileSpec, NewPath: to}); err != nil {
			t.Fatal(err)
		}
	}
	if err := writer.Notify(t.Context(), w, writer.EventPreRestore, e); err != nil {
		t.Fatal(err)
	}
	a.copyTo(beside)
	a.commits(1)
	a.setOutcome(e, vss.FileRestoreStatusAll)
	if err := writer.Notify(t.Context(), w, writer.EventPostRestore, e); err != nil {
		t.Fatal(err)
	}
	b, err := dbtest.StartEtcd(t.Context(), dbtest.EtcdOptions{Dir: beside, Args: []string{"--force-new-cluster"}})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if got, err := (&app{t: t, Etcd: b}).holds(t.Context()); err != nil || got != n {
		t.Errorf("the copy has %d transactions, %v; there were %d", got, err, n)
	}
	if got, err := a.holds(t.Context()); err != nil || got != n+1 {
		t.Errorf("the live server has %d transactions, %v; it had %d", got, err, n+1)
	}
}

// copyTo copies the server's files of one instant.
func (a *app) copyTo(dir string) {
	a.t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		a.t.Fatal(err)
	}
	if err := errors.Join(os.Chown(dir, a.UID, a.GID), syscall.Kill(a.PID, syscall.SIGSTOP)); err != nil {
		a.t.Fatal(err)
	}
	out, err := exec.Command("cp", "-a", filepath.Join(a.Dir, "member"), dir).CombinedOutput()
	if err := errors.Join(err, syscall.Kill(a.PID, syscall.SIGCONT)); err != nil {
		a.t.Fatal(err, string(out))
	}
}

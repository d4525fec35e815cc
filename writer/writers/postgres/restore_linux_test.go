package postgres

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/internal/dbtest"
	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// stored is a backup of a stopped or killed cluster: its files, and its writer for
// a restore.
type stored struct {
	c     *cluster
	files string
	doc   *metadata.WriterMetadata
}

// store keeps the files of the cluster as they are; nothing runs on them.
func (c *cluster) store() *stored {
	c.t.Helper()
	doc, err := c.local().Identify(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	s := &stored{c: c, files: filepath.Join(filepath.Dir(c.Dir), "saved"), doc: doc}
	c.copy(c.Dir+"/.", s.files)
	return s
}

// copy copies a directory with owners and modes.
func (c *cluster) copy(from, to string) {
	c.t.Helper()
	if out, err := exec.Command("cp", "-a", "--", from, to).CombinedOutput(); err != nil {
		c.t.Fatalf("%s: %v", out, err)
	}
}

// operation is one restore operation that a test plays.
type operation struct {
	s *stored
	w *writer.Remote
	e writer.Event
}

// begin chooses the cluster for a restore.
func (s *stored) begin(prev vss.BackupStamp) *operation {
	t := s.c.t
	t.Helper()
	info, err := os.Stat(filepath.Dir(s.c.Dir) + "/saved")
	if err != nil {
		t.Fatal(err)
	}
	uid, gid := ids(info)
	specs, err := Kind{}.Discover(t.Context(), writer.Discovery{Stored: []writer.Stored{{Metadata: s.doc, Owner: writer.Owner{UID: uid, GID: gid, Groups: []uint32{gid}}}}})
	if err != nil || len(specs) != 1 {
		t.Fatalf("Discover gave %v, %v", specs, err)
	}
	w, _, err := s.c.hostOf(specs[0])
	if err != nil {
		t.Fatal(err)
	}
	doc, err := w.Identify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	id := doc.Identity()
	bcd := metadata.NewBackupComponents()
	part, err := bcd.AddComponent(metadata.WriterKey{InstanceID: id.InstanceID, ClassID: id.ClassID, Schema: doc.BackupSchema()}, vss.ComponentTypeDatabase, "", s.c.Dir)
	if err == nil {
		err = part.SetSelectedForRestore(true, vss.GUID{})
	}
	if err == nil && prev != "" {
		err = part.SetPreviousBackupStamp(prev)
	}
	if err != nil {
		t.Fatal(err)
	}
	o := &operation{s: s, w: w, e: writer.Event{SessionID: vss.NewGUID(), Limit: time.Minute, RestoreType: vss.RestoreTypeByCopy}}
	o.e.Components, _ = bcd.Writer(id.InstanceID)
	return o
}

func (o *operation) pre() error {
	e := o.e
	err := writer.Notify(o.s.c.t.Context(), o.w, writer.EventPreRestore, &e)
	if err == nil {
		o.e.Components = e.Components
	}
	return err
}

func (o *operation) post(status vss.FileRestoreStatus) error {
	o.s.c.t.Helper()
	part, _ := o.e.Components.Component("", o.s.c.Dir)
	if err := part.SetFileRestoreStatus(status); err != nil {
		o.s.c.t.Fatal(err)
	}
	e := o.e
	return writer.Notify(o.s.c.t.Context(), o.w, writer.EventPostRestore, &e)
}

// put writes the saved files.
func (o *operation) put() { o.s.c.copy(o.s.files+"/.", o.s.c.Dir) }

func says(t *testing.T, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("error %v; it should say %q", err, text)
	}
}

// A cluster whose log is good for crash recovery alone comes back, too.
func TestClusterWithMinimalLogIsRestored(t *testing.T) {
	c := newCluster(t, dbtest.PostgresOptions{Settings: map[string]string{"wal_level": "minimal", "max_wal_senders": "0"}}, config{})
	c.write(100)
	if err := c.Kill(); err != nil {
		t.Fatal(err)
	}
	s := c.store()
	o := s.begin("")
	if err := o.pre(); err != nil {
		t.Fatal(err)
	}
	o.put()
	if err := o.post(vss.FileRestoreStatusAll); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n, err := c.check(); err != nil || n != 100 {
		t.Errorf("restored are %d numbers, %v; want 100", n, err)
	}
}

// A server that somebody starts while files are restored is not joined by another
// one, whatever the outcome, and what was put aside stays.
func TestServerStartedDuringARestoreIsNoticed(t *testing.T) {
	c := newCluster(t, dbtest.PostgresOptions{}, config{})
	c.write(10)
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	s := c.store()
	o := s.begin("")
	if err := o.pre(); err != nil {
		t.Fatal(err)
	}
	o.put()
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, status := range []vss.FileRestoreStatus{vss.FileRestoreStatusAll, vss.FileRestoreStatusNone} {
		err := o.post(status)
		says(t, err, "was started")
		says(t, err, asideName)
	}
	if n, err := c.check(); err != nil || n != 10 {
		t.Errorf("the server that runs has %d numbers, %v", n, err)
	}
	says(t, s.begin("{}").pre(), "was started")
	if !c.Alive() {
		t.Error("it was stopped by the next operation of the chain")
	}
	if _, err := os.Lstat(filepath.Join(c.Dir, asideName, "base")); err != nil {
		t.Error(err)
	}
}

// What is put aside when a restore breaks off before all was moved is completed by
// the next, and nothing of the old cluster is lost.
func TestInterruptedPuttingAsideLosesNothing(t *testing.T) {
	c := newCluster(t, dbtest.PostgresOptions{}, config{})
	c.write(10)
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	s := c.store()
	// A file where the directory for things put aside goes in the log's.
	block := filepath.Join(c.Dir, "pg_wal", asideName)
	if err := os.WriteFile(block, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.begin("").pre(); err == nil {
		t.Fatal("everything could be moved aside")
	}
	if err := os.Remove(block); err != nil {
		t.Fatal(err)
	}
	o := s.begin("")
	if err := o.pre(); err != nil {
		t.Fatal(err)
	}
	if err := o.post(vss.FileRestoreStatusNone); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n, err := c.check(); err != nil || n != 10 {
		t.Errorf("put back are %d numbers, %v; want 10", n, err)
	}
}

// A base backup is of no use without its label, which is excluded of a cluster that
// ran: so it is left to those who save files as they are.
func TestBaseBackupIsNoCluster(t *testing.T) {
	c := newCluster(t, dbtest.PostgresOptions{}, config{})
	base := c.directory("base")
	if _, err := c.Run(t.Context(), "pg_basebackup", "-D", base, "-X", "none", "--no-sync", "-c", "fast"); err != nil {
		t.Fatal(err)
	}
	specs, err := Kind{}.Discover(t.Context(), writer.Discovery{Auto: true, Paths: []string{base}})
	if err != nil || len(specs) != 1 {
		t.Fatalf("Discover gave %v, %v", specs, err)
	}
	if _, err := (Kind{}).New(t.Context(), specs[0]); !errors.Is(err, writer.ErrNotMine) {
		t.Errorf("a base backup that was found: %v", err)
	}
	other := *c
	other.conf = config{Data: base}
	_, err = Kind{}.New(t.Context(), other.spec())
	says(t, err, "base backup")
	if errors.Is(err, writer.ErrNotMine) {
		t.Error("a base backup that was configured is passed over in silence")
	}
}

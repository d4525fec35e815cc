package mariadb

import (
	"context"
	"encoding/json"
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

// found gives what Discover finds.
func found(t *testing.T, d writer.Discovery) map[string]spec {
	t.Helper()
	specs, err := Kind{}.Discover(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]spec)
	for _, s := range specs {
		var c spec
		if err := json.Unmarshal(s.Config, &c); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(s.Name, "mariadb:"+c.Datadir) {
			t.Errorf("it is named %q", s.Name)
		}
		all[c.Datadir] = c
	}
	return all
}

func TestServersAreFoundByProcessAndByFiles(t *testing.T) {
	r := newRig(t, dbtest.MariaDBOptions{})
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(r.dir, link); err != nil {
		t.Fatal(err)
	}
	for name, paths := range map[string][]string{"above": {r.dir}, "itself": {r.m.Dir}, "below": {filepath.Join(r.m.Dir, "mysql")}, "by a link": {link},
		"twice": {r.dir, r.m.Dir}} {
		all := found(t, writer.Discovery{Auto: true, Paths: paths})
		if c := all[r.m.Dir]; len(all) != 1 || c.PID != r.m.PID || c.Socket != r.m.Socket {
			t.Errorf("%s: found %+v, want process %d on %s", name, all, r.m.PID, r.m.Socket)
		}
	}
	for name, d := range map[string]writer.Discovery{
		"elsewhere":     {Auto: true, Paths: []string{t.TempDir()}},
		"not asked for": {Paths: []string{r.dir}},
		"excluded":      {Auto: true, Paths: []string{r.dir}, Exclude: func(path string) bool { return path == r.m.Dir }},
		"a dead link":   {Auto: true, Paths: []string{deadLink(t)}},
	} {
		if all := found(t, d); len(all) != 0 {
			t.Errorf("%s: found %+v", name, all)
		}
	}
	// Whatever runs is found, others' servers too.
	for name, d := range map[string]writer.Discovery{"without paths": {Auto: true, Running: true}, "with others": {Auto: true, Running: true, Paths: []string{t.TempDir()}}} {
		if c := found(t, d)[r.m.Dir]; c.PID != r.m.PID {
			t.Errorf("%s: found process %d, want %d", name, c.PID, r.m.PID)
		}
	}
	if err := r.m.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	all := found(t, writer.Discovery{Auto: true, Paths: []string{r.dir}})
	if c, ok := all[r.m.Dir]; !ok || len(all) != 1 || c.PID != 0 {
		t.Errorf("stopped: found %+v", all)
	}
}

func deadLink(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "dead")
	if err := os.Symlink("/nonexistent", path); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestWhatLiesOutsideTheDataDirectoryIsDeclared(t *testing.T) {
	dir, err := dbtest.Scratch("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for _, sub := range []string{"logs", "undo", "tables"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(dir, sub), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	r := newRig(t, dbtest.MariaDBOptions{LogBin: filepath.Join(dir, "logs", "bin")})
	r.sql("CREATE TABLE d.far (n INT) DATA DIRECTORY='"+filepath.Join(dir, "tables")+"'", "CREATE TABLE d.farther (n INT) ENGINE=MyISAM DATA DIRECTORY='"+filepath.Join(dir, "tables")+"'")
	doc, err := r.writer(t).Identify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	has := make(map[string]metadata.FileSetKind)
	for _, s := range doc.Components()[0].FileSets {
		has[filepath.Join(s.Path, s.Pattern)] = s.Kind
	}
	for path, kind := range map[string]metadata.FileSetKind{
		filepath.Join(r.m.Dir, "*"):                                      metadata.DatabaseFiles,
		filepath.Join(r.m.Dir, "d", "*"):                                 metadata.DatabaseFiles,
		filepath.Join(dir, "tables", "d", "far.ibd"):                     metadata.DatabaseFiles,
		filepath.Join(dir, "tables", "farther.MYD"):                      metadata.DatabaseFiles,
		filepath.Join(dir, "logs", "bin.*"):                              metadata.DatabaseLogFiles,
		filepath.Join(spoolAt(r.m.Dir, filepath.Join(dir, "logs")), "*"): metadata.DatabaseLogFiles,
	} {
		if got, ok := has[path]; !ok || got != kind {
			t.Errorf("%s: declared %v as %v, want %v; all: %v", path, ok, got, kind, has)
		}
	}
	for _, p := range doc.Validate(0) {
		t.Error(p)
	}
}

// TestAServerThatRootHasStartedIsFoundAndRestored: it has become its user by itself,
// and the kernel keeps what it tells of it to root.
func TestAServerThatRootHasStartedIsFoundAndRestored(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("not root: a server cannot change its user")
	}
	r := newRig(t, dbtest.MariaDBOptions{})
	r.sql("INSERT INTO d.t VALUES (1)")
	if err := r.m.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	args := append(r.m.Command(), "--user=mysql")
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = r.dir
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go cmd.Wait() // it is stopped by the writer
	for begun := time.Now(); r.db.Ping() != nil; time.Sleep(20 * time.Millisecond) {
		if time.Since(begun) > 30*time.Second {
			t.Fatal("the server does not start")
		}
	}
	s := r.spec()
	var c spec
	if err := json.Unmarshal(s.Config, &c); err != nil {
		t.Fatal(err)
	}
	if c.PID != cmd.Process.Pid || c.Socket != r.m.Socket {
		t.Errorf("found process %d on %q, want %d on %q", c.PID, c.Socket, cmd.Process.Pid, r.m.Socket)
	}
	w, _, err := r.host(t, s)
	if err != nil {
		t.Fatal(err)
	}
	if err := playRestore(t.Context(), w, vss.FileRestoreStatusNone); err != nil {
		t.Fatal(err)
	}
	pid, err := lockedBy(r.m.Dir)
	if err != nil || pid == 0 || pid == cmd.Process.Pid {
		t.Errorf("after the restore process %d runs, %v; want a new one", pid, err)
	}
	if n, err := r.check(); err != nil || n != 1 {
		t.Errorf("it holds %d numbers, %v", n, err)
	}
}

// playRestore plays a restore with an outcome, in which no file is written.
func playRestore(ctx context.Context, w writer.Writer, outcome vss.FileRestoreStatus) error {
	e, err := beginRestore(ctx, w)
	if err == nil {
		err = writer.Notify(ctx, w, writer.EventPreRestore, e)
	}
	if err == nil {
		err = e.Components.Components()[0].SetFileRestoreStatus(outcome)
	}
	if err == nil {
		err = writer.Notify(ctx, w, writer.EventPostRestore, e)
	}
	return err
}

// beginRestore gives what a restore sends to a writer.
func beginRestore(ctx context.Context, w writer.Writer) (*writer.Event, error) {
	doc, err := w.Identify(ctx)
	if err != nil {
		return nil, err
	}
	id, info := doc.Identity(), doc.Components()[0]
	all := metadata.NewBackupComponents()
	if err := all.SetBackupState(metadata.BackupState{SelectComponents: true, Type: vss.BackupTypeFull}); err != nil {
		return nil, err
	}
	c, err := all.AddComponent(metadata.WriterKey{InstanceID: id.InstanceID, ClassID: id.ClassID, Schema: doc.BackupSchema()}, info.Type, info.LogicalPath, info.Name)
	if err == nil {
		err = c.SetSelectedForRestore(true, vss.GUID{})
	}
	if err != nil {
		return nil, err
	}
	part, _ := all.Writer(id.InstanceID)
	return &writer.Event{SessionID: vss.NewGUID(), Components: part}, nil
}

package mariadb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/internal/dbtest"
	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// played is what came of a backup that a test played.
type played struct {
	stamp  string
	linked []string // the logs that were to be saved
}

// play plays a backup of one type. previous is the base's stamp, empty for none.
func play(ctx context.Context, w writer.Writer, kind vss.BackupType, previous string, succeeded bool) (p played, err error) {
	doc, err := w.Identify(ctx)
	if err != nil {
		return p, err
	}
	id, info := doc.Identity(), doc.Components()[0]
	all := metadata.NewBackupComponents()
	if err := all.SetBackupState(metadata.BackupState{SelectComponents: true, Type: kind}); err != nil {
		return p, err
	}
	c, err := all.AddComponent(metadata.WriterKey{InstanceID: id.InstanceID, ClassID: id.ClassID, Schema: doc.BackupSchema()}, info.Type, info.LogicalPath, info.Name)
	if err == nil && previous != "" {
		err = c.SetPreviousBackupStamp(vss.BackupStamp(previous))
	}
	if err != nil {
		return p, err
	}
	part, _ := all.Writer(id.InstanceID)
	e := &writer.Event{SessionID: vss.NewGUID(), State: writer.BackupState{SelectComponents: true, Type: kind}, Components: part}
	events := []writer.EventKind{writer.EventPrepareForBackup, writer.EventPrepareForSnapshot, writer.EventFreeze, writer.EventThaw, writer.EventPostSnapshot}
	logs := kind == vss.BackupTypeLog && previous != ""
	if logs {
		events = events[:1]
	}
	for _, kind := range events {
		if err := writer.Notify(ctx, w, kind, e); err != nil {
			return p, errors.Join(err, w.Abort(ctx, e), writer.Notify(ctx, w, writer.EventBackupShutdown, e))
		}
	}
	c, _ = e.Components.Component("", info.Name)
	stamp, _ := c.BackupStamp()
	p.stamp = string(stamp)
	for _, set := range info.FileSets {
		if set.BackupType == logsOnly {
			if p.linked, err = spooled(set.Path); err != nil {
				return p, err
			}
		}
	}
	if err := c.SetBackupSucceeded(succeeded); err != nil {
		return p, err
	}
	return p, errors.Join(writer.Notify(ctx, w, writer.EventBackupComplete, e), writer.Notify(ctx, w, writer.EventBackupShutdown, e))
}

func (r *rig) writer(t testing.TB) writer.Writer {
	t.Helper()
	w, _, err := r.host(t, r.spec())
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (r *rig) logs() []string {
	r.t.Helper()
	names, err := logNames(r.t.Context(), r.db)
	if err != nil {
		r.t.Fatal(err)
	}
	return names
}

// TestBinaryLogsArePurgedByTypeAndOutcome is the table of docs/writers/mariadb.md.
func TestBinaryLogsArePurgedByTypeAndOutcome(t *testing.T) {
	r := newRig(t, dbtest.MariaDBOptions{})
	w := r.writer(t)
	base, err := play(t.Context(), w, vss.BackupTypeFull, "", true)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		kind      vss.BackupType
		keep      string
		succeeded bool
		purges    bool
	}{
		{vss.BackupTypeCopy, "", true, false},
		{vss.BackupTypeDifferential, "", true, false},
		{vss.BackupTypeLog, "", false, false},
		{vss.BackupTypeFull, "", false, false},
		{vss.BackupTypeIncremental, "", false, false},
		{vss.BackupTypeLog, keepAlways, true, false},
		{vss.BackupTypeFull, "1h", true, false},
		{vss.BackupTypeLog, "", true, true},
		{vss.BackupTypeIncremental, "", true, true},
		{vss.BackupTypeFull, "", true, true},
		{vss.BackupTypeFull, "1ms", true, true},
	} {
		t.Run(fmt.Sprint(c.kind, " keep ", c.keep, " succeeded ", c.succeeded), func(t *testing.T) {
			r.conf.KeepLogs = c.keep
			w := r.writer(t)
			r.sql("FLUSH BINARY LOGS")
			time.Sleep(2 * time.Millisecond)
			before := r.logs()
			previous := base.stamp
			if c.kind == vss.BackupTypeFull || c.kind == vss.BackupTypeCopy {
				previous = ""
			}
			got, err := play(t.Context(), w, c.kind, previous, c.succeeded)
			if err != nil {
				t.Fatal(err)
			}
			after := r.logs()
			if gone := after[0] != before[0]; gone != c.purges {
				t.Errorf("logs %v, then %v: purged %v, want %v", before, after, gone, c.purges)
			}
			s, err := parseStamp(vss.BackupStamp(got.stamp))
			if err != nil {
				t.Fatal(err)
			}
			if c.purges && after[0] != s.file {
				t.Errorf("the oldest log is %s; the next log backup goes on at %s", after[0], s.file)
			}
			if c.purges {
				base = got
			}
			if left, _ := os.ReadDir(filepath.Join(r.m.Dir, "mysql", spoolName)); len(left) > 0 {
				t.Errorf("links are left: %v", left)
			}
		})
	}
}

func TestALogBackupHasAllLogsSinceItsBase(t *testing.T) {
	r := newRig(t, dbtest.MariaDBOptions{})
	w := r.writer(t)
	full, err := play(t.Context(), w, vss.BackupTypeFull, "", true)
	if err != nil {
		t.Fatal(err)
	}
	r.sql("INSERT INTO d.t VALUES (1)", "FLUSH BINARY LOGS", "INSERT INTO d.t VALUES (2)")
	want := r.logs()
	got, err := play(t.Context(), w, vss.BackupTypeLog, full.stamp, true)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got.linked, want) {
		t.Errorf("it saves %v, want %v", got.linked, want)
	}
	again, err := play(t.Context(), w, vss.BackupTypeLog, got.stamp, true)
	if err != nil {
		t.Fatal(err)
	}
	s, _ := parseStamp(vss.BackupStamp(got.stamp))
	if !slices.Equal(again.linked, []string{s.file}) {
		t.Errorf("the next saves %v, want %s alone", again.linked, s.file)
	}
	// Logs of the same names that are others.
	r.sql("RESET MASTER", "FLUSH BINARY LOGS", "FLUSH BINARY LOGS", "FLUSH BINARY LOGS", "FLUSH BINARY LOGS", "FLUSH BINARY LOGS", "INSERT INTO d.t VALUES (3)")
	if _, err := play(t.Context(), w, vss.BackupTypeLog, again.stamp, true); err == nil || !strings.Contains(err.Error(), "make a full backup") {
		t.Errorf("after RESET MASTER: %v, want a refusal that says to make a full backup", err)
	}
}

// After an empty GTID two RESET MASTER leave name, position and GTID as they were, and
// what was committed in between is in no log.
func TestLogsBegunAnewBehindAnEmptyGTIDAreNoticed(t *testing.T) {
	r := newRig(t, dbtest.MariaDBOptions{})
	w := r.writer(t)
	r.sql("RESET MASTER")
	full, err := play(t.Context(), w, vss.BackupTypeFull, "", true)
	if err != nil {
		t.Fatal(err)
	}
	before, err := parseStamp(vss.BackupStamp(full.stamp))
	if err != nil || before.gtid != "" {
		t.Fatalf("stamp %q, %v; want one without GTID", full.stamp, err)
	}
	r.sql("RESET MASTER", "INSERT INTO d.t VALUES (1)", "RESET MASTER")
	if _, err := play(t.Context(), w, vss.BackupTypeLog, full.stamp, true); err == nil || !strings.Contains(err.Error(), "make a full backup") {
		t.Errorf("%v, want a refusal that says to make a full backup", err)
	}
	// The chain goes on from one that is.
	if full, err = play(t.Context(), w, vss.BackupTypeFull, "", true); err != nil {
		t.Fatal(err)
	}
	if _, err := play(t.Context(), w, vss.BackupTypeLog, full.stamp, true); err != nil {
		t.Error(err)
	}
}

func TestWithoutBinaryLogALogBackupIsRefusedWithTheWayOut(t *testing.T) {
	r := newRig(t, dbtest.MariaDBOptions{LogBin: "-"})
	w := r.writer(t)
	full, err := play(t.Context(), w, vss.BackupTypeFull, "", true)
	if err != nil {
		t.Fatal(err)
	}
	for _, previous := range []string{"", full.stamp} {
		if _, err := play(t.Context(), w, vss.BackupTypeLog, previous, true); err == nil || !strings.Contains(err.Error(), "set log_bin") {
			t.Errorf("previous stamp %q: %v, want a refusal that says to set log_bin", previous, err)
		}
	}
	if _, err := play(t.Context(), w, vss.BackupTypeCopy, "", true); err != nil {
		t.Error(err)
	}
}

func TestADatabaseMadeMeanwhileIsNotForgotten(t *testing.T) {
	r := newRig(t, dbtest.MariaDBOptions{})
	w := r.writer(t)
	ctx := t.Context()
	if _, err := w.Identify(ctx); err != nil {
		t.Fatal(err)
	}
	r.sql("CREATE DATABASE late")
	err := w.Freeze(ctx, &writer.Event{SessionID: vss.NewGUID()})
	if vss.CodeOf(err) != vss.ErrWriterErrorRetryable || !strings.Contains(err.Error(), "late") {
		t.Errorf("Freeze: %v, want a retryable refusal that names the database", err)
	}
	r.sql("INSERT INTO d.t VALUES (1)", "CREATE TABLE late.t (n INT)") // nothing is held
}

func TestAServerThatDoesNotRunIsHeldByItsOwnLocks(t *testing.T) {
	r := newRig(t, dbtest.MariaDBOptions{})
	r.sql("INSERT INTO d.t VALUES (1)")
	ctx := t.Context()
	if err := r.m.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	w := r.writer(t)
	if d := w.Describe(); d.Stillness != writer.FilesStill {
		t.Errorf("stillness %v, want that files are still", d.Stillness)
	}
	if _, err := w.Identify(ctx); err != nil {
		t.Fatal(err)
	}
	e := &writer.Event{SessionID: vss.NewGUID()}
	if err := w.Freeze(ctx, e); err != nil {
		t.Fatal(err)
	}
	for _, name := range lockFiles {
		if pid, err := holder(filepath.Join(r.m.Dir, name)); err != nil || pid == 0 {
			t.Errorf("%s is locked by process %d, %v", name, pid, err)
		}
	}
	if err := w.Thaw(ctx, e); err != nil {
		t.Fatal(err)
	}
	if err := r.m.Start(ctx); err != nil {
		t.Fatal(err)
	}
	// Started since the writer was made: it is not still.
	if err := w.Freeze(ctx, e); vss.CodeOf(err) != vss.ErrWriterErrorRetryable {
		t.Errorf("Freeze of a server that was started meanwhile: %v, want a retryable refusal", err)
	}
}

func TestOtherVersionsAreRefused(t *testing.T) {
	for version, ok := range map[string]bool{"10.11.19-MariaDB-0+deb12u1-log": true, "10.11.2-MariaDB": true, "10.6.18-MariaDB": false,
		"11.4.2-MariaDB": false, "8.0.36": false, "10.1.1-MariaDB": false, "10.110.1-MariaDB": false} {
		if err := checkVersion(version, false); (err == nil) != ok {
			t.Errorf("%s: %v, want accepted %v", version, err, ok)
		}
		if err := checkVersion(version, true); err != nil {
			t.Errorf("%s with any_version: %v", version, err)
		}
	}
	r := newRig(t, dbtest.MariaDBOptions{})
	if err := r.m.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(r.m.Dir, "mysql_upgrade_info"), []byte("10.6.18-MariaDB"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := r.writer(t).Identify(t.Context()); err == nil || !strings.Contains(err.Error(), "any_version") {
		t.Errorf("the data of a stopped 10.6: %v, want a refusal with the way out", err)
	}
}

func TestAnOptionFileOpenToOthersIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "my.cnf")
	if err := os.WriteFile(path, []byte("[mysqld]\nuser=x\n[client]\n# c\nuser = sombra\npassword='a b#c'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := readOptionFile(path)
	if err != nil || l != (login{"sombra", "a b#c"}) {
		t.Errorf("%v, %v", l, err)
	}
	for _, mode := range []os.FileMode{0o604, 0o660, 0o644} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := readOptionFile(path); err == nil {
			t.Errorf("a file of mode %04o was read", mode)
		}
	}
}

func TestAnAccountWithAPasswordNeedsNoSocketAuthentication(t *testing.T) {
	r := newRig(t, dbtest.MariaDBOptions{})
	const secret = "Only-4-This-Test"
	r.sql("CREATE USER sombra@localhost IDENTIFIED BY '"+secret+"'", "GRANT RELOAD, BINLOG MONITOR, BINLOG ADMIN ON *.* TO sombra@localhost", "DROP USER mysql@localhost")
	file := filepath.Join(r.dir, "sombra.cnf")
	if err := os.WriteFile(file, []byte("[client]\nuser=sombra\npassword="+secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(file, r.m.UID, r.m.GID); err != nil {
		t.Fatal(err)
	}
	if _, err := r.writer(t).Identify(t.Context()); err == nil || !strings.Contains(err.Error(), "CREATE USER") {
		t.Errorf("without an account: %v, want the way out", err)
	}
	r.conf.OptionFile = file
	w := r.writer(t)
	if _, err := play(t.Context(), w, vss.BackupTypeFull, "", true); err != nil {
		t.Error(err)
	}
	doc, err := w.Identify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(doc.SaveAsXML()), secret) {
		t.Error("the password is in the document")
	}
}

func TestConfigurationIsChecked(t *testing.T) {
	for text, want := range map[string]string{
		`{"datadir": "relative"}`:                         "not absolute",
		`{"datadir": "/x", "keep_logs": "soon"}`:          "keep_logs",
		`{"datadir": "/x", "socket": "s"}`:                "not absolute",
		`{"datadir": "/x", "start": ["mariadbd"]}`:        "not absolute",
		`{"datadir": "/x", "password": "x"}`:              "unknown field",
		`{"datadir": "/x", "keep_logs": "72h", "user":1}`: "user",
	} {
		if _, err := parseSettings(json.RawMessage(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want it to say %q", text, err, want)
		}
	}
}

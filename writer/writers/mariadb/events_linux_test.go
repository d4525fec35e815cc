package mariadb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
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
	said   string   // in BackupComplete
	linked []string // the logs that were to be saved
	notes  string   // kept with the backup
}

// play plays a backup of one type. previous is the base's stamp, empty for none.
func play(ctx context.Context, w writer.Writer, kind vss.BackupType, previous string, succeeded bool) (played, error) {
	return playUntil(ctx, w, kind, previous, succeeded, func() {})
}

// playUntil does something before BackupComplete.
func playUntil(ctx context.Context, w writer.Writer, kind vss.BackupType, previous string, succeeded bool, saved func()) (p played, err error) {
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
	p.notes, _ = c.BackupMetadata()
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
	saved()
	err = writer.Notify(ctx, w, writer.EventBackupComplete, e)
	if e.Failure != nil {
		p.said = e.Failure.Message
	}
	return p, errors.Join(err, writer.Notify(ctx, w, writer.EventBackupShutdown, e))
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
		whose     string // configuration, if it does not say logs: true
	}{
		{kind: vss.BackupTypeFull, succeeded: true, whose: "found"},
		{kind: vss.BackupTypeIncremental, succeeded: true, whose: "found"},
		{kind: vss.BackupTypeLog, succeeded: true, whose: "found"},
		{kind: vss.BackupTypeFull, succeeded: true, whose: "without logs"},
		{kind: vss.BackupTypeIncremental, succeeded: true, whose: "without logs"},
		{kind: vss.BackupTypeLog, succeeded: true, whose: "without logs"},
		{kind: vss.BackupTypeFull, keep: keepAlways, succeeded: true, whose: "without logs"},
		{vss.BackupTypeCopy, "", true, false, ""},
		{vss.BackupTypeDifferential, "", true, false, ""},
		{vss.BackupTypeLog, "", false, false, ""},
		{vss.BackupTypeFull, "", false, false, ""},
		{vss.BackupTypeIncremental, "", false, false, ""},
		{vss.BackupTypeLog, keepAlways, true, false, ""},
		{vss.BackupTypeFull, keepAlways, true, false, ""},
		{vss.BackupTypeIncremental, keepAlways, true, false, ""},
		{vss.BackupTypeFull, "1h", true, false, ""},
		{vss.BackupTypeLog, "", true, true, ""},
		{vss.BackupTypeIncremental, "", true, true, ""},
		{vss.BackupTypeFull, "", true, true, ""},
		{vss.BackupTypeFull, "1ms", true, true, ""},
	} {
		t.Run(fmt.Sprint(c.kind, " keep ", c.keep, " succeeded ", c.succeeded, " ", c.whose), func(t *testing.T) {
			r.conf.KeepLogs, r.conf.Logs = c.keep, c.whose == ""
			w := r.writer(t)
			if c.whose == "found" {
				w = r.found(t)
			}
			r.sql("FLUSH BINARY LOGS")
			time.Sleep(2 * time.Millisecond)
			before := r.logs()
			previous := base.stamp
			if c.kind == vss.BackupTypeFull || c.kind == vss.BackupTypeCopy {
				previous = ""
			}
			got, err := playUntil(t.Context(), w, c.kind, previous, c.succeeded, r.settle)
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

// found is the writer of the server if nobody has configured one.
func (r *rig) found(t *testing.T) writer.Writer {
	t.Helper()
	specs, err := Kind{}.Discover(t.Context(), writer.Discovery{Auto: true, Paths: []string{r.m.Dir}})
	if err != nil || len(specs) != 1 {
		t.Fatalf("%d servers are found below %s, %v", len(specs), r.m.Dir, err)
	}
	w, _, err := r.host(t, specs[0])
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// A connected replica that has not been sent everything keeps all logs, and the
// backup says so.
func TestAReplicaThatIsBehindKeepsTheLogs(t *testing.T) {
	r := newRig(t, dbtest.MariaDBOptions{Args: []string{"--max-allowed-packet=64M", "--binlog-format=ROW"}})
	r.sql("GRANT PROCESS ON *.* TO 'mysql'@'localhost'", "CREATE TABLE d.b (x LONGBLOB)")
	for range 4 {
		r.sql("INSERT INTO d.b VALUES (REPEAT('x', 8000000))", "FLUSH BINARY LOGS")
	}
	oldest := r.logs()[0]
	// A client that reads the logs as a replica does; nobody takes what it has read.
	replica := exec.Command("mariadb-binlog", "--no-defaults", "--socket="+r.m.Socket, "--read-from-remote-server", "--stop-never",
		"--stop-never-slave-server-id=77", oldest)
	out, err := replica.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := replica.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { replica.Process.Kill(); out.Close(); replica.Wait() }()
	r.dumps(1)
	w := r.writer(t)
	got, err := playUntil(t.Context(), w, vss.BackupTypeFull, "", true, r.settle)
	if err != nil {
		t.Fatal(err)
	}
	if now := r.logs()[0]; now != oldest || !strings.Contains(got.said, "1 of 1 connected replicas") {
		t.Errorf("the oldest log is %s, was %s, and %q was said", now, oldest, got.said)
	}
	// One that comes to the end while the writer looks is not behind.
	if _, behind, err := awaitReplicas(t.Context(), r.db, 0); err != nil || behind != 1 {
		t.Fatalf("%d replicas are behind, %v", behind, err)
	}
	// Nor has one that goes away while the writer looks all that it wants.
	other := exec.Command(replica.Args[0], append(slices.Clone(replica.Args[1:len(replica.Args)-2]), "--stop-never-slave-server-id=78", oldest)...)
	if _, err := other.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	r.dumps(2)
	time.AfterFunc(200*time.Millisecond, func() { other.Process.Kill(); other.Wait() })
	time.AfterFunc(400*time.Millisecond, func() { io.Copy(io.Discard, out) })
	if connected, behind, err := awaitReplicas(t.Context(), r.db, 3*time.Second); err != nil || connected != 2 || behind != 1 {
		t.Errorf("%d of %d replicas are behind, %v", behind, connected, err)
	}
	if connected, behind, err := awaitReplicas(t.Context(), r.db, time.Minute); err != nil || connected != 1 || behind != 0 { // it gets what it wants
		t.Errorf("%d of %d replicas are behind, %v", behind, connected, err)
	}
	for begun := time.Now(); r.one("SELECT state FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%'") != "Master has sent all binlog to slave; waiting for more updates"; time.Sleep(10 * time.Millisecond) {
		if time.Since(begun) > time.Minute {
			t.Fatal("the replica does not come to the end")
		}
	}
	if got, err = playUntil(t.Context(), w, vss.BackupTypeFull, "", true, r.settle); err != nil {
		t.Fatal(err)
	}
	if now := r.logs()[0]; now == oldest || got.said != "" {
		t.Errorf("the oldest log is %s still, and %q was said", now, got.said)
	}
}

// dumps waits until so many replicas are connected.
func (r *rig) dumps(n int) {
	r.t.Helper()
	for begun := time.Now(); r.one("SELECT COUNT(*) FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%'") != strconv.Itoa(n); time.Sleep(10 * time.Millisecond) {
		if time.Since(begun) > time.Minute {
			r.t.Fatalf("%d replicas are not connected", n)
		}
	}
}

// What is worth knowing of a server stands in the plan: it comes from Describe.
func TestWhatIsWorthKnowingIsSaidBeforeTheBackup(t *testing.T) {
	r := newRig(t, dbtest.MariaDBOptions{Args: []string{"--binlog-ignore-db=scratch", "--binlog-do-db=d"}})
	if d := r.writer(t).Describe(); d.FreezeTimeout != 37500*time.Millisecond || !strings.Contains(d.Weak, "binlog_do_db=d, binlog_ignore_db=scratch") || strings.Contains(d.Weak, "give up") {
		t.Errorf("by default: held at most %v, %q", d.FreezeTimeout, d.Weak)
	}
	for _, name := range []string{"lock_wait_timeout", "innodb_lock_wait_timeout"} {
		r.sql("SET GLOBAL " + name + "=4")
		if d := r.writer(t).Describe(); d.FreezeTimeout != 3*time.Second || !strings.Contains(d.Weak, "after 4s ("+name+")") {
			t.Errorf("%s 4: held at most %v, %q", name, d.FreezeTimeout, d.Weak)
		}
		r.sql("SET GLOBAL " + name + "=3600")
	}
	// A restore that was killed while it replayed.
	a := &aside{dir: r.m.Dir, state: asideState{Replaying: true}}
	owner := r.spec().Owner
	if err := errors.Join(a.save(), os.Chown(a.path(), int(owner.UID), int(owner.GID)), os.Chown(a.path("state.json"), int(owner.UID), int(owner.GID))); err != nil {
		t.Fatal(err)
	}
	if d := r.writer(t).Describe(); !strings.Contains(d.Weak, adminUser) {
		t.Errorf("after a replay that was killed: %q", d.Weak)
	}
	if err := r.m.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if d := r.writer(t).Describe(); d.FreezeTimeout != 0 || !strings.Contains(d.Weak, "does not run") {
		t.Errorf("stopped: %v, %q", d.FreezeTimeout, d.Weak)
	}
}

func TestAGaleraNodeIsRefused(t *testing.T) {
	r := newRig(t, dbtest.MariaDBOptions{Args: []string{"--wsrep-on=ON"}})
	if r.one("SELECT @@wsrep_on") != "1" {
		t.Skip("this build of MariaDB has no Galera")
	}
	if _, err := r.writer(t).Identify(t.Context()); err == nil || !strings.Contains(err.Error(), "wsrep_on") || !strings.Contains(err.Error(), "any_version") {
		t.Errorf("%v, want a refusal with the way out", err)
	}
	r.conf.AnyVersion = true
	if _, err := r.writer(t).Identify(t.Context()); err != nil {
		t.Error(err)
	}
}

// That logs are replayed stands beside the restored data while a server does so,
// since one that is killed leaves its account.
func TestAReplayIsNotedWhileItGoesOn(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(os.MkdirAll(spoolBelow(dir), 0o700), os.WriteFile(filepath.Join(spoolBelow(dir), "binlog.000001"), nil, 0o600),
		os.WriteFile(filepath.Join(dir, "binlog.000001"), []byte("\xfebin"), 0o600)); err != nil {
		t.Fatal(err)
	}
	p := restoredFiles{dir: dir, logs: dir, base: "binlog", spool: spoolBelow(dir)}
	if err := (&dbWriter{dir: dir}).replay(t.Context(), target{}, p, []string{filepath.Join(dir, "mariadbd")}, &aside{dir: dir}); err == nil {
		t.Fatal("a server that is not there has replayed logs")
	}
	if a, found, err := openAside(dir); err != nil || !found || !a.state.Replaying {
		t.Errorf("noted %v, %v", found, err)
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

func TestWithoutBinaryLogThereIsNoLogBackup(t *testing.T) {
	r := newRig(t, dbtest.MariaDBOptions{LogBin: "-"})
	w := r.writer(t)
	full, err := play(t.Context(), w, vss.BackupTypeFull, "", true)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := w.Identify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// By this a plan says what comes of a log backup.
	if doc.BackupSchema()&vss.SchemaLog != 0 {
		t.Errorf("it declares %v", doc.BackupSchema())
	}
	if _, err := play(t.Context(), w, vss.BackupTypeLog, "", true); err != nil {
		t.Errorf("saved whole instead: %v", err)
	}
	if _, err := play(t.Context(), w, vss.BackupTypeLog, full.stamp, true); err == nil || !strings.Contains(err.Error(), "set log_bin") {
		t.Errorf("%v, want a refusal that says to set log_bin", err)
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
		`{"datadir": "relative"}`:                   "not absolute",
		`{"datadir": "/x", "keep_logs": "soon"}`:    "keep_logs",
		`{"datadir": "/x", "keep_logs": "72h"}`:     "logs: true",
		`{"datadir": "/x", "socket": "s"}`:          "not absolute",
		`{"datadir": "/x", "start": ["mariadbd"]}`:  "not absolute",
		`{"datadir": "/x", "password": "x"}`:        "unknown field",
		`{"datadir": "/x", "logs": true, "user":1}`: "user",
	} {
		if _, err := parseSettings(json.RawMessage(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want it to say %q", text, err, want)
		}
	}
}

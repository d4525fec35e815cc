package sqlite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
	"golang.org/x/sys/unix"
)

// restoring is a restore of one database.
type restoring struct {
	t     *testing.T
	w     *dbWriter
	parts *metadata.WriterComponents
	c     *metadata.Component
	open  []writer.OpenFile
	event writer.Event // as the last handler left it
}

func startRestore(t *testing.T, w *dbWriter) *restoring {
	t.Helper()
	doc, err := w.Identify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	id := doc.Identity()
	bcd := metadata.NewBackupComponents()
	c, err := bcd.AddComponent(metadata.WriterKey{InstanceID: id.InstanceID, ClassID: id.ClassID}, vss.ComponentTypeDatabase, "", w.path)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SetSelectedForRestore(true, vss.GUID{}); err != nil {
		t.Fatal(err)
	}
	parts, _ := bcd.Writer(id.InstanceID)
	return &restoring{t: t, w: w, parts: parts, c: c}
}

func (r *restoring) pre() error {
	r.event = writer.Event{Components: r.parts, Open: r.open}
	return r.w.PreRestore(context.Background(), &r.event)
}

func (r *restoring) post(status vss.FileRestoreStatus) error {
	r.t.Helper()
	if err := r.c.SetFileRestoreStatus(status); err != nil {
		r.t.Fatal(err)
	}
	r.event = writer.Event{Components: r.parts}
	return r.w.PostRestore(context.Background(), &r.event)
}

func (r *restoring) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// copyOf reads the component's files while frozen.
func copyOf(t *testing.T, a *app) map[string][]byte {
	t.Helper()
	w, kill := startHost(t, a)
	freeze(t, w)
	files := make(map[string][]byte)
	for _, path := range a.component() {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		files[path] = b
	}
	thaw(t, w)
	kill()
	return files
}

// put puts files in their places as the requester does, by renaming.
func put(t *testing.T, files map[string][]byte) {
	t.Helper()
	for path, b := range files {
		if err := os.WriteFile(path+".part", b, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".part", path); err != nil {
			t.Fatal(err)
		}
	}
}

func (a *app) names() string {
	entries, err := os.ReadDir(a.dir)
	if err != nil {
		a.t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

// crashed leaves a database with a -wal of committed transactions beside it.
func (a *app) crashed(statements string) {
	a.t.Helper()
	startChild(a.t, "block", a.path, "PRAGMA wal_autocheckpoint=0; "+statements).kill()
	if !strings.Contains(a.names(), "app.db-wal") {
		a.t.Fatal("the crash left no -wal: ", a.names())
	}
}

// TestRestoreBesideAStaleLog: without the writer SQLite would play the old
// log's pages over the restored database. The control shows that it does.
func TestRestoreBesideAStaleLog(t *testing.T) {
	for _, control := range []bool{true, false} {
		t.Run(fmt.Sprintf("control=%v", control), func(t *testing.T) {
			a := newApp(t, "wal")
			files := copyOf(t, a)
			if len(files) != 2 || len(files[a.path+"-wal"]) != 0 {
				// What matters is that the backup brings no -wal of its own.
				t.Fatalf("the backup holds %d files", len(files))
			}
			delete(files, a.path+"-wal")
			a.exec("UPDATE t SET v = randomblob(900); DELETE FROM u WHERE n < 150; VACUUM")
			a.crashed("UPDATE t SET v = zeroblob(2000); DELETE FROM t WHERE n % 3 = 0; INSERT INTO u SELECT 1000+n FROM t")

			r := startRestore(t, newWriter(a.path, "x"))
			if !control {
				r.must(r.pre())
			}
			put(t, files)
			if !control {
				r.must(r.post(vss.FileRestoreStatusAll))
			}
			n, err := a.check()
			if sound := n == 200 && err == nil; sound == control {
				t.Errorf("%d transactions, %v", n, err)
			}
			if !control && strings.Contains(a.names(), "sombra") {
				t.Errorf("left behind: %s", a.names())
			}
		})
	}
}

// TestRestoreWithItsLog: what was committed to the log is there.
func TestRestoreWithItsLog(t *testing.T) {
	a := newApp(t, "wal")
	a.crashed("INSERT INTO t VALUES (201, 1); INSERT INTO u VALUES (201)")
	files := copyOf(t, a)
	if len(files[a.path+"-wal"]) == 0 {
		t.Fatal("the backup holds no log")
	}
	for _, name := range []string{"", "-wal", "-shm"} {
		os.Remove(a.path + name)
	}
	r := startRestore(t, newWriter(a.path, "x"))
	r.must(r.pre())
	put(t, files)
	r.must(r.post(vss.FileRestoreStatusAll))
	for path, b := range files {
		now, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(now, b) {
			t.Errorf("the check changed %s (%v)", path, err)
		}
	}
	if n, err := a.check(); n != 201 || err != nil {
		t.Errorf("%d transactions, %v", n, err)
	}
}

// TestPreRestoreRefusesWhileInUse, by what the service found and by locks.
func TestPreRestoreRefusesWhileInUse(t *testing.T) {
	refused := func(t *testing.T, r *restoring, parts ...string) {
		t.Helper()
		before := r.names()
		err := r.pre()
		if !errors.Is(err, vss.ErrWriterErrorNonRetryable) {
			t.Fatalf("PreRestore gives %v", err)
		}
		msg, _ := r.c.PreRestoreFailureMsg()
		for _, part := range parts {
			if !strings.Contains(err.Error(), part) || !strings.Contains(msg, part) {
				t.Errorf("%q is missing in %v, or in the document: %s", part, err, msg)
			}
		}
		if after := r.names(); after != before {
			t.Errorf("files before: %s, after: %s", before, after)
		}
	}
	t.Run("open", func(t *testing.T) {
		a := newApp(t, "delete")
		r := startRestore(t, newWriter(a.path, "x"))
		r.open = []writer.OpenFile{{Path: a.path + "-journal", PID: 4242, Command: "shopd"}}
		refused(t, r, "4242", "shopd", "-journal")
		r.open = []writer.OpenFile{{Path: filepath.Join(a.dir, "other.db"), PID: 4242, Command: "shopd"}}
		r.must(r.pre())
	})
	t.Run("locked", func(t *testing.T) {
		a := newApp(t, "wal")
		c := startChild(t, "block", a.path, "SELECT count(*) FROM t")
		r := startRestore(t, newWriter(a.path, "x"))
		refused(t, r, fmt.Sprint(c.cmd.Process.Pid))
		if err := c.stop(); err != nil {
			t.Fatal(err)
		}
		r.must(r.pre())
	})
}

func (r *restoring) names() string {
	entries, err := os.ReadDir(filepath.Dir(r.w.path))
	if err != nil {
		r.t.Fatal(err)
	}
	var b strings.Builder
	for _, e := range entries {
		fmt.Fprintln(&b, e.Name())
	}
	return b.String()
}

// TestRestoreThatFailed: what lay beside the database is never lost, and never
// meets another database.
func TestRestoreThatFailed(t *testing.T) {
	setUp := func(t *testing.T) (*app, map[string][]byte, *restoring) {
		a := newApp(t, "wal")
		a.crashed("INSERT INTO t VALUES (201, 1); INSERT INTO u VALUES (201)")
		b := newApp(t, "wal")
		b.crashed("UPDATE t SET v = 7")
		files := make(map[string][]byte)
		for _, ending := range []string{"", "-wal"} {
			data, err := os.ReadFile(b.path + ending)
			if err != nil {
				t.Fatal(err)
			}
			files[a.path+ending] = data
		}
		r := startRestore(t, newWriter(a.path, "x"))
		r.must(r.pre())
		if strings.Contains(a.names()+" ", "app.db-wal ") {
			t.Fatal("the log was not moved aside: ", a.names())
		}
		return a, files, r
	}
	asBefore := func(t *testing.T, a *app) {
		t.Helper()
		if n, err := a.check(); n != 201 || err != nil {
			t.Errorf("%d transactions, %v", n, err)
		}
	}
	t.Run("nothing restored", func(t *testing.T) {
		a, _, r := setUp(t)
		r.must(r.post(vss.FileRestoreStatusNone))
		asBefore(t, a)
	})
	t.Run("only the log restored", func(t *testing.T) {
		a, files, r := setUp(t)
		delete(files, a.path)
		put(t, files)
		r.must(r.post(vss.FileRestoreStatusFailed))
		asBefore(t, a)
	})
	t.Run("only the database restored", func(t *testing.T) {
		a, files, r := setUp(t)
		delete(files, a.path+"-wal")
		put(t, files)
		err := r.post(vss.FileRestoreStatusFailed)
		if err == nil || !strings.Contains(err.Error(), "kept as app.db-shm.sombra-") {
			t.Errorf("PostRestore gives %v", err)
		}
		if msg, ok := r.c.PostRestoreFailureMsg(); !ok || !strings.Contains(msg, "half-way") {
			t.Errorf("the document says %q", msg)
		}
		if strings.Contains(a.names()+" ", "app.db-wal ") {
			t.Error("the old log lies beside another database: ", a.names())
		}
	})
	t.Run("requester died, then restored again", func(t *testing.T) {
		a, files, _ := setUp(t)
		put(t, files)
		again := startRestore(t, newWriter(a.path, "x"))
		again.must(again.pre())
		put(t, files)
		again.must(again.post(vss.FileRestoreStatusAll))
		if n, err := a.check(); n != 200 || err != nil {
			t.Errorf("%d transactions, %v", n, err)
		}
		if strings.Contains(a.names(), "sombra") {
			t.Errorf("left behind: %s", a.names())
		}
	})
	t.Run("requester died, then backed up", func(t *testing.T) {
		a, _, _ := setUp(t)
		w := newWriter(a.path, "x")
		freeze(t, w)
		thaw(t, w)
		asBefore(t, a)
	})
}

// TestStampOutlastsARestart: what was moved aside must be found again when the
// machine has started anew, and devices have got other numbers.
func TestStampOutlastsARestart(t *testing.T) {
	base := unix.Stat_t{Dev: 1, Ino: 2, Size: 3, Ctim: unix.Timespec{Sec: 4, Nsec: 5}}
	other := base
	other.Dev = 77
	if stampOf(&base) != stampOf(&other) {
		t.Error("the device's number is in the stamp")
	}
	for name, change := range map[string]func(*unix.Stat_t){
		"inode": func(st *unix.Stat_t) { st.Ino++ }, "size": func(st *unix.Stat_t) { st.Size++ },
		"time of change": func(st *unix.Stat_t) { st.Ctim.Nsec++ },
	} {
		other := base
		change(&other)
		if stampOf(&base) == stampOf(&other) {
			t.Errorf("the %s is not in the stamp", name)
		}
	}
	if stampOf(nil) == stampOf(&unix.Stat_t{}) {
		t.Error("a database that is not there has another's stamp")
	}
}

// TestWhatAnOldRestoreLeftIsSaid: a backup does not take it, and says so.
func TestWhatAnOldRestoreLeftIsSaid(t *testing.T) {
	a := newApp(t, "delete")
	left := a.path + "-wal" + asideMark + "0123456789ab"
	if err := os.WriteFile(left, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	w := newWriter(a.path, "x")
	e := &writer.Event{}
	if err := w.PrepareForSnapshot(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	abort(t, w)
	if f := e.Failure; f == nil || f.Code != vss.OK || !strings.Contains(f.Message, filepath.Base(left)) {
		t.Errorf("the note is %+v", f)
	}
}

// TestRestoreOfADamagedDatabaseIsReported, and what lay there is kept.
func TestRestoreOfADamagedDatabaseIsReported(t *testing.T) {
	a := newApp(t, "delete")
	files := copyOf(t, a)
	b := files[a.path]
	copy(b[len(b)/2:], bytes.Repeat([]byte{0xa5}, len(b)/4))
	r := startRestore(t, newWriter(a.path, "x"))
	r.must(os.WriteFile(a.path+"-journal", []byte("old"), 0o600))
	r.must(r.pre())
	put(t, files)
	err := r.post(vss.FileRestoreStatusAll)
	if !errors.Is(err, vss.ErrWriterErrorNonRetryable) || !strings.Contains(err.Error(), "damaged") && !strings.Contains(err.Error(), "malformed") {
		t.Errorf("PostRestore gives %v", err)
	}
	if !strings.Contains(a.names(), "app.db-journal.sombra-") {
		t.Errorf("what lay there is gone: %s", a.names())
	}
}

// TestR_RES_28_AdditionalRestoresWait: recovery waits for the last restore.
func TestR_RES_28_AdditionalRestoresWait(t *testing.T) {
	a := newApp(t, "wal")
	files := copyOf(t, a)
	a.crashed("INSERT INTO u VALUES (1000000)")
	r := startRestore(t, newWriter(a.path, "x"))
	r.must(r.c.SetAdditionalRestores(true))
	r.must(r.pre())
	put(t, files)
	r.must(r.post(vss.FileRestoreStatusAll))
	if !strings.Contains(a.names(), "sombra") {
		t.Errorf("recovery ran before the last restore: %s", a.names())
	}
	r.must(r.c.SetAdditionalRestores(false))
	r.must(r.post(vss.FileRestoreStatusAll))
	if strings.Contains(a.names(), "sombra") {
		t.Errorf("left behind: %s", a.names())
	}
}

// TestUncheckableDatabaseGivesANote: only its application knows how its index
// is sorted.
func TestUncheckableDatabaseGivesANote(t *testing.T) {
	a := newApp(t, "delete")
	a.exec("PRAGMA writable_schema=ON; INSERT INTO sqlite_schema SELECT 'table', 'w', 'w', rootpage, 'CREATE TABLE w(n INTEGER PRIMARY KEY, v TEXT COLLATE KLINGON, UNIQUE(v))' FROM sqlite_schema WHERE 0")
	a.exec("CREATE TABLE w(n INTEGER PRIMARY KEY, v TEXT); CREATE INDEX wv ON w(v)")
	a.exec("PRAGMA writable_schema=ON; UPDATE sqlite_schema SET sql = 'CREATE INDEX wv ON w(v COLLATE KLINGON)' WHERE name = 'wv'")
	r := startRestore(t, newWriter(a.path, "x"))
	r.must(r.pre())
	r.must(r.post(vss.FileRestoreStatusAll))
	if f := r.event.Failure; f == nil || f.Code != vss.OK || !strings.Contains(f.Message, "KLINGON") {
		t.Errorf("the note is %+v", f)
	}
}

// TestR_SEL_29_UnselectedIsLeftAlone: a component that is not selected is left alone.
func TestR_SEL_29_UnselectedIsLeftAlone(t *testing.T) {
	a := newApp(t, "wal")
	a.crashed("INSERT INTO u VALUES (1000000)")
	r := startRestore(t, newWriter(a.path, "x"))
	r.must(r.c.SetSelectedForRestore(false, vss.GUID{}))
	before := a.names()
	r.must(r.pre())
	r.must(r.post(vss.FileRestoreStatusAll))
	if after := a.names(); after != before {
		t.Errorf("files before: %s, after: %s", before, after)
	}
}

// TestRestoreIntoNothing: the directory was lost too.
func TestRestoreIntoNothing(t *testing.T) {
	a := newApp(t, "wal")
	files := copyOf(t, a)
	if err := os.RemoveAll(a.dir); err != nil {
		t.Fatal(err)
	}
	spec := a.storedSpec(t, "x")
	w, err := Kind{}.New(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	r := startRestore(t, w.(*dbWriter))
	r.must(r.pre())
	r.must(os.Mkdir(a.dir, 0o755))
	put(t, files)
	r.must(r.post(vss.FileRestoreStatusAll))
	if n, err := a.check(); n != 200 || err != nil {
		t.Errorf("%d transactions, %v", n, err)
	}
}

// storedSpec is what the kind offers for the database's stored document.
func (a *app) storedSpec(t *testing.T, name string) writer.Spec {
	t.Helper()
	doc, err := newWriter(a.path, name).Identify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	specs, err := Kind{}.Discover(t.Context(), writer.Discovery{Stored: []writer.Stored{{Metadata: doc, Owner: writer.Owner{UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}}}})
	if err != nil || len(specs) != 1 || specs[0].Name != name {
		t.Fatalf("Discover gives %+v, %v", specs, err)
	}
	return specs[0]
}

package mariadb

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/internal/dbtest"
	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
	"golang.org/x/sys/unix"
)

// scattered is a server with files in many places, and those places.
type scattered struct {
	*rig
	places string
}

func newScattered(t *testing.T) *scattered {
	t.Helper()
	dir, err := dbtest.Scratch("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	uid, gid := os.Geteuid(), os.Getegid()
	if u, err := user.Lookup("mysql"); uid == 0 && err == nil {
		uid, _ = strconv.Atoi(u.Uid)
		gid, _ = strconv.Atoi(u.Gid)
	}
	for _, name := range []string{"redo", "undo", "system", "tables", "logs"} {
		at := filepath.Join(dir, name)
		if err := errors.Join(os.Mkdir(at, 0o755), os.Chown(at, uid, gid)); err != nil {
			t.Fatal(err)
		}
	}
	r := newRig(t, dbtest.MariaDBOptions{LogBin: filepath.Join(dir, "logs", "bin"), Args: []string{
		"--innodb-log-group-home-dir=" + filepath.Join(dir, "redo"), "--innodb-undo-directory=" + filepath.Join(dir, "undo"),
		"--innodb-undo-tablespaces=2", "--innodb-data-home-dir=" + filepath.Join(dir, "system")}})
	tables := filepath.Join(dir, "tables")
	r.sql("CREATE TABLE d.far (n INT) ENGINE=InnoDB DATA DIRECTORY='"+tables+"'", "CREATE TABLE d.farther (n INT) ENGINE=MyISAM DATA DIRECTORY='"+tables+"'",
		"INSERT INTO d.t VALUES (1)", "INSERT INTO d.far VALUES (1)", "INSERT INTO d.farther VALUES (1)")
	return &scattered{r, dir}
}

// files hashes all files and links below directories.
func (s *scattered) files(from ...string) map[string][32]byte {
	s.t.Helper()
	sums := make(map[string][32]byte)
	for _, dir := range from {
		err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err == nil && e.Type()&fs.ModeSymlink != 0 {
				to, err := os.Readlink(path)
				sums[path] = sha256.Sum256([]byte(to))
				return err
			}
			if err != nil || !e.Type().IsRegular() {
				return err
			}
			data, err := os.ReadFile(path)
			sums[path] = sha256.Sum256(data)
			return err
		})
		if err != nil {
			s.t.Fatal(err)
		}
	}
	return sums
}

// stored gives a writer as a restore has it.
func (s *scattered) stored(t *testing.T, doc *metadata.WriterMetadata) writer.Writer {
	t.Helper()
	specs, err := Kind{}.Discover(t.Context(), writer.Discovery{Stored: []writer.Stored{{Metadata: doc, Owner: s.spec().Owner}}})
	if err != nil || len(specs) != 1 {
		t.Fatalf("Discover gives %d specs for a stored writer, %v", len(specs), err)
	}
	w, _, err := s.host(t, specs[0])
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// asideOf is what was moved aside, by where it was.
func (s *scattered) asideOf() map[string]string {
	list := make(map[string]string)
	for path := range s.files(s.m.Dir, s.places) {
		before, after, ok := strings.Cut(path, "/"+asideName+"/")
		if !ok || filepath.Base(path) == "state.json" {
			continue
		}
		if before == s.m.Dir {
			list[filepath.Join(before, strings.TrimPrefix(after, "1/data/"))] = path
			continue
		}
		list[filepath.Join(before, filepath.Base(path))] = path
	}
	return list
}

// after does something between PreRestore and PostRestore.
func (s *scattered) after(w writer.Writer, do func()) writer.Writer {
	return meanwhile{w.(*writer.Remote), do}
}

// After a restore that failed half-way all of the old server is there, wherever it
// had its files; one that restored nothing brings all of it back, and one that
// succeeded leaves nothing of it.
func TestAllOfAServerIsMovedAsideWhereverItIs(t *testing.T) {
	s := newScattered(t)
	doc, err := s.writer(t).Identify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	owner := s.spec().Owner
	// Nothing restored: all is back.
	err = playRestore(t.Context(), s.after(s.stored(t, doc), func() {
		moved := s.asideOf()
		for _, name := range []string{"redo/ib_logfile0", "undo/undo001", "system/ibdata1", "tables/d/far.ibd", "tables/farther.MYD", "logs/bin.000001"} {
			if _, ok := moved[filepath.Join(s.places, name)]; !ok {
				t.Errorf("%s was not moved aside, but %v", name, slices.Sorted(maps.Keys(moved)))
			}
			if _, err := os.Lstat(filepath.Join(s.places, name)); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s is still in its place: %v", name, err)
			}
		}
	}), vss.FileRestoreStatusNone)
	if err != nil {
		t.Fatal(err)
	}
	s.whole()
	if left := s.asideOf(); len(left) > 0 {
		t.Errorf("moved aside, and not put back: %v", left)
	}
	// Half restored: what was there is kept as it was.
	var old map[string][32]byte
	err = playRestore(t.Context(), s.after(s.stored(t, doc), func() {
		old = make(map[string][32]byte)
		for was, is := range s.asideOf() {
			old[was] = s.files(is)[is]
			if err := errors.Join(os.WriteFile(was, []byte("half"), 0o600), os.Chown(was, int(owner.UID), int(owner.GID))); err != nil {
				t.Fatal(err)
			}
		}
	}), vss.FileRestoreStatusFailed)
	s.wantStopped(err, filepath.Join(s.places, "redo", asideName))
	moved := s.asideOf()
	if len(moved) != len(old) || len(old) < 100 {
		t.Fatalf("%d files are kept of %d", len(moved), len(old))
	}
	for was, is := range moved {
		if s.files(is)[is] != old[was] {
			t.Errorf("%s was changed", was)
		}
	}
	// Restored: the same files, of the attempt before.
	err = playRestore(t.Context(), s.after(s.stored(t, doc), func() {
		for was, is := range moved {
			if err := errors.Join(os.MkdirAll(filepath.Dir(was), 0o700), os.Rename(is, was)); err != nil {
				t.Fatal(err)
			}
		}
	}), vss.FileRestoreStatusAll)
	if err != nil && !strings.Contains(err.Error(), "left stopped") {
		t.Fatal(err)
	}
	if left := s.asideOf(); len(left) > 0 {
		t.Errorf("left after the restore: %v", left)
	}
	if left, _ := filepath.Glob(filepath.Join(s.places, "*", asideName)); len(left) > 0 {
		t.Errorf("left after the restore: %v", left)
	}
	s.whole()
}

// whole makes sure that the server has all it had.
func (s *scattered) whole() {
	s.t.Helper()
	if n, err := s.check(); err != nil || n != 1 {
		s.t.Fatalf("it holds %d numbers, %v", n, err)
	}
	if s.one("SELECT COUNT(*) FROM d.far") != "1" || s.one("SELECT COUNT(*) FROM d.farther") != "1" {
		s.t.Error("tables elsewhere have lost their rows")
	}
}

// Where the old files cannot be moved aside nothing is begun.
func TestARestoreOverFilesThatCannotBeMovedIsRefusedFirst(t *testing.T) {
	s := newScattered(t)
	doc, err := s.writer(t).Identify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	redo := filepath.Join(s.places, "redo")
	for _, c := range []struct {
		name     string
		do, undo func() error
	}{
		{"open to all", func() error { return unix.Chmod(redo, 0o777) }, func() error { return unix.Chmod(redo, 0o755) }},
		{"closed to the owner", func() error { return unix.Chmod(redo, 0o555) }, func() error { return unix.Chmod(redo, 0o755) }},
		{"a file in the way", func() error { return os.WriteFile(filepath.Join(redo, asideName), nil, 0o600) },
			func() error { return os.Remove(filepath.Join(redo, asideName)) }},
	} {
		if err := c.do(); err != nil {
			t.Fatal(err)
		}
		pid := s.m.PID
		err := playRestore(t.Context(), s.stored(t, doc), vss.FileRestoreStatusNone)
		if err == nil || !strings.Contains(err.Error(), redo) || !strings.Contains(err.Error(), "nothing was changed") {
			t.Errorf("%s: %v, want a refusal that names the directory", c.name, err)
		}
		if now, err := lockedBy(s.m.Dir); err != nil || now != pid {
			t.Errorf("%s: process %d runs, %v; want %d, which ran before", c.name, now, err, pid)
		}
		if err := c.undo(); err != nil {
			t.Fatal(err)
		}
	}
	s.whole()
}

// Of a server whose data directory is gone files may be left elsewhere: they are not
// written over, and what a restore has put there is not taken for them.
func TestWhatIsLeftElsewhereOfALostServerIsNotWrittenOver(t *testing.T) {
	at := t.TempDir()
	dir, redo := filepath.Join(at, "data"), filepath.Join(at, "redo")
	file := filepath.Join(redo, "ib_logfile0")
	if err := errors.Join(os.Mkdir(redo, 0o755), os.WriteFile(file, []byte("old"), 0o600)); err != nil {
		t.Fatal(err)
	}
	doc := func(w *dbWriter) *metadata.WriterMetadata {
		m, err := w.Identify(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	w := newWriter(writer.Spec{}, spec{settings: settings{Datadir: dir}, Restore: true, Places: []place{{Dir: redo, Pattern: "ib_logfile*"}}})
	first := restoreOf(t, doc(w), "", true)
	if err := writer.Notify(t.Context(), w, writer.EventPreRestore, first); err == nil || !strings.Contains(err.Error(), redo) {
		t.Errorf("%v, want a refusal that names the directory", err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	// A chain of two, of which the first restores what the second needs.
	if err := writer.Notify(t.Context(), w, writer.EventPreRestore, first); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(file, []byte("restored"), 0o600)); err != nil {
		t.Fatal(err)
	}
	c, _ := first.Components.Component("", dir)
	if err := errors.Join(c.SetFileRestoreStatus(vss.FileRestoreStatusAll), writer.Notify(t.Context(), w, writer.EventPostRestore, first)); err != nil {
		t.Fatal(err)
	}
	if err := writer.Notify(t.Context(), w, writer.EventPreRestore, restoreOf(t, doc(w), "mariadb1 data binlog.000001 4 -", false)); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(file); err != nil || string(data) != "restored" {
		t.Errorf("what the first operation has restored is %q, %v", data, err)
	}
}

// restoreOf is the event of one operation of a chain.
func restoreOf(t *testing.T, doc *metadata.WriterMetadata, previous vss.BackupStamp, more bool) *writer.Event {
	t.Helper()
	id, info := doc.Identity(), doc.Components()[0]
	all := metadata.NewBackupComponents()
	c, err := all.AddComponent(metadata.WriterKey{InstanceID: id.InstanceID, ClassID: id.ClassID, Schema: doc.BackupSchema()}, info.Type, info.LogicalPath, info.Name)
	if err == nil && previous != "" {
		err = c.SetPreviousBackupStamp(previous)
	}
	if err == nil {
		err = errors.Join(c.SetSelectedForRestore(true, vss.GUID{}), c.SetAdditionalRestores(more))
	}
	if err != nil {
		t.Fatal(err)
	}
	part, _ := all.Writer(id.InstanceID)
	return &writer.Event{SessionID: vss.NewGUID(), Components: part}
}

// What a medium names as a server's files elsewhere is looked at before it is moved.
func TestPlacesOfAMediumAreThoseOfAServer(t *testing.T) {
	const dir = "/data"
	for _, c := range []struct {
		at, pattern string
		ok          bool
	}{
		{"/redo", "ib_logfile*", true}, {"/data/a/b", "undo*", true}, {"/data/.r", "undo*", true}, {"/data/d", "*", true}, {"/data", "*", true},
		{"/home", "*", false}, {"/home", "?", false}, {"/home", "", false}, {"/home", "..", false}, {"/home", "a/b", false}, {"/home/*", "a", false}, {"home", "a", false},
	} {
		_, err := placesOf(&metadata.ComponentInfo{FileSets: []metadata.FileSet{{FileSpec: vss.FileSpec{Path: c.at, Pattern: c.pattern}, BackupType: everyImage}}}, dir)
		if (err == nil) != c.ok {
			t.Errorf("%s in %s: %v, want accepted %v", c.pattern, c.at, err, c.ok)
		}
	}
}

// Restored beside the live server, nothing may go to where that has its files.
func TestBesideAllGoesElsewhereOrNothing(t *testing.T) {
	redo, logs := place{Dir: "/redo", Pattern: "ib_logfile*"}, place{Dir: "/logs", Pattern: "bin.*", Log: true}
	moved := func(from, to string) metadata.NewTarget {
		return metadata.NewTarget{FileSpec: vss.FileSpec{Path: from, Pattern: "*"}, NewPath: to}
	}
	for _, c := range []struct {
		name    string
		places  []place
		targets []metadata.NewTarget
		want    string
		says    string
	}{
		{"all moved", []place{redo, logs}, []metadata.NewTarget{moved("/redo", "/r2"), moved("/logs", "/l2")}, "[--innodb-log-group-home-dir=/r2]", ""},
		{"logs stay", []place{redo, logs}, []metadata.NewTarget{moved("/redo", "/r2")}, "[]", "/logs"},
		{"to where they were", []place{redo}, []metadata.NewTarget{moved("/redo", "/redo/")}, "[]", "/redo"},
		{"a table elsewhere", []place{{Dir: "/tables", Pattern: "far.ibd"}}, []metadata.NewTarget{moved("/tables", "/t2")}, "[]", "DATA DIRECTORY"},
		{"nothing elsewhere", nil, nil, "[]", ""},
	} {
		got, err := besideOptions(c.places, c.targets)
		if fmt.Sprint(got) != c.want || (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, %v; want %s, %q", c.name, got, err, c.want, c.says)
		}
	}
}

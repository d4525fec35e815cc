package mariadb

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/internal/dbtest"
	"github.com/sombra-backup/sombra/vss"
	"golang.org/x/sys/unix"
)

// bind mounts another directory over a database's.
func (r *rig) bind(database string) string {
	t := r.t.(*testing.T)
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: a database's directory is to be a mount point")
	}
	at, from := filepath.Join(r.m.Dir, database), filepath.Join(r.dir, "mounted")
	if err := errors.Join(os.Mkdir(from, 0o700), os.Chown(from, r.m.UID, r.m.GID)); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(from, at, "", unix.MS_BIND, ""); errors.Is(err, unix.EPERM) {
		t.Skip("needs the right to mount: a database's directory is to be a mount point")
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return at
}

// wantRunning makes sure that a refusal came before anything was done to the server.
func (r *rig) wantRunning(pid int, err error, says string) {
	r.t.Helper()
	if err == nil || !strings.Contains(err.Error(), says) {
		r.t.Errorf("error %v; it should say %q", err, says)
	}
	if now, err := lockedBy(r.m.Dir); err != nil || now != pid {
		r.t.Errorf("process %d runs, %v; want %d, which ran before", now, err, pid)
	}
}

// Files cannot be renamed from a mount to the data directory: they are moved aside
// within it, or the restore is refused before the server is stopped.
func TestADatabaseOnAMountOfItsOwnIsMovedAsideWithinIt(t *testing.T) {
	r := newRig(t, dbtest.MariaDBOptions{})
	r.sql("CREATE DATABASE m")
	at := r.bind("m")
	r.sql("CREATE TABLE m.t (n INT) ENGINE=MyISAM", "INSERT INTO m.t VALUES (1)", "FLUSH TABLES")
	w, _, err := r.host(t, r.spec())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(at, 0o777); err != nil {
		t.Fatal(err)
	}
	r.wantRunning(r.m.PID, playRestore(t.Context(), w, vss.FileRestoreStatusNone), "nothing was changed")
	if err := os.Chmod(at, 0o700); err != nil {
		t.Fatal(err)
	}
	moved := filepath.Join(asideAt(r.m.Dir, at), "1", "t.MYD")
	err = playRestore(t.Context(), meanwhile{w, func() {
		if _, err := os.Lstat(moved); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(filepath.Join(at, "t.MYD")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the table is still in its place: %v", err)
		}
	}}, vss.FileRestoreStatusNone)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.check(); err != nil {
		t.Fatal(err)
	}
	if n := r.one("SELECT COUNT(*) FROM m.t"); n != "1" {
		t.Errorf("the table has %s rows after all was put back, want 1", n)
	}
	if _, err := os.Lstat(filepath.Join(at, asideName)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("left in the database's directory: %v", err)
	}
}

// What stands in the way is said while the server runs; where it cannot be known
// before, whoever restores is told that the server is stopped and where its files are.
func TestARestoreThatCannotBeginSaysWhatItHasDone(t *testing.T) {
	r := newRig(t, dbtest.MariaDBOptions{})
	w, _, err := r.host(t, r.spec())
	if err != nil {
		t.Fatal(err)
	}
	spool := spoolBelow(r.m.Dir)
	if err := os.WriteFile(spool, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r.wantRunning(r.m.PID, playRestore(t.Context(), w, vss.FileRestoreStatusNone), spool)
	d := filepath.Join(r.m.Dir, "d")
	if err := errors.Join(os.Remove(spool), os.Chown(d, os.Geteuid(), os.Getegid()), os.Chmod(d, 0o555)); err != nil {
		t.Fatal(err)
	}
	err = playRestore(t.Context(), w, vss.FileRestoreStatusNone)
	r.wantStopped(err, "the server is left stopped")
	r.wantStopped(err, filepath.Join(r.m.Dir, asideName, "1"))
}

// Whoever is told that a restore was broken off is not told to delete what may be the
// only copy.
func TestWhatWasMovedAsideIsNotCalledRubbish(t *testing.T) {
	dir, redo := t.TempDir(), t.TempDir()
	a := &aside{dir: dir, state: asideState{Replaying: true, Places: []place{{Dir: redo, Pattern: "ib_logfile*"}}}}
	if err := errors.Join(a.save(), os.MkdirAll(asideAt(dir, redo), 0o700)); err != nil {
		t.Fatal(err)
	}
	w := &dbWriter{dir: dir}
	w.look(t.Context())
	said := strings.Join(w.known.weak, "; ")
	for _, want := range []string{"move " + a.path(), asideAt(dir, redo), "only copy"} {
		if !strings.Contains(said, want) {
			t.Errorf("it says %q, which should have %q", said, want)
		}
	}
	if strings.Contains(said, "remove") {
		t.Errorf("it says %q", said)
	}
}

// TestNumbersOfAnEarlierWriterAreThoseOfAllPlaces: it noted the last number alone, under
// which there may be something in each of the directories.
func TestNumbersOfAnEarlierWriterAreThoseOfAllPlaces(t *testing.T) {
	dir, logs := t.TempDir(), t.TempDir()
	places := []place{{Dir: logs, Pattern: "ib_logfile*"}}
	a := &aside{dir: dir, state: asideState{Attempt: 2, Places: places}}
	if err := a.number(places); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{dir, logs} {
		if got := a.numbers(d); !slices.Equal(got, []int{1, 2, 3}) {
			t.Errorf("for %s the numbers are %v, want 1 to 3", d, got)
		}
	}
}

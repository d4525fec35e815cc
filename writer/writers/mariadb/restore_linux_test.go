package mariadb

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/internal/dbtest"
	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
	"github.com/sombra-backup/sombra/writer/launch"
)

// meanwhile is a writer before whose PostRestore something happens.
type meanwhile struct {
	*writer.Remote
	do func()
}

func (m meanwhile) PostRestore(ctx context.Context, e *writer.Event) error {
	m.do()
	return m.Remote.PostRestore(ctx, e)
}

func (r *rig) wantStopped(err error, says string) {
	r.t.Helper()
	if err == nil || !strings.Contains(err.Error(), says) {
		r.t.Errorf("error %v; it should say %q", err, says)
	}
	if pid, err := lockedBy(r.m.Dir); err != nil || pid != 0 {
		r.t.Errorf("process %d runs, %v", pid, err)
	}
}

// stored is the writer as a restore finds it by the backup's document.
func (r *rig) stored(doc *metadata.WriterMetadata) *writer.Remote {
	r.t.Helper()
	specs, err := Kind{}.Discover(r.t.Context(), writer.Discovery{Stored: []writer.Stored{{Metadata: doc, Owner: r.spec().Owner}}})
	if err != nil || len(specs) != 1 {
		r.t.Fatalf("Discover gives %d specs for a stored writer, %v", len(specs), err)
	}
	w, _, err := r.host(r.t, specs[0])
	if err != nil {
		r.t.Fatal(err)
	}
	return w
}

// leaveHalf writes a file as a restore that fails leaves it.
func (r *rig) leaveHalf(path string) error {
	return errors.Join(os.WriteFile(path, []byte("half"), 0o600), os.Chown(path, r.m.UID, r.m.GID))
}

// What a restore that failed has left half done is not started by one after it that
// restores nothing, and what was there before both is kept.
func TestHalfARestoreIsNotStartedByTheNext(t *testing.T) {
	r := newRig(t, dbtest.MariaDBOptions{})
	w, _, err := r.host(t, r.spec())
	if err != nil {
		t.Fatal(err)
	}
	doc, err := w.Identify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	half := filepath.Join(r.m.Dir, "ibdata1")
	r.wantStopped(playRestore(t.Context(), meanwhile{w, func() {
		if err := r.leaveHalf(half); err != nil {
			t.Fatal(err)
		}
	}}, vss.FileRestoreStatusFailed), "left stopped")
	w = r.stored(doc)
	r.wantStopped(playRestore(t.Context(), w, vss.FileRestoreStatusNone), "half done")
	if _, err := os.Lstat(filepath.Join(r.m.Dir, asideName, "1", "data", "ibdata1")); err != nil {
		t.Error(err)
	}
}

// A restore that is refused before it moves anything aside puts nothing back either:
// what is aside is that of a restore before it, of which files are here.
func TestARefusedRestoreLeavesWhatAnEarlierOneMovedAside(t *testing.T) {
	r := newRig(t, dbtest.MariaDBOptions{})
	w, _, err := r.host(t, r.spec())
	if err != nil {
		t.Fatal(err)
	}
	doc, err := w.Identify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	half := filepath.Join(r.m.Dir, "ibdata1")
	r.wantStopped(playRestore(t.Context(), meanwhile{w, func() {
		if err := r.leaveHalf(half); err != nil {
			t.Fatal(err)
		}
	}}, vss.FileRestoreStatusFailed), "left stopped")
	w = r.stored(doc)
	e, err := beginRestore(t.Context(), w)
	if err == nil {
		err = e.Components.Components()[0].SetRestoreOptions(`"nonsense"="1"`)
	}
	if err != nil {
		t.Fatal(err)
	}
	r.wantStopped(writer.Notify(t.Context(), w, writer.EventPreRestore, e), "nonsense")
	err = errors.Join(e.Components.Components()[0].SetFileRestoreStatus(vss.FileRestoreStatusNone), writer.Notify(t.Context(), w, writer.EventPostRestore, e))
	if err != nil {
		t.Error(err)
	}
	if pid, err := lockedBy(r.m.Dir); err != nil || pid != 0 {
		t.Errorf("process %d runs, %v", pid, err)
	}
	if got, err := os.ReadFile(half); err != nil || string(got) != "half" {
		t.Errorf("of the restore that failed %d bytes are left, %v", len(got), err)
	}
	if _, err := os.Lstat(filepath.Join(r.m.Dir, asideName, "1", "data", "ibdata1")); err != nil {
		t.Error(err)
	}
}

// What an earlier restore has moved aside is perhaps the only copy of it. A restore in
// the place of a server that was started since is refused, and stops nothing.
func TestARestoreOfAServerStartedSinceAFailedOneIsRefused(t *testing.T) {
	r := newRig(t, dbtest.MariaDBOptions{})
	a := &aside{dir: r.m.Dir, state: asideState{Attempt: 1}}
	old := filepath.Join(a.path(), "1", "data")
	err := errors.Join(a.save(), os.MkdirAll(old, 0o700), os.WriteFile(filepath.Join(old, "ibdata1"), []byte("old"), 0o600))
	for _, path := range []string{a.path(), a.path("state.json"), a.path("1"), old, filepath.Join(old, "ibdata1")} {
		err = errors.Join(err, os.Chown(path, r.m.UID, r.m.GID))
	}
	if err != nil {
		t.Fatal(err)
	}
	w, _, err := r.host(t, r.spec())
	if err != nil {
		t.Fatal(err)
	}
	r.wantRunning(r.m.PID, playRestore(t.Context(), w, vss.FileRestoreStatusNone), "move "+a.path())
	if err := os.Rename(a.path(), filepath.Join(r.dir, "safe")); err != nil {
		t.Fatal(err)
	}
	if err := playRestore(t.Context(), w, vss.FileRestoreStatusNone); err != nil {
		t.Errorf("with that out of the way: %v", err)
	}
}

// A server that replays logs, whose writer was killed, is nobody's use of the data.
func TestAServerThatReplaysIsToldFromOneThatSomebodyStarted(t *testing.T) {
	dir, err := launch.Scratch(scratchPurpose)
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	for file, want := range map[string]bool{filepath.Join(dir, "init.sql"): true, "/etc/mysql/init.sql": false} {
		cmd := exec.CommandContext(t.Context(), "sh", "-c", "echo; read line", "server", "--init-file="+file)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err == nil {
			_, err = out.Read(make([]byte, 1)) // it runs
		}
		if err != nil {
			t.Fatal(err)
		}
		if got := isPrivate(cmd.Process.Pid); got != want {
			t.Errorf("--init-file=%s: %v, want %v", file, got, want)
		}
		in.Close()
		cmd.Wait()
	}
}

// A server that still replays logs for a writer that was killed is ended, and the one
// that ran before is started in the end.
func TestAServerThatReplaysIsNotTakenForTheOneThatRan(t *testing.T) {
	dir, err := launch.Scratch(scratchPurpose)
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	init := filepath.Join(dir, "init.sql")
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(init, nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	r := newRig(t, dbtest.MariaDBOptions{Args: []string{"--init-file=" + init}})
	a := &aside{dir: r.m.Dir, state: asideState{Ran: []string{"/usr/sbin/mariadbd", "--port=3311"}, Unit: true}}
	if err := (&dbWriter{dir: r.m.Dir}).stop(t.Context(), r.m.PID, a); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(a.state.Ran, []string{"/usr/sbin/mariadbd", "--port=3311"}) || !a.state.Unit {
		t.Errorf("the server that ran is now %v, of a unit: %v", a.state.Ran, a.state.Unit)
	}
	if pid, err := lockedBy(r.m.Dir); err != nil || pid != 0 {
		t.Errorf("process %d still runs (%v)", pid, err)
	}
}

// A server that somebody starts while files are restored is noticed, and what was
// moved aside stays.
func TestServerStartedDuringARestoreIsNoticed(t *testing.T) {
	r := newRig(t, dbtest.MariaDBOptions{})
	w, _, err := r.host(t, r.spec())
	if err != nil {
		t.Fatal(err)
	}
	start := func() {
		kept := filepath.Join(r.m.Dir, asideName, "1", "data")
		for _, from := range []string{"ibdata1", "aria_log_control"} {
			if err := os.Link(filepath.Join(kept, from), filepath.Join(r.m.Dir, from)); err != nil {
				t.Fatal(err)
			}
		}
		// The locks are all that tells a server.
		if err := r.lock(); err != nil {
			t.Fatal(err)
		}
	}
	err = playRestore(t.Context(), meanwhile{w, start}, vss.FileRestoreStatusAll)
	if err == nil || !strings.Contains(err.Error(), "was started") || !strings.Contains(err.Error(), asideName) {
		t.Errorf("error %v", err)
	}
	if _, err := os.Lstat(filepath.Join(r.m.Dir, asideName, "1", "data", "ibdata1")); err != nil {
		t.Error(err)
	}
}

// lock takes the locks of a server in this process, until the test ends.
func (r *rig) lock() error {
	s, err := holdStopped(r.m.Dir)
	if err == nil {
		r.t.Cleanup(func() { s.release() })
	}
	return err
}

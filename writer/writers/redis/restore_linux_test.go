package redis

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/internal/dbtest"
	"github.com/sombra-backup/sombra/internal/voltest"
	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
	"github.com/sombra-backup/sombra/writer/kept"
)

// restore plays one restore operation, with what put does between the events.
func (p *play) restore(more bool, status vss.FileRestoreStatus, put func()) error {
	p.t.Helper()
	c := p.component()
	if err := c.SetAdditionalRestores(more); err != nil {
		p.t.Fatal(err)
	}
	p.send(writer.EventPreRestore)
	put()
	if err := p.component().SetFileRestoreStatus(status); err != nil {
		p.t.Fatal(err)
	}
	return p.try(writer.EventPostRestore)
}

// follows makes it an operation that comes on top of the one before.
func (p *play) follows() {
	p.t.Helper()
	if err := p.component().SetPreviousBackupStamp("the one before"); err != nil {
		p.t.Fatal(err)
	}
}

func (a *app) running() bool {
	a.t.Helper()
	pid, err := runningIn(writer.Spec{}, config{Directory: a.Dir})
	if err != nil {
		a.t.Fatal(err)
	}
	return pid != 0
}

// TestRestoreBringsBackTheInstant does so in each way in which a server keeps its
// data, after the application has gone on, and after a rewrite that leaves files of
// other names. The server's own programs then check the files.
func TestRestoreBringsBackTheInstant(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]dbtest.RedisOptions{
		"append-only file": {AppendOnly: true, Password: "sesame"},
		"RDB file":         {},
	} {
		t.Run(name, func(t *testing.T) {
			a := newApp(t, o)
			w, _ := a.writer()
			p := newPlay(t, w)
			files := p.backup(a.Dir)
			n := a.acknowledged.Load()
			for range 10 {
				if err := a.commit(t.Context(), nil); err != nil {
					t.Fatal(err)
				}
			}
			if o.AppendOnly {
				a.rewrite()
			}
			r := a.restorer(p.doc, p.stamp())
			if err := r.restore(false, vss.FileRestoreStatusAll, func() {
				if a.running() {
					t.Error("the server runs while its files are restored")
				}
				a.put(a.Dir, files)
			}); err != nil {
				t.Fatal(err)
			}
			got, err := a.count(t.Context())
			if err != nil || got != n {
				t.Errorf("the server that PostRestore started has %d transactions, %v; the backup had %d", got, err, n)
			}
			a.checkFiles(o.AppendOnly)
			for _, left := range []string{markName, kept.Directory, "appendonlydir" + asideEnding} {
				if _, err := os.Lstat(filepath.Join(a.Dir, left)); err == nil {
					t.Errorf("%s is left", left)
				}
			}
		})
	}
}

// rewrite has the append-only file rewritten, and waits for it.
func (a *app) rewrite() {
	a.t.Helper()
	if _, err := a.Do(a.t.Context(), "BGREWRITEAOF"); err != nil {
		a.t.Fatal(err)
	}
	a.quiet()
}

// quiet waits until the append-only file is not rewritten any more.
func (a *app) quiet() {
	a.t.Helper()
	f := facts{aof: true}
	for {
		r, err := a.Do(a.t.Context(), "INFO", "persistence")
		if err != nil {
			a.t.Fatal(err)
		}
		if !f.working(parseInfo(r.Text)) {
			return
		}
	}
}

// checkFiles has the server's own programs check its files.
func (a *app) checkFiles(aof bool) {
	a.t.Helper()
	n := defaultNames()
	cmd := exec.Command("redis-check-rdb", n.rdbPath(a.Dir))
	if aof {
		cmd = exec.Command("redis-check-aof", n.manifest(a.Dir))
		m, err := readManifest(n.manifest(a.Dir))
		if err != nil {
			a.t.Fatal(err)
		}
		parts, err := filepath.Glob(filepath.Join(n.aofPath(a.Dir), "*"))
		if err != nil || len(parts) != len(m)+1 {
			a.t.Errorf("%d files of an append-only file of %d parts and a manifest, %v", len(parts), len(m), err)
		}
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		a.t.Errorf("%v: %v: %s", cmd, err, out)
	}
}

// TestChainStartsTheServerAtItsEnd: each operation has a writer of its own.
func TestChainStartsTheServerAtItsEnd(t *testing.T) {
	t.Parallel()
	a := newApp(t, dbtest.RedisOptions{AppendOnly: true})
	w, _ := a.writer()
	p := newPlay(t, w)
	var chain []map[string][]byte
	for range 3 {
		chain = append(chain, p.backup(a.Dir))
		if err := a.commit(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		p = newPlay(t, w)
	}
	n := a.acknowledged.Load() - 1
	for i, files := range chain {
		more := i < len(chain)-1
		r := a.restorer(p.doc, "")
		if i > 0 {
			r.follows()
		}
		err := r.restore(more, vss.FileRestoreStatusAll, func() { a.put(a.Dir, files) })
		if err != nil {
			t.Fatal(err)
		}
		if a.running() == more {
			t.Errorf("after operation %d of %d the server runs: %v", i+1, len(chain), a.running())
		}
	}
	if got, err := a.count(t.Context()); err != nil || got != n {
		t.Errorf("restored are %d transactions, %v; the last backup had %d", got, err, n)
	}
}

// rdbBackup makes a backup of a server without an append-only file and then has it
// keep one, in which there is something else.
func rdbBackup(t *testing.T) (a *app, doc *metadata.WriterMetadata, stamp string, files map[string][]byte, n uint64) {
	a = newApp(t, dbtest.RedisOptions{})
	w, _ := a.writer()
	p := newPlay(t, w)
	files = p.backup(a.Dir)
	n = a.acknowledged.Load()
	for _, c := range [][]string{{"CONFIG", "SET", "appendonly", "yes"}, {"CONFIG", "REWRITE"}, {"FLUSHALL"}, {"SET", "other", "1"}} {
		if _, err := a.Do(t.Context(), c[0], c[1:]...); err != nil {
			t.Fatal(err)
		}
	}
	a.quiet()
	return a, p.doc, p.stamp(), files, n
}

// TestServerWithAppendOnlyFileDoesNotStartEmpty: it loads nothing but that, so it
// has to be made of the restored RDB file.
func TestServerWithAppendOnlyFileDoesNotStartEmpty(t *testing.T) {
	t.Parallel()
	a, doc, stamp, files, n := rdbBackup(t)
	// An earlier restore has ended before its server had loaded what was restored.
	earlier := filepath.Join(a.Dir, "appendonlydir"+asideEnding)
	a.put(earlier, map[string][]byte{"of": []byte("another")})
	r := a.restorer(doc, stamp)
	err := r.restore(false, vss.FileRestoreStatusAll, func() { a.put(a.Dir, files) })
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got, err := a.count(t.Context()); err != nil || got != n {
			t.Errorf("the server has %d transactions, %v; the backup had %d", got, err, n)
		}
		a.checkFiles(true)
		if _, err := a.check(); err != nil { // and after its next start
			t.Fatal(err)
		}
	}
	if left, err := filepath.Glob(earlier + "*"); err != nil || !slices.Equal(left, []string{earlier}) {
		t.Errorf("of what was moved aside there are %q, %v; there should be that of the earlier restore", left, err)
	}
	if b, err := os.ReadFile(filepath.Join(earlier, "of")); err != nil || string(b) != "another" {
		t.Errorf("it has %q, %v", b, err)
	}
	if r.failed == nil || r.failed.Code != vss.OK || !strings.Contains(r.failed.Message, earlier) {
		t.Errorf("the note is %+v", r.failed)
	}
}

// TestEmptyStartIsAnError: a server that has not loaded what was restored is not
// taken for restored.
func TestEmptyStartIsAnError(t *testing.T) {
	t.Parallel()
	a := newApp(t, dbtest.RedisOptions{})
	w, _ := a.writer()
	p := newPlay(t, w)
	p.backup(a.Dir)
	err := a.restorer(p.doc, p.stamp()).restore(false, vss.FileRestoreStatusAll, func() { os.Remove(filepath.Join(a.Dir, "dump.rdb")) })
	wantError(t, err, "began empty")
	if m := a.mark(); m.Whole {
		t.Errorf("the mark is %+v: what was there before would be removed by the next restore", m)
	}
}

func TestRestoreOfAnAppendOnlyFileNeedsAServerThatLoadsIt(t *testing.T) {
	t.Parallel()
	a := newApp(t, dbtest.RedisOptions{AppendOnly: true})
	w, _ := a.writer()
	p := newPlay(t, w)
	p.backup(a.Dir)
	if _, err := a.Do(t.Context(), "CONFIG", "SET", "appendonly", "no"); err != nil {
		t.Fatal(err)
	}
	err := a.restorer(p.doc, p.stamp()).try(writer.EventPreRestore)
	wantError(t, err, "set appendonly yes")
	if !a.running() {
		t.Error("the server was stopped for a restore that was refused")
	}
}

// TestFailedRestoreLeavesTheServerStopped: it would load a mixture.
func TestFailedRestoreLeavesTheServerStopped(t *testing.T) {
	t.Parallel()
	a := newApp(t, dbtest.RedisOptions{AppendOnly: true})
	w, _ := a.writer()
	p := newPlay(t, w)
	files := p.backup(a.Dir)
	n := a.acknowledged.Load()
	err := a.restorer(p.doc, p.stamp()).restore(false, vss.FileRestoreStatusFailed, func() {})
	wantError(t, err, "stays stopped")
	if a.running() {
		t.Error("the server was started")
	}
	// One that restores nothing does not start the mixture either.
	err = a.restorer(p.doc, p.stamp()).restore(false, vss.FileRestoreStatusNone, func() {})
	wantError(t, err, "half done")
	if a.running() {
		t.Error("a restore that restored nothing started the server")
	}
	// Nor is a server taken for restored that somebody else has started.
	err = a.restorer(p.doc, p.stamp()).restore(false, vss.FileRestoreStatusAll, func() {
		a.put(a.Dir, files)
		if err := errors.Join(a.Stop(t.Context()), a.Start(t.Context())); err != nil {
			t.Fatal(err)
		}
	})
	wantError(t, err, "was started")
	// The next restore ends what this one began.
	err = a.restorer(p.doc, p.stamp()).restore(false, vss.FileRestoreStatusAll, func() { a.put(a.Dir, files) })
	if err != nil {
		t.Fatal(err)
	}
	if got, err := a.count(t.Context()); err != nil || got != n {
		t.Errorf("restored are %d transactions, %v; the backup had %d", got, err, n)
	}
}

// TestRestoreBesideLeavesTheServerAlone: the copy is started as the documentation
// says, without a configuration of its own.
func TestRestoreBesideLeavesTheServerAlone(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]dbtest.RedisOptions{"append-only file": {AppendOnly: true}, "RDB file": {}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			restoreBeside(t, o)
		})
	}
}

func restoreBeside(t *testing.T, o dbtest.RedisOptions) {
	a := newApp(t, o)
	w, _ := a.writer()
	p := newPlay(t, w)
	files := p.backup(a.Dir)
	n := a.acknowledged.Load()
	beside := filepath.Join(scratch(t), "beside")
	r := a.restorer(p.doc, p.stamp())
	for _, set := range r.doc.Components()[0].FileSets {
		to := strings.Replace(set.Path, a.Dir, beside, 1)
		if err := r.component().AddNewTarget(metadata.NewTarget{FileSpec: set.FileSpec, NewPath: to}); err != nil {
			t.Fatal(err)
		}
	}
	err := r.restore(false, vss.FileRestoreStatusAll, func() {
		if err := a.commit(t.Context(), nil); err != nil {
			t.Errorf("the server beside which is restored: %v", err)
		}
		a.put(beside, files)
	})
	if err != nil {
		t.Fatal(err)
	}
	onlyAppend := "no"
	if o.AppendOnly {
		onlyAppend = "yes"
	}
	if got := a.countAt(beside, onlyAppend); got != n {
		t.Errorf("the copy has %d transactions, the backup had %d", got, n)
	}
	if got, err := a.count(t.Context()); err != nil || got != n+1 {
		t.Errorf("the server has %d transactions, %v; it had %d", got, err, n+1)
	}
}

// countAt starts a server on a directory by the command that the documentation has,
// and counts.
func (a *app) countAt(dir, appendOnly string) uint64 {
	a.t.Helper()
	home := scratch(a.t)
	if err := os.Chown(home, a.UID, a.GID); err != nil {
		a.t.Fatal(err)
	}
	socket := filepath.Join(home, "old.sock")
	cmd := exec.Command(dbtest.RedisBin, "--port", "0", "--unixsocket", socket, "--dir", dir, "--appendonly", appendOnly)
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(a.UID), Gid: uint32(a.GID)}}
	}
	if err := cmd.Start(); err != nil {
		a.t.Fatal(err)
	}
	defer func() { cmd.Process.Kill(); cmd.Wait() }()
	b := &app{t: a.t, Redis: &dbtest.Redis{Dir: dir, Socket: socket}}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		n, err := b.count(a.t.Context())
		if err == nil {
			return n
		}
		if time.Now().After(deadline) {
			a.t.Fatal(err)
		}
	}
}

// unitOf is a unit as the writer's host offers it, for a server of the test's own.
type unitOf struct {
	a     *app
	calls []string
}

func (*unitOf) Name() string { return "redis-server.service" }

func (u *unitOf) Stop(ctx context.Context) error {
	u.calls = append(u.calls, "stop")
	return u.a.Stop(ctx)
}

func (u *unitOf) Start(ctx context.Context) error {
	u.calls = append(u.calls, "start")
	return u.a.Start(ctx)
}

func (u *unitOf) Active(context.Context) (bool, error) { return u.a.PID != 0, nil }

// TestServerThatHidesItsDirectoryIsStopped: units with PrivateUsers= or capabilities
// of their own, as Debian's, run servers of which another process of the same user
// does not see where they work.
func TestServerThatHidesItsDirectoryIsStopped(t *testing.T) {
	if os.Geteuid() != 0 {
		voltest.Skip(t, "a server with capabilities needs root")
	}
	a := newApp(t, dbtest.RedisOptions{Hidden: true})
	w, _ := a.writer()
	p := newPlay(t, w)
	files := p.backup(a.Dir)
	n := a.acknowledged.Load()
	if err := a.commit(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	r := a.restorer(p.doc, p.stamp())
	if err := r.restore(false, vss.FileRestoreStatusAll, func() {
		if a.running() {
			t.Error("the server runs while its files are restored")
		}
		a.put(a.Dir, files)
	}); err != nil {
		t.Fatal(err)
	}
	if got, err := a.count(t.Context()); err != nil || got != n {
		t.Errorf("restored are %d transactions, %v; the backup had %d", got, err, n)
	}
}

// TestServerThatWasJustStartingIsStopped: when it was looked for it ran, and did not
// listen yet, as a restore leaves it that was killed while it started the server.
func TestServerThatWasJustStartingIsStopped(t *testing.T) {
	t.Parallel()
	a := newApp(t, dbtest.RedisOptions{})
	w, _ := a.writer()
	p := newPlay(t, w)
	files := p.backup(a.Dir)
	spec := a.storedSpec(p.doc)
	var c config
	if err := json.Unmarshal(spec.Config, &c); err != nil {
		t.Fatal(err)
	}
	if c.Socket != "" || c.Found == nil || len(c.Found.Listens) == 0 {
		t.Fatalf("nothing says where the server listens but its configuration: %+v", c)
	}
	c.Found.Listens = nil
	var err error
	if spec.Config, err = json.Marshal(c); err != nil {
		t.Fatal(err)
	}
	if err := a.restorerOf(spec, p.stamp()).restore(false, vss.FileRestoreStatusAll, func() {
		if a.running() {
			t.Error("the server runs while its files are restored")
		}
		a.put(a.Dir, files)
	}); err != nil {
		t.Fatal(err)
	}
}

// TestHiddenServerThatWasStartedIsNoticed: one started since Discover is known by its
// unit alone.
func TestHiddenServerThatWasStartedIsNoticed(t *testing.T) {
	if os.Geteuid() != 0 {
		voltest.Skip(t, "a server with capabilities needs root")
	}
	a := newApp(t, dbtest.RedisOptions{Hidden: true, AppendOnly: true})
	if err := a.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	w, _, err := a.host(a.spec(config{Directory: a.Dir}))
	if err != nil {
		t.Fatal(err)
	}
	p := newPlay(t, w)
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.send(writer.EventPrepareForBackup, writer.EventPrepareForSnapshot)
	wantError(t, p.try(writer.EventFreeze), "name its unit")
}

// TestUnitStopsAndStartsTheServer: where a unit runs the server, nothing else does.
func TestUnitStopsAndStartsTheServer(t *testing.T) {
	t.Parallel()
	a := newApp(t, dbtest.RedisOptions{AppendOnly: true})
	w, _ := a.writer()
	p := newPlay(t, w)
	files := p.backup(a.Dir)
	n := a.acknowledged.Load()
	if err := a.commit(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	spec := a.storedSpec(p.doc)
	u := &unitOf{a: a}
	spec.Service = u
	in, err := Kind{}.New(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	r := newPlay(t, in)
	c := r.component()
	if err := errors.Join(c.SetSelectedForRestore(true, vss.GUID{}), c.SetBackupStamp(vss.BackupStamp(p.stamp()))); err != nil {
		t.Fatal(err)
	}
	if err := r.restore(false, vss.FileRestoreStatusAll, func() { a.put(a.Dir, files) }); err != nil {
		t.Fatal(err)
	}
	if got, err := a.count(t.Context()); err != nil || got != n || !slices.Equal(u.calls, []string{"stop", "start"}) {
		t.Errorf("restored are %d transactions, %v; the backup had %d; the unit was told %q", got, err, n, u.calls)
	}
}

// TestWhatWasThereIsKeptUntilTheRestoredIsLoaded: restored files that the server does
// not load, or that came half, leave what was there before where the message says; if
// nothing was restored it is back, and the server runs on it.
func TestWhatWasThereIsKeptUntilTheRestoredIsLoaded(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]dbtest.RedisOptions{"append-only file": {AppendOnly: true}, "RDB file": {}} {
		t.Run(name, func(t *testing.T) {
			a := newApp(t, o)
			w, _ := a.writer()
			p := newPlay(t, w)
			files := p.backup(a.Dir)
			for range 10 {
				if err := a.commit(t.Context(), nil); err != nil {
					t.Fatal(err)
				}
			}
			n := a.acknowledged.Load()
			aside := filepath.Join(a.Dir, kept.Directory)
			gone := func() {
				t.Helper()
				for _, left := range []string{markName, kept.Directory} {
					if _, err := os.Lstat(filepath.Join(a.Dir, left)); err == nil {
						t.Errorf("%s is left", left)
					}
				}
			}

			if err := a.restorer(p.doc, p.stamp()).restore(false, vss.FileRestoreStatusNone, func() {}); err != nil {
				t.Fatal(err)
			}
			if got, err := a.count(t.Context()); err != nil || got != n {
				t.Errorf("after nothing was restored the server has %d transactions, %v; it had %d", got, err, n)
			}
			gone()

			half := map[string][]byte{}
			for name := range files {
				half[name] = []byte("half of it")
				break
			}
			err := a.restorer(p.doc, p.stamp()).restore(false, vss.FileRestoreStatusFailed, func() { a.put(a.Dir, half) })
			wantError(t, err, "kept in "+aside)
			if got := a.countIn(filepath.Join(aside, "1"), o.AppendOnly); got != n {
				t.Errorf("what is kept has %d transactions; there were %d", got, n)
			}

			if err := a.restorer(p.doc, p.stamp()).restore(false, vss.FileRestoreStatusAll, func() { a.put(a.Dir, files) }); err != nil {
				t.Fatal(err)
			}
			if got, err := a.count(t.Context()); err != nil || got != n-10 {
				t.Errorf("the restored server has %d transactions, %v; the backup had %d", got, err, n-10)
			}
			gone()
		})
	}
}

// countIn starts another server on files that were put aside, and counts.
func (a *app) countIn(aside string, aof bool) uint64 {
	a.t.Helper()
	to := filepath.Join(scratch(a.t), "data")
	for part, dir := range map[string]string{asideRDB: to, asideAOF: filepath.Join(to, "appendonlydir")} {
		names, err := filepath.Glob(filepath.Join(aside, part, "*"))
		if err != nil {
			a.t.Fatal(err)
		}
		for _, name := range names {
			b, err := os.ReadFile(name)
			if err := errors.Join(err, os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, filepath.Base(name)), b, 0o644)); err != nil {
				a.t.Fatal(err)
			}
		}
	}
	err := filepath.WalkDir(to, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Chown(path, a.UID, a.GID))
	})
	if err != nil {
		a.t.Fatal(err)
	}
	r, err := dbtest.StartRedis(a.t.Context(), dbtest.RedisOptions{Dir: to, AppendOnly: aof})
	if err != nil {
		a.t.Fatal(err)
	}
	defer r.Close()
	n, err := (&app{t: a.t, Redis: r}).count(a.t.Context())
	if err != nil {
		a.t.Fatal(err)
	}
	return n
}

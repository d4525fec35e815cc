package redis

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/internal/dbtest"
	"github.com/sombra-backup/sombra/internal/voltest"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
	"github.com/sombra-backup/sombra/writer/kept"
)

// killed is a server of which there is a backup, and a restore that was killed after
// PreRestore, or with some files restored.
type killed struct {
	*app
	*play
	files map[string][]byte
	n     uint64 // transactions, in the backup and before the restore
}

func newKilled(t *testing.T, half map[string][]byte) *killed {
	t.Helper()
	a := newApp(t, dbtest.RedisOptions{AppendOnly: true})
	w, _ := a.writer()
	k := &killed{app: a, play: newPlay(t, w)}
	k.files = k.play.backup(a.Dir)
	k.n = a.acknowledged.Load()
	a.restorer(k.doc, k.stamp()).send(writer.EventPreRestore)
	a.put(a.Dir, half)
	return k
}

// again restores once more.
func (k *killed) again(more bool, status vss.FileRestoreStatus) error {
	k.app.t.Helper()
	return k.restorer(k.doc, k.stamp()).restore(more, status, func() {
		if status == vss.FileRestoreStatusAll {
			k.put(k.Dir, k.files)
		}
	})
}

// holds makes sure that the server runs with that many transactions.
func (k *killed) holds(n uint64) {
	k.app.t.Helper()
	if got, err := k.count(k.app.t.Context()); err != nil || got != n {
		k.app.t.Errorf("the server has %d transactions, %v; there should be %d", got, err, n)
	}
}

// keeps makes sure that what was there before all restores is put aside.
func (k *killed) keeps() {
	k.app.t.Helper()
	if got := k.countIn(filepath.Join(k.Dir, kept.Directory, "1"), true); got != k.n {
		k.app.t.Errorf("what is kept has %d transactions; there were %d", got, k.n)
	}
}

// stays makes sure that a restore of nothing says where the data is, and does not
// start the server.
func (k *killed) stays(err error, text string) {
	k.app.t.Helper()
	wantError(k.app.t, err, text)
	wantError(k.app.t, err, "kept in "+filepath.Join(k.Dir, kept.Directory))
	if k.running() {
		k.app.t.Error("the server was started")
	}
	k.keeps()
}

// ends makes sure that a restore of all succeeds now, and leaves of what is aside what
// a server has run after, and nothing else.
func (k *killed) ends(left ...string) {
	k.app.t.Helper()
	if err := k.again(false, vss.FileRestoreStatusAll); err != nil {
		k.app.t.Fatal(err)
	}
	k.holds(k.n)
	if _, err := os.Lstat(filepath.Join(k.Dir, markName)); err == nil {
		k.app.t.Errorf("%s is left", markName)
	}
	for i, name := range left {
		left[i] = filepath.Join(k.Dir, kept.Directory, name)
	}
	if after := k.asides(); !slices.Equal(left, after) {
		k.app.t.Errorf("after a restore that succeeded %q are aside, want %q", after, left)
	}
}

// mark is what the writer, as another user perhaps, has noted.
func (a *app) mark() (m mark) {
	a.t.Helper()
	text, err := os.ReadFile(filepath.Join(a.Dir, markName))
	if err := errors.Join(err, json.Unmarshal(text, &m)); err != nil {
		a.t.Fatal(err)
	}
	return m
}

// asides lists what restores have put aside.
func (a *app) asides() []string {
	a.t.Helper()
	list, err := filepath.Glob(filepath.Join(a.Dir, kept.Directory, "*"))
	if err != nil {
		a.t.Fatal(err)
	}
	return list
}

var half = map[string][]byte{"appendonlydir/appendonly.aof.1.base.rdb": []byte("half")}

// TestKilledBeforeTheFirstFile: a restore after it that restores nothing puts back
// what was there before both.
func TestKilledBeforeTheFirstFile(t *testing.T) {
	t.Parallel()
	k := newKilled(t, nil)
	if err := k.again(false, vss.FileRestoreStatusNone); err != nil {
		t.Error(err)
	}
	k.holds(k.n)
}

// TestKilledHalfWay: no server is started on half a restore, however often nothing is
// restored after it.
func TestKilledHalfWay(t *testing.T) {
	t.Parallel()
	k := newKilled(t, half)
	for range 2 {
		k.stays(k.again(false, vss.FileRestoreStatusNone), "half done")
	}
	k.ends()
}

// TestAnOperationThatWasNotPreparedPutsNothingBack: what is aside is that of the
// restore before it, and so may the files be that are here.
func TestAnOperationThatWasNotPreparedPutsNothingBack(t *testing.T) {
	t.Parallel()
	k := newKilled(t, half)
	r := k.restorer(k.doc, k.stamp())
	if err := r.component().SetFileRestoreStatus(vss.FileRestoreStatusNone); err != nil {
		t.Fatal(err)
	}
	k.stays(r.try(writer.EventPostRestore), "has not ended")
	for name, want := range half {
		if got, err := os.ReadFile(filepath.Join(k.Dir, name)); err != nil || string(got) != string(want) {
			t.Errorf("%s has %d bytes, %v", name, len(got), err)
		}
	}
	k.ends()
}

// TestServerStartedAfterAKill: what it has written is its data, and what was there
// before the killed restore is not forgotten.
func TestServerStartedAfterAKill(t *testing.T) {
	t.Parallel()
	k := newKilled(t, nil)
	if err := errors.Join(k.Stop(t.Context()), k.Start(t.Context())); err != nil {
		t.Fatal(err)
	}
	k.acknowledged.Store(0)
	for range 3 {
		if err := k.commit(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	wantError(t, k.again(false, vss.FileRestoreStatusNone), "kept in "+filepath.Join(k.Dir, kept.Directory))
	k.holds(3)
	k.keeps()
	k.ends("1")
}

// TestNothingIsPutBackUnderARunningServer: PreRestore refuses the server that somebody
// has started after a killed restore, and PostRestore leaves both alone.
func TestNothingIsPutBackUnderARunningServer(t *testing.T) {
	t.Parallel()
	k := newKilled(t, nil)
	if err := errors.Join(k.Stop(t.Context()), k.Start(t.Context())); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Do(t.Context(), "CONFIG", "SET", "appendonly", "no"); err != nil {
		t.Fatal(err)
	}
	r := k.restorer(k.doc, k.stamp())
	wantError(t, r.try(writer.EventPreRestore), "set appendonly yes")
	if err := r.component().SetFileRestoreStatus(vss.FileRestoreStatusNone); err != nil {
		t.Fatal(err)
	}
	wantError(t, r.try(writer.EventPostRestore), "kept in "+filepath.Join(k.Dir, kept.Directory))
	if !k.running() {
		t.Error("the server was stopped")
	}
	k.keeps()
}

// TestChainThatStopsHalfWay: an operation that restores nothing after one that did
// does not start the server, whether or not more were to follow; the first one of a
// chain puts back what was there.
func TestChainThatStopsHalfWay(t *testing.T) {
	t.Parallel()
	k := newKilled(t, nil)
	if err := k.again(true, vss.FileRestoreStatusNone); err != nil {
		t.Error(err)
	}
	k.holds(k.n)
	for _, more := range []bool{true, false} {
		if err := k.again(true, vss.FileRestoreStatusAll); err != nil {
			t.Fatal(err)
		}
		r := k.restorer(k.doc, "")
		r.follows()
		k.stays(r.restore(more, vss.FileRestoreStatusNone, func() {}), "a part")
		k.stays(k.again(false, vss.FileRestoreStatusNone), "half done")
	}
	k.ends()
}

// TestChainIntoAnEmptyDirectory: what its first operation has restored where nothing
// was is not put aside by the second, which may have nothing to write.
func TestChainIntoAnEmptyDirectory(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]dbtest.RedisOptions{"append-only file": {AppendOnly: true}, "RDB file": {}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newApp(t, o)
			w, _ := a.writer()
			p := newPlay(t, w)
			files := p.backup(a.Dir)
			if err := a.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
			for rel := range files {
				if err := os.Remove(filepath.Join(a.Dir, rel)); err != nil {
					t.Fatal(err)
				}
			}
			if err := a.restorer(p.doc, "").restore(true, vss.FileRestoreStatusAll, func() { a.put(a.Dir, files) }); err != nil {
				t.Fatal(err)
			}
			r := a.restorer(p.doc, p.stamp())
			r.follows()
			if err := r.restore(false, vss.FileRestoreStatusAll, func() {}); err != nil {
				t.Error(err)
			}
			for rel, want := range files {
				if got, err := os.ReadFile(filepath.Join(a.Dir, rel)); err != nil || string(got) != string(want) {
					t.Errorf("%s has %d bytes of %d, %v", rel, len(got), len(want), err)
				}
			}
			for _, left := range []string{markName, kept.Directory} {
				if _, err := os.Lstat(filepath.Join(a.Dir, left)); err == nil {
					t.Errorf("%s is left", left)
				}
			}
		})
	}
}

// TestServerStartedWithinAChain: what it has written is its data. An operation that
// goes on with the chain refuses to write over it, one that begins it puts it aside.
func TestServerStartedWithinAChain(t *testing.T) {
	t.Parallel()
	k := newKilled(t, nil)
	if err := k.again(true, vss.FileRestoreStatusAll); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(k.Stop(t.Context()), k.Start(t.Context())); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := k.commit(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	r := k.restorer(k.doc, k.stamp())
	r.follows()
	wantError(t, r.try(writer.EventPreRestore), "before all backups of the chain were restored")
	if err := k.again(false, vss.FileRestoreStatusNone); err == nil {
		t.Error("that what was there before is kept is not said")
	}
	k.holds(k.n + 3)
	if err := k.again(false, vss.FileRestoreStatusFailed); err == nil {
		t.Error("a restore of some files is no error")
	}
	if got := k.countIn(filepath.Join(k.Dir, kept.Directory, "2"), true); got != k.n+3 {
		t.Errorf("of what the server had, %d transactions are kept; there were %d", got, k.n+3)
	}
	k.keeps()
	k.ends("1")
}

// TestKilledWhileTheRestoredServerStarts: it runs on what was restored whole, so that
// what was there before is needed no more when a restore succeeds.
func TestKilledWhileTheRestoredServerStarts(t *testing.T) {
	t.Parallel()
	k := newKilled(t, nil)
	k.put(k.Dir, k.files)
	m := k.mark()
	m.Whole = true // as PostRestore notes it
	text, err := json.Marshal(m)
	if err := errors.Join(err, os.WriteFile(filepath.Join(k.Dir, markName), text, 0o600), k.Stop(t.Context()), k.Start(t.Context())); err != nil {
		t.Fatal(err)
	}
	k.ends()
}

// TestServerUsedAndStoppedWithinAChain: what it has written is noticed, though it does
// not run any more, and is there still, however often the chain is gone on with.
func TestServerUsedAndStoppedWithinAChain(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]dbtest.RedisOptions{"append-only file": {AppendOnly: true}, "RDB file": {}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newApp(t, o)
			w, _ := a.writer()
			p := newPlay(t, w)
			files := p.backup(a.Dir)
			if err := a.restorer(p.doc, "").restore(true, vss.FileRestoreStatusAll, func() { a.put(a.Dir, files) }); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(a.Stop(t.Context()), a.Start(t.Context())); err != nil {
				t.Fatal(err)
			}
			for range 3 {
				if err := a.commit(t.Context(), nil); err != nil {
					t.Fatal(err)
				}
			}
			n := a.acknowledged.Load()
			if err := a.end(); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				r := a.restorer(p.doc, p.stamp())
				r.follows()
				wantError(t, r.try(writer.EventPreRestore), "not as the chain's last restore left them")
				if err := r.component().SetFileRestoreStatus(vss.FileRestoreStatusNone); err != nil {
					t.Fatal(err)
				}
				wantError(t, r.try(writer.EventPostRestore), "not as the chain's last restore left them")
			}
			if got, err := a.check(); err != nil || got != n {
				t.Errorf("the server has %d transactions, %v; it had %d", got, err, n)
			}
			if err := a.end(); err != nil {
				t.Fatal(err)
			}
			if err := a.restorer(p.doc, p.stamp()).restore(false, vss.FileRestoreStatusAll, func() { a.put(a.Dir, files) }); err != nil {
				t.Error(err)
			}
			if got, err := a.check(); err != nil || got != n-3 {
				t.Errorf("restored from the chain's beginning are %d transactions, %v; the backup had %d", got, err, n-3)
			}
		})
	}
}

// TestAppendOnlyFileOfAnotherNameAfterAKill: the server does not run, as the restore
// that was killed has stopped it, and by its mark alone is it known where the server
// looks for its append-only file.
func TestAppendOnlyFileOfAnotherNameAfterAKill(t *testing.T) {
	t.Parallel()
	a := newApp(t, dbtest.RedisOptions{})
	w, _ := a.writer()
	p := newPlay(t, w)
	files := p.backup(a.Dir)
	n := a.acknowledged.Load()
	if err := a.end(); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(a.Config, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString("appendonly yes\nappenddirname other\nappendfilename log.aof\n")
	if err := errors.Join(err, f.Close(), a.Start(t.Context())); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Do(t.Context(), "SET", "another", "1"); err != nil {
		t.Fatal(err)
	}
	a.quiet()
	a.restorer(p.doc, p.stamp()).send(writer.EventPreRestore) // and then it is killed
	if err := a.restorer(p.doc, p.stamp()).restore(false, vss.FileRestoreStatusAll, func() { a.put(a.Dir, files) }); err != nil {
		t.Fatal(err)
	}
	if got, err := a.count(t.Context()); err != nil || got != n {
		t.Errorf("the server has %d transactions, %v; the backup had %d", got, err, n)
	}
	if _, err := os.Lstat(filepath.Join(a.Dir, "appendonlydir")); err == nil {
		t.Error("an append-only file was made that no server looks for")
	}
}

// A mark that finds no room takes nothing from the one that is there.
func TestMarkThatFindsNoRoomLeavesTheOneBefore(t *testing.T) {
	v := voltest.Tmpfs(t, 1<<20)
	if err := (mark{Ran: true, Aside: 7}).write(v.Root); err != nil {
		t.Fatal(err)
	}
	v.Fill(t, 0)
	if err := (mark{Ran: true, Aside: 8, Args: []string{strings.Repeat("x", 8000)}}).write(v.Root); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("it was written to a full volume: %v", err)
	}
	if m, err := readMark(v.Root); err != nil || m == nil || m.Aside != 7 {
		t.Errorf("the mark is %+v, %v", m, err)
	}
	if _, err := os.Lstat(filepath.Join(v.Root, markName+".new")); err == nil {
		t.Error("a part of the new one is left")
	}
}

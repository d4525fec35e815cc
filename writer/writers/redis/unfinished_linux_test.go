package redis

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/sombra-backup/sombra/internal/dbtest"
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

// ends makes sure that a restore of all succeeds now, and leaves nothing.
func (k *killed) ends() {
	k.app.t.Helper()
	if err := k.again(false, vss.FileRestoreStatusAll); err != nil {
		k.app.t.Fatal(err)
	}
	k.holds(k.n)
	for _, name := range []string{kept.Directory, markName} {
		if _, err := os.Lstat(filepath.Join(k.Dir, name)); err == nil {
			k.app.t.Errorf("%s is left", name)
		}
	}
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
	k.ends()
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
		k.stays(k.again(more, vss.FileRestoreStatusNone), "a part")
		k.stays(k.again(false, vss.FileRestoreStatusNone), "half done")
	}
	k.ends()
}

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/internal/voltest"
	"github.com/sombra-backup/sombra/writer"
)

// fileSystems are those on which each of the providers is the one chosen: btrfs,
// reflink and precopy.
var fileSystems = []string{"btrfs", "xfs", "ext4"}

var providerOf = map[string]string{"btrfs": "btrfs", "xfs": "reflink", "ext4": "precopy"}

var journalModes = []string{"wal", "delete"}

func newVolume(t *testing.T, fstype string) *voltest.Volume {
	t.Helper()
	return map[string]func(testing.TB, int64, ...string) *voltest.Volume{
		"btrfs": voltest.Btrfs, "xfs": voltest.XFS, "ext4": voltest.Ext4}[fstype](t, 0)
}

// TestHeldDatabaseAnswersReadsAndLosesNoWrite: while a database is held, reads
// are answered within a second and no client's write fails; each write issued
// meanwhile completes after Thaw and is not in the backup, and every transaction
// acknowledged before Freeze is.
func TestHeldDatabaseAnswersReadsAndLosesNoWrite(t *testing.T) {
	for _, fstype := range fileSystems {
		for _, mode := range journalModes {
			t.Run(fstype+"/"+mode, func(t *testing.T) { heldDatabase(t, fstype, mode) })
		}
	}
}

func heldDatabase(t *testing.T, fstype, mode string) {
	v := newVolume(t, fstype)
	m := newMachine(t)
	l := newLoad(t, filepath.Join(v.Root, "app.db"), mode)
	reads := filepath.Join(m.dir, "reads")
	child(t, "test-read", l.db, reads, mode)
	waitFor(t, 10*time.Second, "the reader reads", func() bool { return len(transactions(t, reads)) > 5 })

	g, _ := m.newGate(v.Root, writer.EventFreeze)
	r := m.start(false, "backup", "--json", v.Root)
	g.wait(t, r)
	frozen := time.Now()
	var waiting []func() transaction
	for range 3 {
		waiting = append(waiting, l.late())
	}
	time.Sleep(1200 * time.Millisecond)
	thawed := time.Now()
	g.release()

	res := r.wait().exits(0).summary()
	if got, want := res.Receipt.Volumes[0].Provider, providerOf[fstype]; !strings.EqualFold(got, want) {
		t.Errorf("the shadow copy was made by %s, want %s", got, want)
	}
	for _, answer := range waiting {
		if tx := answer(); tx.begun.Before(frozen) || tx.begun.After(thawed) || tx.acked.Before(thawed) {
			t.Errorf("a write was issued at %v and acknowledged at %v; held from %v to %v", tx.begun, tx.acked, frozen, thawed)
		}
	}
	l.await(10*time.Second, 5)
	answered := l.checkReads(transactions(t, reads), frozen, thawed)
	l.checkWrites(frozen, thawed)
	dir := filepath.Join(m.dir, "extract")
	m.must("extract", res.ID, dir)
	c := l.copied(dir)
	l.shows(c, frozen, frozen)
	if c.late != 0 {
		t.Errorf("%d writes issued during the hold are in the backup", c.late)
	}
	if _, err := os.Stat(filepath.Join(dir, l.db+"-shm")); err == nil {
		t.Error("the backup has a -shm file")
	}
	t.Logf("held for %v: %d reads answered, 4 writes waited and completed; the copy ends with transaction %d",
		thawed.Sub(frozen).Round(time.Millisecond), answered, c.last)
}

// checkReads checks that reads were answered within a second of Freeze, or of
// their beginning after it, and tells how many.
func (l *load) checkReads(reads []transaction, frozen, thawed time.Time) (answered int) {
	l.t.Helper()
	for _, rd := range reads {
		from := rd.begun
		if from.Before(frozen) {
			from = frozen // what it waited for before was other clients' writes
		}
		if rd.acked.Before(frozen) || from.Add(time.Second).After(thawed) {
			continue
		}
		if took := rd.acked.Sub(from); took > time.Second {
			l.t.Errorf("a read waited for %v while the database was held", took)
		}
		answered++
	}
	if answered == 0 {
		l.t.Errorf("%d reads were answered in %v of the hold", answered, thawed.Sub(frozen))
	}
	return answered
}

// checkWrites checks that the client's one write of that time waited for Thaw.
func (l *load) checkWrites(frozen, thawed time.Time) {
	l.t.Helper()
	waited := 0
	for _, tx := range l.transactions() {
		switch {
		case tx.begun.Before(thawed) && tx.acked.After(thawed):
			waited++
		case tx.begun.After(frozen) && tx.begun.Before(thawed):
			l.t.Errorf("transaction %d was begun %v after Freeze and acknowledged before Thaw", tx.n, tx.begun.Sub(frozen))
		}
	}
	if waited != 1 {
		l.t.Errorf("%d transactions of the client waited for Thaw, want one", waited)
	}
}

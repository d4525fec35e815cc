package e2e

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/writer"
)

// TestSetThatFailsLetsGoAndMakesNoRecord: a provider that fails while
// applications are held aborts the whole set: exit code 1 and the provider's
// code, Thaw, Abort and BackupShutdown for every writer, BackupComplete for none,
// no record and no copy.
func TestSetThatFailsLetsGoAndMakesNoRecord(t *testing.T) {
	for _, fstype := range fileSystems {
		t.Run(fstype, func(t *testing.T) {
			v := newVolume(t, fstype)
			m := newMachine(t)
			l := newLoad(t, filepath.Join(v.Root, "app.db"), "wal")
			g, _ := m.newGate(v.Root, writer.EventFreeze)
			start := time.Now()
			r := m.start(false, "backup", v.Root)
			g.wait(t, r)
			if err := os.RemoveAll(filepath.Join(v.Root, ".sombra")); err != nil {
				t.Fatal(err)
			}
			g.release()
			r.wait().exits(1).says(v.Root, providerOf[fstype], "VSS_E_")
			m.failedSet(g)
			l.noGap(start, 2*time.Second)
			waitFor(t, 5*time.Second, "nothing is left of the run", func() bool { return len(m.left(v.Root)) == 0 })
			g.at = 0
			m.must("backup", v.Root)
		})
	}
}

// failedSet checks what the writers were told of a set that failed.
func (m *machine) failedSet(g *gate) {
	m.t.Helper()
	for _, kind := range []writer.EventKind{writer.EventFreeze, writer.EventThaw, writer.EventAbort, writer.EventBackupShutdown} {
		if !g.got(kind) {
			m.t.Errorf("no %v: %v", kind, g.seen())
		}
	}
	if g.got(writer.EventPostSnapshot) || g.got(writer.EventBackupComplete) {
		m.t.Errorf("a set that failed went on: %v", g.seen())
	}
	if list := m.backups(); len(list) > 0 {
		m.t.Errorf("there are records: %v", list)
	}
}

// TestProviderStuckInTheKernelIsNotWaitedFor: a shadow copy that hangs in the
// kernel, here on a volume somebody has frozen, is given up at the hold limit,
// and the writers are let go while it still hangs. Its copy is deleted when it
// returns.
func TestProviderStuckInTheKernelIsNotWaitedFor(t *testing.T) {
	v := newVolume(t, "ext4")
	m := newMachine(t)
	l := newLoad(t, filepath.Join(v.Root, "app.db"), "wal")
	g, _ := m.newGate(v.Root, writer.EventFreeze)
	r := m.start(false, "backup", "--hold-limit", "1s", v.Root)
	g.wait(t, r)
	unfreeze := freezeVolume(t, v.Root)
	stuck := time.Now()
	g.release()
	waitFor(t, 5*time.Second, "Thaw and Abort come while the provider hangs", func() bool {
		return g.got(writer.EventThaw) && g.got(writer.EventAbort)
	})
	t.Logf("let go %v after the provider got stuck", time.Since(stuck).Round(time.Millisecond))
	unfreeze()
	r.wait().exits(1).says("VSS_E_HOLD_WRITES_TIMEOUT", "1s")
	m.failedSet(g)
	l.await(5*time.Second, 5)
	m.must("backup", v.Root) // removes what the other could not
	if list := m.left(v.Root); len(list) > 0 {
		t.Errorf("left: %v", list)
	}
}

// freezeVolume freezes a file system as fsfreeze does. What is returned thaws
// it, as the end of the test does.
func freezeVolume(t *testing.T, root string) (thaw func()) {
	t.Helper()
	const fiFreeze, fiThaw = 0xc0045877, 0xc0045878
	dir, err := os.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetInt(int(dir.Fd()), fiFreeze, 0); err != nil {
		t.Fatalf("freeze %s: %v", root, err)
	}
	frozen := true
	thaw = func() {
		if !frozen {
			return
		}
		frozen = false
		if err := unix.IoctlSetInt(int(dir.Fd()), fiThaw, 0); err != nil {
			t.Errorf("thaw %s: %v", root, err)
		}
		dir.Close()
	}
	t.Cleanup(thaw)
	return thaw
}

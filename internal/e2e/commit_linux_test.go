package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/internal/voltest"
	"github.com/sombra-backup/sombra/writer"
)

// TestRecordThatCannotBeWrittenMeansNoBackupComplete: where the record cannot be
// committed the backup has failed: exit code 1, no record, BackupShutdown for
// the writers, and BackupComplete, in which they truncate their logs, for none.
func TestRecordThatCannotBeWrittenMeansNoBackupComplete(t *testing.T) {
	for name, block := range map[string]func(t *testing.T, v *voltest.Volume, repo string) (undo func()){
		"the repository's volume is full": func(t *testing.T, v *voltest.Volume, _ string) func() {
			v.Fill(t, 0)
			return func() { v.Empty(t) }
		},
		"no record can be made": func(t *testing.T, _ *voltest.Volume, repo string) func() {
			records := filepath.Join(repo, "records")
			if err := os.MkdirAll(records, 0o700); err != nil {
				t.Fatal(err)
			}
			return immutable(t, records)
		},
		"the repository is read-only": func(t *testing.T, v *voltest.Volume, _ string) func() {
			v.Remount(t, true)
			return func() { v.Remount(t, false) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			v, store := voltest.Ext4(t, 0), voltest.Ext4(t, 0)
			m := bareMachine(t, filepath.Join(store.Root, "repository"))
			m.must("init")
			l := newLoad(t, filepath.Join(v.Root, "app.db"), "wal")
			log := m.testWriter(filepath.Join(v.Root, "shop"), "", "", "")
			g, _ := m.newGate(v.Root, writer.EventPostSnapshot)
			r := m.start(false, "backup", v.Root)
			g.wait(t, r)
			undo := block(t, store, m.repo)
			g.release()
			o := r.wait()
			undo()
			o.exits(1)
			if o.err == "" {
				t.Error("it does not say why")
			}
			t.Log(strings.TrimSpace(o.err))
			for who, events := range map[string]string{"Test Writer": strings.Join(logged(t, log), " "), "gate": fmt.Sprint(g.seen())} {
				if !strings.Contains(events, "BackupShutdown") || strings.Contains(events, "BackupComplete") {
					t.Errorf("the %s got %s", who, events)
				}
			}
			if list := m.backups(); len(list) > 0 {
				t.Errorf("there are records: %v", list)
			}
			waitFor(t, 5*time.Second, "nothing is left of the run", func() bool { return len(m.left(v.Root)) == 0 })
			l.await(5*time.Second, 5)
			m.must("backup", v.Root)
			m.must("check", "--read-data")
		})
	}
}

// immutable forbids all changes of a directory. What is returned allows them
// again.
func immutable(t *testing.T, dir string) (undo func()) {
	t.Helper()
	const flag = 0x10 // FS_IMMUTABLE_FL
	set := func(change func(uint32) uint32) {
		f, err := os.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		flags, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS)
		if err == nil {
			err = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, int(change(flags)))
		}
		if err != nil {
			t.Fatalf("set the flags of %s: %v", dir, err)
		}
	}
	set(func(f uint32) uint32 { return f | flag })
	return func() { set(func(f uint32) uint32 { return f &^ flag }) }
}

// TestKillAroundTheCommitNeverCompletesWithoutRecord: a run killed shortly before
// or shortly after its record is committed has sent BackupComplete only if the
// record is there, whole.
func TestKillAroundTheCommitNeverCompletesWithoutRecord(t *testing.T) {
	v := newVolume(t, "ext4")
	m := newMachine(t)
	l := newLoad(t, filepath.Join(v.Root, "app.db"), "wal")
	records := filepath.Join(m.repo, "records")
	if err := os.MkdirAll(records, 0o700); err != nil {
		t.Fatal(err)
	}
	tally := map[string]int{}
	n := rounds(60)
	for i := range n {
		g, end := m.newGate(v.Root, 0)
		before := len(m.backups())
		r := m.start(false, "backup", "--json", v.Root)
		if !r.until(func(line string) bool { return strings.Contains(line, `"phase":"commit"`) }) {
			t.Fatalf("the run has not come to its commit: %+v", r.wait())
		}
		switch i % 3 {
		case 0: // at once
		case 1:
			time.Sleep(time.Duration(i*97%50) * time.Millisecond)
		case 2:
			waitFor(t, 20*time.Second, "a record appears", func() bool { return countRecords(t, records) > before || dead(r.cmd.Process.Pid) })
		}
		syscall.Kill(r.cmd.Process.Pid, syscall.SIGKILL) // it may have ended
		o := r.wait()
		waitFor(t, 5*time.Second, "nothing is left of the run", func() bool { return len(m.left(v.Root)) == 0 })
		there, told := len(m.backups()) > before, g.got(writer.EventBackupComplete)
		if told && !there {
			t.Errorf("round %d: BackupComplete was sent, and there is no record", i)
		}
		if o.code == 0 && !there {
			t.Errorf("round %d: the run ended well, and there is no record", i)
		}
		tally[fmt.Sprintf("record %v, BackupComplete %v", there, told)]++
		end()
	}
	t.Logf("%d runs killed around the commit: %v", n, tally)
	if tally["record false, BackupComplete false"] == 0 || tally["record false, BackupComplete false"] == n {
		t.Errorf("only one side of the commit was hit: %v", tally)
	}
	res := m.must("backup", "--json", v.Root).summary()
	m.must("check", "--read-data")
	dir := filepath.Join(m.dir, "extract")
	m.must("extract", res.ID, dir)
	l.copied(dir)
}

// countRecords counts the record objects, without those being written.
func countRecords(t *testing.T, dir string) (n int) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") {
			n++
		}
	}
	return n
}

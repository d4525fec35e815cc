package e2e

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/internal/voltest"
	"github.com/sombra-backup/sombra/writer"
)

// roleHolder is the role of the process between freeze and thaw.
const roleHolder = "__freeze-holder"

// holder finds the machine's holder.
func (m *machine) holder() int {
	m.t.Helper()
	for _, p := range processes(m.t) {
		if p.role == roleHolder {
			return p.pid
		}
	}
	m.t.Fatal("no process holds the writers")
	return 0
}

// blocked checks that a write to the database waits, and gives what waits for its
// answer.
func (l *load) blocked() func() transaction {
	l.t.Helper()
	answer := l.late()
	before := len(l.transactions())
	time.Sleep(300 * time.Millisecond)
	if now := len(l.transactions()); now > before+1 {
		l.t.Fatalf("the client wrote %d times while it was held", now-before)
	}
	return answer
}

// freezeRig is a machine and a database with a client.
func freezeRig(t *testing.T) (*machine, *load) {
	t.Helper()
	m := newMachine(t)
	return m, newLoad(t, filepath.Join(scratch(t), "app.db"), "wal")
}

// nothingLeft waits until no process, lock or socket of a hold is left, and a
// backup succeeds.
func (m *machine) nothingLeft(l *load) {
	m.t.Helper()
	l.await(10*time.Second, 5)
	waitFor(m.t, 15*time.Second, "the lock is free", func() bool { return tryFlock(m.t, filepath.Join(m.state(), "lock")) })
	waitFor(m.t, 15*time.Second, "no process is left", func() bool { return len(processes(m.t)) == 0 })
	m.must("backup", filepath.Dir(l.db))
	if list := m.left(filepath.Dir(l.db)); len(list) > 0 {
		m.t.Errorf("left: %v", list)
	}
}

// TestWhatHoldsIsKilled: SIGKILL of any process of a hold. The application accepts
// writes within two seconds, unless it is still held as it was, and thaw tells
// whether it was held throughout.
func TestWhatHoldsIsKilled(t *testing.T) {
	for _, c := range []struct {
		name string
		role []string
		code []int // of thaw
		held bool
		// always: also where not everything is run.
		always bool
	}{
		{"holder", []string{roleHolder}, []int{4}, false, false},
		{"holder and keeper", []string{roleHolder, roleKeeper}, []int{4}, false, true},
		{"holder and host", []string{roleHolder, roleHost}, []int{4}, false, false},
		{"host", []string{roleHost}, []int{3}, false, false},
		{"keeper", []string{roleKeeper}, []int{0}, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if !c.always {
				onlyInTorture(t)
			}
			m, l := freezeRig(t)
			m.must("freeze", filepath.Dir(l.db)).says("1 writer held")
			answer := l.blocked()
			holder := m.holder()
			for _, role := range c.role {
				pid := holder
				if role != roleHolder {
					pid = childOf(t, holder, role)
				}
				defer func() { _ = syscall.Kill(pid, syscall.SIGKILL) }()
				if role != roleHolder {
					must(t, syscall.Kill(pid, syscall.SIGKILL))
				}
			}
			killed := time.Now()
			if c.role[0] == roleHolder {
				must(t, syscall.Kill(holder, syscall.SIGKILL))
			}
			if c.held {
				time.Sleep(300 * time.Millisecond)
			} else {
				t.Logf("let go %v after the kill", l.firstAfter(killed, 2*time.Second).Round(time.Millisecond))
			}
			m.sombra("thaw").exits(c.code...)
			if tx := answer(); c.held && tx.acked.Before(killed) {
				t.Error("a write was acknowledged while the application was held")
			}
			m.nothingLeft(l)
		})
	}
}

// TestHolderThatHangs: the lease is enforced by the writers' own processes, and
// thaw says that it was over.
func TestHolderThatHangs(t *testing.T) {
	m, l := freezeRig(t)
	m.must("freeze", "--lease", "2s", filepath.Dir(l.db))
	held := time.Now()
	answer := l.blocked()
	holder := m.holder()
	must(t, syscall.Kill(holder, syscall.SIGSTOP))
	defer syscall.Kill(holder, syscall.SIGCONT)
	l.firstAfter(held.Add(300*time.Millisecond), 6*time.Second)
	if took := answer().acked.Sub(held); took > 4*time.Second {
		t.Errorf("let go after %v, with a lease of 2s", took)
	}
	must(t, syscall.Kill(holder, syscall.SIGCONT))
	m.sombra("thaw").exits(4).says("NOT application-consistent")
	m.nothingLeft(l)
}

// TestNoProcessStaysWhenTheLeaseIsOver, and thaw still tells, once; a hold after it
// is another one's.
func TestNoProcessStaysWhenTheLeaseIsOver(t *testing.T) {
	m, l := freezeRig(t)
	for _, next := range []string{"thaw", "freeze"} {
		m.must("freeze", "--lease", "1s", filepath.Dir(l.db))
		waitFor(t, 15*time.Second, "no process is left", func() bool { return len(processes(t)) == 0 })
		l.await(5*time.Second, 5)
		m.sombra("freeze", "--status").exits(4).says("NOT application-consistent")
		if next == "thaw" {
			m.sombra("thaw").exits(4).says("NOT application-consistent")
			m.sombra("thaw").exits(1).says("nothing is frozen")
		}
	}
	m.must("freeze", filepath.Dir(l.db))
	m.must("thaw").says("1 writer held throughout")
	m.sombra("thaw").exits(1).says("nothing is frozen")
	m.nothingLeft(l)
}

// TestFreezeThatIsKilled before it could say that the writers are held: nobody
// would thaw them, so they are let go.
func TestFreezeThatIsKilled(t *testing.T) {
	for name, signal := range map[string]syscall.Signal{"killed": syscall.SIGKILL, "interrupted": syscall.SIGINT} {
		t.Run(name, func(t *testing.T) {
			m, l := freezeRig(t)
			g, endGate := m.newGate(scratch(t), writer.EventFreeze)
			r := m.start(false, "freeze", filepath.Dir(l.db))
			g.wait(t, r)
			must(t, r.cmd.Process.Signal(signal))
			o := r.wait()
			if name == "interrupted" {
				o.exits(130)
			}
			l.firstAfter(time.Now(), 2*time.Second)
			g.release()
			m.sombra("thaw").exits(1, 4)
			endGate()
			m.nothingLeft(l)
		})
	}
}

// TestThawWhileTheStateDirectoryIsFrozen, as when the hypervisor's freeze is
// followed by that of all file systems: the application on another one goes on at
// once, by thaw or by the end of the lease.
func TestThawWhileTheStateDirectoryIsFrozen(t *testing.T) {
	for name, lease := range map[string]string{"thaw": "60s", "lease": "2s"} {
		t.Run(name, func(t *testing.T) {
			if name != "lease" {
				onlyInTorture(t)
			}
			v := newVolume(t, "ext4")
			m, l := freezeRig(t)
			m.dir = filepath.Join(v.Root, "home")
			must(t, os.Mkdir(m.dir, 0o700))
			// What the command's own output goes to must not be frozen.
			o := bareMachine(t, m.repo)
			o.through = []string{"env", "SOMBRA_STATE_DIR=" + m.state()}
			o.must("freeze", "--lease", lease, filepath.Dir(l.db))
			answer := l.blocked()
			unfreeze := freezeVolume(t, v.Root)
			start := time.Now()
			var tx transaction
			if name == "lease" {
				tx = answer()
				o.sombra("thaw").exits(4)
			} else {
				o.must("thaw")
				tx = answer()
			}
			l.await(5*time.Second, 5)
			t.Logf("writes go on %v after the volume was frozen, thaw had ended after %v",
				tx.acked.Sub(start).Round(time.Millisecond), time.Since(start).Round(time.Millisecond))
			if took := tx.acked.Sub(start); took > 5*time.Second {
				t.Errorf("the write that waited was acknowledged %v after the file system was frozen", took)
			}
			unfreeze()
			m.nothingLeft(l)
		})
	}
}

// TestHeldApplicationIsWholeOnAnImage: a copy of the disk below a mounted file
// system, made between freeze and thaw with clients writing, holds every
// transaction acknowledged before and none begun after, without a frozen file
// system; the same copy made without freeze would be any state.
func TestHeldApplicationIsWholeOnAnImage(t *testing.T) {
	for _, fstype := range imaged() {
		t.Run(fstype, func(t *testing.T) {
			v := newVolume(t, fstype)
			m := newMachine(t)
			l := newLoad(t, filepath.Join(v.Root, "app.db"), "delete")
			m.must("freeze", v.Root)
			frozen := time.Now()
			answer := l.blocked()
			image := copyImage(t, v)
			m.must("thaw").says("1 writer held throughout")
			answer()
			l.await(10*time.Second, 5)
			l.onImage(fstype, image, frozen)
		})
	}
}

// imaged are the file systems whose images are looked at.
func imaged() []string {
	if os.Getenv("SOMBRA_TORTURE") != "" {
		return []string{"ext4", "xfs"}
	}
	return []string{"ext4"}
}

// copyImage copies a volume's image as a hypervisor does: from below.
func copyImage(t *testing.T, v *voltest.Volume) string {
	t.Helper()
	data, err := os.ReadFile(v.Image())
	must(t, err)
	image := filepath.Join(scratch(t), "image")
	must(t, os.WriteFile(image, data, 0o600))
	return image
}

// onImage checks the database on an image of its volume.
func (l *load) onImage(fstype, image string, frozen time.Time) {
	l.t.Helper()
	var options []string
	if fstype == "xfs" {
		options = append(options, "nouuid")
	}
	c, done := voltest.MountImage(l.t, fstype, image, options...)
	defer done()
	got := readCopy(l.t, filepath.Join(c.Root, filepath.Base(l.db)))
	l.shows(got, frozen, frozen)
	if got.late != 0 {
		l.t.Error("a write issued during the hold is on the image")
	}
	l.t.Logf("the image ends with transaction %d", got.last)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

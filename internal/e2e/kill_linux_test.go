package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/writer"
)

// killSteps are the steps of a backup at which a process is killed, each while
// it goes on. At Freeze and at Thaw the database is held.
var killSteps = []string{"PrepareForBackup", "PrepareForSnapshot", "Freeze", "Thaw", "PostSnapshot", stepCopying, "BackupComplete"}

// stepCopying is between PostSnapshot and the record's commit.
const stepCopying = "copying"

// victims are the processes that are killed.
var victims = []string{"sombra", "keeper", "host"}

// afterKill says how a run may end of which a part was killed. The keeper does
// nothing as long as the run lives; a writer host's component fails unless it
// has all it needs, and then BackupComplete cannot be sent to it.
func afterKill(victim, step string) []int {
	switch {
	case victim == "sombra":
		return []int{-1}
	case victim == "keeper":
		return []int{0}
	case step == stepCopying:
		return []int{5}
	case step == "PostSnapshot":
		return []int{3, 5}
	case step == "BackupComplete":
		return []int{5, 0}
	}
	return []int{3}
}

// killCase is one line of the table.
type killCase struct{ step, victim, fstype, mode string }

func (k killCase) String() string {
	return strings.Join([]string{k.step, k.victim, k.fstype, k.mode}, "/")
}

// killCases are all of them in torture, and else every eleventh, by which every
// step, victim, file system and journal mode has its turn.
func killCases() (all []killCase) {
	for _, step := range killSteps {
		for _, victim := range victims {
			for _, fstype := range fileSystems {
				for _, mode := range journalModes {
					all = append(all, killCase{step, victim, fstype, mode})
				}
			}
		}
	}
	if os.Getenv("SOMBRA_TORTURE") != "" {
		return all
	}
	var some []killCase
	for i := 5; i < len(all); i += 11 {
		some = append(some, all[i])
	}
	return some
}

// TestKilledRunLetsApplicationsGo: SIGKILL of the run, of its keeper or of the
// database's writer host, at each step between PrepareForBackup and
// BackupComplete. The database accepts writes again within a second, a run that
// lives on ends with the outcome that is true, nothing is left, and the next
// backup succeeds.
func TestKilledRunLetsApplicationsGo(t *testing.T) {
	table := fmt.Sprintf("%-20s %-8s %-6s %-7s %-10s %-12s %-10s\n", "killed at", "victim", "volume", "journal", "next write", "exit code", "all gone")
	for _, k := range killCases() {
		t.Run(k.String(), func(t *testing.T) { table += k.run(t) })
	}
	t.Log("\n" + table)
}

func (k killCase) run(t *testing.T) (line string) {
	v := newVolume(t, k.fstype)
	m := newMachine(t)
	l := newLoad(t, filepath.Join(v.Root, "app.db"), k.mode)
	// So many that what is said of them does not fit into a narrow pipe.
	for i := range 300 {
		write(t, filepath.Join(v.Root, "files", fmt.Sprintf("a-file-with-a-name-that-takes-room-%d", i)), "some data")
	}
	r, g, end := k.start(m, v.Root)
	keeper := childOf(t, r.cmd.Process.Pid, roleKeeper)
	victim := map[string]int{"sombra": r.cmd.Process.Pid, "keeper": keeper, "host": childOf(t, r.cmd.Process.Pid, roleHost)}[k.victim]

	at := time.Now()
	if err := syscall.Kill(victim, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if k.victim != "sombra" {
		g.release() // else it is still held, and rightly
	}
	next := l.firstAfter(at, 10*time.Second)
	if next > time.Second {
		t.Errorf("the database accepted the next write %v after the kill", next)
	}
	waitFor(t, 5*time.Second, "the victim is dead", func() bool { return dead(victim) })
	o := r.wait().exits(afterKill(k.victim, k.step)...)
	var gone time.Duration
	if k.gone(m, v.Root) {
		gone = time.Since(at)
	} else {
		t.Errorf("left after the run: %v", m.left(v.Root))
	}
	k.checkRecord(m, g, o)
	end()
	k.next(m, l, v.Root, keeper)
	return fmt.Sprintf("%-20s %-8s %-6s %-7s %-10s %-12d %-10s\n", k.step, k.victim, k.fstype, k.mode,
		next.Round(100*time.Microsecond), o.code, gone.Round(time.Millisecond))
}

// start brings a run to the step.
func (k killCase) start(m *machine, volume string) (*running, *gate, func()) {
	m.t.Helper()
	kind, err := writer.ParseEventKind(k.step)
	if err != nil && k.step != stepCopying {
		m.t.Fatal(err)
	}
	g, end := m.newGate(volume, kind)
	r := m.start(k.step == stepCopying, "backup", "--json", "-vv", volume)
	if k.step == stepCopying {
		if !r.until(func(line string) bool { return strings.Contains(line, `"phase":"copy"`) }) {
			o := r.wait()
			m.t.Fatalf("the run has not come to copying:\n%s\n%s", o.out, o.err)
		}
	} else {
		go r.read()
		g.wait(m.t, r)
	}
	return r, g, end
}

// gone waits until nothing of the run is left. A copy whose keeper was killed
// goes with the run itself.
func (k killCase) gone(m *machine, volume string) bool {
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if len(m.left(volume)) == 0 {
			return true
		}
	}
	return false
}

// checkRecord checks that BackupComplete came only if the record is there, that
// a record that is said to be there is, and that no other is.
func (k killCase) checkRecord(m *machine, g *gate, o *outcome) {
	m.t.Helper()
	records := m.backups()
	if g.got(writer.EventBackupComplete) && len(records) != 1 {
		m.t.Errorf("BackupComplete was sent, and there are %d records", len(records))
	}
	if o.code < 0 {
		if len(records) > 0 && k.step != "BackupComplete" {
			m.t.Errorf("a run killed at %s has left a record", k.step)
		}
		return
	}
	res := o.summary()
	if len(records) != 1 || records[0] != res.ID {
		m.t.Errorf("the run says that it made record %s, and there are %v", res.ID, records)
	}
	app := slices.IndexFunc(res.Components, func(c requester.ComponentResult) bool { return c.Writer != "Gate" })
	if app < 0 || res.Components[app].Succeeded != (o.code != 3) {
		m.t.Errorf("exit code %d, components %+v", o.code, res.Components)
	}
}

// next makes the next backup, which must hold all that was acknowledged before.
func (k killCase) next(m *machine, l *load, volume string, keeper int) {
	m.t.Helper()
	before := time.Now()
	res := m.must("backup", "--json", volume).summary()
	after := time.Now()
	if list := m.left(volume); len(list) > 0 {
		m.t.Errorf("left after the next backup: %v", list)
	}
	if groups, _ := filepath.Glob(fmt.Sprintf("/sys/fs/cgroup/sombra-keeper-%d", keeper)); len(groups) > 0 {
		m.t.Errorf("left after the next backup: %v", groups)
	}
	dir := filepath.Join(m.dir, "extract")
	m.must("extract", res.ID, dir)
	l.shows(l.copied(dir), before, after)
	l.transactions() // none has failed
}

// backups lists the ids of the records.
func (m *machine) backups() (ids []string) {
	m.t.Helper()
	for line := range strings.Lines(m.must("backups", "--json").out) {
		var b struct {
			ID string `json:"id"`
		}
		if messageType(line) == "backup" {
			unmarshal(m.t, line, &b)
			ids = append(ids, b.ID)
		}
	}
	return ids
}

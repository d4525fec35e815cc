package e2e

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/writer"
)

// pointRestoring is while files are written.
const pointRestoring = "restoring"

var restorePoints = []string{"PreRestore", pointRestoring, "PostRestore"}

// restoreBudget is faultBudget of the restores.
const restoreBudget = 15 * time.Second

// TestRestoreThatIsHitCanBeRunAgain is the table of faults of restores in place.
// After each: what the restore says to be restored is, the exit code is true,
// nothing of it is left, and the same restore run again brings everything back,
// upon which the applications accept writes. Database servers run when some of the
// restores begin, and do not when others do.
func TestRestoreThatIsHitCanBeRunAgain(t *testing.T) {
	seed := faultSeed(t)
	t.Logf("SOMBRA_SEED=%d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	databases := whichDatabases(rnd)
	w := newFaultWorld(t, databases)
	table := newFaultTable(restorePoints)
	var cells []faultCell
	for _, party := range append([]string{"requester"}, restoreParties(w)...) {
		for _, fault := range []string{faultKilled, faultHung, faultError, faultFull} {
			for _, point := range restorePoints {
				c := faultCell{party, fault, point}
				table.know(c)
				if why := c.inRestore(w).whyNot; why != "" {
					table.excuse(c, why)
				} else {
					cells = append(cells, c)
				}
			}
		}
	}
	rnd.Shuffle(len(cells), func(i, j int) { cells[i], cells[j] = cells[j], cells[i] })
	begun := time.Now()
	for _, c := range cells {
		if os.Getenv("SOMBRA_TORTURE") == "" && time.Since(begun) > restoreBudget {
			break
		}
		if !c.chosen() {
			continue
		}
		ok := t.Run(c.String(), func(t *testing.T) {
			of, m := *w, *w.machine
			m.t, of.machine = t, &m
			c.runRestore(&of, rnd)
		})
		table.note(c, ok)
		if !ok {
			w = newFaultWorld(t, databases) // nobody knows what that one's data is
		}
	}
	t.Log("\n" + table.String())
}

// restoreParties are writer hosts, and the servers.
func restoreParties(w *faultWorld) (list []string) {
	for _, a := range w.apps {
		list = append(list, "host "+a.name())
	}
	for _, a := range w.apps {
		if _, ok := a.faultApp.(*serverApp); ok {
			list = append(list, "application "+a.name())
		}
	}
	return list
}

// inRestore is effect for a restore.
func (c faultCell) inRestore(w *faultWorld) effect {
	kind, name, _ := strings.Cut(c.party, " ")
	if kind == "application" {
		return c.serverInRestore(w.app(name).faultApp.(*serverApp))
	}
	if kind == "host" {
		a := w.app(name)
		e := effect{hit: []string{name}, codes: []int{0, 1, 3, 5}}
		switch c.fault {
		case faultKilled:
			e.strike = signal(syscall.SIGKILL, hostOf(a.owner()))
		case faultHung:
			e.strike = signal(syscall.SIGSTOP, hostOf(a.owner()))
		case faultError:
			if name != "testwriter" || c.point == pointRestoring {
				return not("it has nothing of its own to do in a restore that could fail")
			}
			var mend func()
			e.prepare = func() error { mend, _ = a.fails(c.point); return nil }
			e.repair = func() error { mend(); return nil }
			e.codes = map[string][]int{"PreRestore": {3}, "PostRestore": {5}}[c.point]
		default:
			return not("it writes nothing")
		}
		return e
	}
	switch c.fault {
	case faultKilled:
		return effect{strike: signal(syscall.SIGKILL, itself), codes: []int{-1}}
	case faultHung:
		var run *running
		return effect{waits: true, codes: []int{0, 3, 5},
			strike: func(r *running) error { run = r; return send(r.cmd.Process.Pid, syscall.SIGSTOP) },
			undo: func() error {
				time.Sleep(restoreLimit + time.Second)
				return run.cmd.Process.Signal(syscall.SIGCONT)
			}}
	case faultError:
		return effect{strike: signal(syscall.SIGTERM, itself), codes: []int{130, 0, 5}}
	}
	e := effect{codes: []int{0, 1, 3}}
	if c.point == "PostRestore" {
		e.codes = []int{0, 5}
	}
	return w.full(w.volumes["btrfs"].Root, e)
}

// restoreLimit is an event's where something hangs.
const restoreLimit = 5 * time.Second

// runRestore is one cell.
func (c faultCell) runRestore(w *faultWorld, rnd *rand.Rand) {
	t, e, began := w.t, c.inRestore(w), time.Now()
	live := strings.HasPrefix(c.party, "application ") || rnd.IntN(2) == 0
	do := func(what string, f func() error) {
		t.Helper()
		if f != nil {
			if err := f(); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
	kind, _ := writer.ParseEventKind(c.point)
	g, end := w.newGate(w.volumes["precopy"].Root, kind)
	defer end()
	id := w.must(append([]string{"backup", "--json"}, w.roots()...)...).summary().ID
	dir := scratch(t)
	do("open the directory", func() error { return os.Chmod(dir, 0o755) }) // servers run as other users
	dir = filepath.Join(dir, "extract")
	w.must("extract", id, dir)
	want := map[string]int64{}
	for _, a := range w.apps {
		last, err := a.copied(dir)
		s, isServer := a.faultApp.(*serverApp)
		if live && isServer {
			a.lend(s)
		} else {
			do("kill "+a.name(), a.crash)
		}
		do(a.name(), func() error { return err })
		want[a.name()] = last
	}
	do("damage", func() error { return os.Remove(filepath.Join(w.volumes["btrfs"].Root, "sqlite", "app.db")) })
	do("prepare", e.prepare)
	args := []string{"restore", "--json", "-vv", id}
	if c.fault == faultHung {
		args = append(args, "--event-limit", restoreLimit.String())
	}
	r := w.start(c.point == pointRestoring, args...)
	if c.point == pointRestoring {
		if !r.until(func(line string) bool { return strings.Contains(line, `"phase":"restore"`) }) {
			o := r.wait()
			t.Fatalf("the restore has not come to its files:\n%s\n%s", o.out, o.err)
		}
	} else {
		go r.read()
		g.wait(t, r)
	}
	if e.late { // upon what is done after the gate
		g.release()
	}
	if e.strike != nil {
		do("strike", func() error { return e.strike(r) })
	}
	g.release()
	if e.waits {
		go r.read()
		do("take back", e.undo)
	}
	o := r.wait()
	if !e.waits {
		do("take back", e.undo)
	}
	do("repair", e.repair)
	if !slices.Contains(e.codes, o.code) {
		t.Errorf("exit code %d, want one of %v", o.code, e.codes)
	}
	if o.code >= 0 && o.code != 130 && o.code != 1 {
		res := o.summary()
		for _, a := range w.apps {
			i := slices.IndexFunc(res.Components, a.claims)
			if i < 0 || !res.Components[i].Succeeded {
				if o.code == 0 {
					t.Errorf("exit code 0, and %s was not restored", a.name())
				}
				continue
			}
			if s, ok := a.faultApp.(*serverApp); ok && s.lent && c.party != "application "+a.name() && len(usersOf(s.dir)) == 0 {
				t.Errorf("%s ran before the restore, is said to be restored, and does not run", a.name())
			}
			w.isBack(a, want[a.name()])
		}
	}
	w.nothingLeft("the restore")
	killed := strings.HasPrefix(c.party, "host ") || c.party == "requester" || c.fault == faultHung
	w.noServerLeft("the restore", began, !killed)
	if again := w.sombra("restore", "--json", id); again.code != 0 {
		t.Errorf("the same restore again: exit code %d\n%s\n%s", again.code, whatWentOn(again.out), again.err)
	}
	w.nothingLeft("the restore again")
	w.noServerLeft("the restore again", began, true)
	w.nothingAside()
	for _, a := range w.apps {
		w.isBack(a, want[a.name()])
		do("start "+a.name(), func() error { return a.restored(want[a.name()]) })
	}
	w.goOn(time.Now(), effect{}, true)
	w.nothingLeft("the start") // now the servers can be asked
	w.must("forget", "--last-too", id)
	if t.Failed() {
		t.Logf("servers ran: %v; exit code %d; events %v\n%s\n%s", live, o.code, g.seen(), whatWentOn(o.out), o.err)
	}
}

// isBack checks that an application's data is what it was.
func (w *faultWorld) isBack(a *faultLoad, want int64) {
	w.t.Helper()
	look := func() (int64, error) { return a.copied("/") }
	if s, ok := a.faultApp.(*serverApp); ok && len(usersOf(s.dir)) > 0 {
		look = s.answer
	}
	if last, err := look(); err != nil || last != want {
		w.t.Errorf("%s is said to be restored: it ends with %d, want %d; %v", a.name(), last, want, err)
	}
}

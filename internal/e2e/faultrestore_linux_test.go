package e2e

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/sombra-backup/sombra/writer"
)

// pointRestoring is while files are written.
const pointRestoring = "restoring"

var restorePoints = []string{"PreRestore", pointRestoring, "PostRestore"}

// inRestore is effect for a restore.
func (c faultCell) inRestore(w *faultWorld) effect {
	kind, name, _ := strings.Cut(c.party, " ")
	switch kind {
	case "requester":
		return c.requesterInRestore(w)
	case "keeper":
		return not("a restore freezes nothing, and has no keeper")
	case "host":
		return c.hostInRestore(w.app(name))
	case "application":
		if s, ok := w.app(name).faultApp.(*serverApp); ok {
			return c.serverInRestore(s)
		}
		return not("it does not run while its data is restored")
	}
	return c.volumeInRestore(w, name)
}

func (c faultCell) requesterInRestore(w *faultWorld) effect {
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
	case faultFull: // it only reads there
		return w.full(w.repository.Root, effect{codes: []int{0}})
	case faultStateFull:
		return w.full(w.stateVolume.Root, effect{codes: []int{0, 1, 3, 5}})
	}
	return not("it is the command itself, which nobody starts again")
}

func (c faultCell) hostInRestore(a *faultLoad) effect {
	e := effect{hit: []string{a.name()}, codes: []int{0, 1, 3, 5}}
	server, isServer := a.faultApp.(*serverApp)
	switch c.fault {
	case faultKilled:
		e.strike = signal(syscall.SIGKILL, hostOf(a.owner()))
	case faultHung:
		e.strike = signal(syscall.SIGSTOP, hostOf(a.owner()))
	case faultError:
		switch {
		case c.point == pointRestoring:
			return not("no writer is called there")
		case a.name() == "testwriter":
			var mend func()
			e.prepare = func() error { mend, _ = a.fails(c.point); return nil }
			e.repair = func() error { mend(); return nil }
			e.codes = map[string][]int{"PreRestore": {3}, "PostRestore": {5}}[c.point]
		case !isServer:
			return not("it has nothing of its own to do in a restore that could fail")
		case c.point == "PreRestore" && server.cut == nil:
			return not("it has no session with its server that could be cut")
		case c.point == "PreRestore":
			e.strike = func(r *running) error {
				if err := server.breaks(); err != nil { // its writer may be stopping it already
					r.t.Logf("the session was not cut: %v", err)
				}
				return nil
			}
		default: // what it is to recover cannot be
			e.strike = func(*running) error { return server.spoil() }
		}
	default:
		return not("it writes nothing")
	}
	return e
}

// volumeInRestore is a volume that has no room, or stands still, while it is
// restored to.
func (c faultCell) volumeInRestore(w *faultWorld, provider string) effect {
	root := w.volumes[provider].Root
	e := effect{codes: []int{0, 1, 3, 5}}
	for _, a := range w.apps {
		if a.volume() == root {
			e.hit = append(e.hit, a.name())
		}
	}
	switch c.fault {
	case faultFull:
		e = w.full(root, e)
		e.repair = nil // servers are the restore's
		return e
	case faultHung:
		var thaw func()
		e.strike = func(r *running) error { thaw = freezeVolume(r.t, root); return nil }
		e.undo = func() error {
			time.Sleep(restoreLimit + time.Second)
			thaw()
			return nil
		}
		e.waits = true
		return e
	}
	return not("a restore in place makes no shadow copy")
}

// restoreLimit is an event's where something hangs.
const restoreLimit = 2 * time.Second

// runRestore is one cell of a restore in place. After it: what the restore says to
// be restored is, the exit code is true, nothing of it is left, and the same restore
// run again brings everything back, upon which the applications accept writes.
// Database servers run when some of the restores begin, and do not when others do.
func (c faultCell) runRestore(w *faultWorld, rnd *rand.Rand) {
	t, e, began := w.t, c.inRestore(w), time.Now()
	live := strings.HasPrefix(c.party, "application ") || c.fault == faultError && strings.HasPrefix(c.party, "host ") || rnd.IntN(2) == 0
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
	id := w.must(append([]string{"backup", "--type", "full", "--json"}, w.roots()...)...).summary().ID
	dir := filepath.Join(w.memory(), "extract")
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
	w.step("backup, and copies started")
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
	w.step("to the point")
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
	w.step("until the run ends")
	w.check("the exit code is one of those that are true")
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
			if spoilt := c.fault == faultError && c.point == "PostRestore" && c.party == "host "+a.name(); !spoilt {
				w.isBack(a, want[a.name()]) // of one that did not run, nobody has to notice what is missing
			}
		}
	}
	w.nothingLeft("the restore")
	killed := strings.HasPrefix(c.party, "host ") || c.party == "requester" || c.fault == faultHung
	w.noServerLeft("the restore", began, !killed)
	w.step("until nothing is left")
	w.serversAnswer()
	w.check("the same restore, run again, is complete")
	if again := w.sombra("restore", "--json", id); again.code != 0 {
		t.Errorf("the same restore again: exit code %d\n%s\n%s", again.code, whatWentOn(again.out), again.err)
	}
	w.nothingLeft("the restore again")
	w.noServerLeft("the restore again", began, true)
	w.step("restore again")
	w.nothingAside()
	for _, a := range w.apps {
		w.isBack(a, want[a.name()])
		do("start "+a.name(), func() error { return a.restored(want[a.name()]) })
	}
	w.step("restored copies started, and servers")
	w.goOn(time.Now(), effect{}, true)
	w.nothingLeft("the start") // now the servers can be asked
	w.must("forget", "--last-too", id)
	if t.Failed() {
		t.Logf("servers ran: %v; exit code %d; events %v\n%s\n%s", live, o.code, g.seen(), whatWentOn(o.out), o.err)
	}
}

// serversAnswer waits until servers that run answer: one that was being started when
// its restore was hit listens on nothing yet, and a restore that finds it so asks for
// it to be stopped.
func (w *faultWorld) serversAnswer() {
	for _, a := range w.apps {
		s, ok := a.faultApp.(*serverApp)
		for end := time.Now().Add(10 * time.Second); ok && time.Now().Before(end) && len(usersOf(s.dir)) > 0; time.Sleep(20 * time.Millisecond) {
			if _, err := s.answer(); err == nil {
				break
			}
		}
	}
}

// isBack checks that an application's data is what it was.
func (w *faultWorld) isBack(a *faultLoad, want int64) {
	w.t.Helper()
	w.check("what is said to be restored is what it was")
	look := func() (int64, error) { return a.copied("/") }
	if s, ok := a.faultApp.(*serverApp); ok && len(usersOf(s.dir)) > 0 {
		look = s.answer
	}
	if last, err := look(); err != nil || last != want {
		w.t.Errorf("%s is said to be restored: it ends with %d, want %d; %v", a.name(), last, want, err)
	}
}

package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/writer"
)

// The points that are no event of a writer.
const (
	pointCommit  = "Commit"  // processes are stopped, volumes committed, let go
	pointCopying = "copying" // bytes stream into the repository
	pointRecord  = "record"  // the repository's commit
)

// faultPoints are the points of a backup at which something happens to a party.
var faultPoints = []string{"Identify", "PrepareForBackup", "PrepareForSnapshot", "Freeze", pointCommit, "Thaw", "PostSnapshot",
	pointCopying, pointRecord, "BackupComplete", "BackupShutdown", "Abort"}

// before reports whether a point comes before another one. Abort is sent in
// place of PostSnapshot.
func before(point, other string) bool {
	order := slices.Concat(faultPoints[:6], []string{"Abort"}, faultPoints[6:])
	return slices.Index(order, point) < slices.Index(order, other)
}

// What can happen to a party.
const (
	faultKilled    = "killed"
	faultHung      = "hung"
	faultError     = "error"
	faultFull      = "disk full"
	faultStateFull = "state full"
	faultRestarted = "restarted"
)

// effect is what a fault does, and what may come of it.
type effect struct {
	whyNot string // it does not apply

	prepare func() error           // before the run
	strike  func(r *running) error // at the point
	// undo takes it back: before the run has ended if that waits for it, else
	// after.
	undo   func() error
	waits  bool
	repair func() error // after the run, before applications are looked at

	codes []int
	// hit are the applications that it befalls: their components may fail, and
	// of those that are down their writes, too; they go on when it is undone.
	hit, down []string
	// limit is how soon all others accept writes again.
	limit time.Duration
	// later: what is left goes with the next start.
	later bool
	// late: it strikes when the point is passed.
	late bool
}

// faultCell is one cell of the table.
type faultCell struct{ party, fault, point string }

func (c faultCell) String() string { return strings.Join([]string{c.party, c.fault, c.point}, "/") }

// promptly is how soon applications accept writes again when something was
// killed, or failed.
const promptly = 2 * time.Second

// hungLimits are those of the events in seconds, short, since what hangs is waited
// for: one second where it begins to hang, and not so short elsewhere that what does
// not hang would pass them on a busy machine. The limit of all other events is that
// of PostgreSQL's checkpoint, too.
func (c faultCell) hungLimits() map[string]int {
	limits := map[string]int{"identify": 5, "prepare": 5, "freeze": 3, "hold": 2, "discovered": 2, "event": 2}
	switch c.point {
	case "Identify":
		limits["identify"] = 1
	case "PrepareForBackup", "PrepareForSnapshot":
		limits["prepare"] = 1
	case "Freeze", pointCommit, "Thaw":
		limits["freeze"], limits["hold"], limits["discovered"] = 1, 1, 1
	}
	return limits
}

// hungFlags are the limits as flags.
func (c faultCell) hungFlags() (list []string) {
	for name, seconds := range c.hungLimits() {
		list = append(list, fmt.Sprintf("--%s-limit=%ds", name, seconds))
	}
	return list
}

// hungLimit is how soon applications accept writes when something hangs: the limit
// of Freeze to Thaw, an event's, in which the hung writer gets Abort before its
// process is ended, and a moment.
func (c faultCell) hungLimit() time.Duration {
	l := c.hungLimits()
	return time.Duration(l["freeze"]+l["event"])*time.Second + promptly
}

// timeless reports whether applications beside one that hangs may have their time
// run out: that from Freeze to Thaw is everybody's, and it is a second.
func (c faultCell) timeless() bool {
	return c.fault == faultHung && c.hungLimits()["freeze"] == 1
}

// effect finds what the cell means.
func (c faultCell) effect(w *faultWorld) effect {
	kind, name, _ := strings.Cut(c.party, " ")
	switch kind {
	case "requester":
		return c.requester(w)
	case "keeper":
		return c.keeper(w)
	case "host":
		return c.host(w, w.app(name))
	case "application":
		return c.application(w, w.app(name))
	}
	return c.provider(w, name)
}

func not(format string, args ...any) effect { return effect{whyNot: fmt.Sprintf(format, args...)} }

// signal sends one to a process of the run.
func signal(sig syscall.Signal, find func(r *running) (int, error)) func(*running) error {
	return func(r *running) error {
		pid, err := find(r)
		if err != nil {
			return err
		}
		return send(pid, sig)
	}
}

// send signals a process. One that is to stop has when it returns: until one of
// its threads takes note of the signal, others may still answer.
func send(pid int, sig syscall.Signal) error {
	if err := syscall.Kill(pid, sig); err != nil || sig != syscall.SIGSTOP {
		return err
	}
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		switch state, _, ok := stat(pid); {
		case !ok || state == "T" || state == "t" || state == "Z":
			return nil
		case time.Now().After(end):
			return fmt.Errorf("process %d does not stop", pid)
		}
	}
}

func itself(r *running) (int, error) { return r.cmd.Process.Pid, nil }

func keeperOf(r *running) (int, error) {
	for _, p := range processes(r.t) {
		if p.parent == r.cmd.Process.Pid && p.role == roleKeeper {
			return p.pid, nil
		}
	}
	return 0, errors.New("the run has no keeper")
}

// hostOf finds the writer host that runs as a user.
func hostOf(uid uint32) func(*running) (int, error) {
	return func(r *running) (int, error) {
		for _, p := range processes(r.t) {
			info, err := os.Stat(fmt.Sprintf("/proc/%d", p.pid))
			if err == nil && p.parent == r.cmd.Process.Pid && p.role == roleHost && info.Sys().(*syscall.Stat_t).Uid == uid {
				return p.pid, nil
			}
		}
		return 0, fmt.Errorf("the run has no writer host of user %d", uid)
	}
}

// requester: the process of the command, in which the coordinator is, too.
func (c faultCell) requester(w *faultWorld) effect {
	switch c.fault {
	case faultKilled:
		return effect{strike: signal(syscall.SIGKILL, itself), codes: []int{-1}, limit: promptly}
	case faultHung:
		var run *running
		e := effect{limit: c.hungLimit(), waits: true, codes: []int{0, 1, 3, 5},
			strike: func(r *running) error { run = r; return send(r.cmd.Process.Pid, syscall.SIGSTOP) },
			undo:   func() error { return run.cmd.Process.Signal(syscall.SIGCONT) }}
		switch c.point {
		case "Freeze", pointCommit:
			e.hit = w.names() // they were let go: what was copied of them may be anything
			if c.point == "Freeze" {
				e.codes = []int{1, 3}
			}
		case "Identify", "PrepareForBackup", "PrepareForSnapshot":
			e.codes = []int{0, 1, 3} // its own clocks have run on
			e.hit = w.names()
		case "Thaw":
			e.codes, e.hit = []int{0, 1, 3}, w.names()
		case "PostSnapshot", "Abort":
			e.hit = w.names()
		}
		return e
	case faultError: // it is told to end
		e := effect{strike: signal(syscall.SIGTERM, itself), codes: []int{130}, limit: promptly}
		if !before(c.point, pointRecord) {
			e.codes = []int{130, 0, 5}
		}
		return e
	case faultFull:
		e := effect{limit: promptly, codes: c.untilRecord(1)}
		if c.point == "BackupComplete" {
			e.codes = []int{5} // its outcome cannot be noted in the record
		}
		return w.full(w.repository.Root, e)
	case faultStateFull:
		return w.full(w.stateVolume.Root, effect{limit: promptly, codes: []int{0, 1, 3, 5}, hit: w.names(), later: true})
	}
	return not("it is the command itself, which nobody starts again")
}

// untilRecord is what may come of something that ends a run with a code until
// the record is there, and does nothing to it afterwards.
func (c faultCell) untilRecord(code int) []int {
	switch {
	case c.point == "Abort":
		return []int{1}
	case before(c.point, pointRecord):
		return []int{code}
	case c.point == pointRecord:
		return []int{code, 0}
	}
	return []int{0}
}

func (c faultCell) keeper(w *faultWorld) effect {
	if c.point == "Identify" {
		return not("the keeper is started with the set, after Identify")
	}
	e := effect{codes: []int{0}, limit: promptly}
	if c.point == "Abort" {
		e.codes = []int{1}
	}
	switch c.fault {
	case faultKilled:
		e.strike = signal(syscall.SIGKILL, keeperOf)
		switch c.point {
		case "Freeze":
			e.codes = []int{1} // it dies when it is needed
		case pointCommit:
			e.codes = []int{0, 1} // it is needed, or not any more
		}
	case faultHung:
		e.strike, e.limit = signal(syscall.SIGSTOP, keeperOf), c.hungLimit()
		switch c.point {
		case "Freeze", pointCommit:
			e.codes = []int{0, 1, 3}
			e.hit = w.names() // they may have to wait for it until their limit
		}
	case faultFull, faultStateFull:
		return not("it writes nothing; what the journal says of stopped processes is the requester's to write")
	case faultError:
		return not("it has no call of its own that fails: what it is refused is told of as its applications' failure")
	default:
		return not("one that ends is replaced: see killed")
	}
	return e
}

func (c faultCell) host(w *faultWorld, a *faultLoad) effect {
	e := effect{limit: promptly, hit: []string{a.name()}, codes: []int{3}}
	switch {
	case c.point == "Identify":
		e.codes = []int{3, 1} // a configured writer that does not start is an error
	case c.point == "PostSnapshot":
		e.codes = []int{3, 5}
	case c.point == pointCopying || c.point == pointRecord:
		e.codes = []int{5}
	case c.point == "BackupComplete":
		e.codes = []int{5, 0}
	case c.point == "BackupShutdown":
		e.codes = []int{0}
	case c.point == "Abort":
		e.codes = []int{1}
	}
	switch c.fault {
	case faultKilled:
		e.strike = signal(syscall.SIGKILL, hostOf(a.owner()))
	case faultHung:
		e.strike, e.limit = signal(syscall.SIGSTOP, hostOf(a.owner())), c.hungLimit()
	case faultError:
		if b, ok := a.faultApp.(interface{ breaks() error }); ok {
			_, e.whyNot = a.fails(c.point)
			e.strike = func(*running) error { return b.breaks() }
			e.codes = append(e.codes, 0, 3, 5) // it may not need it any more
			return e
		}
		var mend func()
		e.prepare = func() (err error) {
			why := ""
			if mend, why = a.fails(c.point); why != "" {
				err = errors.New(why)
			}
			return err
		}
		e.repair = func() error { mend(); return nil }
		e.codes = append(e.codes, 0, 3, 5)
	case faultFull, faultStateFull:
		return not("it writes nothing: what its application writes is on the volume of its data (see provider)")
	default:
		return not("one that ends is replaced only to undo a freeze: see killed")
	}
	return e
}

func (c faultCell) application(w *faultWorld, a *faultLoad) effect {
	e := effect{limit: promptly, hit: []string{a.name()}, down: []string{a.name()}, codes: []int{0, 3, 5}}
	if c.point == "Abort" {
		e.codes = []int{1}
	}
	switch c.fault {
	case faultKilled:
		e.strike = func(*running) error { return a.crash() }
		e.repair = a.restart
	case faultRestarted:
		e.strike = func(*running) error { return errors.Join(a.crash(), a.restart()) }
		e.down = nil
	case faultHung:
		e.limit = c.hungLimit()
		var pids []int
		each := func(sig syscall.Signal) (errs error) {
			for _, pid := range pids { // one that served a writer may be ended
				if err := send(pid, sig); !errors.Is(err, syscall.ESRCH) {
					errs = errors.Join(errs, err)
				}
			}
			return errs
		}
		e.strike = func(*running) error { pids = a.pids(); return each(syscall.SIGSTOP) }
		e.undo = func() error { return each(syscall.SIGCONT) }
	case faultError:
		return not("what fails in it reaches the backup through its writer: see host")
	case faultFull, faultStateFull:
		return not("its volume has its shadow copies, too: see provider")
	}
	return e
}

func (c faultCell) provider(w *faultWorld, name string) effect {
	root := w.volumes[name].Root
	e := effect{limit: promptly, codes: []int{1}}
	switch {
	case !before(c.point, pointCopying) && before(c.point, "BackupComplete"):
		e.codes = []int{0, 1, 3} // what was not read yet is missing
	case !before(c.point, "BackupComplete"):
		e.codes = []int{0, 3, 5}
	case c.point == "Abort":
	case !before(c.point, pointCommit):
		e.codes = []int{1, 0, 3} // it may have all it needs
	}
	for _, a := range w.apps {
		if a.volume() == root {
			e.hit = append(e.hit, a.name())
		}
	}
	if c.fault == faultHung || c.fault == faultFull {
		e.down = e.hit // it is their volume
	}
	switch c.fault {
	case faultError: // somebody takes the copies away
		area, away := filepath.Join(root, ".sombra"), filepath.Join(root, "away")
		e.strike = func(*running) error {
			err := os.Rename(area, away)
			if errors.Is(err, os.ErrNotExist) {
				return nil // there is none yet
			}
			return err
		}
		e.repair = func() error { return removeArea(away) }
		if c.point == "Identify" || c.point == "Abort" {
			return not("there is no shadow copy at that time")
		}
		e.codes = append(e.codes, 0, 3)
		return e
	case faultHung:
		var thaw func()
		e.strike = func(r *running) error { thaw = freezeVolume(r.t, root); return nil }
		e.undo = func() error { thaw(); return nil }
		e.limit, e.waits, e.later = c.hungLimit(), true, true
		e.codes = append(e.codes, 0, 3, 5)
		return e
	case faultFull:
		e.codes = append(e.codes, 0, 3, 5)
		return w.full(root, e)
	case faultKilled:
		return not("it runs in the requester's process: see there")
	case faultStateFull:
		return not("it keeps nothing there")
	}
	return not("it runs in the requester's process: see there")
}

// removeArea removes an area of shadow copies, also subvolumes.
func removeArea(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		sub := filepath.Join(dir, e.Name())
		if rerr := os.RemoveAll(sub); rerr != nil {
			err = errors.Join(err, removeSubvolumes(sub))
		}
	}
	return errors.Join(err, os.RemoveAll(dir))
}

// syncVolume has a file system give back the room of what was removed, which btrfs
// does with its next transaction.
func syncVolume(root string) error {
	dir, err := os.Open(root)
	if err != nil {
		return err
	}
	defer dir.Close()
	return unix.Syncfs(int(dir.Fd()))
}

// roomOf is how many bytes a file system has free.
func roomOf(root string) (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(root, &st); err != nil {
		return 0, fmt.Errorf("%s: %w", root, err)
	}
	return st.Bavail * uint64(st.Bsize), nil
}

// full fills a volume at the point, until the run has ended.
func (w *faultWorld) full(root string, e effect) effect {
	ballast := filepath.Join(root, "ballast")
	var before uint64
	e.strike = func(*running) (err error) {
		if before, err = roomOf(root); err != nil {
			return err
		}
		return fillWhole(ballast)
	}
	e.undo = func() error {
		err := os.RemoveAll(ballast)
		for end := time.Now().Add(20 * time.Second); err == nil && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
			now, rerr := roomOf(root)
			if err = errors.Join(rerr, syncVolume(root)); err != nil || now >= before/4*3 {
				break // of a snapshot that was deleted, too, the room comes back some time later
			}
		}
		return err
	}
	e.repair = func() (err error) {
		for _, a := range w.apps {
			if a.volume() == root {
				err = errors.Join(err, a.revive())
			}
		}
		return err
	}
	return e
}

// to brings a backup to the cell's point. What is returned lets it go on.
func (w *faultWorld) to(c faultCell, rnd *rand.Rand) (r *running, g *gate, release func()) {
	w.t.Helper()
	point := c.point
	kind, err := writer.ParseEventKind(point)
	if err != nil {
		kind = 0
	}
	if point == pointCommit {
		kind = writer.EventFreeze
	}
	g, end := w.newGate(w.volumes["precopy"].Root, kind)
	if point == "Abort" {
		g.on = map[writer.EventKind]func(){writer.EventFreeze: func() {
			os.RemoveAll(filepath.Join(w.volumes["precopy"].Root, ".sombra")) // the set fails
		}}
	}
	args := append([]string{"backup", "--type", "full", "--json", "-vv"}, w.roots()...)
	if c.fault == faultHung {
		args = append(args, c.hungFlags()...)
	}
	narrow := point == pointCopying
	r = w.start(narrow, args...)
	release = func() { g.release() }
	switch point {
	case pointCopying, pointRecord:
		phase := map[string]string{pointCopying: `"phase":"copy"`, pointRecord: `"phase":"commit"`}[point]
		if !r.until(func(line string) bool { return strings.Contains(line, phase) }) {
			o := r.wait()
			w.t.Fatalf("the run has not come to %s:\n%s\n%s", point, o.out, o.err)
		}
		release = func() { go r.read() }
	default:
		go r.read()
		g.wait(w.t, r)
	}
	if point == pointCommit {
		g.release()
		time.Sleep(time.Duration(rnd.IntN(15000)) * time.Microsecond)
	}
	w.t.Cleanup(end)
	return r, g, release
}

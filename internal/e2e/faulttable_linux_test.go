package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/writer"
)

// faultBudget is how long the table may take where it is not run whole.
const faultBudget = 30 * time.Second

// TestNothingIsLeftFrozenAndNothingIsLost is the table of faults: every party of
// a backup is killed, hangs, fails or has no room, at every point. After each all
// applications accept writes (promptly, or within the limits where something
// hangs), nothing is held, stopped or left, the record and the exit code tell
// the truth, what is said to be saved can be restored, and the next backup
// succeeds. SOMBRA_FAULT limits it to the cells whose names begin so, as
// "host mariadb/killed".
func TestNothingIsLeftFrozenAndNothingIsLost(t *testing.T) {
	seed := faultSeed(t)
	t.Logf("SOMBRA_SEED=%d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	w := newFaultWorld(t, whichDatabases(rnd))
	table := newFaultTable(faultPoints)
	cells := w.cells(table)
	rnd.Shuffle(len(cells), func(i, j int) { cells[i], cells[j] = cells[j], cells[i] })
	for _, name := range []string{"requester", "keeper", "host", "application", "provider"} { // each first
		i := slices.IndexFunc(cells, func(c faultCell) bool { return strings.HasPrefix(c.party, name) })
		if i >= 0 {
			c := cells[i]
			cells = slices.Insert(slices.Delete(cells, i, i+1), 0, c)
		}
	}
	whole := os.Getenv("SOMBRA_TORTURE") != ""
	begun := time.Now()
	for _, c := range cells {
		if !whole && time.Since(begun) > faultBudget {
			break
		}
		if !c.chosen() {
			continue
		}
		ok := t.Run(c.String(), func(t *testing.T) {
			of := *w
			m := *w.machine
			m.t, of.machine = t, &m
			c.run(&of, rnd)
		})
		table.note(c, ok)
		if !ok {
			w.heal(t)
		}
	}
	t.Log("\n" + table.String())
}

// whichDatabases are the servers that take part: those that
// SOMBRA_FAULT_DATABASES names, with commas between, else all of them if the
// table is run whole, and one by chance if not.
func whichDatabases(rnd *rand.Rand) []string {
	if list, ok := os.LookupEnv("SOMBRA_FAULT_DATABASES"); ok {
		return strings.Split(list, ",")
	}
	var all []string
	for _, d := range faultDatabases {
		all = append(all, d.name)
	}
	if os.Getenv("SOMBRA_TORTURE") != "" {
		return all
	}
	i := rnd.IntN(len(all))
	return all[i : i+1]
}

// chosen reports whether SOMBRA_FAULT lets a cell through: names, with commas
// between, of which one is the beginning of the cell's.
func (c faultCell) chosen() bool {
	only := os.Getenv("SOMBRA_FAULT")
	return only == "" || slices.ContainsFunc(strings.Split(only, ","), func(name string) bool { return strings.HasPrefix(c.String(), name) })
}

// faultSeed is SOMBRA_SEED, or a new one.
func faultSeed(t *testing.T) uint64 {
	if s := os.Getenv("SOMBRA_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return uint64(time.Now().UnixNano())
}

// cells lists those that apply; what does not the table says why.
func (w *faultWorld) cells(table *faultTable) (list []faultCell) {
	parties := []string{"requester", "keeper"}
	for _, a := range w.apps {
		parties = append(parties, "host "+a.name())
	}
	for _, a := range w.apps {
		parties = append(parties, "application "+a.name())
	}
	for _, fs := range fileSystems {
		parties = append(parties, "provider "+providerOf[fs])
	}
	for _, party := range parties {
		for _, fault := range []string{faultKilled, faultHung, faultError, faultFull, faultStateFull, faultRestarted} {
			for _, point := range faultPoints {
				c := faultCell{party, fault, point}
				table.know(c)
				if why := c.applies(w); why != "" {
					table.excuse(c, why)
					continue
				}
				list = append(list, c)
			}
		}
	}
	return list
}

// applies says why a cell does not apply, or nothing.
func (c faultCell) applies(w *faultWorld) string {
	e := c.effect(w)
	if e.whyNot != "" || c.fault != faultError || e.prepare == nil {
		return e.whyNot
	}
	if err := e.prepare(); err != nil {
		return err.Error()
	}
	if err := e.repair(); err != nil {
		return err.Error()
	}
	return ""
}

// run is one cell: the fault, all that must be true after it, and the next
// backup.
func (c faultCell) run(w *faultWorld, rnd *rand.Rand) {
	t, e := w.t, c.effect(w)
	party := c.party[strings.Index(c.party, " ")+1:]
	w.deep = slices.Contains(e.hit, party) || rnd.IntN(5) == 0
	records, marks := w.backups(), w.marks()
	do := func(what string, f func() error) {
		t.Helper()
		if f == nil {
			return
		}
		if err := f(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	do("prepare", e.prepare)
	r, g, release := w.to(c, rnd)
	undone := e.undo == nil
	undo := func() {
		if !undone {
			undone = true
			do("take back", e.undo)
		}
	}
	defer undo()
	at := time.Now()
	if e.strike != nil {
		do("strike", func() error { return e.strike(r) })
	}
	release()
	w.goOn(at, e, false)
	if e.waits {
		undo()
	}
	o := r.wait()
	undo()
	at = time.Now()
	do("repair", e.repair)
	w.goOn(at, e, true)
	if !slices.Contains(e.codes, o.code) {
		t.Errorf("exit code %d, want one of %v\n%s", o.code, e.codes, o.err)
	}
	if !e.later {
		w.nothingLeft("the run")
	}
	w.truth(c, e, o, g, records, marks)
	g.release()
	g.on = nil // the run has ended
	w.nextBackup()
	if t.Failed() {
		t.Logf("exit code %d; events %v\n%s\n%s", o.code, g.seen(), whatWentOn(o.out), o.err)
	}
}

// whatWentOn are the lines of output that tell what went on.
func whatWentOn(out string) string {
	var b strings.Builder
	for line := range strings.Lines(out) {
		switch messageType(line) {
		case "plan", "verbose_status", "summary":
		default:
			b.WriteString(line)
		}
	}
	return b.String()
}

// goOn checks that applications accept writes again: within the limit those that
// are not down, and promptly all when it is taken back.
func (w *faultWorld) goOn(at time.Time, e effect, all bool) {
	w.t.Helper()
	for _, a := range w.apps {
		limit := e.limit
		if all {
			limit = promptly
		} else if slices.Contains(e.down, a.name()) {
			continue
		}
		deadline := at.Add(limit + 10*time.Second)
		took, ok := a.after(at)
		for !ok && time.Now().Before(deadline) {
			time.Sleep(2 * time.Millisecond)
			took, ok = a.after(at)
		}
		switch {
		case !ok:
			w.t.Errorf("%s accepts no write within %v: %v", a.name(), time.Since(at).Round(time.Millisecond), w.remains())
		case took > limit:
			w.t.Errorf("%s accepted the next write after %v, later than %v", a.name(), took.Round(time.Millisecond), limit)
		}
	}
	for _, a := range w.apps {
		if errs := a.failures(); len(errs) > 0 && !slices.Contains(e.hit, a.name()) && !slices.Contains(e.down, a.name()) {
			w.t.Errorf("writes of %s failed: %v", a.name(), errs)
		}
	}
}

// nothingLeft waits until nothing is left of a run.
func (w *faultWorld) nothingLeft(of string) {
	w.t.Helper()
	var list []string
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if list = w.remains(); len(list) == 0 {
			return
		}
	}
	w.t.Errorf("left after %s: %v", of, list)
}

func (w *faultWorld) names() (list []string) {
	for _, a := range w.apps {
		list = append(list, a.name())
	}
	return list
}

// marks are the highest numbers acknowledged so far.
func (w *faultWorld) marks() map[string]int64 {
	m := map[string]int64{}
	for _, a := range w.apps {
		m[a.name()] = a.last()
	}
	return m
}

// truth checks what the run and its record say.
func (w *faultWorld) truth(c faultCell, e effect, o *outcome, g *gate, records []string, marks map[string]int64) {
	w.t.Helper()
	var fresh []string
	for _, id := range w.backups() {
		if !slices.Contains(records, id) {
			fresh = append(fresh, id)
		}
	}
	if g.got(writer.EventBackupComplete) && len(fresh) == 0 {
		w.t.Error("BackupComplete was sent, and there is no record")
	}
	switch o.code {
	case 0, 3, 4, 5:
		if res := o.summary(); len(fresh) != 1 || res.ID != fresh[0] {
			w.t.Errorf("the run says that it made record %q, and there are %v", res.ID, fresh)
		}
	case 1:
		if len(fresh) > 0 {
			w.t.Errorf("the run says that it failed, and there are records %v", fresh)
		}
	default: // killed, or interrupted: before the commit, or after it
		if len(fresh) > 0 && before(c.point, pointRecord) || len(fresh) > 1 {
			w.t.Errorf("a run that ended at %s has left records %v", c.point, fresh)
		}
	}
	if len(fresh) == 1 {
		w.recordTrue(fresh[0], o.code, e.hit, marks)
	}
}

// recordTrue checks that what a record says to be complete is, and that nothing
// failed that had no reason to.
func (w *faultWorld) recordTrue(id string, code int, hit []string, marks map[string]int64) {
	w.t.Helper()
	var b struct {
		Result requester.Result `json:"result"`
	}
	w.must("show", "--json", id).line("backup", &b)
	dir := scratch(w.t)
	if err := os.Chmod(dir, 0o755); err != nil { // servers run as other users
		w.t.Fatal(err)
	}
	dir = filepath.Join(dir, "extract")
	if x := w.sombra("extract", id, dir); x.code != 0 && (code == 0 || code == 5 || x.code != 3) {
		w.t.Errorf("record %s, made by a run with exit code %d, cannot be extracted: exit code %d\n%s", id, code, x.code, x.err)
	}
	for _, a := range w.apps {
		i := slices.IndexFunc(b.Result.Components, a.claims)
		saved := i >= 0 && b.Result.Components[i].Succeeded
		if !saved {
			why := "it is not among the components"
			if i >= 0 {
				why = b.Result.Components[i].Error
			}
			if code == 0 || code == 5 {
				w.t.Errorf("exit code %d, and %s was not saved: %s", code, a.name(), why)
			}
			if !slices.Contains(hit, a.name()) {
				w.t.Errorf("%s was not saved, though nothing befell it: %s", a.name(), why)
			}
			if why == "" {
				w.t.Errorf("%s was not saved, and nothing says why", a.name())
			}
			continue
		}
		if _, ok := a.faultApp.(interface{ costly() }); ok && !w.deep {
			continue
		}
		last, err := a.copied(dir)
		if err != nil {
			w.t.Errorf("%s is said to be saved: %v", a.name(), err)
		} else if now := a.trying(); last < marks[a.name()] || last > now {
			w.t.Errorf("%s: the copy ends with %d; before the backup %d was acknowledged, after it %d is being written", a.name(), last, marks[a.name()], now)
		}
	}
}

// nextBackup makes one that must be complete, and leave nothing.
func (w *faultWorld) nextBackup() {
	w.t.Helper()
	marks := w.marks()
	o := w.sombra(append([]string{"backup", "--json"}, w.roots()...)...)
	if o.code != 0 {
		w.t.Errorf("the next backup: exit code %d\n%s\n%s", o.code, whatWentOn(o.out), o.err)
		return
	}
	w.nothingLeft("the next backup")
	w.recordTrue(o.summary().ID, 0, nil, marks)
	w.must("forget", "--last-too", o.summary().ID)
	for _, a := range w.apps {
		if errs := a.failures(); len(errs) > 0 {
			w.t.Errorf("writes of %s failed during the next backup: %v", a.name(), errs)
		}
	}
}

// heal brings the host back to a state from which the next cell can begin, after
// one that failed.
func (w *faultWorld) heal(t *testing.T) {
	t.Helper()
	for _, p := range processes(t) {
		unix.Kill(p.pid, unix.SIGKILL)
	}
	for _, a := range w.apps {
		for _, pid := range a.pids() {
			unix.Kill(pid, unix.SIGCONT)
		}
		if len(a.pids()) == 0 {
			a.restart()
		}
		a.failures()
	}
	for _, root := range append(w.roots(), w.repository.Root, w.stateVolume.Root) {
		os.RemoveAll(filepath.Join(root, "ballast"))
	}
	for _, root := range w.roots() {
		removeArea(filepath.Join(root, "away"))
		removeArea(filepath.Join(root, ".sombra"))
	}
	os.RemoveAll(filepath.Join(w.state(), "journal"))
	os.RemoveAll(filepath.Join(w.state(), "shadow"))
	for _, a := range w.apps {
		at := time.Now()
		waitFor(t, 20*time.Second, a.name()+" accepts writes again", func() bool { _, ok := a.after(at); return ok })
	}
}

// fillWhole writes to a new directory until its volume has no room at all.
func fillWhole(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(dir, "ballast"))
	if err != nil {
		return err
	}
	defer f.Close()
	at := int64(0)
	for size := int64(64 << 20); size >= 4096; {
		if err := unix.Fallocate(int(f.Fd()), 0, at, size); errors.Is(err, unix.ENOSPC) {
			size /= 4
		} else if err != nil {
			return err
		} else {
			at += size
		}
	}
	return nil
}

// removeSubvolumes deletes a subvolume, or all that lie directly in a directory.
func removeSubvolumes(dir string) error {
	list, _ := filepath.Glob(filepath.Join(dir, "*"))
	for _, sub := range append(list, dir) {
		exec.Command("btrfs", "subvolume", "delete", sub).Run() // what is none is removed as a directory
	}
	return os.RemoveAll(dir)
}

// faultTable counts how cells went, and says why others do not apply.
type faultTable struct {
	points  []string
	rows    []string // party and fault
	passed  map[faultCell]int
	failed  map[faultCell]int
	excused map[faultCell]string
}

func newFaultTable(points []string) *faultTable {
	return &faultTable{points: points, passed: map[faultCell]int{}, failed: map[faultCell]int{}, excused: map[faultCell]string{}}
}

func (c faultCell) row() string { return c.party + ", " + c.fault }

func (f *faultTable) know(c faultCell) {
	if !slices.Contains(f.rows, c.row()) {
		f.rows = append(f.rows, c.row())
	}
}

func (f *faultTable) excuse(c faultCell, why string) { f.excused[c] = why }

func (f *faultTable) note(c faultCell, ok bool) {
	if ok {
		f.passed[c]++
	} else {
		f.failed[c]++
	}
}

// String gives the table: a row for each party and fault, a column for each
// point; how many passed, "/" and how many failed; a letter where a cell does
// not apply, with the reason below; a dash where it was not run.
func (f *faultTable) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-30s", "")
	for _, p := range f.points {
		b.WriteString(" " + p)
	}
	var reasons []string
	never := map[string][]string{} // rows that never apply, by the reason
	var passed, failed, unrun int
	for _, row := range f.rows {
		party, fault, _ := strings.Cut(row, ", ")
		var line strings.Builder
		applies, last := false, ""
		for _, p := range f.points {
			c := faultCell{party, fault, p}
			text, why := "-", f.excused[c]
			switch n := f.passed[c] + f.failed[c]; {
			case why != "":
				if !slices.Contains(reasons, why) {
					reasons = append(reasons, why)
				}
				text, last = string(rune('a'+slices.Index(reasons, why))), why
			case f.failed[c] > 0:
				text = fmt.Sprintf("%d/%d", f.passed[c], f.failed[c])
			case n > 0:
				text = fmt.Sprint(n)
			default:
				unrun++
			}
			applies = applies || why == ""
			passed, failed = passed+f.passed[c], failed+f.failed[c]
			fmt.Fprintf(&line, " %-*s", len(p), text)
		}
		if applies {
			fmt.Fprintf(&b, "\n%-30s%s", row, strings.TrimRight(line.String(), " "))
		} else {
			never[last] = append(never[last], row)
		}
	}
	fmt.Fprintf(&b, "\n%d passed, %d failed, %d were not run this time", passed, failed, unrun)
	for i, why := range reasons {
		fmt.Fprintf(&b, "\n%c: %s", 'a'+i, why)
		if rows := never[why]; len(rows) > 0 {
			fmt.Fprintf(&b, " [%s]", strings.Join(rows, "; "))
		}
	}
	return b.String()
}

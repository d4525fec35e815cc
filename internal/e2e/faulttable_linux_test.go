package e2e

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io"
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

	"github.com/sombra-backup/sombra/internal/voltest"
	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/writer"
)

// TestNothingIsLeftFrozenAndNothingIsLost is the table of faults: every party of
// a backup or of a restore in place is killed, hangs, fails or has no room, at every
// point. After each all applications accept writes (promptly, or within the limits
// where something hangs), nothing is held, stopped or left, the record and the exit
// code tell the truth, what is said to be saved can be restored, and the next backup
// (or the same restore, run again) succeeds. Cells run in a few worlds beside each
// other: SOMBRA_FAULT_WORLDS says in how many. SOMBRA_FAULT limits it to the cells
// whose names begin so, as "host mariadb/killed".
func TestNothingIsLeftFrozenAndNothingIsLost(t *testing.T) {
	if os.Getenv(worldVariable) != "" {
		serveWorld(t, newFaultWorld(t, whichDatabases()))
		return
	}
	voltest.Need(t, fileSystems...)
	table := newFaultTable(slices.Concat(faultPoints, restorePoints))
	var results []cellResult
	begun := time.Now()
	newFaultPool(t).each(faultWorlds(t), func(known worldCells) []string {
		table.known(known)
		return chosenCells(known.Cells)
	}, func(r cellResult) {
		results = append(results, r)
		table.note(parseCell(r.Cell), r.OK)
		t.Run(r.Cell, func(t *testing.T) {
			if !r.OK {
				t.Errorf("after %v:\n%s", r.Took.Round(time.Millisecond), r.output)
			}
		})
	})
	t.Logf("%d cells in %v\n%s\n%s", len(results), time.Since(begun).Round(time.Second), table, tallyOf(results))
}

// faultWorlds is how many worlds are at work.
func faultWorlds(t *testing.T) int {
	s := os.Getenv("SOMBRA_FAULT_WORLDS")
	if s == "" {
		return 4
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		t.Fatalf("SOMBRA_FAULT_WORLDS=%s", s)
	}
	return n
}

// whichDatabases are the servers that take part: those that
// SOMBRA_FAULT_DATABASES names, with commas between, else all of them.
func whichDatabases() (all []string) {
	if list, ok := os.LookupEnv("SOMBRA_FAULT_DATABASES"); ok {
		return strings.Split(list, ",")
	}
	for _, d := range faultDatabases {
		all = append(all, d.name)
	}
	return all
}

// chosenCells are the cells to run: those that SOMBRA_FAULT lets through (names, with
// commas between, of which one is the beginning of a cell's), of which a tenth are
// taken if the table is not run whole.
func chosenCells(all []string) (list []string) {
	only := os.Getenv("SOMBRA_FAULT")
	for _, c := range all {
		if only == "" || slices.ContainsFunc(strings.Split(only, ","), func(name string) bool { return strings.HasPrefix(c, name) }) {
			list = append(list, c)
		}
	}
	if only != "" || os.Getenv("SOMBRA_TORTURE") != "" {
		return list
	}
	return spread(list)
}

// spread takes a tenth of the cells: of each party and fault one, at points that
// follow each other from row to row, so that each party, fault and point comes, and
// of the first rows one more until it is a tenth.
func spread(all []string) (list []string) {
	var rows []string
	cells := map[string][]faultCell{}
	for _, name := range all {
		c := parseCell(name)
		if cells[c.row()] == nil {
			rows = append(rows, c.row())
		}
		cells[c.row()] = append(cells[c.row()], c)
	}
	points := slices.Concat(faultPoints, restorePoints)
	for i := range 2 * len(rows) {
		if i >= len(rows) && len(list) >= (len(all)+9)/10 {
			break
		}
		row := rows[i%len(rows)]
		for k := range points { // 7 and the number of points have no divisor in common
			at := slices.IndexFunc(cells[row], func(c faultCell) bool { return c.point == points[(7*i+k)%len(points)] })
			if at >= 0 {
				list = append(list, cells[row][at].String())
				cells[row] = slices.Delete(cells[row], at, at+1)
				break
			}
		}
	}
	return list
}

// chance is a source of random numbers for a cell. SOMBRA_SEED gives others.
func (c faultCell) chance(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(0)
	if s := os.Getenv("SOMBRA_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seed = n
	}
	h := fnv.New64a()
	io.WriteString(h, c.String())
	return rand.New(rand.NewPCG(seed, h.Sum64()))
}

// allCells lists those that apply, and says why others do not.
func (w *faultWorld) allCells() worldCells {
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
	known := worldCells{Excused: map[string]string{}}
	for _, party := range parties {
		for _, fault := range []string{faultKilled, faultHung, faultError, faultFull, faultStateFull, faultRestarted} {
			known.Rows = append(known.Rows, faultCell{party, fault, ""}.row())
			for _, point := range slices.Concat(faultPoints, restorePoints) {
				c := faultCell{party, fault, point}
				if why := c.applies(w); why != "" {
					known.Excused[c.String()] = why
				} else {
					known.Cells = append(known.Cells, c.String())
				}
			}
		}
	}
	return known
}

// applies says why a cell does not apply, or nothing.
func (c faultCell) applies(w *faultWorld) string {
	if slices.Contains(restorePoints, c.point) {
		return c.inRestore(w).whyNot
	}
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
func (c faultCell) run(w *faultWorld) {
	rnd := c.chance(w.t)
	w.makeRoom()
	if slices.Contains(restorePoints, c.point) {
		c.runRestore(w, rnd)
		return
	}
	t, e := w.t, c.effect(w)
	party := c.party[strings.Index(c.party, " ")+1:]
	w.deep = slices.Contains(e.hit, party) || rnd.IntN(5) == 0
	records, marks, chains := w.backups(), w.marks(), w.chains()
	for _, s := range w.servers() {
		s.mayKeep = 1
	}
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
	w.step("look before")
	r, g, release := w.to(c, rnd)
	w.step("to the point")
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
	w.step("until all write")
	if e.waits {
		undo()
	}
	o := r.wait()
	w.step("until the run ends")
	undo()
	do("repair", e.repair)
	w.goOn(time.Now(), e, true)
	w.check("the exit code is one of those that are true")
	if !slices.Contains(e.codes, o.code) {
		t.Errorf("exit code %d, want one of %v\n%s", o.code, e.codes, o.err)
	}
	for _, s := range w.servers() {
		if c.point == "BackupComplete" || o.code == 5 {
			s.mayKeep = 2 // the new one is there, and what was to drop the old one is no more, or cannot: the next backup does
		}
	}
	if !e.later {
		w.nothingLeft("the run")
	}
	w.step("until nothing is left")
	if fresh := w.truth(c, e, o, g, records, marks); fresh == 0 {
		w.check("without a record, log is kept for the chain it was kept for")
		for title, list := range w.chains() {
			if !slices.Equal(list, chains[title]) {
				t.Errorf("%s kept log for %v, and keeps it for %v", title, chains[title], list)
			}
		}
	}
	g.release()
	g.on = nil // the run has ended
	w.step("record")
	w.nextBackup()
	w.step("next backup")
	if t.Failed() {
		t.Logf("exit code %d; events %v\n%s\n%s", o.code, g.seen(), whatWentOn(o.out), o.err)
	}
}

// whatWentOn are the lines of output that tell what went on.
func whatWentOn(out string) string {
	var b strings.Builder
	for line := range strings.Lines(out) {
		switch messageType(line) {
		case "plan", "verbose_status":
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
		w.slowest = max(w.slowest, took)
		w.check("writes accepted within the limit: " + a.name())
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
			for _, what := range remainsChecked {
				w.check("none is left: " + what)
			}
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

// chains gives what keeps the log of servers for log backups.
func (w *faultWorld) chains() map[string][]string {
	w.t.Helper()
	kept := map[string][]string{}
	for _, s := range w.servers() {
		if s.chains == nil {
			continue
		}
		list, err := s.chain()
		if err != nil {
			w.t.Errorf("%s: %v", s.title, err)
		}
		kept[s.title] = list
	}
	return kept
}

// truth checks what the run and its record say. It gives how many records the run
// has made.
func (w *faultWorld) truth(c faultCell, e effect, o *outcome, g *gate, records []string, marks map[string]int64) int {
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
	w.check("records are those that the run tells of")
	if len(fresh) == 1 {
		w.recordTrue(fresh[0], o.code, e.hit, marks, c.timeless())
	}
	return len(fresh)
}

// recordTrue checks that what a record says to be complete is, and that nothing
// failed that had no reason to.
func (w *faultWorld) recordTrue(id string, code int, hit []string, marks map[string]int64, timeless bool) {
	w.t.Helper()
	var b struct {
		Result requester.Result `json:"result"`
	}
	w.must("show", "--json", id).line("backup", &b)
	dir := filepath.Join(w.memory(), "extract")
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
			switch {
			case slices.Contains(hit, a.name()):
			case timeless && strings.Contains(why, "the time from Freeze to Thaw was exceeded"):
				w.check("not saved beside one that hangs, as the second from Freeze to Thaw was over, and so it says")
			default:
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
		w.check("a copy said to be saved is sound, with all that was acknowledged")
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
	for _, s := range w.servers() {
		s.mayKeep = 1
	}
	o := w.sombra(append([]string{"backup", "--type", "full", "--json"}, w.roots()...)...)
	if o.code != 0 {
		w.t.Errorf("the next backup: exit code %d\n%s\n%s", o.code, whatWentOn(o.out), o.err)
		if o.code > 0 && o.code < 10 && o.code != 1 {
			for _, c := range o.summary().Components {
				w.t.Logf("%s %s: %s", c.Writer, c.Name, c.Error)
			}
		}
		return
	}
	w.check("the next backup is complete")
	w.nothingLeft("the next backup")
	for title, list := range w.chains() {
		w.check("the next backup has the log kept for log backups")
		if len(list) != 1 {
			w.t.Errorf("after the next backup %s keeps log for %v", title, list)
		}
	}
	w.recordTrue(o.summary().ID, 0, nil, marks, false)
	w.must("forget", "--last-too", o.summary().ID)
	for _, a := range w.apps {
		if errs := a.failures(); len(errs) > 0 {
			w.t.Errorf("writes of %s failed during the next backup: %v", a.name(), errs)
		}
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

// known takes the rows, and what does not apply.
func (f *faultTable) known(all worldCells) {
	f.rows = all.Rows
	for name, why := range all.Excused {
		f.excused[parseCell(name)] = why
	}
}

func (f *faultTable) note(c faultCell, ok bool) {
	if ok {
		f.passed[c]++
	} else {
		f.failed[c]++
	}
}

// String gives the table: a row for each party and fault, with how many of its cells
// have passed, a column for each point; how many passed, "/" and how many failed; a letter where a cell does
// not apply, with the reason below; a dash where it was not run.
func (f *faultTable) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-36s passed", "")
	for _, p := range f.points {
		b.WriteString(" " + p)
	}
	var reasons []string
	never := map[string][]string{} // rows that never apply, by the reason
	var passed, failed, unrun int
	for _, row := range f.rows {
		party, fault, _ := strings.Cut(row, ", ")
		var line strings.Builder
		cells, good, last := 0, 0, ""
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
			if why == "" {
				cells++
			}
			if f.passed[c] > 0 && f.failed[c] == 0 {
				good++
			}
			passed, failed = passed+f.passed[c], failed+f.failed[c]
			fmt.Fprintf(&line, " %-*s", len(p), text)
		}
		if cells > 0 {
			fmt.Fprintf(&b, "\n%-36s %2d/%-3d%s", row, good, cells, strings.TrimRight(line.String(), " "))
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

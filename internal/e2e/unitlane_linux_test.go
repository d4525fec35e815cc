package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/repository/store/local"
	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/writer"
)

// lane is a unit of a host with all that a backup of it needs: volumes for its data,
// the repository and the state directory, and a configuration.
type lane struct {
	unit, dir string
	host      *booted
	client    *unitClient
	group     string // of the last run's keeper, for what it stops
}

// fill makes what lies in a lane before the host is up.
func (l *lane) fill(t *testing.T, h *booted) {
	on := *h
	on.dir = l.dir
	l.host = &on
	h.must(os.MkdirAll(filepath.Join(l.dir, "bin"), 0o755))
	for _, name := range []string{"sombra", "test"} {
		h.must(os.Link(h.bin(name), on.bin(name)))
	}
	write(t, l.file("app/numbers"), "")
	// So many that what is said of them does not fit into a narrow pipe.
	for i := range 100 {
		write(t, on.data(fmt.Sprintf("files/a-file-with-a-name-that-takes-room-%d", i)), "some data")
	}
	st, err := local.Open(filepath.Join(l.dir, "repository"))
	h.must(err)
	r, err := repository.Create(context.Background(), st, []byte("e2e"), repository.Options{KDF: repository.KDF{Time: 1, Memory: 64, Threads: 1}})
	h.must(err)
	h.must(r.Close())
}

// file is one of the unit's.
func (l *lane) file(name string) string { return l.host.data("service/" + name) }

// inside is a file of the host as seen from here.
func (l *lane) inside(name string) string { return fmt.Sprintf("/proc/%d/root%s", l.host.pid, name) }

// frozen reports whether the unit's control group is, or is to be.
func (l *lane) frozen() bool {
	group := l.inside("/sys/fs/cgroup/system.slice/" + l.unit)
	asked, _ := os.ReadFile(group + "/cgroup.freeze")
	events, _ := os.ReadFile(group + "/cgroup.events")
	return strings.TrimSpace(string(asked)) == "1" || strings.Contains(string(events), "frozen 1")
}

// noted reports whether it is noted that the unit is held.
func (l *lane) noted() bool {
	_, err := os.Stat(l.inside("/run/sombra/units/" + l.unit))
	return err == nil
}

// mainPID is the unit's process as seen from here, or 0.
func (l *lane) mainPID() int {
	for _, p := range l.ours() {
		if p.role == "test-counter" {
			return p.pid
		}
	}
	return 0
}

// ours lists the processes that run the lane's programs.
func (l *lane) ours() (list []process) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		text, _ := os.ReadFile(dir + "/cmdline")
		args := strings.Split(string(text), "\x00")
		if len(args) < 2 || !strings.HasPrefix(args[0], l.host.bin("")) {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(dir))
		if state, parent, ok := stat(pid); ok && state != "Z" && state != "X" {
			list = append(list, process{pid, parent, args[1]})
		}
	}
	return list
}

// send signals the run's process with a role.
func (l *lane) send(sig syscall.Signal, role string) (pid int, err error) {
	for _, p := range l.ours() {
		if p.role == role {
			return p.pid, send(p.pid, sig)
		}
	}
	return 0, fmt.Errorf("there is no process %s", role)
}

// unitHungFlags are the limits where something hangs: from Freeze to Thaw such that the
// unit has a second to be held, of which there is a quarter for each level, and more
// than one for an event, since systemd is asked in it.
var unitHungFlags = []string{"--identify-limit=5s", "--prepare-limit=3s", "--freeze-limit=4s", "--hold-limit=2s", "--discovered-limit=2s", "--event-limit=2s"}

// unitHungLimit is how soon a unit answers when something hangs: the limits of Freeze
// to Thaw and of an event, in which a hung writer gets Abort before its process is
// ended, and a moment.
const unitHungLimit = 4*time.Second + 2*time.Second + promptly

// keepersGroup is the control group that the keeper of the lane's run may make, which
// is named by its process as the host sees it.
func (l *lane) keepersGroup() string {
	for _, p := range l.ours() {
		if p.role != roleKeeper {
			continue
		}
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid))
		for line := range strings.Lines(string(status)) {
			if f := strings.Fields(line); len(f) > 1 && f[0] == "NSpid:" {
				return l.inside("/sys/fs/cgroup/sombra-keeper-" + f[len(f)-1])
			}
		}
	}
	return ""
}

// effect is what a fault does to a party of the lane, and what may come of it.
func (l *lane) effect(c faultCell) effect {
	party, how, _ := strings.Cut(c.party, " ")
	hit := []string{l.unit}
	e := effect{limit: promptly}
	if c.fault == faultHung {
		e.limit = unitHungLimit
	}
	role := map[string]string{"requester": "backup", "keeper": roleKeeper, "host": roleHost, "unit": "test-counter"}[party]
	pid := 0
	switch sig := map[string]syscall.Signal{faultKilled: syscall.SIGKILL, faultHung: syscall.SIGSTOP, faultError: syscall.SIGTERM}[c.fault]; {
	case sig != 0:
		e.strike = func(*running) (err error) { pid, err = l.send(sig, role); return err }
	case c.fault == faultFull:
		l.full("repository", &e)
	case c.fault == faultStateFull:
		l.full("state", &e)
	default:
		file := l.file(map[string]string{faultStopFails: "stopfails", faultStopHangs: "stophangs", faultStartFails: "nostart"}[c.fault])
		e.strike = func(*running) error { return os.WriteFile(file, nil, 0o600) }
		e.undo = func() error { return ignoreMissing(os.Remove(file)) }
	}
	if c.fault == faultHung && party != "host" && party != "keeper" {
		var through *running
		strike := e.strike
		e.strike = func(r *running) error { through = r; return strike(r) }
		e.undo = func() error {
			// What it was started through stops with it, and does not go on by itself.
			err := through.cmd.Process.Signal(syscall.SIGCONT)
			if errors.Is(err, os.ErrProcessDone) {
				err = nil
			}
			if cerr := syscall.Kill(pid, syscall.SIGCONT); !errors.Is(cerr, syscall.ESRCH) {
				err = errors.Join(err, cerr)
			}
			return err
		}
	}
	switch party {
	case "requester":
		switch c.fault {
		default: // what may come of it is the same as for other writers
			q := c.requester(&faultWorld{})
			e.codes, e.waits = q.codes, q.waits
		case faultFull:
			e.codes = c.untilRecord(1)
			if c.point == pointCommit {
				e.codes = []int{1, 0, 5} // it goes on meanwhile: there may be room for the record, and none for its outcome
			}
			if c.point == "BackupComplete" {
				e.codes = []int{5} // its outcome cannot be noted in the record
			}
		case faultStateFull:
			e.codes, e.hit, e.later = []int{0, 1, 3, 5}, hit, true
		}
	case "keeper":
		e.codes = []int{0}
		if c.point == "Freeze" || c.point == pointCommit {
			e.codes, e.hit = []int{0, 1, 3}, hit // it may be needed
		}
	case "host":
		e.hit, e.codes = hit, []int{3}
		switch c.point {
		case pointCommit, "PostSnapshot": // at Commit: some time until a little after Thaw, when it has been held throughout
			e.codes = []int{3, 5}
		case pointCopying:
			e.codes = []int{5}
		case "BackupComplete":
			e.codes = []int{5, 0}
		}
	case "unit":
		e.codes, e.hit = []int{0, 3}, hit
		switch c.fault {
		case faultStopFails:
			e.codes, e.hit = []int{0}, nil // it has ended all the same
		case faultStopHangs:
			e.codes, e.later = []int{3}, true // until then it answers; systemd starts it, and the next backup finds the note
		case faultStartFails:
			e.codes, e.down, e.later = []int{3}, hit, true
		case faultHung:
			if how == "freeze" || !before(c.point, "Freeze") {
				e.down = hit // it is who hangs; a stop lets it go on
			}
		}
	}
	if c.fault == faultHung { // others have short limits, too
		e.codes, e.hit = append(slices.Clone(e.codes), 3), hit
	}
	return e
}

// full fills a volume at the point, until the run has ended.
func (l *lane) full(volume string, e *effect) {
	ballast := filepath.Join(l.dir, volume, "ballast")
	e.strike = func(*running) error { return fillWhole(ballast) }
	e.undo = func() error { return os.RemoveAll(ballast) }
}

// run is one cell: the fault, all that must be true after it, and the next backup. It
// tells how long the unit took to answer.
func (l *lane) run(t *testing.T, c faultCell) (took time.Duration) {
	_, how, _ := strings.Cut(c.party, " ")
	h := l.host.on(t)
	m := &machine{t: t, dir: l.dir, repo: filepath.Join(l.dir, "repository"), through: append(h.command().Args, "sh", "-c", `shift; exec "$0" "$@"`, h.bin("sombra"))}
	write(t, filepath.Join(l.dir, "sombra.yaml"), fmt.Sprintf("writers:\n  - kind: systemd\n    name: app\n    config: {unit: %s, paths: [%s], how: %s}\n", l.unit, l.file("app"), how))
	do := func(what string, f func() error) {
		t.Helper()
		if f != nil {
			if err := f(); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
	records, mark, starts := m.backups(), l.client.last(), l.starts()
	e := l.effect(c)
	var undone sync.Once
	undo := func() { undone.Do(func() { do("take back", e.undo) }) }
	defer undo()
	r, release, end := l.to(m, c)
	l.group = l.keepersGroup()
	do("strike", func() error { return e.strike(r) })
	at := time.Now()
	release()
	if len(e.down) == 0 {
		took = l.answers(t, at, e.limit)
	}
	if e.waits {
		undo()
	}
	o := r.wait()
	end()
	undo()
	took = max(took, l.answers(t, time.Now(), promptly))
	if !slices.Contains(e.codes, o.code) {
		t.Errorf("exit code %d, want one of %v", o.code, e.codes)
	}
	l.goesOn(t, !e.later)
	if n := l.starts() - starts; !strings.HasPrefix(c.party, "unit") && (n > 1 || n > 0 && how == "freeze" || n == 0 && how == "stop" && c.held()) {
		t.Errorf("it was started %d times", n)
	}
	l.truth(m, c, e, o, records, mark)
	l.next(m)
	if t.Failed() {
		t.Logf("exit code %d after %v\n%s\n%s", o.code, o.took.Round(time.Millisecond), whatWentOn(o.out), o.err)
	}
	return took
}

// to brings a backup to the cell's point. release lets it go on, end ends the gate.
func (l *lane) to(m *machine, c faultCell) (r *running, release, end func()) {
	t := m.t
	t.Helper()
	point := c.point
	if point == pointCommit {
		point = "Freeze"
	}
	kind, err := writer.ParseEventKind(point)
	if err != nil {
		kind = 0
	}
	g, end := l.host.on(t).gate(kind)
	args := []string{"backup", "--json", "-vv", l.host.data("")}
	if c.fault == faultHung || c.fault == faultStopHangs {
		args = append(args, unitHungFlags...)
	}
	r = m.start(point == pointCopying, args...)
	if point == pointCopying {
		if !r.until(func(line string) bool { return strings.Contains(line, `"phase":"copy"`) }) {
			o := r.wait()
			t.Fatalf("the run has not come to %s:\n%s\n%s", point, o.out, o.err)
		}
		return r, func() { go r.read() }, end
	}
	go r.read()
	g.wait(t, r)
	if point == "Freeze" || point == "Thaw" { // else the cell would prove nothing
		_, how, _ := strings.Cut(c.party, " ")
		if !l.noted() || how == "freeze" && !l.frozen() || how == "stop" && l.mainPID() != 0 {
			t.Errorf("at %s the unit is not held: noted %v, frozen %v, process %d", point, l.noted(), l.frozen(), l.mainPID())
		}
	}
	if c.point == pointCommit {
		g.release()
		time.Sleep(time.Duration(c.number(15000)) * time.Microsecond)
	}
	return r, g.release, end
}

// answers waits until the unit has answered since a time, and checks that it did
// within the limit.
func (l *lane) answers(t *testing.T, at time.Time, limit time.Duration) time.Duration {
	t.Helper()
	for end := at.Add(limit + 20*time.Second); ; time.Sleep(2 * time.Millisecond) {
		answered := l.client.answered()
		if took := answered.Sub(at); took > 0 {
			if took > limit {
				t.Errorf("the unit answered after %v, later than %v", took.Round(time.Millisecond), limit)
			}
			return took
		}
		if time.Now().After(end) {
			out, _ := l.host.on(t).run("systemctl", "status", "--no-pager", l.unit)
			t.Fatalf("the unit does not answer; frozen: %v\n%s", l.frozen(), out)
		}
	}
}

// goesOn waits until the unit is as it is when nobody holds it, and nothing is left of
// a run.
func (l *lane) goesOn(t *testing.T, all bool) {
	t.Helper()
	const want = "ActiveState=active\nDropInPaths=\nFreezerState=running\nJob=\nSubState=running\nTransient=no"
	h, left := l.host.on(t), []string(nil)
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		left = nil
		out, _ := h.run("systemctl", "show", "-p", "ActiveState,SubState,FreezerState,DropInPaths,Job,Transient", l.unit)
		lines := strings.Split(strings.TrimSpace(out), "\n")
		if !strings.Contains(out, "Job=") {
			lines = append(lines, "Job=")
		}
		slices.Sort(lines)
		if got := strings.Join(lines, "\n"); got != want {
			left = append(left, strings.ReplaceAll(got, "\n", " "))
		}
		if l.frozen() {
			left = append(left, "frozen control group")
		}
		if all {
			left = append(left, l.remains()...)
		}
		if len(left) == 0 {
			return
		}
	}
	t.Errorf("left of the run: %v", left)
}

func (l *lane) remains() (left []string) {
	if l.noted() {
		left = append(left, "a note that the unit is held")
	}
	for _, p := range l.ours() {
		if p.role != "test-counter" && p.role != "test-gate" {
			left = append(left, fmt.Sprintf("process %d %s", p.pid, p.role))
		}
	}
	if _, err := os.Stat(l.group); err == nil {
		left = append(left, l.group)
	}
	for _, place := range []string{l.host.data(".sombra"), filepath.Join(l.host.state(), "journal"), filepath.Join(l.host.state(), "shadow")} {
		filepath.WalkDir(place, func(p string, d os.DirEntry, err error) error {
			if err == nil && p != place {
				left = append(left, p)
			}
			return nil
		})
	}
	return left
}

// starts is how often the unit was started.
func (l *lane) starts() int {
	text, _ := os.ReadFile(l.file("log"))
	return strings.Count(string(text), "start\n")
}

// truth checks what the run and its record say.
func (l *lane) truth(m *machine, c faultCell, e effect, o *outcome, records []string, mark uint64) {
	t := m.t
	t.Helper()
	var fresh []string
	for _, id := range m.backups() {
		if !slices.Contains(records, id) {
			fresh = append(fresh, id)
		}
	}
	switch o.code {
	case 0, 3, 5:
		if res := o.summary(); len(fresh) != 1 || res.ID != fresh[0] {
			t.Errorf("the run says that it made record %q, and there are %v", res.ID, fresh)
		}
	case 1:
		if len(fresh) > 0 {
			t.Errorf("the run says that it failed, and there are records %v", fresh)
		}
	default: // killed, or interrupted; at Commit by the clock, so that the run may have said that it came further
		further := c.point == "BackupComplete" || c.point == pointCommit && strings.Contains(o.out, `"phase":"commit"`)
		if len(fresh) > 0 && !further || len(fresh) > 1 {
			t.Errorf("a run that ended at %s has left records %v", c.point, fresh)
		}
	}
	if len(fresh) == 1 {
		l.recordTrue(m, fresh[0], o.code, len(e.hit) > 0, mark)
	}
}

// recordTrue checks that the unit is said to be saved when it is, and why it is not
// if not.
func (l *lane) recordTrue(m *machine, id string, code int, mayFail bool, mark uint64) {
	t := m.t
	t.Helper()
	var b struct {
		Result requester.Result `json:"result"`
	}
	m.must("show", "--json", id).line("backup", &b)
	i := slices.IndexFunc(b.Result.Components, func(r requester.ComponentResult) bool { return r.Name == l.unit })
	if i < 0 {
		if !mayFail || code == 0 || code == 5 || len(b.Result.Failures) == 0 && len(b.Result.LeftOut) == 0 && len(b.Result.Warnings) == 0 {
			t.Errorf("exit code %d, and %s is not among the components: %+v", code, l.unit, b.Result)
		}
		return
	}
	r := b.Result.Components[i]
	if !r.Succeeded {
		if !mayFail || code == 0 || code == 5 || r.Error == "" {
			t.Errorf("exit code %d, and %s was not saved: %q", code, l.unit, r.Error)
		}
		return
	}
	dir := filepath.Join(l.dir, "out-"+id)
	defer os.RemoveAll(dir)
	m.sombra("extract", id, dir).exits(0, code)
	last, err := readNumbers(filepath.Join(dir, l.file("app/numbers")))
	if err != nil {
		t.Errorf("%s is said to be saved: %v", l.unit, err)
	} else if most := l.client.last() + 1; last < mark || last > most {
		t.Errorf("the copy ends with %d; before the backup the unit had answered %d, now it is asked for %d", last, mark, most)
	}
}

// next makes the next backup, which must be complete, and leave nothing.
func (l *lane) next(m *machine) {
	m.t.Helper()
	mark := l.client.last()
	o := m.sombra("backup", "--json", l.host.data(""))
	if o.code != 0 {
		m.t.Errorf("the next backup: exit code %d\n%s\n%s", o.code, whatWentOn(o.out), o.err)
		return
	}
	l.answers(m.t, time.Now(), promptly)
	l.goesOn(m.t, true)
	l.recordTrue(m, o.summary().ID, 0, false, mark)
}

// reset brings a lane back after a cell that failed.
func (l *lane) reset() {
	for _, p := range l.ours() {
		syscall.Kill(p.pid, syscall.SIGKILL)
	}
	for _, name := range []string{"stopfails", "stophangs", "nostart"} {
		os.Remove(l.file(name))
	}
	group := l.inside("/sys/fs/cgroup/system.slice/" + l.unit)
	os.WriteFile(group+"/cgroup.freeze", []byte("0"), 0)
	os.Remove(l.inside("/run/sombra/units/" + l.unit))
	for _, dir := range []string{l.host.state(), l.host.data(".sombra")} {
		list, _ := filepath.Glob(filepath.Join(dir, "*"))
		for _, name := range list {
			os.RemoveAll(name)
		}
	}
	os.RemoveAll(filepath.Join(l.dir, "repository", "ballast"))
	l.host.command("systemctl", "restart", l.unit).Run() // the next cell shows
}

// nothingOfAny checks what no unit may have left in the host.
func (l *lane) nothingOfAny(t *testing.T) {
	t.Helper()
	dropins, _ := filepath.Glob(l.inside("/run/systemd/*/*.d/*"))
	transient, _ := filepath.Glob(l.inside("/run/systemd/transient/*"))
	if left := slices.Concat(dropins, transient); len(left) > 0 {
		t.Errorf("left in the host: %v", left)
	}
}

// unitClient asks a unit for one number after the other, as long as the test lasts.
type unitClient struct {
	socket string
	mu     sync.Mutex
	acked  uint64
	at     time.Time
}

// talk starts the lane's client, and waits for the unit's first answer.
func (l *lane) talk(t *testing.T) {
	t.Helper()
	c := &unitClient{socket: l.file("socket")}
	l.client = c
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		for ctx.Err() == nil {
			c.session(ctx)
			time.Sleep(5 * time.Millisecond)
		}
	})
	t.Cleanup(func() { cancel(); done.Wait() })
	waitFor(t, longest, "the unit answers", func() bool { return c.last() > 0 })
}

// session asks until the connection is lost, or nothing comes for a while: a unit that
// was stopped has others.
func (c *unitClient) session(ctx context.Context) {
	conn, err := net.Dial("unix", c.socket)
	if err != nil {
		return
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	for answers := bufio.NewScanner(conn); ; time.Sleep(5 * time.Millisecond) {
		next := c.last() + 1
		conn.SetDeadline(time.Now().Add(time.Second))
		if _, err := fmt.Fprintln(conn, next); err != nil || !answers.Scan() || answers.Text() != fmt.Sprint(next) {
			return
		}
		c.mu.Lock()
		c.acked, c.at = next, time.Now()
		c.mu.Unlock()
	}
}

func (c *unitClient) last() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.acked
}

// answered is when the unit answered last.
func (c *unitClient) answered() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A world of the table of faults is a process of this test program in namespaces
// of its own: it sees its own processes, mounts and control groups, /run and /tmp,
// so that several can be at work beside each other and what one does, or leaves, is
// not taken for another's. It reads the names of cells from standard input and
// prints lines that begin so, and a JSON value each.
const (
	worldReady  = "fault-world: "
	worldResult = "fault-result: "
)

// worldVariable tells a test program that it is a world, and of what kind.
const worldVariable = "SOMBRA_FAULT_WORLD"

// worldCells is what a world says when it is ready: which cells there are, and why
// others do not apply.
type worldCells struct {
	Cells   []string          `json:"cells"`
	Rows    []string          `json:"rows"`
	Excused map[string]string `json:"excused"`
}

// cellResult is what it says of one.
type cellResult struct {
	Cell string        `json:"cell"`
	OK   bool          `json:"ok"`
	Took time.Duration `json:"took"`
	// Checked are the promises that were looked at, and how often.
	Checked map[string]int `json:"checked"`
	// Spent is the time of its steps.
	Spent map[string]time.Duration `json:"spent"`
	// Slowest is how long the slowest application took to accept a write.
	Slowest time.Duration `json:"slowest"`
	output  string
}

// enterWorld makes what a world does not share, as first process of a new process
// namespace, and becomes the one that starts the test program.
const enterWorld = `set -e
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
group=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
if [ -n "$group" ] && mkdir "$group/$1" 2>/dev/null; then echo 0 >"$group/$1/cgroup.procs"; fi
shift
exec unshare -C sh -c 'while umount -l /sys/fs/cgroup 2>/dev/null; do :; done
mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec "$0" "$@"' "$@"
`

// worldInit is the first process of a world: it starts the test program, and waits
// for whatever is left to it.
func worldInit(args []string) error {
	pid, err := syscall.ForkExec(args[0], args, &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}})
	if err != nil {
		return err
	}
	for {
		var status syscall.WaitStatus
		ended, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return err
		case ended == pid && status.Exited():
			os.Exit(status.ExitStatus())
		case ended == pid:
			return fmt.Errorf("the world ended: %v", status.Signal())
		}
	}
}

// faultPool has worlds at work.
type faultPool struct {
	t    *testing.T
	kind string
	test string // the name of the test that a world runs
	dir  string // of programs and worlds
	made int
	mu   sync.Mutex
}

// newFaultPool makes the directory of worlds, with the programs.
func newFaultPool(t *testing.T) *faultPool {
	t.Helper()
	p := &faultPool{t: t, test: t.Name(), dir: scratch(t)}
	if err := os.Chmod(p.dir, 0o755); err != nil { // other users run them, too
		t.Fatal(err)
	}
	for name, from := range map[string]string{"sombra": program, "test": "/proc/self/exe"} {
		if err := copyProgram(from, filepath.Join(p.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func copyProgram(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o755)
}

// liveWorld is a world as seen from outside.
type liveWorld struct {
	name  string
	dir   string
	cmd   *exec.Cmd
	in    io.WriteCloser
	out   *bufio.Reader
	cells worldCells
}

// start starts a world and waits until it is ready.
func (p *faultPool) start() (*liveWorld, error) {
	p.mu.Lock()
	p.made++
	w := &liveWorld{name: fmt.Sprintf("sombra-e2e-%d-%d", os.Getpid(), p.made)}
	w.dir = filepath.Join(p.dir, "world-"+strconv.Itoa(p.made))
	p.mu.Unlock()
	if err := os.Mkdir(w.dir, 0o755); err != nil {
		return nil, err
	}
	test := filepath.Join(p.dir, "test")
	w.cmd = exec.Command("unshare", "-pfmi", "--kill-child", "--mount-proc", "sh", "-c", enterWorld, "sh", w.name,
		test, "test-init", test, "-test.v", "-test.count=1", "-test.timeout=24h", "-test.run=^"+p.test+"$")
	w.cmd.Env = append(os.Environ(), worldVariable+"="+p.kind+"worlds", "SOMBRA_TEST_SCRATCH="+w.dir, "TMPDIR=/tmp",
		programVariable+"="+filepath.Join(p.dir, "sombra"))
	in, err := w.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, far, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	w.in, w.out = in, bufio.NewReader(out)
	w.cmd.Stdout, w.cmd.Stderr = far, far
	err = w.cmd.Start()
	far.Close()
	if err != nil {
		return nil, err
	}
	text, said, err := w.until(worldReady)
	if err == nil {
		err = json.Unmarshal([]byte(text), &w.cells)
	}
	if err != nil {
		w.kill()
		return nil, fmt.Errorf("%s: %w: %s", w.name, err, said)
	}
	return w, nil
}

// until reads up to a line that begins so, and gives its rest and what came before.
func (w *liveWorld) until(prefix string) (rest, said string, err error) {
	var b strings.Builder
	for {
		line, err := w.out.ReadString('\n')
		if text, ok := strings.CutPrefix(line, prefix); ok {
			return text, b.String(), nil
		}
		if s := strings.TrimSpace(line); s != "" && !strings.HasPrefix(s, "---") && !strings.HasPrefix(s, "===") { // which "go test" would take for its own
			b.WriteString(line)
		}
		if err != nil {
			return "", b.String(), err
		}
	}
}

// run runs one cell.
func (w *liveWorld) run(cell string) (r cellResult) {
	_, err := fmt.Fprintln(w.in, cell)
	var text string
	if err == nil {
		text, r.output, err = w.until(worldResult)
	}
	if err == nil {
		err = json.Unmarshal([]byte(text), &r)
	}
	if err != nil {
		r.OK, r.output = false, r.output+fmt.Sprintf("\nthe world has ended: %v", err)
	}
	r.Cell = cell
	return r
}

// end has the world clean up and end, and says what was wrong with that.
func (w *liveWorld) end() error {
	w.in.Close()
	said, _ := io.ReadAll(w.out)
	err := w.cmd.Wait()
	w.removeGroup()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", w.name, err, said)
	}
	return nil
}

// kill ends all its processes at once.
func (w *liveWorld) kill() {
	w.cmd.Process.Kill()
	w.cmd.Wait()
	w.removeGroup()
}

// removeGroup removes its control group, when its last processes have ended.
func (w *liveWorld) removeGroup() {
	for _, mount := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		group := filepath.Join(mount, w.name)
		for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			inner, _ := filepath.Glob(filepath.Join(group, "*/"))
			for _, dir := range inner {
				os.Remove(dir)
			}
			if err := os.Remove(group); err == nil || os.IsNotExist(err) {
				break
			}
		}
	}
}

// each has worlds run the cells that choose takes, and calls done with each result,
// in the order in which they come. A world in which one failed is ended: nobody
// knows what is left in it.
func (p *faultPool) each(worlds int, choose func(worldCells) []string, done func(cellResult)) {
	p.t.Helper()
	first, err := p.start()
	if err != nil {
		p.t.Fatal(err)
	}
	cells := choose(first.cells)
	queue := make(chan string, len(cells))
	for _, c := range cells {
		queue <- c
	}
	close(queue)
	results := make(chan cellResult)
	var group sync.WaitGroup
	for i := range max(1, min(worlds, len(cells))) {
		w := first
		if i > 0 {
			w = nil
		}
		group.Go(func() { p.work(w, queue, results) })
	}
	go func() {
		group.Wait()
		close(results)
	}()
	for r := range results {
		done(r)
	}
}

// work is one world after another.
func (p *faultPool) work(w *liveWorld, queue <-chan string, results chan<- cellResult) {
	var err error
	for cell := range queue {
		if w == nil {
			if w, err = p.start(); err != nil {
				results <- cellResult{Cell: cell, output: err.Error()}
				w = nil
				continue
			}
		}
		r := w.run(cell)
		results <- r
		if !r.OK {
			process := w.cmd.Process
			late := time.AfterFunc(time.Minute, func() { process.Kill() })
			w.end() // that a cell failed is known
			late.Stop()
			w = nil
		}
	}
	if w == nil {
		return
	}
	if err := w.end(); err != nil {
		p.t.Error(err)
	}
}

// serveWorld is the world's side.
func serveWorld(t *testing.T, w *faultWorld) {
	say := func(prefix string, v any) {
		t.Helper()
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("\n%s%s\n", prefix, data)
	}
	say(worldReady, w.allCells())
	for s := bufio.NewScanner(os.Stdin); s.Scan(); {
		c, begun, tally := parseCell(s.Text()), time.Now(), newFaultTally()
		ok := t.Run(c.String(), func(t *testing.T) {
			of, m := *w, *w.machine
			m.t, of.machine, of.faultTally = t, &m, tally
			c.run(&of)
		})
		say(worldResult, cellResult{Cell: s.Text(), OK: ok, Took: time.Since(begun), Checked: tally.checked, Spent: tally.spent, Slowest: tally.slowest})
		if !ok {
			return
		}
	}
}

func parseCell(name string) faultCell {
	f := strings.Split(name, "/")
	return faultCell{f[0], f[1], f[2]}
}

// faultTally counts what a cell has looked at.
type faultTally struct {
	checked map[string]int
	spent   map[string]time.Duration
	slowest time.Duration
	since   time.Time
}

func newFaultTally() *faultTally {
	return &faultTally{checked: map[string]int{}, spent: map[string]time.Duration{}, since: time.Now()}
}

func (f *faultTally) check(what string) { f.checked[what]++ }

// step ends one step of a cell.
func (f *faultTally) step(what string) {
	now := time.Now()
	f.spent[what] += now.Sub(f.since)
	f.since = now
}

// tallyOf sums up what cells have looked at, in lines.
func tallyOf(all []cellResult) string {
	cells, times := map[string]int{}, map[string]int{}
	var names []string
	var slowest, took time.Duration
	for _, r := range all {
		slowest, took = max(slowest, r.Slowest), took+r.Took
		for what, n := range r.Checked {
			if cells[what] == 0 {
				names = append(names, what)
			}
			cells[what]++
			times[what] += n
		}
	}
	slices.Sort(names)
	spent := map[string]time.Duration{}
	for _, r := range all {
		for what, d := range r.Spent {
			spent[what] += d
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d cells took %v, one after the other; the slowest first write after a fault, %v;", len(all),
		took.Round(time.Second), slowest.Round(time.Millisecond))
	for _, what := range slices.Sorted(maps.Keys(spent)) {
		fmt.Fprintf(&b, " %s %v;", what, spent[what].Round(time.Second))
	}
	b.WriteString("\nchecked, in how many cells and how often:")
	for _, name := range names {
		fmt.Fprintf(&b, "\n  %-60s %4d %6d", name, cells[name], times[name])
	}
	return b.String()
}

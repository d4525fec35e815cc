package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/session"
)

// instantGoals are how long all may be held, by layout: median and 99th
// percentile.
var instantGoals = map[string][2]time.Duration{
	"btrfs": {50 * time.Millisecond, 250 * time.Millisecond},
	"mixed": {200 * time.Millisecond, 600 * time.Millisecond},
}

type instantOptions struct {
	rounds int
	size   int64
	dir    string
	only   string
	sombra string
	churn  bool
	trace  string
}

// benchInstant measures how long several databases are held for backups that
// show one instant.
func benchInstant(ctx context.Context, args []string, out io.Writer) error {
	o := instantOptions{}
	mib := int64(0)
	f := flag.NewFlagSet("instant", flag.ContinueOnError)
	f.IntVar(&o.rounds, "rounds", 100, "backups of each layout")
	f.Int64Var(&mib, "size", 128, "rows of each database in MiB")
	f.StringVar(&o.dir, "dir", "/var/tmp", "directory for the volumes' images; not in memory")
	f.StringVar(&o.only, "only", "", "one layout: btrfs or mixed")
	f.BoolVar(&o.churn, "churn", true, "clients that change rows all the time; without them hardly anything is written between flush and hold")
	f.StringVar(&o.trace, "trace", "", "append what each hold was made of to this `file`, a JSON object a line")
	f.StringVar(&o.sombra, "sombra", "build/sombra", "the program")
	if err := f.Parse(args); err != nil {
		return err
	}
	if o.rounds < 1 || mib < 1 {
		return errors.New("rounds and size must be 1 or more")
	}
	o.size = mib << 20
	t, err := findSombra(ctx, o.sombra)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "## One instant of four databases and files: how long all are held\n\n%s", machine())
	fmt.Fprintf(out, "- %s; %d backups of each layout, each a whole `sombra backup`, databases discovered, rows of %d MiB in each of PostgreSQL, MariaDB and SQLite\n",
		t.version, o.rounds, mib)
	fmt.Fprintf(out, "- load: %d clients that commit a number to PostgreSQL, MariaDB, Redis, SQLite and a file in turn, resting %v after each; %s\n", clients, rest, o.changes())
	for _, l := range layouts {
		if o.only != "" && o.only != l.name {
			continue
		}
		if err := measureInstant(ctx, o, t, l, out); err != nil {
			return fmt.Errorf("%s: %w", l.name, err)
		}
	}
	return nil
}

func (o instantOptions) changes() string {
	if !o.churn {
		return "no client that changes rows besides"
	}
	return fmt.Sprintf("a client for each SQL database that changes five rows, resting %v", churnRest)
}

func measureInstant(ctx context.Context, o instantOptions, t *tool, l layout, out io.Writer) (err error) {
	fmt.Fprintf(os.Stderr, "making %s\n", l.about)
	e, err := newEstate(ctx, o.dir, l, o.size)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.close()) }()
	config, err := e.configureFiles()
	if err != nil {
		return err
	}
	b, err := newBackups(ctx, t, e.dir, config)
	if err != nil {
		return err
	}
	if err := e.work(o.churn); err != nil {
		return err
	}
	m := instantMeasured{layout: l}
	s := startSampler()
	defer s.close()
	for n := range o.rounds + 1 {
		begun := time.Now()
		r, err := b.run(ctx, e.roots[:]...)
		if err != nil {
			return fmt.Errorf("backup %d: %w", n+1, err)
		}
		if n == 0 {
			continue // reads everything for the first time
		}
		fmt.Fprintf(os.Stderr, "%s: backup %d of %d: held for %s ms\n", l.name, n, o.rounds, ms(r.Hold))
		if err := m.add(e, r, begun); err != nil {
			return err
		}
		m.trace(e, s, r)
	}
	if err := e.rests(); err != nil {
		return fmt.Errorf("a client failed: %w", err)
	}
	m.median = map[string]time.Duration{}
	for _, p := range e.ledger.Places {
		m.median[p.Name] = e.history.Median(p.Name)
	}
	m.print(out)
	return m.writeTraces(o.trace)
}

// backups runs the program with a repository of its own.
type backups struct {
	t      *tool
	dir    string
	config string
}

// newBackups makes the repository, in a directory of its own below dir.
func newBackups(ctx context.Context, t *tool, dir, config string) (*backups, error) {
	b := &backups{t: t, dir: filepath.Join(dir, "backups"), config: config}
	if err := os.Mkdir(b.dir, 0o700); err != nil {
		return nil, err
	}
	_, err := b.command(ctx, "-q", "init").Output()
	return b, failure("init", err)
}

func (b *backups) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, b.t.path, args...)
	cmd.Env = append(append(environment(), b.t.env(b.dir)...), "SOMBRA_CONFIG="+b.config)
	return cmd
}

// failure adds to an error of a command what it said.
func failure(what string, err error) error {
	var e *exec.ExitError
	if errors.As(err, &e) {
		return fmt.Errorf("%s: %w: %s", what, err, bytes.TrimSpace(e.Stderr))
	}
	return err
}

// run does a backup, which must be complete, and gives its freeze receipt.
func (b *backups) run(ctx context.Context, args ...string) (*session.Receipt, error) {
	out, err := b.command(ctx, append([]string{"--json", "backup"}, args...)...).Output()
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", failure("sombra backup", err), lastOf(out))
	}
	var r requester.Result
	for line := range bytes.Lines(out) {
		var m struct {
			MessageType string `json:"message_type"`
		}
		if err := json.Unmarshal(line, &m); err != nil {
			return nil, err
		}
		if m.MessageType == "summary" {
			if err := json.Unmarshal(line, &r); err != nil {
				return nil, err
			}
		}
	}
	if r.Outcome != requester.Complete || r.Receipt == nil {
		return nil, fmt.Errorf("the backup is not complete: %s", lastOf(out))
	}
	return r.Receipt, nil
}

// lastOf gives the last messages of a backup: its summary, and why it failed.
func lastOf(out []byte) []byte {
	const enough = 8 << 10
	return out[max(0, len(out)-enough):]
}

// settleWindow is how long after a backup began to hold a commit is still counted as
// one that it made wait.
const settleWindow = 100 * time.Millisecond

// instantMeasured is what was measured of one layout.
type instantMeasured struct {
	layout  layout
	hold    durations
	stopped []int
	writers []writerMeasured
	volumes []volumeMeasured
	// worst is each store's longest commit that a hold fell into, and idle the longest of the same
	// backup outside.
	worst, idle map[string]durations
	median      map[string]time.Duration
	traces      []holdTrace
}

type writerMeasured struct {
	name                                  string
	prepare, lockWait, freeze, held, thaw durations
	stillness                             []string
	readsPaused                           int
}

type volumeMeasured struct {
	root, provider              string
	prepare, flush, pre, commit durations
	files, extents              []int
	bytes                       []uint64
}

// add takes in one backup's receipt, and what the clients saw of it.
func (m *instantMeasured) add(e *estate, r *session.Receipt, begun time.Time) error {
	ended := time.Now()
	if len(r.Writers) < len(e.ledger.Places) {
		return fmt.Errorf("the receipt has only the writers %+v", r.Writers)
	}
	m.hold = append(m.hold, r.Hold)
	m.stopped = append(m.stopped, r.Stopped)
	for _, w := range r.Writers {
		if w.Stillness == "" {
			return fmt.Errorf("%s was not frozen", w.Name)
		}
		one := m.writer(w)
		one.prepare, one.lockWait, one.freeze = append(one.prepare, w.Prepare), append(one.lockWait, w.LockWait), append(one.freeze, w.Freeze)
		one.held, one.thaw = append(one.held, w.Held), append(one.thaw, w.Thaw)
		if !slices.Contains(one.stillness, w.Stillness) {
			one.stillness = append(one.stillness, w.Stillness)
		}
		if w.ReadsPaused {
			one.readsPaused++
		}
	}
	for _, v := range r.Volumes {
		one := m.volume(e, v)
		one.prepare, one.flush, one.commit = append(one.prepare, v.Prepare), append(one.flush, v.Flush), append(one.commit, v.Commit)
		one.files, one.extents, one.bytes = append(one.files, v.Files), append(one.extents, v.Extents), append(one.bytes, v.Bytes)
	}
	return m.waits(e, r, begun, ended)
}

// waits looks up how long the clients' commits took during one backup.
func (m *instantMeasured) waits(e *estate, r *session.Receipt, begun, ended time.Time) error {
	if err := e.history.Update(); err != nil {
		return err
	}
	if m.worst == nil {
		m.worst, m.idle = map[string]durations{}, map[string]durations{}
	}
	var before time.Duration // from the first lock to the hold
	for _, w := range r.Writers {
		before = max(before, w.Held)
	}
	from, to := r.Instant.Add(-before), r.Instant.Add(settleWindow)
	for _, p := range e.ledger.Places {
		in, ok := e.history.SlowestIn(p.Name, from, to)
		if !ok {
			continue // all clients were waiting for another store
		}
		out1, _ := e.history.SlowestIn(p.Name, begun, from.Add(-settleWindow))
		out2, _ := e.history.SlowestIn(p.Name, to.Add(settleWindow), ended)
		m.worst[p.Name] = append(m.worst[p.Name], in.Acked.Sub(in.Begun))
		m.idle[p.Name] = append(m.idle[p.Name], max(out1.Acked.Sub(out1.Begun), out2.Acked.Sub(out2.Begun)))
	}
	return nil
}

func (m *instantMeasured) writer(w session.WriterReceipt) *writerMeasured {
	name := w.Name
	if w.InstanceName == "files" { // as configured
		name = "files"
	}
	i := slices.IndexFunc(m.writers, func(o writerMeasured) bool { return o.name == name })
	if i < 0 {
		m.writers = append(m.writers, writerMeasured{name: name})
		i = len(m.writers) - 1
	}
	return &m.writers[i]
}

func (m *instantMeasured) volume(e *estate, v session.VolumeReceipt) *volumeMeasured {
	name := v.Root
	if i := slices.Index(e.roots[:], v.Root); i >= 0 {
		name = []string{"PostgreSQL", "MariaDB", "Redis and SQLite", "files"}[i]
	}
	i := slices.IndexFunc(m.volumes, func(o volumeMeasured) bool { return o.root == name })
	if i < 0 {
		m.volumes = append(m.volumes, volumeMeasured{root: name, provider: v.Provider})
		i = len(m.volumes) - 1
	}
	return &m.volumes[i]
}

func (m *instantMeasured) print(out io.Writer) {
	fmt.Fprintf(out, "\n### %s\n\n%s", strings.ToUpper(m.layout.about[:1])+m.layout.about[1:], tableHead)
	fmt.Fprint(out, m.hold.row("hold, from the last Freeze to the last commit"))
	for _, w := range m.writers {
		fmt.Fprint(out, w.prepare.row(w.name+": prepare"), w.lockWait.row(w.name+": lock wait"), w.freeze.row(w.name+": freeze"),
			w.held.row(w.name+": held, to the end of Thaw"), w.thaw.row(w.name+": thaw"))
	}
	for _, v := range m.volumes {
		fmt.Fprint(out, v.prepare.row(v.root+": prepare, by "+v.provider), v.flush.row(v.root+": flush"), v.commit.row(v.root+": commit"))
	}
	for _, name := range sortedNames(m.worst) {
		fmt.Fprint(out, m.worst[name].row(name+": a client's longest commit at the hold"), m.idle[name].row(name+": the same at the backup's other times"))
	}
	fmt.Fprintln(out)
	for _, v := range m.volumes {
		if slices.Max(v.files) > 0 {
			fmt.Fprintf(out, "- %s: in the hold by %s, median and most: %d and %d files, %d and %d extents, %.1f and %.1f MiB\n", v.root, v.provider,
				middle(v.files), slices.Max(v.files), middle(v.extents), slices.Max(v.extents), mib(middle(v.bytes)), mib(slices.Max(v.bytes)))
		}
	}
	for _, w := range m.writers {
		paused := "reads answered"
		if w.readsPaused > 0 {
			paused = fmt.Sprintf("reads paused in %d of %d", w.readsPaused, len(m.hold))
		}
		fmt.Fprintf(out, "- %s: %s, %s\n", w.name, strings.Join(w.stillness, " or "), paused)
	}
	fmt.Fprintf(out, "- processes stopped, median and most: %d and %d\n", middle(m.stopped), slices.Max(m.stopped))
	for _, name := range sortedNames(m.worst) {
		fmt.Fprintf(out, "- %s: a commit took %s ms (median of all clients and times)\n", name, ms(m.median[name]))
	}
	goal := instantGoals[m.layout.name]
	fmt.Fprint(out, verdict("hold, median", m.hold.median(), goal[0]), verdict("hold, p99", m.hold.p99(), goal[1]))
	m.printTraces(out)
}

func sortedNames[T any](m map[string]T) []string {
	var names []string
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// middle is the median.
func middle[T int | uint64](list []T) T { return slices.Sorted(slices.Values(list))[len(list)/2] }

func mib(n uint64) float64 { return float64(n) / (1 << 20) }

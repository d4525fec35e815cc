package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

type repositoryOptions struct {
	rounds            int
	works             []string
	size, drop        float64
	tree, dir, sombra string
	peers, without    []string
}

func (o *repositoryOptions) parse(args []string) error {
	f := flag.NewFlagSet("repository", flag.ContinueOnError)
	f.IntVar(&o.rounds, "rounds", 5, "rounds in each of which every tool does everything once")
	works := f.String("works", "a,b,c,d,e,f", "what to measure: a tree first (a), unchanged (b), changed (c), a database's file (d), small files (e), restore (f)")
	f.Float64Var(&o.size, "size", 1, "share of the size of what is made: 4 GiB in (d), 500000 files in (e)")
	f.StringVar(&o.tree, "tree", "/usr/lib", "the tree of (a) to (c); it is copied, and the copy used")
	f.StringVar(&o.dir, "dir", "/var/tmp", "directory for data and repositories; not in memory; 40 GiB")
	f.StringVar(&o.sombra, "sombra", "build/sombra", "the program measured")
	peers := f.String("peers", os.Getenv("SOMBRA_BENCH_PEERS"), "directories to look for peers in besides PATH, as PATH lists them")
	without := f.String("without", "", "peers to leave out, with commas between")
	f.Float64Var(&o.drop, "drop", 1.5, "after the first round leave out peers that took longer than this many times the fastest one, in all of a work's steps; 0 keeps all")
	if err := f.Parse(args); err != nil {
		return err
	}
	o.works = strings.Split(*works, ",")
	for _, w := range o.works {
		if len(w) != 1 || !strings.Contains("abcdef", w) {
			return fmt.Errorf("no work is called %q: there are a,b,c,d,e,f", w)
		}
	}
	o.peers = append(filepath.SplitList(*peers), filepath.SplitList(os.Getenv("PATH"))...)
	o.without = strings.Split(*without, ",")
	if o.rounds < 1 || o.size <= 0 || o.drop < 0 || o.drop > 0 && o.drop < 1 {
		return errors.New("rounds must be 1 or more, size more than 0, and drop 0 or at least 1")
	}
	return nil
}

// benchRepository compares the repository with what people use otherwise.
func benchRepository(ctx context.Context, args []string, out io.Writer) (err error) {
	var o repositoryOptions
	if err := o.parse(args); err != nil {
		return err
	}
	us, err := findSombra(ctx, o.sombra)
	if err != nil {
		return err
	}
	r := &rig{o: o, results: map[string]map[string][]usage{}}
	peers := findPeers(ctx, o.peers)
	r.tools = append([]*tool{us}, slices.DeleteFunc(peers, func(t *tool) bool { return slices.Contains(o.without, t.name) })...)
	r.unclaimed = claimable(r.tools)
	r.tools = append(r.tools, yardsticks()...)
	about := machine()
	if r.dir, err = os.MkdirTemp(o.dir, "sombra-bench-"); err != nil {
		return err
	}
	if r.dir, err = filepath.EvalSymlinks(r.dir); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(r.dir)) }()
	begun := time.Now()
	r.head(out, about)
	for _, g := range r.groups() {
		if err := r.measureGroup(ctx, g, out); err != nil {
			return err
		}
	}
	r.memory(out)
	fmt.Fprintf(out, "- all of it took %s\n", time.Since(begun).Round(time.Second))
	return nil
}

// rig is one run of the comparison.
type rig struct {
	o         repositoryOptions
	dir       string
	tools     []*tool // ours first
	unclaimed string  // why nothing is said of the fastest peer
	results   map[string]map[string][]usage
	restored  []string // directories to remove when a round is over
}

// group is data, and the steps that every tool does with it one after the other.
type group struct {
	name  string
	src   string
	make  func(g *group) (about string, err error)
	steps []*step
	left  map[string]bool // tools left out after the first round
}

// step is one thing measured.
type step struct {
	id, work, title string
	// prepare changes the data, once for all tools.
	prepare func(g *group, round int) (about string, err error)
	// run does it for one tool; the tool's directory has the repository.
	run func(ctx context.Context, g *group, t *tool, dir string, round int) (usage, error)
	// yardsticks take part; ours alone does.
	yardsticks, oursOnly, restore bool
	// apart is done on a copy of the tool's directory, which is made before the
	// first such step of a round: what it stores is not there in the other steps.
	apart bool
	// needs is the work of the step whose backup this one restores.
	needs string
	// The goals, 0 for none: wall to the fastest peer's in the step against
	// (empty: this one), wall to tar's, stored to the smallest peer's.
	wallGoal, tarGoal, storedGoal float64
	against                       string
	// tell prints what else was measured.
	tell func(out io.Writer)

	about string
}

func (r *rig) wanted(work string) bool { return slices.Contains(r.o.works, work) }

// groups are those of which a work is wanted. What a wanted step builds upon is
// done as well. Of restores alone, those of the tree and of the database.
func (r *rig) groups() (list []*group) {
	onlyRestore := !slices.ContainsFunc(r.o.works, func(w string) bool { return w != "f" })
	for _, g := range []*group{r.treeGroup(), r.databaseGroup(), r.smallGroup()} {
		some := onlyRestore && g.name != "small"
		for _, s := range g.steps {
			some = some || s.work != "f" && r.wanted(s.work)
		}
		if !some {
			continue
		}
		first := g.steps[0]
		g.steps = slices.DeleteFunc(g.steps, func(s *step) bool {
			return s != first && !r.wanted(s.work) || s.needs != "" && !r.wanted(s.needs)
		})
		g.left = map[string]bool{}
		list = append(list, g)
	}
	return list
}

// measureGroup makes the data, does all rounds and prints the tables.
func (r *rig) measureGroup(ctx context.Context, g *group, out io.Writer) error {
	about, err := g.make(g)
	if err != nil {
		return fmt.Errorf("make data: %w", err)
	}
	for round := range r.o.rounds {
		if err := r.round(ctx, g, round); err != nil {
			return fmt.Errorf("round %d: %w", round+1, err)
		}
		if round == 0 {
			r.drop(g)
		}
	}
	fmt.Fprintf(out, "\n%s", about)
	for _, s := range g.steps {
		r.print(out, s)
	}
	return removeAll(filepath.Dir(g.src))
}

// round does every step with every tool that takes part, beginning with another
// tool each time, on repositories made new.
func (r *rig) round(ctx context.Context, g *group, round int) error {
	var tools []*tool
	for i := range r.tools {
		if t := r.tools[(i+round)%len(r.tools)]; !g.left[t.name] {
			tools = append(tools, t)
		}
	}
	for _, t := range tools {
		if err := r.create(ctx, t); err != nil {
			return err
		}
	}
	for _, s := range g.steps {
		if s.prepare != nil {
			about, err := s.prepare(g, round)
			if err != nil {
				return fmt.Errorf("%s: %w", s.title, err)
			}
			s.about = about
		}
		if err := warm(g.src); err != nil {
			return err
		}
		for _, t := range tools {
			if t.kind == yardstick && !s.yardsticks || t.kind != ours && s.oursOnly {
				continue
			}
			if err := r.once(ctx, g, s, t, round); err != nil {
				return fmt.Errorf("%s: %s: %w", s.title, t.name, err)
			}
		}
	}
	for _, t := range tools {
		r.restored = append(r.restored, r.of(t), r.apart(t))
	}
	for _, dir := range r.restored {
		if err := removeAll(dir); err != nil {
			return err
		}
	}
	r.restored = nil
	return nil
}

// of is a tool's directory.
func (r *rig) of(t *tool) string { return filepath.Join(r.dir, strings.Fields(t.name)[0]) }

// apart is the copy of a tool's directory that steps apart are done on.
func (r *rig) apart(t *tool) string { return r.of(t) + "-apart" }

// setApart gives that copy, and makes it if this round has none yet.
func (r *rig) setApart(t *tool) (string, error) {
	dir := r.apart(t)
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return dir, err
	}
	return dir, command("cp", "-a", r.of(t), dir)
}

func (r *rig) create(ctx context.Context, t *tool) error {
	dir := r.of(t)
	if err := os.MkdirAll(repoOf(dir), 0o700); err != nil {
		return err
	}
	for _, args := range t.create(t, dir) {
		if _, err := runAll(ctx, []proc{{args: args, env: t.env(dir)}}); err != nil {
			return err
		}
	}
	return nil
}

// once measures one tool in one step.
func (r *rig) once(ctx context.Context, g *group, s *step, t *tool, round int) error {
	dir := r.of(t)
	if s.apart {
		var err error
		if dir, err = r.setApart(t); err != nil {
			return err
		}
	}
	before, err := sizeOf(repoOf(dir))
	if err != nil {
		return err
	}
	if s.restore {
		if err := warm(repoOf(dir)); err != nil {
			return err
		}
	}
	u, err := s.run(ctx, g, t, dir, round)
	if err != nil {
		return err
	}
	after, err := sizeOf(repoOf(dir))
	if err != nil {
		return err
	}
	u.stored = after.bytes - before.bytes
	if r.results[s.id] == nil {
		r.results[s.id] = map[string][]usage{}
	}
	r.results[s.id][t.name] = append(r.results[s.id][t.name], u)
	fmt.Fprintf(os.Stderr, "round %d: %-30s %-14s %8.2f s, cpu %8.2f s, %5d MiB, stored %9.2f MB\n",
		round+1, s.title, t.name, u.wall.Seconds(), u.cpu.Seconds(), u.peak>>20, float64(u.stored)/1e6)
	return nil
}

// drop leaves peers out of further rounds that were slow in everything: what is
// asked is the ratio to the fastest.
func (r *rig) drop(g *group) {
	if r.o.drop == 0 {
		return
	}
	near := map[string]bool{}
	for _, s := range g.steps {
		fastest := r.best(s.id, wallOf)
		for _, t := range r.tools {
			runs := r.results[s.id][t.name]
			if t.kind == peer && len(runs) > 0 && fastest != nil &&
				wallOf(runs[0]) <= r.o.drop*wallOf(r.results[s.id][fastest.name][0]) {
				near[t.name] = true
			}
		}
	}
	for _, t := range r.tools {
		g.left[t.name] = t.kind == peer && !near[t.name]
	}
}

// backUp is the step of a backup.
func backUp(ctx context.Context, g *group, t *tool, dir string, _ int) (usage, error) {
	procs := t.backup(t, dir, filepath.Dir(g.src))
	for i := range procs {
		procs[i].env = t.env(dir)
	}
	return measure(ctx, procs...)
}

// putBack is the step of a restore. What came of it is compared with the source
// in the first round.
func (r *rig) putBack(ctx context.Context, g *group, t *tool, dir string, round int) (u usage, err error) {
	// They are removed when the round is over: ext4 takes a long time to find
	// room for new files where many were removed a minute ago.
	dst, err := os.MkdirTemp(r.dir, "restored-")
	if err != nil {
		return u, err
	}
	r.restored = append(r.restored, dst)
	p, err := t.restore(ctx, t, dir, filepath.Dir(g.src), dst)
	if err != nil {
		return u, err
	}
	p.env = t.env(dir)
	if u, err = measure(ctx, p); err != nil || round > 0 {
		return u, err
	}
	return u, same(g.src, filepath.Join(dst, t.below(filepath.Dir(g.src)), filepath.Base(g.src)))
}

// removeAll removes a directory in which some may not be written to.
func removeAll(dir string) error {
	err := os.RemoveAll(dir)
	if errors.Is(err, fs.ErrPermission) {
		filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				return os.Chmod(path, 0o700)
			}
			return nil
		})
		err = os.RemoveAll(dir)
	}
	return err
}

// best is the peer with the least median in a step, or nil.
func (r *rig) best(id string, of func(usage) float64) *tool {
	var list []*tool
	for _, t := range r.tools {
		if t.kind == peer && len(r.results[id][t.name]) > 0 {
			list = append(list, t)
		}
	}
	if len(list) == 0 {
		return nil
	}
	return slices.MinFunc(list, func(a, b *tool) int {
		return cmp.Compare(spreadOf(r.results[id][a.name], of).median, spreadOf(r.results[id][b.name], of).median)
	})
}

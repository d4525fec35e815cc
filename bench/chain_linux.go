package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// chainLinks is how many incremental backups follow the full one.
const chainLinks = 4

// The ways to restore a chain.
const (
	wayCollapsed  = "collapsed"
	waySequential = "sequential"
)

type chainOptions struct {
	rounds      int
	size        int64
	dir, sombra string
}

func (o *chainOptions) parse(args []string) error {
	mib := int64(0)
	f := flag.NewFlagSet("chain", flag.ContinueOnError)
	f.IntVar(&o.rounds, "rounds", 3, "how often each way is restored")
	f.Int64Var(&mib, "size", 1024, "size of the component in MiB")
	f.StringVar(&o.dir, "dir", "/var/tmp", "directory for data and repository; not in memory; five times the size")
	f.StringVar(&o.sombra, "sombra", "build/sombra", "the program that makes the backups")
	if err := f.Parse(args); err != nil {
		return err
	}
	if o.rounds < 1 || mib < 1 {
		return errors.New("rounds and size must be 1 or more")
	}
	o.size = mib << 20
	return nil
}

// benchChain measures the restore of a full backup and the incremental ones that
// follow it: in one pass that writes each file once, and link by link.
func benchChain(ctx context.Context, args []string, out io.Writer) (err error) {
	var o chainOptions
	if err := o.parse(args); err != nil {
		return err
	}
	us, err := findSombra(ctx, o.sombra)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(o.dir, "sombra-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return err
	}
	about := machine()
	c := &chainBench{o: o, us: us, dir: dir, data: chainData{dir: filepath.Join(dir, "data")}, kept: filepath.Join(dir, "kept"),
		runs: map[string][]usage{}}
	if err := c.prepare(ctx); err != nil {
		return err
	}
	if err := c.measure(ctx); err != nil {
		return err
	}
	return c.print(out, about)
}

type chainBench struct {
	o    chainOptions
	us   *tool
	dir  string // of the tool, and of all else
	data chainData
	kept string // the data as the last backup has it
	runs map[string][]usage
}

// prepare makes the data and the chain.
func (c *chainBench) prepare(ctx context.Context) error {
	fmt.Fprintf(os.Stderr, "making %.1f MB\n", float64(c.o.size)/1e6)
	if err := errors.Join(os.Mkdir(repoOf(c.dir), 0o700), c.data.make(c.o.size)); err != nil {
		return err
	}
	for _, args := range c.us.create(c.us, c.dir) {
		if _, err := runAll(ctx, []proc{{args: args, env: c.us.env(c.dir)}}); err != nil {
			return err
		}
	}
	if err := c.backup(ctx, "full", ""); err != nil {
		return err
	}
	for n := range chainLinks {
		ranges, err := c.data.change(uint64(n + 1))
		if err != nil {
			return err
		}
		if err := c.backup(ctx, "incremental", ranges); err != nil {
			return err
		}
	}
	return os.Rename(c.data.dir, c.kept)
}

// backup makes one of the component, with its writer.
func (c *chainBench) backup(ctx context.Context, backupType, ranges string) error {
	time.Sleep(500 * time.Millisecond) // so that what changed since shows in its times
	w, err := startWriter(ctx, c.us, c.dir, c.data.config(ranges))
	if err != nil {
		return err
	}
	before, err := sizeOf(repoOf(c.dir))
	if err == nil {
		_, err = runAll(ctx, []proc{{args: []string{c.us.path, "-q", "backup", "--component", "app", "--type", backupType}, env: c.us.env(c.dir)}})
	}
	after, serr := sizeOf(repoOf(c.dir))
	if err := errors.Join(err, serr, w.stop()); err != nil {
		return fmt.Errorf("%s backup: %w", backupType, err)
	}
	fmt.Fprintf(os.Stderr, "%-11s backup: stored %8.2f MB\n", backupType, float64(after.bytes-before.bytes)/1e6)
	return nil
}

// measure restores in both ways in turn, each to where nothing is.
func (c *chainBench) measure(ctx context.Context) (err error) {
	w, err := startWriter(ctx, c.us, c.dir, c.data.config(""))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.stop()) }()
	ways := []string{wayCollapsed, waySequential}
	for round := range c.o.rounds {
		for k := range ways {
			way := ways[(k+round)%len(ways)]
			u, err := c.once(ctx, way)
			if err != nil {
				return fmt.Errorf("round %d: %s: %w", round+1, way, err)
			}
			c.runs[way] = append(c.runs[way], u)
			fmt.Fprintf(os.Stderr, "round %d: %-10s %8.2f s, cpu %8.2f s, from the repository %8.1f MB, read %8.1f MB, written %8.1f MB\n",
				round+1, way, u.wall.Seconds(), u.cpu.Seconds(), float64(u.fetched)/1e6, float64(u.read)/1e6, float64(u.written)/1e6)
		}
	}
	return nil
}

// once restores the chain, and compares what is there then with what was kept.
func (c *chainBench) once(ctx context.Context, way string) (u usage, err error) {
	if err := errors.Join(os.RemoveAll(c.data.dir), warm(repoOf(c.dir))); err != nil {
		return u, err
	}
	u, told, err := measureJob[chainTold](ctx, roleChain, c.dir, chainJob{Dir: c.dir, Sequential: way == waySequential})
	if err != nil {
		return u, err
	}
	u.fetched = told.Read
	inPlace := 0
	if way == wayCollapsed {
		inPlace = chainLinks
	}
	if told.Operations != 1+chainLinks || told.InPlace != inPlace {
		return u, fmt.Errorf("%d operations, of which %d found their files in place", told.Operations, told.InPlace)
	}
	return u, same(c.kept, c.data.dir)
}

// print prints the table, with the ratios of the first way to the second.
func (c *chainBench) print(out io.Writer, about string) error {
	size, err := sizeOf(c.kept)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "## Chain restore collapsed against sequential\n\n%s", about)
	fmt.Fprintf(out, "- sombra %s; a component of %.1f MB in %d files, in directories of %s\n", c.us.version, float64(size.bytes)/1e6, size.files, c.o.dir)
	fmt.Fprintf(out, "- a full backup and %d incremental ones; before each of these 10 %% of a database's blocks of %d KiB (half of the data) and 10 %% of the "+
		"other files were written anew, one was taken away and two were added\n", chainLinks, chainBlock>>10)
	fmt.Fprintf(out, "- both ways in turn, to where nothing is; medians, with the range; `sync` is in every wall time\n\n")
	io.WriteString(out, "| restore | rounds | wall s | CPU s | from the repository MB | written MB | read in all MB |\n")
	io.WriteString(out, "|---------|-------:|-------:|------:|-----------------------:|-----------:|---------------:|\n")
	megabytes := func(of func(usage) int64) func(usage) float64 {
		return func(u usage) float64 { return float64(of(u)) / 1e6 }
	}
	columns := []func(usage) float64{wallOf, cpuOf, megabytes(func(u usage) int64 { return u.fetched }),
		megabytes(func(u usage) int64 { return u.written }), readOf}
	ratios := "| collapsed to sequential | |"
	for _, way := range []string{wayCollapsed, waySequential} {
		fmt.Fprintf(out, "| %s | %d |", way, len(c.runs[way]))
		for _, of := range columns {
			fmt.Fprintf(out, " %s |", spreadOf(c.runs[way], of).text())
		}
		io.WriteString(out, "\n")
	}
	for _, of := range columns {
		ratios += " " + ratio(c.runs[wayCollapsed], c.runs[waySequential], of) + " |"
	}
	_, err = io.WriteString(out, ratios+"\n")
	return err
}

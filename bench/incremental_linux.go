package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

type incrementalOptions struct {
	rounds         int
	size           float64
	file           []string // types of file systems
	dir, sombra    string
	peers, without []string
}

func (o *incrementalOptions) parse(args []string) error {
	f := flag.NewFlagSet("incremental", flag.ContinueOnError)
	f.IntVar(&o.rounds, "rounds", 3, "generations: each changes 1 % of the pages and backs up again")
	f.Float64Var(&o.size, "size", 1, "share of the 4 GiB that the file has")
	types := f.String("fs", "btrfs,xfs", "file systems, with commas between")
	f.StringVar(&o.dir, "dir", "/var/tmp", "directory for images and repositories; not in memory; 40 GiB")
	f.StringVar(&o.sombra, "sombra", "build/sombra", "the program measured")
	peers := f.String("peers", os.Getenv("SOMBRA_BENCH_PEERS"), "directories to look for peers in besides PATH, as PATH lists them")
	without := f.String("without", "kopia", "peers to leave out, with commas between")
	if err := f.Parse(args); err != nil {
		return err
	}
	o.file = strings.Split(*types, ",")
	for _, t := range o.file {
		if t != "btrfs" && t != "xfs" {
			return fmt.Errorf("shadow copies on %q cannot be compared: btrfs and xfs can", t)
		}
	}
	o.peers = append(filepath.SplitList(*peers), filepath.SplitList(os.Getenv("PATH"))...)
	o.without = strings.Split(*without, ",")
	if o.rounds < 1 || o.size <= 0 {
		return errors.New("rounds must be 1 or more, and size more than 0")
	}
	return nil
}

const (
	// incrementalPages is 4 GiB.
	incrementalPages = 4 << 30 / pageSize
	// goalReadChanged is how much may be read for each byte changed: documents,
	// tables and extent lists are read, too.
	goalReadChanged = 3.0
)

// benchIncremental measures backups of a large file of which little changed, by
// changed ranges of a kept shadow copy, beside tools that read a snapshot of the
// same state, and ourselves reading it.
func benchIncremental(ctx context.Context, args []string, out io.Writer) (err error) {
	var o incrementalOptions
	if err := o.parse(args); err != nil {
		return err
	}
	us, err := findSombra(ctx, o.sombra)
	if err != nil {
		return err
	}
	us.backup = func(t *tool, _, src string) []proc {
		return []proc{{args: []string{t.path, "-q", "backup", "--no-writers", "--keep-base-shadow", src}}}
	}
	reading := sombra(us.path)
	reading.name, reading.version = "sombra-reading", us.version
	peers := slices.DeleteFunc(findPeers(ctx, o.peers), func(t *tool) bool { return slices.Contains(o.without, t.name) })
	fmt.Fprintf(out, "## Incremental backups by what the file system tells\n\n%s", machine())
	names := []string{"sombra " + us.version}
	for _, t := range peers {
		names = append(names, t.name+" "+t.version)
	}
	fmt.Fprintf(out, "- compared: %s; sombra-reading keeps no shadow copy, and reads and compares the file\n", strings.Join(names, ", "))
	fmt.Fprintf(out, "- sombra takes its own shadow copy, which is in its time; the others read a snapshot made of the same state, which is not in theirs\n")
	fmt.Fprintf(out, "- %d generations, each upon the one before; medians, with the range; `sync` is in every wall time; read is what read calls returned, of files and all else\n", o.rounds)
	for _, fsType := range o.file {
		i := &incremental{o: o, fsType: fsType, tools: append([]*tool{us, reading}, peers...), results: map[string][]usage{}}
		if err := i.measure(ctx, out); err != nil {
			return fmt.Errorf("%s: %w", fsType, err)
		}
	}
	return nil
}

// incremental is the measurement on one file system.
type incremental struct {
	o        incrementalOptions
	fsType   string
	tools    []*tool // ours first
	volume   *volume
	dir      string // of the tools
	src, db  string // the directory backed up, and the file in it
	snapshot string // of the directory, for those that take none
	results  map[string][]usage
	changed  int64 // bytes of one generation
}

func (i *incremental) measure(ctx context.Context, out io.Writer) (err error) {
	pages := max(int64(incrementalPages*i.o.size), 100)
	if i.volume, err = newVolume(i.o.dir, i.fsType, 3*pages*pageSize+2<<30); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, i.volume.close()) }()
	i.dir = filepath.Join(i.volume.dir, "tools")
	if err := i.prepare(ctx, pages); err != nil {
		return err
	}
	for round := range i.o.rounds {
		ranges, err := changePages(i.db, uint64(round+1))
		if err != nil {
			return err
		}
		i.changed = int64(len(ranges)) * pageSize
		if err := i.takeSnapshot(); err != nil {
			return err
		}
		for k := range i.tools {
			t := i.tools[(k+round)%len(i.tools)]
			u, err := i.once(ctx, t)
			if err != nil {
				return fmt.Errorf("generation %d: %s: %w", round+1, t.name, err)
			}
			i.results[t.name] = append(i.results[t.name], u)
			fmt.Fprintf(os.Stderr, "%s, generation %d: %-16s %8.2f s, cpu %8.2f s, read %8.1f MB, stored %8.2f MB\n",
				i.fsType, round+1, t.name, u.wall.Seconds(), u.cpu.Seconds(), float64(u.read)/1e6, float64(u.stored)/1e6)
		}
	}
	i.print(out, pages)
	return i.putBack(ctx)
}

// prepare makes the file and every tool's first backup of it.
func (i *incremental) prepare(ctx context.Context, pages int64) error {
	i.src, i.snapshot = filepath.Join(i.volume.root, "data"), filepath.Join(i.volume.root, "snapshot")
	if i.fsType == "btrfs" {
		if err := command("btrfs", "-q", "subvolume", "create", i.src); err != nil {
			return err
		}
	} else if err := os.Mkdir(i.src, 0o755); err != nil {
		return err
	}
	i.db = filepath.Join(i.src, "db")
	fmt.Fprintf(os.Stderr, "%s: making %.1f MB\n", i.fsType, float64(pages*pageSize)/1e6)
	if err := makeDatabase(i.db, pages); err != nil {
		return err
	}
	time.Sleep(3 * time.Second) // so that the first backup can be sure of its times
	if err := i.takeSnapshot(); err != nil {
		return err
	}
	for _, t := range i.tools {
		if err := os.MkdirAll(repoOf(i.of(t)), 0o700); err != nil {
			return err
		}
		for _, args := range t.create(t, i.of(t)) {
			if _, err := runAll(ctx, []proc{{args: args, env: t.env(i.of(t))}}); err != nil {
				return err
			}
		}
		if _, err := i.once(ctx, t); err != nil {
			return fmt.Errorf("first backup: %s: %w", t.name, err)
		}
	}
	return nil
}

func (i *incremental) of(t *tool) string { return filepath.Join(i.dir, t.name) }

// takeSnapshot makes the state as it is now readable at a place that stays the
// same.
func (i *incremental) takeSnapshot() error {
	if i.fsType == "btrfs" {
		if _, err := os.Lstat(i.snapshot); err == nil {
			if err := command("btrfs", "-q", "subvolume", "delete", i.snapshot); err != nil {
				return err
			}
		}
		return errors.Join(command("sync", "-f", i.src), command("btrfs", "-q", "subvolume", "snapshot", "-r", i.src, i.snapshot))
	}
	if err := os.RemoveAll(i.snapshot); err != nil {
		return err
	}
	return command("cp", "-a", "--reflink=always", i.src, i.snapshot)
}

// once has a tool make a backup: ours of the data, others of the snapshot.
func (i *incremental) once(ctx context.Context, t *tool) (usage, error) {
	dir, src := i.of(t), i.snapshot
	if t.kind == ours {
		src = i.src
	}
	before, err := sizeOf(repoOf(dir))
	if err != nil {
		return usage{}, err
	}
	procs := t.backup(t, dir, src)
	for k := range procs {
		procs[k].env = t.env(dir)
	}
	u, err := measure(ctx, procs...)
	if err != nil {
		return u, err
	}
	after, err := sizeOf(repoOf(dir))
	u.stored = after.bytes - before.bytes
	return u, err
}

// putBack restores what we saved last and compares it.
func (i *incremental) putBack(ctx context.Context) error {
	us := i.tools[0]
	dst := filepath.Join(i.dir, "restored")
	p, err := us.restore(ctx, us, i.of(us), i.src, dst)
	if err != nil {
		return err
	}
	p.env = us.env(i.of(us))
	if _, err := runAll(ctx, []proc{p}); err != nil {
		return err
	}
	return sameFile(i.db, filepath.Join(dst, us.below(i.src), "db"))
}

func readOf(u usage) float64 { return float64(u.read) / 1e6 }

func (i *incremental) print(out io.Writer, pages int64) {
	fmt.Fprintf(out, "\n### %s: a file of %.1f MB, of which %.2f MB in pages of %d bytes change\n\n", i.fsType,
		float64(pages*pageSize)/1e6, float64(i.changed)/1e6, pageSize)
	io.WriteString(out, "| tool | rounds | wall s | CPU s | read MB | stored MB | our wall to its | our read to its |\n")
	io.WriteString(out, "|------|-------:|-------:|------:|--------:|----------:|----------------:|----------------:|\n")
	us := i.results[i.tools[0].name]
	for _, t := range i.tools {
		runs := i.results[t.name]
		wall, read := "–", "–"
		if t != i.tools[0] {
			wall, read = ratio(us, runs, wallOf), ratio(us, runs, readOf)
		}
		fmt.Fprintf(out, "| %s | %d | %s | %s | %s | %s | %s | %s |\n", t.name, len(runs), spreadOf(runs, wallOf).text(), spreadOf(runs, cpuOf).text(),
			spreadOf(runs, readOf).text(), spreadOf(runs, storedOf).text(), wall, read)
	}
	io.WriteString(out, "\n"+ratioVerdict("bytes read to bytes changed", spreadOf(us, readOf).median*1e6/float64(i.changed), goalReadChanged))
}

package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/sombra-backup/sombra/session"
)

// sampleEvery is how often the machine is looked at while backups run.
const sampleEvery = 5 * time.Millisecond

// sampleKept is for how long a sample is kept: longer than any hold.
const sampleKept = 2 * time.Minute

// machineSample is what the machine had done, and had to do, at one moment. The
// counters only grow.
type machineSample struct {
	at               time.Time
	dirty, writeback uint64        // bytes in memory
	cpu, disk        time.Duration // in which some task waited for a processor, for the disk
	commits          uint64        // of btrfs transactions, of all file systems
	committing       time.Duration
}

// sampler looks at the machine in the background.
type sampler struct {
	mu      sync.Mutex
	samples []machineSample
	stop    chan struct{}
	done    sync.WaitGroup
}

func startSampler() *sampler {
	s := &sampler{stop: make(chan struct{})}
	s.done.Go(func() {
		for tick := time.NewTicker(sampleEvery); ; {
			one := takeSample()
			s.mu.Lock()
			old := 0
			for old < len(s.samples) && one.at.Sub(s.samples[old].at) > sampleKept {
				old++
			}
			s.samples = append(s.samples[old:], one)
			s.mu.Unlock()
			select {
			case <-tick.C:
			case <-s.stop:
				tick.Stop()
				return
			}
		}
	})
	return s
}

func (s *sampler) close() {
	close(s.stop)
	s.done.Wait()
}

// between gives the last sample up to the beginning and the first from the end on.
// Without such samples they are zero.
func (s *sampler) between(from, to time.Time) (before, after machineSample) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, exact := slices.BinarySearchFunc(s.samples, from, func(m machineSample, t time.Time) int { return m.at.Compare(t) })
	if !exact {
		i--
	}
	j, _ := slices.BinarySearchFunc(s.samples, to, func(m machineSample, t time.Time) int { return m.at.Compare(t) })
	if i < 0 || j >= len(s.samples) {
		return machineSample{}, machineSample{}
	}
	return s.samples[i], s.samples[j]
}

// takeSample leaves at zero what the kernel does not tell.
func takeSample() machineSample {
	m := machineSample{at: time.Now()}
	mem, _ := os.ReadFile("/proc/meminfo")
	m.dirty, m.writeback = 1024*numberAfter(mem, "\nDirty:"), 1024*numberAfter(mem, "\nWriteback:")
	m.cpu, m.disk = pressure("cpu"), pressure("io")
	names, _ := filepath.Glob("/sys/fs/btrfs/*/commit_stats")
	for _, name := range names {
		text, _ := os.ReadFile(name)
		m.commits += numberAfter(text, "commits ")
		m.committing += time.Duration(numberAfter(text, "total_commit_ms ")) * time.Millisecond
	}
	return m
}

// pressure is how long some task has had to wait for a resource since the start of
// the machine.
func pressure(of string) time.Duration {
	text, _ := os.ReadFile("/proc/pressure/" + of)
	line, _, _ := bytes.Cut(text, []byte("\n")) // that of "some"
	return time.Duration(numberAfter(line, "total=")) * time.Microsecond
}

// numberAfter is the number that follows a word; zero if none does.
func numberAfter(text []byte, word string) uint64 {
	_, rest, _ := bytes.Cut(text, []byte(word))
	rest = bytes.TrimLeft(rest, " ")
	end := bytes.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
	if end >= 0 {
		rest = rest[:end]
	}
	n, _ := strconv.ParseUint(string(rest), 10, 64)
	return n
}

// holdTrace is what one hold was made of, in order, and what the machine did
// meanwhile.
type holdTrace struct {
	Hold      time.Duration `json:"hold_ns"`
	Freezing  time.Duration `json:"freezing_ns"` // from the first writer frozen to the hold: others write meanwhile
	Stopping  time.Duration `json:"stopping_ns"`
	PreCommit time.Duration `json:"pre_commit_ns"` // of the slowest volume
	Commit    time.Duration `json:"commit_ns"`     // of the slowest volume
	Volume    string        `json:"volume"`        // which that was
	Rest      time.Duration `json:"rest_ns"`       // between these

	Dirty     uint64        `json:"dirty"`     // bytes in memory, at the beginning
	Writeback uint64        `json:"writeback"` // of them on their way to the disk
	Disk      time.Duration `json:"disk_ns"`   // in which some task waited for the disk
	CPU       time.Duration `json:"cpu_ns"`    // and for a processor
	Commits   uint64        `json:"btrfs_commits"`
	Window    time.Duration `json:"window_ns"` // what the last three are of
}

// trace takes a hold apart.
func (m *instantMeasured) trace(e *estate, s *sampler, r *session.Receipt) {
	t := holdTrace{Hold: r.Hold, Stopping: r.Stopping}
	for _, w := range r.Writers {
		t.Freezing = max(t.Freezing, w.Held-w.Thaw-r.Hold)
	}
	for _, v := range r.Volumes {
		t.PreCommit = max(t.PreCommit, v.PreCommit)
		if v.Commit >= t.Commit {
			t.Commit, t.Volume = v.Commit, m.volume(e, v).root
		}
	}
	t.Rest = t.Hold - t.Stopping - t.PreCommit - t.Commit
	before, after := s.between(r.Instant.Add(-r.Hold), r.Instant)
	t.Dirty, t.Writeback = before.dirty, before.writeback
	t.Disk, t.CPU = after.disk-before.disk, after.cpu-before.cpu
	t.Commits, t.Window = after.commits-before.commits, after.at.Sub(before.at)
	m.traces = append(m.traces, t)
}

// slowest is how many of the longest holds are shown.
const slowest = 6

// printTraces shows what the longest holds were made of, and beside them the median
// of all: whatever is longer in them, by as much as they are longer, is what makes
// the 99th percentile.
func (m *instantMeasured) printTraces(out io.Writer) {
	list := slices.Clone(m.traces)
	slices.SortFunc(list, func(a, b holdTrace) int { return cmp.Compare(b.Hold, a.Hold) })
	fmt.Fprint(out, "\nWhat the longest holds were made of, in milliseconds (the disk and the processors: some task waited for them meanwhile, by the kernel's pressure counters):\n\n"+
		"| hold | freezing before | stopping | pre-commit | commit | of the volume | rest | dirty MiB | writeback MiB | waited for the disk | for a processor | btrfs commits |\n"+
		"|---:|---:|---:|---:|---:|---|---:|---:|---:|---:|---:|---:|\n")
	row := func(t holdTrace) {
		fmt.Fprintf(out, "| %s | %s | %s | %s | %s | %s | %s | %.1f | %.1f | %s | %s | %d |\n", ms(t.Hold), ms(t.Freezing), ms(t.Stopping), ms(t.PreCommit), ms(t.Commit),
			t.Volume, ms(t.Rest), mib(t.Dirty), mib(t.Writeback), ms(t.Disk), ms(t.CPU), t.Commits)
	}
	for _, t := range list[:min(slowest, len(list))] {
		row(t)
	}
	row(medianTrace(list))
	fmt.Fprintln(out)
	for _, part := range holdParts {
		var of []float64
		for _, t := range list {
			of = append(of, part.of(t))
		}
		fmt.Fprintf(out, "- the hold goes with %s: %.2f (rank correlation of %d backups)\n", part.name, rankCorrelation(holdsOf(list), of), len(list))
	}
}

// holdParts are what the length of a hold may come from.
var holdParts = []struct {
	name string
	of   func(holdTrace) float64
}{
	{"the commit of the slowest volume", func(t holdTrace) float64 { return float64(t.Commit) }},
	{"the stopping of processes", func(t holdTrace) float64 { return float64(t.Stopping) }},
	{"the pre-commit", func(t holdTrace) float64 { return float64(t.PreCommit) }},
	{"how long freezing took before it", func(t holdTrace) float64 { return float64(t.Freezing) }},
	{"dirty memory at its beginning", func(t holdTrace) float64 { return float64(t.Dirty) }},
	{"writeback at its beginning", func(t holdTrace) float64 { return float64(t.Writeback) }},
}

func holdsOf(list []holdTrace) (of []float64) {
	for _, t := range list {
		of = append(of, float64(t.Hold))
	}
	return of
}

// medianTrace has the median of each part.
func medianTrace(list []holdTrace) holdTrace {
	median := func(of func(holdTrace) time.Duration) time.Duration {
		var d durations
		for _, t := range list {
			d = append(d, of(t))
		}
		return d.median()
	}
	number := func(of func(holdTrace) uint64) uint64 {
		var n []uint64
		for _, t := range list {
			n = append(n, of(t))
		}
		return middle(n)
	}
	return holdTrace{
		Hold:      median(func(t holdTrace) time.Duration { return t.Hold }),
		Freezing:  median(func(t holdTrace) time.Duration { return t.Freezing }),
		Stopping:  median(func(t holdTrace) time.Duration { return t.Stopping }),
		PreCommit: median(func(t holdTrace) time.Duration { return t.PreCommit }),
		Commit:    median(func(t holdTrace) time.Duration { return t.Commit }),
		Volume:    "(medians of all)",
		Rest:      median(func(t holdTrace) time.Duration { return t.Rest }),
		Dirty:     number(func(t holdTrace) uint64 { return t.Dirty }),
		Writeback: number(func(t holdTrace) uint64 { return t.Writeback }),
		Disk:      median(func(t holdTrace) time.Duration { return t.Disk }),
		CPU:       median(func(t holdTrace) time.Duration { return t.CPU }),
		Commits:   number(func(t holdTrace) uint64 { return t.Commits }),
	}
}

// rankCorrelation is Spearman's: 1 if both grow together, 0 if they have nothing to
// do with each other.
func rankCorrelation(a, b []float64) float64 {
	x, y := ranks(a), ranks(b)
	mean := float64(len(x)+1) / 2
	var xy, xx, yy float64
	for i := range x {
		xy, xx, yy = xy+(x[i]-mean)*(y[i]-mean), xx+(x[i]-mean)*(x[i]-mean), yy+(y[i]-mean)*(y[i]-mean)
	}
	if xx == 0 || yy == 0 {
		return 0
	}
	return xy / math.Sqrt(xx*yy)
}

// ranks are the places in order; equal values share theirs.
func ranks(list []float64) []float64 {
	order := make([]int, len(list))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int { return cmp.Compare(list[i], list[j]) })
	out := make([]float64, len(list))
	for i := 0; i < len(order); {
		j := i
		for j < len(order) && list[order[j]] == list[order[i]] {
			j++
		}
		for _, k := range order[i:j] {
			out[k] = float64(i+1+j) / 2
		}
		i = j
	}
	return out
}

// writeTraces appends the traces of a layout to a file, a JSON object a line.
func (m *instantMeasured) writeTraces(name string) error {
	if name == "" {
		return nil
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	enc := json.NewEncoder(f)
	for _, t := range m.traces {
		if err == nil {
			err = enc.Encode(struct {
				Layout string `json:"layout"`
				holdTrace
			}{m.layout.name, t})
		}
	}
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

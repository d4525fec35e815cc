package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// spread is the median and the range of measurements.
type spread struct {
	median, low, high float64
	n                 int
}

func spreadOf(runs []usage, of func(usage) float64) spread {
	if len(runs) == 0 {
		return spread{}
	}
	var v []float64
	for _, u := range runs {
		v = append(v, of(u))
	}
	slices.Sort(v)
	middle := (v[(len(v)-1)/2] + v[len(v)/2]) / 2
	return spread{middle, v[0], v[len(v)-1], len(v)}
}

// text is the median, with the range if there were several measurements.
func (s spread) text() string {
	number := func(v float64) string {
		switch {
		case v < 100:
			return fmt.Sprintf("%.2f", v)
		case v < 1000:
			return fmt.Sprintf("%.1f", v)
		}
		return fmt.Sprintf("%.0f", v)
	}
	if s.n < 2 {
		return number(s.median)
	}
	return fmt.Sprintf("%s (%s–%s)", number(s.median), number(s.low), number(s.high))
}

func wallOf(u usage) float64   { return u.wall.Seconds() }
func cpuOf(u usage) float64    { return u.cpu.Seconds() }
func peakOf(u usage) float64   { return float64(u.peak) / (1 << 20) }
func storedOf(u usage) float64 { return float64(u.stored) / 1e6 }

// head says what is compared.
func (r *rig) head(out io.Writer, about string) {
	fmt.Fprintf(out, "## The repository: backup and restore beside others\n\n%s", about)
	var names []string
	for _, t := range r.tools {
		if t.kind != yardstick {
			names = append(names, t.name+" "+t.version)
		}
	}
	fmt.Fprintf(out, "- compared: %s; `cp -a` and `tar | zstd -1 -T0` are yardsticks: they neither encrypt nor deduplicate\n", strings.Join(names, ", "))
	if r.unclaimed != "" {
		fmt.Fprintf(out, "- the fastest peer is not compared with: %s\n", r.unclaimed)
	}
	fmt.Fprintf(out, "- rounds: %d, the tools in turn on the same data, each on a new repository; `sync` is in every wall time\n", r.o.rounds)
	if r.o.drop > 0 && r.o.rounds > 1 {
		fmt.Fprintf(out, "- a peer slower than %.1f times the fastest in all steps of the first round took no part in the others\n", r.o.drop)
	}
	io.WriteString(out, "- figures are medians, with the range; peak memory is that of the largest process\n")
}

// print prints a step's table and which goals were met.
func (r *rig) print(out io.Writer, s *step) {
	fmt.Fprintf(out, "\n### %s\n\n", s.title)
	if s.about != "" {
		fmt.Fprintf(out, "%s\n", s.about)
	}
	runs := r.results[s.id]
	us := runs[r.tools[0].name]
	io.WriteString(out, "| tool | rounds | wall s | CPU s | peak MiB | stored MB | our wall to its | our stored to its |\n")
	io.WriteString(out, "|------|-------:|-------:|------:|---------:|----------:|----------------:|------------------:|\n")
	for _, t := range r.tools {
		if len(runs[t.name]) == 0 {
			continue
		}
		stored, wallRatio, storedRatio := "–", "–", "–"
		if !s.restore {
			stored = spreadOf(runs[t.name], storedOf).text()
		}
		if t.kind != ours {
			wallRatio = ratio(us, runs[t.name], wallOf)
			if !s.restore && t.name != "cp -a" {
				storedRatio = ratio(us, runs[t.name], storedOf)
			}
		}
		fmt.Fprintf(out, "| %s | %d | %s | %s | %s | %s | %s | %s |\n", t.name, len(runs[t.name]), spreadOf(runs[t.name], wallOf).text(),
			spreadOf(runs[t.name], cpuOf).text(), spreadOf(runs[t.name], peakOf).text(), stored, wallRatio, storedRatio)
	}
	io.WriteString(out, "\n")
	r.verdicts(out, s)
	if s.tell != nil {
		s.tell(out)
	}
}

func ratio(us, them []usage, of func(usage) float64) string {
	if m := spreadOf(them, of).median; m > 0 {
		return fmt.Sprintf("%.2f", spreadOf(us, of).median/m)
	}
	return "–"
}

// verdicts compares ours with the fastest, with tar and with the smallest.
func (r *rig) verdicts(out io.Writer, s *step) {
	us := r.results[s.id][r.tools[0].name]
	against := s.id
	if s.against != "" {
		against = s.against
	}
	them := r.results[against]
	if fastest := r.best(against, wallOf); !s.oursOnly || s.against != "" {
		what := "wall to the fastest peer"
		switch {
		case r.unclaimed != "" || fastest == nil:
			fmt.Fprintf(out, "- not compared: %s: %s\n", what, r.unclaimed)
		default:
			got := spreadOf(us, wallOf).median / spreadOf(them[fastest.name], wallOf).median
			io.WriteString(out, ratioVerdict(what+", "+fastest.name, got, s.wallGoal))
		}
	}
	if runs := them[tarZstd]; s.tarGoal > 0 && len(runs) > 0 {
		io.WriteString(out, ratioVerdict("wall to "+tarZstd, spreadOf(us, wallOf).median/spreadOf(runs, wallOf).median, s.tarGoal))
	}
	if smallest := r.best(s.id, storedOf); smallest != nil && !s.restore && !s.oursOnly {
		if least := spreadOf(them[smallest.name], storedOf).median; least > 0 {
			io.WriteString(out, ratioVerdict("stored to the smallest peer, "+smallest.name, spreadOf(us, storedOf).median/least, s.storedGoal))
		}
	}
}

// ratioVerdict says whether a goal was met, and if not by how much it was
// missed; without a goal, what the ratio is.
func ratioVerdict(what string, got, goal float64) string {
	switch {
	case goal == 0:
		return fmt.Sprintf("- %s: %.2f\n", what, got)
	case got <= goal:
		return fmt.Sprintf("- met: %s: %.3f, goal %.2f\n", what, got, goal)
	}
	return fmt.Sprintf("- MISSED by %.3f: %s: %.3f, goal %.2f\n", got-goal, what, got, goal)
}

// memory says whether ours kept to its memory in all steps.
func (r *rig) memory(out io.Writer) {
	most := 0.0
	for _, runs := range r.results {
		most = max(most, spreadOf(runs[r.tools[0].name], peakOf).high)
	}
	if limit := float64(goalMemory >> 20); most > limit {
		fmt.Fprintf(out, "\n- MISSED by %.0f MiB: peak memory in all of it: %.0f MiB, goal %.0f MiB\n", most-limit, most, limit)
	} else {
		fmt.Fprintf(out, "\n- met: peak memory in all of it: %.0f MiB, goal %.0f MiB\n", most, limit)
	}
}

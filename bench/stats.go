package main

import (
	"fmt"
	"slices"
	"time"
)

// durations are measurements of one thing.
type durations []time.Duration

// at is the smallest measurement that a share p of all do not exceed (nearest
// rank); zero if there is none.
func (d durations) at(p float64) time.Duration {
	if len(d) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(d))
	rank := int(p*float64(len(s))+0.999999) - 1
	return s[min(max(rank, 0), len(s)-1)]
}

func (d durations) median() time.Duration { return d.at(0.5) }
func (d durations) p99() time.Duration    { return d.at(0.99) }
func (d durations) max() time.Duration    { return d.at(1) }

// ms writes a duration in milliseconds.
func ms(d time.Duration) string { return fmt.Sprintf("%.1f", float64(d)/float64(time.Millisecond)) }

// row is one line of a table: what, and its median, 99th percentile and maximum.
func (d durations) row(what string) string {
	return fmt.Sprintf("| %-52s | %8s | %8s | %8s |\n", what, ms(d.median()), ms(d.p99()), ms(d.max()))
}

const tableHead = "" +
	"| milliseconds                                         |   median |      p99 |      max |\n" +
	"|------------------------------------------------------|---------:|---------:|---------:|\n"

// verdict says whether a goal was met, and if not by how much it was missed.
func verdict(what string, got, goal time.Duration) string {
	if got <= goal {
		return fmt.Sprintf("- met: %s: %s ms, goal %s ms\n", what, ms(got), ms(goal))
	}
	return fmt.Sprintf("- MISSED by %s ms: %s: %s ms, goal %s ms\n", ms(got-goal), what, ms(got), ms(goal))
}

package main

import (
	"testing"
	"time"
)

func TestRankCorrelation(t *testing.T) {
	for _, test := range []struct {
		a, b []float64
		want float64
	}{
		{[]float64{1, 2, 3, 4}, []float64{10, 20, 300, 4000}, 1},
		{[]float64{1, 2, 3, 4}, []float64{4, 3, 2, 1}, -1},
		{[]float64{1, 2, 3, 4}, []float64{5, 5, 5, 5}, 0},
		{[]float64{1, 2, 3, 4}, []float64{1, 1, 2, 2}, 0.8944271909999159},
	} {
		if got := rankCorrelation(test.a, test.b); got < test.want-1e-9 || got > test.want+1e-9 {
			t.Errorf("of %v and %v: %v, want %v", test.a, test.b, got, test.want)
		}
	}
}

// TestSamplesOfTheMachineSpanAHold: nothing of what happened in it is missed.
func TestSamplesOfTheMachineSpanAHold(t *testing.T) {
	start := time.Now()
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	s := &sampler{}
	for i := range 5 {
		s.samples = append(s.samples, machineSample{at: at(10 * i), commits: uint64(i)})
	}
	for _, test := range []struct {
		from, to      int
		before, after uint64
	}{{12, 18, 1, 2}, {10, 20, 1, 2}, {0, 40, 0, 4}, {12, 48, 0, 0}} {
		before, after := s.between(at(test.from), at(test.to))
		if before.commits != test.before || after.commits != test.after {
			t.Errorf("from %d to %d ms: samples %d and %d, want %d and %d", test.from, test.to, before.commits, after.commits, test.before, test.after)
		}
	}
	if one := takeSample(); one.dirty+one.writeback == 0 && one.cpu == 0 {
		t.Errorf("nothing is told of this machine: %+v", one)
	}
}

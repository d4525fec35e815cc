package main

import (
	"testing"
	"time"
)

func TestPercentilesAreNearestRanks(t *testing.T) {
	var d durations
	for n := 100; n > 0; n-- {
		d = append(d, time.Duration(n))
	}
	for _, c := range []struct{ got, want time.Duration }{
		{d.median(), 50}, {d.p99(), 99}, {d.max(), 100},
		{durations{7}.median(), 7}, {durations{7, 9}.median(), 7}, {durations{7, 9}.p99(), 9}, {durations(nil).max(), 0},
	} {
		if c.got != c.want {
			t.Errorf("got %d, want %d", c.got, c.want)
		}
	}
}

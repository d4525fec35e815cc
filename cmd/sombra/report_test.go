package main

import (
	"testing"
	"time"

	"github.com/sombra-backup/sombra/requester"
)

func TestPaceTellsRateAndTimeLeft(t *testing.T) {
	begun := time.Now()
	for _, c := range []struct {
		after           time.Duration
		bytes, expected int64
		rate            int64
		left            time.Duration
	}{
		{10 * time.Second, 1000, 3000, 100, 20 * time.Second},
		{10 * time.Second, 1000, 0, 100, 0},   // nothing is expected
		{10 * time.Second, 1000, 900, 100, 0}, // more than expected
		{10 * time.Second, 0, 900, 0, 0},      // nothing yet
		{time.Second, 1000, 3000, 0, 0},       // too soon
		{10 * time.Second, 1, 1 << 62, 0, 0},  // longer than anybody waits
		{100 * time.Second, 1000, 1010, 10, time.Second},
	} {
		rate, left := pace{begun}.of(requester.Totals{Bytes: c.bytes, ExpectedBytes: c.expected}, begun.Add(c.after))
		if rate != c.rate || left != c.left {
			t.Errorf("%+v: %d bytes a second, %v left", c, rate, left)
		}
	}
	if rate, left := (pace{}).of(requester.Totals{Bytes: 1, ExpectedBytes: 2}, begun); rate != 0 || left != 0 {
		t.Errorf("before any phase: %d, %v", rate, left)
	}
}

package main

import (
	"bytes"
	"regexp"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/repository"
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

// Who waits for a check or a prune is told how far it is, how fast it goes and
// how long it takes still.
func TestChecksAndPrunesTellHowFarTheyAre(t *testing.T) {
	half := repository.Progress{Packs: 3, AllPacks: 20, Bytes: 1 << 30, AllBytes: 4 << 30}
	var bar bytes.Buffer
	text := &textReporter{a: &app{stderr: &bar}, bar: true, warned: map[string]bool{}, stop: func() {}}
	text.Phase(phaseCheck)
	text.pace.begun = time.Now().Add(-10 * time.Second)
	text.packs(half)
	if !regexp.MustCompile(`checking: 3 of 20 packs, 1.0 GiB of about 4.0 GiB, 10[0-9.]+ MiB/s, about (30|31|32)s left$`).MatchString(bar.String()) {
		t.Errorf("a bar says %q", bar.String())
	}
	bar.Reset()
	text.clear()
	if bar.String() != "\r\x1b[K" {
		t.Errorf("it makes room by %q", bar.String())
	}
	var lines bytes.Buffer
	j := &jsonReporter{a: &app{stdout: &lines, json: true}}
	j.Phase(phasePrune)
	j.pace.begun = time.Now().Add(-10 * time.Second)
	j.packs(half)
	if !regexp.MustCompile(`"phase":"prune"[^\n]*\n.*"bytes_per_second":1[0-9]+,"seconds_left":(29|30|31).*"totals":\{"packs":3,"expected_packs":20,"bytes":1073741824,"expected_bytes":4294967296\}`).MatchString(lines.String()) {
		t.Errorf("the lines are %s", lines.String())
	}
}

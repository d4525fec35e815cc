package main

import (
	"bytes"
	"os"
	"regexp"
	"strconv"
	"testing"
)

// TestChainRestoredBothWays runs the measurement small: it compares what each
// restore brings with the data itself, and leaves nothing behind. In one pass each
// file is written once, one by one those that changed are written again.
func TestChainRestoredBothWays(t *testing.T) {
	scratch := t.TempDir()
	var out bytes.Buffer
	if err := benchChain(t.Context(), []string{"-rounds", "1", "-size", "8", "-dir", scratch, "-sombra", buildSombra(t).path}, &out); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	if left, err := os.ReadDir(scratch); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	written := map[string]float64{}
	for _, way := range []string{wayCollapsed, waySequential} {
		m := regexp.MustCompile(`\n\| ` + way + ` \| 1 \| [\d.]+ \| [\d.]+ \| ([\d.]+) \| ([\d.]+) \| [\d.]+ \|`).FindStringSubmatch(out.String())
		if m == nil {
			t.Fatalf("no line of %s:\n%s", way, out.String())
		}
		if m[1] == "0.00" {
			t.Errorf("%s: nothing was read from the repository", way)
		}
		written[way], _ = strconv.ParseFloat(m[2], 64)
	}
	if c := written[wayCollapsed]; c < 8 || c > 14 || written[waySequential] < 1.1*c {
		t.Errorf("written: %v MB", written)
	}
	if !regexp.MustCompile(`\n\| collapsed to sequential \| \|( \d\.\d\d \|){5}\n`).MatchString(out.String()) {
		t.Errorf("no ratios:\n%s", out.String())
	}
}

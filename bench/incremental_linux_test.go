package main

import (
	"bytes"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/internal/voltest"
)

// TestIncrementalReadsWhatChanged runs the measurement small, alone: it compares
// what it restores with the file itself, and leaves nothing behind.
func TestIncrementalReadsWhatChanged(t *testing.T) {
	voltest.Need(t, "btrfs", "xfs")
	scratch := t.TempDir()
	var out bytes.Buffer
	err := benchIncremental(t.Context(), []string{"-rounds", "1", "-size", "0.0175", "-dir", scratch, "-sombra", buildSombra(t).path, "-without", "restic,kopia,borg"}, &out)
	if err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	if left, err := os.ReadDir(scratch); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	for _, fs := range []string{"btrfs", "xfs"} {
		_, table, _ := strings.Cut(out.String(), "\n### "+fs+": ")
		for _, name := range []string{"sombra", "sombra-reading"} {
			if !regexp.MustCompile(`\n\| ` + name + ` \| 1 \| [\d.]+ \| [\d.]+ \| [\d.]+ \| [\d.]+ \| `).MatchString(table) {
				t.Errorf("%s: no line of %s:\n%s", fs, name, out.String())
			}
		}
	}
	if strings.Count(out.String(), "- met: bytes read to bytes changed: ") != 2 {
		t.Errorf("more was read than may be:\n%s", out.String())
	}
}

package requester

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// TestFewRootsCoverAll: whatever data begins at, the roots of the record hold it,
// and are few.
func TestFewRootsCoverAll(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for run := range 300 {
		var tops []string
		for range 1 + r.IntN(1500) {
			var names []string
			for range r.IntN(8) {
				names = append(names, strings.Repeat("x", r.IntN(1+r.IntN(200)))+fmt.Sprint(r.IntN(5)))
			}
			if r.IntN(2) == 0 {
				names = append(names, probe)
			}
			if len(names) > 0 {
				tops = append(tops, strings.Join(names, "/"))
			}
		}
		roots := fewRoots(tops)
		if len(roots) > maxSummaryList {
			t.Fatalf("run %d: %d roots of %d places", run, len(roots), len(tops))
		}
		for _, top := range tops {
			if !declares(roots, top, false) {
				t.Fatalf("run %d: %q is in none of %q", run, top, roots)
			}
		}
		for _, root := range roots {
			if len(root) > maxRootPath {
				t.Fatalf("run %d: a root of %d bytes", run, len(root))
			}
		}
	}
	got := fewRoots([]string{"srv/app/" + probe, "srv/x", "etc/file"})
	if !slices.Equal(got, []string{"etc/file", "srv/app", "srv/x"}) {
		t.Errorf("few places stay as they are: %q", got)
	}
}

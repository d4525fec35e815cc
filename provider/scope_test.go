package provider

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestMatcherAnswersAsScope compares a matcher with the scope it is made of,
// for random scopes and names.
func TestMatcherAnswersAsScope(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	parts := []string{"a", "b", "B", "ab", "straße", "\xff"}
	name := func() string {
		var elems []string
		for range 1 + r.IntN(4) {
			elems = append(elems, parts[r.IntN(len(parts))])
		}
		return strings.Join(elems, "/")
	}
	set := func() FileSet {
		s := FileSet{Dir: ".", Pattern: []string{"*", "*.*", "?", "a*", "b", "B", "ab", "STRASSE"}[r.IntN(8)], Recursive: r.IntN(2) == 0}
		if r.IntN(6) > 0 {
			s.Dir = name()
		}
		return s
	}
	sets := func(n int) (out []FileSet) {
		for range r.IntN(n + 1) {
			out = append(out, set())
		}
		return out
	}
	claims := func() (out []Claim) {
		for range r.IntN(3) {
			out = append(out, Claim{Files: sets(4), Exclude: sets(2)})
		}
		return out
	}
	for run := range 3000 {
		s := Scope{Fold: r.IntN(2) == 0, Claims: claims(), Foreign: claims(), Unclaimed: sets(2), Exclude: sets(1)}
		m := NewMatcher(&s)
		for range 12 {
			n := name()
			if got, want := m.Claimed(n), s.Claimed(n); got != want {
				t.Fatalf("run %d: Claimed(%q) is %v, want %v: %+v", run, n, got, want, s)
			}
			if got, want := m.IsUnclaimed(n), s.IsUnclaimed(n); got != want {
				t.Fatalf("run %d: IsUnclaimed(%q) is %v, want %v: %+v", run, n, got, want, s)
			}
			for _, unclaimed := range []bool{true, false} {
				if got, want := m.Enter(n, unclaimed), s.Enter(n, unclaimed); got != want {
					t.Fatalf("run %d: Enter(%q, %v) is %v, want %v: %+v", run, n, unclaimed, got, want, s)
				}
				checkSteps(t, m, n, unclaimed, parts)
			}
		}
	}
}

// checkSteps: what a walk is not told to look at holds nothing that is wanted.
func checkSteps(t *testing.T, m *Matcher, dir string, unclaimed bool, parts []string) {
	t.Helper()
	steps, all := m.Steps(dir, unclaimed)
	if all {
		return
	}
	for _, p := range parts {
		child := dir + "/" + p
		wanted := m.Enter(child, unclaimed) || m.Claimed(child) || unclaimed && m.IsUnclaimed(child)
		if wanted != slices.Contains(steps, p) {
			t.Fatalf("steps of %q are %q, and %q is wanted: %v", dir, steps, p, wanted)
		}
	}
}

// TestMatcherWithAsManySetsAsADocumentHolds looks up the files of a directory in
// which a writer names each by itself, as a document of 2 MB does.
func TestMatcherWithAsManySetsAsADocumentHolds(t *testing.T) {
	const sets, files = 20_000, 60_000 // and as many sets again with wildcards
	s := Scope{Claims: []Claim{{Exclude: []FileSet{{Dir: "data", Pattern: "*.tmp", Recursive: true}}}},
		Unclaimed: []FileSet{{Dir: ".", Pattern: "*", Recursive: true}}}
	for i := range sets {
		s.Claims[0].Files = append(s.Claims[0].Files, FileSet{Dir: "data", Pattern: fmt.Sprint("file", i)},
			FileSet{Dir: "data", Pattern: fmt.Sprintf("none%d*", i), Recursive: true})
	}
	start := time.Now()
	m := NewMatcher(&s)
	claimed, plain := 0, 0
	for i := range files {
		name := fmt.Sprint("data/file", i)
		if m.Claimed(name) {
			claimed++
		}
		if m.IsUnclaimed(name) {
			plain++
		}
	}
	if claimed != sets || plain != files-sets {
		t.Errorf("%d files are claimed and %d are not", claimed, plain)
	}
	if took := time.Since(start); took > 20*time.Second { // each set tried for each file takes minutes
		t.Errorf("it took %v", took)
	}
}

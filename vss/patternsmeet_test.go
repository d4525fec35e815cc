package vss

import "testing"

// words calls f for every text of at most n characters of the alphabet.
func words(alphabet string, n int, f func(string)) {
	f("")
	if n == 0 {
		return
	}
	for _, r := range alphabet {
		words(alphabet, n-1, func(s string) { f(string(r) + s) })
	}
}

// TestPatternsMeetAgreesWithMatching compares with all names there are: two
// patterns of at most four characters that meet do so in a name of at most six.
func TestPatternsMeetAgreesWithMatching(t *testing.T) {
	matched := map[string]map[string]bool{}
	var patterns, names []string
	words("a.*?", 3, func(p string) { patterns = append(patterns, p) })
	patterns = append(patterns, "*.*", "a*.a", "?*.?", "*a*a")
	words("a.", 6, func(n string) { names = append(names, n) })
	for _, p := range patterns {
		matched[p] = map[string]bool{}
		for _, n := range names {
			if MatchPattern(p, n, false) {
				matched[p][n] = true
			}
		}
	}
	for _, p := range patterns {
		for _, q := range patterns {
			want := false
			for n := range matched[p] {
				if matched[q][n] {
					want = true
					break
				}
			}
			if got := PatternsMeet(p, q, false); got != want {
				t.Fatalf("%q and %q meet: %v, want %v", p, q, got, want)
			}
		}
	}
}

func TestPatternsMeetFoldsCaseAndBoundsItsWork(t *testing.T) {
	if !PatternsMeet("*.DB", "a*.db", true) || PatternsMeet("*.DB", "a*.db", false) {
		t.Error("case counts where it does not, or not where it does")
	}
	long := make([]byte, 4000)
	for i := range long {
		long[i] = '*'
	}
	if !PatternsMeet(string(long)+"x", string(long)+"y", false) {
		t.Error("patterns too long to be compared are taken not to meet")
	}
}

package store

import (
	"slices"
	"strings"
	"testing"
)

func TestListingsMustMoveOn(t *testing.T) {
	for _, tt := range []struct {
		names string
		ok    bool
	}{
		{"a b c", true},
		{"a a-b a.b a/b b", true}, // by bytes
		{"a a/b a-b a.b b", true}, // by folders
		{"a/b a-b a/b", false},    // each step is right in one order
		{"a-b a/b a-b", false},
		{"a b a", false},
		{"a a", false},
		{"b a", false},
	} {
		_, l := Watch(t.Context(), "here", "p")
		var err error
		for name := range strings.SplitSeq(tt.names, " ") {
			if err = l.Entry(name); err != nil {
				break
			}
		}
		if tt.ok != (err == nil) || err != nil && (!IsPermanent(err) || !strings.Contains(err.Error(), "here")) {
			t.Errorf("%s: %v", tt.names, err)
		}
	}
	_, l := Watch(t.Context(), "here", "p")
	if err := l.Entry(""); err == nil {
		t.Error("a name of no bytes was taken")
	}
}

func TestVersionsOfANameMayBeManyButNotWithoutEnd(t *testing.T) {
	_, l := Watch(t.Context(), "here", "p")
	for i := range maxVersions {
		if err := l.Version("a"); err != nil {
			t.Fatalf("version %d: %v", i, err)
		}
	}
	if err := l.Version("a"); err == nil {
		t.Error("one more was taken")
	}
}

func FuzzOrderOfATree(f *testing.F) {
	f.Add("a/b", "a-b", "a")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		if a == b == (treeLess(a, b) || treeLess(b, a)) || treeLess(a, b) && treeLess(b, a) {
			t.Errorf("%q, %q: %v, %v", a, b, treeLess(a, b), treeLess(b, a))
		}
		s := []string{a, b, c}
		slices.SortFunc(s, func(x, y string) int {
			switch {
			case treeLess(x, y):
				return -1
			case x == y:
				return 0
			}
			return 1
		})
		if treeLess(s[1], s[0]) || treeLess(s[2], s[1]) || treeLess(s[2], s[0]) {
			t.Errorf("%q is not in order", s)
		}
	})
}

package ledger

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// held makes what a store holds whole up to each number.
func held(last ...int64) (list []Holding) {
	for _, n := range last {
		list = append(list, Holding{n, n})
	}
	return list
}

func TestCheckFindsWhatIsNotOneInstant(t *testing.T) {
	for _, c := range []struct {
		name string
		// found by store, for two clients
		a, b, c []Holding
		want    []string
	}{
		{"all alike", held(7, 9), held(7, 9), held(7, 9), nil},
		{"nothing yet", held(0, 0), held(0, 0), held(0, 0), nil},
		{"under way between the stores", held(8, 8), held(8, 9), held(7, 9), nil},
		{"the last has what the first lacks", held(7, 9), held(7, 9), held(8, 9), []string{"client 0: c has 8, which b lacks"}},
		{"the same, for one that goes the other way", held(7, 10), held(7, 9), held(7, 9), []string{"client 1: a has 10, which b lacks"}},
		{"the second has what the first lacks", held(7, 9), held(8, 9), held(7, 9), []string{"client 0: b has 8"}},
		{"the last lags by two", held(9, 9), held(8, 9), held(7, 9), []string{"client 0: a has 9, and c ends with 7"}},
		{"the same, for one that goes the other way", held(9, 7), held(9, 8), held(9, 9), []string{"client 1: c has 9, and a ends with 7"}},
		{"both clients", held(5, 6), held(6, 6), held(6, 5), []string{"client 0: b has 6", "client 1: b has 6"}},
		{"a gap", []Holding{{6, 7}, {9, 9}}, held(7, 9), held(7, 9), []string{"client 0: a has 6 numbers up to 7"}},
		{"one twice", held(7, 9), []Holding{{7, 7}, {10, 9}}, held(7, 9), []string{"client 1: b has 10 numbers up to 9"}},
		{"a store that lost all", held(7, 9), held(0, 9), held(7, 9), []string{"client 0: a has 7, and b ends with 0", "client 0: c has 7, which b lacks"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := Check([]Found{{"a", c.a}, {"b", c.b}, {"c", c.c}})
			same(t, got, c.want)
		})
	}
}

func TestCheckTimeFindsWhatIsMissingAndWhatIsTooMuch(t *testing.T) {
	at := func(n int64) time.Time { return time.Unix(1000, 0).Add(time.Duration(n) * time.Second) }
	var h History
	for n := range int64(20) { // n+1 is begun at 10n and acknowledged at 10n+5
		h.Add(Op{Store: "a", Client: 0, N: n + 1, Begun: at(10 * n), Acked: at(10*n + 5)})
	}
	for _, c := range []struct {
		name          string
		held          []Holding
		before, after int64
		want          []string
	}{
		{"between two commits", held(4), 36, 38, nil},
		{"under way, and there", held(4), 32, 34, nil},
		{"under way, and not there", held(3), 32, 34, nil},
		{"one was acknowledged before", held(3), 36, 38, []string{"acknowledged 4 before"}},
		{"one was begun after", held(5), 36, 38, []string{"has 5, and 4 was the last begun"}},
		{"a gap", []Holding{{3, 4}}, 36, 38, []string{"3 numbers up to 4"}},
		{"before the first", held(0), -1, -1, nil},
		{"nothing, where there must be", held(0), 5000, 5000, []string{"acknowledged 20"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			same(t, CheckTime(Found{"a", c.held}, &h, at(c.before), at(c.after)), c.want)
		})
	}
	if n := h.Across(at(33)); n != 1 {
		t.Errorf("%d commits across a time at which one was under way", n)
	}
	if n := h.Across(at(37)); n != 0 {
		t.Errorf("%d commits across a time at which none was under way", n)
	}
}

// same compares violations with the beginnings or parts of what is wanted.
func same(t *testing.T, got []Violation, want []string) {
	t.Helper()
	var said []string
	for _, v := range got {
		said = append(said, fmt.Sprint(v))
	}
	if len(said) != len(want) {
		t.Fatalf("%d violations %q, want %d: %q", len(said), said, len(want), want)
	}
	for i := range want {
		if !strings.Contains(said[i], want[i]) {
			t.Errorf("%q, want %q", said[i], want[i])
		}
	}
}

package writer

import "testing"

// TestEveryStillnessCrossesTheWire: another one on the far side would have files
// copied that move, or applications stopped that need not be.
func TestEveryStillnessCrossesTheWire(t *testing.T) {
	words := map[string]bool{}
	for _, s := range []Stillness{CommitsHeld, FilesStill, NothingHeld} {
		if got := descriptionFromWire(descriptionToWire(Description{Stillness: s})).Stillness; got != s {
			t.Errorf("%v arrives as %v", s, got)
		}
		words[s.String()] = true
	}
	if len(words) != 3 {
		t.Errorf("words %v, want three", words)
	}
}

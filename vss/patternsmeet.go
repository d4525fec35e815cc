package vss

// maxPatternsProduct bounds the work of PatternsMeet; names are far shorter.
const maxPatternsProduct = 1 << 20

// PatternsMeet reports whether some name matches both patterns, as
// [MatchPattern] matches. Of two so long that to find out would take too much
// work it says yes.
func PatternsMeet(a, b string, fold bool) bool {
	if a == "*.*" || b == "*.*" || a == "*" || b == "*" {
		return true
	}
	if len(a)*len(b) > maxPatternsProduct {
		return true
	}
	x, y := runes(a, fold), runes(b, fold)
	// meet[j] tells whether x from i on and y from j on have a text in common;
	// i goes down, and below holds the row of i+1.
	meet, below := make([]bool, len(y)+1), make([]bool, len(y)+1)
	for i := len(x); i >= 0; i-- {
		for j := len(y); j >= 0; j-- {
			switch {
			case i == len(x) && j == len(y):
				meet[j] = true
			case i < len(x) && x[i] == '*':
				meet[j] = below[j] || j < len(y) && meet[j+1]
			case j < len(y) && y[j] == '*':
				meet[j] = meet[j+1] || i < len(x) && below[j]
			case i == len(x) || j == len(y):
				meet[j] = false
			default:
				meet[j] = (x[i] == y[j] || x[i] == '?' || y[j] == '?') && below[j+1]
			}
		}
		meet, below = below, meet
	}
	return below[0]
}

// runes gives the characters of a pattern as MatchPattern compares them.
func runes(s string, fold bool) []rune {
	out := make([]rune, 0, len(s))
	for len(s) > 0 {
		r, w := decode(s)
		if fold {
			r = foldRune(r)
		}
		out, s = append(out, r), s[w:]
	}
	return out
}

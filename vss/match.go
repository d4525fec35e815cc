package vss

import "unicode/utf8"

// MatchPattern reports whether a name matches a file specification's pattern
// (R-SET-2): "*" is any run of characters, also none, "?" is exactly one, and
// "*.*" is "*". With fold, case makes no difference. Name and pattern are plain
// names; a separator has no meaning here. The time is at most proportional to
// the product of both lengths, whatever the pattern.
func MatchPattern(pattern, name string, fold bool) bool {
	if pattern == "*.*" || pattern == "*" {
		return true
	}
	p, n := 0, 0
	// The last "*" seen, and where in the name the text after it is tried:
	// only the last one can ever need another try.
	star, retry := -1, 0
	for n < len(name) {
		if p < len(pattern) {
			if pattern[p] == '*' {
				star, retry = p, n
				p++
				continue
			}
			pr, pw := decode(pattern[p:])
			nr, nw := decode(name[n:])
			if pr == '?' || pr == nr || fold && foldRune(pr) == foldRune(nr) {
				p += pw
				n += nw
				continue
			}
		}
		if star < 0 {
			return false
		}
		_, w := decode(name[retry:])
		retry += w
		p, n = star+1, retry
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// decode gives the first rune of s; a byte that is no UTF-8 counts as one
// character equal to no rune but the same byte.
func decode(s string) (r rune, width int) {
	if s[0] < utf8.RuneSelf {
		return rune(s[0]), 1
	}
	r, width = utf8.DecodeRuneInString(s)
	if r == utf8.RuneError && width == 1 {
		return utf8.MaxRune + 1 + rune(s[0]), 1
	}
	return r, width
}

// HasWildcard reports whether a pattern holds "*" or "?".
func HasWildcard(pattern string) bool {
	for i := 0; i < len(pattern); i++ {
		if pattern[i] == '*' || pattern[i] == '?' {
			return true
		}
	}
	return false
}

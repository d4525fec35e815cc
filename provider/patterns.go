package provider

import (
	"slices"
	"strings"

	"github.com/sombra-backup/sombra/vss"
)

// patterns finds those of many patterns that a name matches, and what was
// entered with them.
type patterns[T any] struct {
	all   []T            // in the order in which they were added
	wilds []T            // those of patterns with wildcards
	named map[string][]T // by the name, of patterns without wildcards
	// wild are patterns with wildcards by what stands before the first of
	// them, and heads the lengths of that, each once.
	wild  map[string][]wildPattern[T]
	heads []int
}

type wildPattern[T any] struct {
	pattern string
	value   T
}

func (l *patterns[T]) add(pattern string, fold bool, value T) {
	l.all = append(l.all, value)
	first := strings.IndexAny(pattern, "*?")
	if first < 0 {
		if l.named == nil {
			l.named = map[string][]T{}
		}
		name := nameKey(pattern, fold)
		l.named[name] = append(l.named[name], value)
		return
	}
	l.wilds = append(l.wilds, value)
	head := nameKey(pattern[:first], fold)
	if l.wild == nil {
		l.wild = map[string][]wildPattern[T]{}
	}
	l.wild[head] = append(l.wild[head], wildPattern[T]{pattern, value})
	if !slices.Contains(l.heads, len(head)) {
		l.heads = append(l.heads, len(head))
	}
}

// each calls fn with the values of the patterns that base, which is a name's key,
// matches, until fn returns false; it then returns false itself.
func (l *patterns[T]) each(base string, fold bool, fn func(T) bool) bool {
	if !each(l.named[base], fn) {
		return false
	}
	for _, n := range l.heads {
		if n > len(base) {
			continue
		}
		for _, w := range l.wild[base[:n]] {
			if vss.MatchPattern(w.pattern, base, fold) && !fn(w.value) {
				return false
			}
		}
	}
	return true
}

// each calls fn with the values until it returns false, and reports whether it
// never did.
func each[T any](values []T, fn func(T) bool) bool {
	for _, v := range values {
		if !fn(v) {
			return false
		}
	}
	return true
}

package provider

import "slices"

// Matcher answers what [Scope]'s methods answer, in a time that does not go with
// the number of file sets. It may be used by several goroutines.
type Matcher struct {
	claims         *SetIndex[int] // value: the claim's number
	foreign        *SetIndex[struct{}]
	excludes       *SetIndex[int]      // what a claim's writer excludes; -1: a foreign one
	unclaimed, out *SetIndex[struct{}] // data of no writer, and its excludes
}

// NewMatcher makes a matcher of a scope, which must not change afterwards.
func NewMatcher(s *Scope) *Matcher {
	m := &Matcher{claims: NewSetIndex[int](s.Fold), foreign: NewSetIndex[struct{}](s.Fold),
		excludes: NewSetIndex[int](s.Fold), unclaimed: NewSetIndex[struct{}](s.Fold), out: NewSetIndex[struct{}](s.Fold)}
	for i, c := range s.Claims {
		for _, f := range c.Files {
			m.claims.Add(f, i)
		}
		for _, f := range c.Exclude {
			m.excludes.Add(f, i)
		}
	}
	for _, c := range s.Foreign {
		for _, f := range c.Files {
			m.foreign.Add(f, struct{}{})
		}
		for _, f := range c.Exclude {
			m.excludes.Add(f, -1)
		}
	}
	for _, f := range s.Unclaimed {
		m.unclaimed.Add(f, struct{}{})
	}
	for _, f := range s.Exclude {
		m.out.Add(f, struct{}{})
	}
	return m
}

// Claimed is [Scope.Claimed].
func (m *Matcher) Claimed(name string) (claimed bool) {
	m.claims.Each(name, func(claim int) bool {
		claimed = !m.excluded(claim, name)
		return !claimed
	})
	return claimed
}

// excluded reports whether the writer of a claim excludes the file.
func (m *Matcher) excluded(claim int, name string) (out bool) {
	m.excludes.Each(name, func(by int) bool {
		out = by == claim
		return !out
	})
	return out
}

// IsUnclaimed is [Scope.IsUnclaimed].
func (m *Matcher) IsUnclaimed(name string) bool {
	return m.unclaimed.Matches(name) && !m.out.Matches(name) && !m.claims.Matches(name) &&
		!m.foreign.Matches(name) && !m.excludes.Matches(name)
}

// Enter is [Scope.Enter].
func (m *Matcher) Enter(dir string, unclaimed bool) bool {
	return m.claims.Reaches(dir) || unclaimed && m.unclaimed.Reaches(dir)
}

// Steps tells which names in a directory a walk as in Enter must look at, in no
// order: those that lead to a file set, or all of them.
func (m *Matcher) Steps(dir string, unclaimed bool) (names []string, all bool) {
	names, all = m.claims.Steps(dir)
	if all || !unclaimed {
		return names, all
	}
	more, all := m.unclaimed.Steps(dir)
	if all {
		return nil, true
	}
	return append(slices.Clone(names), more...), false
}

package requester

import (
	"fmt"
	"path"
	"strings"
)

// Patterns match paths of the file table.
type Patterns struct {
	fold bool
	list []pattern
}

type pattern struct {
	parts    []string
	anchored bool // must match from the top
	negated  bool
}

// CompilePatterns reads patterns in the way people know from other programs:
// "*" and "?" match within one name, "[a-z]" a character, "**" any number of
// names. A pattern without a slash, or with one only at its end, matches a name
// anywhere; one that begins with a slash (or a drive) matches from the top; any
// other one matches at any depth. What lies below something matched is matched.
// "!" before a pattern takes back what an earlier one matched. Paths are the
// host's, with slashes.
func CompilePatterns(texts []string, fold bool) (*Patterns, error) {
	p := &Patterns{fold: fold}
	for _, text := range texts {
		var one pattern
		s := strings.ReplaceAll(text, `\`, "/")
		if !fold {
			s = text
		}
		if s, one.negated = strings.CutPrefix(s, "!"); s == "" {
			return nil, fmt.Errorf("pattern %q is empty", text)
		}
		if len(s) > 2 && fold && s[1] == ':' {
			s = "/" + s[:1] + s[2:]
		}
		s, one.anchored = strings.CutPrefix(s, "/")
		for part := range strings.SplitSeq(s, "/") {
			if part == "" || part == "." {
				continue
			}
			if _, err := path.Match(part, ""); err != nil {
				return nil, fmt.Errorf("pattern %q: %q is malformed", text, part)
			}
			if fold {
				part = strings.ToLower(part)
			}
			one.parts = append(one.parts, part)
		}
		if len(one.parts) > maxDepth {
			return nil, fmt.Errorf("pattern %.60q has more than %d parts", text, maxDepth)
		}
		p.list = append(p.list, one)
	}
	return p, nil
}

// Empty reports whether there are no patterns.
func (p *Patterns) Empty() bool { return p == nil || len(p.list) == 0 }

// Match reports whether the table path, or something above it, is matched.
func (p *Patterns) Match(table string) bool {
	if p.Empty() {
		return false
	}
	if p.fold {
		table = strings.ToLower(table)
	}
	names := strings.Split(table, "/")
	if table == "" {
		names = nil
	}
	matched := false
	for _, one := range p.list {
		if matched == one.negated && one.match(names) {
			matched = !one.negated
		}
	}
	return matched
}

// match reports whether the pattern matches the names or a beginning of them.
func (p *pattern) match(names []string) bool {
	if p.anchored {
		return matchHead(p.parts, names)
	}
	for i := range max(len(names), 1) {
		if matchHead(p.parts, names[min(i, len(names)):]) {
			return true
		}
	}
	return false
}

// matchHead reports whether the parts match a beginning of names. It keeps the
// set of positions reached, so that its time is bounded by the product.
func matchHead(parts, names []string) bool {
	at := map[int]bool{0: true}
	for _, part := range parts {
		next := map[int]bool{}
		for i := range at {
			if part == "**" {
				for j := i; j <= len(names); j++ {
					next[j] = true
				}
				continue
			}
			if i < len(names) {
				if ok, _ := path.Match(part, names[i]); ok {
					next[i+1] = true
				}
			}
		}
		if at = next; len(at) == 0 {
			return false
		}
	}
	return true
}

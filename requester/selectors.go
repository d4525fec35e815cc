package requester

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// SelectorError says that a selector named nothing.
type SelectorError struct {
	// Flag is the list of [Selectors] it was in, as a flag is named.
	Flag     string
	Selector string
	// Near are names that come close, best first.
	Near []string
	// Hint is a sentence on the way out; may be empty.
	Hint string
}

// Error names the selector and what comes near it.
func (e *SelectorError) Error() string {
	text := fmt.Sprintf("--%s %s matches nothing", e.Flag, quoted(e.Selector))
	if e.Hint != "" {
		text += ": " + e.Hint
	}
	if len(e.Near) > 0 {
		text += "; near it: " + strings.Join(e.Near, ", ")
	}
	return text
}

// quoted shows a name as it would be typed again: backslashes are common in
// them, and doubled ones would be taken for the name.
func quoted(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == '\'' }) {
		return strconv.Quote(s)
	}
	return "'" + s + "'"
}

// Chosen is what [Selectors.Match] found.
type Chosen struct {
	// Include and Exclude give, for each component named, by which selector.
	Include, Exclude map[*Component]string
}

// Match finds the writers and components that are named. A selector that
// matches nothing is a [*SelectorError].
func (s Selectors) Match(writers []*Writer) (*Chosen, error) { return s.match(writers, nil) }

// match is Match where some writers are there and did not say what they have: to
// exclude one of those is no mistake.
func (s Selectors) match(writers []*Writer, absent []session.WriterStatus) (*Chosen, error) {
	out := &Chosen{Include: map[*Component]string{}, Exclude: map[*Component]string{}}
	lists := []struct {
		flag  string
		names []string
		into  map[*Component]string
		comps bool
	}{
		{"writer", s.Writers, out.Include, false},
		{"component", s.Components, out.Include, true},
		{"exclude-writer", s.ExcludeWriters, out.Exclude, false},
		{"exclude-component", s.ExcludeComponents, out.Exclude, true},
	}
	for _, l := range lists {
		for _, name := range l.names {
			found, err := matchOne(writers, l.flag, name, l.comps)
			if err != nil && l.flag == "exclude-writer" && slices.ContainsFunc(absent, func(st session.WriterStatus) bool {
				return Selectors{ExcludeWriters: []string{name}}.excludes(st.Name, st.InstanceName)
			}) {
				continue
			}
			var nothing *SelectorError
			if errors.As(err, &nothing) && nothing.Hint == "" && !strings.HasPrefix(l.flag, "exclude") {
				nothing.Hint = s.mayHave(l.flag, name, absent)
			}
			if err != nil {
				return nil, err
			}
			for _, c := range found {
				if _, ok := l.into[c]; !ok {
					l.into[c] = "--" + l.flag + " " + name
				}
			}
		}
	}
	return out, nil
}

// matchOne gives the components one selector names, or an error. A writer
// without components is found, too: there is then nothing to choose.
func matchOne(writers []*Writer, flag, name string, components bool) ([]*Component, error) {
	if ws := matchWriters(writers, name); len(ws) > 0 {
		return allComponents(ws), nil
	}
	qualified := matchQualified(writers, name)
	plain := matchComponents(writers, name)
	if components {
		if found := firstNonEmpty(qualified, plain); len(found) > 0 {
			return found, nil
		}
		return nil, &SelectorError{Flag: flag, Selector: name, Near: near(writers, name, true)}
	}
	e := &SelectorError{Flag: flag, Selector: name, Near: near(writers, name, false)}
	if len(qualified)+len(plain) > 0 {
		e.Hint = "it names a component; use --" + strings.Replace(flag, "writer", "component", 1)
	}
	return nil, e
}

func firstNonEmpty(lists ...[]*Component) []*Component {
	for _, l := range lists {
		if len(l) > 0 {
			return l
		}
	}
	return nil
}

func allComponents(ws []*Writer) (out []*Component) {
	for _, w := range ws {
		out = append(out, w.Components...)
	}
	return out
}

// writerNames are all the forms in which a writer can be named.
func writerNames(w *Writer) []string {
	names := []string{w.Class.String(), "{" + w.Class.String() + "}"}
	if !w.Instance.IsZero() {
		names = append(names, w.Instance.String(), "{"+w.Instance.String()+"}")
	}
	if w.Name != "" {
		names = append(names, w.Name)
	}
	if w.InstanceName != "" {
		names = append(names, w.InstanceName)
	}
	return names
}

// matchWriters finds writers by a whole name: as written, else in any case.
func matchWriters(writers []*Writer, name string) []*Writer {
	for _, equal := range []func(a, b string) bool{func(a, b string) bool { return a == b }, strings.EqualFold} {
		var found []*Writer
		for _, w := range writers {
			if slices.ContainsFunc(writerNames(w), func(n string) bool { return equal(n, name) }) {
				found = append(found, w)
			}
		}
		if len(found) > 0 {
			return found
		}
	}
	return nil
}

// matchQualified finds "writer:component". Names of writers may hold colons, so
// every name is tried as the first part.
func matchQualified(writers []*Writer, name string) []*Component {
	var found []*Component
	for _, w := range writers {
		for _, n := range writerNames(w) {
			if len(name) > len(n)+1 && name[len(n)] == ':' && strings.EqualFold(name[:len(n)], n) {
				found = append(found, matchComponents([]*Writer{w}, name[len(n)+1:])...)
				break
			}
		}
	}
	return found
}

// matchComponents finds components by full path, else by logical path, else by
// name.
func matchComponents(writers []*Writer, path string) []*Component {
	path = vss.NormalizeLogicalPath(path)
	if path == "" {
		return nil
	}
	ways := []func(c *Component) bool{
		func(c *Component) bool { return c.FullPath() == path },
		func(c *Component) bool { return vss.IsDescendant(c.LogicalPath, path) },
		func(c *Component) bool { return c.Name == path },
	}
	for _, way := range ways {
		var found []*Component
		for _, w := range writers {
			for _, c := range w.Components {
				if way(c) {
					found = append(found, c)
				}
			}
		}
		if len(found) > 0 {
			return found
		}
	}
	return nil
}

// near lists up to five names that look like the one that was not found.
func near(writers []*Writer, name string, components bool) []string {
	type candidate struct {
		text  string
		score int
	}
	var list []candidate
	add := func(text, show string) {
		if d := distance(strings.ToLower(name), strings.ToLower(text)); d <= max(2, len(name)/3) {
			list = append(list, candidate{show, d})
		} else if strings.Contains(strings.ToLower(text), strings.ToLower(name)) {
			list = append(list, candidate{show, len(text)})
		}
	}
	for _, w := range writers {
		for _, n := range []string{w.Name, w.InstanceName} {
			if n != "" {
				add(n, quoted(n))
			}
		}
		if !components {
			continue
		}
		for _, c := range w.Components {
			show := quoted(w.Name + `:\` + c.FullPath())
			add(c.FullPath(), show)
			add(c.Name, show)
			add(w.Name+`:\`+c.FullPath(), show)
		}
	}
	slices.SortStableFunc(list, func(a, b candidate) int { return cmp.Compare(a.score, b.score) })
	var out []string
	for _, c := range list {
		if len(out) < 5 && !slices.Contains(out, c.text) {
			out = append(out, c.text)
		}
	}
	return out
}

// distance is the number of single-character edits between two texts; texts
// longer than 200 bytes count as unlike anything.
func distance(a, b string) int {
	if len(a) > 200 || len(b) > 200 {
		return len(a) + len(b)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}

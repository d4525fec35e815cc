package testwriter

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/sombra-backup/sombra/metadata/xmldoc"
	"github.com/sombra-backup/sombra/vss"
)

// parser reads a configuration. The first error stops it: what is read after
// that are zero values.
type parser struct {
	file  string
	style vss.PathStyle
	err   error
}

// fail notes an error at an element, as "file:line:column: what".
func (p *parser) fail(n *xmldoc.Node, format string, args ...any) {
	if p.err == nil {
		p.err = p.place(n.Errorf(format, args...))
	}
}

// place puts the file before the position of a syntax error.
func (p *parser) place(err error) error {
	var at *xmldoc.SyntaxError
	if errors.As(err, &at) {
		return fmt.Errorf("%s:%d:%d: %w", p.file, at.Line, at.Column, &reason{at.Msg})
	}
	return fmt.Errorf("%s: %w", p.file, err)
}

// reason is the text of a syntax error without its position, and its code.
type reason struct{ text string }

func (r *reason) Error() string { return r.text }
func (r *reason) Unwrap() error { return vss.ErrInvalidXMLDocument }

// form refuses attributes an element does not have, and text in it. A name
// with "!" before it must be there.
func (p *parser) form(n *xmldoc.Node, attributes ...string) {
	var names []string
	for _, a := range attributes {
		name, required := strings.CutPrefix(a, "!")
		names = append(names, name)
		if _, ok := n.Attr(name); required && !ok {
			p.fail(n, "element %s lacks the attribute %s", n.Local(), name)
		}
	}
	attrs := n.Attrs()
	for i := range attrs {
		if name := attrs[i].Name(); !slices.Contains(names, name) {
			p.fail(n, "element %s has no attribute %.60q; it may have %s", n.Local(), name, strings.Join(names, ", "))
		}
	}
	if text := strings.TrimSpace(n.Text()); text != "" {
		p.fail(n, "element %s holds text, %.60q; everything is said by elements and attributes", n.Local(), text)
	}
}

// children calls f for each element in n, whose name must be one of names.
func (p *parser) children(n *xmldoc.Node, names string, f func(*xmldoc.Node)) {
	for _, c := range n.Children() {
		if c.Kind() != xmldoc.Element {
			continue
		}
		if !slices.Contains(strings.Fields(names), c.Name()) || c.Space() != "" {
			if names == "" {
				names = "nothing"
			}
			p.fail(c, "element %s cannot stand in %s; there may be %s", c.Name(), n.Name(), strings.ReplaceAll(names, " ", ", "))
			return
		}
		f(c)
	}
}

// yes reads "yes" or "no".
func (p *parser) yes(n *xmldoc.Node, name string, absent bool) bool {
	switch v, ok := n.Attr(name); {
	case !ok:
		return absent
	case v == "yes":
		return true
	case v != "no":
		p.fail(n, `attribute %s of element %s is %.60q; write "yes" or "no"`, name, n.Local(), v)
	}
	return false
}

// word reads one of the words of an enumeration.
func word[T any](p *parser, n *xmldoc.Node, name string, absent T, parse func(string) (T, error)) T {
	v, ok := n.Attr(name)
	if !ok {
		return absent
	}
	t, err := parse(v)
	if err != nil {
		var cause *vss.Error
		if errors.As(err, &cause) && cause.Err != nil {
			err = cause.Err
		}
		p.fail(n, "attribute %s of element %s: %v", name, n.Local(), err)
	}
	return t
}

// oneOf makes the parse function of a small enumeration of this package.
func oneOf[T any](words map[string]T) func(string) (T, error) {
	return func(s string) (T, error) {
		if t, ok := words[s]; ok {
			return t, nil
		}
		var names []string
		for w := range words {
			names = append(names, w)
		}
		slices.Sort(names)
		var zero T
		return zero, fmt.Errorf("%.60q is none of %s", s, strings.Join(names, ", "))
	}
}

// number reads a decimal number from low to high.
func (p *parser) number(n *xmldoc.Node, name string, low, high, absent int) int {
	v, ok := n.Attr(name)
	if !ok {
		return absent
	}
	i, err := strconv.Atoi(v)
	if err != nil || i < low || i > high {
		p.fail(n, "attribute %s of element %s is %.60q; write a number from %d to %d", name, n.Local(), v, low, high)
	}
	return i
}

// path reads an attribute that names a place on the host by its full path,
// which may begin with %NAME%.
func (p *parser) path(n *xmldoc.Node, name string) string {
	v, ok := n.Attr(name)
	if !ok {
		return ""
	}
	if !p.style.IsAbs(v) && !strings.HasPrefix(v, "%") {
		p.fail(n, "attribute %s of element %s is %.100q; write a full path, such as %s", name, n.Local(), v, p.example())
	}
	return v
}

func (p *parser) example() string {
	if p.style == vss.Windows {
		return `C:\data`
	}
	return "/srv/data"
}

// spec reads path, filespec and recursive.
func (p *parser) spec(n *xmldoc.Node) vss.FileSpec {
	s := vss.FileSpec{Path: p.path(n, "path"), Pattern: n.AttrOr("filespec", ""), Recursive: p.yes(n, "recursive", false)}
	if p.err == nil {
		if err := s.Validate(p.style); err != nil {
			var cause *vss.Error
			if errors.As(err, &cause) && cause.Err != nil {
				err = cause.Err
			}
			p.fail(n, "element %s: %v", n.Local(), err)
		}
	}
	return s
}

package metadata

import (
	"strconv"

	"github.com/sombra-backup/sombra/metadata/xmldoc"
	"github.com/sombra-backup/sombra/vss"
)

// Problem is something a document says that the model does not allow, though
// the document can be read. Rule names the model's rule.
type Problem struct {
	Rule   string // such as "R-SEL-32"
	Object string // the element, component or file set it is about
	Text   string // what is wrong, in one clause
}

// String gives "object: text (rule)".
func (p Problem) String() string { return p.Object + ": " + p.Text + " (" + p.Rule + ")" }

// reader reads typed attributes of elements. The first error stops it: later
// reads give zero values, so that a caller checks once at the end.
type reader struct {
	err      error
	problems []Problem
}

func (r *reader) fail(n *xmldoc.Node, format string, args ...any) {
	if r.err == nil {
		r.err = n.Errorf(format, args...)
	}
}

// text reads an attribute that must be there.
func (r *reader) text(n *xmldoc.Node, name string) string {
	v, ok := n.Attr(name)
	if !ok {
		r.fail(n, "element %s has no attribute %s", n.Local(), name)
	}
	return v
}

// yes reads "yes" or "no"; an absent attribute is "no".
func (r *reader) yes(n *xmldoc.Node, name string) bool {
	switch v, ok := n.Attr(name); {
	case v == "yes":
		return true
	case ok && v != "no":
		r.fail(n, `attribute %s of element %s is %.60q, not "yes" or "no"`, name, n.Local(), v)
	}
	return false
}

// number reads a decimal number of at most bits bits; an absent one is def.
func (r *reader) number(n *xmldoc.Node, name string, def uint64, bits int) uint64 {
	v, ok := n.Attr(name)
	if !ok {
		return def
	}
	u, err := strconv.ParseUint(v, 10, bits)
	if err != nil {
		r.fail(n, "attribute %s of element %s is %.60q, not a number of %d bits", name, n.Local(), v, bits)
	}
	return u
}

// guid reads an identifier in any case, with or without braces; an absent one
// is zero unless it is required.
func (r *reader) guid(n *xmldoc.Node, name string, required bool) vss.GUID {
	v, ok := n.Attr(name)
	if !ok && !required {
		return vss.GUID{}
	}
	g, err := vss.ParseGUID(v)
	if err != nil {
		r.fail(n, "attribute %s of element %s is %.60q, not a GUID", name, n.Local(), v)
	}
	return g
}

// word reads one word of an enumeration. As not every word Windows may write
// has been seen, an unknown one is the enumeration's undefined value and a
// problem, not a broken document.
func word[T ~int32](r *reader, n *xmldoc.Node, name string, parse func(string) (T, error)) T {
	v, ok := n.Attr(name)
	if !ok {
		return 0
	}
	t, err := parse(v)
	if err != nil {
		r.problems = append(r.problems, Problem{"documents", n.Local(), "attribute " + name + " has the unknown word " + strconv.Quote(clip(v))})
	}
	return t
}

func clip(s string) string {
	const most = 60
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}

// fileSpec reads the three attributes every file set has; recursive is absent
// in nearly all real ones, and then "no".
func (r *reader) fileSpec(n *xmldoc.Node) vss.FileSpec {
	return vss.FileSpec{Path: r.text(n, attrPath), Pattern: r.text(n, attrFilespec), Recursive: r.yes(n, attrRecursive)}
}

// logicalPath reads a logical path, absent at the root (D-18).
func logicalPath(n *xmldoc.Node) string {
	return vss.NormalizeLogicalPath(n.AttrOr(attrLogicalPath, ""))
}

// open parses a document and checks its root element.
func open(data []byte, what, root, space string) (*xmldoc.Document, error) {
	doc, err := xmldoc.Parse(data)
	if err != nil {
		return nil, invalid(what, err)
	}
	r := doc.Root()
	if r.Local() != root {
		return nil, invalid(what, r.Errorf("the root element is %.60s, not %s", r.Name(), root))
	}
	if r.Space() != space && r.Space() != "" {
		return nil, invalid(what, r.Errorf("the root element is in namespace %.80q, not %q", r.Space(), space))
	}
	return doc, nil
}

func invalid(what string, err error) error {
	return &vss.Error{Op: "read", Object: what, Code: vss.ErrInvalidXMLDocument, Err: err}
}

// elements calls f for each child element in the namespace of n; others are
// not ours to understand.
func elements(n *xmldoc.Node, f func(*xmldoc.Node)) {
	for _, c := range n.Children() {
		if c.Kind() == xmldoc.Element && c.Space() == n.Space() {
			f(c)
		}
	}
}

// yesNo is the spelling of a flag in both documents.
func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// pair is an attribute to be set.
type pair struct{ name, value string }

// set sets attributes in order; nothing is changed if a value cannot be held.
func set(n *xmldoc.Node, pairs ...pair) error {
	if err := check(pairs...); err != nil {
		return err
	}
	for _, p := range pairs {
		if err := n.SetAttr(p.name, p.value); err != nil {
			return err
		}
	}
	return nil
}

// check refuses values that no document can hold.
func check(pairs ...pair) error {
	for _, p := range pairs {
		if !xmldoc.IsText(p.value) {
			return vss.Errorf(vss.ErrInvalidArgument, "set", "attribute "+p.name,
				"%.100q holds characters no XML document can hold; binary data must be encoded", p.value)
		}
	}
	return nil
}

// add appends an element with attributes; an empty value is left out where the
// attribute's absence means the same, which the caller says by a leading "?".
func add(parent *xmldoc.Node, name string, pairs ...pair) (*xmldoc.Node, error) {
	kept := make([]pair, 0, len(pairs))
	for _, p := range pairs {
		if p.name[0] == '?' {
			if p.value == "" {
				continue
			}
			p.name = p.name[1:]
		}
		kept = append(kept, p)
	}
	if err := check(kept...); err != nil {
		return nil, err
	}
	n := parent.Append(name)
	return n, set(n, kept...)
}

package xmldoc

import (
	"strings"
)

// Kind is the kind of a node.
type Kind uint8

// Kinds of nodes.
const (
	Element  Kind = iota + 1
	Text          // character data with references as written
	CDATA         // the inside of <![CDATA[ ]]>
	Comment       // the inside of <!-- -->
	ProcInst      // the inside of <? ?>, the XML declaration too
	Doctype       // the inside of <!DOCTYPE >
)

// Node is one node of a document. Only elements have names, attributes and
// children.
type Node struct {
	kind     Kind
	empty    bool  // written <x/>
	pos      int32 // offset in the decoded source, for errors; 0 for new ones
	name     string
	space    string // namespace the name is in
	attrs    []Attr
	children []*Node
	parent   *Node
	doc      *Document
	raw      string // inside of other kinds; white space before ">" of elements
	endRaw   string // white space before ">" of the end tag
}

// Attr is one attribute, as it is written.
type Attr struct {
	name  string
	raw   string // between the quotation marks, references unresolved
	lead  string // white space before the name
	equal string // what stands between name and quotation mark
	quote byte
}

// Name gives the attribute's name with its prefix.
func (a *Attr) Name() string { return a.name }

// Value gives what a conforming reader reports (XML 1.0 §3.3.3): references
// resolved, each line break or tab that stands there raw a space.
func (a *Attr) Value() string { return normalize(a.raw) }

// normalize resolves a raw attribute value that the parser has checked.
func normalize(raw string) string {
	if !strings.ContainsAny(raw, "&\t\n\r") {
		return raw
	}
	var b strings.Builder
	b.Grow(len(raw))
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; c {
		case '\t', '\n':
			b.WriteByte(' ')
		case '\r': // §2.11: CR LF is one line break
			b.WriteByte(' ')
			if i+1 < len(raw) && raw[i+1] == '\n' {
				i++
			}
		case '&':
			r, n := reference(raw[i:])
			b.WriteRune(r)
			i += n - 1
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// Kind gives the node's kind.
func (n *Node) Kind() Kind { return n.kind }

// Name gives an element's name with its prefix, or a processing instruction's
// target.
func (n *Node) Name() string { return n.name }

// Local gives an element's name without its prefix.
func (n *Node) Local() string {
	_, local := splitName(n.name)
	return local
}

// Space gives the namespace of an element, "" for none.
func (n *Node) Space() string { return n.space }

// Parent gives the element a node is in, nil at the top.
func (n *Node) Parent() *Node { return n.parent }

// Children gives the nodes in an element, to be read only.
func (n *Node) Children() []*Node { return n.children }

// Attrs gives an element's attributes in order, to be read only.
func (n *Node) Attrs() []Attr { return n.attrs }

// Raw gives the inside of a node that is no element, as written.
func (n *Node) Raw() string { return n.raw }

// Attr gives the value of the attribute of this name.
func (n *Node) Attr(name string) (value string, ok bool) {
	if i := n.find(name); i >= 0 {
		return n.attrs[i].Value(), true
	}
	return "", false
}

// AttrOr gives the value of an attribute, or def where there is none.
func (n *Node) AttrOr(name, def string) string {
	if v, ok := n.Attr(name); ok {
		return v
	}
	return def
}

func (n *Node) find(name string) int {
	for i := range n.attrs {
		if n.attrs[i].name == name {
			return i
		}
	}
	return -1
}

// Text gives the character data directly in an element, references resolved
// and line breaks made LF.
func (n *Node) Text() string {
	var b strings.Builder
	for _, c := range n.children {
		switch c.kind {
		case Text:
			b.WriteString(resolveText(c.raw))
		case CDATA:
			b.WriteString(lineEnds(c.raw))
		}
	}
	return b.String()
}

func lineEnds(s string) string {
	if !strings.Contains(s, "\r") {
		return s
	}
	return strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\r", "\n")
}

func resolveText(raw string) string {
	raw = lineEnds(raw)
	if !strings.Contains(raw, "&") {
		return raw
	}
	var b strings.Builder
	for i := 0; i < len(raw); i++ {
		if raw[i] != '&' {
			b.WriteByte(raw[i])
			continue
		}
		r, n := reference(raw[i:])
		b.WriteRune(r)
		i += n - 1
	}
	return b.String()
}

// Errorf makes a [*SyntaxError] at the node's place in the document it was read
// from.
func (n *Node) Errorf(format string, args ...any) error {
	return errorAt(n.doc.src, int(n.pos), format, args...)
}

func splitName(name string) (prefix, local string) {
	if i := strings.IndexByte(name, ':'); i >= 0 {
		return name[:i], name[i+1:]
	}
	return "", name
}

// IsNamespace reports whether an attribute of this name declares a namespace.
func IsNamespace(name string) bool {
	prefix, _ := splitName(name)
	return name == "xmlns" || prefix == "xmlns"
}

package xmldoc

import (
	"bytes"
	"strings"

	"github.com/sombra-backup/sombra/vss"
)

// Document is one XML document.
type Document struct {
	src        string // decoded text, which nodes are parts of
	original   []byte
	changed    bool
	hasDoctype bool
	root       *Node
	top        []*Node // everything at the top, the root among it
}

// New makes a document of one element in a namespace.
func New(name, space string) *Document {
	d := &Document{changed: true}
	d.root = &Node{kind: Element, name: name, space: space, empty: true, doc: d}
	d.top = []*Node{d.root}
	if space != "" {
		d.root.attrs = []Attr{newAttr("xmlns", escape(space, '"'))}
	}
	return d
}

// Root gives the document's one top element.
func (d *Document) Root() *Node { return d.root }

// Changed reports whether anything was changed since the document was read.
func (d *Document) Changed() bool { return d.changed }

// Bytes gives the document: byte for byte as it was read if nobody changed it,
// else as Marshal writes it.
func (d *Document) Bytes() []byte {
	if !d.changed {
		return bytes.Clone(d.original)
	}
	return d.Marshal()
}

// Clone gives an independent copy.
func (d *Document) Clone() *Document {
	c := &Document{src: d.src, original: d.original, changed: d.changed, hasDoctype: d.hasDoctype}
	for _, n := range d.top {
		m := n.cloneInto(c, nil, true)
		if n == d.root {
			c.root = m
		}
		c.top = append(c.top, m)
	}
	return c
}

// cloneInto copies a node; its place is kept only if d has the same source.
func (n *Node) cloneInto(d *Document, parent *Node, keepPlace bool) *Node {
	m := &Node{}
	*m = *n
	if !keepPlace {
		m.pos = 0
	}
	m.doc, m.parent = d, parent
	m.attrs = append([]Attr(nil), n.attrs...)
	m.children = nil
	if len(n.children) > 0 {
		m.children = make([]*Node, 0, len(n.children))
		for _, c := range n.children {
			m.children = append(m.children, c.cloneInto(d, m, keepPlace))
		}
	}
	return m
}

// Marshal writes the document from the tree, in UTF-8.
func (d *Document) Marshal() []byte {
	var b bytes.Buffer
	b.Grow(len(d.src) + 256)
	for _, n := range d.top {
		if n.kind == ProcInst && n.name == "xml" {
			b.WriteString("<?xml" + declareUTF8(n.raw) + "?>")
			continue
		}
		n.write(&b)
	}
	return b.Bytes()
}

// declareUTF8 makes the declaration tell the truth of what Marshal writes.
func declareUTF8(raw string) string {
	i := strings.Index(raw, "encoding")
	if i < 0 {
		return raw
	}
	open := strings.IndexAny(raw[i:], `"'`) + i
	end := strings.IndexByte(raw[open+1:], raw[open]) + open + 1
	switch strings.ToLower(raw[open+1 : end]) {
	case "utf-8", "utf8":
		return raw
	}
	return raw[:open+1] + "UTF-8" + raw[end:]
}

func (n *Node) write(b *bytes.Buffer) {
	switch n.kind {
	case Text:
		b.WriteString(n.raw)
	case CDATA:
		b.WriteString("<![CDATA[" + n.raw + "]]>")
	case Comment:
		b.WriteString("<!--" + n.raw + "-->")
	case ProcInst:
		b.WriteString("<?" + n.name + n.raw + "?>")
	case Doctype:
		b.WriteString("<!DOCTYPE" + n.raw + ">")
	case Element:
		n.writeElement(b)
	}
}

func (n *Node) writeElement(b *bytes.Buffer) {
	b.WriteByte('<')
	b.WriteString(n.name)
	for i := range n.attrs {
		a := &n.attrs[i]
		b.WriteString(a.lead)
		b.WriteString(a.name)
		b.WriteString(a.equal)
		b.WriteByte(a.quote)
		b.WriteString(a.raw)
		b.WriteByte(a.quote)
	}
	b.WriteString(n.raw)
	if n.empty && len(n.children) == 0 {
		b.WriteString("/>")
		return
	}
	b.WriteByte('>')
	for _, c := range n.children {
		c.write(b)
	}
	b.WriteString("</")
	b.WriteString(n.name)
	b.WriteString(n.endRaw)
	b.WriteByte('>')
}

// SetAttr gives an attribute a value; a new one is added at the end. A value
// that is there already leaves the document unchanged. A value that XML cannot
// hold is vss.ErrInvalidArgument.
func (n *Node) SetAttr(name, value string) error {
	if !IsText(value) {
		return vss.Errorf(vss.ErrInvalidArgument, "set", "attribute "+name,
			"%.100q holds characters no XML document can hold; binary data must be encoded", value)
	}
	i := n.find(name)
	if i < 0 {
		n.attrs = append(n.attrs, newAttr(name, escape(value, '"')))
		n.doc.changed = true
		return nil
	}
	if a := &n.attrs[i]; a.Value() != value {
		a.raw = escape(value, a.quote)
		n.doc.changed = true
	}
	return nil
}

func newAttr(name, raw string) Attr {
	return Attr{name: name, raw: raw, lead: " ", equal: "=", quote: '"'}
}

// RemoveAttr takes an attribute away, if it is there.
func (n *Node) RemoveAttr(name string) {
	if i := n.find(name); i >= 0 {
		n.attrs = append(n.attrs[:i:i], n.attrs[i+1:]...)
		n.doc.changed = true
	}
}

// escape writes a value so that it reads back exactly: line breaks and tabs as
// character references, as raw ones would come back as spaces.
func escape(value string, quote byte) string {
	if !strings.ContainsAny(value, "&<>\"'\t\n\r") {
		return value
	}
	var b strings.Builder
	for i := 0; i < len(value); i++ {
		switch c := value[i]; {
		case c == '&':
			b.WriteString("&amp;")
		case c == '<':
			b.WriteString("&lt;")
		case c == '>':
			b.WriteString("&gt;")
		case c == quote && c == '"':
			b.WriteString("&quot;")
		case c == quote:
			b.WriteString("&apos;")
		case c == '\t':
			b.WriteString("&#x9;")
		case c == '\n':
			b.WriteString("&#xA;")
		case c == '\r':
			b.WriteString("&#xD;")
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// Append adds an element at the end of n, in n's namespace and with its prefix.
// Where n's children stand on lines of their own, the new one does too.
func (n *Node) Append(local string) *Node {
	name := local
	if prefix, _ := splitName(n.name); prefix != "" {
		name = prefix + ":" + local
	}
	c := &Node{kind: Element, name: name, space: n.space, empty: true, doc: n.doc, parent: n}
	n.insert(c)
	return c
}

// insert puts c after the last child, before the white space that leads to the
// end tag.
func (n *Node) insert(c *Node) {
	n.doc.changed = true
	last := len(n.children) - 1
	if last < 1 || !isIndent(n.children[0]) || !isIndent(n.children[last]) {
		n.children = append(n.children, c)
		return
	}
	tail := n.children[last]
	lead := &Node{kind: Text, raw: n.children[0].raw, doc: n.doc, parent: n}
	n.children = append(n.children, c, tail)
	n.children[last] = lead
}

func isIndent(n *Node) bool {
	return n.kind == Text && strings.TrimLeft(n.raw, " \t\r\n") == "" && strings.Contains(n.raw, "\n")
}

// Remove takes a child away, and white space that stood before it alone.
func (n *Node) Remove(child *Node) {
	for i, c := range n.children {
		if c != child {
			continue
		}
		from := i
		if i > 0 && i+1 < len(n.children) && isIndent(n.children[i-1]) && isIndent(n.children[i+1]) {
			from--
		}
		n.children = append(n.children[:from:from], n.children[i+1:]...)
		n.doc.changed = true
		return
	}
}

// Extract makes a document of n's ancestors without their other children, and
// of n whole.
func (n *Node) Extract() *Document {
	d := &Document{changed: true}
	inner := n.cloneInto(d, nil, false)
	for p := n.parent; p != nil; p = p.parent {
		outer := &Node{kind: Element, name: p.name, space: p.space, attrs: append([]Attr(nil), p.attrs...), doc: d}
		outer.children = []*Node{inner}
		inner.parent = outer
		inner = outer
	}
	d.root = inner
	d.top = []*Node{inner}
	return d
}

// Equal reports whether two nodes say the same: name, namespace, attributes by
// value in any order, and the children that are not white space alone, in
// order; comments and processing instructions count as children.
func (n *Node) Equal(m *Node) bool {
	if n.kind != m.kind || n.Local() != m.Local() || n.space != m.space || len(n.attrs) != len(m.attrs) {
		return false
	}
	if n.kind != Element {
		return n.raw == m.raw
	}
	for i := range n.attrs {
		if v, ok := m.Attr(n.attrs[i].name); !ok || v != n.attrs[i].Value() {
			return false
		}
	}
	a, b := n.solid(), m.solid()
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !a[i].Equal(b[i]) {
			return false
		}
	}
	return true
}

func (n *Node) solid() []*Node {
	var out []*Node
	for _, c := range n.children {
		if c.kind != Text || strings.TrimLeft(c.raw, " \t\r\n") != "" {
			out = append(out, c)
		}
	}
	return out
}

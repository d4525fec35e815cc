package xmldoc

import (
	"strings"
	"unicode/utf8"
)

// Bounds on what Parse takes. The largest document seen in the wild has 2 MB
// and 19 000 elements.
const (
	MaxSize       = 64 << 20 // bytes
	MaxDepth      = 64       // elements within elements
	MaxNodes      = 1 << 20
	MaxAttributes = 256     // of one element
	maxAllAttrs   = 1 << 22 // of a document
	maxNamespaces = 64      // declarations in force at once
)

type limits struct{ size, depth, nodes, attrs, allAttrs int }

var defaultLimits = limits{MaxSize, MaxDepth, MaxNodes, MaxAttributes, maxAllAttrs}

// Parse reads a document in UTF-8 or UTF-16. data is kept by the document and
// must not be changed afterwards.
func Parse(data []byte) (*Document, error) { return parse(data, defaultLimits) }

func parse(data []byte, lim limits) (*Document, error) {
	if len(data) > lim.size {
		return nil, errorAt("", 0, "the document has %d bytes, more than %d", len(data), lim.size)
	}
	src, err := decode(data)
	if err != nil {
		return nil, err
	}
	p := &parser{src: src, lim: lim, doc: &Document{src: src, original: data}}
	if err := p.document(); err != nil {
		return nil, err
	}
	return p.doc, nil
}

type binding struct{ prefix, space string }

type parser struct {
	src   string
	at    int
	lim   limits
	doc   *Document
	nodes int
	attrs int
	slab  []Node // nodes are taken from slabs: one allocation for many
	pairs []Attr // likewise
	names []binding
	marks []int // length of names before each open element
}

func (p *parser) fail(offset int, format string, args ...any) error {
	return errorAt(p.src, offset, format, args...)
}

// document reads prolog, root element and what may follow it.
func (p *parser) document() error {
	var open *Node
	depth := 0
	for p.at < len(p.src) {
		start := p.at
		var n *Node
		var err error
		switch rest := p.src[p.at:]; {
		case rest[0] != '<':
			n, err = p.text(open)
		case strings.HasPrefix(rest, "</"):
			if err = p.endTag(open); err == nil {
				open = open.parent
				depth--
			}
		case strings.HasPrefix(rest, "<!--"):
			n, err = p.comment()
		case strings.HasPrefix(rest, "<![CDATA["):
			n, err = p.cdata(open)
		case strings.HasPrefix(rest, "<!"):
			n, err = p.doctype(open)
		case strings.HasPrefix(rest, "<?"):
			n, err = p.procInst()
		default:
			n, err = p.startTag(open)
		}
		if err != nil {
			return err
		}
		if n == nil {
			continue
		}
		if err := p.place(n, open, start); err != nil {
			return err
		}
		if n.kind == Element && !n.empty {
			if depth++; depth > p.lim.depth {
				return p.fail(start, "elements are nested more than %d deep", p.lim.depth)
			}
			open = n
		}
	}
	if open != nil {
		return p.fail(p.at, "the document ends within element %.60s, begun at %s", open.name, p.where(open))
	}
	if p.doc.root == nil {
		return p.fail(p.at, "the document has no element")
	}
	return nil
}

func (p *parser) where(n *Node) string {
	e := errorAt(p.src, int(n.pos), "")
	return strings.TrimSuffix(e.Error(), ": ")
}

// place puts a node into the open element or at the top.
func (p *parser) place(n, open *Node, start int) error {
	n.pos = int32(start)
	if open != nil {
		n.parent = open
		open.children = append(open.children, n)
		return nil
	}
	if n.kind == Element {
		if p.doc.root != nil {
			return p.fail(start, "a second element at the top, %.60s", n.name)
		}
		p.doc.root = n
	}
	p.doc.top = append(p.doc.top, n)
	return nil
}

func (p *parser) node(kind Kind) (*Node, error) {
	if p.nodes++; p.nodes > p.lim.nodes {
		return nil, p.fail(p.at, "the document has more than %d elements, texts and comments", p.lim.nodes)
	}
	if len(p.slab) == 0 {
		p.slab = make([]Node, min(max(16, p.nodes), 1024))
	}
	n := &p.slab[0]
	p.slab = p.slab[1:]
	n.kind, n.doc = kind, p.doc
	return n, nil
}

// until takes the text up to a delimiter and skips the delimiter.
func (p *parser) until(from int, delimiter, what string) (string, error) {
	i := strings.Index(p.src[from:], delimiter)
	if i < 0 {
		return "", p.fail(p.at, "%s is not closed by %s", what, delimiter)
	}
	p.at = from + i + len(delimiter)
	return p.src[from : from+i], nil
}

func (p *parser) text(open *Node) (*Node, error) {
	start := p.at
	end := strings.IndexByte(p.src[start:], '<')
	if end < 0 {
		end = len(p.src) - start
	}
	raw := p.src[start : start+end]
	if open == nil {
		if i := strings.IndexFunc(raw, func(r rune) bool { return r > ' ' }); i >= 0 {
			return nil, p.fail(start+i, "text outside the root element")
		}
	}
	if i := strings.Index(raw, "]]>"); i >= 0 {
		return nil, p.fail(start+i, `"]]>" in text`)
	}
	if err := p.references(start, raw); err != nil {
		return nil, err
	}
	n, err := p.node(Text)
	if err == nil {
		n.raw = raw
		p.at = start + end
	}
	return n, err
}

// references checks each reference of a raw text that begins at offset start.
func (p *parser) references(start int, raw string) error {
	for i := strings.IndexByte(raw, '&'); i >= 0; {
		if _, n := reference(raw[i:]); n == 0 {
			return p.fail(start+i, "%.20q is no reference to a character or to one of amp, lt, gt, quot, apos", raw[i:])
		}
		next := strings.IndexByte(raw[i+1:], '&')
		if next < 0 {
			return nil
		}
		i += 1 + next
	}
	return nil
}

// reference resolves the reference s begins with; length 0 means it is none.
func reference(s string) (r rune, length int) {
	for _, e := range predefined {
		if strings.HasPrefix(s, e.text) {
			return e.char, len(e.text)
		}
	}
	if len(s) < 4 || s[1] != '#' {
		return 0, 0
	}
	i, base := 2, rune(10)
	if s[2] == 'x' {
		i, base = 3, 16
	}
	first := i
	for ; i < len(s) && s[i] != ';'; i++ {
		d, ok := digit(s[i])
		if !ok || d >= base || r > utf8.MaxRune {
			return 0, 0
		}
		r = r*base + d
	}
	if i == len(s) || i == first || !isChar(r) {
		return 0, 0
	}
	return r, i + 1
}

func digit(c byte) (rune, bool) {
	switch {
	case '0' <= c && c <= '9':
		return rune(c - '0'), true
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return rune(c|0x20-'a') + 10, true
	}
	return 0, false
}

// predefined are the entities a document need not declare (§4.6).
var predefined = [...]struct {
	text string
	char rune
}{{"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&quot;", '"'}, {"&apos;", '\''}}

func (p *parser) comment() (*Node, error) {
	start := p.at + len("<!--")
	raw, err := p.until(start, "--", "a comment")
	if err != nil {
		return nil, err
	}
	if p.at == len(p.src) || p.src[p.at] != '>' {
		return nil, p.fail(p.at-2, `"--" in a comment`)
	}
	p.at++
	return p.leaf(Comment, raw)
}

func (p *parser) cdata(open *Node) (*Node, error) {
	if open == nil {
		return nil, p.fail(p.at, "character data outside the root element")
	}
	raw, err := p.until(p.at+len("<![CDATA["), "]]>", "a CDATA section")
	if err != nil {
		return nil, err
	}
	return p.leaf(CDATA, raw)
}

func (p *parser) leaf(kind Kind, raw string) (*Node, error) {
	n, err := p.node(kind)
	if err == nil {
		n.raw = raw
	}
	return n, err
}

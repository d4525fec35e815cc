package xmldoc

import (
	"strings"
)

// procInst reads a processing instruction, or at the very start the XML
// declaration.
func (p *parser) procInst() (*Node, error) {
	start := p.at
	p.at += len("<?")
	target, err := p.takeName("the target of a processing instruction")
	if err != nil {
		return nil, err
	}
	nameEnd := p.at
	raw, err := p.until(nameEnd, "?>", "a processing instruction")
	if err != nil {
		return nil, err
	}
	if raw != "" && !isSpace(raw[0]) {
		return nil, p.fail(nameEnd, "a blank is wanted after the target of a processing instruction")
	}
	if strings.EqualFold(target, "xml") {
		if target != "xml" || start != 0 {
			return nil, p.fail(start, "an XML declaration is allowed at the very beginning only")
		}
		if err := p.declaration(nameEnd, raw); err != nil {
			return nil, err
		}
	}
	n, err := p.leaf(ProcInst, raw)
	if err == nil {
		n.name = target
	}
	return n, err
}

// declaration checks version and encoding. Which encoding the bytes are in is
// known from the bytes; the name may be any this package reads, since Windows
// hands out text that was UTF-16 when its declaration was written.
func (p *parser) declaration(start int, raw string) error {
	q := &parser{src: p.src[:start+len(raw)], at: start, lim: p.lim}
	var list []Attr
	for {
		lead := q.spaces()
		if q.at == len(q.src) {
			break
		}
		var err error
		if list, err = q.attribute(list, lead); err != nil {
			return err
		}
	}
	if len(list) == 0 || list[0].name != "version" || !isVersion(list[0].raw) {
		return p.fail(start, "the XML declaration has no version 1.x")
	}
	for i := range list[1:] {
		switch a := &list[1+i]; {
		case a.name == "standalone" && (a.raw == "yes" || a.raw == "no"):
		case a.name == "encoding" && knownEncoding(a.raw):
		case a.name == "encoding":
			return p.fail(start, "encoding %.40q; only UTF-8 and UTF-16 can be read", a.raw)
		default:
			return p.fail(start, "%.40s=%.40q has no place in the XML declaration", a.name, a.raw)
		}
	}
	return nil
}

// isVersion is production [26]: "1." and digits.
func isVersion(s string) bool {
	digits, ok := strings.CutPrefix(s, "1.")
	return ok && digits != "" && strings.Trim(digits, "0123456789") == ""
}

func knownEncoding(name string) bool {
	switch strings.ToLower(name) {
	case "utf-8", "utf8", "us-ascii", "ascii", "utf-16", "utf-16le", "utf-16be", "unicode":
		return true
	}
	return false
}

// doctype keeps a document type declaration that only names something. One with
// an internal subset could define entities and is refused.
func (p *parser) doctype(open *Node) (*Node, error) {
	start := p.at
	const begin = "<!DOCTYPE"
	if !strings.HasPrefix(p.src[start:], begin) {
		return nil, p.fail(start, "%.12q is no comment, CDATA section or document type", p.src[start:])
	}
	if open != nil || p.doc.root != nil || p.doc.hasDoctype {
		return nil, p.fail(start, "a document type is allowed once, before the root element")
	}
	p.doc.hasDoctype = true
	i := start + len(begin)
	quote := byte(0)
	for ; i < len(p.src); i++ {
		switch c := p.src[i]; {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote = c
		case c == '[' || c == '<':
			return nil, p.fail(i, "a document type with declarations of its own is not read")
		case c == '>':
			raw := p.src[start+len(begin) : i]
			if raw == "" || !isSpace(raw[0]) || strings.TrimSpace(raw) == "" {
				return nil, p.fail(start, "the document type has no name")
			}
			p.at = i + 1
			return p.leaf(Doctype, raw)
		}
	}
	return nil, p.fail(start, "the document type is not closed")
}

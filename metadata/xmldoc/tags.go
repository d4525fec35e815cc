package xmldoc

import (
	"strings"
	"unicode/utf8"
)

// takeName reads a name (production [5]) with at most one colon inside it.
func (p *parser) takeName(what string) (string, error) {
	start := p.at
	for p.at < len(p.src) {
		r, n := utf8.DecodeRuneInString(p.src[p.at:])
		if p.at == start && !isNameStart(r) || !isNameChar(r) {
			break
		}
		p.at += n
	}
	name := p.src[start:p.at]
	if name == "" {
		return "", p.fail(start, "%s is wanted here", what)
	}
	if i := strings.IndexByte(name, ':'); i >= 0 {
		local := name[i+1:]
		first, _ := utf8.DecodeRuneInString(local)
		if i == 0 || local == "" || strings.Contains(local, ":") || !isNameStart(first) {
			return "", p.fail(start, "name %.60q has its colon in a wrong place", name)
		}
	}
	return name, nil
}

func (p *parser) spaces() string {
	start := p.at
	for p.at < len(p.src) && isSpace(p.src[p.at]) {
		p.at++
	}
	return p.src[start:p.at]
}

func (p *parser) startTag(open *Node) (*Node, error) {
	n, err := p.node(Element)
	if err != nil {
		return nil, err
	}
	start := p.at
	p.at++
	if n.name, err = p.takeName("a name after <"); err != nil {
		return nil, err
	}
	var attrs [8]Attr
	list := attrs[:0]
	for {
		lead := p.spaces()
		if p.at == len(p.src) {
			return nil, p.fail(start, "the tag of element %.60s is not closed", n.name)
		}
		if p.src[p.at] == '>' || strings.HasPrefix(p.src[p.at:], "/>") {
			n.raw = lead
			break
		}
		if lead == "" {
			return nil, p.fail(p.at, "a blank, > or /> is wanted in the tag of element %.60s", n.name)
		}
		if list, err = p.attribute(list, lead); err != nil {
			return nil, err
		}
	}
	n.attrs = p.keep(list)
	if p.src[p.at] == '/' {
		n.empty = true
		p.at++
	}
	p.at++
	return n, p.namespaces(n, start)
}

// attribute reads one attribute and adds it to those of its element.
func (p *parser) attribute(list []Attr, lead string) ([]Attr, error) {
	start := p.at
	name, err := p.takeName("an attribute's name")
	if err != nil {
		return nil, err
	}
	for i := range list {
		if list[i].name == name {
			return nil, p.fail(start, "attribute %.60s stands twice in one element", name)
		}
	}
	if p.attrs++; len(list) == p.lim.attrs || p.attrs > p.lim.allAttrs {
		return nil, p.fail(start, "more than %d attributes in an element, or %d in the document", p.lim.attrs, p.lim.allAttrs)
	}
	between := p.at
	p.spaces()
	if p.at == len(p.src) || p.src[p.at] != '=' {
		return nil, p.fail(p.at, "an equals sign is wanted after attribute %.60s", name)
	}
	p.at++
	p.spaces()
	if p.at == len(p.src) || p.src[p.at] != '"' && p.src[p.at] != '\'' {
		return nil, p.fail(p.at, "a quotation mark is wanted for the value of attribute %.60s", name)
	}
	a := Attr{name: name, lead: lead, equal: p.src[between:p.at], quote: p.src[p.at]}
	value := p.at + 1
	end := strings.IndexByte(p.src[value:], a.quote)
	if end < 0 {
		return nil, p.fail(p.at, "the value of attribute %.60s is not closed", name)
	}
	a.raw = p.src[value : value+end]
	if i := strings.IndexByte(a.raw, '<'); i >= 0 {
		return nil, p.fail(value+i, "< in the value of attribute %.60s", name)
	}
	if err := p.references(value, a.raw); err != nil {
		return nil, err
	}
	p.at = value + end + 1
	return append(list, a), nil
}

// keep copies attributes into a slab.
func (p *parser) keep(list []Attr) []Attr {
	if len(list) == 0 {
		return nil
	}
	if len(p.pairs) < len(list) {
		p.pairs = make([]Attr, max(len(list), min(max(16, p.attrs), 1024)))
	}
	kept := p.pairs[:len(list):len(list)]
	p.pairs = p.pairs[len(list):]
	copy(kept, list)
	return kept
}

// namespaces enters the element's declarations and resolves its own name and
// those of its attributes.
func (p *parser) namespaces(n *Node, start int) error {
	before := len(p.names)
	prefixed := false
	for i := range n.attrs {
		a := &n.attrs[i]
		prefix, local := splitName(a.name)
		switch {
		case a.name == "xmlns":
			p.names = append(p.names, binding{"", a.Value()})
		case prefix == "xmlns":
			if a.Value() == "" {
				return p.fail(start, "prefix %.60s is bound to no namespace", local)
			}
			p.names = append(p.names, binding{local, a.Value()})
		case prefix != "":
			prefixed = true
		}
	}
	if len(p.names) > maxNamespaces {
		return p.fail(start, "more than %d namespace declarations in force", maxNamespaces)
	}
	prefix, _ := splitName(n.name)
	space, ok := p.lookup(prefix)
	if !ok {
		return p.fail(start, "prefix %.60s of element %.60s is not declared", prefix, n.name)
	}
	n.space = space
	if prefixed {
		if err := p.prefixedAttrs(n, start); err != nil {
			return err
		}
	}
	if n.empty {
		p.names = p.names[:before]
	} else {
		p.marks = append(p.marks, before)
	}
	return nil
}

// prefixedAttrs refuses undeclared prefixes and two names for one attribute.
func (p *parser) prefixedAttrs(n *Node, start int) error {
	seen := make(map[binding]bool)
	for i := range n.attrs {
		prefix, local := splitName(n.attrs[i].name)
		if prefix == "" || prefix == "xmlns" {
			continue
		}
		space, ok := p.lookup(prefix)
		if !ok {
			return p.fail(start, "prefix %.60s of attribute %.60s is not declared", prefix, n.attrs[i].name)
		}
		key := binding{space, local}
		if seen[key] {
			return p.fail(start, "attribute %.60s stands twice in one element under two prefixes", n.attrs[i].name)
		}
		seen[key] = true
	}
	return nil
}

func (p *parser) lookup(prefix string) (space string, ok bool) {
	if prefix == "xml" {
		return "http://www.w3.org/XML/1998/namespace", true
	}
	for i := len(p.names) - 1; i >= 0; i-- {
		if p.names[i].prefix == prefix {
			return p.names[i].space, true
		}
	}
	return "", prefix == ""
}

func (p *parser) endTag(open *Node) error {
	start := p.at
	p.at += len("</")
	name, err := p.takeName("a name after </")
	if err != nil {
		return err
	}
	if open == nil {
		return p.fail(start, "an end tag of %.60s, and no element is open", name)
	}
	if name != open.name {
		return p.fail(start, "an end tag of %.60s, but %.60s is open, begun at %s", name, open.name, p.where(open))
	}
	open.endRaw = p.spaces()
	if p.at == len(p.src) || p.src[p.at] != '>' {
		return p.fail(p.at, "> is wanted after the end tag of %.60s", name)
	}
	p.at++
	p.names = p.names[:p.marks[len(p.marks)-1]]
	p.marks = p.marks[:len(p.marks)-1]
	return nil
}

// Package canon reads XML by other means than package xmldoc, so that tests can
// hold one against the other: encoding/xml for the grammar, and the attribute
// normalisation of XML 1.0 §3.3.3, which encoding/xml lacks, done to the text
// beforehand.
package canon

import (
	"bytes"
	"encoding/binary"
	"encoding/xml"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf16"
)

// Form gives what a conforming reader reports of a document, one event a line:
// equal forms are equivalent documents. Attributes are sorted, as their order
// means nothing; white space between elements is kept.
func Form(data []byte) (string, error) {
	d := xml.NewDecoder(strings.NewReader(normalizeAttributes(toUTF8(data))))
	d.CharsetReader = func(_ string, r io.Reader) (io.Reader, error) { return r, nil }
	var out strings.Builder
	text := ""
	flush := func() {
		if text != "" {
			fmt.Fprintf(&out, "text %q\n", text)
			text = ""
		}
	}
	for {
		token, err := d.Token()
		if err == io.EOF {
			flush()
			return out.String(), nil
		}
		if err != nil {
			return "", err
		}
		if chars, ok := token.(xml.CharData); ok {
			text += string(chars) // text and CDATA sections side by side are one text
			continue
		}
		flush()
		switch t := token.(type) {
		case xml.StartElement:
			fmt.Fprintf(&out, "start %q %q\n", t.Name.Space, t.Name.Local)
			var attrs []string
			for _, a := range t.Attr {
				attrs = append(attrs, fmt.Sprintf("attr %q %q = %q\n", a.Name.Space, a.Name.Local, a.Value))
			}
			slices.Sort(attrs)
			out.WriteString(strings.Join(attrs, ""))
		case xml.EndElement:
			fmt.Fprintf(&out, "end %q\n", t.Name.Local)
		case xml.Comment:
			fmt.Fprintf(&out, "comment %q\n", lineEnds(string(t)))
		case xml.ProcInst:
			if t.Target != "xml" { // the declaration is about the encoding only
				fmt.Fprintf(&out, "instruction %q %q\n", t.Target, lineEnds(string(t.Inst)))
			}
		case xml.Directive:
			fmt.Fprintf(&out, "directive %q\n", lineEnds(string(t)))
		}
	}
}

func lineEnds(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\r", "\n")
}

// toUTF8 knows UTF-16 by its mark or by a zero in the first two bytes.
func toUTF8(data []byte) string {
	var order binary.ByteOrder
	switch {
	case bytes.HasPrefix(data, []byte{0xFF, 0xFE}):
		order, data = binary.LittleEndian, data[2:]
	case bytes.HasPrefix(data, []byte{0xFE, 0xFF}):
		order, data = binary.BigEndian, data[2:]
	case len(data) > 1 && data[1] == 0:
		order = binary.LittleEndian
	case len(data) > 1 && data[0] == 0:
		order = binary.BigEndian
	default:
		return strings.TrimPrefix(string(data), "\uFEFF")
	}
	units := make([]uint16, 0, len(data)/2)
	for i := 0; i+1 < len(data); i += 2 {
		units = append(units, order.Uint16(data[i:]))
	}
	return string(utf16.Decode(units))
}

// normalizeAttributes makes a space of each raw line break or tab that stands
// inside a quoted attribute value, and leaves all else alone.
func normalizeAttributes(src string) string {
	src = lineEnds(src)
	var out strings.Builder
	for len(src) > 0 {
		n := 1
		switch {
		case strings.HasPrefix(src, "<!--"):
			n = through(src, "-->")
		case strings.HasPrefix(src, "<![CDATA["):
			n = through(src, "]]>")
		case strings.HasPrefix(src, "<?"):
			n = through(src, "?>")
		case strings.HasPrefix(src, "<!"):
			n = through(src, ">")
		case src[0] == '<':
			tag, length := normalizeTag(src)
			out.WriteString(tag)
			src = src[length:]
			continue
		}
		out.WriteString(src[:n])
		src = src[n:]
	}
	return out.String()
}

func through(s, end string) int {
	if i := strings.Index(s, end); i >= 0 {
		return i + len(end)
	}
	return len(s)
}

func normalizeTag(s string) (tag string, length int) {
	b := []byte{}
	quote := byte(0)
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case quote != 0 && (c == '\n' || c == '\t'):
			c = ' '
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		case quote == 0 && c == '>':
			return string(append(b, c)), i + 1
		}
		b = append(b, c)
	}
	return string(b), len(s)
}

package xmldoc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/sombra-backup/sombra/metadata/internal/canon"
	"github.com/sombra-backup/sombra/vss"
)

// utf16Bytes encodes s, with a byte order mark if asked.
func utf16Bytes(s string, order binary.AppendByteOrder, mark bool) []byte {
	var b []byte
	if mark {
		b = order.AppendUint16(b, 0xFEFF)
	}
	for _, u := range utf16.Encode([]rune(s)) {
		b = order.AppendUint16(b, u)
	}
	return b
}

func mustParse(t *testing.T, src string) *Document {
	t.Helper()
	d, err := Parse([]byte(src))
	if err != nil {
		t.Fatalf("%.200q: %v", src, err)
	}
	return d
}

// keepers are documents that must come back byte for byte, also from the tree.
var keepers = []string{
	`<a/>`,
	`<a />`,
	`<a></a>`,
	"<a\n\tb = 'x'\tc\r\n=\r\n\"y\" ></a >",
	"<?xml version=\"1.0\" encoding=\"utf-8\" standalone='yes'?>\r\n<!DOCTYPE a SYSTEM \"x>y\">\n<!-- before --><a/><?after it?>\n<!---->",
	"<a>text &amp; more <![CDATA[<raw> & ]] >]]>&#x41;&#66;<b x=\"raw\r\nbreak&#10;reference\"/>\r\n</a>\n",
	`<a xmlns="u" xmlns:p="v" p:q="1" q="2"><p:b p:c='"'/><c xmlns=""/></a>`,
	"<é·ü ä=\"ö\U0001F600\"/>",
	`<a x="&lt;&gt;&quot;&apos;&#x10FFFF;" y='>'/>`,
	"<a>\r\n\t<b/>\r\n\t<!-- c -->\r\n</a>",
}

func TestUntouchedDocumentsComeBackByteForByte(t *testing.T) {
	for _, src := range keepers {
		d := mustParse(t, src)
		if d.Changed() {
			t.Errorf("%q: changed by reading", src)
		}
		if got := string(d.Bytes()); got != src {
			t.Errorf("kept:  %q\nwas:   %q", got, src)
		}
		if got := string(d.Marshal()); got != src {
			t.Errorf("wrote: %q\nwas:   %q", got, src)
		}
		if got := string(d.Clone().Marshal()); got != src {
			t.Errorf("clone: %q\nwas:   %q", got, src)
		}
	}
}

func TestEveryEncodingGivesTheSameDocument(t *testing.T) {
	const src = "<a b='é\U0001F600'>ü</a>"
	want, err := canon.Form([]byte(src))
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"UTF-8":                    []byte(src),
		"UTF-8 with mark":          []byte("\uFEFF" + src),
		"UTF-16LE":                 utf16Bytes(src, binary.LittleEndian, false),
		"UTF-16LE with mark":       utf16Bytes(src, binary.LittleEndian, true),
		"UTF-16BE":                 utf16Bytes(src, binary.BigEndian, false),
		"UTF-16BE with mark":       utf16Bytes(src, binary.BigEndian, true),
		"UTF-16LE and declaration": utf16Bytes(`<?xml version="1.0" encoding='UTF-16'?>`+src, binary.LittleEndian, true),
		"UTF-8 said to be UTF-16":  []byte(`<?xml version="1.0" encoding='UTF-16'?>` + src), // text a Windows call handed out
	} {
		d, err := Parse(data)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !bytes.Equal(d.Bytes(), data) {
			t.Errorf("%s: an untouched document has other bytes", name)
		}
		written := d.Marshal()
		if got, err := canon.Form(written); err != nil || got != want {
			t.Errorf("%s: written as %q, which reads as\n%s%v", name, written, got, err)
		}
		if bytes.Contains(written, []byte("UTF-16")) {
			t.Errorf("%s: UTF-8 that says it is UTF-16: %q", name, written)
		}
	}
}

func TestXML_3_3_3_AttributeValuesAreNormalized(t *testing.T) {
	for raw, want := range map[string]string{
		"a\nb":                           "a b",
		"a\r\nb":                         "a b", // §2.11: one line break
		"a\n\rb":                         "a  b",
		"a\rb\tc":                        "a b c",
		"a&#10;b&#xD;&#x9;c":             "a\nb\r\tc",
		"a&#13;\nb":                      "a\r b",
		"&lt;&amp;&gt;&quot;&apos;":      `<&>"'`,
		"&#38;#38;":                      "&#38;", // resolved once
		"  two  blanks  ":                "  two  blanks  ",
		"&#x1F600;é":                     "\U0001F600é",
		"":                               "",
		"c:\\x\r\nCritical volumes.\r\n": "c:\\x Critical volumes. ",
	} {
		d := mustParse(t, `<a v="`+raw+`"/>`)
		if got, ok := d.Root().Attr("v"); !ok || got != want {
			t.Errorf("%q is %q, want %q", raw, got, want)
		}
	}
}

func TestTextIsResolved(t *testing.T) {
	d := mustParse(t, "<a>x &lt;\r\n<![CDATA[&lt;\r\n]]><!-- c --><b>no</b>&#13;</a>")
	if got := d.Root().Text(); got != "x <\n&lt;\n\r" {
		t.Errorf("text %q", got)
	}
}

func TestSetValuesReadBackExactly(t *testing.T) {
	values := []string{"", "plain", "a\nb\rc\td\r\n", `<&>"'`, "  x  ", "é\U0001F600\u0085\u2028\uFFFD", "]]>", "&amp;", "%x"}
	for _, src := range []string{`<a/>`, `<a v="old"/>`, `<a v='old'/>`, `<a v = 'o"ld' w="x"/>`} {
		for _, want := range values {
			d := mustParse(t, src)
			if err := d.Root().SetAttr("v", want); err != nil {
				t.Fatal(err)
			}
			again := mustParse(t, string(d.Bytes()))
			if got, _ := again.Root().Attr("v"); got != want {
				t.Errorf("%q with %q set is %s, which reads %q", src, want, d.Bytes(), got)
			}
			if w, had := d.Root().Attr("w"); had && w != "x" {
				t.Errorf("another attribute became %q", w)
			}
		}
	}
	d := mustParse(t, `<a/>`)
	for _, bad := range []string{"\x00", "a\x1fb", "\uFFFE", "\xff", "\xed\xa0\x80"} {
		if IsText(bad) {
			t.Errorf("IsText(%q)", bad)
		}
		if err := d.Root().SetAttr("v", bad); !errors.Is(err, vss.ErrInvalidArgument) {
			t.Errorf("%q is taken: %v", bad, err)
		}
	}
	if d.Changed() {
		t.Error("a refused value changed the document")
	}
}

func TestSettingTheSameValueChangesNothing(t *testing.T) {
	const src = "<a v='x&#65;\n'/>"
	d := mustParse(t, src)
	if err := d.Root().SetAttr("v", "xA "); err != nil || d.Changed() {
		t.Errorf("changed: %v, %v", d.Changed(), err)
	}
	d.Root().RemoveAttr("w")
	if d.Changed() || string(d.Bytes()) != src {
		t.Error("taking away what is not there changed the document")
	}
}

func TestWhatIsNotTouchedSurvivesAChange(t *testing.T) {
	const src = "<?xml version=\"1.0\"?>\r\n<a  x = 'raw\r\nbreak' unknown='1'>\r\n\t<u:other xmlns:u='n' u:q='&#x41;'/>\r\n\t<!-- note -->\r\n\t<b/>\r\n</a>\r\n"
	d := mustParse(t, src)
	n := d.Root().Append("c")
	if err := n.SetAttr("v", "1"); err != nil {
		t.Fatal(err)
	}
	if err := d.Root().SetAttr("unknown", "2"); err != nil {
		t.Fatal(err)
	}
	want := strings.Replace(src, "\r\n</a>", "\r\n\t<c v=\"1\"/>\r\n</a>", 1)
	want = strings.Replace(want, "unknown='1'", "unknown='2'", 1)
	if got := string(d.Bytes()); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	d.Root().Remove(n)
	if err := d.Root().SetAttr("unknown", "1"); err != nil || string(d.Bytes()) != src {
		t.Errorf("undone it is %q, %v", d.Bytes(), err)
	}
}

func TestAddedElementsAreInTheParentsNamespace(t *testing.T) {
	d := mustParse(t, `<p:a xmlns:p="u" xmlns="v"/>`)
	d.Root().Append("b").Append("c")
	again := mustParse(t, string(d.Bytes()))
	b := again.Root().Children()[0]
	if b.Space() != "u" || b.Local() != "b" || b.Children()[0].Space() != "u" || b.Parent() != again.Root() {
		t.Errorf("%s", d.Bytes())
	}
	n := New("a", "x&y")
	n.Root().Append("b")
	if got := string(n.Bytes()); got != `<a xmlns="x&amp;y"><b/></a>` {
		t.Errorf("new document: %s", got)
	}
}

func TestExtractKeepsAncestorsAlone(t *testing.T) {
	d := mustParse(t, `<a xmlns:q="n" k="1"><!-- x --><b id="1"><q:c/>text</b><b id="2"/></a>`)
	part := d.Root().Children()[1].Extract()
	if got := string(part.Bytes()); got != `<a xmlns:q="n" k="1"><b id="1"><q:c/>text</b></a>` {
		t.Errorf("part: %s", got)
	}
	if d.Changed() {
		t.Error("extracting changed the document")
	}
}

func TestEqualLooksAtMeaning(t *testing.T) {
	a := mustParse(t, "<a x='1' y='&#65;'>\n <b/>\n</a>")
	for src, want := range map[string]bool{
		`<a y="A" x="1"><b></b></a>`:     true,
		`<a y="A" x="1"/>`:               false,
		`<a y="A" x="2"><b/></a>`:        false,
		`<a y="A" x="1" z=""><b/></a>`:   false,
		`<a y="A" z="1"><b/></a>`:        false,
		`<a y="A" x="1"><c/></a>`:        false,
		`<a y="A" x="1"><b/>t</a>`:       false,
		`<a y="A" x="1"><b/><!----></a>`: false,
	} {
		if got := a.Root().Equal(mustParse(t, src).Root()); got != want {
			t.Errorf("%s: %v", src, got)
		}
	}
}

func TestBrokenDocumentsAreNamedByLineAndColumn(t *testing.T) {
	for src, where := range map[string]string{
		"":                                  "1:1",
		"\n\n  ":                            "3:3",
		"x":                                 "1:1",
		"<a>":                               "1:4",
		"<a>\r\n</b>":                       "2:1",
		"<a>\r</b>":                         "2:1",
		"<a><b>\n\n é</a>":                  "3:3",
		"<a/><b/>":                          "1:5",
		"<a/>text":                          "1:5",
		"<a b='1' b='2'/>":                  "1:10",
		"<a b='1'c='2'/>":                   "1:9",
		"<a b/>":                            "1:5",
		"<a b=1/>":                          "1:6",
		"<a b='1/>":                         "1:6",
		"<a b='<'/>":                        "1:7",
		"<a b='&x;'/>":                      "1:7",
		"<a>&nbsp;</a>":                     "1:4",
		"<a>& </a>":                         "1:4",
		"<a>&#0;</a>":                       "1:4",
		"<a>&#xFFFFFFFFFF;</a>":             "1:4",
		"<a>&#;</a>":                        "1:4",
		"<a>&#x;</a>":                       "1:4",
		"<a>&#12":                           "1:4",
		"<a>]]></a>":                        "1:4",
		"<a><!-- -- --></a>":                "1:9",
		"<a><!-- --->":                      "1:9",
		"<a><!-- ":                          "1:4",
		"<a><![CDATA[":                      "1:4",
		"<![CDATA[x]]><a/>":                 "1:1",
		"<a><?":                             "1:6",
		"<a><?p":                            "1:7",
		"<a><?p!?></a>":                     "1:7",
		" <?xml version='1.0'?><a/>":        "1:2",
		"<?xml version='1.0'?><?XML ?><a/>": "1:22",
		"<?xml encoding='utf-8'?><a/>":      "1:6",
		"<?xml version='1.encoding'?><a/>":  "1:6",
		"<?xml version='1.0' encoding='windows-1252'?><a/>": "1:6",
		"<?xml version='1.0' more='x'?><a/>":                "1:6",
		"<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>":          "1:13",
		"<!DOCTYPE a><!DOCTYPE a><a/>":                      "1:13",
		"<!DOCTYPE><a/>":                                    "1:1",
		"<!DOCTYPE a":                                       "1:1",
		"<a><!DOCTYPE a></a>":                               "1:4",
		"<a><!ELEMENT b></a>":                               "1:4",
		"<1/>":                                              "1:2",
		"< a/>":                                             "1:2",
		"<a><</a>":                                          "1:5",
		"<a":                                                "1:1",
		"</a>":                                              "1:1",
		"<a></a b='1'>":                                     "1:8",
		"<a></a":                                            "1:7",
		"<p:a/>":                                            "1:1",
		"<a p:b='1'/>":                                      "1:1",
		"<a xmlns:p=''/>":                                   "1:1",
		"<a xmlns:p='u' xmlns:q='u' p:b='1' q:b='2'/>": "1:1",
		"<:a/>":           "1:2",
		"<a:/>":           "1:2",
		"<a:b:c/>":        "1:2",
		"<a>\n  \x01</a>": "2:3",
		"<a>é\xff</a>":    "1:5",
		"<a>\uFFFE</a>":   "1:4",
	} {
		d, err := Parse([]byte(src))
		var se *SyntaxError
		if d != nil || !errors.As(err, &se) || !errors.Is(err, vss.ErrInvalidXMLDocument) {
			t.Errorf("%q: %v, %v; want a SyntaxError", src, d, err)
			continue
		}
		if got := fmt.Sprintf("%d:%d", se.Line, se.Column); got != where {
			t.Errorf("%q: %v, want at %s", src, err, where)
		}
		if !strings.HasPrefix(err.Error(), fmt.Sprintf("line %d, column %d: ", se.Line, se.Column)) {
			t.Errorf("%q: text %v", src, err)
		}
	}
	for name, data := range map[string][]byte{
		"odd UTF-16":     append(utf16Bytes("<a/>", binary.LittleEndian, true), 0),
		"half surrogate": {0xFF, 0xFE, '<', 0, 0x00, 0xD8, 'a', 0},
		"UTF-32":         {0xFF, 0xFE, 0, 0, '<', 0, 0, 0},
	} {
		if _, err := Parse(data); !errors.Is(err, vss.ErrInvalidXMLDocument) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBoundsAreKept(t *testing.T) {
	small := limits{size: 1000, depth: 3, nodes: 10, attrs: 4, allAttrs: 6}
	for name, c := range map[string]struct{ fits, breaks string }{
		"size":            {"<a>" + strings.Repeat("x", 993) + "</a>", "<a>" + strings.Repeat("x", 994) + "</a>"},
		"depth":           {"<a><a><a/></a></a>", "<a><a><a><a></a></a></a></a>"},
		"nodes":           {"<a>" + strings.Repeat("<b/>", 9) + "</a>", "<a>" + strings.Repeat("<b/>", 10) + "</a>"},
		"texts are nodes": {"<a>x<b/>x<b/>x<b/>x<b/>x</a>", "<a>x<b/>x<b/>x<b/>x<b/>x<b/></a>"},
		"attributes":      {"<a a='' b='' c='' d=''/>", "<a a='' b='' c='' d='' e=''/>"},
		"all attributes":  {"<a a='' b='' c=''><b a='' b='' c=''/></a>", "<a a='' b='' c=''><b a='' b='' c='' d=''/></a>"},
	} {
		if _, err := parse([]byte(c.fits), small); err != nil {
			t.Errorf("%s at the bound: %v", name, err)
		}
		if _, err := parse([]byte(c.breaks), small); !errors.Is(err, vss.ErrInvalidXMLDocument) {
			t.Errorf("%s past the bound: %v", name, err)
		}
	}
	deep := strings.Repeat("<a>", 1<<20)
	if _, err := Parse([]byte(deep)); err == nil || !strings.Contains(err.Error(), "nested") {
		t.Errorf("a million elements deep: %v", err)
	}
	spaces := `<a ` + func() string {
		var b strings.Builder
		for i := range 100 {
			fmt.Fprintf(&b, `xmlns:p%d="u" `, i)
		}
		return b.String()
	}() + `/>`
	if _, err := Parse([]byte(spaces)); !errors.Is(err, vss.ErrInvalidXMLDocument) {
		t.Errorf("a hundred namespaces: %v", err)
	}
}

// TestMemoryIsLinearInTheInput reads the documents that make the most nodes and
// attributes of the fewest bytes.
func TestMemoryIsLinearInTheInput(t *testing.T) {
	for name, unit := range map[string]string{"elements": "<a/>", "comments": "<!---->", "attributes": "<a b=''/>", "references": "&#65;"} {
		src := []byte("<r>" + strings.Repeat(unit, 400_000/len(unit)) + "</r>")
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		d, err := Parse(src)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; used > 100*uint64(len(src)) {
			t.Errorf("%s: %d bytes of input took %d bytes of memory", name, len(src), used)
		}
		runtime.KeepAlive(d)
	}
}

// FuzzParse looks for panics, for documents that do not come back from the
// tree, and for any that encoding/xml understands otherwise.
func FuzzParse(f *testing.F) {
	for _, s := range keepers {
		f.Add([]byte(s))
	}
	f.Add(utf16Bytes("<a b='é'/>", binary.LittleEndian, false))
	f.Add([]byte("<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>"))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := Parse(bytes.Clone(data))
		if err != nil {
			var se *SyntaxError
			if !errors.As(err, &se) || se.Line < 1 || se.Column < 1 {
				t.Fatalf("%q: %v", data, err)
			}
			return
		}
		if !bytes.Equal(d.Bytes(), data) {
			t.Fatalf("%q is kept as %q", data, d.Bytes())
		}
		written := d.Marshal()
		again, err := Parse(written)
		if err != nil || !again.Root().Equal(d.Root()) {
			t.Fatalf("%q is written as %q: %v", data, written, err)
		}
		want, err := canon.Form(data)
		if err != nil {
			return // encoding/xml refuses some of what XML allows
		}
		if got, err := canon.Form(written); err != nil || got != want {
			t.Fatalf("%q reads as\n%s\nwritten as %q it reads as\n%s%v", data, want, written, got, err)
		}
	})
}

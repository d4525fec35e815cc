package mountfs

import (
	"fmt"
	"hash/fnv"
	"strings"
	"time"
)

// maxName is the longest name that Linux takes, in bytes.
const maxName = 255

// fileName makes a file's name of a text of the medium's, a host's or a tag's:
// what cannot stand in one, or would do something to a terminal, is written as
// %XX, and so is "%".
func fileName(text string) string {
	if text == "" {
		return "%"
	}
	var b strings.Builder
	for i := range len(text) {
		c := text[i]
		if c < ' ' || c == 0x7f || c == '/' || c == '%' || (text == "." || text == "..") {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	name := b.String()
	if len(name) <= maxName {
		return name
	}
	h := fnv.New64a()
	h.Write([]byte(text))
	return fmt.Sprintf("%s%%%016x", name[:200], h.Sum64())
}

// timeName is how a record's time is written: sortable, the same in every zone,
// without colons, which shells and rsync take for something else.
func timeName(t time.Time) string { return t.UTC().Format("2006-01-02T15-04-05Z") }

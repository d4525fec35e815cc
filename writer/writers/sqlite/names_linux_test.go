package sqlite

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/sombra-backup/sombra/writer"
)

// TestNamesThatCannotBeServedAreSaid: a database whose name no file specification
// can hold is not passed over in silence, and what is no database is no trouble
// whatever it is called.
func TestNamesThatCannotBeServedAreSaid(t *testing.T) {
	for name, why := range map[string]string{
		"with space.db":         "",
		"50% off.db":            "",
		"ünïcödé.db":            "",
		"'quote\"$(x).db":       "",
		"-rf.db":                "",
		"semi;colon&.db":        "",
		"?mode=memory.db":       "wildcards",
		"a*b.db":                "wildcards",
		`back\slash.db`:         "backslash",
		"%TEMP%/x.db":           "percent signs",
		"new\nline.db":          "not plain text",
		"escape\x1b[2J.db":      "not plain text",
		"\xff\xfe latin.db":     "not plain text",
		"dir\xff/x.db":          "not plain text",
		"#fragment?x=%41%.db":   "wildcards",
		"#fragment%41&x=1.db":   "",
		"file:x.db":             "",
		"a.db?immutable=1;.db3": "wildcards",
	} {
		for _, real := range []bool{true, false} {
			a := newApp(t, "delete")
			path := filepath.Join(a.dir, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(a.path, path); err != nil {
				t.Fatal(err)
			}
			if !real {
				if err := os.WriteFile(path, []byte(big), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			specs, err := Kind{}.Discover(t.Context(), writer.Discovery{Auto: true, Paths: []string{a.dir}})
			if err != nil || len(specs) != 1 {
				t.Errorf("%q: %d specs, %v", name, len(specs), err)
				continue
			}
			if s := specs[0].Name; !utf8.ValidString(s) || strings.ContainsAny(s, "\n\x1b") {
				t.Errorf("%q: the writer is called %q", name, s)
			}
			w, err := Kind{}.New(t.Context(), specs[0])
			switch {
			case !real:
				if !errors.Is(err, writer.ErrNotMine) {
					t.Errorf("%q, which is no database: %v", name, err)
				}
			case why != "":
				if err == nil || errors.Is(err, writer.ErrNotMine) || !strings.Contains(err.Error(), why) {
					t.Errorf("%q: %v; want it refused because of %q", name, err, why)
				}
			case err != nil:
				t.Errorf("%q: %v", name, err)
			default:
				freeze(t, w)
				thaw(t, w)
			}
		}
	}
}

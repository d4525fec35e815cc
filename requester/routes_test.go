package requester

import (
	"testing"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/vss"
)

// A mapping that equals no file set of the component is of a new differenced file
// set that equals it, and of no partial file.
func TestMappingsOfNewFilesR_RES_20(t *testing.T) {
	r := newRoutes(false)
	own := &route{mapping: Mapping{Spec: vss.FileSpec{Path: "/app", Pattern: "*.db"}, Destination: "/alt"}, from: "app", to: "alt", own: true}
	added := &route{mapping: Mapping{Spec: vss.FileSpec{Path: "/more", Pattern: "*"}, Destination: "/alt-more"}, from: "more", to: "alt-more"}
	r.add(own)
	r.add(added)
	entry := func(path, spec, matched string) *repository.Entry {
		e := &repository.Entry{Path: path, Type: repository.Regular, Attrs: map[string]string{AttrSpec: spec}}
		if matched != "" {
			e.Attrs[AttrMatched] = matched
		}
		return e
	}
	for _, tt := range []struct {
		name string
		e    *repository.Entry
		want string // empty: none
	}{
		{"of a file set", entry("app/a.db", specText(own.mapping.Spec), ""), "alt/a.db"},
		{"differenced, of a file set", entry("app/a.db", specText(own.mapping.Spec), "differenced"), "alt/a.db"},
		{"partial, of a file set", entry("app/a.db", specText(own.mapping.Spec), "partial"), "alt/a.db"},
		{"differenced and new, with a mapping", entry("more/x", specText(added.mapping.Spec), "differenced"), "alt-more/x"},
		{"differenced and new, of another specification", entry("more/x", "/more|x", "differenced"), ""},
		{"partial and new", entry("more/x", specText(added.mapping.Spec), "partial"), ""},
		{"not the writer's word", entry("more/x", specText(added.mapping.Spec), ""), ""},
	} {
		to, by, ok := r.of(tt.e)
		if ok != (tt.want != "") || to != tt.want || ok && by == nil {
			t.Errorf("%s: to %q (%v), want %q", tt.name, to, ok, tt.want)
		}
	}
}

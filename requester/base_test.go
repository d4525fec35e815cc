package requester

import (
	"encoding/json"
	"testing"

	"github.com/sombra-backup/sombra/repository"
)

// TestTheBaseIsOfTheSamePaths: trees that are backed up in turn do not take each
// other's place.
func TestTheBaseIsOfTheSamePaths(t *testing.T) {
	var records []*repository.Record
	add := func(host string, paths ...string) {
		r := &repository.Record{}
		r.Host.ID, r.Type = host, paths[0]
		var err error
		if r.Summary, err = json.Marshal(Summary{Paths: paths, Roots: paths}); err != nil {
			t.Fatal(err)
		}
		records = append(records, r)
	}
	add("a", "/home")
	add("a", "/srv", "/var")
	add("a", "/usr/lib")
	add("b", "/srv", "/var")
	add("a", "/homes")
	for _, c := range []struct {
		paths []string
		want  string
	}{
		{[]string{"/home"}, "/home"},
		{[]string{"/var", "/srv"}, "/srv"},
		{[]string{"/home/anna"}, "/home"},
		{[]string{"/usr"}, "/usr/lib"},
		{[]string{"/var/lib", "/opt"}, "/srv"},
		{[]string{"/opt"}, "/homes"},
		{nil, "/homes"},
	} {
		if got := nearest(records, "a", c.paths); got == nil || got.Type != c.want {
			t.Errorf("%q: %+v, want the record of %s", c.paths, got, c.want)
		}
	}
	if got := nearest(records, "c", []string{"/home"}); got != nil {
		t.Errorf("a record of another host is the base: %+v", got)
	}
}

package main

import (
	"testing"

	"github.com/sombra-backup/sombra/requester"
)

// TestServersChosenByNameAreFoundWhereverTheyAre: a writer's name says nothing of
// where its data lies. A component alone may be of any writer, and a path says
// where to look.
func TestServersChosenByNameAreFoundWhereverTheyAre(t *testing.T) {
	for _, c := range []struct {
		name string
		s    requester.Selectors
		want bool
	}{
		{"a writer", requester.Selectors{Writers: []string{"Redis"}}, true},
		{"a writer's component", requester.Selectors{Components: []string{"PostgreSQL:15/main"}}, true},
		{"a component", requester.Selectors{Components: []string{"shop"}}, false},
		{"a file", requester.Selectors{Components: []string{"/srv/a:b.db"}}, false},
		{"a writer left out", requester.Selectors{ExcludeWriters: []string{"Redis"}}, false},
	} {
		if got := namesWriters(c.s); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

package etcd

import (
	"context"
	"slices"
	"testing"

	"github.com/sombra-backup/sombra/internal/dbtest"
	"github.com/sombra-backup/sombra/writer"
)

// TestRunningServersAreFound: below the paths chosen, or wherever they are.
func TestRunningServersAreFound(t *testing.T) {
	a := newApp(t, dbtest.EtcdOptions{})
	name := a.spec(a.found()).Name
	for what, c := range map[string]struct {
		d    writer.Discovery
		want bool
	}{
		"without paths": {writer.Discovery{Auto: true, Running: true}, true},
		"wherever":      {writer.Discovery{Auto: true, Running: true, Paths: []string{t.TempDir()}}, true},
		"elsewhere":     {writer.Discovery{Auto: true, Paths: []string{t.TempDir()}}, false},
		"excluded":      {writer.Discovery{Auto: true, Running: true, Exclude: func(path string) bool { return path == a.Dir }}, false},
		"not to":        {writer.Discovery{Running: true}, false},
	} {
		// Without paths there are others' servers, too.
		specs, err := Kind{}.Discover(context.Background(), c.d)
		if got := slices.ContainsFunc(specs, func(s writer.Spec) bool { return s.Name == name }); err != nil || got != c.want {
			t.Errorf("%s: found %v, want %v; %v", what, got, c.want, err)
		}
	}
}

package postgres

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/sombra-backup/sombra/vss"
)

// TestDirectoriesOfOneRunAreTheClustersWithAllInThem: nothing in them is saved, and the
// directories in them are nobody else's. An empty one of a replication slot that a
// restore puts into a running cluster, of which it restores nothing, keeps the server
// from starting again.
func TestDirectoriesOfOneRunAreTheClustersWithAllInThem(t *testing.T) {
	w := &pgWriter{conf: config{Data: "/srv/pg"}, layout: &layout{data: "/srv/pg", wal: "/srv/pg/pg_wal"}, instance: vss.NewGUID(), system: 1}
	m, err := w.Identify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range emptied {
		all := vss.FileSpec{Path: filepath.Join("/srv/pg", dir), Pattern: "*", Recursive: true}
		claimed := false
		for _, c := range m.Components() {
			for _, s := range c.FileSets {
				claimed = claimed || s.FileSpec == all
			}
		}
		if !claimed || !slices.Contains(m.ExcludeFiles(), all) {
			t.Errorf("%s: all in it is the cluster's: %v; and not saved: %v", dir, claimed, slices.Contains(m.ExcludeFiles(), all))
		}
	}
}

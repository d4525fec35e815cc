package requester_test

import (
	"testing"
	"time"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/repository/store/mem"
	"github.com/sombra-backup/sombra/requester"
)

// TestTreesInTurnWithAWriteOnlyKey: what one tree's backup needs is not lost to
// the other's.
func TestTreesInTurnWithAWriteOnlyKey(t *testing.T) {
	w := newWorld(t)
	st, o := mem.New(), repository.Options{KDF: repository.KDF{Time: 1, Memory: 64, Threads: 1}, TempDir: t.TempDir(), StateDir: t.TempDir()}
	full, err := repository.Create(t.Context(), st, []byte("secret"), o)
	w.must(err)
	defer full.Close()
	_, err = full.AddKey(t.Context(), []byte("agent"), repository.KeyOptions{WriteOnly: true})
	w.must(err)
	w.write("a/one", "one")
	w.write("a/two", "two")
	w.write("b/three", "three")
	time.Sleep(young)
	for round := range 3 {
		for _, tree := range []string{"a", "b"} {
			if w.repo, err = repository.Open(t.Context(), st, []byte("agent"), o); err != nil {
				t.Fatal(err)
			}
			res := w.backup(requester.Request{Paths: []string{w.path(tree)}})
			if want := res.Totals.Files * int64(min(round, 1)); res.Totals.Unchanged != want || res.Outcome != requester.Complete {
				t.Errorf("round %d, tree %s: %d of %d files were taken over, want %d", round, tree, res.Totals.Unchanged, res.Totals.Files, want)
			}
			w.repo.Close()
		}
	}
}

package repository

import (
	"errors"
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/repository/store/mem"
)

// TestHoldsTellsOfWhatIsGone: content of packs that are in the store is held, also
// in a repository just opened and where the index is lost; after a Survey that of
// packs that are gone is not.
func TestHoldsTellsOfWhatIsGone(t *testing.T) {
	st := mem.New()
	r := newTestRepository(t, st)
	b := begin(t, r, nil)
	small, large := addFile(t, b, "small", []byte("small")), addFile(t, b, "large", randomData(20<<20, 1))
	commit(t, b, testInfo())
	check := func(what string, r *Repository, held bool) {
		t.Helper()
		for name, c := range map[string]Content{"small": small, "large": large, "nothing": {}} {
			err := r.Holds(t.Context(), c)
			if want := held || name == "nothing"; want != (err == nil) || !want && !errors.Is(err, ErrDamaged) {
				t.Errorf("%s: %s: %v", what, name, err)
			}
		}
	}
	check("as it was stored", r, true)
	again := reopen(t, st)
	check("just opened", again, true)
	if err := again.Survey(t.Context()); err != nil {
		t.Fatal(err)
	}
	check("after a survey", again, true)
	drop := func(prefix string) {
		for name := range objects(t, st) {
			if strings.HasPrefix(name, prefix) {
				if err := st.Delete(t.Context(), name); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	drop("index/")
	check("without an index", reopen(t, st), true)
	drop("data/")
	if err := again.Survey(t.Context()); err != nil {
		t.Fatal(err)
	}
	check("without packs", again, false)
}

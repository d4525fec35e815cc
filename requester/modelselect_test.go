package requester

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/requester/internal/model"
)

// TestRestoreSelectionAgainstModel compares which members of which sets are
// restored with the model, for random trees and wishes: R-SEL-21 to R-SEL-27.
func TestRestoreSelectionAgainstModel(t *testing.T) {
	r, runs := seeded(t, 100_000)
	refused := 0
	for run := range runs {
		m := model.Writer{Name: "w"}
		var comps []string
		for range 1 + r.IntN(12) {
			full := fmt.Sprint("c", r.IntN(3))
			for range r.IntN(4) {
				full += fmt.Sprint(`\c`, r.IntN(3))
			}
			if slices.ContainsFunc(m.Components, func(c model.Component) bool { return c.Path == full }) {
				continue
			}
			c := model.Component{Path: full, Selectable: r.IntN(2) == 0, SelectableForRestore: r.IntN(2) == 0}
			m.Components = append(m.Components, c)
			flags := map[bool]string{true: "s"}[c.Selectable] + map[bool]string{true: "r"}[c.SelectableForRestore]
			comps = append(comps, full+" "+flags)
		}
		w := wr(t, "w", comps...)
		var asked, wanted []string
		for _, c := range m.Components {
			if r.IntN(3) == 0 {
				asked = append(asked, c.Path)
			}
			if r.IntN(4) == 0 {
				wanted = append(wanted, c.Path)
			}
		}
		wish := Wish{Wanted: map[*Component]string{}}
		for _, full := range asked {
			wish.Wanted[comp(t, w, full)] = "asked"
		}
		s := Select([]*Writer{w}, wish)
		explicit := m.Explicit(asked...)
		if got := strings.Fields(names(s.Explicit)); !slices.Equal(got, explicit) {
			t.Fatalf("run %d, %q asked %q: explicit %q, want %q", run, comps, asked, got, explicit)
		}
		restore := RestoreWish{Wanted: map[*Component]string{}}
		for _, full := range wanted {
			restore.Wanted[comp(t, w, full)] = "named " + full
		}
		want, ok := m.Selected(explicit, wanted)
		got, err := SelectForRestore(s.Explicit, s.Defining, restore)
		if (err == nil) != ok {
			t.Fatalf("run %d, %q explicit %q, wanted %q: %v, want an error %v", run, comps, explicit, wanted, err, !ok)
		}
		if err != nil {
			refused++
			continue
		}
		have := map[string][]string{}
		for _, set := range got.Sets {
			for _, x := range set.Component.Set() {
				if set.Covers(x) {
					have[set.Component.FullPath()] = append(have[set.Component.FullPath()], x.FullPath())
				}
			}
			slices.Sort(have[set.Component.FullPath()])
		}
		if fmt.Sprint(have) != fmt.Sprint(want) {
			t.Fatalf("run %d, %q explicit %q, wanted %q: restores %v, want %v", run, comps, explicit, wanted, have, want)
		}
	}
	t.Logf("%d selections, %d refused", runs, refused)
}

package model

import (
	"slices"
	"strings"

	"github.com/sombra-backup/sombra/vss"
)

// Restore gives what a place that held nothing holds after the component was
// restored from record i, links of its chain one after the other: each writes
// what its record has, and takes away what an earlier one put and it no longer
// lists, unless that is carried.
func (h History) Restore(i int, c ID) map[string]string {
	disk := map[string]string{}
	stays := map[string]bool{}
	for _, link := range h.Chain(i, c) {
		rec := h[link]
		if rec.Parts[c].Type != vss.BackupTypeLog {
			for path := range disk {
				if _, has := rec.Files[path]; !has && !stays[path] {
					delete(disk, path)
				}
			}
		}
		for path, e := range rec.Files {
			if e.Of == c {
				disk[path] = e.onto(disk[path])
				stays[path] = e.Carried
			}
		}
	}
	return disk
}

// RestoreAll gives what a restore of all of a record leaves, without the names of
// directories.
func (h History) RestoreAll(i int) map[string]string {
	out := map[string]string{}
	for path, e := range h[i].Files {
		if e.Of == (ID{}) {
			out[path] = e.onto("")
		}
	}
	for c := range h[i].Parts {
		for path, data := range h.Restore(i, c) {
			out[path] = data
		}
	}
	return out
}

// Selected gives, for the components that were explicit in a backup and those
// somebody wants restored, which members of each set are restored: all of a set
// that is wanted itself (R-SEL-22, R-SEL-23), else the members that were named and
// what lies below them (R-SEL-24, R-SEL-26). ok is false if one is wanted that
// comes with its set alone (R-SEL-27), or was not backed up.
func (w *Writer) Selected(explicit, wanted []string) (sets map[string][]string, ok bool) {
	sets, ok = map[string][]string{}, true
	for _, full := range wanted {
		taken := false
		for _, e := range explicit {
			members := w.Members(e)
			if !slices.Contains(members, full) {
				continue
			}
			taken = true
			switch {
			case slices.Contains(wanted, e):
				sets[e] = members
			case !w.component(full).SelectableForRestore:
				ok = false
			default:
				for _, m := range members {
					if (m == full || strings.HasPrefix(m, full+`\`)) && !slices.Contains(sets[e], m) {
						sets[e] = append(sets[e], m)
					}
				}
			}
		}
		ok = ok && taken
	}
	for _, list := range sets {
		slices.Sort(list)
	}
	return sets, ok
}

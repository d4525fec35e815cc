package model

import "github.com/sombra-backup/sombra/vss"

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

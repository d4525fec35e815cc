package repository

import (
	"strings"
	"testing"
)

// A prune that meets a pack of the wrong length tells, and keeps what the index
// knows of it: check names the pack as before, and repair saves the same chunks.
func TestPruneKeepsTheIndexOfAPackThatWasCutShort(t *testing.T) {
	r, origin, second := smallRepository(t)
	want := readTree(t, second)
	for name, size := range objects(t, origin) {
		if !strings.HasPrefix(name, prefixData) && !strings.HasPrefix(name, prefixMeta) {
			continue
		}
		object, err := readObject(t.Context(), origin, name, size)
		if err != nil {
			t.Fatal(err)
		}
		st := origin.Copy()
		if err := st.Delete(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		if err := st.Put(t.Context(), name, object[:size-1]); err != nil {
			t.Fatal(err)
		}
		pruned := r.on(st)
		defer pruned.decoder.Close()
		for run := range 3 {
			told := false
			if _, err := pruned.Prune(t.Context(), PruneOptions{Grace: -1}, func(p Problem) { told = told || p.Object == name }); err != nil {
				t.Fatalf("%s: prune: %v", name, err)
			}
			if !told {
				t.Errorf("%s: prune %d did not tell that it is damaged", name, run)
			}
			named := false
			_, problems := check(t, r.on(st), CheckOptions{})
			for _, p := range problems {
				named = named || p.Object == name
			}
			if !named {
				t.Errorf("%s: after prune %d check does not name it: %+v", name, run, problems)
			}
		}
		if _, err := r.on(st).Repair(t.Context(), RepairOptions{}, func(p Problem) { t.Errorf("%s: not saved: %+v", name, p) }); err != nil {
			t.Fatal(err)
		}
		rec, err := r.on(st).Record(t.Context(), second.ID.String())
		if err != nil {
			t.Fatal(err)
		}
		got := readTree(t, rec)
		for path, content := range want {
			if got[path] != content {
				t.Errorf("%s: %s does not read back", name, path)
			}
		}
	}
}

// What only superseded index objects know of a pack is not taken for true if the
// pack has another length.
func TestCheckDoesNotTrustASupersededIndexForAPackThatWasCutShort(t *testing.T) {
	r, st, _ := smallRepository(t)
	var cut string
	var indexes []ID
	for name := range objects(t, st) {
		o, ok := parseName(name)
		switch {
		case ok && o.kind == kindDataPack:
			cut = name
		case ok && o.kind == kindIndex:
			indexes = append(indexes, o.id)
		}
	}
	empty := (&indexBatch{packs: []indexPack{}}).encode(r.keys, indexes)
	if err := st.Put(t.Context(), indexName(hashObject(empty)), empty); err != nil {
		t.Fatal(err)
	}
	if _, problems := check(t, r.on(st), CheckOptions{}); len(problems) != 0 {
		t.Fatalf("before: %+v", problems)
	}
	object, err := readObject(t.Context(), st, cut, maxPack)
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Delete(t.Context(), cut); err != nil {
		t.Fatal(err)
	}
	if err := st.Put(t.Context(), cut, object[:len(object)-1]); err != nil {
		t.Fatal(err)
	}
	if _, problems := check(t, r.on(st), CheckOptions{}); len(problems) == 0 {
		t.Errorf("check finds nothing wrong with %s", cut)
	}
}

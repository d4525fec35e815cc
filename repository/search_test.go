package repository

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/repository/store/mem"
)

func TestSearchFindsInEveryRecordAndReadsSharedBlocksOnce(t *testing.T) {
	st := &readsStore{Store: mem.New()}
	r := newTestRepository(t, st)
	entries := map[string]Entry{}
	for i := range 10_000 {
		e := plainEntry(fmt.Sprintf("dir %03d/file %05d", i%100, i), Regular, 0o644)
		e.Group = strings.Repeat("g", 200)
		entries[e.Path] = e
	}
	var rec *Record
	var ids []ID
	for i := range 20 {
		// One file that comes and goes, and one that is always there.
		p := "dir 050/needle"
		delete(entries, p)
		if i%2 == 0 {
			entries[p] = plainEntry(p, Regular, uint32(i))
		}
		rec = commitEntries(t, r, rec, entries)
		ids = append(ids, rec.ID)
	}
	fresh := reopen(t, st)
	calls := 0
	s := Search{Match: func(e *Entry) bool {
		calls++
		return strings.HasSuffix(e.Path, "/needle") || e.Path == "dir 099/file 09999"
	}}
	for i, id := range ids {
		rec, err := fresh.Record(t.Context(), id.String())
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		if err := s.Record(t.Context(), rec, func(e *Entry) error { got = append(got, e.Path); return nil }); err != nil {
			t.Fatal(err)
		}
		want := []string{"dir 050/needle", "dir 099/file 09999"}[i%2:]
		if !slices.Equal(got, want) {
			t.Fatalf("record %d: found %q, want %q", i, got, want)
		}
	}
	// Once all of it, and then two leaves a record at most.
	if most := 10_000 + 20*2*400*4; calls > most {
		t.Errorf("%d entries were looked at, more than %d", calls, most)
	}
	t.Logf("%d entries looked at in 20 tables of 10 000, %d reads", calls, st.reads.Load())
}

func TestSearchPassesOverDamagedBlocksAndSaysSo(t *testing.T) {
	st := mem.New()
	r := newTestRepository(t, st)
	entries := map[string]Entry{}
	for i := range 3000 {
		e := plainEntry(fmt.Sprintf("file %05d", i), Regular, 0o644)
		e.Group = string(randomData(200, uint64(i)))
		entries[e.Path] = e
	}
	rec := commitEntries(t, r, nil, entries)
	// A pack that holds leaves but not the topmost block.
	for name := range objects(t, st) {
		if !strings.HasPrefix(name, prefixMeta) {
			continue
		}
		data, err := readObject(t.Context(), st, name, maxPack)
		if err != nil {
			t.Fatal(err)
		}
		data[len(data)/3] ^= 1
		on := r.on(&changedStore{Store: st, name: name, data: data})
		again, err := on.Record(t.Context(), rec.ID.String())
		if err != nil {
			t.Fatal(err)
		}
		var said []string
		found := 0
		s := Search{
			Match:   func(*Entry) bool { return true },
			Damaged: func(rec *Record, root, path string, err error) error { said = append(said, err.Error()); return nil },
		}
		if err := s.Record(t.Context(), again, func(*Entry) error { found++; return nil }); err != nil {
			t.Fatal(err)
		}
		if len(said) == 0 || !strings.Contains(said[0], name) {
			t.Errorf("%s: said %q", name, said)
		}
		if len(s.without) > 0 {
			t.Errorf("%d blocks pass for looked through", len(s.without))
		}
		strict := Search{Match: s.Match}
		if err := strict.Record(t.Context(), again, func(*Entry) error { return nil }); err == nil {
			t.Errorf("%s: no error", name)
		}
		t.Logf("%d of 3000 entries, %d blocks damaged", found, len(said))
		return
	}
	t.Fatal("no pack of tables")
}

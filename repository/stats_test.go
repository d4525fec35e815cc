package repository

import (
	"fmt"
	"testing"

	"github.com/sombra-backup/sombra/repository/store/mem"
)

func TestStatsCountWhatRecordsUse(t *testing.T) {
	st := mem.New()
	r := newTestRepository(t, st)
	shared, mine, other := randomData(200_000, 1), randomData(80_000, 2), randomData(50_000, 3)
	b := begin(t, r, nil)
	addFile(t, b, "shared", shared)
	addFile(t, b, "again", shared)
	addFile(t, b, "mine", mine)
	first := commit(t, b, testInfo())
	b = begin(t, r, first)
	addFile(t, b, "shared", shared)
	addFile(t, b, "other", other)
	second := commit(t, b, testInfo())
	// A backup without a record: what it stored is unused.
	b = begin(t, r, nil)
	putFile(t, b, randomData(300_000, 4))
	if err := b.Abort(); err != nil {
		t.Fatal(err)
	}
	r = reopen(t, st)
	records, err := r.Records(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s, err := r.ChunkStats(t.Context(), records)
	if err != nil {
		t.Fatal(err)
	}
	if want := int64(330_000); s.Data.Bytes != want {
		t.Errorf("%d bytes of data are used, want %d", s.Data.Bytes, want)
	}
	for i, rec := range records {
		want := int64(80_000)
		if rec.ID == second.ID {
			want = 50_000
		}
		// Blocks of tables are unique, too.
		if u := s.Unique[i]; u.Bytes < want || u.Bytes > want+4000 {
			t.Errorf("record %d has %d bytes of its own, want %d and its table", i, u.Bytes, want)
		}
	}
	if s.Unused.Bytes > 300_000 || s.Missing != 0 {
		t.Errorf("unused %+v, missing %d", s.Unused, s.Missing)
	}
	u, err := r.StoreUsage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	n, bytes := int64(0), int64(0)
	for _, size := range objects(t, st) {
		n++
		bytes += size
	}
	if u.Total != (Usage{n, bytes}) {
		t.Errorf("in all %+v, want %d objects, %d bytes", u.Total, n, bytes)
	}
	// The shares of all chunks are the packs.
	packs := u.Data.Bytes + u.Meta.Bytes
	sum := s.Data.Stored + s.Meta.Stored + s.Unused.Stored + s.Unindexed.Bytes
	if sum > packs || sum < packs-int64(s.Data.Chunks+s.Meta.Chunks+s.Unused.Chunks)-1 {
		t.Errorf("shares of %d bytes, packs of %d", sum, packs)
	}
	one, err := r.ChunkStats(t.Context(), []*Record{first})
	if err != nil {
		t.Fatal(err)
	}
	if one.Data.Bytes != 280_000 || one.Data.Chunks+one.Meta.Chunks != one.Unique[0].Chunks {
		t.Errorf("of one record: %+v", one)
	}
	if none, err := r.ChunkStats(t.Context(), nil); err != nil || none.Data.Chunks != 0 || none.UnusedPacks.Objects == 0 {
		t.Errorf("of no record: %+v, %v", none, err)
	}
}

// TestStatsReadSharedBlocksTwiceAtMost: a hundred records of one tree cost
// hardly more than two.
func TestStatsReadSharedBlocksTwiceAtMost(t *testing.T) {
	st := &readsStore{Store: mem.New()}
	r := newTestRepository(t, st)
	entries := map[string]Entry{}
	for i := range 4000 {
		p := fmt.Sprintf("dir %03d/a file with a name of some length %05d", i%300, i)
		entries[p] = plainEntry(p, Regular, 0o644)
	}
	rec := commitEntries(t, r, nil, entries)
	for range 30 {
		rec = commitEntries(t, r, rec, entries)
	}
	o := testOptions()
	o.CacheBytes = 1 // nothing is kept
	fresh, err := Open(t.Context(), st, testPassword, o)
	if err != nil {
		t.Fatal(err)
	}
	records, err := fresh.Records(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	st.bytes.Store(0)
	if _, err := fresh.ChunkStats(t.Context(), records[:2]); err != nil {
		t.Fatal(err)
	}
	two := st.bytes.Load()
	if fresh, err = Open(t.Context(), st, testPassword, o); err != nil {
		t.Fatal(err)
	}
	if records, err = fresh.Records(t.Context()); err != nil {
		t.Fatal(err)
	}
	st.bytes.Store(0)
	if _, err := fresh.ChunkStats(t.Context(), records); err != nil {
		t.Fatal(err)
	}
	if all := st.bytes.Load(); all > two+two/2 {
		t.Errorf("%d bytes were read for %d records, %d for two", all, len(records), two)
	}
}

func TestStatsSayWhatIsMissing(t *testing.T) {
	st := mem.New()
	r := newTestRepository(t, st)
	b := begin(t, r, nil)
	addFile(t, b, "f", randomData(100_000, 9))
	rec := commit(t, b, testInfo())
	for name := range objects(t, st) {
		if o, _ := parseName(name); o.kind == kindDataPack {
			if err := st.Delete(t.Context(), name); err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	r = reopen(t, st)
	rec, err := r.Record(t.Context(), rec.ID.String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := r.ChunkStats(t.Context(), []*Record{rec})
	if err != nil || s.Missing == 0 {
		t.Errorf("missing %+v, %v", s, err)
	}
}

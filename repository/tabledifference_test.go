package repository

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sombra-backup/sombra/repository/store"
	"github.com/sombra-backup/sombra/repository/store/mem"
)

// readsStore counts what is read of packs.
type readsStore struct {
	store.Store
	reads, bytes atomic.Int64
}

func (s *readsStore) ReadAt(ctx context.Context, name string, p []byte, off int64) (int, error) {
	if strings.HasPrefix(name, prefixMeta) || strings.HasPrefix(name, prefixData) {
		s.reads.Add(1)
		s.bytes.Add(int64(len(p)))
	}
	return s.Store.ReadAt(ctx, name, p, off)
}

// plainEntry is an entry without content.
func plainEntry(path string, typ FileType, mode uint32) Entry {
	e := Entry{Root: "/", Path: path, Type: typ, Mode: mode}
	if typ == Symlink {
		e.LinkTarget = "to"
	}
	return e
}

func commitEntries(t testing.TB, r *Repository, base *Record, entries map[string]Entry) *Record {
	t.Helper()
	b := begin(t, r, base)
	for _, e := range entries {
		if err := b.Add(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	return commit(t, b, testInfo())
}

// compare gives what Compare finds, as lines.
func compare(t testing.TB, before, after *Record) (lines []string) {
	t.Helper()
	for d, err := range before.Table().Compare(t.Context(), after.Table()) {
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case d.Before == nil:
			lines = append(lines, "+ "+d.After.Path)
		case d.After == nil:
			lines = append(lines, "- "+d.Before.Path)
		default:
			if d.Before.Path != d.After.Path {
				t.Errorf("%q is compared with %q", d.Before.Path, d.After.Path)
			}
			lines = append(lines, d.Changes.String()+" "+d.After.Path)
		}
	}
	return lines
}

// expected is the same by looking at everything.
func expected(before, after map[string]Entry) (lines []string) {
	paths := map[string]bool{}
	for p := range before {
		paths[p] = true
	}
	for p := range after {
		paths[p] = true
	}
	sorted := make([]string, 0, len(paths))
	for p := range paths {
		sorted = append(sorted, p)
	}
	slices.SortFunc(sorted, func(a, b string) int { return ComparePaths("/", a, "/", b) })
	for _, p := range sorted {
		a, inA := before[p]
		b, inB := after[p]
		switch {
		case !inA:
			lines = append(lines, "+ "+p)
		case !inB:
			lines = append(lines, "- "+p)
		case a.Changes(&b) != 0:
			lines = append(lines, a.Changes(&b).String()+" "+p)
		}
	}
	return lines
}

func TestComparedTablesGiveEveryDifferenceAndNoOther(t *testing.T) {
	r := newTestRepository(t, mem.New())
	rng := rand.New(rand.NewPCG(3, 4))
	before := map[string]Entry{}
	for i := range 6000 {
		p := fmt.Sprintf("d%02d/some file of a name that fills blocks %04d", i%40, i)
		before[p] = plainEntry(p, Regular, 0o644)
	}
	first := commitEntries(t, r, nil, before)
	if first.table.root.Level == 0 {
		t.Fatal("the table has one block only: nothing can be skipped")
	}
	for round, few := range []int{1, 16, 200, 3000} {
		after := map[string]Entry{}
		for p, e := range before {
			if rng.IntN(6000) < few {
				switch rng.IntN(5) {
				case 0:
					continue
				case 1:
					e.Mode = 0o600
				case 2:
					e.Type, e.LinkTarget = Symlink, "x"
				case 3:
					after[p+"x"] = plainEntry(p+"x", Fifo, 0)
				case 4:
					e.UID, e.Inode = 7, 9
				}
			}
			after[p] = e
		}
		second := commitEntries(t, r, first, after)
		if got, want := compare(t, first, second), expected(before, after); !slices.Equal(got, want) {
			t.Fatalf("round %d: %d differences, want %d:\n%q\n%q", round, len(got), len(want), got[:min(5, len(got))], want[:min(5, len(want))])
		}
		if got, want := compare(t, second, first), expected(after, before); !slices.Equal(got, want) {
			t.Fatalf("round %d: backwards %d differences, want %d", round, len(got), len(want))
		}
	}
	empty := commitEntries(t, r, nil, nil)
	if got := compare(t, first, empty); len(got) != len(before) {
		t.Errorf("%d differences from an empty table, want %d", len(got), len(before))
	}
	if got := compare(t, empty, first); len(got) != len(before) || !strings.HasPrefix(got[0], "+ ") {
		t.Errorf("%d differences to an empty table, want %d", len(got), len(before))
	}
	if got := compare(t, first, first); got != nil {
		t.Errorf("a table differs from itself: %q", got)
	}
}

func TestTablesOfDifferentRepositoriesAreCompared(t *testing.T) {
	entries := map[string]Entry{"a": plainEntry("a", Directory, 0o755), "a/b": plainEntry("a/b", Fifo, 0o600)}
	first := commitEntries(t, newTestRepository(t, mem.New()), nil, entries)
	entries["c"] = plainEntry("c", Socket, 0)
	second := commitEntries(t, newTestRepository(t, mem.New()), nil, entries)
	if got := compare(t, first, second); !slices.Equal(got, []string{"+ c"}) {
		t.Errorf("found %q", got)
	}
}

// TestComparingReadsWhatChangedOnly: three changes in a table of hundreds of
// blocks read a few of them.
func TestComparingReadsWhatChangedOnly(t *testing.T) {
	st := &readsStore{Store: mem.New()}
	r := newTestRepository(t, st)
	entries := map[string]Entry{}
	for i := range 20_000 {
		p := fmt.Sprintf("dir %03d/a file with a name of some length %05d", i%300, i)
		e := plainEntry(p, Regular, 0o644)
		e.User = strings.Repeat("a long name", 20)
		entries[p] = e
	}
	first := commitEntries(t, r, nil, entries)
	for _, i := range []int{17, 9_000, 19_999} {
		p := fmt.Sprintf("dir %03d/a file with a name of some length %05d", i%300, i)
		e := entries[p]
		e.Mode = 0o600
		entries[p] = e
	}
	second := commitEntries(t, r, first, entries)
	blocks := 0
	var count func(ref tableRef, level int, top bool)
	count = func(ref tableRef, level int, top bool) {
		blocks++
		if level > 0 {
			refs, err := first.table.upper(t.Context(), ref, level, top)
			if err != nil {
				t.Fatal(err)
			}
			for _, ref := range refs {
				count(ref, level-1, false)
			}
		}
	}
	root := first.table.root
	count(tableRef{ID: root.ID, Length: root.Length, Entries: root.Entries}, int(root.Level), true)
	if blocks < 60 {
		t.Fatalf("only %d blocks", blocks)
	}
	// As by a program that has just begun: no caches.
	fresh := reopen(t, st)
	a, err := fresh.Record(t.Context(), first.ID.String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := fresh.Record(t.Context(), second.ID.String())
	if err != nil {
		t.Fatal(err)
	}
	st.reads.Store(0)
	if got := compare(t, a, b); len(got) != 3 {
		t.Fatalf("found %q", got)
	}
	// Each change costs a leaf of either table; headers of packs are read too.
	if reads := st.reads.Load(); reads > 30 {
		t.Errorf("%d reads for three changes in %d blocks", reads, blocks)
	} else {
		t.Logf("%d reads for three changes in %d blocks", reads, blocks)
	}
}

func TestContentsAreComparedByTheirBytes(t *testing.T) {
	st := &readsStore{Store: mem.New()}
	r := newTestRepository(t, st)
	b := begin(t, r, nil)
	data := randomData(400_000, 5)
	whole := putFile(t, b, data)
	first := commit(t, b, testInfo())
	b = begin(t, r, first)
	changed := slices.Clone(data)
	copy(changed[200_000:], randomData(5_000, 6))
	ranges, err := b.PutRanges(t.Context(), whole, source(changed), []Range{{200_000, 5_000}})
	if err != nil {
		t.Fatal(err)
	}
	rewritten := putFile(t, b, changed)
	second := commit(t, b, testInfo())
	b = begin(t, r, second)
	back, err := b.PutRanges(t.Context(), rewritten, source(data), []Range{{190_000, 30_000}})
	if err != nil {
		t.Fatal(err)
	}
	longer := putFile(t, b, append(slices.Clone(data), randomData(30_000, 8)...))
	zero, err := b.PutFile(t.Context(), Source{At: bytes.NewReader(make([]byte, 50_000)), Size: 50_000})
	if err != nil {
		t.Fatal(err)
	}
	hole, err := b.PutFile(t.Context(), Source{At: bytes.NewReader(make([]byte, 50_000)), Size: 50_000, Data: []Range{}})
	if err != nil {
		t.Fatal(err)
	}
	commit(t, b, testInfo())
	for _, tt := range []struct {
		name           string
		before, after  Content
		same           bool
		added, removed [2]int64 // least and most
	}{
		{"itself", whole, whole, true, [2]int64{}, [2]int64{}},
		{"changed by ranges", whole, ranges, false, [2]int64{5_000, 5_000}, [2]int64{0, 5_000}},
		{"the same in other pieces", ranges, rewritten, true, [2]int64{}, [2]int64{}},
		{"changed and changed back", whole, back, true, [2]int64{}, [2]int64{}},
		{"longer", whole, longer, false, [2]int64{30_000, 60_000}, [2]int64{0, 30_000}},
		{"shorter", longer, whole, false, [2]int64{0, 30_000}, [2]int64{30_000, 60_000}},
		{"zeros and a hole", zero, hole, true, [2]int64{}, [2]int64{}},
		{"nothing", Content{}, whole, false, [2]int64{400_000, 400_000}, [2]int64{}},
	} {
		d, err := r.CompareContents(t.Context(), tt.before, tt.after)
		if err != nil {
			t.Fatal(err)
		}
		if d.Same != tt.same || d.Added < tt.added[0] || d.Added > tt.added[1] || d.Removed < tt.removed[0] || d.Removed > tt.removed[1] {
			t.Errorf("%s: %+v, want same %v, added %v, removed %v", tt.name, d, tt.same, tt.added, tt.removed)
		}
	}
}

// TestComparingContentsReadsListsNotData: two versions of a large file are told
// apart by their extent lists.
func TestComparingContentsReadsListsNotData(t *testing.T) {
	st := &readsStore{Store: mem.New()}
	r := newTestRepository(t, st)
	data := randomData(8<<20, 15)
	b := begin(t, r, nil)
	before := putFile(t, b, data)
	first := commit(t, b, testInfo())
	if before.top.level == 0 {
		t.Fatal("the extent list has no blocks")
	}
	copy(data[5<<20:], randomData(3000, 16))
	b = begin(t, r, first)
	after, err := b.PutRanges(t.Context(), before, source(data), []Range{{5 << 20, 3000}})
	if err != nil {
		t.Fatal(err)
	}
	commit(t, b, testInfo())
	fresh := reopen(t, st)
	if _, err := fresh.Records(t.Context()); err != nil {
		t.Fatal(err)
	}
	st.bytes.Store(0)
	d, err := fresh.CompareContents(t.Context(), before, after)
	if err != nil || d.Same || d.Added != 3000 {
		t.Fatalf("%+v, %v", d, err)
	}
	if n := st.bytes.Load(); n > int64(len(data)/4) {
		t.Errorf("%d bytes were read to compare files of %d", n, len(data))
	}
}

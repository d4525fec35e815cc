package repository

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/repository/store/mem"
)

// manyEntries makes a tree of entries that fills many blocks, by path.
func manyEntries(c Content) map[string]Entry {
	tree := map[string]Entry{}
	for path, typ := range treeOf(6000) {
		e := Entry{Root: "/", Path: path, Type: typ, UID: uint32(len(path)), User: strings.Repeat("u", 60)}
		if typ == Regular {
			e.Size, e.Content = c.Size(), c
		}
		tree[path] = e
	}
	return tree
}

// keepLeaves adds those entries of the base that the tree still has, and all that
// the base has not.
func keepLeaves(t *testing.T, b *Backup, base *Record, tree map[string]Entry) {
	t.Helper()
	left := maps.Clone(tree)
	for l, err := range base.Table().Leaves(t.Context(), "", "") {
		if err == nil {
			err = l.Decode()
		}
		if err == nil {
			err = b.Look(t.Context(), l)
		}
		if err != nil {
			t.Fatal(err)
		}
		kept := make([]bool, len(l.Lines))
		for i, line := range l.Lines {
			if e, ok := tree[line.Path]; ok && e.UID == line.UID && l.Held(i) {
				kept[i] = true
				delete(left, line.Path)
			}
		}
		if err := b.KeepLeaf(t.Context(), l, kept); err != nil {
			t.Fatal(err)
		}
	}
	addEntries(t, b, left)
}

func addEntries(t *testing.T, b *Backup, tree map[string]Entry) {
	t.Helper()
	for _, e := range tree { // in random order
		if err := b.Add(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
}

func TestATableOfKeptLeavesIsTheOneOfItsEntries(t *testing.T) {
	r := newTestRepository(t, mem.New())
	b := begin(t, r, nil)
	content := putFile(t, b, []byte("content"))
	tree := manyEntries(content)
	addEntries(t, b, tree)
	base := commit(t, b, testInfo())
	paths := slices.SortedFunc(maps.Keys(tree), func(a, b string) int { return ComparePaths("", a, "", b) })
	change := func(path string) { e := tree[path]; e.UID = 4711; tree[path] = e }
	cases := []struct {
		name   string
		change func()
		leaves int // kept whole, at least
	}{
		{"nothing changed", func() {}, 10},
		{"one entry is another", func() { change(paths[3000]) }, 10},
		{"the first and the last are others", func() { change(paths[0]); change(paths[len(paths)-1]) }, 10},
		{"one has gone", func() { delete(tree, "d5/s.2/file 22") }, 10},
		{"some are new, before, between and behind", func() {
			for _, p := range []string{"a", "d16/s.1/file 900", "d5/s.2/new", "z"} {
				tree[p] = Entry{Root: "/", Path: p, Type: Regular}
			}
		}, 10},
		{"a directory has gone", func() {
			maps.DeleteFunc(tree, func(p string, _ Entry) bool { return isBelow(p, "d7") })
		}, 5},
		{"every tenth is another", func() {
			for i := 0; i < len(paths); i += 10 {
				if _, ok := tree[paths[i]]; ok {
					change(paths[i])
				}
			}
		}, 0},
	}
	for _, c := range cases {
		c.change()
		whole := begin(t, r, nil)
		addEntries(t, whole, tree)
		want := commit(t, whole, testInfo())
		b := begin(t, r, base)
		keepLeaves(t, b, base, tree)
		if n := len(b.sorter.leaves); n < c.leaves {
			t.Errorf("%s: %d leaves are kept whole, want %d", c.name, n, c.leaves)
		}
		got := commit(t, b, testInfo())
		if fmt.Sprint(got.Table().root) != fmt.Sprint(want.Table().root) {
			t.Errorf("%s: another table, %d entries, want %d", c.name, got.Table().Len(), want.Table().Len())
		}
		if g, w := got.Totals, want.Totals; g.Entries != w.Entries || g.Files != w.Files || g.Bytes != w.Bytes {
			t.Errorf("%s: totals %+v, want %+v", c.name, g, w)
		}
		if got.Totals.ChunksAdded != 0 {
			t.Errorf("%s: %d blocks are stored again", c.name, got.Totals.ChunksAdded)
		}
		base = got
	}
}

// What is added again, before or after a leaf was kept, counts as it does with
// single entries: the later word.
func TestAnEntryAddedAgainReplacesTheOneInALeaf(t *testing.T) {
	r := newTestRepository(t, mem.New())
	b := begin(t, r, nil)
	tree := manyEntries(putFile(t, b, []byte("content")))
	addEntries(t, b, tree)
	base := commit(t, b, testInfo())
	const before, after = "d3/s.1", "d9/s.4"
	say := func(b *Backup, path string) {
		if err := b.Add(t.Context(), Entry{Root: "/", Path: path, Type: Directory, UID: 4711}); err != nil {
			t.Fatal(err)
		}
	}
	b = begin(t, r, base)
	say(b, before)
	keepLeaves(t, b, base, tree)
	keepLeaves(t, b, base, tree) // the same leaves twice
	say(b, after)
	rec := commit(t, b, testInfo())
	if rec.Table().Len() != int64(len(tree)) {
		t.Errorf("%d entries, want %d", rec.Table().Len(), len(tree))
	}
	for e, err := range rec.Table().All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if want := tree[e.Path].UID; e.UID != want && (e.Path != after || e.UID != 4711) {
			t.Errorf("%q is of user %d", e.Path, e.UID)
		}
	}
	if e, err := rec.Table().Lookup(t.Context(), "/", after); err != nil || e.UID != 4711 {
		t.Errorf("the later word does not count: %v, %v", e, err)
	}
}

// A block of the base that has gone is not referred to: its entries, which were
// read before, are stored again. Content that has gone is not held.
func TestLeavesThatWereLostAreStoredAgain(t *testing.T) {
	st := mem.New()
	r := newTestRepository(t, st)
	b := begin(t, r, nil)
	content := putFile(t, b, []byte("content"))
	tree := manyEntries(content)
	addEntries(t, b, tree)
	base := commit(t, b, testInfo())
	for range base.Table().Leaves(t.Context(), "", "") {
		// from now on they are in memory
	}
	for name := range objects(t, st) {
		if strings.HasPrefix(name, prefixMeta) {
			if err := st.Delete(t.Context(), name); err != nil {
				t.Fatal(err)
			}
		}
	}
	b = begin(t, r, base)
	keepLeaves(t, b, base, tree)
	rec := commit(t, b, testInfo())
	if rec.Totals.ChunksAdded < 10 {
		t.Errorf("%d blocks are stored again", rec.Totals.ChunksAdded)
	}
	rec, err := reopen(t, st).Record(t.Context(), rec.ID.String())
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for e, err := range rec.Table().All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if e.UID == tree[e.Path].UID {
			n++
		}
	}
	if n != len(tree) {
		t.Errorf("%d entries, want %d", n, len(tree))
	}
	for name := range objects(t, st) {
		if strings.HasPrefix(name, prefixData) {
			if err := st.Delete(t.Context(), name); err != nil {
				t.Fatal(err)
			}
		}
	}
	b = begin(t, r, base)
	for l, err := range rec.Table().Leaves(t.Context(), "", "") {
		if err = errors.Join(err, l.Decode(), b.Look(t.Context(), l)); err != nil {
			t.Fatal(err)
		}
		kept := make([]bool, len(l.Lines))
		for i, line := range l.Lines {
			if kept[i] = l.Held(i); kept[i] == (line.Type == Regular) {
				t.Fatalf("%q is held: %v", line.Path, kept[i])
			}
			kept[i] = true
		}
		if err := b.KeepLeaf(t.Context(), l, kept); !errors.Is(err, ErrInvalid) {
			t.Fatalf("entries without their content are kept: %v", err)
		}
	}
}

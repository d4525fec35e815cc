package repository

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/sombra-backup/sombra/repository/store/mem"
)

// fullEntry has every field set.
func fullEntry(content Content) Entry {
	return Entry{
		Root: "/", Path: "dir/\xff\xfename", Type: Regular, Mode: 0o4755, UID: 1, GID: 2, User: "user", Group: "gr\xf6up",
		Size:    content.Size(),
		ModTime: time.Unix(-5, 7).UTC(), AccessTime: time.Unix(0, 0).UTC(), ChangeTime: time.Unix(1<<40, 999999999).UTC(),
		BirthTime: time.Date(1601, 1, 1, 0, 0, 0, 100, time.UTC),
		Device:    1 << 63, Inode: 42, Nlink: 2, HardLink: 9, Rdev: 3, InodeFlags: 0x10,
		Xattrs:            map[string][]byte{"user.a": []byte("1"), "system.posix_acl_access": {2, 0, 0, 0}, "user.\xff": {}},
		WindowsAttributes: 0x20, SecurityDescriptor: []byte{1, 0, 4, 0x80}, ReparseData: []byte{9},
		Streams: []Stream{{"Zone.Identifier", content}, {"empty", Content{}}},
		Content: content,
		Attrs:   map[string]string{"component": "db", "original": "C:\\x\xff"},
	}
}

func TestEveryFieldOfAnEntrySurvives(t *testing.T) {
	st := mem.New()
	r := newTestRepository(t, st)
	b := begin(t, r, nil)
	content := putFile(t, b, randomData(20_000, 1))
	want := fullEntry(content)
	// A test that forgets a new field is no test.
	for v, i := reflect.ValueOf(want), 0; i < v.NumField(); i++ {
		if f := v.Type().Field(i); f.IsExported() && f.Name != "LinkTarget" && v.Field(i).IsZero() {
			t.Errorf("the field %s is not set", f.Name)
		}
	}
	link := Entry{Root: "/", Path: "link", Type: Symlink, LinkTarget: "../\xffwherever"}
	for _, e := range []Entry{link, want} {
		if err := b.Add(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	commit(t, b, testInfo())
	rec, err := reopen(t, st).Record(t.Context(), "latest")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []Entry{link, want} {
		got, err := rec.Table().Lookup(t.Context(), e.Root, e.Path)
		if err != nil {
			t.Fatal(err)
		}
		if !got.Content.Equal(e.Content) || len(got.Streams) != len(e.Streams) || e.Streams != nil && !got.Streams[0].Content.Equal(e.Streams[0].Content) {
			t.Errorf("the content differs")
		}
		g, w := *got, e
		g.Content, w.Content, g.Streams, w.Streams = Content{}, Content{}, nil, nil
		if !reflect.DeepEqual(g, w) {
			t.Errorf("read\n%+v, want\n%+v", g, w)
		}
	}
}

func TestFieldsOfANewerProgramSurvive(t *testing.T) {
	r := newTestRepository(t, mem.New())
	e := Entry{Root: "/", Path: "f", Type: Regular, Mode: 0o600}
	encoded, err := e.encode()
	if err != nil {
		t.Fatal(err)
	}
	value, err := cbor.Marshal(map[string]any{"from": "the future", "n": []int{1, 2, 3}})
	if err != nil {
		t.Fatal(err)
	}
	newer, err := addFields(encoded, map[uint64][]byte{900: value})
	if err != nil {
		t.Fatal(err)
	}
	other, err := (&Entry{Root: "/", Path: "g", Type: Fifo}).encode()
	if err != nil {
		t.Fatal(err)
	}
	rec := hostileRecord(t, r, slices.Concat([]byte{0}, newer, other), 0, 2)
	var got []Entry
	for e, err := range rec.Table().All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e.Clone())
	}
	if len(got) != 2 || got[0].Mode != 0o600 || got[1].Type != Fifo {
		t.Fatalf("read %+v", got)
	}
	// Changed and written again, the entry still has what is not understood.
	got[0].Mode = 0o640
	b := begin(t, r, nil)
	if err := b.Add(t.Context(), got[0]); err != nil {
		t.Fatal(err)
	}
	again, err := commit(t, b, testInfo()).Table().Lookup(t.Context(), "/", "f")
	if err != nil {
		t.Fatal(err)
	}
	if again.Mode != 0o640 || !bytes.Equal(again.extra[900], value) {
		t.Errorf("read again %+v, %x", again, again.extra)
	}
}

func TestPathsAreOrderedAsAWalkGoes(t *testing.T) {
	want := []string{"", "a", "a/b", "a/b/c", "a/c", "a\x01", "a b", "a-b", "a.txt", "a0", "ab", "b"}
	got := slices.Clone(want)
	rand.New(rand.NewPCG(1, 1)).Shuffle(len(got), func(i, j int) { got[i], got[j] = got[j], got[i] })
	slices.SortFunc(got, func(a, b string) int { return ComparePaths("r", a, "r", b) })
	if !slices.Equal(got, want) {
		t.Errorf("order %q, want %q", got, want)
	}
	if ComparePaths("a", "z", "b", "a") >= 0 || ComparePaths("a", "x", "a", "x") != 0 {
		t.Error("the root does not come first")
	}
}

// treeOf makes paths three levels deep, directories among them.
func treeOf(n int) map[string]FileType {
	tree := map[string]FileType{"": Directory}
	for i := range n {
		d, s := fmt.Sprintf("d%d", i%17), fmt.Sprintf("s.%d", i%5)
		tree[d], tree[d+"/"+s] = Directory, Directory
		tree[fmt.Sprintf("%s/%s/file %d", d, s, i)] = Regular
	}
	return tree
}

func TestTheTableIsSortedHoweverEntriesCome(t *testing.T) {
	for _, memory := range []int{sortMemory, 20_000} {
		t.Run(fmt.Sprint(memory, " bytes of memory"), func(t *testing.T) {
			st := mem.New()
			r := newTestRepository(t, st)
			b := begin(t, r, nil)
			b.sorter.memory = memory
			tree := treeOf(3000)
			work := make(chan string)
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					for path := range work {
						if err := b.Add(t.Context(), Entry{Root: "/", Path: path, Type: tree[path], UID: uint32(len(path))}); err != nil {
							t.Error(err)
						}
					}
				})
			}
			for path := range tree { // in random order
				work <- path
			}
			close(work)
			wg.Wait()
			// Said again, the later word counts.
			if err := b.Add(t.Context(), Entry{Root: "/", Path: "d3/s.1", Type: Directory, UID: 4711}); err != nil {
				t.Fatal(err)
			}
			if spilled := len(b.sorter.runs) > 0; spilled != (memory < sortMemory) {
				t.Errorf("%d runs were spilled", len(b.sorter.runs))
			}
			rec := commit(t, b, testInfo())
			want := slices.SortedFunc(maps.Keys(tree), func(a, b string) int { return ComparePaths("", a, "", b) })
			var got []string
			for e, err := range rec.Table().All(t.Context()) {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, e.Path)
				uid := uint32(len(e.Path))
				if e.Path == "d3/s.1" {
					uid = 4711
				}
				if e.Type != tree[e.Path] || e.UID != uid {
					t.Errorf("%q is a %v of user %d", e.Path, e.Type, e.UID)
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("%d entries, want %d, or in another order", len(got), len(want))
			}
			if rec.Table().Len() != int64(len(want)) || rec.Totals.Entries != int64(len(want)) || rec.Totals.Files != 3000 {
				t.Errorf("totals %+v", rec.Totals)
			}
		})
	}
}

func TestSeekingInATable(t *testing.T) {
	ctx := t.Context()
	r := newTestRepository(t, mem.New())
	b := begin(t, r, nil)
	tree := treeOf(8000)
	for path, typ := range tree {
		if err := b.Add(ctx, Entry{Root: "/", Path: path, Type: typ}); err != nil {
			t.Fatal(err)
		}
	}
	for _, root := range []string{"#", "C:"} {
		if err := b.Add(ctx, Entry{Root: root, Path: "only", Type: Fifo}); err != nil {
			t.Fatal(err)
		}
	}
	info := testInfo()
	info.Roots = append(info.Roots, Root{ID: "C:", Path: `C:\`}, Root{ID: "#"})
	table := commit(t, b, info).Table()
	if table.root.Level == 0 {
		t.Fatal("the table is a single block")
	}
	sorted := slices.SortedFunc(maps.Keys(tree), func(a, b string) int { return ComparePaths("", a, "", b) })
	for _, prefix := range []string{"", "d3", "d3/s.3", "d16/s.4", "d0", "nothing", "d3/s", "d3/s.3/file 20", "zzz"} {
		var want, got []string
		for _, path := range sorted {
			if path == prefix || prefix == "" || strings.HasPrefix(path, prefix+"/") {
				want = append(want, path)
			}
		}
		for e, err := range table.Under(ctx, "/", prefix) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, e.Path)
		}
		if !slices.Equal(got, want) {
			t.Errorf("under %q: %d entries, want %d", prefix, len(got), len(want))
		}
	}
	rng := rand.New(rand.NewPCG(5, 5))
	for range 200 {
		path := sorted[rng.IntN(len(sorted))]
		if e, err := table.Lookup(ctx, "/", path); err != nil || e.Path != path || e.Type != tree[path] {
			t.Errorf("lookup %q: %v", path, err)
		}
		if _, err := table.Lookup(ctx, "/", path+"x"); !errors.Is(err, ErrNotFound) {
			t.Errorf("lookup %q: %v", path+"x", err)
		}
		n := 0
		for e, err := range table.From(ctx, "/", path+"\x00") {
			if err != nil {
				t.Fatal(err)
			}
			if ComparePaths(e.Root, e.Path, "/", path+"\x00") < 0 {
				t.Errorf("from %q gave %q", path, e.Path)
			}
			if n++; n == 3 {
				break
			}
		}
	}
	if e, err := table.Lookup(ctx, "C:", "only"); err != nil || e.Root != "C:" {
		t.Errorf("lookup in another root: %v", err)
	}
}

func TestEntriesThatBreakTheRulesAreRefused(t *testing.T) {
	r := newTestRepository(t, mem.New())
	b := begin(t, r, nil)
	c := putFile(t, b, []byte("abc"))
	for name, e := range map[string]Entry{
		"no root":               {Path: "a", Type: Regular},
		"absolute":              {Root: "/", Path: "/a", Type: Regular},
		"dot dot":               {Root: "/", Path: "a/../b", Type: Regular},
		"dot":                   {Root: "/", Path: "./a", Type: Regular},
		"empty component":       {Root: "/", Path: "a//b", Type: Regular},
		"slash at the end":      {Root: "/", Path: "a/", Type: Directory},
		"NUL":                   {Root: "/", Path: "a\x00b", Type: Regular},
		"no type":               {Root: "/", Path: "a"},
		"wrong size":            {Root: "/", Path: "a", Type: Regular, Size: 4, Content: c},
		"directory with data":   {Root: "/", Path: "a", Type: Directory, Size: 3, Content: c},
		"symlink without":       {Root: "/", Path: "a", Type: Symlink},
		"file with link target": {Root: "/", Path: "a", Type: Regular, LinkTarget: "b"},
		"huge mode":             {Root: "/", Path: "a", Type: Regular, Mode: 0o100644},
		"long path":             {Root: "/", Path: strings.Repeat("a", MaxPath+1), Type: Regular},
		"too large":             {Root: "/", Path: "a", Type: Regular, Xattrs: map[string][]byte{"user.x": make([]byte, MaxEntry)}},
		"bad attribute name":    {Root: "/", Path: "a", Type: Regular, Attrs: map[string]string{"\xff": "x"}},
	} {
		if err := b.Add(t.Context(), e); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	foreign := Content{size: 5, top: listNode{refs: []chunkRef{{ID{1}, 5}}, extents: []extent{{5, 1, 0}}}}
	if err := b.Add(t.Context(), Entry{Root: "/", Path: "a", Type: Regular, Size: 5, Content: foreign}); !errors.Is(err, ErrDamaged) {
		t.Errorf("content that is not stored: %v", err)
	}
	for name, entries := range map[string][]Entry{
		"below a file":    {{Root: "/", Path: "a", Type: Regular}, {Root: "/", Path: "a/b", Type: Regular}},
		"below a symlink": {{Root: "/", Path: "a", Type: Symlink, LinkTarget: "x"}, {Root: "/", Path: "a/b/c", Type: Regular}},
		"unlisted root":   {{Root: "other", Path: "a", Type: Regular}},
	} {
		b := begin(t, r, nil)
		for _, e := range entries {
			if err := b.Add(t.Context(), e); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := b.Commit(t.Context(), testInfo()); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if records, err := r.Records(t.Context()); err != nil || len(records) != 0 {
		t.Errorf("%d records, %v", len(records), err)
	}
}

package repository

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/repository/store/mem"
)

// A hostile writer has the keys: what it writes authenticates, and only the
// reader's own rules keep it from doing harm.

// storeBlocks stores blocks as they are and gives their ids.
func storeBlocks(t testing.TB, r *Repository, blocks ...[]byte) (ids []ID) {
	t.Helper()
	b := begin(t, r, nil)
	for _, block := range blocks {
		id, err := b.putChunk(t.Context(), kindMetaPack, block)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	if !b.end() {
		t.Fatal("the backup had ended")
	}
	if err := b.pipe.drain(); err != nil {
		t.Fatal(err)
	}
	return ids
}

// hostileRecord makes a record whose file table is the block.
func hostileRecord(t testing.TB, r *Repository, block []byte, level uint, entries uint64) *Record {
	t.Helper()
	id := storeBlocks(t, r, block)[0]
	root := tableRoot{Level: level, ID: id[:], Length: uint32(len(block)), Entries: entries}
	rec, err := r.commitRecord(t.Context(), testInfo(), root, Totals{Entries: int64(entries)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

// leafOf encodes entries without any check.
func leafOf(entries ...*wireEntry) []byte {
	block := []byte{0}
	for _, e := range entries {
		block = append(block, format.marshal(e)...)
	}
	return block
}

func wireFile(path string) *wireEntry {
	return &wireEntry{Root: []byte("/"), Path: []byte(path), Type: uint8(Regular)}
}

func changedEntry(path string, change func(*wireEntry)) *wireEntry {
	e := wireFile(path)
	change(e)
	return e
}

// refused says that the table must end in an error that names the record, and
// that check must report it.
func refused(t *testing.T, r *Repository, rec *Record) {
	t.Helper()
	var err error
	n := 0
	for _, e := range rec.Table().All(t.Context()) {
		if err = e; err != nil {
			break
		}
		if n++; n > 1000 {
			t.Fatal("it does not end")
		}
	}
	if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), rec.ID.Short()) {
		t.Errorf("read: %v", err)
	}
	problems, cerr := problemsOf(t.Context(), r, CheckOptions{})
	if cerr != nil || !slices.ContainsFunc(problems, func(p Problem) bool { return p.Record == rec.ID }) {
		t.Errorf("check: %v, %v", problems, cerr)
	}
}

func TestHostileFileTablesAreRefused(t *testing.T) {
	huge := []byte{0x9b, 0, 0, 1, 0, 0, 0, 0, 0} // an array of 2^40 elements
	for name, block := range map[string][]byte{
		"absolute":         leafOf(wireFile("/etc/passwd")),
		"dot dot":          leafOf(wireFile("../etc/passwd")),
		"dot dot inside":   leafOf(wireFile("a/../../b")),
		"dot":              leafOf(wireFile("a/./b")),
		"empty component":  leafOf(wireFile("a//b")),
		"slash at the end": leafOf(wireFile("a/")),
		"NUL":              leafOf(wireFile("a\x00")),
		"long path":        leafOf(wireFile(strings.Repeat("a", MaxPath+1))),
		"twice":            leafOf(wireFile("a"), wireFile("a")),
		"unsorted":         leafOf(wireFile("b"), wireFile("a")),
		"below a file":     leafOf(wireFile("a"), wireFile("a/b")),
		"below a symlink":  leafOf(changedEntry("a", func(e *wireEntry) { e.Type, e.LinkTarget = uint8(Symlink), []byte("/etc") }), wireFile("a/passwd")),
		"unlisted root":    leafOf(changedEntry("a", func(e *wireEntry) { e.Root = []byte("other") })),
		"no root":          leafOf(changedEntry("a", func(e *wireEntry) { e.Root = nil })),
		"unknown type":     leafOf(changedEntry("a", func(e *wireEntry) { e.Type = 99 })),
		"huge size":        leafOf(changedEntry("a", func(e *wireEntry) { e.Size = 1 << 63 })),
		"bad mode":         leafOf(changedEntry("a", func(e *wireEntry) { e.Mode = 1 << 20 })),
		"bad time":         leafOf(changedEntry("a", func(e *wireEntry) { e.ModTime = &wireTime{Nsec: 1e9} })),
		"far time":         leafOf(changedEntry("a", func(e *wireEntry) { e.ModTime = &wireTime{Sec: 1 << 62} })),
		"device with data": leafOf(changedEntry("a", func(e *wireEntry) {
			e.Type, e.Content = uint8(CharDevice), &wireContent{Size: 1, Top: wireNode{Extents: []uint64{1, 0, 0}}}
		})),
		"another level":      append([]byte{3}, format.marshal(wireFile("a"))...),
		"empty":              {0},
		"garbage":            {0, 0xff, 0xff, 0xff},
		"huge array":         append([]byte{0}, huge...),
		"deep nesting":       append([]byte{0}, bytes.Repeat([]byte{0x81}, 10000)...),
		"indefinite length":  {0, 0xbf, 0x01, 0x41, '/', 0xff},
		"cut off":            leafOf(wireFile("a"), wireFile("b"))[:20],
		"more than declared": leafOf(wireFile("a"), wireFile("b"), wireFile("c")),
	} {
		t.Run(name, func(t *testing.T) {
			r := newTestRepository(t, mem.New())
			entries := uint64(1)
			if name == "twice" || name == "unsorted" || strings.HasPrefix(name, "below") {
				entries = 2
			}
			refused(t, r, hostileRecord(t, r, block, 0, entries))
		})
	}
}

func TestHostileTreesOfBlocksAreRefused(t *testing.T) {
	ref := func(id ID, path string, length int, entries uint64) []byte {
		return format.marshal(tableRef{Root: []byte("/"), Path: []byte(path), ID: id[:], Length: uint32(length), Entries: entries})
	}
	a, c := leafOf(wireFile("a"), wireFile("b")), leafOf(wireFile("c"))
	below := leafOf(wireFile("b/x"))
	for name, top := range map[string]func(a, c, below ID) []byte{
		"unsorted":        func(ia, ic, _ ID) []byte { return slices.Concat(ref(ic, "c", len(c), 1), ref(ia, "a", len(a), 2)) },
		"the same twice":  func(ia, _, _ ID) []byte { return slices.Concat(ref(ia, "a", len(a), 2), ref(ia, "a", len(a), 2)) },
		"under two names": func(ia, _, _ ID) []byte { return slices.Concat(ref(ia, "a", len(a), 2), ref(ia, "q", len(a), 2)) },
		"overlapping":     func(ia, _, ib ID) []byte { return slices.Concat(ref(ia, "a", len(a), 2), ref(ia, "a/x", len(a), 2)) },
		"wrong first":     func(ia, _, _ ID) []byte { return ref(ia, "A", len(a), 2) },
		"wrong count":     func(ia, _, _ ID) []byte { return ref(ia, "a", len(a), 3) },
		"wrong length":    func(ia, _, _ ID) []byte { return ref(ia, "a", len(a)+1, 2) },
		"huge length":     func(ia, _, _ ID) []byte { return ref(ia, "a", 1<<31, 2) },
		"huge count":      func(ia, _, _ ID) []byte { return ref(ia, "a", len(a), 1<<63) },
		"no such block":   func(_, _, _ ID) []byte { return ref(ID{1, 2, 3}, "a", len(a), 2) },
		"bad place":       func(ia, _, _ ID) []byte { return ref(ia, "../a", len(a), 2) },
		"below a file": func(ia, _, ib ID) []byte {
			return slices.Concat(ref(ia, "a", len(a), 2), ref(ib, "b/x", len(below), 1))
		},
		"empty": func(_, _, _ ID) []byte { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			r := newTestRepository(t, mem.New())
			ids := storeBlocks(t, r, a, c, below)
			refused(t, r, hostileRecord(t, r, append([]byte{1}, top(ids[0], ids[1], ids[2])...), 1, 2))
		})
	}
	t.Run("a leaf called a level", func(t *testing.T) {
		r := newTestRepository(t, mem.New())
		ids := storeBlocks(t, r, a)
		refused(t, r, hostileRecord(t, r, append([]byte{2}, ref(ids[0], "a", len(a), 2)...), 2, 2))
	})
	t.Run("seeking past what it lies below", func(t *testing.T) {
		r := newTestRepository(t, mem.New())
		ids := storeBlocks(t, r, a, below)
		rec := hostileRecord(t, r, slices.Concat([]byte{1}, ref(ids[0], "a", len(a), 2), ref(ids[1], "b/x", len(below), 1)), 1, 3)
		if _, err := rec.Table().Lookup(t.Context(), "/", "b/x"); !errors.Is(err, ErrDamaged) {
			t.Errorf("lookup: %v", err)
		}
	})
}

func TestHostileExtentListsAreRefused(t *testing.T) {
	chunk := randomData(100, 1)
	id := func(t *testing.T, r *Repository) []byte { i := storeBlocks(t, r, chunk)[0]; return i[:] }
	const huge = 1_000_000_000_000
	for name, c := range map[string]func(id []byte) wireContent{
		"extent longer than its chunk": func(id []byte) wireContent {
			return wireContent{huge, wireNode{IDs: id, Lengths: []uint32{100}, Extents: []uint64{huge, 1, 0}}}
		},
		"chunk longer than it is": func(id []byte) wireContent {
			return wireContent{1000, wireNode{IDs: id, Lengths: []uint32{1000}, Extents: []uint64{1000, 1, 0}}}
		},
		"chunk longer than any": func(id []byte) wireContent {
			return wireContent{maxChunk + 1, wireNode{IDs: id, Lengths: []uint32{maxChunk + 1}, Extents: []uint64{maxChunk + 1, 1, 0}}}
		},
		"past the chunk's end": func(id []byte) wireContent {
			return wireContent{50, wireNode{IDs: id, Lengths: []uint32{100}, Extents: []uint64{50, 1, 51}}}
		},
		"offset that overflows": func(id []byte) wireContent {
			return wireContent{50, wireNode{IDs: id, Lengths: []uint32{100}, Extents: []uint64{50, 1, 1<<64 - 50}}}
		},
		"sum that overflows": func(id []byte) wireContent {
			return wireContent{50, wireNode{IDs: id, Lengths: []uint32{100}, Extents: []uint64{1<<64 - 50, 0, 0, 100, 1, 0}}}
		},
		"no such chunk in the table": func(id []byte) wireContent {
			return wireContent{50, wireNode{IDs: id, Lengths: []uint32{100}, Extents: []uint64{50, 2, 0}}}
		},
		"hole with an offset": func(id []byte) wireContent { return wireContent{50, wireNode{Extents: []uint64{50, 0, 7}}} },
		"too short": func(id []byte) wireContent {
			return wireContent{200, wireNode{IDs: id, Lengths: []uint32{100}, Extents: []uint64{100, 1, 0}}}
		},
		"too long": func(id []byte) wireContent {
			return wireContent{50, wireNode{IDs: id, Lengths: []uint32{100}, Extents: []uint64{100, 1, 0}}}
		},
		"empty extent": func(id []byte) wireContent {
			return wireContent{0, wireNode{IDs: id, Lengths: []uint32{100}, Extents: []uint64{0, 1, 0}}}
		},
		"half an extent": func(id []byte) wireContent {
			return wireContent{50, wireNode{IDs: id, Lengths: []uint32{100}, Extents: []uint64{50, 1}}}
		},
		"half an id": func(id []byte) wireContent {
			return wireContent{50, wireNode{IDs: id[:16], Lengths: []uint32{100}, Extents: []uint64{50, 1, 0}}}
		},
		"empty chunk": func(id []byte) wireContent {
			return wireContent{50, wireNode{IDs: id, Lengths: []uint32{0}, Extents: []uint64{50, 0, 0}}}
		},
		"size past any file's": func(id []byte) wireContent { return wireContent{1 << 63, wireNode{Extents: []uint64{1 << 63, 0, 0}}} },
		"no such chunk": func(id []byte) wireContent {
			return wireContent{100, wireNode{IDs: make([]byte, 32), Lengths: []uint32{100}, Extents: []uint64{100, 1, 0}}}
		},
		"list of too many levels": func(id []byte) wireContent {
			return wireContent{100, wireNode{Level: 200, IDs: id, Lengths: []uint32{100}, Spans: []uint64{100}}}
		},
		"block that is none": func(id []byte) wireContent {
			return wireContent{100, wireNode{Level: 1, IDs: id, Lengths: []uint32{100}, Spans: []uint64{100}}}
		},
		"blocks that do not add up": func(id []byte) wireContent {
			return wireContent{100, wireNode{Level: 1, IDs: id, Lengths: []uint32{100}, Spans: []uint64{99}}}
		},
		"blocks without a span": func(id []byte) wireContent {
			return wireContent{100, wireNode{Level: 1, IDs: id, Lengths: []uint32{100}}}
		},
		"level without blocks": func(id []byte) wireContent { return wireContent{100, wireNode{Level: 1}} },
		"extents in a level of blocks": func(id []byte) wireContent {
			return wireContent{100, wireNode{Level: 1, IDs: id, Lengths: []uint32{100}, Spans: []uint64{100}, Extents: []uint64{100, 0, 0}}}
		},
		"spans in a level with extents": func(id []byte) wireContent {
			return wireContent{100, wireNode{Extents: []uint64{100, 0, 0}, Spans: []uint64{100}}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newTestRepository(t, mem.New())
			w := c(id(t, r))
			rec := hostileRecord(t, r, leafOf(changedEntry("a", func(e *wireEntry) { e.Size, e.Content = w.Size, &w })), 0, 1)
			var err error
			for e, ierr := range rec.Table().All(t.Context()) {
				if err = ierr; err == nil {
					err = r.Verify(t.Context(), e.Content)
				}
			}
			if !errors.Is(err, ErrDamaged) {
				t.Errorf("read: %v", err)
			}
			problems, cerr := problemsOf(t.Context(), r, CheckOptions{})
			if cerr != nil || !slices.ContainsFunc(problems, func(p Problem) bool { return p.Record == rec.ID }) {
				t.Errorf("check: %v, %v", problems, cerr)
			}
		})
	}
}

// A list whose blocks refer to the same block below many thousand times, over
// several levels, claims an enormous file in a few kilobytes. Check must not
// walk what it claims.
func TestCheckOfAFileOfManyTimesTheSameBlockEnds(t *testing.T) {
	r := newTestRepository(t, mem.New())
	chunk := storeBlocks(t, r, []byte("x"))[0]
	node := wireNode{IDs: chunk[:], Lengths: []uint32{1}, Extents: []uint64{1, 1, 0}}
	span := uint64(1)
	for level := uint(1); level <= 6; level++ {
		block := format.marshal(node)
		id := storeBlocks(t, r, block)[0]
		node = wireNode{Level: level}
		for range 1000 {
			node.IDs, node.Lengths, node.Spans = append(node.IDs, id[:]...), append(node.Lengths, uint32(len(block))), append(node.Spans, span)
		}
		span *= 1000
	}
	w := &wireContent{Size: span, Top: node}
	block := leafOf(changedEntry("a", func(e *wireEntry) { e.Size, e.Content = span, w }))
	rec := hostileRecord(t, r, block, 0, 1)
	if _, problems := check(t, r, CheckOptions{ReadData: true}); len(problems) != 0 {
		t.Errorf("problems: %v", problems)
	}
	e, err := rec.Table().Lookup(t.Context(), "/", "a")
	if err != nil {
		t.Fatal(err)
	}
	f, err := r.OpenContent(t.Context(), e.Content)
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 5)
	if n, err := f.ReadAt(p, int64(span)/2); n != 5 || err != nil || string(p) != "xxxxx" {
		t.Errorf("read in the middle: %d, %v, %q", n, err, p)
	}
}

func TestObjectsOfAnotherRepositoryAreRefused(t *testing.T) {
	ours, st, _ := smallRepository(t)
	theirs, other, rec := smallRepository(t)
	for name := range objects(t, other) {
		object, err := readObject(t.Context(), other, name, maxIndex)
		if err != nil {
			t.Fatal(err)
		}
		if name != configName {
			if err := st.Put(t.Context(), name, object); err != nil {
				t.Fatal(err)
			}
		}
	}
	if theirs.ID() == ours.ID() {
		t.Fatal("two repositories have one id")
	}
	if _, err := ours.Record(t.Context(), rec.ID.String()); !errors.Is(err, ErrDamaged) {
		t.Errorf("a foreign record: %v", err)
	}
	records, err := ours.Records(t.Context())
	if !errors.Is(err, ErrDamaged) || len(records) != 2 {
		t.Errorf("%d records, %v", len(records), err)
	}
}

// Who knows the public key alone, and not the id key, cannot make objects.
func TestThePublicKeyAloneMakesNothing(t *testing.T) {
	r, st, _ := smallRepository(t)
	forger := &keyring{repo: r.keys.repo, public: r.keys.public}
	forger.derive()
	object, c, err := forger.sealObject(kindRecord)
	if err != nil {
		t.Fatal(err)
	}
	info := testInfo()
	plain, err := encodeRecord(forger.repo, &info, tableRoot{}, Totals{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	object = appendBox(object, c, boxRecord, plain)
	id := hashObject(object)
	if err := st.Put(t.Context(), recordName(id), object); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Record(t.Context(), id.String()); !errors.Is(err, ErrDamaged) {
		t.Errorf("a forged record: %v", err)
	}
}

// commitRecord puts a record as it is, whatever it refers to.
func (r *Repository) commitRecord(ctx context.Context, info RecordInfo, table tableRoot, t Totals, indexes []ID) (*Record, error) {
	rec, object, err := r.sealRecord(info, table, t, indexes)
	if err != nil {
		return nil, err
	}
	return rec, r.putRecord(ctx, rec, object)
}

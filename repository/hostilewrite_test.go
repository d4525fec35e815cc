package repository

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/repository/store"
	"github.com/sombra-backup/sombra/repository/store/local"
	"github.com/sombra-backup/sombra/repository/store/mem"
)

// hostile makes records as one who has the keys and means harm would.
type hostile struct {
	t    testing.TB
	r    *Repository
	info RecordInfo
	// below is a directory of a backup, canary a place outside that must not
	// change, both as paths of tables.
	below, canary string
	data          Content
}

// entry is a valid entry with a name that need not be.
func (h *hostile) entry(name string, change func(*wireEntry)) *wireEntry {
	e := Entry{Root: h.info.Roots[0].ID, Type: Regular, Mode: 0o644, ModTime: time.Unix(1, 0), Nlink: 1, Size: h.data.Size(), Content: h.data}
	w := e.wire()
	w.Path = []byte(name)
	if change != nil {
		change(w)
	}
	return w
}

func asDir(w *wireEntry) { w.Type, w.Mode, w.Size, w.Content = uint8(Directory), 0o755, 0, nil }
func withLink(to string) func(*wireEntry) {
	return func(w *wireEntry) { w.Type, w.Size, w.Content, w.LinkTarget = uint8(Symlink), 0, nil, []byte(to) }
}

// record stores a table of one block.
func (h *hostile) record(info RecordInfo, entries ...*wireEntry) *Record {
	h.t.Helper()
	block := leafOf(entries...)
	id := storeBlocks(h.t, h.r, block)[0]
	rec, err := h.r.commitRecord(h.t.Context(), info, tableRoot{ID: id[:], Length: uint32(len(block)), Entries: uint64(len(entries))},
		Totals{Entries: int64(len(entries))}, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	return rec
}

// with is a record of the directory and entries below or beside it.
func (h *hostile) with(entries ...*wireEntry) *Record {
	h.t.Helper()
	return h.record(h.info, append([]*wireEntry{h.entry(h.below, asDir)}, entries...)...)
}

// twoRoots is a record whose second root lies below a link of the first, which
// the table of neither shows.
func (h *hostile) twoRoots() *Record {
	h.t.Helper()
	info := h.info
	second := Root{ID: "zz-" + h.info.Roots[0].ID, Path: h.info.Roots[0].Path}
	info.Roots = append(slices.Clone(info.Roots), second)
	in := func(w *wireEntry) { w.Root = []byte(second.ID) }
	link := path.Join(h.below, "link")
	return h.record(info, h.entry(h.below, asDir), h.entry(link, withLink("/"+h.canary)),
		h.entry(link+"/existing", in), h.entry(link+"/written", in))
}

// content is a record with one file that says it has this content.
func (h *hostile) content(change func(*wireContent)) *Record {
	h.t.Helper()
	return h.with(h.entry(path.Join(h.below, "file"), func(w *wireEntry) {
		c := *w.Content
		change(&c)
		w.Size, w.Content = c.Size, &c
	}))
}

// levels is a table of blocks above blocks.
func (h *hostile) levels(make func(a, b tableRef) [][]byte) *Record {
	h.t.Helper()
	ref := func(name string) tableRef {
		block := leafOf(h.entry(path.Join(h.below, name), nil))
		id := storeBlocks(h.t, h.r, block)[0]
		return tableRef{Root: []byte(h.info.Roots[0].ID), Path: []byte(path.Join(h.below, name)), ID: id[:], Length: uint32(len(block)), Entries: 1}
	}
	block := []byte{1}
	refs := make(ref("a"), ref("b"))
	for _, r := range refs {
		block = append(block, r...)
	}
	id := storeBlocks(h.t, h.r, block)[0]
	rec, err := h.r.commitRecord(h.t.Context(), h.info, tableRoot{Level: 1, ID: id[:], Length: uint32(len(block)), Entries: uint64(len(refs))},
		Totals{}, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	return rec
}

const trillion = 1_000_000_000_000

// records are the hostile records by name. All but those whose name begins with
// "allowed" must be refused by whoever reads the table or the content.
func (h *hostile) records() map[string]*Record {
	below := func(name string) string { return h.below + "/" + name }
	up := strings.Repeat("../", strings.Count(h.below, "/")+1)
	return map[string]*Record{
		"absolute name":     h.record(h.info, h.entry("/"+h.canary+"/written", nil), h.entry(h.below, asDir)),
		"name that climbs":  h.with(h.entry(below(up+h.canary+"/written"), nil)),
		"name with NUL":     h.with(h.entry(below("a\x00b"), nil)),
		"file below a link": h.with(h.entry(below("link"), withLink("/"+h.canary)), h.entry(below("link/written"), nil)),
		"file below a file": h.with(h.entry(below("plain"), nil), h.entry(below("plain/written"), nil)),
		"same name twice":   h.with(h.entry(below("twice"), withLink("/"+h.canary+"/existing")), h.entry(below("twice"), nil)),
		"extent of 10^12":   h.content(func(c *wireContent) { c.Size, c.Top.Extents = trillion, []uint64{trillion, 1, 0} }),
		"chunk of 10^12": h.content(func(c *wireContent) {
			c.Size, c.Top.Lengths, c.Top.Extents = 1<<31, []uint32{1 << 31}, []uint64{1 << 31, 1, 0}
		}),
		"allowed hole of 10^12":   h.content(func(c *wireContent) { c.Size, c.Top = trillion, wireNode{Extents: []uint64{trillion, 0, 0}} }),
		"allowed below two roots": h.twoRoots(),
		"table that repeats itself": h.levels(func(a, b tableRef) [][]byte {
			return [][]byte{format.marshal(a), format.marshal(a), format.marshal(b)}
		}),
		"table out of order": h.levels(func(a, b tableRef) [][]byte { return [][]byte{format.marshal(b), format.marshal(a)} }),
		"block of 10^12 entries": h.levels(func(a, b tableRef) [][]byte {
			a.Entries = trillion
			return [][]byte{format.marshal(a), format.marshal(b)}
		}),
	}
}

// TestHostileRecordsAreRefused makes each hostile record and reads it. With
// SOMBRA_HOSTILE_REPOSITORY and _PASSWORD it adds them to that repository, made
// from its last record, for tests of the command; _BELOW and _CANARY say where
// they aim at, and _LIST is the file that their ids are written to.
func TestHostileRecordsAreRefused(t *testing.T) {
	env := func(name, other string) string { return cmp.Or(os.Getenv("SOMBRA_HOSTILE_"+name), other) }
	var st store.Store = mem.New()
	h := &hostile{t: t, info: testInfo(), below: env("BELOW", "srv/dir"), canary: env("CANARY", "srv/canary")}
	if dir := env("REPOSITORY", ""); dir != "" {
		var err error
		if st, err = local.Open(dir); err != nil {
			t.Fatal(err)
		}
		if h.r, err = Open(t.Context(), st, []byte(env("PASSWORD", "")), testOptions()); err != nil {
			t.Fatal(err)
		}
		records, err := h.r.Records(t.Context())
		if err != nil || len(records) == 0 {
			t.Fatalf("%d records, %v", len(records), err)
		}
		h.info = records[len(records)-1].RecordInfo
	} else {
		h.r = newTestRepository(t, st)
	}
	b := begin(t, h.r, nil)
	var err error
	if h.data, err = b.PutStream(t.Context(), bytes.NewReader([]byte("written by a hostile record\n"))); err != nil {
		t.Fatal(err)
	}
	first := commit(t, b, h.info)
	if first.Totals.Entries != 0 {
		t.Fatal("an empty record is not empty")
	}
	var list strings.Builder
	for name, rec := range h.records() {
		fmt.Fprintf(&list, "%s\t%s\n", rec.ID, name)
		if strings.HasPrefix(name, "allowed") {
			continue
		}
		t.Run(name, func(t *testing.T) { h.refuses(t, rec) })
	}
	if file := env("LIST", ""); file != "" {
		if err := os.WriteFile(file, []byte(list.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// refuses reads all of a record.
func (h *hostile) refuses(t *testing.T, rec *Record) {
	t.Helper()
	var err error
	for e, terr := range rec.Table().All(t.Context()) {
		if err = terr; err == nil {
			err = h.r.Verify(t.Context(), e.Content)
		}
		if err != nil {
			break
		}
	}
	if err == nil {
		t.Error("it is read as if nothing were wrong")
	}
}

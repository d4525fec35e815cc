package repository

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/repository/store"
	"github.com/sombra-backup/sombra/repository/store/mem"
)

// richRecord makes a record with everything: files of one and of many chunks,
// holes, parts of chunks, streams, hard links, extended attributes, documents.
func richRecord(t testing.TB, r *Repository, base *Record, seed uint64, info RecordInfo) *Record {
	t.Helper()
	ctx := t.Context()
	b := begin(t, r, base)
	add := func(e Entry) {
		t.Helper()
		if e.Root == "" {
			e.Root = "/"
		}
		if e.Type == 0 {
			e.Type = Regular
		}
		e.Size = e.Content.Size()
		if err := b.Add(ctx, e); err != nil {
			t.Fatal(err)
		}
	}
	add(Entry{Path: "", Type: Directory, Mode: 0o755})
	add(fullEntry(putFile(t, b, []byte("full"))))
	large := randomData(900_000, 77)
	c := putFile(t, b, large)
	add(Entry{Path: "data/large", Content: c})
	changed := bytes.Clone(large)
	copy(changed[10_000:], randomData(300, seed))
	part := putFile(t, b, changed)
	if base != nil {
		old, err := base.Table().Lookup(ctx, "/", "data/large")
		if err != nil {
			t.Fatal(err)
		}
		if part, err = b.PutRanges(ctx, old.Content, source(changed), []Range{{10_000, 300}}); err != nil {
			t.Fatal(err)
		}
	}
	add(Entry{Path: "data/parts", Content: part})
	sparse, err := b.PutFile(ctx, Source{At: bytes.NewReader(make([]byte, 1<<20)), Size: 1 << 20, Data: []Range{{4096, 5000}, {1 << 19, 1}}})
	if err != nil {
		t.Fatal(err)
	}
	add(Entry{Path: "data/sparse", Content: sparse, HardLink: 3, Nlink: 2})
	add(Entry{Path: "data/sparse2", Content: sparse, HardLink: 3, Nlink: 2})
	add(Entry{Path: "data/gone", Attrs: map[string]string{"outcome": "failed"}})
	add(Entry{Path: "data/x", Content: putFile(t, b, randomData(3000, seed)), Xattrs: map[string][]byte{"user.a": []byte("1"), "user.empty": nil}})
	stream := putFile(t, b, []byte("a stream"))
	add(Entry{Path: "data/streams", Content: putFile(t, b, []byte("main")), Streams: []Stream{{"s", stream}, {"empty", Content{}}}})
	for i := range 300 {
		add(Entry{Path: fmt.Sprintf("many/%03d", i), Content: putFile(t, b, randomData(200, uint64(i)))})
	}
	add(Entry{Path: "many/link", Type: Symlink, LinkTarget: "000"})
	info.Documents = map[string]Content{}
	for name, text := range map[string]string{"bcd.xml": "<bcd/>", "long": strings.Repeat("a document\n", 20_000), "empty": ""} {
		if info.Documents[name], err = b.PutBytes(ctx, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	return commit(t, b, info)
}

// flatExtents gives what a content is made of, without names of chunks: holes,
// and for the rest which of the chunks met so far it is of, and where.
func flatExtents(t testing.TB, r *Repository, c Content) (flat []string) {
	t.Helper()
	place := map[ID]int{}
	err := newExtentReader(r, c).between(t.Context(), 0, c.Size(), func(p piece) error {
		if p.hole {
			flat = append(flat, fmt.Sprintf("hole %d", p.length))
			return nil
		}
		if _, ok := place[p.chunk.id]; !ok {
			place[p.chunk.id] = len(place)
		}
		flat = append(flat, fmt.Sprintf("%d+%d of chunk %d of %d", p.offset, p.length, place[p.chunk.id], p.chunk.length))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return flat
}

// sameRecords holds a copy against its source, entry by entry.
func sameRecords(t *testing.T, src, dst *Record) {
	t.Helper()
	type fixed struct {
		RecordInfo
		entries int64
	}
	plain := func(rec *Record) fixed {
		info := rec.RecordInfo
		info.Attrs, info.Documents, info.Parents = maps.Clone(info.Attrs), nil, nil
		delete(info.Attrs, AttrOrigin)
		delete(info.Attrs, AttrCopiedFrom)
		if len(info.Attrs) == 0 {
			info.Attrs = nil
		}
		return fixed{info, rec.Table().Len()}
	}
	if a, b := plain(src), plain(dst); !reflect.DeepEqual(a, b) {
		t.Errorf("the records differ:\n%+v\n%+v", a, b)
	}
	if a, b := slices.Sorted(maps.Keys(src.Documents)), slices.Sorted(maps.Keys(dst.Documents)); !slices.Equal(a, b) {
		t.Errorf("documents %v and %v", a, b)
	}
	for name := range src.Documents {
		a, err := src.Document(t.Context(), name, 1<<20)
		b, err2 := dst.Document(t.Context(), name, 1<<20)
		if err != nil || err2 != nil || !bytes.Equal(a, b) {
			t.Errorf("document %s: %v, %v, %d and %d bytes", name, err, err2, len(a), len(b))
		}
	}
	var copies []*Entry
	for e, err := range dst.Table().All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		copies = append(copies, e)
	}
	n := 0
	for e, err := range src.Table().All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if n == len(copies) {
			break
		}
		a, b := e.Clone(), copies[n].Clone()
		n++
		contents := func(e *Entry) (list []Content) { return slices.Collect(e.contents()) }
		ca, cb := contents(&a), contents(&b)
		a.Content, b.Content = Content{}, Content{}
		var names [2][]string
		for i, e := range []*Entry{&a, &b} {
			for _, s := range e.Streams {
				names[i] = append(names[i], s.Name)
			}
			e.Streams = nil
		}
		if !reflect.DeepEqual(a, b) || !slices.Equal(names[0], names[1]) || len(ca) != len(cb) {
			t.Errorf("entries differ:\n%+v\n%+v", a, b)
			continue
		}
		for i := range ca {
			if x, y := flatExtents(t, src.repo, ca[i]), flatExtents(t, dst.repo, cb[i]); !slices.Equal(x, y) {
				t.Errorf("%s: extents\n%v\n%v", e.Path, x, y)
			}
			if !bytes.Equal(readContent(t, src.repo, ca[i]), readContent(t, dst.repo, cb[i])) {
				t.Errorf("%s: contents differ", e.Path)
			}
		}
	}
}

func newCopier(t testing.TB, to, from *Repository) *Copier {
	t.Helper()
	c, err := NewCopier(t.Context(), to, from, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestACopyIsEqualEntryByEntry(t *testing.T) {
	ctx := t.Context()
	from, to := newTestRepository(t, mem.New()), newTestRepository(t, mem.New())
	info := testInfo()
	info.Attrs, info.Tags, info.User, info.Summary = map[string]string{"level": "app"}, []string{"x"}, "me", []byte("summary")
	first := richRecord(t, from, nil, 1, info)
	info.Time = info.Time.Add(time.Hour)
	second := richRecord(t, from, first, 2, info)
	for _, body := range []string{"one", "two"} {
		if _, err := from.AddNote(ctx, first.ID, Note{Time: info.Time, Kind: "complete", Body: []byte(body)}); err != nil {
			t.Fatal(err)
		}
	}

	var last CopyProgress
	c, err := NewCopier(ctx, to, from, func(p CopyProgress) { last = p })
	if err != nil {
		t.Fatal(err)
	}
	var copies []*Record
	for _, rec := range []*Record{first, second} {
		if c.Copied(rec) != nil {
			t.Error("copied before it was")
		}
		dst, err := c.Copy(ctx, rec)
		if err != nil {
			t.Fatal(err)
		}
		sameRecords(t, rec, dst)
		copies = append(copies, dst)
		if last.Entries != rec.Totals.Entries || last.Files != rec.Totals.Files || last.Bytes != rec.Totals.Bytes {
			t.Errorf("progress ended at %+v of %+v", last, rec.Totals)
		}
	}
	if !slices.Equal(copies[1].Parents, []ID{copies[0].ID}) {
		t.Errorf("parents %v, not the copy %s", copies[1].Parents, copies[0].ID)
	}
	if notes, err := to.Notes(ctx, copies[0].ID); err != nil || len(notes) != 2 {
		t.Errorf("%d notes, %v", len(notes), err)
	}
	// Of the second only what is not in the first was read and stored.
	if n := copies[1].Totals.BytesRead; n > 20_000 || last.Reused < 300 {
		t.Errorf("%d bytes read, %d files reused", n, last.Reused)
	}
	if report, problems := check(t, to, CheckOptions{ReadData: true}); len(problems) != 0 || report.Records != 2 {
		t.Errorf("%d records, %v", report.Records, problems)
	}

	// Once more, in a new process as it were: nothing is done but for a note
	// that is missing.
	if _, err := from.AddNote(ctx, first.ID, Note{Kind: "later"}); err != nil {
		t.Fatal(err)
	}
	before := objects(t, to.store)
	c = newCopier(t, to, from)
	for i, rec := range []*Record{first, second} {
		if dst, err := c.Copy(ctx, rec); err != nil || dst.ID != copies[i].ID {
			t.Errorf("copied again: %v", err)
		}
	}
	if after := objects(t, to.store); len(after) != len(before)+1 {
		t.Errorf("%d objects became %d", len(before), len(after))
	}
	// On to a third repository, and from the first to it: one backup, one copy.
	// And back: it is there.
	third := newTestRepository(t, mem.New())
	dst, err := newCopier(t, third, to).Copy(ctx, copies[0])
	if err != nil {
		t.Fatal(err)
	}
	if got := newCopier(t, third, from).Copied(first); got == nil || got.ID != dst.ID {
		t.Error("a backup that came by another way is not known")
	}
	if got := newCopier(t, from, third).Copied(dst); got == nil || got.ID != first.ID {
		t.Error("a backup is not known where it comes from")
	}
}

func TestACopyThatFailsAnywhereIsRunAgain(t *testing.T) {
	ctx := t.Context()
	from := newTestRepository(t, mem.New())
	b := begin(t, from, nil)
	for i := range 12 {
		addFile(t, b, fmt.Sprint(i), randomData(20_000, uint64(i)))
	}
	src := commit(t, b, testInfo())
	if _, err := from.AddNote(ctx, src.ID, Note{Kind: "k"}); err != nil {
		t.Fatal(err)
	}
	reached := map[string]bool{}
	for stop := 1; ; stop++ {
		st := mem.New()
		to := newTestRepository(t, st)
		dying := &dyingStore{Store: st, left: stop}
		to.store, to.index.store = dying, dying
		var err error
		var c *Copier
		if c, err = NewCopier(ctx, to, from, nil); err == nil {
			_, err = c.Copy(ctx, src)
		}
		if err == nil {
			if stop < 10 {
				t.Fatalf("done after %d calls", stop)
			}
			break
		}
		if !errors.Is(err, errDied) {
			t.Fatalf("stopped at call %d: %v", stop, err)
		}
		reached[dying.last] = true
		to = reopen(t, st)
		if _, problems := check(t, to, CheckOptions{ReadData: true}); len(problems) > 0 {
			t.Fatalf("stopped at call %d: %v", stop, problems)
		}
		dst, err := newCopier(t, to, from).Copy(ctx, src)
		if err != nil {
			t.Fatalf("stopped at call %d, run again: %v", stop, err)
		}
		records, err := to.Records(ctx)
		if err != nil || len(records) != 1 {
			t.Fatalf("stopped at call %d, run again: %d records, %v", stop, len(records), err)
		}
		if notes, err := to.Notes(ctx, dst.ID); err != nil || len(notes) != 1 {
			t.Fatalf("stopped at call %d, run again: %d notes, %v", stop, len(notes), err)
		}
		// Packs that were stored are not stored again.
		seen := map[ID]bool{}
		for name := range objects(t, st) {
			o, ok := parseName(name)
			if !ok || o.kind != kindDataPack {
				continue
			}
			frames, err := to.directory(ctx, knownPack{kind: o.kind, id: o.id, size: objects(t, st)[name]})
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range frames {
				for _, ch := range f.chunks {
					if seen[ch.id] {
						t.Fatalf("stopped at call %d, run again: chunk %s is stored twice", stop, ch.id.Short())
					}
					seen[ch.id] = true
				}
			}
		}
	}
	for _, op := range []string{"put", "list", "stat"} {
		if !reached[op] {
			t.Errorf("no copy was stopped at a %s", op)
		}
	}
}

// TestACopyReadsEachPieceOfThePacksOnce: though files lie in the packs in another
// order than in the table, and some content is in many of them.
func TestACopyReadsEachPieceOfThePacksOnce(t *testing.T) {
	ctx := t.Context()
	st := mem.New()
	o := testOptions()
	o.Chunking, o.PackSize = Chunking{Min: 32 << 10, Average: 64 << 10, Max: 256 << 10}, 2<<20
	o.CacheBytes = 16 << 20 // half of it is for what was read, a third of all
	from, err := Create(ctx, st, testPassword, o)
	if err != nil {
		t.Fatal(err)
	}
	b := begin(t, from, nil)
	for i := range 200 {
		addFile(t, b, fmt.Sprintf("%03d", i*37%200), randomData(150_000, uint64(i%150)))
	}
	src := commit(t, b, testInfo())
	counting := &countingStore{Store: st, reads: map[string]int{}}
	if from, err = Open(ctx, counting, testPassword, o); err != nil {
		t.Fatal(err)
	}
	if src, err = from.Record(ctx, src.ID.String()); err != nil {
		t.Fatal(err)
	}
	to := newTestRepository(t, mem.New())
	dst, err := newCopier(t, to, from).Copy(ctx, src)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for place, times := range counting.reads {
		if n++; times > 1 {
			t.Errorf("%s was read %d times", place, times)
		}
	}
	if n < 15 {
		t.Errorf("only %d frames read", n)
	}
	sameRecords(t, src, dst)
}

// countingStore counts the reads of frames of data.
type countingStore struct {
	store.Store
	mu    sync.Mutex
	reads map[string]int
}

func (s *countingStore) ReadAt(ctx context.Context, name string, p []byte, off int64) (int, error) {
	s.mu.Lock()
	if strings.HasPrefix(name, prefixData) && off >= headerSize {
		s.reads[fmt.Sprintf("%s at %d", name, off)]++
	}
	s.mu.Unlock()
	return s.Store.ReadAt(ctx, name, p, off)
}

func TestACopyNamesWhatCannotBeRead(t *testing.T) {
	ctx, st := t.Context(), mem.New()
	from, to := newTestRepository(t, st), newTestRepository(t, mem.New())
	b := begin(t, from, nil)
	addFile(t, b, "lost", randomData(5000, 1))
	bad := commit(t, b, testInfo())
	for name := range objects(t, st) {
		if strings.HasPrefix(name, prefixData) {
			if err := st.Delete(ctx, name); err != nil {
				t.Fatal(err)
			}
		}
	}
	b = begin(t, from, nil)
	addFile(t, b, "fine", randomData(5000, 2))
	good := commit(t, b, testInfo())
	c := newCopier(t, to, from)
	if _, err := c.Copy(ctx, bad); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), `"lost"`) {
		t.Errorf("%v", err)
	}
	if _, err := c.Copy(ctx, good); err != nil {
		t.Errorf("the other: %v", err)
	}
	if records, err := to.Records(ctx); err != nil || len(records) != 1 {
		t.Errorf("%d records, %v", len(records), err)
	}
}

func TestWhoCannotReadDoesNotCopy(t *testing.T) {
	ctx, st := t.Context(), mem.New()
	full := newTestRepository(t, st)
	agent := writeOnlyMachine(t, full, st)()
	other := newTestRepository(t, mem.New())
	for _, pair := range [][2]*Repository{{agent, other}, {other, agent}} {
		if _, err := NewCopier(ctx, pair[0], pair[1], nil); !errors.Is(err, ErrWriteOnly) {
			t.Errorf("%v", err)
		}
	}
	if _, err := NewCopier(ctx, full, reopen(t, st), nil); !errors.Is(err, ErrInvalid) {
		t.Errorf("onto itself: %v", err)
	}
}

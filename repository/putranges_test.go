package repository

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/sombra-backup/sombra/repository/store/mem"
)

// countingReader counts what is read of data.
type countingReader struct {
	data []byte
	read int64
}

func (r *countingReader) ReadAt(p []byte, off int64) (int, error) {
	n, err := bytes.NewReader(r.data).ReadAt(p, off)
	r.read += int64(n)
	return n, err
}

// randomRanges gives ranges in no order, some overlapping, some past the end.
func randomRanges(rng *rand.Rand, size int64, most int) []Range {
	var ranges []Range
	for range rng.IntN(most + 1) {
		ranges = append(ranges, Range{rng.Int64N(size + 100), rng.Int64N(min(size/4, 3000) + 2)})
	}
	return ranges
}

func TestANewVersionByRangesEqualsTheFile(t *testing.T) {
	for seed := range uint64(40) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			st := mem.New()
			r := newTestRepository(t, st)
			size := rng.IntN(150_000)
			data := randomData(size, seed)
			b := begin(t, r, nil)
			content := putFile(t, b, data)
			commit(t, b, testInfo())
			for version := range 6 {
				old := data
				data = bytes.Clone(data)
				// Grow, shrink or keep, then change some ranges.
				switch rng.IntN(3) {
				case 0:
					data = append(data, randomData(rng.IntN(20_000), seed+1000)...)
				case 1:
					data = data[:rng.IntN(len(data)+1)]
				}
				ranges := randomRanges(rng, int64(len(data)), 30)
				for _, c := range ranges {
					for i := max(c.Offset, 0); i < min(c.End(), int64(len(data))); i++ {
						data[i] = byte(rng.Uint32())
					}
				}
				src := Source{At: bytes.NewReader(data), Size: int64(len(data))}
				b := begin(t, r, nil)
				next, err := b.PutRanges(t.Context(), content, src, ranges)
				if err != nil {
					t.Fatal(err)
				}
				rec := commit(t, b, testInfo())
				if got := readContent(t, r, next); !bytes.Equal(got, data) {
					t.Fatalf("version %d differs", version)
				}
				if got := readContent(t, reopen(t, st), content); !bytes.Equal(got, old) {
					t.Fatalf("the version before %d differs", version)
				}
				if next.Size() != int64(len(data)) || rec.Totals.BytesRead > int64(len(data)) {
					t.Errorf("version %d: size %d of %d, %d bytes read", version, next.Size(), len(data), rec.Totals.BytesRead)
				}
				content = next
			}
		})
	}
}

func TestOnlyChangedRangesAreReadAndStored(t *testing.T) {
	r := newTestRepository(t, mem.New())
	const pages, page = 1000, 512
	data := randomData(pages*page, 1)
	b := begin(t, r, nil)
	base := putFile(t, b, data)
	commit(t, b, testInfo())
	var ranges []Range
	changed := bytes.Clone(data)
	for _, p := range rand.New(rand.NewPCG(1, 1)).Perm(pages)[:50] {
		ranges = append(ranges, Range{int64(p * page), page})
		copy(changed[p*page:], randomData(page, uint64(p)))
	}
	src := &countingReader{data: changed}
	b = begin(t, r, nil)
	next, err := b.PutRanges(t.Context(), base, Source{At: src, Size: int64(len(changed))}, ranges)
	if err != nil {
		t.Fatal(err)
	}
	data2 := b.addedBytes.Load()
	rec := commit(t, b, testInfo())
	if src.read != 50*page || rec.Totals.BytesRead != 50*page {
		t.Errorf("%d bytes were read, %d counted, for %d changed", src.read, rec.Totals.BytesRead, 50*page)
	}
	// Besides the changed bytes there is the extent list.
	if data2 < 50*page || data2 > 50*page+60_000 {
		t.Errorf("%d bytes were stored for %d changed", data2, 50*page)
	}
	if got := readContent(t, r, next); !bytes.Equal(got, changed) {
		t.Error("the new version differs")
	}
}

func TestAFileIsRewrittenWhenUnderHalfOfItsChunksIsLive(t *testing.T) {
	r := newTestRepository(t, mem.New())
	const page = 128
	data := randomData(1000*page, 1)
	b := begin(t, r, nil)
	content := putFile(t, b, data)
	commit(t, b, testInfo())
	rng := rand.New(rand.NewPCG(7, 7))
	rewritten := 0
	for version := range 60 {
		var ranges []Range
		var changed int64
		for range 60 {
			at := int64(rng.IntN(1000)) * page
			ranges = append(ranges, Range{at, page})
			rand.NewChaCha8([32]byte{byte(version), byte(at), byte(at >> 8)}).Read(data[at : at+page])
		}
		normal, err := normalRanges(ranges, int64(len(data)))
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range normal {
			changed += c.Length
		}
		b := begin(t, r, nil)
		next, err := b.PutRanges(t.Context(), content, source(data), ranges)
		if err != nil {
			t.Fatal(err)
		}
		if commit(t, b, testInfo()).Totals.BytesRead > changed {
			rewritten++
		}
		if !bytes.Equal(readContent(t, r, next), data) {
			t.Fatalf("version %d differs", version)
		}
		use := newUsage(usageLimit)
		if err := newExtentReader(r, next).between(t.Context(), 0, next.Size(), use.add); err != nil {
			t.Fatal(err)
		}
		if use.live*2 < use.total-2 {
			t.Fatalf("version %d uses %d of %d chunk bytes", version, use.live, use.total)
		}
		content = next
	}
	if rewritten == 0 || rewritten > 30 {
		t.Errorf("%d of 60 versions were compacted", rewritten)
	}
}

func TestHolesAreKeptAndNotRead(t *testing.T) {
	ctx := t.Context()
	r := newTestRepository(t, mem.New())
	const size = 1 << 40
	parts := map[int64][]byte{0: randomData(1000, 1), 1 << 20: randomData(5000, 2), size - 10: randomData(10, 3)}
	var data []Range
	for at, p := range parts {
		data = append(data, Range{at, int64(len(p))})
	}
	data = append(data, Range{size, 50}, Range{100, 200})
	src := sparseReader(parts)
	b := begin(t, r, nil)
	c, err := b.PutFile(ctx, Source{At: src, Size: size, Data: data})
	if err != nil {
		t.Fatal(err)
	}
	empty, err := b.PutFile(ctx, Source{At: src, Size: 12345, Data: []Range{}})
	if err != nil {
		t.Fatal(err)
	}
	rec := commit(t, b, testInfo())
	if rec.Totals.BytesRead != 6010 {
		t.Errorf("%d bytes were read", rec.Totals.BytesRead)
	}
	want := []Segment{
		{Range{0, 1000}, false}, {Range{1000, 1<<20 - 1000}, true}, {Range{1 << 20, 5000}, false},
		{Range{1<<20 + 5000, size - 10 - 1<<20 - 5000}, true}, {Range{size - 10, 10}, false},
	}
	if got := segments(t, r, c); !slices.Equal(got, want) {
		t.Errorf("segments %v, want %v", got, want)
	}
	if got := segments(t, r, empty); !slices.Equal(got, []Segment{{Range{0, 12345}, true}}) {
		t.Errorf("segments of one hole: %v", got)
	}
	f, err := r.OpenContent(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[int64][]byte{}
	err = f.Each(ctx, func(at int64, p []byte) error {
		for begin := range parts {
			if at >= begin && at < begin+int64(len(parts[begin])) {
				seen[begin] = append(seen[begin], p...)
				return nil
			}
		}
		return fmt.Errorf("data at %d", at)
	})
	if err != nil {
		t.Fatal(err)
	}
	for at, p := range parts {
		if !bytes.Equal(seen[at], p) {
			t.Errorf("the part at %d differs", at)
		}
	}
	// The end of a hole, the data, and the file's end in one read.
	p := make([]byte, 100)
	n, err := f.ReadAt(p, size-50)
	if n != 50 || err != io.EOF || !bytes.Equal(p[:40], make([]byte, 40)) || !bytes.Equal(p[40:50], parts[size-10]) {
		t.Errorf("read at the end: %d, %v", n, err)
	}
	// A range that became a hole.
	b = begin(t, r, nil)
	next, err := b.PutRanges(ctx, c, Source{At: src, Size: size, Data: []Range{{0, 1000}, {size - 10, 10}}}, []Range{{1 << 20, 5000}})
	if err != nil {
		t.Fatal(err)
	}
	commit(t, b, testInfo())
	want = []Segment{want[0], {Range{1000, size - 1010}, true}, want[4]}
	if got := segments(t, r, next); !slices.Equal(got, want) {
		t.Errorf("segments %v, want %v", got, want)
	}
}

// sparseReader gives the parts at their offsets and an error elsewhere.
type sparseReader map[int64][]byte

func (s sparseReader) ReadAt(p []byte, off int64) (int, error) {
	for at, part := range s {
		if off >= at && off+int64(len(p)) <= at+int64(len(part)) {
			return copy(p, part[off-at:]), nil
		}
	}
	return 0, fmt.Errorf("read of a hole: %d bytes at %d", len(p), off)
}

func segments(t *testing.T, r *Repository, c Content) (all []Segment) {
	t.Helper()
	f, err := r.OpenContent(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	for s, err := range f.Segments(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	return all
}

func TestASourceThatEndsEarlyIsSaid(t *testing.T) {
	r := newTestRepository(t, mem.New())
	b := begin(t, r, nil)
	src := source(randomData(5000, 1))
	src.Size = 6000
	if _, err := b.PutFile(t.Context(), src); !errors.Is(err, ErrSourceChanged) {
		t.Errorf("a file that shrank: %v", err)
	}
	broken := errors.New("bad sector")
	if _, err := b.PutFile(t.Context(), Source{At: brokenReader{broken}, Size: 10}); !errors.Is(err, broken) {
		t.Errorf("a file that cannot be read: %v", err)
	}
	// Neither stops the backup.
	addFile(t, b, "x", []byte("fine"))
	commit(t, b, testInfo())
}

type brokenReader struct{ err error }

func (b brokenReader) ReadAt([]byte, int64) (int, error) { return 0, b.err }

func TestImpossibleRangesAreRefused(t *testing.T) {
	r := newTestRepository(t, mem.New())
	b := begin(t, r, nil)
	c := putFile(t, b, randomData(100, 1))
	for _, bad := range []Range{{-1, 5}, {0, -1}, {1 << 62, 1 << 62}, {5, 1<<63 - 1}} {
		if _, err := b.PutRanges(t.Context(), c, source(randomData(100, 1)), []Range{bad}); !errors.Is(err, ErrInvalid) {
			t.Errorf("%v: %v", bad, err)
		}
		src := source(randomData(100, 1))
		src.Data = []Range{bad}
		if _, err := b.PutFile(t.Context(), src); !errors.Is(err, ErrInvalid) {
			t.Errorf("data %v: %v", bad, err)
		}
	}
	if _, err := b.PutFile(t.Context(), Source{At: bytes.NewReader(nil), Size: -1}); !errors.Is(err, ErrInvalid) {
		t.Errorf("a negative size: %v", err)
	}
}

func TestLongExtentListsBecomeSharedBlocks(t *testing.T) {
	st := mem.New()
	r := newTestRepository(t, st)
	// A file of many holes and pieces: its list takes several levels.
	const n = 20_000
	var data []Range
	for i := range int64(n) {
		data = append(data, Range{i * 100, 50})
	}
	bytes1 := randomData(n*100, 1)
	put := func() (Content, *Record) {
		b := begin(t, r, nil)
		c, err := b.PutFile(t.Context(), Source{At: bytes.NewReader(bytes1), Size: n * 100, Data: data})
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Add(t.Context(), Entry{Root: "/", Path: "f", Type: Regular, Size: c.Size(), Content: c}); err != nil {
			t.Fatal(err)
		}
		return c, commit(t, b, testInfo())
	}
	c, _ := put()
	if c.top.level == 0 {
		t.Fatalf("the list stands in the entry: %d extents", len(c.top.extents))
	}
	if _, again := put(); again.Totals.ChunksAdded != 0 {
		t.Errorf("the same list again added %d chunks", again.Totals.ChunksAdded)
	}
	// One small change leaves most blocks of the list as they are.
	b := begin(t, r, nil)
	at := int64(n/2) * 100
	copy(bytes1[at:], "changed")
	next, err := b.PutRanges(t.Context(), c, Source{At: bytes.NewReader(bytes1), Size: n * 100, Data: data}, []Range{{at, 7}})
	if err != nil {
		t.Fatal(err)
	}
	if rec := commit(t, b, testInfo()); rec.Totals.ChunksAdded > 6 {
		t.Errorf("a small change added %d chunks", rec.Totals.ChunksAdded)
	}
	if got := segments(t, r, next); len(got) != 2*n {
		t.Errorf("%d segments, want %d", len(got), 2*n)
	}
	f, err := reopen(t, st).OpenContent(t.Context(), next)
	if err != nil {
		t.Fatal(err)
	}
	// Its index is read only once a record is asked for.
	if err := f.extents.r.index.refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(3, 3))
	for range 200 {
		off := rng.Int64N(n * 100)
		p := make([]byte, rng.IntN(1000))
		got, err := f.ReadAt(p, off)
		if err != nil && err != io.EOF {
			t.Fatal(err)
		}
		for i, c := range p[:got] {
			want := byte(0)
			if at := off + int64(i); at%100 < 50 {
				want = bytes1[at]
			}
			if c != want {
				t.Fatalf("byte %d is %d, want %d", off+int64(i), c, want)
			}
		}
	}
}

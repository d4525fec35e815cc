package repository

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sombra-backup/sombra/repository/store"
	"github.com/sombra-backup/sombra/repository/store/mem"
)

// readLog is a store that notes what is read of it.
type readLog struct {
	store.Store
	mu    sync.Mutex
	reads map[string][]Range
	calls int
}

func (l *readLog) ReadAt(ctx context.Context, name string, p []byte, off int64) (int, error) {
	l.mu.Lock()
	l.reads[name] = append(l.reads[name], Range{off, int64(len(p))})
	l.calls++
	l.mu.Unlock()
	return l.Store.ReadAt(ctx, name, p, off)
}

// collected is a sink in memory.
type collected struct {
	mu    sync.Mutex
	files map[uint64]*collectedFile
	open  int
	most  int
	fail  func(e *Entry) error // of Open
}

type collectedFile struct {
	c    *collected
	data []byte
	done int
	err  error
}

func newCollected() *collected { return &collected{files: map[uint64]*collectedFile{}} }

func (c *collected) Open(_ context.Context, e *Entry, tag uint64) (io.WriterAt, error) {
	if c.fail != nil {
		if err := c.fail(e); err != nil {
			return nil, err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.files[tag] != nil {
		return nil, fmt.Errorf("file %d was opened twice", tag)
	}
	f := &collectedFile{c: c, data: make([]byte, e.Size)}
	c.files[tag] = f
	c.open++
	c.most = max(c.most, c.open)
	return f, nil
}

func (f *collectedFile) WriteAt(p []byte, off int64) (int, error) {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	if f.done > 0 || off+int64(len(p)) > int64(len(f.data)) {
		return 0, fmt.Errorf("write of %d bytes at %d after Done or past the end", len(p), off)
	}
	return copy(f.data[off:], p), nil
}

func (c *collected) Done(_ context.Context, e *Entry, tag uint64, w io.WriterAt, err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.files[tag]
	if w != nil {
		c.open--
	} else {
		f = &collectedFile{c: c}
		c.files[tag] = f
	}
	f.done++
	f.err = err
	return nil
}

// scattered is a repository whose files have pieces in packs of many backups:
// each version changes ranges of some, files share chunks, some are sparse.
func scattered(t *testing.T, st store.Store) (*Record, map[string][]byte) {
	t.Helper()
	r := newTestRepository(t, st)
	rng := rand.New(rand.NewPCG(1, 2))
	files, contents := map[string][]byte{}, map[string]Content{}
	var rec *Record
	for version := range 24 {
		b := begin(t, r, rec)
		for i := range 40 {
			name := fmt.Sprintf("f%02d", i)
			data := files[name]
			src := func() Source { return Source{At: bytes.NewReader(data), Size: int64(len(data))} }
			switch {
			case version == 0:
				data = randomData(rng.IntN(60_000), uint64(i%30)+100) // ten are others again
				contents[name] = putFile(t, b, data)
			case i%3 == version%3 && len(data) > 0:
				data = bytes.Clone(data)
				var changed []Range
				for range 5 {
					c := Range{rng.Int64N(int64(len(data))), 1 + rng.Int64N(300)}
					for j := c.Offset; j < min(c.End(), int64(len(data))); j++ {
						data[j] = byte(rng.Uint32())
					}
					changed = append(changed, c)
				}
				c, err := b.PutRanges(t.Context(), contents[name], src(), changed)
				if err != nil {
					t.Fatal(err)
				}
				contents[name] = c
			}
			files[name] = data
			if err := b.Add(t.Context(), Entry{Root: "/", Path: name, Type: Regular, Size: int64(len(data)), Content: contents[name]}); err != nil {
				t.Fatal(err)
			}
		}
		hole := make([]byte, 30_000)
		copy(hole[10_000:], randomData(5000, 77))
		c, err := b.PutFile(t.Context(), Source{At: bytes.NewReader(hole), Size: 30_000, Data: []Range{{10_000, 5000}}})
		if err != nil {
			t.Fatal(err)
		}
		files["sparse"] = hole
		if err := b.Add(t.Context(), Entry{Root: "/", Path: "sparse", Type: Regular, Size: 30_000, Content: c}); err != nil {
			t.Fatal(err)
		}
		rec = commit(t, b, testInfo())
	}
	return rec, files
}

// planAll adds all files of a record, tagged by their number.
func planAll(t *testing.T, p *Restoration, rec *Record) (names []string) {
	t.Helper()
	for e, err := range rec.Table().All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Add(t.Context(), e, uint64(len(names)), AllPieces); err != nil {
			t.Fatal(err)
		}
		names = append(names, e.Path)
	}
	return names
}

func checkCollected(t *testing.T, c *collected, names []string, want map[string][]byte) {
	t.Helper()
	for i, name := range names {
		f := c.files[uint64(i)]
		switch {
		case f == nil && len(want[name]) == 0:
		case f == nil:
			t.Errorf("%s was not restored", name)
		case f.done != 1 || f.err != nil:
			t.Errorf("%s: done %d times, %v", name, f.done, f.err)
		case !bytes.Equal(f.data, want[name]):
			t.Errorf("%s has other bytes", name)
		}
	}
}

// TestARestorationReadsEachPackOnce restores files whose pieces are in packs of
// several backups: no byte of a data pack is read twice, and each pack with one
// call. So it is with all of the plan in memory, and with all in files.
func TestARestorationReadsEachPackOnce(t *testing.T) {
	for name, memory := range map[string]int{"in memory": lineMemory, "in files": 37} {
		t.Run(name, func(t *testing.T) {
			st := mem.New()
			made, want := scattered(t, st)
			log := &readLog{Store: st, reads: map[string][]Range{}}
			r := reopen(t, log)
			rec, err := r.Record(t.Context(), made.ID.String())
			if err != nil {
				t.Fatal(err)
			}
			p := r.NewRestoration()
			defer p.Close()
			if p.lines.memory = memory; memory < lineMemory {
				p.files.memory, p.batch = 500, 3
			}
			names := planAll(t, p, rec)
			if got := len(p.lines.runs) > 0; got != (memory < lineMemory) {
				t.Errorf("%d runs in files", len(p.lines.runs))
			}
			log.reads = map[string][]Range{}
			sink := newCollected()
			if err := p.Run(t.Context(), sink); err != nil {
				t.Fatal(err)
			}
			checkCollected(t, sink, names, want)
			packs := 0
			for object, reads := range log.reads {
				if !strings.HasPrefix(object, prefixData) {
					continue
				}
				packs++
				slices.SortFunc(reads, func(a, b Range) int { return cmp.Compare(a.Offset, b.Offset) })
				if len(reads) != 1 {
					t.Errorf("%s was read %d times: %v", object, len(reads), reads)
				}
			}
			if packs < 20 {
				t.Errorf("only %d packs were read: too few to show anything", packs)
			}
		})
	}
}

// TestOnlyWantedPartsOfAPackAreRead leaves out what no file needs, and reads
// nothing twice there either.
func TestOnlyWantedPartsOfAPackAreRead(t *testing.T) {
	st := mem.New()
	o := testOptions()
	o.PackSize = 16 << 20
	r, err := Create(t.Context(), st, testPassword, o)
	if err != nil {
		t.Fatal(err)
	}
	b := begin(t, r, nil)
	data := randomData(8<<20, 5)
	c := putFile(t, b, data)
	commit(t, b, testInfo())
	// All but the beginning and the end become other bytes.
	b = begin(t, r, nil)
	part := bytes.Clone(data)
	copy(part[100_000:], randomData(7<<20, 6))
	c2, err := b.PutRanges(t.Context(), c, Source{At: bytes.NewReader(part), Size: int64(len(part))}, []Range{{100_000, 7 << 20}})
	if err != nil {
		t.Fatal(err)
	}
	commit(t, b, testInfo())
	log := &readLog{Store: st, reads: map[string][]Range{}}
	r.store = log
	p := r.NewRestoration()
	defer p.Close()
	if _, err := p.Add(t.Context(), &Entry{Root: "/", Path: "f", Type: Regular, Size: c2.Size(), Content: c2}, 0, AllPieces); err != nil {
		t.Fatal(err)
	}
	sink := newCollected()
	if err := p.Run(t.Context(), sink); err != nil {
		t.Fatal(err)
	}
	checkCollected(t, sink, []string{"f"}, map[string][]byte{"f": part})
	least := int64(16 << 20)
	for name, reads := range log.reads {
		total := int64(0)
		// The part in the end is read beside the first, and may ask for the header itself.
		reads = slices.DeleteFunc(reads, func(r Range) bool { return r == Range{0, headerSize} })
		slices.SortFunc(reads, func(a, b Range) int { return cmp.Compare(a.Offset, b.Offset) })
		for i, rd := range reads {
			total += rd.Length
			if i > 0 && rd.Offset < reads[i-1].End() {
				t.Errorf("read twice: %v", reads)
			}
		}
		if strings.HasPrefix(name, prefixData) {
			least = min(least, total)
		}
	}
	// Frames have a megabyte of small chunks.
	if least > 4<<20 {
		t.Errorf("%d bytes were read of a pack of which 1.3 MB are wanted", least)
	}
}

// TestFilesThatWouldBeTooManyOpenAreRestoredInTheEnd bounds what is open.
func TestFilesThatWouldBeTooManyOpenAreRestoredInTheEnd(t *testing.T) {
	rec, want := scattered(t, mem.New())
	p := rec.repo.NewRestoration()
	defer p.Close()
	p.unfinished = 3
	names := planAll(t, p, rec)
	sink := newCollected()
	if err := p.Run(t.Context(), sink); err != nil {
		t.Fatal(err)
	}
	checkCollected(t, sink, names, want)
	// Files of one piece are open beside them, one for each goroutine.
	if sink.most > 3+16 {
		t.Errorf("%d files were open at a time", sink.most)
	}
}

// TestADamagedPackFailsItsFilesOnly names the object for each file that needs
// it; all others are restored.
func TestADamagedPackFailsItsFilesOnly(t *testing.T) {
	for name, hurt := range map[string]func(data []byte) []byte{
		"missing": func([]byte) []byte { return nil },
		"flipped": func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"cut":     func(b []byte) []byte { return b[:len(b)/2] },
	} {
		t.Run(name, func(t *testing.T) {
			st := mem.New()
			rec, want := scattered(t, st)
			var victim string
			for object, size := range objects(t, st) {
				if strings.HasPrefix(object, prefixData) && size < 100<<10 && (victim == "" || object < victim) {
					victim = object
				}
			}
			data, err := readObject(t.Context(), st, victim, maxPack)
			if err != nil {
				t.Fatal(err)
			}
			if err := st.Delete(t.Context(), victim); err != nil {
				t.Fatal(err)
			}
			if data = hurt(bytes.Clone(data)); data != nil {
				if err := st.Put(t.Context(), victim, data); err != nil {
					t.Fatal(err)
				}
			}
			r := reopen(t, st)
			if rec, err = r.Record(t.Context(), rec.ID.String()); err != nil {
				t.Fatal(err)
			}
			p := r.NewRestoration()
			defer p.Close()
			names := planAll(t, p, rec)
			sink := newCollected()
			if err := p.Run(t.Context(), sink); err != nil {
				t.Fatal(err)
			}
			failed := 0
			for i, name := range names {
				f := sink.files[uint64(i)]
				if f == nil {
					continue
				}
				if f.done != 1 {
					t.Errorf("%s: done %d times", name, f.done)
				}
				if f.err != nil {
					failed++
					if !errors.Is(f.err, ErrDamaged) || !strings.Contains(f.err.Error(), victim) {
						t.Errorf("%s: %v does not name %s", name, f.err, victim)
					}
				} else if !bytes.Equal(f.data, want[name]) {
					t.Errorf("%s has other bytes", name)
				}
			}
			if failed == 0 || failed == len(names) {
				t.Errorf("%d of %d files failed", failed, len(names))
			}
		})
	}
}

// TestARestorationEndsWhenItsSinkOrContextDo closes what it opened.
func TestARestorationEndsWhenItsSinkOrContextDo(t *testing.T) {
	rec, _ := scattered(t, mem.New())
	p := rec.repo.NewRestoration()
	defer p.Close()
	planAll(t, p, rec)
	ctx, cancel := context.WithCancel(t.Context())
	sink := newCollected()
	var n int
	var mu sync.Mutex
	sink.fail = func(*Entry) error {
		mu.Lock()
		defer mu.Unlock()
		if n++; n == 5 {
			cancel()
		}
		return nil
	}
	if err := p.Run(ctx, sink); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if sink.open != 0 {
		t.Errorf("%d files were left open", sink.open)
	}
	if _, err := p.Add(t.Context(), &Entry{Root: "/", Path: "x", Type: Regular, Size: 0}, 1, AllPieces); err != nil {
		t.Errorf("an empty file: %v", err)
	}
}

// TestSameKnowsBytesByTheChunksNames compares without reading any data pack.
func TestSameKnowsBytesByTheChunksNames(t *testing.T) {
	st := mem.New()
	rec, want := scattered(t, st)
	log := &readLog{Store: st, reads: map[string][]Range{}}
	r := reopen(t, log)
	rec, err := r.Record(t.Context(), rec.ID.String())
	if err != nil {
		t.Fatal(err)
	}
	seen := map[Sameness]int{}
	for e, err := range rec.Table().All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		data := want[e.Path]
		same, err := r.Same(t.Context(), e.Content, bytes.NewReader(data))
		if err != nil || same == Different {
			t.Errorf("%s: %v, %v", e.Path, same, err)
		}
		seen[same]++
		if same != Identical || len(data) == 0 {
			continue
		}
		for _, at := range []int{0, len(data) / 2, len(data) - 1} {
			other := bytes.Clone(data)
			other[at] ^= 1
			if same, err := r.Same(t.Context(), e.Content, bytes.NewReader(other)); same != Different || err != nil {
				t.Errorf("%s with byte %d changed: %v, %v", e.Path, at, same, err)
			}
		}
		if same, err := r.Same(t.Context(), e.Content, bytes.NewReader(data[:len(data)-1])); same != Different || err != nil {
			t.Errorf("%s cut short: %v, %v", e.Path, same, err)
		}
	}
	if seen[Identical] == 0 || seen[Unproven] == 0 {
		t.Errorf("saw %v", seen)
	}
	for object := range log.reads {
		if strings.HasPrefix(object, prefixData) {
			t.Errorf("%s was read", object)
		}
	}
}

package repository

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/repository/store"
	"github.com/sombra-backup/sombra/repository/store/mem"
)

// distantStore counts requests, by the first part of the name, and how many go
// on at once. Each read waits until want go on, or for a time.
type distantStore struct {
	store.Store
	prefix string
	want   int

	mu                sync.Mutex
	now, most         int
	reached           chan struct{}
	reads, lists      map[string]int
	concurrency, late int
}

func newDistantStore(st store.Store) *distantStore {
	return &distantStore{Store: st, reached: make(chan struct{}), reads: map[string]int{}, lists: map[string]int{}, concurrency: 4}
}

func (s *distantStore) Concurrency() int { return s.concurrency }

func (s *distantStore) count(name string) {
	dir, _, _ := strings.Cut(name, "/")
	s.mu.Lock()
	s.reads[dir+"/"]++
	s.mu.Unlock()
}

func (s *distantStore) Stat(ctx context.Context, name string) (store.Info, error) {
	s.count(name)
	return s.Store.Stat(ctx, name)
}

func (s *distantStore) List(ctx context.Context, prefix string, f func(store.Info) error) error {
	s.mu.Lock()
	s.lists[prefix]++
	s.mu.Unlock()
	return s.Store.List(ctx, prefix, f)
}

func (s *distantStore) ReadAt(ctx context.Context, name string, p []byte, off int64) (int, error) {
	s.count(name)
	if s.want == 0 || !strings.HasPrefix(name, s.prefix) {
		return s.Store.ReadAt(ctx, name, p, off)
	}
	s.mu.Lock()
	s.now++
	if s.most = max(s.most, s.now); s.most == s.want {
		s.most++
		close(s.reached)
	}
	s.mu.Unlock()
	select {
	case <-s.reached:
	case <-time.After(10 * time.Second):
		s.mu.Lock()
		s.late++
		s.mu.Unlock()
	}
	defer func() {
		s.mu.Lock()
		s.now--
		s.mu.Unlock()
	}()
	return s.Store.ReadAt(ctx, name, p, off)
}

// A store that is far away is asked for several index objects, and several
// records, at once, but for no more than manyReaders.
func TestASlowStoreIsAskedForManyThingsAtOnce(t *testing.T) {
	origin := mem.New()
	r := newTestRepository(t, origin)
	for i := range 3 * manyReaders {
		b := begin(t, r, nil)
		addFile(t, b, "file", randomData(2000, uint64(i)))
		commit(t, b, testInfo())
	}
	for _, prefix := range []string{prefixIndex, prefixRecords} {
		for _, concurrency := range []int{1, 4, 100} {
			st := newDistantStore(origin)
			st.prefix, st.concurrency = prefix, concurrency
			st.want = map[int]int{1: fewReaders, 4: manyReaders, 100: manyReaders}[concurrency]
			far := r.on(st)
			records, err := far.Records(t.Context())
			if err != nil || len(records) != 3*manyReaders {
				t.Fatalf("%d records, %v", len(records), err)
			}
			if st.late > 0 || st.most != st.want+1 {
				t.Errorf("%s from a store that gains by %d requests: %d went on at once, expected %d; %d waited in vain", prefix, concurrency, st.most, st.want, st.late)
			}
		}
	}
}

// A refresh that finds no new index object is one listing.
func TestARefreshThatFindsNothingNewReadsNothing(t *testing.T) {
	origin := mem.New()
	r := newTestRepository(t, origin)
	b := begin(t, r, nil)
	addFile(t, b, "file", randomData(9000, 1))
	rec := commit(t, b, testInfo())

	st := newDistantStore(origin)
	far := r.on(st)
	if err := far.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if st.reads[prefixIndex] != 1 || st.lists[prefixIndex] != 1 {
		t.Errorf("the first refresh read %d times and listed %d times", st.reads[prefixIndex], st.lists[prefixIndex])
	}
	base, err := far.Record(t.Context(), rec.ID.String())
	if err != nil {
		t.Fatal(err)
	}
	b = begin(t, far, base)
	for range 3 {
		if err := far.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if st.reads[prefixIndex] != 1 || st.lists[prefixIndex] != 6 {
		t.Errorf("five more refreshes: %d reads, %d listings, expected 1 and 6", st.reads[prefixIndex], st.lists[prefixIndex])
	}
	addFile(t, b, "more", randomData(9000, 2))
	commit(t, b, testInfo())
	reads := st.reads[prefixIndex]
	if err := far.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if st.reads[prefixIndex] != reads {
		t.Errorf("a refresh read the index object that this backup put: %d reads more", st.reads[prefixIndex]-reads)
	}
}

// Index objects that a larger one supersedes are not read.
func TestWhatAMergedIndexObjectSupersedesIsNotRead(t *testing.T) {
	origin := mem.New()
	r := newTestRepository(t, origin)
	for i := range 20 {
		b := begin(t, r, nil)
		addFile(t, b, "file", randomData(3000, uint64(i)))
		commit(t, b, testInfo())
	}
	report, err := r.Prune(t.Context(), PruneOptions{Grace: -1, MaxUnused: 1}, nil)
	if err != nil || report.IndexesWritten != 1 || report.IndexesDeleted != 0 {
		t.Fatalf("%+v, %v", report, err)
	}
	st := newDistantStore(origin)
	far := r.on(st)
	if err := far.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(far.index.parts) != 1 || st.reads[prefixIndex] != 1 {
		t.Errorf("%d index objects were taken in, with %d reads", len(far.index.parts), st.reads[prefixIndex])
	}
	if _, problems := check(t, far, CheckOptions{ReadData: true}); len(problems) != 0 {
		t.Errorf("check: %+v", problems)
	}
}

// largeIndex is an index object that is read in several strokes.
func largeIndex(t *testing.T, r *Repository) (object []byte, batch *indexBatch) {
	t.Helper()
	batch = &indexBatch{}
	for p := range 3 * indexStroke / lineSize / 100 {
		var frames []packedFrame
		for c := range 100 {
			frames = append(frames, packedFrame{headerSize + uint32(c)*200, 200, []packedChunk{{hashObject(fmt.Append(nil, p, c)), 300}}})
		}
		batch.add(kindDataPack, hashObject(fmt.Append(nil, "pack", p)), 1<<20, frames)
	}
	object = batch.encode(r.keys, nil)
	if len(object) < 3*indexStroke {
		t.Fatalf("it has only %d bytes", len(object))
	}
	return object, batch
}

// An index object larger than what is in memory at once gives the same lines,
// and each change of it is found.
func TestALargeIndexObjectIsReadInPieces(t *testing.T) {
	r := newTestRepository(t, mem.New())
	object, batch := largeIndex(t, r)
	id := hashObject(object)
	load := func(object []byte, listed int64) ([]byte, []uint32, error) {
		st := mem.New()
		if err := st.Put(t.Context(), indexName(id), object); err != nil {
			t.Fatal(err)
		}
		var lines []byte
		var memory []byte
		x := r.on(st).index
		_, prefixes, err := x.readPart(t.Context(), listedObject{id, listed}, &memory, func(_ *indexPart, line []byte) { lines = append(lines, line...) })
		if len(memory) > indexStroke {
			t.Errorf("it was read into %d bytes", len(memory))
		}
		return lines, prefixes, err
	}
	lines, prefixes, err := load(object, int64(len(object)))
	if err != nil {
		t.Fatal(err)
	}
	var want []byte
	for i := range batch.lines { // encode has sorted them
		want = batch.lines[i].append(want)
		if prefixes[i] != idPrefix(batch.lines[i].id) {
			t.Fatalf("line %d has the prefix %x", i, prefixes[i])
		}
	}
	if !bytes.Equal(lines, want) {
		t.Error("the lines differ")
	}
	n := len(object)
	for _, at := range []int{0, 9, 41, indexStroke, indexStroke + 60, 2*indexStroke + 77, n - 13, n - 12, n - 1, n - 5000} {
		changed := bytes.Clone(object)
		changed[at] ^= 1
		if _, _, err := load(changed, int64(n)); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), indexName(id)) {
			t.Errorf("byte %d of %d changed: %v", at, n, err)
		}
	}
	if _, _, err := load(object[:n-1], int64(n)); !errors.Is(err, ErrDamaged) {
		t.Errorf("a byte lost since it was listed: %v", err)
	}
	if _, _, err := load(object[:n-1], int64(n)-1); !errors.Is(err, ErrDamaged) {
		t.Errorf("a byte lost: %v", err)
	}
	if _, _, err := load(append(bytes.Clone(object), 0), int64(n)+1); !errors.Is(err, ErrDamaged) {
		t.Errorf("a byte more: %v", err)
	}
	// Another whole index object of the same length in its place.
	other, _ := largeIndex(t, r)
	if _, _, err := load(other, int64(n)); !errors.Is(err, ErrDamaged) {
		t.Errorf("another object: %v", err)
	}
}

// A pack that is named by an index object found during a backup, and that is
// not there, is nothing to build on: a prune that was held up for weeks may put
// such an index object when the marks of its packs are gone.
func TestWhatARefreshInABackupFindsIsNotBuiltOn(t *testing.T) {
	ctx := t.Context()
	st := mem.New()
	r := newTestRepository(t, st)
	b := begin(t, r, nil)
	data := randomData(9000, 1)
	addFile(t, b, "file", data)
	rec := commit(t, b, testInfo())
	// Everything goes, its index too, but for what the late prune will put.
	late := map[string][]byte{}
	for name, size := range objects(t, st) {
		if strings.HasPrefix(name, prefixIndex) || strings.HasPrefix(name, prefixData) || strings.HasPrefix(name, prefixMeta) || name == recordName(rec.ID) {
			object, err := readObject(ctx, st, name, size)
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(name, prefixIndex) {
				late[name] = object
			}
			if err := st.Delete(ctx, name); err != nil {
				t.Fatal(err)
			}
		}
	}
	r = r.on(st)
	b = begin(t, r, nil)
	for name, object := range late {
		if err := st.Put(ctx, name, object); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.Records(ctx); err != nil {
		t.Fatal(err)
	}
	addFile(t, b, "file", data)
	again := commit(t, b, testInfo())
	other := r.on(st)
	got, err := other.Record(ctx, again.ID.String())
	if err != nil {
		t.Fatal(err)
	}
	if tree := readTree(t, got); tree["file"] != string(data) {
		t.Error("the backup lacks its file")
	}
	report, problems := check(t, other, CheckOptions{ReadData: true})
	if len(problems) != 0 || report.Gone == 0 {
		t.Errorf("check: %+v, %+v", report, problems)
	}
	// The next prune takes the lines of what is gone out of the index.
	for range 2 {
		if _, err := other.Prune(ctx, PruneOptions{Grace: -1}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if report, problems := check(t, r.on(st), CheckOptions{ReadData: true}); len(problems) != 0 || report.Gone != 0 {
		t.Errorf("check after prune: %+v, %+v", report, problems)
	}
}

// Whatever the prefixes are, a layer is searched as a sorted array is.
func TestALayerIsSearchedLikeASortedArray(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for n := range 400 {
		prefixes := make([]uint32, n)
		for i := range prefixes {
			switch n % 4 {
			case 0:
				prefixes[i] = rng.Uint32()
			case 1: // many alike
				prefixes[i] = rng.Uint32N(uint32(n/10 + 1))
			case 2: // at the end
				prefixes[i] = ^uint32(0) - rng.Uint32N(50)
			default: // in lumps
				prefixes[i] = rng.Uint32N(4)<<30 + rng.Uint32N(9)
			}
		}
		slices.Sort(prefixes)
		l := indexLayer{prefix: prefixes, first: 7}
		for range 60 {
			p := rng.Uint32()
			if n > 0 && rng.IntN(2) == 0 {
				p = prefixes[rng.IntN(n)] + rng.Uint32N(3) - 1
			}
			want, _ := slices.BinarySearch(prefixes, p)
			if got := l.search(p); got != want {
				t.Fatalf("%d prefixes: %x is at %d, found %d", n, p, want, got)
			}
		}
	}
}

// Parts large and small, in any order, give layers that find every line.
func TestEveryLineIsInALayer(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	var layers []indexLayer
	all := map[uint32]uint32{} // line to prefix
	for _, n := range []int{10, 2000, aloneLines, 1, 0, 30_000, 30_000, 30_000, aloneLines + 5, 900_000 / 8, 5} {
		prefixes := make([]uint32, n)
		for i := range prefixes {
			prefixes[i] = rng.Uint32()
		}
		slices.Sort(prefixes)
		first := uint32(len(all))
		for i, p := range prefixes {
			all[first+uint32(i)] = p
		}
		layers = addLayer(layers, prefixes, first)
	}
	seen := 0
	for _, l := range layers {
		for i, p := range l.prefix {
			if at := l.search(p); at > i || l.prefix[at] != p || all[l.number(i)] != p {
				t.Fatalf("place %d of a layer of %d: line %d, found at %d", i, len(l.prefix), l.number(i), at)
			}
			delete(all, l.number(i))
			seen++
		}
	}
	if len(all) != 0 || len(layers) > 8 {
		t.Errorf("%d lines were found in %d layers, %d not", seen, len(layers), len(all))
	}
}

func TestPacksAreFoundByTheirIds(t *testing.T) {
	var table packTable
	const n = 3*packBlock + 17
	for i := range n {
		if no := table.add(knownPack{id: testPack(i), size: int64(i), kind: kindMetaPack, absent: i%2 == 0, unproven: i%3 == 0}); no != uint32(i) {
			t.Fatalf("pack %d became %d", i, no)
		}
	}
	for i := range n {
		no, ok := table.find(testPack(i))
		want := knownPack{testPack(i), int64(i), kindMetaPack, i%2 == 0, false, i%3 == 0}
		if !ok || table.at(no) != want {
			t.Fatalf("pack %d: %v %+v", i, ok, table.at(no))
		}
		if _, ok := table.find(testPack(-1 - i)); ok {
			t.Fatalf("a pack that is not there is found")
		}
	}
	seen := 0
	for no, p := range table.all() {
		if p.size != int64(no) || no != uint32(seen) {
			t.Fatalf("number %d is %+v", no, p)
		}
		seen++
	}
	if seen != n || table.len() != n {
		t.Errorf("%d of %d packs", seen, n)
	}
}

func testPack(n int) ID { return hashObject(fmt.Append(nil, n)) }

package repository

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/repository/store"
	"github.com/sombra-backup/sombra/repository/store/local"
	"github.com/sombra-backup/sombra/repository/store/mem"
)

var testPassword = []byte("correct horse")

// testOptions make everything small, so that little data exercises it all.
func testOptions() Options {
	return Options{
		KDF:      KDF{Time: 1, Memory: 64, Threads: 1},
		Chunking: Chunking{Min: 256, Average: 1024, Max: 8192},
		PackSize: 32 << 10,
		Workers:  2,
	}
}

// bothStores gives an empty store of each kind.
func bothStores(t testing.TB) map[string]store.Store {
	t.Helper()
	folder, err := local.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return map[string]store.Store{"memory": mem.New(), "folder": folder}
}

func newTestRepository(t testing.TB, st store.Store) *Repository {
	t.Helper()
	r, err := Create(t.Context(), st, testPassword, testOptions())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func reopen(t testing.TB, st store.Store) *Repository {
	t.Helper()
	r, err := Open(t.Context(), st, testPassword, testOptions())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func begin(t testing.TB, r *Repository, base *Record) *Backup {
	t.Helper()
	b, err := r.Begin(t.Context(), BeginOptions{Base: base})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Abort() })
	return b
}

func testInfo() RecordInfo {
	return RecordInfo{
		Time: time.Unix(1_700_000_000, 123456789).UTC(), Host: Host{ID: "m", Name: "host", OS: "linux", PathStyle: "posix"},
		Type: "full", State: Complete, Roots: []Root{{ID: "/", Path: "/"}},
	}
}

func commit(t testing.TB, b *Backup, info RecordInfo) *Record {
	t.Helper()
	rec, err := b.Commit(t.Context(), info)
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

// randomData gives n bytes that are the same for the same seed and do not
// compress.
func randomData(n int, seed uint64) []byte {
	p := make([]byte, n)
	var key [32]byte
	key[0], key[1], key[2] = byte(seed), byte(seed>>8), byte(seed>>16)
	rand.NewChaCha8(key).Read(p)
	return p
}

func source(data []byte) Source { return Source{At: bytes.NewReader(data), Size: int64(len(data))} }

func putFile(t testing.TB, b *Backup, data []byte) Content {
	t.Helper()
	c, err := b.PutFile(t.Context(), source(data))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func addFile(t testing.TB, b *Backup, path string, data []byte) Content {
	t.Helper()
	c := putFile(t, b, data)
	if err := b.Add(t.Context(), Entry{Root: "/", Path: path, Type: Regular, Mode: 0o644, Size: int64(len(data)), Content: c}); err != nil {
		t.Fatal(err)
	}
	return c
}

func readContent(t testing.TB, r *Repository, c Content) []byte {
	t.Helper()
	f, err := r.OpenContent(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, c.Size())
	if n, err := f.ReadAt(got, 0); n != len(got) || err != nil && err != io.EOF {
		t.Fatalf("read %d of %d bytes: %v", n, len(got), err)
	}
	return got
}

// readTree gives the content of every regular file of a record.
func readTree(t testing.TB, rec *Record) map[string]string {
	t.Helper()
	files := map[string]string{}
	for e, err := range rec.Table().All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Type == Regular {
			files[e.Path] = string(readContent(t, rec.repo, e.Content))
		}
	}
	return files
}

func objects(t testing.TB, st store.Store) map[string]int64 {
	t.Helper()
	all := map[string]int64{}
	err := st.List(context.Background(), "", func(info store.Info) error {
		all[info.Name] = info.Size
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestWhatIsBackedUpReadsBack(t *testing.T) {
	for name, st := range bothStores(t) {
		t.Run(name, func(t *testing.T) {
			r := newTestRepository(t, st)
			b := begin(t, r, nil)
			want := map[string]string{}
			for i, size := range []int{0, 1, 255, 256, 257, 1000, 8191, 8192, 8193, 100_000, 700_000} {
				path := fmt.Sprintf("dir/file-%02d", i)
				want[path] = string(randomData(size, uint64(i)))
				addFile(t, b, path, []byte(want[path]))
			}
			want["dir/zeros"] = string(make([]byte, 500_000))
			addFile(t, b, "dir/zeros", []byte(want["dir/zeros"]))
			doc, err := b.PutBytes(t.Context(), []byte("<xml/>"))
			if err != nil {
				t.Fatal(err)
			}
			info := testInfo()
			info.Documents = map[string]Content{"bcd.xml": doc}
			rec := commit(t, b, info)

			for _, r := range []*Repository{r, reopen(t, st)} {
				got, err := r.Record(t.Context(), "latest")
				if err != nil {
					t.Fatal(err)
				}
				if got.ID != rec.ID || !got.Time.Equal(info.Time) || got.Host != info.Host || got.State != Complete {
					t.Errorf("the record reads %+v", got)
				}
				files := readTree(t, got)
				if len(files) != len(want) {
					t.Errorf("%d files, want %d", len(files), len(want))
				}
				for path, data := range want {
					if files[path] != data {
						t.Errorf("%s differs", path)
					}
				}
				if d, err := got.Document(t.Context(), "bcd.xml", 100); err != nil || string(d) != "<xml/>" {
					t.Errorf("document: %q, %v", d, err)
				}
			}
		})
	}
}

func TestDuplicatesAreStoredOnce(t *testing.T) {
	st := mem.New()
	r := newTestRepository(t, st)
	data := randomData(200_000, 1)
	b := begin(t, r, nil)
	addFile(t, b, "a", data)
	addFile(t, b, "b", data)
	first := commit(t, b, testInfo())
	if n := first.Totals.BytesAdded; n < 200_000 || n > 210_000 {
		t.Errorf("%d bytes were added for twice the same 200000", n)
	}
	for _, r := range []*Repository{r, reopen(t, st)} {
		b := begin(t, r, nil)
		addFile(t, b, "c", append([]byte("shifted by a few bytes"), data...))
		rec := commit(t, b, testInfo())
		if n := rec.Totals.BytesAdded; n > 30_000 {
			t.Errorf("%d bytes were added for a file that is almost there", n)
		}
		if n := rec.Totals.BytesRead; n != 200_022 {
			t.Errorf("%d bytes were read", n)
		}
	}
}

func TestAnUnchangedTableIsStoredOnce(t *testing.T) {
	st := mem.New()
	r := newTestRepository(t, st)
	backup := func(changed int) *Record {
		b := begin(t, r, nil)
		for i := range 5000 {
			e := Entry{Root: "/", Path: fmt.Sprintf("d%02d/f%04d", i/100, i), Type: Regular, Mode: 0o600, UID: uint32(i), User: strings.Repeat("u", 120)}
			if i == changed {
				e.Mode = 0o640
			}
			if err := b.Add(t.Context(), e); err != nil {
				t.Fatal(err)
			}
		}
		return commit(t, b, testInfo())
	}
	first, again, changed := backup(-1), backup(-1), backup(2500)
	if first.Totals.ChunksAdded < 6 {
		t.Errorf("the table has %d blocks", first.Totals.ChunksAdded)
	}
	if again.Totals.ChunksAdded != 0 || again.Totals.BytesStored != 0 {
		t.Errorf("the same table again: %+v", again.Totals)
	}
	if n := changed.Totals.ChunksAdded; n < 1 || n > 3 {
		t.Errorf("one changed entry: %d blocks", n)
	}
}

func TestPasswordsAndRepositories(t *testing.T) {
	ctx, st := t.Context(), mem.New()
	if _, err := Open(ctx, st, testPassword, testOptions()); !errors.Is(err, ErrNoRepository) {
		t.Errorf("open nothing: %v", err)
	}
	if _, err := Create(ctx, st, nil, testOptions()); !errors.Is(err, ErrInvalid) {
		t.Errorf("create without a password: %v", err)
	}
	r := newTestRepository(t, st)
	if _, err := Create(ctx, st, testPassword, testOptions()); !errors.Is(err, ErrExist) {
		t.Errorf("create again: %v", err)
	}
	if _, err := Open(ctx, st, []byte("wrong"), testOptions()); !errors.Is(err, ErrWrongPassword) {
		t.Errorf("open with a wrong password: %v", err)
	}
	if got := reopen(t, st).ID(); got != r.ID() {
		t.Errorf("opened repository %s, created %s", got, r.ID())
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if _, err := r.Begin(ctx, BeginOptions{}); !errors.Is(err, ErrClosed) {
		t.Errorf("begin after close: %v", err)
	}
}

func TestTheDefaultPasswordSlotIsWhatTheDocumentSays(t *testing.T) {
	st := mem.New()
	o := testOptions()
	o.KDF = KDF{}
	if _, err := Create(t.Context(), st, testPassword, o); err != nil {
		t.Fatal(err)
	}
	for name := range objects(t, st) {
		if !strings.HasPrefix(name, prefixKeys) {
			continue
		}
		object, err := readObject(t.Context(), st, name, maxSlot)
		if err != nil {
			t.Fatal(err)
		}
		s, err := decodeSlot(object)
		if err != nil || s.kdf() != (KDF{Time: 3, Memory: 64 << 10, Threads: 4}) {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
	reopen(t, st)
}

func TestAWriteOnlyKeyAddsBackupsAndReadsNothing(t *testing.T) {
	ctx, st := t.Context(), mem.New()
	full := newTestRepository(t, st)
	b := begin(t, full, nil)
	data := randomData(50_000, 1)
	addFile(t, b, "a", data)
	commit(t, b, testInfo())

	slot, err := encodeSlot(full.keys, []byte("agent"), testOptions().KDF, true, "", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Put(ctx, slotName(hashObject(slot)), slot); err != nil {
		t.Fatal(err)
	}
	r, err := Open(ctx, st, []byte("agent"), testOptions())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Records(ctx); !errors.Is(err, ErrWriteOnly) {
		t.Errorf("records: %v", err)
	}
	b = begin(t, r, nil)
	addFile(t, b, "b", data)
	addFile(t, b, "c", randomData(1000, 2))
	rec := commit(t, b, testInfo())
	if rec.Totals.BytesAdded > 3000 {
		t.Errorf("it did not find what is stored: %d bytes added", rec.Totals.BytesAdded)
	}
	if err := r.Verify(ctx, putFileForRead(t, rec)); !errors.Is(err, ErrWriteOnly) {
		t.Errorf("read back: %v", err)
	}
	got, err := full.Record(ctx, rec.ID.String())
	if err != nil {
		t.Fatal(err)
	}
	if files := readTree(t, got); files["b"] != string(data) || len(files) != 2 {
		t.Errorf("%d files", len(files))
	}
}

// putFileForRead makes a content that refers to the record's table, to have
// something to read.
func putFileForRead(t *testing.T, rec *Record) Content {
	root := rec.table.root
	w := newListWriter(nil)
	if err := w.data(t.Context(), chunkRef{ID(root.ID), root.Length}, 0, root.Length); err != nil {
		t.Fatal(err)
	}
	c, err := w.finish(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestManyWritersNeedNoLocks(t *testing.T) {
	st := mem.New()
	newTestRepository(t, st)
	var wg sync.WaitGroup
	shared := randomData(300_000, 99)
	for i := range 4 {
		wg.Go(func() {
			r := reopen(t, st)
			for j := range 3 {
				b, err := r.Begin(t.Context(), BeginOptions{})
				if err != nil {
					t.Error(err)
					return
				}
				defer b.Abort()
				var files sync.WaitGroup
				for k := range 5 {
					files.Go(func() {
						data := append(randomData(20_000, uint64(100*i+10*j+k)), shared...)
						c, err := b.PutFile(t.Context(), source(data))
						if err == nil {
							err = b.Add(t.Context(), Entry{Root: "/", Path: fmt.Sprint("f", k), Type: Regular, Size: c.Size(), Content: c})
						}
						if err != nil {
							t.Error(err)
						}
					})
				}
				files.Wait()
				if _, err := b.Commit(t.Context(), testInfo()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	r := reopen(t, st)
	records, err := r.Records(t.Context())
	if err != nil || len(records) != 12 {
		t.Fatalf("%d records, %v", len(records), err)
	}
	for _, rec := range records {
		for path, data := range readTree(t, rec) {
			if len(data) != 320_000 || !strings.HasSuffix(data, string(shared)) {
				t.Errorf("record %s: %s differs", rec.ID.Short(), path)
			}
		}
	}
}

func TestRecordsAreFoundByPrefixAndInOrder(t *testing.T) {
	ctx := t.Context()
	r := newTestRepository(t, mem.New())
	if _, err := r.Record(ctx, "latest"); !errors.Is(err, ErrNotFound) {
		t.Errorf("latest of none: %v", err)
	}
	var ids []ID
	for _, day := range []int{2, 3, 1} {
		info := testInfo()
		info.Time = time.Date(2026, 1, day, 0, 0, 0, 0, time.UTC)
		ids = append(ids, commit(t, begin(t, r, nil), info).ID)
	}
	records, err := r.Records(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var got []ID
	for _, rec := range records {
		got = append(got, rec.ID)
	}
	if want := []ID{ids[2], ids[0], ids[1]}; !slices.Equal(got, want) {
		t.Errorf("order %v, want %v", got, want)
	}
	if rec, err := r.Record(ctx, "latest"); err != nil || rec.ID != ids[1] {
		t.Errorf("latest: %v", err)
	}
	if rec, err := r.Record(ctx, ids[0].String()[:12]); err != nil || rec.ID != ids[0] {
		t.Errorf("by prefix: %v", err)
	}
	for _, name := range []string{"", "abc", "ABCD", "../x", "newest", strings.Repeat("a", 65)} {
		if _, err := r.Record(ctx, name); !errors.Is(err, ErrInvalid) {
			t.Errorf("record %q: %v", name, err)
		}
	}
	if _, err := r.Record(ctx, "0000000000"); !errors.Is(err, ErrNotFound) {
		t.Errorf("record of no such id: %v", err)
	}
}

func TestNotesAreKeptBesideTheirRecord(t *testing.T) {
	ctx, st := t.Context(), mem.New()
	r := newTestRepository(t, st)
	rec := commit(t, begin(t, r, nil), testInfo())
	other := commit(t, begin(t, r, nil), testInfo())
	for i := range 3 {
		n := Note{Time: time.Unix(int64(100-i), 0).UTC(), Kind: "outcome", Body: []byte{byte(i)}}
		if _, err := r.AddNote(ctx, rec.ID, n); err != nil {
			t.Fatal(err)
		}
	}
	notes, err := reopen(t, st).Notes(ctx, rec.ID)
	if err != nil || len(notes) != 3 {
		t.Fatalf("%d notes, %v", len(notes), err)
	}
	for i, n := range notes {
		if n.Record != rec.ID || n.Kind != "outcome" || !bytes.Equal(n.Body, []byte{byte(2 - i)}) || n.Time.Unix() != int64(98+i) {
			t.Errorf("note %d: %+v", i, n)
		}
	}
	if notes, err := r.Notes(ctx, other.ID); err != nil || len(notes) != 0 {
		t.Errorf("notes of another record: %v, %v", notes, err)
	}
	if _, err := r.AddNote(ctx, ID{1}, Note{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("note about no record: %v", err)
	}
}

func TestALostIndexIsReadFromThePacks(t *testing.T) {
	ctx, st := t.Context(), mem.New()
	r := newTestRepository(t, st)
	b := begin(t, r, nil)
	data := randomData(100_000, 3)
	addFile(t, b, "a", data)
	commit(t, b, testInfo())
	for name := range objects(t, st) {
		if strings.HasPrefix(name, prefixIndex) {
			if err := st.Delete(ctx, name); err != nil {
				t.Fatal(err)
			}
		}
	}
	rec, err := reopen(t, st).Record(ctx, "latest")
	if err != nil {
		t.Fatal(err)
	}
	if files := readTree(t, rec); files["a"] != string(data) {
		t.Error("the file differs")
	}
}

func TestChunksOfALostPackAreStoredAgain(t *testing.T) {
	ctx, st := t.Context(), mem.New()
	r := newTestRepository(t, st)
	data := randomData(100_000, 3)
	b := begin(t, r, nil)
	old := addFile(t, b, "a", data)
	base := commit(t, b, testInfo())
	for name := range objects(t, st) {
		if strings.HasPrefix(name, prefixData) {
			if err := st.Delete(ctx, name); err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	r = reopen(t, st)
	base, err := r.Record(ctx, base.ID.String())
	if err != nil {
		t.Fatal(err)
	}
	b = begin(t, r, base)
	if err := b.Holds(ctx, old); !errors.Is(err, ErrDamaged) {
		t.Errorf("content with lost chunks is said to be there: %v", err)
	}
	if _, err := b.PutRanges(ctx, old, source(data), nil); !errors.Is(err, ErrDamaged) {
		t.Errorf("a new version of content with lost chunks: %v", err)
	}
	addFile(t, b, "a", data)
	commit(t, b, testInfo())
	for _, rec := range []string{"latest", base.ID.String()} {
		rec, err := reopen(t, st).Record(ctx, rec)
		if err != nil {
			t.Fatal(err)
		}
		if files := readTree(t, rec); files["a"] != string(data) {
			t.Error("the file differs")
		}
	}
}

// Each byte of the config and of the key slot is flipped in turn: the
// repository does not open, and the error names the object.
func TestAlteredKeysAndConfigDoNotOpen(t *testing.T) {
	_, st, _ := smallRepository(t)
	for name := range objects(t, st) {
		if name != configName && !strings.HasPrefix(name, prefixKeys) {
			continue
		}
		object, err := readObject(t.Context(), st, name, maxSlot)
		if err != nil {
			t.Fatal(err)
		}
		for i := range object {
			flipped := bytes.Clone(object)
			flipped[i] ^= 1
			_, err := Open(t.Context(), &changedStore{st, name, flipped}, testPassword, testOptions())
			if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrUnsupported) && !errors.Is(err, ErrWrongPassword) || errors.Is(err, ErrWrongPassword) && name != configName {
				t.Errorf("%s with byte %d flipped: %v", name, i, err)
			}
		}
	}
}

func TestADamagedIndexIsSaidAndHarmsNothing(t *testing.T) {
	r, st, second := smallRepository(t)
	for name := range objects(t, st) {
		if !strings.HasPrefix(name, prefixIndex) {
			continue
		}
		object, err := readObject(t.Context(), st, name, maxIndex)
		if err != nil {
			t.Fatal(err)
		}
		object[len(object)/2] ^= 1
		damaged := r.on(&changedStore{st, name, object})
		rec, err := damaged.Record(t.Context(), second.ID.String())
		if err != nil {
			t.Fatal(err)
		}
		if err := damaged.Damage(); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), name) {
			t.Errorf("the damage is said to be: %v", err)
		}
		if files := readTree(t, rec); len(files) != 1 || files["d/two"] != string(randomData(3000, 7))+"more" {
			t.Errorf("with %s damaged the files differ", name)
		}
		problems, err := problemsOf(t.Context(), damaged, CheckOptions{ReadData: true})
		if err != nil || !slices.Equal(names(problems), []string{name}) || len(problems) != 1 {
			t.Errorf("check: %+v, %v", problems, err)
		}
	}
	if r.Damage() != nil {
		t.Errorf("damage of a whole repository: %v", r.Damage())
	}
}

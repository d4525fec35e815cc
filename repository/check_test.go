package repository

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sombra-backup/sombra/repository/store"
	"github.com/sombra-backup/sombra/repository/store/mem"
)

// changedStore shows one object of a store otherwise than it is.
type changedStore struct {
	store.Store
	name string
	data []byte // nil: the object is missing
}

func (s *changedStore) Stat(ctx context.Context, name string) (store.Info, error) {
	if name != s.name {
		return s.Store.Stat(ctx, name)
	}
	if s.data == nil {
		return store.Info{}, store.ErrNotExist
	}
	return store.Info{Name: name, Size: int64(len(s.data))}, nil
}

func (s *changedStore) ReadAt(ctx context.Context, name string, p []byte, off int64) (int, error) {
	if name != s.name {
		return s.Store.ReadAt(ctx, name, p, off)
	}
	if s.data == nil {
		return 0, store.ErrNotExist
	}
	if off > int64(len(s.data)) {
		return 0, io.EOF
	}
	n := copy(p, s.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (s *changedStore) List(ctx context.Context, prefix string, f func(store.Info) error) error {
	return s.Store.List(ctx, prefix, func(info store.Info) error {
		if info.Name == s.name {
			if s.data == nil {
				return nil
			}
			info.Size = int64(len(s.data))
		}
		return f(info)
	})
}

// on gives the repository, unlocked, on another store.
func (r *Repository) on(st store.Store) *Repository {
	return newRepository(st, r.options, r.keys, r.chunking, r.slot)
}

// smallRepository has an object of every kind, and two records.
func smallRepository(t testing.TB) (*Repository, *mem.Store, *Record) {
	st := mem.New()
	o := testOptions()
	o.PackSize = 8 << 10
	r, err := Create(t.Context(), st, testPassword, o)
	if err != nil {
		t.Fatal(err)
	}
	data := randomData(3000, 7)
	b := begin(t, r, nil)
	addFile(t, b, "d/one", data[:2000])
	addFile(t, b, "d/two", data)
	doc, err := b.PutBytes(t.Context(), []byte("<BCD/>"))
	if err != nil {
		t.Fatal(err)
	}
	info := testInfo()
	info.Documents = map[string]Content{"bcd.xml": doc}
	first := commit(t, b, info)
	b = begin(t, r, first)
	if err := b.Add(t.Context(), Entry{Root: "/", Path: "d", Type: Directory}); err != nil {
		t.Fatal(err)
	}
	addFile(t, b, "d/two", append(data, "more"...))
	second := commit(t, b, testInfo())
	if _, err := r.AddNote(t.Context(), second.ID, Note{Kind: "outcome", Body: []byte("ok")}); err != nil {
		t.Fatal(err)
	}
	return r, st, second
}

func check(t testing.TB, r *Repository, o CheckOptions) (Report, []Problem) {
	t.Helper()
	var problems []Problem
	report, err := r.Check(t.Context(), o, func(p Problem) { problems = append(problems, p) })
	if err != nil {
		t.Fatalf("check: %v", err)
	}
	if report.Problems != int64(len(problems)) {
		t.Errorf("%d problems counted, %d reported", report.Problems, len(problems))
	}
	return report, problems
}

func names(problems []Problem) (objects []string) {
	for _, p := range problems {
		if p.Object != "" && !slices.Contains(objects, p.Object) {
			objects = append(objects, p.Object)
		}
	}
	return objects
}

func TestCheckOfAWholeRepositoryFindsNothing(t *testing.T) {
	r, st, _ := smallRepository(t)
	if err := st.Put(t.Context(), "lost.txt", []byte("x")); err != nil {
		t.Fatal(err)
	}
	for _, read := range []bool{false, true} {
		report, problems := check(t, r, CheckOptions{ReadData: read})
		if len(problems) != 0 {
			t.Errorf("read data %v: %+v", read, problems)
		}
		if report.Records != 2 || report.Notes != 1 || report.Keys != 1 || report.Indexes != 2 || report.Packs != 4 || report.Entries != 4 || report.Unindexed != 0 {
			t.Errorf("read data %v: %+v", read, report)
		}
		if !slices.Equal(report.Foreign, []string{"lost.txt"}) {
			t.Errorf("foreign objects: %v", report.Foreign)
		}
		if read == (report.ChunksRead == 0) || report.Chunks == 0 || report.Extents == 0 {
			t.Errorf("read data %v: %+v", read, report)
		}
	}
}

// pruneObjects adds what prunes and backups that go on have beside records: a
// mark, one that confirms it, two intents, and a void, whose name it gives.
func pruneObjects(t testing.TB, r *Repository) (void string) {
	t.Helper()
	marked, err := r.putMark(t.Context(), []knownPack{{kind: kindDataPack, id: ID{1}}, {kind: kindMetaPack, id: ID{2}}}, nil)
	if err == nil {
		_, err = r.putMark(t.Context(), nil, []ID{marked})
	}
	if err != nil {
		t.Fatal(err)
	}
	k, err := r.keep(t.Context(), "host")
	if err != nil {
		t.Fatal(err)
	}
	k.halt()
	if err := k.put(t.Context(), ID{3}); err != nil {
		t.Fatal(err)
	}
	void = recordName(ID{3})
	if err := r.store.Put(t.Context(), void, []byte(voidRecord)); err != nil {
		t.Fatal(err)
	}
	return void
}

// Each byte of each object is flipped in turn, and each object truncated and
// removed: check finds it every time and names the object.
//
// That a mark, an intent or a void was removed is not to be seen. Nothing that
// was committed is harmed by it: without a mark or an intent a backup that goes
// on at that moment may build on a pack that a prune then deletes, and without a
// void the record of a backup that died may appear long afterwards; in either
// case check names what that one record lacks.
func TestCheckFindsAndNamesEveryDamage(t *testing.T) {
	r, st, second := smallRepository(t)
	void := pruneObjects(t, r)
	if _, problems := check(t, r, CheckOptions{ReadData: true}); len(problems) != 0 {
		t.Fatalf("before any damage: %+v", problems)
	}
	unseen := func(name string) bool {
		return name == void || strings.HasPrefix(name, prefixMarks) || strings.HasPrefix(name, prefixIntents)
	}
	all := objects(t, st)
	var total int64
	for _, size := range all {
		total += size
	}
	if total >= 64<<10 {
		t.Fatalf("the repository has %d bytes, too many to flip", total)
	}
	finds := func(name string, data []byte, what string) {
		problems, err := problemsOf(t.Context(), r.on(&changedStore{st, name, data}), CheckOptions{ReadData: true})
		if err != nil {
			t.Errorf("%s %s: check: %v", name, what, err)
		} else if !slices.Contains(names(problems), name) {
			t.Errorf("%s %s: reported %v", name, what, names(problems))
		}
	}
	var flips atomic.Int64
	var wg sync.WaitGroup
	work := make(chan func())
	for range 2 {
		wg.Go(func() {
			for f := range work {
				f()
			}
		})
	}
	for name, size := range all {
		object, err := readObject(t.Context(), st, name, size)
		if err != nil {
			t.Fatal(err)
		}
		for i := range object {
			work <- func() {
				flipped := bytes.Clone(object)
				flipped[i] ^= 1 << (i % 8)
				finds(name, flipped, fmt.Sprintf("with byte %d flipped", i))
				flips.Add(1)
			}
		}
		for _, n := range []int{0, 1, magicSize, len(object) / 2, len(object) - 1} {
			if n >= len(object) {
				continue // a void is no longer than that
			}
			work <- func() { finds(name, object[:n:n], fmt.Sprintf("cut to %d bytes", n)) }
		}
		work <- func() { finds(name, append(bytes.Clone(object), 0), "with a byte more") }
		// A record that nothing refers to can be taken away unseen; the other
		// one has a note.
		if unseen(name) {
			work <- func() {
				problems, err := problemsOf(t.Context(), r.on(&changedStore{st, name, nil}), CheckOptions{ReadData: true})
				if err != nil || len(problems) != 0 {
					t.Errorf("%s removed: %+v, %v", name, problems, err)
				}
			}
		} else if !strings.HasPrefix(name, prefixNotes) && (!strings.HasPrefix(name, prefixRecords) || name == recordName(second.ID)) {
			work <- func() { finds(name, nil, "removed") }
		}
	}
	close(work)
	wg.Wait()
	if flips.Load() != total {
		t.Errorf("%d of %d bytes were flipped", flips.Load(), total)
	}
}

func problemsOf(ctx context.Context, r *Repository, o CheckOptions) (problems []Problem, err error) {
	_, err = r.Check(ctx, o, func(p Problem) { problems = append(problems, p) })
	return problems, err
}

func TestCheckNamesTheFilesThatDamageHurts(t *testing.T) {
	r := newTestRepository(t, mem.New())
	st := r.store.(*mem.Store)
	b := begin(t, r, nil)
	addFile(t, b, "good", randomData(5000, 1))
	first := commit(t, b, testInfo())
	before := objects(t, st)
	b = begin(t, r, first)
	addFile(t, b, "bad", randomData(5000, 2))
	addFile(t, b, "good", randomData(5000, 1))
	second := commit(t, b, testInfo())
	var pack string
	for name := range objects(t, st) {
		if _, old := before[name]; !old && strings.HasPrefix(name, prefixData) {
			pack = name
		}
	}
	object, err := readObject(t.Context(), st, pack, maxPack)
	if err != nil {
		t.Fatal(err)
	}
	object[headerSize+100] ^= 1
	for _, c := range []struct {
		what string
		data []byte
		read bool
	}{{"flipped", object, true}, {"missing", nil, false}, {"missing", nil, true}, {"truncated", object[:len(object)-1], false}} {
		problems, err := problemsOf(t.Context(), r.on(&changedStore{st, pack, c.data}), CheckOptions{ReadData: c.read})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(names(problems), []string{pack}) {
			t.Errorf("%s: objects %v, want %s", c.what, names(problems), pack)
		}
		var hurt []string
		for _, p := range problems {
			if p.Path != "" {
				hurt = append(hurt, p.Record.String()+" "+p.Root+p.Path)
			}
			if !errors.Is(p.Err, ErrDamaged) {
				t.Errorf("%s: %v", c.what, p.Err)
			}
		}
		if want := []string{second.ID.String() + " /bad"}; !slices.Equal(hurt, want) {
			t.Errorf("%s: hurt %v, want %v", c.what, hurt, want)
		}
	}
	// A flip in a frame is beyond what a check of the structure can see.
	problems, err := problemsOf(t.Context(), r.on(&changedStore{st, pack, object}), CheckOptions{})
	if err != nil || len(problems) != 0 {
		t.Errorf("structure of a pack with a flipped byte in a frame: %v, %v", problems, err)
	}
	// The damage does not reach what it does not touch.
	hurt := r.on(&changedStore{st, pack, object})
	rec, err := hurt.Record(t.Context(), first.ID.String())
	if err != nil {
		t.Fatal(err)
	}
	if files := readTree(t, rec); files["good"] != string(randomData(5000, 1)) {
		t.Error("the good file differs")
	}
}

func TestDamagedBytesAreNeverReturned(t *testing.T) {
	r, st, second := smallRepository(t)
	want := readTree(t, second)
	for name := range objects(t, st) {
		if !strings.HasPrefix(name, prefixData) {
			continue
		}
		object, err := readObject(t.Context(), st, name, maxPack)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(object); i += 3 {
			flipped := bytes.Clone(object)
			flipped[i] ^= 0x10
			damaged := r.on(&changedStore{st, name, flipped})
			rec, err := damaged.Record(t.Context(), second.ID.String())
			if err != nil {
				t.Fatal(err)
			}
			for e, err := range rec.Table().All(t.Context()) {
				if err != nil {
					t.Fatal(err)
				}
				f, err := damaged.OpenContent(t.Context(), e.Content)
				if err != nil {
					t.Fatal(err)
				}
				got := make([]byte, e.Content.Size())
				n, err := f.ReadAt(got, 0)
				if err != nil && err != io.EOF && !errors.Is(err, ErrDamaged) {
					t.Fatalf("%s with byte %d flipped: %v", name, i, err)
				}
				if string(got[:n]) != want[e.Path][:n] || err == nil && n != len(got) {
					t.Fatalf("%s with byte %d flipped: wrong bytes of %s", name, i, e.Path)
				}
			}
		}
	}
}

func TestADamagedDocumentDoesNotHideTheFiles(t *testing.T) {
	r := newTestRepository(t, mem.New())
	st := r.store.(*mem.Store)
	// The document in a backup of its own, so that it has a pack of its own.
	b := begin(t, r, nil)
	text := randomData(900, 5)
	if _, err := b.PutBytes(t.Context(), text); err != nil {
		t.Fatal(err)
	}
	commit(t, b, testInfo())
	var pack string
	for name := range objects(t, st) {
		if strings.HasPrefix(name, prefixMeta) {
			pack = name
		}
	}
	b = begin(t, r, nil)
	doc, err := b.PutBytes(t.Context(), text)
	if err != nil {
		t.Fatal(err)
	}
	addFile(t, b, "file", []byte("content"))
	info := testInfo()
	info.Documents = map[string]Content{"bcd.xml": doc}
	id := commit(t, b, info).ID
	if err := st.Delete(t.Context(), pack); err != nil {
		t.Fatal(err)
	}
	rec, err := reopen(t, st).Record(t.Context(), id.String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rec.Document(t.Context(), "bcd.xml", 1<<20); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "bcd.xml") {
		t.Errorf("document: %v", err)
	}
	if files := readTree(t, rec); files["file"] != "content" {
		t.Errorf("files: %v", files)
	}
	_, problems := check(t, reopen(t, st), CheckOptions{})
	var documents []string
	for _, p := range problems {
		if p.Document != "" {
			documents = append(documents, p.Document)
		}
	}
	if !slices.Equal(documents, []string{"bcd.xml"}) {
		t.Errorf("documents hurt: %v", documents)
	}
}

func TestCheckBesideBackupsFindsNothing(t *testing.T) {
	for name, st := range bothStores(t) {
		t.Run(name, func(t *testing.T) {
			newTestRepository(t, st)
			done := make(chan struct{})
			var wg sync.WaitGroup
			wg.Go(func() {
				defer close(done)
				r := reopen(t, st)
				for i := range 25 {
					b, err := r.Begin(t.Context(), BeginOptions{})
					if err != nil {
						t.Error(err)
						return
					}
					defer b.Abort()
					c, err := b.PutFile(t.Context(), source(randomData(30_000, uint64(i))))
					if err == nil {
						err = b.Add(t.Context(), Entry{Root: "/", Path: "f", Type: Regular, Size: c.Size(), Content: c})
					}
					if err != nil {
						t.Error(err)
						return
					}
					rec, err := b.Commit(t.Context(), testInfo())
					if err == nil {
						_, err = r.AddNote(t.Context(), rec.ID, Note{})
					}
					if err != nil {
						t.Error(err)
						return
					}
				}
			})
			r := reopen(t, st)
			for running := true; running; {
				select {
				case <-done:
					running = false
				default:
				}
				if _, problems := check(t, r, CheckOptions{ReadData: true}); len(problems) != 0 {
					t.Fatalf("check says %+v", problems)
				}
			}
			wg.Wait()
		})
	}
}

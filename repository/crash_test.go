package repository

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/repository/store"
	"github.com/sombra-backup/sombra/repository/store/mem"
)

var errInjected = errors.New("injected fault")

// How a faultyStore fails.
type faultMode string

const (
	// failsOnce: one operation fails and does nothing.
	failsOnce faultMode = "fails once"
	// failsAfter: one operation is done but reported to have failed.
	failsAfter faultMode = "is done but reported to fail"
	// dies: that operation and all later ones fail, as if the process were
	// killed or the store were gone.
	dies faultMode = "dies"
)

// faultyStore fails at one operation, counted from zero.
type faultyStore struct {
	store.Store
	mode faultMode
	at   int

	mu  sync.Mutex
	n   int
	hit string
}

// step counts an operation and says whether it fails.
func (s *faultyStore) step(op string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.n
	s.n++
	if n == s.at {
		s.hit = op
	}
	return n == s.at || n > s.at && s.mode == dies
}

func (s *faultyStore) do(op string, f func() error) error {
	if !s.step(op) {
		return f()
	}
	if s.mode == failsAfter {
		if err := f(); err != nil {
			return err
		}
	}
	return errInjected
}

func (s *faultyStore) Put(ctx context.Context, name string, data []byte) error {
	return s.do("put "+name, func() error { return s.Store.Put(ctx, name, data) })
}

func (s *faultyStore) ReadAt(ctx context.Context, name string, p []byte, off int64) (n int, err error) {
	err = s.do("read "+name, func() error { n, err = s.Store.ReadAt(ctx, name, p, off); return err })
	return n, err
}

func (s *faultyStore) Stat(ctx context.Context, name string) (info store.Info, err error) {
	err = s.do("stat "+name, func() error { info, err = s.Store.Stat(ctx, name); return err })
	return info, err
}

func (s *faultyStore) List(ctx context.Context, prefix string, f func(store.Info) error) error {
	return s.do("list "+prefix, func() error { return s.Store.List(ctx, prefix, f) })
}

func (s *faultyStore) Delete(ctx context.Context, name string) error {
	return s.do("delete "+name, func() error { return s.Store.Delete(ctx, name) })
}

func (s *faultyStore) Sweep(ctx context.Context, _ time.Duration) error {
	return s.do("sweep", func() error { return ctx.Err() })
}

// incremental makes a backup on top of another one, with every kind of call.
func incremental(ctx context.Context, r *Repository, base ID, seed uint64) (*Record, error) {
	old, err := r.Record(ctx, base.String())
	if err != nil {
		return nil, err
	}
	b, err := r.Begin(ctx, BeginOptions{Base: old})
	if err != nil {
		return nil, err
	}
	defer b.Abort()
	e, err := old.Table().Lookup(ctx, "/", "file")
	if err != nil {
		return nil, err
	}
	if err := b.Holds(ctx, e.Content); err != nil {
		return nil, err
	}
	next := randomData(int(e.Size), 1)
	copy(next[100:], fmt.Sprint("seed ", seed))
	c, err := b.PutRanges(ctx, e.Content, source(next), []Range{{100, 100}})
	if err != nil {
		return nil, err
	}
	if err := b.Add(ctx, Entry{Root: "/", Path: "file", Type: Regular, Size: c.Size(), Content: c}); err != nil {
		return nil, err
	}
	for i := range 4 {
		c, err := b.PutFile(ctx, source(randomData(20_000, 100*seed+uint64(i))))
		if err != nil {
			return nil, err
		}
		if err := b.Add(ctx, Entry{Root: "/", Path: fmt.Sprint("new", i), Type: Regular, Size: c.Size(), Content: c}); err != nil {
			return nil, err
		}
	}
	doc, err := b.PutBytes(ctx, []byte("a document"))
	if err != nil {
		return nil, err
	}
	info := testInfo()
	info.Documents = map[string]Content{"doc": doc}
	rec, err := b.Commit(ctx, info)
	if err != nil {
		return nil, err
	}
	_, err = r.AddNote(ctx, rec.ID, Note{Kind: "outcome"})
	return rec, err
}

// Whatever operation of a backup fails, and however: the error comes back to
// the caller, every earlier backup reads back, check is clean, and the next
// backup succeeds.
func TestABackupThatFailsAnywhereHarmsNothing(t *testing.T) {
	ctx := t.Context()
	origin := mem.New()
	r := newTestRepository(t, origin)
	b := begin(t, r, nil)
	data := randomData(60_000, 1)
	addFile(t, b, "file", data)
	base := commit(t, b, testInfo())
	r.options.PackSize = 4 << 10

	for _, mode := range []faultMode{failsOnce, failsAfter, dies} {
		t.Run(string(mode), func(t *testing.T) {
			hit := map[string]bool{}
			for at := 0; ; at++ {
				if at > 1000 {
					t.Fatal("the backup does not come to an end")
				}
				st := origin.Copy()
				faulty := &faultyStore{Store: st, mode: mode, at: at}
				rec, err := incremental(ctx, r.on(faulty), base.ID, 1)
				if faulty.hit == "" {
					if err != nil {
						t.Fatalf("without a fault: %v", err)
					}
					break
				}
				hit[faulty.hit[:4]] = true
				// An intent that stays is nobody's failure: it goes stale, and
				// the next prune deletes it.
				intent := mode != dies && strings.HasPrefix(faulty.hit, "delete "+prefixIntents)
				if err == nil && !intent {
					t.Fatalf("%s failed and nobody was told", faulty.hit)
				}
				if err != nil && !errors.Is(err, errInjected) {
					t.Errorf("%s: the error is %v", faulty.hit, err)
				}
				if rec != nil && err != nil && !errors.Is(err, errInjected) {
					t.Errorf("%s: a record and the error %v", faulty.hit, err)
				}
				again := r.on(st)
				old, err := again.Record(ctx, base.ID.String())
				if err != nil {
					t.Fatalf("%s: %v", faulty.hit, err)
				}
				if files := readTree(t, old); files["file"] != string(data) {
					t.Errorf("%s: the earlier backup differs", faulty.hit)
				}
				if _, problems := check(t, again, CheckOptions{ReadData: true}); len(problems) != 0 {
					t.Errorf("%s: check says %+v", faulty.hit, problems)
				}
				next, err := incremental(ctx, again, base.ID, 2)
				if err != nil {
					t.Fatalf("%s: the next backup: %v", faulty.hit, err)
				}
				if files := readTree(t, next); len(files) != 5 || files["new0"] != string(randomData(20_000, 200)) {
					t.Errorf("%s: the next backup differs", faulty.hit)
				}
				if at%7 == 0 {
					if _, problems := check(t, again, CheckOptions{ReadData: true}); len(problems) != 0 {
						t.Errorf("%s: check after the next backup says %+v", faulty.hit, problems)
					}
				}
			}
			for _, op := range []string{"put ", "read", "stat", "list", "swee", "dele"} {
				if !hit[op] {
					t.Errorf("no fault of kind %q was tested", op)
				}
			}
		})
	}
}

// What an interrupted backup stored and indexed is found by the next one.
func TestAnInterruptedBackupIsTakenUp(t *testing.T) {
	st := mem.New()
	r := newTestRepository(t, st)
	data := randomData(4_400_000, 1)
	b := begin(t, r, nil)
	putFile(t, b, data)
	for deadline := time.Now().Add(10 * time.Second); b.pipe.stored.Load() < 2_000_000; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("of 4 frames only %d bytes were stored", b.pipe.stored.Load())
		}
	}
	if err := b.Abort(); err != nil {
		t.Fatal(err)
	}
	if _, problems := check(t, r, CheckOptions{ReadData: true}); len(problems) != 0 {
		t.Errorf("check says %+v", problems)
	}
	again := reopen(t, st)
	b = begin(t, again, nil)
	addFile(t, b, "file", data)
	rec := commit(t, b, testInfo())
	if n := rec.Totals.BytesAdded; n > 2_500_000 {
		t.Errorf("%d of %d bytes were stored again", n, len(data))
	}
	if files := readTree(t, rec); files["file"] != string(data) {
		t.Error("the file differs")
	}
}

// What a backup stored and could not index, because it was killed, is found by
// the next one as well, and indexed by it.
func TestPacksWithoutAnIndexAreTakenUp(t *testing.T) {
	st := mem.New()
	r := newTestRepository(t, st)
	data := randomData(2_200_000, 1)
	b := begin(t, r, nil)
	addFile(t, b, "file", data)
	commit(t, b, testInfo())
	for name := range objects(t, st) {
		if strings.HasPrefix(name, prefixIndex) || strings.HasPrefix(name, prefixRecords) {
			if err := st.Delete(t.Context(), name); err != nil {
				t.Fatal(err)
			}
		}
	}
	report, _ := check(t, reopen(t, st), CheckOptions{})
	if report.Unindexed < 2 {
		t.Fatalf("%d packs have no index, and all should have none", report.Unindexed)
	}
	again := reopen(t, st)
	b = begin(t, again, nil)
	addFile(t, b, "file", data)
	rec := commit(t, b, testInfo())
	if n := rec.Totals.BytesAdded; n != 0 {
		t.Errorf("%d bytes were stored again", n)
	}
	report, problems := check(t, reopen(t, st), CheckOptions{ReadData: true})
	if len(problems) != 0 || report.Unindexed != 0 {
		t.Errorf("check: %d packs without an index, %+v", report.Unindexed, problems)
	}
	if files := readTree(t, rec); files["file"] != string(data) {
		t.Error("the file differs")
	}
}

// Whoever reads while another goroutine looks through packs without an index
// waits for it.
func TestManyReadersOfALostIndex(t *testing.T) {
	st := mem.New()
	b := begin(t, newTestRepository(t, st), nil)
	for i := range 30 {
		addFile(t, b, fmt.Sprint("file", i), randomData(50_000, uint64(i)))
	}
	commit(t, b, testInfo())
	for name := range objects(t, st) {
		if strings.HasPrefix(name, prefixIndex) {
			if err := st.Delete(t.Context(), name); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 10 {
		r := reopen(t, st)
		rec, err := r.Record(t.Context(), "latest")
		if err != nil {
			t.Fatal(err)
		}
		var readers sync.WaitGroup
		for i := range 8 {
			readers.Go(func() {
				if _, err := rec.Table().Lookup(t.Context(), "/", fmt.Sprint("file", i)); err != nil {
					t.Error(err)
				}
			})
		}
		readers.Wait()
	}
}

func TestACancelledBackupStops(t *testing.T) {
	r := newTestRepository(t, mem.New())
	ctx, cancel := context.WithCancel(t.Context())
	b, err := r.Begin(ctx, BeginOptions{})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := b.PutFile(t.Context(), source(randomData(100, 1))); !errors.Is(err, context.Canceled) {
		t.Errorf("put after the backup's context ended: %v", err)
	}
	if _, err := b.Commit(t.Context(), testInfo()); !errors.Is(err, context.Canceled) {
		t.Errorf("commit after the backup's context ended: %v", err)
	}
	b = begin(t, r, nil)
	addFile(t, b, "a", []byte("x"))
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Commit(done, testInfo()); !errors.Is(err, context.Canceled) {
		t.Errorf("commit with a context that is done: %v", err)
	}
	if _, err := b.PutBytes(t.Context(), nil); !errors.Is(err, ErrClosed) {
		t.Errorf("put after commit: %v", err)
	}
	if _, err := b.Commit(t.Context(), testInfo()); !errors.Is(err, ErrClosed) {
		t.Errorf("commit twice: %v", err)
	}
	if err := b.Abort(); err != nil {
		t.Errorf("abort after commit: %v", err)
	}
	if records, err := r.Records(t.Context()); err != nil || len(records) != 0 {
		t.Errorf("%d records, %v", len(records), err)
	}
}

func TestACreationThatFailsAnywhereCanBeRepeated(t *testing.T) {
	for at := 0; ; at++ {
		st := mem.New()
		faulty := &faultyStore{Store: st, mode: dies, at: at}
		_, err := Create(t.Context(), faulty, testPassword, testOptions())
		if faulty.hit == "" {
			if err != nil || at < 3 {
				t.Fatalf("without a fault, after %d operations: %v", at, err)
			}
			break
		}
		if !errors.Is(err, errInjected) {
			t.Errorf("%s: %v", faulty.hit, err)
		}
		if _, err := Open(t.Context(), st, testPassword, testOptions()); !errors.Is(err, ErrNoRepository) {
			t.Errorf("%s: open after it: %v", faulty.hit, err)
		}
		r := newTestRepository(t, st)
		if _, problems := check(t, r, CheckOptions{ReadData: true}); len(problems) != 0 {
			t.Errorf("%s: check says %+v", faulty.hit, problems)
		}
		reopen(t, st)
	}
}

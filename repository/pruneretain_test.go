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

// lockingStore has a clock that tests set, and refuses to delete what is locked
// by it.
type lockingStore struct {
	*mem.Store
	period time.Duration

	mu    sync.Mutex
	clock time.Time
	put   map[string]time.Time
	until map[string]time.Time
}

func newLockingStore(period time.Duration) *lockingStore {
	return &lockingStore{Store: mem.New(), period: period, clock: time.Unix(1_700_000_000, 0), put: map[string]time.Time{}, until: map[string]time.Time{}}
}

// pass lets days pass.
func (s *lockingStore) pass(days int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clock = s.clock.AddDate(0, 0, days)
}

func (s *lockingStore) Put(ctx context.Context, name string, data []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.Store.Put(ctx, name, data)
	if err == nil {
		s.put[name], s.until[name] = s.clock, s.clock.Add(s.period)
	}
	return err
}

func (s *lockingStore) Stat(ctx context.Context, name string) (store.Info, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	info, err := s.Store.Stat(ctx, name)
	info.ModTime = s.put[name]
	return info, err
}

func (s *lockingStore) List(ctx context.Context, prefix string, f func(store.Info) error) error {
	return s.Store.List(ctx, prefix, func(info store.Info) error {
		s.mu.Lock()
		info.ModTime = s.put[info.Name]
		s.mu.Unlock()
		return f(info)
	})
}

func (s *lockingStore) Delete(ctx context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.clock.Before(s.until[name]) {
		return fmt.Errorf("delete %s: %w", name, store.ErrLocked)
	}
	return s.Store.Delete(ctx, name)
}

func (s *lockingStore) Period() time.Duration { return s.period }

func (s *lockingStore) Retain(_ context.Context, name string, until time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.put[name]; !ok {
		return store.ErrNotExist
	}
	if until.After(s.until[name]) {
		s.until[name] = until
	}
	return nil
}

// locked says for how long from now the objects of a prefix are locked, in days:
// the least and the most of them.
func (s *lockingStore) locked(t *testing.T, prefix string) (least, most int) {
	t.Helper()
	least = 1 << 30
	for name := range objects(t, s.Store) {
		if strings.HasPrefix(name, prefix) {
			days := int(s.until[name].Sub(s.clock).Hours() / 24)
			least, most = min(least, days), max(most, days)
		}
	}
	return least, most
}

const day = 24 * time.Hour

// lockedRepository has two records of one host, the newer one without what the
// older one has.
func lockedRepository(t *testing.T) (r *Repository, st *lockingStore, older, newer *Record) {
	st = newLockingStore(30 * day)
	r, older, newer = noted(t, st)
	return r, st, older, newer
}

func TestPruneRenewsTheLocksOfWhatRecordsNeed(t *testing.T) {
	ctx := t.Context()
	r, st, older, newer := lockedRepository(t)
	st.pass(20)
	report, err := r.Prune(ctx, PruneOptions{}, nil)
	if err != nil || report.Retained == 0 || report.LockedCount != 0 {
		t.Fatalf("%+v, %v", report, err)
	}
	for prefix, want := range map[string]int{configName: 30, prefixKeys: 30, prefixData: 30, prefixMeta: 30, prefixIndex: 30,
		recordName(newer.ID): 30, recordName(older.ID): 10, prefixNotes: 10} {
		if least, most := st.locked(t, prefix); least != want || most != want {
			t.Errorf("%s is locked for %d to %d days, want %d", prefix, least, most, want)
		}
	}
	// Until its own lock is over the older record cannot be forgotten.
	forgot, err := r.Forget(ctx, []ID{older.ID})
	if err != nil || len(forgot.Forgotten) != 0 || !errors.Is(forgot.Locked[older.ID], store.ErrLocked) {
		t.Errorf("forget: %+v, %v", forgot, err)
	}
	if notes, err := r.Notes(ctx, older.ID); err != nil || len(notes) != 2 {
		t.Errorf("the record that stays has %d notes, %v", len(notes), err)
	}
	st.pass(11)
	if forgot, err = r.Forget(ctx, []ID{older.ID}); err != nil || len(forgot.Forgotten) != 1 || len(forgot.Locked) != 0 {
		t.Fatalf("forget after its time: %+v, %v", forgot, err)
	}
	if _, problems := check(t, r, CheckOptions{}); len(problems) != 0 {
		t.Errorf("check says %+v", problems)
	}

	// What it needed is marked, renewed no more, and goes when its lock is over.
	// Until then it waits, and nobody need be told.
	if report, err = r.Prune(ctx, PruneOptions{}, nil); err != nil || report.Marked == 0 {
		t.Fatalf("%+v, %v", report, err)
	}
	marked := report.Marked
	st.pass(2)
	report, err = r.Prune(ctx, PruneOptions{}, nil)
	if err != nil || report.Deleted != 0 || report.Waiting != marked || report.LockedCount != 0 || !report.Due.After(st.clock) {
		t.Errorf("while it is locked: %+v, %v", report, err)
	}
	st.pass(40)
	report, err = r.Prune(ctx, PruneOptions{}, nil)
	if err != nil || report.Deleted != marked || report.Waiting != 0 || report.LockedCount != 0 {
		t.Errorf("when it is locked no more: %+v, %v", report, err)
	}
	if n := countNotes(t, st.Store); n != 0 {
		t.Errorf("%d notes are left of a record that was forgotten", n)
	}
	if rec, err := r.Record(ctx, newer.ID.String()); err != nil || readTree(t, rec)["file"] != string(randomData(5000, 2)) {
		t.Errorf("the newer record: %v", err)
	}
}

// A retention that we did not ask for is told.
func TestPruneTellsWhatIsLockedLongerThanItShould(t *testing.T) {
	ctx := t.Context()
	r, st, older, _ := lockedRepository(t)
	st.pass(31)
	if _, err := r.Forget(ctx, []ID{older.ID}); err != nil {
		t.Fatal(err)
	}
	report, err := r.Prune(ctx, PruneOptions{}, nil)
	if err != nil || report.Marked == 0 {
		t.Fatalf("%+v, %v", report, err)
	}
	for name := range st.until {
		if strings.HasPrefix(name, prefixData) {
			st.until[name] = st.clock.AddDate(10, 0, 0)
		}
	}
	st.pass(31)
	report, err = r.Prune(ctx, PruneOptions{}, nil)
	if err != nil || report.LockedCount == 0 || int64(len(report.Locked)) != report.LockedCount {
		t.Errorf("%+v, %v", report, err)
	}
}

func TestPruneRenewsEverythingWhileNobodyKnowsWhatIsUsed(t *testing.T) {
	r, st, older, _ := lockedRepository(t)
	spoilObject(t, st.Store, recordName(older.ID))
	st.pass(29)
	report, err := r.Prune(t.Context(), PruneOptions{Retain: 60 * day}, nil)
	if err != nil || report.Stopped == nil {
		t.Fatalf("%+v, %v", report, err)
	}
	for _, prefix := range []string{configName, prefixKeys, prefixData, prefixMeta, prefixIndex, prefixRecords} {
		if least, _ := st.locked(t, prefix); least != 60 {
			t.Errorf("%s is locked for %d days", prefix, least)
		}
	}
}

func TestRetainIsWhatTheCallerSays(t *testing.T) {
	ctx := t.Context()
	r, st, _, _ := lockedRepository(t)
	st.pass(29)
	for _, o := range []PruneOptions{{Retain: -1}, {DryRun: true}, {DryRun: true, Retain: 60 * day}} {
		if report, err := r.Prune(ctx, o, nil); err != nil || report.Retained != 0 {
			t.Errorf("%+v: %+v, %v", o, report, err)
		}
	}
	if least, most := st.locked(t, prefixData); least != 1 || most != 1 {
		t.Errorf("packs are locked for %d to %d days", least, most)
	}
	if _, err := r.Prune(ctx, PruneOptions{Retain: 90 * day}, nil); err != nil {
		t.Fatal(err)
	}
	if least, most := st.locked(t, prefixData); least != 90 || most != 90 {
		t.Errorf("packs are locked for %d to %d days", least, most)
	}
	// A store that cannot is not passed over in silence.
	if _, err := newTestRepository(t, mem.New()).Prune(ctx, PruneOptions{Retain: day}, nil); !errors.Is(err, ErrUnsupported) {
		t.Errorf("in a store that locks nothing: %v", err)
	}
}

// The chain of the last record is renewed with it, the last of every host and of
// every place too.
func TestLocksOfTheLastRecordsAreRenewedWithTheirChains(t *testing.T) {
	st := newLockingStore(30 * day)
	r := newTestRepository(t, st)
	hours := time.Duration(0)
	made := func(host, path, kind string, parents ...ID) ID {
		b := begin(t, r, nil)
		addFile(t, b, "file", randomData(500, 1))
		info := testInfo()
		info.Host.ID, info.Type, info.Parents = host, kind, parents
		info.Roots[0].Path = path
		hours++
		info.Time = info.Time.Add(hours * time.Hour)
		rec := commit(t, b, info)
		return rec.ID
	}
	old := made("a", "/x", "full")
	full := made("a", "/x", "full")
	diff := made("a", "/x", "differential", full)
	other := made("a", "/y", "full")
	host := made("b", "/x", "full")
	st.pass(1)
	chain := func(rec *Record) []ID { return rec.Parents }
	if _, err := r.Prune(t.Context(), PruneOptions{Chain: chain}, nil); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[ID]int{old: 29, full: 30, diff: 30, other: 30, host: 30} {
		if least, _ := st.locked(t, recordName(id)); least != want {
			t.Errorf("record %d of 5 is locked for %d days, want %d", 1+indexOf(id, old, full, diff, other, host), least, want)
		}
	}
}

func indexOf(id ID, all ...ID) int {
	for i := range all {
		if all[i] == id {
			return i
		}
	}
	return -1
}

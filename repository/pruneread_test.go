package repository

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/repository/store"
	"github.com/sombra-backup/sombra/repository/store/mem"
)

// slippingStore changes what reads of a store give.
type slippingStore struct {
	store.Store
	read func(name string, p []byte, off int64) error
	put  func(name string)
	// age is by how much older the objects of a name are.
	age map[string]time.Duration
}

func (s *slippingStore) ReadAt(ctx context.Context, name string, p []byte, off int64) (int, error) {
	n, err := s.Store.ReadAt(ctx, name, p, off)
	if s.read != nil {
		if changed := s.read(name, p, off); changed != nil {
			return 0, changed
		}
	}
	return n, err
}

func (s *slippingStore) Put(ctx context.Context, name string, data []byte) error {
	if s.put != nil {
		s.put(name)
	}
	return s.Store.Put(ctx, name, data)
}

func (s *slippingStore) Stat(ctx context.Context, name string) (store.Info, error) {
	info, err := s.Store.Stat(ctx, name)
	info.ModTime = info.ModTime.Add(-s.age[name])
	return info, err
}

// A page of the index that is read wrongly once must not have what it names
// taken for unused.
func TestPruneMarksNothingWhenAPageOfTheIndexIsReadWronglyOnce(t *testing.T) {
	r, origin, _ := smallRepository(t)
	for at := range 40 {
		st, reads, hit := origin.Copy(), 0, false
		wrong := &slippingStore{Store: st, read: func(name string, p []byte, off int64) error {
			if strings.HasPrefix(name, prefixIndex) && off >= indexHeaderSize {
				if reads++; reads == at+1 {
					p[0] ^= 1
					hit = true
				}
			}
			return nil
		}}
		report, err := r.on(wrong).Prune(t.Context(), PruneOptions{Grace: -1}, nil)
		if !hit {
			if at == 0 {
				t.Fatal("no page of the index was read")
			}
			return
		}
		if report.Marked != 0 || report.Deleted != 0 {
			t.Errorf("read %d of a page: %+v, %v", at, report, err)
		}
		if report.Stopped == nil && err == nil && report.Problems > 0 {
			t.Errorf("read %d of a page: it found damage and went on: %+v", at, report)
		}
	}
}

// Another prune may replace an index object between its listing and its use.
func TestPruneBeginsAgainWhenTheIndexIsReplaced(t *testing.T) {
	r, origin, _ := smallRepository(t)
	hit := false
	gone := &slippingStore{Store: origin.Copy(), read: func(name string, _ []byte, off int64) error {
		if !hit && strings.HasPrefix(name, prefixIndex) && off >= indexHeaderSize {
			hit = true
			return store.ErrNotExist
		}
		return nil
	}}
	report, err := r.on(gone).Prune(t.Context(), PruneOptions{Grace: -1}, func(p Problem) { t.Errorf("%+v", p) })
	if err != nil || report.Stopped != nil || !hit {
		t.Errorf("hit %v: %+v, %v", hit, report, err)
	}
}

// packsOf gives the packs that an index knows.
func packsOf(x *chunkIndex) (packs []knownPack) {
	for _, p := range x.packs.all() {
		packs = append(packs, p)
	}
	return packs
}

// markOne puts a mark of every pack, and gives its name.
func markOne(t *testing.T, r *Repository) string {
	t.Helper()
	if err := r.index.refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	id, err := r.putMark(t.Context(), packsOf(r.index), nil)
	if err != nil {
		t.Fatal(err)
	}
	return markName(id)
}

func TestAMarkThatIsReadWronglyOnceCounts(t *testing.T) {
	r, st, _ := smallRepository(t)
	name := markOne(t, r)
	hit := false
	other := r.on(&slippingStore{Store: st, read: func(n string, p []byte, _ int64) error {
		if n == name && !hit {
			p[len(p)-1] ^= 1
			hit = true
		}
		return nil
	}})
	if err := other.mark(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !hit || len(other.index.marked) != r.index.packs.len() {
		t.Errorf("%d packs of %d are known to be marked", len(other.index.marked), r.index.packs.len())
	}
}

// spoilObject puts other bytes in the place of an object.
func spoilObject(t *testing.T, st *mem.Store, name string) {
	t.Helper()
	object, err := readObject(t.Context(), st, name, maxPack)
	if err != nil {
		t.Fatal(err)
	}
	object[len(object)/2] ^= 1
	if err := st.Delete(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	if err := st.Put(t.Context(), name, object); err != nil {
		t.Fatal(err)
	}
}

// What holds prunes back goes on doing so until its time has passed, readable or
// not.
func TestRepairLeavesYoungMarksAndIntents(t *testing.T) {
	ctx := t.Context()
	r, st, _ := smallRepository(t)
	b := begin(t, r, nil)
	defer b.Abort()
	names := []string{b.keeper.names[0], markOne(t, r)}
	for _, name := range names {
		spoilObject(t, st, name)
	}
	report, err := r.on(st).Repair(ctx, RepairOptions{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if _, err := st.Stat(ctx, name); err != nil || !slices.Contains(report.Kept, name) {
			t.Errorf("%s was not kept: %v, %+v", name, err, report)
		}
	}
	pruned, err := r.on(st).Prune(ctx, PruneOptions{Grace: -1}, nil)
	if err != nil || pruned.Stopped == nil || pruned.Deleted != 0 {
		t.Errorf("prune went on: %+v, %v", pruned, err)
	}
	old := &slippingStore{Store: st, age: map[string]time.Duration{names[0]: keepMarks, names[1]: keepMarks}}
	report, err = r.on(old).Repair(ctx, RepairOptions{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if !slices.Contains(report.SetAside, name) {
			t.Errorf("%s is old and was not put aside: %+v", name, report)
		}
	}
}

// Repair relies on what other packs hold, so that no prune may delete it.
func TestRepairHoldsPrunesBack(t *testing.T) {
	ctx := t.Context()
	r, st, _ := smallRepository(t)
	for name := range objects(t, st) {
		if strings.HasPrefix(name, prefixData) {
			spoilObject(t, st, name)
			break
		}
	}
	aside := 0
	watched := &slippingStore{Store: st, put: func(name string) {
		if !strings.HasPrefix(name, prefixDamaged) {
			return
		}
		aside++
		all, err := r.on(st).intents(ctx)
		if err != nil || !slices.ContainsFunc(all, func(i *intent) bool { return i.fresh(i.time) }) {
			t.Errorf("%s is put aside and nothing holds prunes back: %v", name, err)
		}
	}}
	if _, err := r.on(watched).Repair(ctx, RepairOptions{}, nil); err != nil || aside == 0 {
		t.Fatalf("%d objects were put aside: %v", aside, err)
	}
	if all, err := r.on(st).intents(ctx); err != nil || len(all) != 0 {
		t.Errorf("%d intents are left: %v", len(all), err)
	}
}

// Of a large base only a sample of the chunks is looked for; that is not enough
// when the base was forgotten and pruned before the backup began.
func TestABaseThatWasForgottenIsLookedThroughWhole(t *testing.T) {
	ctx := t.Context()
	origin := mem.New()
	r := newTestRepository(t, origin)
	r.options.PackSize = 4 << 10
	data := randomData(5<<20, 3)
	b := begin(t, r, nil)
	content := addFile(t, b, "file", data)
	base := commit(t, b, testInfo())
	if _, err := r.Forget(ctx, []ID{base.ID}); err != nil {
		t.Fatal(err)
	}
	// Prune takes the packs one by one; whichever it has taken is missed, not only
	// one that holds some of the sample.
	packs, unseen := 0, 0
	for name := range objects(t, origin) {
		if !strings.HasPrefix(name, prefixData) {
			continue
		}
		packs++
		st := origin.Copy()
		if err := st.Delete(ctx, name); err != nil {
			t.Fatal(err)
		}
		again := r.on(st)
		again.usageLimit = 1
		forgotten := *base
		forgotten.repo = again
		b := begin(t, again, &forgotten)
		_, err := b.PutRanges(ctx, content, Source{At: bytes.NewReader(data), Size: int64(len(data))}, []Range{{10, 20}})
		if !errors.Is(err, ErrDamaged) {
			t.Errorf("%s of the base is gone, and PutRanges says %v", name, err)
		}
		if b.sampled.Load() {
			unseen++ // the sample was there
		}
		b.Abort()
	}
	if packs < 4 || unseen < 2 {
		t.Errorf("of %d packs %d held nothing of the sample: not much was tested", packs, unseen)
	}
}

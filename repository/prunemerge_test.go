package repository

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/repository/store"
	"github.com/sombra-backup/sombra/repository/store/mem"
)

// However many backups there were: prune leaves few index objects, and writes no
// line often.
func TestPruneKeepsTheIndexObjectsFew(t *testing.T) {
	ctx := t.Context()
	st := mem.New()
	r := newTestRepository(t, st)
	written := &slippingStore{Store: st}
	var puts int64
	written.put = func(name string) {
		if strings.HasPrefix(name, prefixIndex) {
			puts++
		}
	}
	const backups = 260
	var records []*Record
	for i := range backups {
		b := begin(t, r, nil)
		addFile(t, b, "file", randomData(600+i%3*4000, uint64(i)))
		records = append(records, commit(t, b, testInfo()))
		if i%20 != 19 {
			continue
		}
		// The second deletes what the first superseded.
		for range 2 {
			report, err := r.on(written).Prune(ctx, PruneOptions{Grace: -1, MaxUnused: 1}, nil)
			if err != nil || report.Stopped != nil || report.Marked > 0 {
				t.Fatalf("%+v, %v", report, err)
			}
		}
		x := r.on(st).index
		if err := x.refresh(ctx); err != nil {
			t.Fatal(err)
		}
		classes := map[int]int{}
		for _, part := range x.parts {
			classes[sizeClass(indexWeight(part))]++
		}
		for class, n := range classes {
			if n > mergeFactor {
				t.Errorf("after %d backups: %d index objects of class %d", i+1, n, class)
			}
		}
		if len(x.listed) > 3*mergeFactor {
			t.Errorf("after %d backups there are %d index objects", i+1, len(x.listed))
		}
	}
	if puts == 0 || puts > backups/mergeFactor {
		t.Errorf("prune put %d index objects for %d backups", puts, backups)
	}
	report, problems := check(t, r.on(st), CheckOptions{ReadData: true})
	if len(problems) != 0 || report.Records != backups || report.Unindexed != 0 {
		t.Errorf("check: %+v, %+v", report, problems)
	}
	// Who holds the old list reads on after a refresh.
	if err := r.Refresh(ctx); err != nil {
		t.Fatal(err)
	}
	for _, rec := range records[:3] {
		readTree(t, rec)
	}
}

// What becomes one index object keeps the bounds of one: lines, packs, and names
// of what is superseded.
func TestMergedIndexObjectsKeepTheBounds(t *testing.T) {
	part := func(lines, packs, supersedes int) *indexPart {
		return &indexPart{index: &index{indexTail: indexTail{Lines: uint64(lines), Supersedes: make([][]byte, supersedes)}}, packNo: make([]uint32, packs)}
	}
	for name, sizes := range map[string][3]int{
		"many lines":      {200_000, 6000, 1},
		"a chunk a pack":  {60_000, 60_000, 1},
		"empty":           {0, 0, 0},
		"many superseded": {9, 9, 200_000},
		"small":           {10, 2, 1},
		"full":            {fullIndex, 9, 9},
		"more than full":  {maxIndexEntries, maxIndexPacks, 3},
	} {
		var parts []*indexPart
		for range 40 {
			parts = append(parts, part(sizes[0], sizes[1], sizes[2]))
		}
		total := 0
		for _, group := range groupIndexes(parts) {
			var lines, packs, supersedes int
			for _, p := range group {
				lines += int(p.Lines)
				packs += len(p.packNo)
				supersedes += len(p.Supersedes) + 1
			}
			if lines > maxIndexEntries || packs > maxIndexPacks || supersedes > 1<<21 {
				t.Errorf("%s: %d parts become one of %d lines, %d packs, superseding %d", name, len(group), lines, packs, supersedes)
			}
			total += len(group)
		}
		if total != 40 {
			t.Errorf("%s: %d of 40 parts are in a group", name, total)
		}
	}
	var mixed []*indexPart
	for i := range 7 {
		mixed = append(mixed, part(1+i%7, 1, 0), part(300, 2, 0))
	}
	if got := mergeable(mixed); len(got) != 0 {
		t.Errorf("%d parts are merged where no class has %d", len(got), mergeFactor)
	}
	if got := mergeable(append(mixed, part(400, 3, 0), part(5000, 9, 0))); len(got) != 15 {
		t.Errorf("%d parts are merged, expected the class that has %d, and all below it", len(got), mergeFactor)
	}
}

// Merging beside backups and readers, in any order of steps: nothing that a
// record needs is lost, and who holds the old list of index objects reads on.
func TestTheIndexIsMergedBesideBackupsAndReaders(t *testing.T) {
	schedules := 40
	if os.Getenv("SOMBRA_TORTURE") == "1" {
		schedules = 1500
	}
	origin := mem.New()
	r := newTestRepository(t, origin)
	r.options.PackSize = 4 << 10
	r.options.Workers = 1
	kept := map[ID]map[string]uint64{}
	for i := range 10 {
		b := begin(t, r, nil)
		addFile(t, b, "file0", simFile(uint64(i)))
		kept[commit(t, b, testInfo()).ID] = map[string]uint64{"file0": uint64(i)}
	}
	var merged, dropped, committed, reads, died int
	for seed := range schedules {
		w := newWorld(t, origin, uint64(seed))
		s := &simulation{world: w, r: r, want: map[ID]map[string]uint64{}}
		for id, want := range kept {
			s.want[id] = want
		}
		m := &merging{simulation: s, kept: kept}
		var errs []error
		for i, do := range []func(*machine) error{s.backup, s.backup, m.prune, m.prune, m.read} {
			machine := &machine{w: w, name: fmt.Sprint(i)}
			if i < 4 && w.rng.IntN(3) == 0 {
				machine.dies = 1 + w.rng.IntN(120)
			}
			w.start(machine, func() {
				err := do(machine)
				s.known.Lock()
				if err != nil {
					errs = append(errs, fmt.Errorf("machine %s: %w", machine.name, err))
				}
				if machine.dead {
					died++
				}
				s.known.Unlock()
			})
		}
		w.run()
		if err := errors.Join(append(errs, s.whole())...); err != nil {
			t.Fatalf("schedule %d: %v", seed, err)
		}
		for id := range kept {
			if _, ok := s.objects[recordName(id)]; !ok {
				t.Fatalf("schedule %d: record %s is gone", seed, id.Short())
			}
		}
		s.settle(t, seed)
		index := 0
		for name := range s.objects {
			if strings.HasPrefix(name, prefixIndex) {
				index++
			}
		}
		if index > 2*mergeFactor {
			t.Errorf("schedule %d: %d index objects are left", seed, index)
		}
		merged += m.merged
		dropped += m.dropped
		reads += m.reads
		committed += s.committed
	}
	t.Logf("%d schedules: %d index objects written by prunes, %d deleted, %d backups committed, %d contents read with an old list, %d machines died", schedules, merged, dropped, committed, reads, died)
	if merged == 0 || dropped == 0 || committed == 0 || reads == 0 || died == 0 {
		t.Error("not everything that should happen did")
	}
}

// merging is a simulation in which some records are never forgotten.
type merging struct {
	*simulation
	kept                   map[ID]map[string]uint64
	merged, dropped, reads int
}

// prune prunes a few times, often without a grace, and forgets nothing that is
// kept.
func (m *merging) prune(on *machine) error {
	ctx := m.t.Context()
	for range 3 + m.number(3) {
		r := m.on(on)
		ids, err := r.recordIDs(ctx, "")
		if err != nil && !on.dead {
			return err
		}
		for _, id := range ids {
			if m.kept[id] == nil && m.number(2) == 0 {
				on.Delete(ctx, recordName(id))
			}
		}
		o := PruneOptions{MaxUnused: 0.5}
		if m.number(2) == 0 {
			o.Grace = -1
		}
		report, err := r.Prune(ctx, o, nil)
		r.decoder.Close()
		m.known.Lock()
		m.merged += int(report.IndexesWritten)
		m.dropped += int(report.IndexesDeleted)
		m.known.Unlock()
		if err != nil && !on.dead && !errors.Is(err, ErrDamaged) && !errors.Is(err, store.ErrNotExist) {
			return err
		}
		if report.Stopped != nil && !errors.Is(report.Stopped, store.ErrNotExist) {
			return fmt.Errorf("prune stopped: %w", report.Stopped)
		}
		on.sleep(ctx, time.Duration(m.number(40))*time.Hour)
	}
	return nil
}

// read opens the repository and reads on for days, with the list of index objects
// that there were at the beginning; if something is no longer where it was a
// refresh helps.
func (m *merging) read(on *machine) error {
	ctx := m.t.Context()
	r := m.on(on)
	defer r.decoder.Close()
	records, err := r.Records(ctx)
	if err != nil {
		return err
	}
	for _, rec := range records {
		want := m.kept[rec.ID]
		if want == nil {
			continue
		}
		on.sleep(ctx, time.Duration(m.number(30))*time.Hour)
		got, err := m.content(r, rec)
		for range 3 {
			if err == nil {
				break
			}
			if err := r.Refresh(ctx); err != nil {
				return err
			}
			got, err = m.content(r, rec)
		}
		if err != nil || !bytes.Equal(got, simFile(want["file0"])) {
			return fmt.Errorf("record %s reads as %d bytes: %w", rec.ID.Short(), len(got), err)
		}
		m.known.Lock()
		m.reads++
		m.known.Unlock()
	}
	return nil
}

func (m *merging) content(r *Repository, rec *Record) ([]byte, error) {
	e, err := rec.Table().Lookup(m.t.Context(), "/", "file0")
	if err != nil {
		return nil, err
	}
	f, err := r.OpenContent(m.t.Context(), e.Content)
	if err != nil {
		return nil, err
	}
	got := make([]byte, e.Size)
	if _, err := f.ReadAt(got, 0); err != nil && err != io.EOF {
		return nil, err
	}
	return got, nil
}

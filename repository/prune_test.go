package repository

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/repository/store/mem"
)

// deletingStore is a faultyStore whose deletions fail too.
type deletingStore struct{ *faultyStore }

func (s deletingStore) Delete(ctx context.Context, name string) error {
	return s.do("delete "+name, func() error { return s.Store.Delete(ctx, name) })
}

// Whatever operation of a prune it dies at: every record restores, check is
// clean, a backup succeeds, and the next prune finishes what was begun.
func TestAPruneThatDiesAnywhereHarmsNothing(t *testing.T) {
	ctx := t.Context()
	origin := mem.New()
	r := newTestRepository(t, origin)
	r.options.PackSize = 4 << 10
	b := begin(t, r, nil)
	data := randomData(60_000, 1)
	addFile(t, b, "file", data)
	base := commit(t, b, testInfo())
	gone, err := incremental(ctx, r, base.ID, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Forget(ctx, []ID{gone.ID}); err != nil {
		t.Fatal(err)
	}
	now := PruneOptions{Grace: -1, MaxUnused: 0.01}
	for runs := range 3 {
		hit := map[string]bool{}
		for at := 0; ; at++ {
			st := origin.Copy()
			faulty := &faultyStore{Store: st, mode: dies, at: at}
			_, err := r.on(deletingStore{faulty}).Prune(ctx, now, nil)
			if faulty.hit == "" {
				if err != nil {
					t.Fatalf("without a fault: %v", err)
				}
				break
			}
			hit[strings.Fields(faulty.hit)[0]] = true
			if err != nil && !errors.Is(err, errInjected) {
				t.Errorf("%s: %v", faulty.hit, err)
			}
			again := r.on(st)
			if _, problems := check(t, again, CheckOptions{ReadData: true}); len(problems) != 0 {
				t.Fatalf("%s: check says %+v", faulty.hit, problems)
			}
			if _, err := incremental(ctx, again, base.ID, 2); err != nil {
				t.Fatalf("%s: the next backup: %v", faulty.hit, err)
			}
			report, err := again.Prune(ctx, now, nil)
			if err != nil || report.Stopped != nil {
				t.Fatalf("%s: the next prune: %v, %v", faulty.hit, err, report.Stopped)
			}
			if _, problems := check(t, again, CheckOptions{ReadData: true}); len(problems) != 0 {
				t.Fatalf("%s: after the next prune check says %+v", faulty.hit, problems)
			}
		}
		if !hit["put"] || !hit["list"] || !hit["delete"] || !hit["read"] {
			t.Errorf("run %d: not every kind of fault was tested: %v", runs, hit)
		}
		if _, err := r.on(origin).Prune(ctx, now, nil); err != nil {
			t.Fatal(err)
		}
	}
}

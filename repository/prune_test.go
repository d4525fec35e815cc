package repository

import (
	"errors"
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/repository/store/mem"
)

// Whatever operation of a prune fails or it dies at: every record restores, check
// is clean, a backup succeeds, and the next prune finishes what was begun.
func TestAPruneThatFailsAnywhereHarmsNothing(t *testing.T) {
	for _, mode := range []faultMode{failsOnce, failsAfter, dies} {
		t.Run(string(mode), func(t *testing.T) { failingPrune(t, mode) })
	}
}

func failingPrune(t *testing.T, mode faultMode) {
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
			faulty := &faultyStore{Store: st, mode: mode, at: at}
			_, err := r.on(faulty).Prune(ctx, now, nil)
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
			// What only tells the time may stay; of all else somebody is told.
			if err == nil && !strings.HasPrefix(faulty.hit, "delete "+prefixIntents) {
				t.Errorf("%s failed and nobody was told", faulty.hit)
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
		if !hit["put"] || !hit["list"] || !hit["delete"] || !hit["read"] || !hit["stat"] {
			t.Errorf("run %d: not every kind of fault was tested: %v", runs, hit)
		}
		if _, err := r.on(origin).Prune(ctx, now, nil); err != nil {
			t.Fatal(err)
		}
	}
}

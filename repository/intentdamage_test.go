package repository

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/repository/store/mem"
)

// testIntent is an intent of a backup that is about to put a record.
func testIntent(r *Repository, record ID) (name string, object []byte) {
	object = r.keys.sharedObject(kindIntent, boxIntent, format.marshal(wireIntent{
		Repo: r.keys.repo[:], Backup: record[:], Valid: uint64(r.options.IntentTTL / time.Second), Record: record[:]}))
	return intentName(hashObject(object)), object
}

// An intent that cannot be read holds every deletion back while it is young, as
// nobody knows what it says, and is named; when it is older than an intent is
// valid it is removed, and prune goes on.
func TestADamagedIntentHoldsPruneBackWhileItIsYoungOnly(t *testing.T) {
	origin := mem.New()
	r := newTestRepository(t, origin)
	b := begin(t, r, nil)
	addFile(t, b, "file", randomData(20_000, 1))
	rec := commit(t, b, testInfo())
	foreign := newTestRepository(t, mem.New())
	name, whole := testIntent(r, testPack(1))
	foreignName, alien := testIntent(foreign, testPack(1))
	flipped := bytes.Clone(whole)
	flipped[len(flipped)/2] ^= 1
	for how, damaged := range map[string]struct {
		name   string
		object []byte
	}{
		"a byte flipped": {name, flipped}, "cut": {name, whole[:len(whole)-9]}, "empty": {name, nil},
		"of another repository": {foreignName, alien}, "too long": {name, make([]byte, maxIntent+1)},
	} {
		w := newWorld(t, origin, 1)
		on := &machine{w: w, alone: true}
		delete(w.objects, recordName(rec.ID))
		prune := func() PruneReport {
			t.Helper()
			r := r.on(on)
			defer r.decoder.Close()
			report, err := r.Prune(t.Context(), PruneOptions{}, func(p Problem) {
				if p.Object != damaged.name || !errors.Is(p.Err, ErrDamaged) {
					t.Errorf("%s: %+v", how, p)
				}
			})
			if err != nil || report.Stopped != nil {
				t.Fatalf("%s: %+v, %v", how, report, err)
			}
			return report
		}
		w.clock = w.clock.Add(60 * time.Hour)
		if report := prune(); report.Marked == 0 || report.Problems != 0 {
			t.Fatalf("%s: nothing was marked: %+v", how, report)
		}
		w.clock = w.clock.Add(60 * time.Hour)
		w.objects[damaged.name] = simObject{damaged.object, w.clock}
		for range 3 {
			report := prune()
			if report.Deleted != 0 || len(report.Blockers) != 1 || report.Problems != 1 {
				t.Errorf("%s: while it is young: %+v", how, report)
			}
			if _, ok := w.objects[damaged.name]; !ok {
				t.Fatalf("%s: it was removed while it is young", how)
			}
			w.clock = w.clock.Add(7 * time.Hour)
		}
		w.clock = w.clock.Add(r.options.withDefaults().IntentTTL - 20*time.Hour)
		if report := prune(); report.Deleted == 0 || len(report.Blockers) != 0 {
			t.Errorf("%s: when it is stale: %+v", how, report)
		}
		for left := range w.objects {
			if strings.HasPrefix(left, prefixIntents) || strings.HasPrefix(left, prefixData) {
				t.Errorf("%s: %s is left", how, left)
			}
		}
	}
}

// A stale intent that is read wrongly once still has its record declared void.
func TestAStaleIntentThatIsReadWronglyOnceHasItsRecordDeclaredVoid(t *testing.T) {
	r, origin, _ := smallRepository(t)
	record := testPack(7)
	name, object := testIntent(r, record)
	w := newWorld(t, origin, 1)
	w.objects[name] = simObject{object, w.clock}
	w.clock = w.clock.Add(r.options.IntentTTL + time.Hour)
	hit := false
	slips := &slippingStore{Store: &machine{w: w, alone: true}, read: func(n string, p []byte, _ int64) error {
		if n == name && !hit {
			p[len(p)-1] ^= 1
			hit = true
		}
		return nil
	}}
	report, err := r.on(slips).Prune(t.Context(), PruneOptions{}, nil)
	if err != nil || report.Stopped != nil || !hit {
		t.Fatalf("%+v, %v", report, err)
	}
	if string(w.objects[recordName(record)].data) != voidRecord {
		t.Error("the record can still appear")
	}
	if _, ok := w.objects[name]; ok {
		t.Error("the stale intent is left")
	}
}

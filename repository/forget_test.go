package repository

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/repository/store"
	"github.com/sombra-backup/sombra/repository/store/mem"
)

// noted is a repository of two records, of which the first has notes.
func noted(t *testing.T, st store.Store) (r *Repository, first, second *Record) {
	t.Helper()
	r = newTestRepository(t, st)
	b := begin(t, r, nil)
	addFile(t, b, "file", randomData(5000, 1))
	first = commit(t, b, testInfo())
	b = begin(t, r, first)
	addFile(t, b, "file", randomData(5000, 2))
	info := testInfo()
	info.Time = info.Time.Add(time.Hour)
	second = commit(t, b, info)
	for _, body := range []string{"one", "two"} {
		if _, err := r.AddNote(t.Context(), first.ID, Note{Kind: "outcome", Body: []byte(body)}); err != nil {
			t.Fatal(err)
		}
	}
	return r, first, second
}

// countNotes counts the objects that are notes.
func countNotes(t *testing.T, st *mem.Store) (n int) {
	t.Helper()
	for name := range objects(t, st) {
		if strings.HasPrefix(name, prefixNotes) {
			n++
		}
	}
	return n
}

// Whatever operation of a forget fails or it dies at: the record is there with all
// its notes, or gone; check is clean in either case; and the next prune leaves
// nothing of one that is gone.
func TestAForgetThatFailsAnywhereIsFinished(t *testing.T) {
	ctx := t.Context()
	origin := mem.New()
	r, first, second := noted(t, origin)
	for _, mode := range []faultMode{failsOnce, failsAfter, dies} {
		hit := map[string]bool{}
		for at := 0; ; at++ {
			st := origin.Copy()
			faulty := &faultyStore{Store: st, mode: mode, at: at}
			_, err := r.on(faulty).Forget(ctx, []ID{first.ID})
			if faulty.hit == "" {
				if err != nil || countNotes(t, st) != 0 {
					t.Fatalf("without a fault: %v, %d notes are left", err, countNotes(t, st))
				}
				break
			}
			hit[strings.Fields(faulty.hit)[0]] = true
			if !errors.Is(err, errInjected) {
				t.Errorf("%s: %v", faulty.hit, err)
			}
			again := r.on(st)
			if _, problems := check(t, again, CheckOptions{ReadData: true}); len(problems) != 0 {
				t.Errorf("%s, %s: check says %+v", mode, faulty.hit, problems)
			}
			_, err = again.Record(ctx, first.ID.String())
			there := err == nil
			if !there && !errors.Is(err, ErrNotFound) {
				t.Errorf("%s, %s: %v", mode, faulty.hit, err)
			}
			if report, err := again.Prune(ctx, PruneOptions{Grace: -1}, nil); err != nil || report.Stopped != nil {
				t.Fatalf("%s, %s: %v, %v", mode, faulty.hit, err, report.Stopped)
			}
			if there {
				if notes, err := again.Notes(ctx, first.ID); err != nil || len(notes) != 2 {
					t.Errorf("%s, %s: the record is there with %d notes, %v", mode, faulty.hit, len(notes), err)
				}
				if _, err := again.Forget(ctx, []ID{first.ID}); err != nil {
					t.Errorf("%s, %s: forgetting again: %v", mode, faulty.hit, err)
				}
			}
			if n := countNotes(t, st); n != 0 {
				t.Errorf("%s, %s: %d notes are left", mode, faulty.hit, n)
			}
			if rec, err := again.Record(ctx, second.ID.String()); err != nil || readTree(t, rec)["file"] != string(randomData(5000, 2)) {
				t.Errorf("%s, %s: the other record: %v", mode, faulty.hit, err)
			}
		}
		for _, op := range []string{"put", "read", "stat", "list", "delete"} {
			if !hit[op] {
				t.Errorf("%s: no fault of kind %q was tested", mode, op)
			}
		}
	}
}

// A record that is deleted by anybody else is a loss, and stays one: prune does
// not wipe its traces.
func TestARecordThatWasNotForgottenIsMissed(t *testing.T) {
	ctx := t.Context()
	st := mem.New()
	r, first, _ := noted(t, st)
	if err := st.Delete(ctx, recordName(first.ID)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, problems := check(t, r, CheckOptions{}); len(problems) != 1 || problems[0].Object != recordName(first.ID) {
			t.Errorf("check says %+v", problems)
		}
		if _, err := r.Prune(ctx, PruneOptions{Grace: -1}, nil); err != nil || countNotes(t, st) != 2 {
			t.Errorf("prune: %v, %d notes", err, countNotes(t, st))
		}
	}
	if _, err := r.AddNote(ctx, first.ID, Note{Kind: noteForgotten}); !errors.Is(err, ErrInvalid) {
		t.Errorf("a note that the record is forgotten, by hand: %v", err)
	}
}

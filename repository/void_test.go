package repository

import (
	"context"
	"errors"
	"testing"

	"github.com/sombra-backup/sombra/repository/store"
	"github.com/sombra-backup/sombra/repository/store/mem"
)

// oldListing shows of one object the size it had before.
type oldListing struct {
	store.Store
	name string
	size int64
}

func (s oldListing) List(ctx context.Context, prefix string, f func(store.Info) error) error {
	return s.Store.List(ctx, prefix, func(info store.Info) error {
		if info.Name == s.name {
			info.Size = s.size
		}
		return f(info)
	})
}

// voided puts a void in the place of a record, as a prune does with one that was
// forgotten and that a stale intent names. It gives the size the record had.
func voided(t testing.TB, st *mem.Store, id ID) int64 {
	t.Helper()
	info, err := st.Stat(t.Context(), recordName(id))
	if err == nil {
		err = st.Delete(t.Context(), recordName(id))
	}
	if err == nil {
		err = st.Put(t.Context(), recordName(id), []byte(voidRecord))
	}
	if err != nil {
		t.Fatal(err)
	}
	return info.Size
}

// A void in the place of a record is no record: there is nothing to note or to
// build on, and it stays, since the record could appear without it.
func TestAVoidIsNoRecordAndStays(t *testing.T) {
	ctx := t.Context()
	st := mem.New()
	r, first, second := noted(t, st)
	voided(t, st, first.ID)
	if _, err := r.AddNote(ctx, first.ID, Note{Kind: "outcome"}); !errors.Is(err, ErrNotFound) {
		t.Errorf("a note of a void: %v", err)
	}
	b := begin(t, r, first)
	if b.baseStands {
		t.Error("a base that was declared void is taken for one that stands")
	}
	b.Abort()
	if b = begin(t, r, second); !b.baseStands {
		t.Error("a base that stands is taken for a forgotten one")
	}
	b.Abort()
	// Whoever knew the record before may still want to forget it.
	if _, err := r.Forget(ctx, []ID{first.ID}); err != nil || countNotes(t, st) != 0 {
		t.Errorf("forget: %v, %d notes", err, countNotes(t, st))
	}
	if object, err := readObject(ctx, st, recordName(first.ID), MaxRecord); err != nil || string(object) != voidRecord {
		t.Errorf("the void is gone: %v", err)
	}
}

// A record that is forgotten and declared void between its listing and its
// reading is no damage: not for who reads, not for check, and no prune stops.
func TestARecordThatBecomesVoidAfterItWasListedIsNoDamage(t *testing.T) {
	ctx := t.Context()
	st := mem.New()
	r := newTestRepository(t, st)
	b := begin(t, r, nil)
	addFile(t, b, "file", randomData(5000, 1))
	first := commit(t, b, testInfo())
	b = begin(t, r, first)
	addFile(t, b, "file", randomData(5000, 2))
	second := commit(t, b, testInfo())
	late := r.on(oldListing{st, recordName(first.ID), voided(t, st, first.ID)})

	records, err := late.Records(ctx)
	if err != nil || len(records) != 1 || records[0].ID != second.ID {
		t.Errorf("%d records, %v", len(records), err)
	}
	if report, problems := check(t, late, CheckOptions{ReadData: true}); len(problems) != 0 || report.Vanished != 1 {
		t.Errorf("check: %d objects vanished, %+v", report.Vanished, problems)
	}
	report, err := late.Prune(ctx, PruneOptions{Grace: -1}, nil)
	if err != nil || report.Stopped != nil || report.Records != 1 || report.Marked == 0 {
		t.Errorf("prune: %+v, %v", report, err)
	}
}

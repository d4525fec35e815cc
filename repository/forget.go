package repository

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sombra-backup/sombra/repository/store"
)

// ForgetReport is what Forget did.
type ForgetReport struct {
	// Forgotten are the records that are no more.
	Forgotten []ID
	// Locked are those that the store refuses to delete, with its error.
	Locked map[ID]error
}

// Forget deletes records and what was noted of them. Their content stays until
// Prune finds that nothing uses it. Records are deleted one after the other, in
// the order given: whoever is interrupted should have given those first that
// need others. Forget asks nobody whether a record is needed; see Retention.
//
// A record that the store refuses to delete is named in the report, and the
// others are deleted all the same. A record that is not there has its notes
// deleted. Notes that the store refuses to delete for now are left to Prune.
func (r *Repository) Forget(ctx context.Context, ids []ID) (ForgetReport, error) {
	report := ForgetReport{Locked: map[ID]error{}}
	if err := r.ready(ctx); err != nil {
		return report, err
	}
	for _, id := range ids {
		err := r.forget(ctx, id)
		if errors.Is(err, store.ErrLocked) {
			report.Locked[id] = err
			continue
		}
		if err != nil {
			return report, fmt.Errorf("forget %s: %w", id.Short(), err)
		}
		report.Forgotten = append(report.Forgotten, id)
	}
	return report, nil
}

// forget deletes the record, then its notes: a record that lost its notes would
// not tell. Notes of a record that is not there are a sign of loss to check, so
// before it is deleted another note says that this is meant; that one goes last.
// What is left, since somebody was killed or the store refuses to delete it for
// now, prune deletes.
func (r *Repository) forget(ctx context.Context, id ID) error {
	notes, meant, err := r.forgettable(ctx, id)
	if err != nil {
		return err
	}
	stands, err := r.stands(ctx, id)
	if err != nil {
		return err
	}
	if stands && len(notes) > 0 && meant.IsZero() {
		if meant, err = r.putNote(ctx, id, Note{Kind: noteForgotten}); err != nil {
			return err
		}
	}
	if stands { // a void stays where it is
		if err := r.store.Delete(ctx, recordName(id)); err != nil && !errors.Is(err, store.ErrNotExist) {
			return &ObjectError{"delete", recordName(id), err}
		}
	}
	if !meant.IsZero() {
		notes = append(slices.DeleteFunc(notes, func(n ID) bool { return n == meant }), meant)
	}
	for _, n := range notes {
		err := r.store.Delete(ctx, noteName(id, n))
		if errors.Is(err, store.ErrLocked) {
			return nil
		}
		if err != nil && !errors.Is(err, store.ErrNotExist) {
			return &ObjectError{"delete", noteName(id, n), err}
		}
	}
	return nil
}

// noteForgotten is the kind of the note that says that its record is forgotten.
const noteForgotten = "forgotten"

// forgettable lists the notes of a record, and gives the one that says that it is
// forgotten, if there is one that can be read.
func (r *Repository) forgettable(ctx context.Context, id ID) (notes []ID, meant ID, err error) {
	err = r.store.List(ctx, prefixNotes+id.String()+"/", func(info store.Info) error {
		if o, ok := parseName(info.Name); ok {
			notes = append(notes, o.id)
		}
		return nil
	})
	if err != nil {
		return nil, ID{}, fmt.Errorf("list notes: %w", err)
	}
	slices.SortFunc(notes, func(a, b ID) int { return slices.Compare(a[:], b[:]) })
	if r.WriteOnly() {
		return notes, ID{}, nil
	}
	for _, n := range notes {
		note, err := r.readNote(ctx, id, n)
		if err != nil && !errors.Is(err, ErrDamaged) {
			return nil, ID{}, err
		}
		if err == nil && note.Kind == noteForgotten {
			meant = n
		}
	}
	return notes, meant, nil
}

// deleteNotes deletes the notes of records that were forgotten, where whoever
// forgot them did not come to it.
func (p *pruner) deleteNotes(ctx context.Context) error {
	if p.o.DryRun {
		return nil
	}
	left := map[ID]map[ID]time.Time{}
	err := p.r.store.List(ctx, prefixNotes, func(info store.Info) error {
		if o, ok := parseName(info.Name); ok && !p.listed[o.record] {
			if left[o.record] == nil {
				left[o.record] = map[ID]time.Time{}
			}
			left[o.record][o.id] = info.ModTime
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("list notes: %w", err)
	}
	for record, times := range left {
		notes, meant, err := p.r.forgettable(ctx, record)
		if err != nil {
			return err
		}
		if stands, err := p.r.stands(ctx, record); err != nil {
			return err
		} else if stands || meant.IsZero() {
			continue // it was made since, or it was lost, and check says so
		}
		notes = append(slices.DeleteFunc(notes, func(n ID) bool { return n == meant }), meant)
		for _, n := range notes {
			gone, err := p.delete(ctx, noteName(record, n), times[n])
			if err != nil {
				return err
			}
			if !gone {
				break
			}
		}
	}
	return nil
}

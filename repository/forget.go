package repository

import (
	"context"
	"errors"
	"fmt"
	"slices"

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
// deleted.
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

// forget deletes the record first: notes without a record are found and told by
// check, and go when it is forgotten again; a record that lost its notes would
// not tell.
func (r *Repository) forget(ctx context.Context, id ID) error {
	if err := r.store.Delete(ctx, recordName(id)); err != nil && !errors.Is(err, store.ErrNotExist) {
		return &ObjectError{"delete", recordName(id), err}
	}
	var notes []string
	err := r.store.List(ctx, prefixNotes+id.String()+"/", func(info store.Info) error {
		notes = append(notes, info.Name)
		return nil
	})
	if err != nil {
		return fmt.Errorf("list notes: %w", err)
	}
	slices.Sort(notes)
	for _, name := range notes {
		if err := r.store.Delete(ctx, name); err != nil && !errors.Is(err, store.ErrNotExist) {
			return &ObjectError{"delete", name, err}
		}
	}
	return nil
}

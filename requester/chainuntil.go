package requester

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sombra-backup/sombra/repository"
)

// RecordUntil finds the point to restore: the newest record of the host of one,
// made at or before a time. With components or writers named it is the newest in
// which all of them were saved whole, whatever else is in it: the logs of a
// database may have records of their own. With none named it is the newest of
// the same paths.
//
// skipped names newer records that would have been looked at and cannot be read.
// ErrNotFound says that there is none.
func RecordUntil(ctx context.Context, repo *repository.Repository, of *repository.Record, until time.Time, s Selectors) (rec *repository.Record, skipped []string, err error) {
	records, err := repo.Records(ctx)
	if err != nil && !errors.Is(err, repository.ErrDamaged) {
		return nil, nil, err
	}
	if err != nil {
		skipped = append(skipped, fmt.Sprintf("backups that cannot be read are passed over: %v", err))
	}
	does := func(rec *repository.Record) (bool, error) {
		switch {
		case !sameHost(rec, of):
			return false, nil
		case !s.Includes():
			return sameTrees(rec, of), nil
		}
		return savedWhole(ctx, rec, s)
	}
	later := len(records)
	for later > 0 && records[later-1].Time.After(until) {
		later--
	}
	for _, rec := range slices.Backward(records[:later]) {
		ok, err := does(rec)
		switch {
		case ctx.Err() != nil:
			return nil, nil, ctx.Err()
		case err != nil:
			skipped = append(skipped, fmt.Sprintf("backup %s of %s is passed over: %v", rec.ID.Short(), rec.Time.Local().Format(time.DateTime), err))
		case ok:
			return rec, skipped, nil
		}
	}
	what := "and paths of backup " + of.ID.Short()
	if s.Includes() {
		what = "of backup " + of.ID.Short() + " that has all that is named"
	}
	err = fmt.Errorf("%w: no backup of the host %s was made until %s", repository.ErrNotFound, what, until.Local().Format(time.DateTime))
	for _, rec := range records[later:] {
		if ok, _ := does(rec); ok {
			return nil, skipped, fmt.Errorf("%w; the first is %s of %s", err, rec.ID.Short(), rec.Time.Local().Format(time.DateTime))
		}
	}
	return nil, skipped, err
}

func sameHost(a, b *repository.Record) bool {
	return cmp.Or(a.Host.ID, a.Host.Name) == cmp.Or(b.Host.ID, b.Host.Name)
}

// sameTrees reports whether two records are of the same paths, or where they were
// asked for none, of the same places.
func sameTrees(a, b *repository.Record) bool {
	x, _ := ReadSummary(a)
	y, _ := ReadSummary(b)
	if len(x.Paths)+len(y.Paths) == 0 {
		return samePaths(x.Roots, y.Roots)
	}
	return samePaths(x.Paths, y.Paths)
}

// savedWhole reports whether all components named were saved whole in a record.
func savedWhole(ctx context.Context, rec *repository.Record, s Selectors) (bool, error) {
	stored, err := readStored(ctx, rec)
	if err != nil {
		return false, err
	}
	chosen, err := s.Match(stored.writers)
	if err != nil {
		return false, nil // it has none of that name
	}
	sel, err := SelectForRestore(stored.explicit, stored.defining, RestoreWish{Wanted: chosen.Include, Excluded: chosen.Exclude})
	if err != nil || len(sel.Sets) == 0 {
		return false, nil
	}
	return !slices.ContainsFunc(sel.Sets, func(set *RestoreSet) bool { return !stored.succeeded[set.Component] }), nil
}

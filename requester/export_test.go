package requester

import (
	"context"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// PutAll restores entries as they come, without a record that would have
// checked them.
func PutAll(ctx context.Context, repo *repository.Repository, rec *repository.Record, t session.Target, entries []*repository.Entry) ([]Failure, error) {
	r := &restore{rec: rec, repo: repo, style: vss.POSIX, origin: vss.POSIX, rep: quiet{}, res: &RestoreResult{}}
	f, work := newFiller(ctx, repo, t, quiet{})
	f.shown, f.table = r.shown, rec.Table()
	for _, e := range entries {
		if err := r.put(work, f, e, nil); err != nil {
			return f.failures, err
		}
	}
	err := f.end(ctx)
	return f.failures, err
}

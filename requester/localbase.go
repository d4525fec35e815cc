package requester

import (
	"context"
	"errors"

	"github.com/sombra-backup/sombra/repository"
)

// localBase finds the base for a machine whose key cannot read the repository:
// the record it made last, as its local state has it. Without one every file is
// read, which is said; what is stored already is not stored again.
func (b *backup) localBase(ctx context.Context) *repository.Record {
	rec, err := b.repo.LocalRecord(ctx)
	switch {
	case err == nil && rec.Host.ID == b.host.ID && b.host.ID != "":
		return rec
	case err == nil:
		b.warn("the local state is of a backup of another host (%s): every file is read", rec.Host.Name)
	case ctx.Err() != nil:
	case !errors.Is(err, repository.ErrNotFound) || b.hasRecords(ctx):
		b.warn("%v: every file is read", err)
	}
	return nil
}

// hasRecords says whether the repository holds records, none of which can be
// read. In a new one nobody misses a local state.
func (b *backup) hasRecords(ctx context.Context) bool {
	_, err := b.repo.Records(ctx)
	return errors.Is(err, repository.ErrWriteOnly)
}

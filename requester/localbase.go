package requester

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/sombra-backup/sombra/repository"
)

// localBase finds the base for a machine whose key cannot read the repository:
// the record it made last of the same paths, or else of any, as its local states
// have it. Without one every file is
// read, which is said; what is stored already is not stored again.
func (b *backup) localBase(ctx context.Context) *repository.Record {
	rec, err := b.repo.LocalRecord(ctx, stateOf(b.req.dataPaths()))
	switch {
	case err == nil && rec.Host.ID == b.host.ID && b.host.ID != "":
		return rec
	case err == nil:
		b.warn("the local state is of a backup of another host (%s): every file is read", rec.Host.Name)
	case ctx.Err() != nil:
	case !errors.Is(err, repository.ErrNotFound) || b.hasRecords(ctx):
		reason := strings.Replace(err.Error(), repository.ErrNotFound.Error()+": ", "", 1) // it says what is not found
		b.warn("%s: every file is read", reason)
	}
	return nil
}

// stateOf names the local state of backups of these paths, in any order, so that
// trees backed up in turn have each its own.
func stateOf(paths []string) string {
	h := sha256.New()
	for _, p := range pathSet(paths) {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// hasRecords says whether the repository holds records, none of which can be
// read. In a new one nobody misses a local state.
func (b *backup) hasRecords(ctx context.Context) bool {
	_, err := b.repo.Records(ctx)
	return errors.Is(err, repository.ErrWriteOnly)
}

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
	f.warn, f.partialOf, f.dirBefore = r.warn, r.partialOf, r.dirBefore
	for _, e := range entries {
		if err := r.put(work, f, e, nil); err != nil {
			return f.failures, err
		}
	}
	err := f.end(ctx)
	return f.failures, err
}

// What tests of walks need.
const MaxListing = maxListing

var ErrSkip = errSkip

// Quiet is a Reporter to build others upon.
var Quiet Reporter = quiet{}

// Walk is a walk that lists directories ahead.
func Walk(ctx context.Context, t session.Tree, dir string, ahead int, visit func(name string, e session.Entry, err error) error) error {
	return (&walker{tree: t, visit: visit, ahead: ahead}).run(ctx, dir)
}

// LinkNumbers gives numbers for files of devices.
func LinkNumbers(files [][2]uint64) (out []uint64) {
	var l linkNumbers
	for _, f := range files {
		out = append(out, l.of(inode{string(rune('a' + f[0])), f[1]}, f[0]))
	}
	return out
}

// OnceTold is a target as a restore asks it to write out.
func OnceTold(t session.Target) session.Target { return &onceTold{Target: t} }

package requester

import (
	"context"
	"errors"
	"io/fs"

	"github.com/sombra-backup/sombra/session"
)

// openTarget opens where the restore writes. Opening makes a directory that is
// absent, and a dry run must not: it sees an empty one in its place.
func (r *restore) openTarget(ctx context.Context) (session.Target, error) {
	if r.req.DryRun && r.extract {
		loc, err := r.sess.ResolvePath(ctx, r.target)
		if err != nil {
			return nil, err
		}
		live, err := r.sess.Live(ctx, loc.Volume)
		if err != nil {
			return nil, err
		}
		defer live.Close()
		if _, err := live.Lstat(ctx, loc.Name); errors.Is(err, fs.ErrNotExist) {
			return absentTarget{}, nil
		}
	}
	return r.sess.Target(ctx, r.target, r.roots())
}

// reopenTarget opens the target once more after PreRestore. A writer may have moved
// directories aside there and made others, or links, in their place, and a target
// holds those open that it was opened with: files would go where the old ones went.
// That the target can be opened at all was found out before any writer had stopped
// anything.
func (r *restore) reopenTarget(ctx context.Context, f *filler) error {
	if err := f.target.Close(); err != nil {
		return err
	}
	t, err := r.openTarget(ctx)
	if err != nil {
		return err
	}
	f.target = &onceTold{Target: t}
	return nil
}

// absentTarget is a directory that is not there. It can only be looked at, which
// is all a dry run does.
type absentTarget struct{ session.Target }

func (absentTarget) Lstat(_ context.Context, name string) (session.Entry, error) {
	return session.Entry{}, &fs.PathError{Op: "describe", Path: name, Err: fs.ErrNotExist}
}

func (absentTarget) ReadDir(_ context.Context, name string, _ func(session.Entry, error) error) error {
	return &fs.PathError{Op: "read directory", Path: name, Err: fs.ErrNotExist}
}

func (absentTarget) Close() error { return nil }

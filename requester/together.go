package requester

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/session"
)

// maxTogether bounds how many files of all sets are held back: each is open.
const maxTogether = 2000

// together holds back what is restored of a component set until all of it is on
// the disk, so that a file that cannot be written leaves those that are there as
// they were (R-RES-15). f.mu guards it.
type together struct {
	waiting  []replacement       // files that have their bytes and not their names
	specials []*repository.Entry // links and the like, which are made at the end
	dirs     []*repository.Entry // that were there, to be given their attributes
	givenUp  bool
}

var (
	// errHeld says that a file waits for the others of its set.
	errHeld = errors.New("held back")
	// errHeldBack is of a file that is as it was because of another.
	errHeldBack = errors.New("left as it was, since another file of its component could not be restored")
)

// holdTogether has a set's files held back, if something of it is there to be
// replaced, and room for all of it beside that.
func (r *restore) holdTogether(ctx context.Context, f *filler, s *setRun) error {
	if f.dry {
		return nil
	}
	var size uint64
	var first string
	files := 0
	for _, e := range s.puts() {
		switch {
		case isPartial(e):
			return nil // it is written into the file that is there
		case e.Type != repository.Regular || e.Attrs[AttrOutcome] == "failed":
			continue
		}
		if to, _, err := r.placeOf(s, e); err == nil && first == "" {
			first = to.Path
		}
		files++
		size += uint64(max(e.Size, 0))
	}
	if files == 0 || files == 1 || first == "" {
		return nil // one file is replaced at once
	}
	free, err := f.target.Free(ctx, first)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case f.held+files > maxTogether:
		r.warn("%s: its %d files are too many to be replaced at once; if one cannot be, others are replaced already", s.set.Component.Label(), files)
	case err != nil || free < size:
		r.warn("%s: there is no room for all of its files beside those that are there; they are replaced one by one, and if one cannot be, others are replaced already", s.set.Component.Label())
	default:
		f.held += files
		s.together = new(together)
		f.together = append(f.together, s)
	}
	return nil
}

// hold keeps a file of such a set that has its bytes.
func (f *filler) hold(e *repository.Entry, set *setRun, n session.NewFile) error {
	file, ok := n.(newFile)
	if !ok {
		file = newFile{NewFile: n, full: f.full, settle: f.settle, end: new(atomic.Int64)}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if set.together.givenUp {
		file.Close()
		return errHeldBack
	}
	set.together.waiting = append(set.together.waiting, replacement{e, set, file})
	return errHeld
}

// holdsBack reports whether what is restored of the set is held back.
func (s *setRun) holdsBack() bool { return s != nil && s.together != nil }

// release gives the files of all sets held back their names, or, where one of a
// set failed, none of it.
func (f *filler) release(ctx context.Context) error {
	for _, set := range f.together {
		if err := f.releaseSet(ctx, set); err != nil {
			return err
		}
	}
	return nil
}

func (f *filler) releaseSet(ctx context.Context, set *setRun) error {
	t := set.together
	f.mu.Lock()
	waiting, specials, failed := t.waiting, t.specials, !set.result.Succeeded
	t.waiting, t.specials, t.givenUp = nil, nil, failed
	f.mu.Unlock()
	defer func() {
		for _, r := range waiting {
			r.file.Close()
		}
	}()
	if failed {
		for _, r := range waiting {
			if err := f.fail(r.entry, set, errHeldBack); err != nil {
				return err
			}
		}
		for _, e := range specials {
			if err := f.fail(e, set, errHeldBack); err != nil {
				return err
			}
		}
		return nil
	}
	if len(waiting) > 0 {
		if err := f.target.Sync(ctx); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	// Once begun with, nobody's wish to stop leaves it half done.
	ctx = context.WithoutCancel(ctx)
	for _, r := range waiting {
		if err := f.finish(r.entry, set, r.file.Commit(ctx, sessionEntry(r.entry))); err != nil {
			return err
		}
	}
	for _, e := range specials {
		if err := f.finish(e, set, f.special(ctx, e)); err != nil {
			return err
		}
	}
	f.mu.Lock()
	f.dirs = append(f.dirs, t.dirs...)
	f.mu.Unlock()
	return nil
}

package requester

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/sombra-backup/sombra/repository"
)

// noReboot says why a set cannot be staged for the next start of the host; empty if
// it can, and then the staging has begun. In a dry run it ends at once.
func (r *restore) noReboot(ctx context.Context, f *filler, s *setRun) (string, error) {
	for _, e := range s.everPuts() {
		if isPartial(e) {
			return fmt.Sprintf("of %s nothing but ranges are stored, which are written into the file that is there", r.shown(e.Path)), nil
		}
	}
	if s.reboot != nil {
		return "", nil
	}
	set, err := f.target.AtReboot(ctx, s.set.Component.Label())
	if err == nil && r.req.DryRun { // it is known now that the host can do it
		return "", set.Close()
	}
	if err != nil {
		return err.Error(), ctx.Err()
	}
	s.reboot = set
	return "", nil
}

// stage restores an entry under the name of a file that takes its place at the
// next start. What is there may be changed by whoever uses it until then, so that
// none counts as being in place.
func (r *restore) stage(ctx context.Context, f *filler, e *repository.Entry, s *setRun) error {
	if f.dry || e.Type == repository.Directory || e.Attrs[AttrOutcome] == "failed" || e.Path == "" || e.Root != rootID {
		return r.put(ctx, f, e, s)
	}
	if err := r.mayPut(e, s); err != nil {
		return f.fail(e, s, err)
	}
	there, err := f.target.Lstat(ctx, e.Path)
	switch {
	case err == nil && there.Mode.IsDir():
		return f.fail(e, s, errors.New("a directory is in its place"))
	case err == nil && !f.replace(there, e):
		return f.finish(e, s, errKept)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return f.finish(e, s, err)
	}
	if err := f.parents(ctx, e.Path); err != nil {
		return f.finish(e, s, err)
	}
	staged, err := s.reboot.Stage(ctx, e.Path)
	if err != nil {
		return f.finish(e, s, err)
	}
	r.mu.Lock()
	if r.staged == nil {
		r.staged = map[string]string{}
	}
	r.staged[staged] = e.Path
	r.mu.Unlock()
	return f.put(ctx, withPath(e, staged), s)
}

// commitReboots has the staged sets swapped in at the next start. Of a set of which
// a file could not be staged nothing is, and nothing has changed.
func (r *restore) commitReboots(ctx context.Context, failed error) error {
	for _, s := range r.sets {
		if s.reboot == nil {
			continue
		}
		set := s.reboot
		s.reboot = nil
		staged := s.decision.Branch == BranchReboot && s.refused == "" && !r.req.DryRun
		if staged && failed == nil && s.result.Succeeded && s.written {
			id, err := set.Commit(ctx)
			if err == nil {
				s.result.PendingReboot = id
				continue
			}
			s.result.Succeeded, s.result.Error = false, err.Error()
			r.leave(LeftOut{Writer: s.set.Component.Writer.Label(), Component: s.set.Component.FullPath(), Reason: err.Error()})
		}
		if staged {
			s.written = false
		}
		if err := set.Close(); err != nil {
			r.warn("%s: what was staged for the next start is not all removed: %v", s.set.Component.Label(), err)
		}
		if err := ctx.Err(); err != nil && failed == nil {
			return err
		}
	}
	return nil
}

// rebootsNeeded tells what the host must be restarted for (R-RES-33).
func (r *restore) rebootsNeeded() {
	for _, s := range r.sets {
		switch {
		case s.refused != "" || !s.written:
		case s.result.PendingReboot != "":
			r.res.RebootFor = append(r.res.RebootFor, s.set.Component.Label()+": its files take their places at the next start")
		case s.method().Reboot:
			r.res.RebootFor = append(r.res.RebootFor, s.set.Component.Label()+": its writer asks for a restart after a restore")
		}
	}
}

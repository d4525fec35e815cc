package coordinator

import (
	"context"

	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// PreRestore implements [session.Restorer].
func (s *service) PreRestore(ctx context.Context, p session.Progress) error {
	ctx, leave, err := s.enter(ctx, "PreRestore", inRestore|gathered, preRestored)
	if err != nil {
		return err
	}
	defer leave()
	pr := newReporter(p)
	defer pr.end()
	each(s.partaking(), func(p *participant) {
		done := pr.begin(writer.EventPreRestore.String(), p.instanceName)
		done(s.preRestore(ctx, p))
	})
	s.reached(preRestored)
	return context.Cause(ctx)
}

// preRestore tells one writer, with what its files are open in.
func (s *service) preRestore(ctx context.Context, p *participant) error {
	e := s.event(p, writer.EventPreRestore)
	if e.Components != nil {
		open, err := s.inUse(ctx, p, e.Components)
		if err != nil {
			p.fail(writer.EventPreRestore, err, nil)
			return err
		}
		e.Open = open
	}
	_, err := s.tellEvent(ctx, p, writer.EventPreRestore, e, s.limits.Event)
	return err
}

// PostRestore implements [session.Restorer]. A writer that refused PreRestore
// does not get it.
func (s *service) PostRestore(ctx context.Context, p session.Progress) error {
	ctx, leave, err := s.enter(ctx, "PostRestore", inRestore|preRestored, postRestored)
	if err != nil {
		return err
	}
	defer leave()
	pr := newReporter(p)
	defer pr.end()
	each(s.partaking(), func(p *participant) {
		if !s.needsPostRestore(p) {
			return
		}
		done := pr.begin(writer.EventPostRestore.String(), p.instanceName)
		_, err := s.tell(ctx, p, writer.EventPostRestore, s.limits.Event)
		done(err)
	})
	s.reached(postRestored)
	return context.Cause(ctx)
}

// needsPostRestore reports whether a writer gets the event. One that takes part
// only if replacing fails (VSS_WRE_IF_REPLACE_FAILS) does if the files of one of
// its components are not all where they were: since the restore failed, or since
// they are at an alternate location.
func (s *service) needsPostRestore(p *participant) bool {
	if m, ok := p.meta.RestoreMethod(); !ok || m.WriterRestore != vss.WriterRestoreIfReplaceFails {
		return true
	}
	s.docMu.Lock()
	defer s.docMu.Unlock()
	w, ok := s.doc.Writer(p.documentInstance())
	if !ok {
		return true
	}
	for _, c := range w.Components() {
		if sel, _ := c.SelectedForRestore(); sel && (c.FileRestoreStatus() != vss.FileRestoreStatusAll || len(c.AlternateLocationMappings()) > 0) {
			return true
		}
	}
	return false
}

// choosing is the frame of the calls that come before PreRestore.
func (s *service) choosing(ctx context.Context, op string, fn func() error) error {
	_, leave, err := s.enter(ctx, op, inRestore|gathered, preRestored)
	if err != nil {
		return err
	}
	defer leave()
	return fn()
}

// reporting is the frame of the calls between PreRestore and PostRestore.
func (s *service) reporting(ctx context.Context, op string, fn func() error) error {
	_, leave, err := s.enter(ctx, op, inRestore|preRestored, postRestored)
	if err != nil {
		return err
	}
	defer leave()
	return fn()
}

// restorer finds the writer that will take part in the restore of a component:
// the instance asked for, else one of the component's class.
func (s *service) restorer(c session.Component, instance vss.GUID) (*participant, error) {
	var found *participant
	for _, p := range s.writers {
		switch {
		case p.class != c.Writer:
		case !instance.IsZero():
			if p.instance == instance {
				return p, nil
			}
		case p.instance == c.Instance:
			return p, nil
		case p.serves(c):
			found = p
		}
	}
	if found == nil {
		return nil, vss.Errorf(vss.ErrObjectNotFound, "SetSelectedForRestore", vss.FullPath(c.LogicalPath, c.Name),
			"its writer is not running (class %v); start it, or restore without writers", c.Writer)
	}
	return found, nil
}

// serves reports whether the live writer has the component of a stored backup:
// instances of one class never share a component's path (R-SEL-2).
func (p *participant) serves(c session.Component) bool {
	_, ok := p.meta.Component(c.LogicalPath, c.Name)
	return ok
}

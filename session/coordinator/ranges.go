package coordinator

import (
	"context"
	"time"

	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/session/coordinator/localfs"
	"github.com/sombra-backup/sombra/vss"
)

// changedSince gives what compares files of a copy with those of an earlier one,
// nil if its provider cannot.
func (s *service) changedSince(c *shadow) localfs.ChangedRanges {
	teller, ok := c.prov.(provider.RangeTeller)
	if !ok {
		return nil
	}
	return func(ctx context.Context, base vss.GUID, name string) ([]vss.Range, error) {
		old, err := s.comparable(base, name, c)
		if err != nil {
			return nil, err
		}
		return bounded(ctx, func(ctx context.Context) ([]vss.Range, error) { return teller.ChangedRanges(ctx, old, c.ref, name) }, nil)
	}
}

// spaceLimit is how long one copy's space is looked at.
const spaceLimit = time.Second

// SnapshotSpace implements [session.Snapshots].
func (s *service) SnapshotSpace(ctx context.Context, id vss.GUID) (session.Space, error) {
	const op = "SnapshotSpace"
	ctx, leave, err := s.enter(ctx, op, 0, 0)
	if err != nil {
		return session.Space{}, err
	}
	defer leave()
	ref := provider.Ref{}
	if c := s.own(id); c != nil {
		ref = c.ref
	} else if e, i, err := s.journalOf(id); err == nil {
		ref = e.Copies[i].Ref
	} else {
		return session.Space{}, err
	}
	sizer, ok := providerByID(s.opts.Providers, ref.Provider).(provider.Sizer)
	if !ok {
		return session.Space{}, vss.Errorf(vss.ErrNotSupported, op, id.String(), "its provider does not know")
	}
	ctx, cancel := context.WithTimeout(ctx, spaceLimit)
	defer cancel()
	return bounded(ctx, func(ctx context.Context) (session.Space, error) {
		bytes, all, err := sizer.Held(ctx, ref)
		return session.Space{Bytes: bytes, Least: !all}, err
	}, nil)
}

// comparable finds the earlier copy that one is to be compared with: a finished
// one of the same volume by the same provider.
func (s *service) comparable(base vss.GUID, name string, c *shadow) (provider.Ref, error) {
	refuse := func(format string, args ...any) (provider.Ref, error) {
		return provider.Ref{}, vss.Errorf(vss.ErrNotSupported, "compare", name, format, args...)
	}
	if !c.ref.Volume.Persistent {
		return refuse("volume %s has no name that lasts, so that nobody knows whether the earlier shadow copy is of it", c.ref.Volume.ID)
	}
	if c.deleted.Load() {
		return refuse("the shadow copy was deleted")
	}
	old := provider.Ref{}
	if own := s.own(base); own != nil {
		old = own.ref
	} else if e, i, err := s.journalOf(base); err == nil {
		old = e.Copies[i].Ref
	} else {
		return refuse("there is no earlier shadow copy %s", base)
	}
	if old.Volume.ID != c.ref.Volume.ID || old.Provider != c.ref.Provider {
		return refuse("shadow copy %s is of another volume or by another provider", base)
	}
	return old, nil
}

package coordinator

import (
	"context"

	"github.com/sombra-backup/sombra/provider"
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

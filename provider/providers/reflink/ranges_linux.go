package reflink

import (
	"context"

	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/provider/extents"
	"github.com/sombra-backup/sombra/provider/staging"
	"github.com/sombra-backup/sombra/vss"
)

var (
	_ provider.RangeTeller = (*Provider)(nil)
	_ provider.Sizer       = (*Provider)(nil)
)

// Held implements [provider.Sizer].
func (*Provider) Held(ctx context.Context, ref provider.Ref) (bytes uint64, all bool, err error) {
	return extents.Held(ctx, staging.TreePath(ref))
}

// ChangedRanges implements [provider.RangeTeller]. The clones of a file share
// with each other what did not change between them, for they shared it with the
// file, and whoever writes to shared blocks is given others: see package extents.
func (*Provider) ChangedRanges(ctx context.Context, base, now provider.Ref, path string) ([]vss.Range, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	old, err := staging.OpenMember(base, path)
	if err != nil {
		return nil, err
	}
	defer old.Close()
	fresh, err := staging.OpenMember(now, path)
	if err != nil {
		return nil, err
	}
	defer fresh.Close()
	ranges, err := extents.Compare(ctx, old.File, fresh.File, extents.Options{})
	if err != nil {
		return nil, err
	}
	for _, m := range []*staging.Member{old, fresh} {
		if err := m.Untouched(); err != nil {
			return nil, err
		}
	}
	return ranges, nil
}

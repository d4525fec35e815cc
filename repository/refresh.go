package repository

import "context"

// Refresh reads what is new in the index. Record, Records and Begin do so
// themselves; it is for those who read on for hours, while others prune: a chunk
// that was put elsewhere is found there afterwards.
func (r *Repository) Refresh(ctx context.Context) error {
	if err := r.ready(ctx); err != nil {
		return err
	}
	return r.index.refresh(ctx)
}

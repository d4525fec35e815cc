package repository

import (
	"context"
	"fmt"
	"slices"
)

// At gives the entry that has the number n in the order of the table, the first
// being 0. ErrNotFound if there are not so many. Unlike the entries of the
// iterations it was not held against those around it.
func (t *Table) At(ctx context.Context, n int64) (*Entry, error) {
	if n < 0 || n >= t.Len() {
		return nil, wrapf(ErrNotFound, "entry number %d of record %s", n, t.rec.ID.Short())
	}
	ref := tableRef{ID: t.root.ID, Length: t.root.Length, Entries: t.root.Entries}
	left := uint64(n)
	for level := int(t.root.Level); level > 0; level-- {
		refs, err := t.upper(ctx, ref, level, level == int(t.root.Level))
		if err != nil {
			return nil, t.wrap(err)
		}
		// The numbers of entries below add up to what the block above says.
		i := 0
		for ; left >= refs[i].Entries; i++ {
			left -= refs[i].Entries
		}
		ref = refs[i]
	}
	entries, err := t.leaf(ctx, ref, t.root.Level == 0)
	if err != nil {
		return nil, t.wrap(err)
	}
	return entries[left].Entry, nil
}

// Seek gives the number of the first entry at the given place or after it, Len
// if there is none.
func (t *Table) Seek(ctx context.Context, root, path string) (int64, error) {
	if t.Len() == 0 {
		return 0, nil
	}
	ref := tableRef{ID: t.root.ID, Length: t.root.Length, Entries: t.root.Entries}
	n := uint64(0)
	for level := int(t.root.Level); level > 0; level-- {
		refs, err := t.upper(ctx, ref, level, level == int(t.root.Level))
		if err != nil {
			return 0, t.wrap(err)
		}
		i, exact := slices.BinarySearchFunc(refs, 0, func(r tableRef, _ int) int { return ComparePaths(string(r.Root), string(r.Path), root, path) })
		if !exact && i > 0 {
			i--
		}
		for _, before := range refs[:i] {
			n += before.Entries
		}
		ref = refs[i]
	}
	entries, err := t.leaf(ctx, ref, t.root.Level == 0)
	if err != nil {
		return 0, t.wrap(err)
	}
	i, _ := slices.BinarySearchFunc(entries, 0, func(e Line, _ int) int { return ComparePaths(e.Root, e.Path, root, path) })
	return int64(n) + int64(i), nil
}

// wrap names the record in an error.
func (t *Table) wrap(err error) error {
	return fmt.Errorf("file table of record %s: %w", t.rec.ID.Short(), err)
}

// Forget gives back the memory in which the table keeps blocks that were read,
// for those who go through many tables. It may be used afterwards.
func (t *Table) Forget() {
	t.leaves.clear()
	t.uppers.clear()
}

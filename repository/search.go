package repository

import (
	"context"
	"errors"
)

// Search looks through the file tables of several records for entries. Blocks
// that records share are looked through once, and not read again if nothing in
// them matches: the second record costs what changed since the first.
type Search struct {
	// Match says whether an entry is looked for. It must say the same of the
	// same entry every time, and not keep it.
	Match func(*Entry) bool
	// Damaged, if not nil, is told of blocks that cannot be read, with the
	// first place in each; they are passed over. Without it they end the
	// search.
	Damaged func(rec *Record, root, path string, err error) error

	// without holds the blocks in which nothing matches.
	without map[ID]bool
}

// Record calls found for each matching entry of the record, in order. An error
// of found ends it and is returned as it is. A Search may be used for one record
// after the other, but not from several goroutines.
func (s *Search) Record(ctx context.Context, rec *Record, found func(*Entry) error) error {
	if s.without == nil {
		s.without = map[ID]bool{}
	}
	c := newTableCursor(rec.table)
	if c.done() {
		return nil
	}
	defer rec.table.Forget() // of thousands of records only one at a time
	_, err := s.item(ctx, c, c.item(), found)
	return err
}

// item looks through an entry or a block and all below it, and says whether
// anything was found there.
func (s *Search) item(ctx context.Context, c *tableCursor, i *tableItem, found func(*Entry) error) (bool, error) {
	if i.entry != nil {
		if err := c.pass(i); err != nil || !s.Match(i.entry) {
			return false, err
		}
		return true, found(i.entry)
	}
	if err := ctx.Err(); err != nil {
		return false, err
	}
	id := ID(i.ref.ID)
	if s.without[id] {
		return false, c.pass(i)
	}
	items, err := c.items(ctx, i)
	if err != nil {
		if s.Damaged == nil || !errors.Is(err, ErrDamaged) {
			return false, err
		}
		// What is above must not pass for looked through.
		return true, s.Damaged(c.t.rec, i.root, i.path, err)
	}
	matched := false
	for n := range items {
		m, err := s.item(ctx, c, &items[n], found)
		if err != nil {
			return false, err
		}
		matched = matched || m
	}
	if !matched {
		s.without[id] = true
	}
	return matched, nil
}

package repository

import (
	"context"
	"errors"
	"fmt"
)

// Commit stores the file table, waits until everything is durable, and then
// makes the record visible. When it fails there is no record, but for the one
// case that cannot be told apart: the store reported an error for the record's
// own Put and has it all the same. Whatever it returns, the backup has ended.
//
// ErrInvalid says that info breaks a rule, that an entry names a root that
// info.Roots lacks, or that an entry lies below one that is no directory.
// ErrStale says that the backup gave no sign of life for longer than
// Options.IntentTTL (its machine slept, the store was out of reach), and that
// what it builds on has gone meanwhile.
func (b *Backup) Commit(ctx context.Context, info RecordInfo) (*Record, error) {
	if !b.end() {
		return nil, ErrClosed
	}
	defer b.abortLocal()
	defer b.sorter.close()
	// A context that ends during Commit ends the uploads as well.
	defer context.AfterFunc(ctx, func() { b.fail(context.Cause(ctx)) })()
	if b.base != nil {
		info.Parents = addParent(info.Parents, b.base.ID)
	}
	root, totals, err := b.table(ctx, info)
	b.keeper.halt()
	if err == nil {
		var rec *Record
		var unknown bool
		if rec, unknown, err = b.publish(ctx, info, root, totals); err == nil || unknown {
			if !unknown {
				b.keeper.remove(ctx)
			}
			if err == nil {
				b.keepLocal(rec)
				b.usedPrints.forget()
				return rec, nil
			}
			return nil, fmt.Errorf("commit: %w", err)
		}
	}
	return nil, errors.Join(fmt.Errorf("commit: %w", err), b.keeper.remove(ctx))
}

// table stores the file table and everything that is on its way.
func (b *Backup) table(ctx context.Context, info RecordInfo) (root tableRoot, t Totals, err error) {
	drained := false
	defer func() {
		if !drained {
			b.pipe.abort(ctx)
		}
	}()
	if err := info.check(); err != nil {
		return root, t, err
	}
	for name, c := range info.Documents {
		if err := b.holdsTop(ctx, c); err != nil {
			return root, t, fmt.Errorf("document %q: %w", name, err)
		}
	}
	// The table can be read though a document cannot; see PutBytes.
	if err := b.pipe.flush(kindMetaPack); err != nil {
		return root, t, err
	}
	w := newTableWriter(b, info.Roots)
	if err := b.sorter.each(ctx, func(e sortedEntry) error {
		if e.leaf != nil {
			return w.addLeaf(ctx, e)
		}
		return w.add(ctx, e)
	}); err != nil {
		return root, t, err
	}
	if root, err = w.finish(ctx); err != nil {
		return root, t, err
	}
	drained = true
	if err := b.pipe.drain(); err != nil {
		return root, t, err
	}
	b.written = append(b.written, b.pipe.written...)
	b.storedBefore += b.pipe.stored.Load()
	t = w.totals
	t.BytesRead = b.read.Load()
	t.ChunksAdded, t.BytesAdded, t.BytesStored = b.added.Load(), b.addedBytes.Load(), b.storedBefore
	return root, t, nil
}

// publishTries is how often a backup that was taken for dead looks again at what
// it builds on. Whoever sleeps that often between two steps is told.
const publishTries = 3

// publish puts the record. Two intents that name it go before: from the first
// one on, a prune that takes this backup for dead declares the record void
// before it deletes anything; the second tells that the first could be seen in
// time. If it could not, or the record was declared void, the backup looks anew
// at what it builds on, as if it began now. unknown says that the record may
// appear in spite of the error: then the intents are left where they are.
func (b *Backup) publish(ctx context.Context, info RecordInfo, root tableRoot, t Totals) (rec *Record, unknown bool, err error) {
	for try := 0; ; try++ {
		rec, object, err := b.r.sealRecord(info, root, t, b.written)
		if err != nil {
			return nil, false, err
		}
		for range 2 {
			if err := b.keeper.put(ctx, rec.ID); err != nil {
				return nil, false, err
			}
		}
		if !b.keeper.wasSilent() {
			err := b.r.putRecord(ctx, rec, object)
			if err == nil {
				return rec, false, nil
			}
			if !errors.Is(err, errVoid) {
				return nil, true, err
			}
		}
		if try == publishTries {
			return nil, false, wrapf(ErrStale, "it was silent %d times on end while it was to be committed", try)
		}
		if root, t, err = b.revive(ctx, info, root, t); err != nil {
			return nil, false, err
		}
	}
}

// revive is for a backup that a prune may have taken for dead: it makes sure of
// everything it builds on. What is gone and at hand, the blocks of the file
// table, is stored again. Files' data is not at hand any more: if some of it is
// gone the backup fails, and the next one finds what is still there.
func (b *Backup) revive(ctx context.Context, info RecordInfo, root tableRoot, t Totals) (tableRoot, Totals, error) {
	if err := b.keeper.restart(ctx); err != nil {
		return root, t, err
	}
	if err := b.survey(ctx); err != nil {
		return root, t, err
	}
	if b.intact() {
		return root, t, nil
	}
	if err := b.holdsEverything(ctx, info); err != nil {
		if errors.Is(err, ErrDamaged) || errors.Is(err, ErrWriteOnly) {
			err = fmt.Errorf("%w for more than %v, and what it builds on was deleted meanwhile: make it again, what is still stored will be found; %w",
				ErrStale, b.r.options.IntentTTL, err)
		}
		return root, t, err
	}
	b.written = b.present(b.written)
	b.mu.Lock()
	b.pipe = newPipeline(ctx, b.r, b.indexed)
	b.mu.Unlock()
	return b.table(ctx, info)
}

// intact says whether all packs that the backup builds on or wrote are there to
// stay.
func (b *Backup) intact() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	x := b.r.index
	x.mu.RLock()
	defer x.mu.RUnlock()
	if b.sampled.Load() {
		return false
	}
	gone := func(no uint32) bool {
		p := x.packs.at(no)
		return !p.firm()
	}
	for _, id := range b.written {
		part := x.byName[id]
		if part == nil {
			return false
		}
		for _, no := range part.packNo {
			if gone(no) {
				return false
			}
		}
	}
	for no := range b.relied.all() {
		if gone(uint32(no)) {
			return false
		}
	}
	return true
}

// present gives those of the index objects that are still in the store, or
// superseded by one that is.
func (b *Backup) present(ids []ID) (left []ID) {
	x := b.r.index
	x.mu.RLock()
	defer x.mu.RUnlock()
	for _, id := range ids {
		if x.listed[id] || x.superseded[id] {
			left = append(left, id)
		}
	}
	return left
}

// holdsEverything says whether all that documents and entries refer to is there
// to stay.
func (b *Backup) holdsEverything(ctx context.Context, info RecordInfo) error {
	for name, c := range info.Documents {
		if err := b.holdsAll(ctx, &c); err != nil {
			return fmt.Errorf("document %q: %w", name, err)
		}
	}
	entry := func(e *Entry) error {
		for c := range e.contents() {
			if err := b.holdsAll(ctx, &c); err != nil {
				return fmt.Errorf("%s: %w", printable(e.Root, e.Path), err)
			}
		}
		return nil
	}
	return b.sorter.each(ctx, func(s sortedEntry) error {
		if s.leaf == nil {
			e, _, _, err := decodeEntry(s.encoded)
			if err != nil {
				return err
			}
			return entry(e)
		}
		lines, err := s.leaf.lines(ctx)
		for i := range lines {
			if err == nil {
				err = entry(lines[i].Entry)
			}
		}
		return err
	})
}

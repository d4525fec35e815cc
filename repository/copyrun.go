package repository

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
)

// copyRun is the copy of one record. The pieces of its contents are collected
// until there are many; then the chunks they need are read in the order of the
// source's packs and stored, and the pieces go to the lists of the new contents.
type copyRun struct {
	c    *Copier
	b    *Backup
	kind objectKind
	base *copiedBase

	steps []copyStep
	// need are the chunks of the steps, with the first step that needs each.
	need map[chunkRef]int
	// weight is about what the steps take in memory.
	weight int
	done   CopyProgress
}

// copyStep is a piece for a list, the end of a list, or an entry to be added.
type copyStep struct {
	list  *listWriter
	piece piece
	// end takes the content when the list ends.
	end *Content
	// add is the entry whose contents came before.
	add *Entry
	// path is whose content it is, for errors.
	path *Entry
}

// What is collected before it is copied: so many chunks, and about so many
// bytes of memory.
const (
	copyChunks = 1 << 13
	copyWeight = 8 << 20
)

// entry copies an entry.
func (r *copyRun) entry(ctx context.Context, src *Entry) error {
	e := src.Clone()
	e.Streams = slices.Clone(src.Streams)
	reused, err := r.reuse(ctx, src, &e)
	if err != nil {
		return err
	}
	if !reused {
		if err := r.content(ctx, &e, &e.Content); err != nil {
			return err
		}
		for i := range e.Streams {
			if err := r.content(ctx, &e, &e.Streams[i].Content); err != nil {
				return err
			}
		}
	}
	r.done.Entries++
	if e.Type == Regular {
		r.done.Files++
		r.done.Bytes += e.Size
		if reused {
			r.done.Reused++
		}
	}
	// What it takes besides its pieces: names, attributes.
	cost := 500 + len(e.Path) + len(e.LinkTarget) + len(e.SecurityDescriptor) + len(e.ReparseData)
	for name, value := range e.Xattrs {
		cost += len(name) + len(value)
	}
	return r.step(ctx, copyStep{add: &e}, cost)
}

// reuse takes the contents from a copy of the same file, if the file is the
// same in the record that was copied before, and the target still has them.
func (r *copyRun) reuse(ctx context.Context, src, e *Entry) (bool, error) {
	if r.base == nil || src.Content.Size() == 0 && len(src.Streams) == 0 {
		return false, nil
	}
	there := r.base.same(src)
	if there == nil {
		return false, ctx.Err()
	}
	for c := range there.contents() {
		if r.b.Holds(ctx, c) != nil {
			return false, ctx.Err()
		}
	}
	e.Content, e.Streams = there.Content, slices.Clone(there.Streams)
	return true, nil
}

// content has a content copied: it becomes the new one when the steps are taken.
func (r *copyRun) content(ctx context.Context, e *Entry, c *Content) error {
	if c.size == 0 {
		return nil
	}
	list := newListWriter(r.b)
	err := newExtentReader(r.c.from, *c).between(ctx, 0, c.size, func(p piece) error {
		return r.step(ctx, copyStep{list: list, piece: p, path: e}, 0)
	})
	if err != nil {
		return fmt.Errorf("entry %s: %w", printable(e.Root, e.Path), err)
	}
	return r.step(ctx, copyStep{list: list, end: c, path: e}, 0)
}

// step collects a step.
func (r *copyRun) step(ctx context.Context, s copyStep, cost int) error {
	if r.need == nil {
		r.need = map[chunkRef]int{}
	}
	r.steps = append(r.steps, s)
	r.weight += 150 + cost
	if s.list != nil && s.end == nil && !s.piece.hole {
		if _, ok := r.need[s.piece.chunk]; !ok {
			r.need[s.piece.chunk] = len(r.steps) - 1
		}
	}
	if len(r.need) < copyChunks && r.weight < copyWeight {
		return nil
	}
	return r.flush(ctx)
}

// flush takes the steps.
func (r *copyRun) flush(ctx context.Context) error {
	ids, err := r.chunks(ctx)
	if err != nil {
		return err
	}
	for i := range r.steps {
		s := &r.steps[i]
		switch {
		case s.add != nil:
			err = r.b.Add(ctx, *s.add)
		case s.end != nil:
			*s.end, err = s.list.finish(ctx)
		case s.piece.hole:
			s.list.hole(s.piece.length)
		default:
			ref := chunkRef{ids[s.piece.chunk], s.piece.chunk.length}
			err = s.list.data(ctx, ref, s.piece.offset, uint32(s.piece.length))
		}
		if err != nil {
			return err
		}
	}
	clear(r.steps)
	r.steps, r.need, r.weight = r.steps[:0], nil, 0
	if r.c.progress != nil {
		r.c.progress(r.done)
	}
	return nil
}

// placedChunk is a chunk of the source and where it lies there.
type placedChunk struct {
	ref chunkRef
	at  location
}

// chunks gives the new names of the chunks that the steps need, after it has
// stored those whose names are not known or that the target has no more.
func (r *copyRun) chunks(ctx context.Context) (map[chunkRef]ID, error) {
	ids := make(map[chunkRef]ID, len(r.need))
	var missing []placedChunk
	for ref := range r.need {
		if id, ok := r.c.known.get(copyKey{r.kind, ref}); ok && r.b.stored(ctx, chunkRef{id, ref.length}) == nil {
			ids[ref] = id
			continue
		}
		p := placedChunk{ref: ref}
		err := r.c.from.index.find(ctx, ref.id, func(loc location) bool {
			p.at = loc
			return true
		})
		// One that is not found is looked for again where it is read, which
		// says what is wrong.
		if err != nil && !errors.Is(err, ErrDamaged) {
			return nil, err
		}
		missing = append(missing, p)
	}
	slices.SortFunc(missing, func(a, b placedChunk) int {
		return cmp.Or(cmp.Compare(a.at.packNo, b.at.packNo), cmp.Compare(a.at.offset, b.at.offset), cmp.Compare(a.at.start, b.at.start))
	})
	var mu sync.Mutex
	work, wctx := errgroup.WithContext(ctx)
	work.SetLimit(r.b.r.options.Workers + 1)
	for frame := range byFrame(missing) {
		work.Go(func() error {
			// All of a frame is taken before any of it is stored, which may
			// have to wait while the cache moves on.
			data := make([][]byte, len(frame))
			for i, p := range frame {
				var err error
				if data[i], err = r.read(wctx, p.ref); err != nil {
					return err
				}
			}
			for i, p := range frame {
				id, err := r.put(wctx, p.ref, data[i])
				if err != nil {
					return err
				}
				mu.Lock()
				ids[p.ref] = id
				r.done.BytesRead += int64(p.ref.length)
				mu.Unlock()
			}
			return nil
		})
	}
	return ids, work.Wait()
}

// byFrame gives the chunks of each frame together: one goroutine reads it. A
// chunk whose place is unknown (of size 0) is alone.
func byFrame(list []placedChunk) iter.Seq[[]placedChunk] {
	return func(yield func([]placedChunk) bool) {
		for len(list) > 0 {
			n := 1
			for n < len(list) && list[n].at.size > 0 && list[n].at.packNo == list[0].at.packNo && list[n].at.offset == list[0].at.offset {
				n++
			}
			if !yield(list[:n]) {
				return
			}
			list = list[n:]
		}
	}
}

// read reads one chunk of the source.
func (r *copyRun) read(ctx context.Context, ref chunkRef) ([]byte, error) {
	data, err := r.c.from.chunk(ctx, ref.id, ref.length)
	if err != nil && ctx.Err() == nil {
		if e := r.steps[r.need[ref]].path; e != nil {
			err = fmt.Errorf("entry %s: %w", printable(e.Root, e.Path), err)
		}
	}
	return data, err
}

// put stores one chunk of the source as it is.
func (r *copyRun) put(ctx context.Context, ref chunkRef, data []byte) (ID, error) {
	r.b.read.Add(int64(len(data)))
	id, err := r.b.putChunk(ctx, r.kind, data)
	if err == nil {
		r.c.known.put(copyKey{r.kind, ref}, id, 1)
	}
	return id, err
}

// documents copies the documents of a record, after all files; see PutBytes.
func (r *copyRun) documents(ctx context.Context, src *Record) (map[string]Content, error) {
	if len(src.Documents) == 0 {
		return nil, nil
	}
	r.b.documents.Store(true)
	if err := r.b.pipe.flush(kindMetaPack); err != nil {
		return nil, err
	}
	r.kind = kindMetaPack
	contents := make(map[string]*Content, len(src.Documents))
	for name, c := range src.Documents {
		contents[name] = &c
		if err := r.content(ctx, &Entry{Path: "document " + name}, &c); err != nil {
			return nil, err
		}
	}
	if err := r.flush(ctx); err != nil {
		return nil, err
	}
	documents := make(map[string]Content, len(contents))
	for name, c := range contents {
		documents[name] = *c
	}
	return documents, nil
}

// copiedBase walks the file tables of a source record and of its copy beside
// that of the record being copied. What cannot be read of them is not reused.
type copiedBase struct{ src, dst *copyCursor }

func newCopiedBase(ctx context.Context, p copyPair) *copiedBase {
	return &copiedBase{newCopyCursor(ctx, p.src), newCopyCursor(ctx, p.dst)}
}

func (b *copiedBase) close() {
	b.src.stop()
	b.dst.stop()
}

// same gives the copied entry of a file that has the same contents in the base.
func (b *copiedBase) same(e *Entry) *Entry {
	old, there := b.src.at(e), b.dst.at(e)
	if old == nil || there == nil || !old.Content.Equal(e.Content) || there.Content.Size() != e.Content.Size() ||
		len(old.Streams) != len(e.Streams) || len(there.Streams) != len(e.Streams) {
		return nil
	}
	for i, s := range e.Streams {
		if old.Streams[i].Name != s.Name || there.Streams[i].Name != s.Name || !old.Streams[i].Content.Equal(s.Content) ||
			there.Streams[i].Content.Size() != s.Content.Size() {
			return nil
		}
	}
	return there
}

// copyCursor goes through a file table, forwards only.
type copyCursor struct {
	next    func() (*Entry, error, bool)
	stop    func()
	current *Entry
	ended   bool
}

func newCopyCursor(ctx context.Context, rec *Record) *copyCursor {
	next, stop := iter.Pull2(rec.Table().All(ctx))
	return &copyCursor{next: next, stop: stop}
}

// at gives the entry at the place of another one, nil if there is none.
func (c *copyCursor) at(e *Entry) *Entry {
	for !c.ended {
		if c.current != nil {
			switch n := ComparePaths(c.current.Root, c.current.Path, e.Root, e.Path); {
			case n == 0:
				return c.current
			case n > 0:
				return nil
			}
		}
		var err error
		var ok bool
		if c.current, err, ok = c.next(); !ok || err != nil {
			c.current, c.ended = nil, true
		}
	}
	return nil
}

package repository

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
)

// OpenContent opens content for reading. Nothing is read yet. The context
// serves the File's ReadAt, which has none of its own.
func (r *Repository) OpenContent(ctx context.Context, c Content) (*File, error) {
	if err := r.ready(ctx); err != nil {
		return nil, err
	}
	return &File{ctx: ctx, extents: newExtentReader(r, c)}, nil
}

// File is stored content, open for reading by several goroutines. Every byte
// it gives was authenticated and hashed back to the name of its chunk.
type File struct {
	ctx     context.Context
	extents *extentReader
}

// Size is the length in bytes.
func (f *File) Size() int64 { return f.extents.c.size }

// ReadAt implements io.ReaderAt. Holes read as zeros. An error that wraps
// ErrDamaged names the object that is at fault; the bytes before are good.
func (f *File) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, invalidf("read at offset %d", off)
	}
	if off >= f.Size() {
		if len(p) == 0 {
			return 0, nil
		}
		return 0, io.EOF
	}
	want := int(min(int64(len(p)), f.Size()-off))
	n := 0
	err := f.extents.between(f.ctx, off, off+int64(want), func(pc piece) error {
		into := p[n : n+int(pc.length)]
		if pc.hole {
			clear(into)
			n += len(into)
			return nil
		}
		data, err := f.data(f.ctx, pc)
		if err == nil {
			n += copy(into, data)
		}
		return err
	})
	if err != nil {
		return n, fmt.Errorf("read stored content at %d: %w", off+int64(n), err)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// data gives the verified bytes of a piece.
func (f *File) data(ctx context.Context, p piece) ([]byte, error) {
	data, err := f.extents.r.chunk(ctx, p.chunk.id, p.chunk.length)
	if err != nil {
		return nil, err
	}
	return data[p.offset : int64(p.offset)+p.length], nil
}

// Segments gives data and holes in order, each as long as it can be. The
// iteration ends after an error.
func (f *File) Segments(ctx context.Context) iter.Seq2[Segment, error] {
	return func(yield func(Segment, error) bool) {
		var last Segment
		more := true
		err := f.extents.between(ctx, 0, f.Size(), func(p piece) error {
			if last.Length > 0 && last.Hole == p.hole {
				last.Length += p.length
				return nil
			}
			if last.Length > 0 {
				if more = yield(last, nil); !more {
					return io.EOF
				}
			}
			last = Segment{Range{last.End(), p.length}, p.hole}
			return nil
		})
		switch {
		case !more:
		case err != nil:
			yield(Segment{}, err)
		case last.Length > 0:
			yield(last, nil)
		}
	}
}

// Each calls fn for all data in order, in pieces of at most 4 MiB, and leaves
// the holes out. fn must not change the slice, nor keep it after it returns;
// an error of fn ends it and is returned as it is.
func (f *File) Each(ctx context.Context, fn func(offset int64, data []byte) error) error {
	at := int64(0)
	return f.extents.between(ctx, 0, f.Size(), func(p piece) error {
		offset := at
		at += p.length
		if err := ctx.Err(); err != nil || p.hole {
			return err
		}
		data, err := f.data(ctx, p)
		if err != nil {
			return fmt.Errorf("read stored content at %d: %w", offset, err)
		}
		return fn(offset, data)
	})
}

// Verify reads everything the content needs: nil if all of it verifies.
func (r *Repository) Verify(ctx context.Context, c Content) error {
	f, err := r.OpenContent(ctx, c)
	if err != nil {
		return err
	}
	return f.Each(ctx, func(int64, []byte) error { return nil })
}

// Holds says whether everything the content needs is there to be read: nil, or an
// error that wraps ErrDamaged. The extent lists of large content are read, its data
// is not. Of packs that are gone from the store the last [Repository.Survey] tells.
func (r *Repository) Holds(ctx context.Context, c Content) error {
	if err := r.ready(ctx); err != nil {
		return err
	}
	node := func(n *listNode) error {
		for _, ref := range n.refs {
			if err := r.findable(ctx, ref); err != nil {
				return err
			}
		}
		return nil
	}
	if err := node(&c.top); err != nil || c.top.level == 0 {
		return err
	}
	return r.eachNode(ctx, &c.top, node)
}

// findable says whether a chunk can be found as a reader finds it.
func (r *Repository) findable(ctx context.Context, ref chunkRef) error {
	for again := false; ; again = true {
		found := false
		err := r.index.find(ctx, ref.id, func(l location) bool {
			found = l.length == ref.length && !l.pack.absent
			return found
		})
		switch {
		case found:
			return nil
		case err != nil && !errors.Is(err, ErrDamaged):
			return err
		case again:
			return damagef("chunk %s of %d bytes is not stored", ref.id, ref.length)
		}
		// The index may lack what packs name in their own directories.
		if err := r.index.adopt(ctx, r); err != nil {
			return err
		}
	}
}

// Survey looks which packs are in the store, so that Holds tells of what was in
// those that are gone.
func (r *Repository) Survey(ctx context.Context) error {
	if err := r.ready(ctx); err != nil {
		return err
	}
	return r.index.compare(ctx)
}

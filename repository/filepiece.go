package repository

import (
	"context"
	"fmt"
	"io"
)

// Piece is a stretch of a file that is stored in one piece: a hole, or a part of
// a chunk.
type Piece struct {
	Segment
	f *File
	p piece
}

// PieceAt gives the piece of the file from the offset on, up to the end of the
// hole or chunk that holds it. io.EOF if the offset is not below the size. Only
// extent lists are read.
func (f *File) PieceAt(ctx context.Context, offset int64) (Piece, error) {
	if offset < 0 {
		return Piece{}, invalidf("read at offset %d", offset)
	}
	if offset >= f.Size() {
		return Piece{}, io.EOF
	}
	var found Piece
	err := f.extents.between(ctx, offset, f.Size(), func(p piece) error {
		found = Piece{Segment{Range{offset, p.length}, p.hole}, f, p}
		return io.EOF
	})
	if err != io.EOF {
		return Piece{}, fmt.Errorf("extents of stored content at %d: %w", offset, err)
	}
	return found, nil
}

// Data reads the piece's bytes, at most 4 MiB; those of a hole are nil. They are
// shared and must not be changed. The error of damage names the object.
func (p *Piece) Data(ctx context.Context) ([]byte, error) {
	if p.Hole {
		return nil, nil
	}
	data, err := p.f.data(ctx, p.p)
	if err != nil {
		return nil, fmt.Errorf("read stored content at %d: %w", p.Offset, err)
	}
	return data, nil
}

// NextData gives the first offset from the given one on that is not in a hole,
// and NextHole the first one that is. The size of the file counts as a hole. If
// there is no more data NextData gives io.EOF.
func (f *File) NextData(ctx context.Context, offset int64) (int64, error) {
	return f.next(ctx, offset, false)
}

// NextHole: see NextData. It gives io.EOF only if the offset is not below the
// size.
func (f *File) NextHole(ctx context.Context, offset int64) (int64, error) {
	return f.next(ctx, offset, true)
}

func (f *File) next(ctx context.Context, offset int64, hole bool) (int64, error) {
	if offset < 0 {
		return 0, invalidf("offset %d", offset)
	}
	if offset >= f.Size() {
		return 0, io.EOF
	}
	at, found := offset, false
	err := f.extents.between(ctx, offset, f.Size(), func(p piece) error {
		if p.hole == hole {
			found = true
			return io.EOF
		}
		at += p.length
		return ctx.Err()
	})
	switch {
	case found:
		return at, nil
	case err != nil:
		return 0, fmt.Errorf("extents of stored content at %d: %w", at, err)
	case hole:
		return f.Size(), nil
	}
	return 0, io.EOF
}

// Allocated counts the bytes of the file that are not in holes. Where the extent
// list has more than the given number of blocks it gives up: ok is then false.
func (f *File) Allocated(ctx context.Context, blocks int) (n int64, ok bool, err error) {
	err = f.allocated(ctx, &f.extents.c.top, &blocks, &n)
	if err == errTooLong {
		return 0, false, nil
	}
	return n, err == nil, err
}

// errTooLong ends a count.
var errTooLong = fmt.Errorf("too many blocks")

func (f *File) allocated(ctx context.Context, n *listNode, left *int, sum *int64) error {
	if n.level == 0 {
		for _, e := range n.extents {
			if e.ref > 0 {
				*sum += e.length
			}
		}
		return ctx.Err()
	}
	for i := range n.refs {
		if *left--; *left < 0 {
			return errTooLong
		}
		child, err := f.extents.child(ctx, n, i)
		if err != nil {
			return err
		}
		if err := f.allocated(ctx, child, left, sum); err != nil {
			return err
		}
	}
	return nil
}

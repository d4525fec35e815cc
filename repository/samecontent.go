package repository

import (
	"bytes"
	"context"
	"errors"
	"io"
)

// Sameness is what Same found.
type Sameness int

const (
	// Different says that the bytes are not the content's.
	Different Sameness = iota
	// Identical says that all bytes are the content's.
	Identical
	// Unproven says that nothing differs, and that the content refers to parts
	// of chunks, of which the bytes alone prove nothing: the chunks must be read
	// and compared (see UnprovenPieces).
	Unproven
)

// errDiffers ends a comparison.
var errDiffers = errors.New("differs")

// Same compares the content with bytes that are there, reading only these: a
// chunk's name is proof of its bytes. What cannot be read differs. The error is
// the context's or one of the extent list.
func (r *Repository) Same(ctx context.Context, c Content, at io.ReaderAt) (Sameness, error) {
	if err := r.ready(ctx); err != nil {
		return Different, err
	}
	const step = 1 << 20
	same := Identical
	var buf, zeros []byte
	read := func(n, off int64) ([]byte, error) {
		if int64(cap(buf)) < n {
			buf = make([]byte, n)
		}
		if got, _ := at.ReadAt(buf[:n], off); int64(got) != n {
			return nil, errDiffers
		}
		return buf[:n], nil
	}
	off := int64(0)
	err := newExtentReader(r, c).between(ctx, 0, c.size, func(pc piece) error {
		begin := off
		off += pc.length
		switch {
		case pc.hole:
			if zeros == nil {
				zeros = make([]byte, step)
			}
			for ; begin < off; begin += step {
				if err := ctx.Err(); err != nil {
					return err
				}
				n := min(off-begin, step)
				data, err := read(n, begin)
				if err != nil || !bytes.Equal(data, zeros[:n]) {
					return errDiffers
				}
			}
		case !pc.proven():
			same = Unproven
		default:
			data, err := read(pc.length, begin)
			if err != nil || r.keys.chunkID(kindDataPack, data) != pc.chunk.id {
				return errDiffers
			}
		}
		return nil
	})
	if errors.Is(err, errDiffers) {
		return Different, nil
	}
	if err != nil {
		return Different, err
	}
	return same, nil
}

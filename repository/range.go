package repository

import (
	"math"
	"slices"
)

// Range is a stretch of bytes of a file.
type Range struct {
	// Offset is where it begins, in bytes from the file's start.
	Offset int64
	// Length is how many bytes it has.
	Length int64
}

// End gives the offset after the last byte.
func (r Range) End() int64 { return r.Offset + r.Length }

// valid says whether both numbers are sensible and their sum can be computed.
func (r Range) valid() bool {
	return r.Offset >= 0 && r.Length >= 0 && r.Offset <= math.MaxInt64-r.Length
}

// normalRanges gives the same bytes as sorted ranges that neither touch nor
// overlap, with what lies at or past size cut off.
func normalRanges(ranges []Range, size int64) ([]Range, error) {
	out := make([]Range, 0, len(ranges))
	for _, r := range ranges {
		if !r.valid() {
			return nil, invalidf("range of %d bytes at %d", r.Length, r.Offset)
		}
		if r.Offset >= size || r.Length == 0 {
			continue
		}
		r.Length = min(r.Length, size-r.Offset)
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b Range) int {
		switch {
		case a.Offset < b.Offset:
			return -1
		case a.Offset > b.Offset:
			return 1
		}
		return 0
	})
	n := 0
	for _, r := range out {
		if n > 0 && r.Offset <= out[n-1].End() {
			out[n-1].Length = max(out[n-1].End(), r.End()) - out[n-1].Offset
			continue
		}
		out[n] = r
		n++
	}
	return out[:n], nil
}

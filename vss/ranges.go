package vss

import (
	"math"
	"slices"
	"strconv"
	"strings"
)

// Range is a run of bytes of a file. Offset+Length never exceeds the largest
// uint64 in a Range this package made.
type Range struct {
	Offset uint64
	Length uint64
}

// End gives the offset after the last byte, the largest uint64 where the sum
// would be larger.
func (r Range) End() uint64 {
	if r.Length > math.MaxUint64-r.Offset {
		return math.MaxUint64
	}
	return r.Offset + r.Length
}

// Ranges is a list of ranges in any order; what is said of "normal" ones holds
// for what [Ranges.Normalize] gives: sorted, without empty ones, none touching
// the next.
type Ranges []Range

// MaxRanges is the most ranges a list or a ranges file may hold (256 MiB of
// ranges file).
const MaxRanges = 1 << 24

// ParseRanges reads the list grammar of R-SET-37, such as
// "64:448,0x1239E8577A:65536": at least one range, decimal or 0x numbers, blanks
// allowed after commas and at both ends. Order is kept, and nothing is merged;
// directed targets pair ranges by position. The error is [ErrInvalidArgument]
// and names the range.
func ParseRanges(list string) (Ranges, error) {
	text := strings.Trim(list, " ")
	count := strings.Count(text, ",") + 1
	if count > MaxRanges {
		return nil, rangeError("the list has %d ranges, more than %d", count, MaxRanges)
	}
	ranges := make(Ranges, 0, count)
	for item := range strings.SplitSeq(text, ",") {
		r, err := parseRange(strings.TrimLeft(item, " "), len(ranges)+1)
		if err != nil {
			return nil, err
		}
		ranges = append(ranges, r)
	}
	return ranges, nil
}

func parseRange(s string, number int) (Range, error) {
	offset, length, ok := strings.Cut(s, ":")
	if !ok {
		return Range{}, rangeError("range %d, %.60q, is not offset:length", number, s)
	}
	o, err1 := parseCount(offset)
	l, err2 := parseCount(length)
	if err1 != nil || err2 != nil {
		return Range{}, rangeError("range %d, %.60q, is not two 64-bit numbers, decimal or 0x", number, s)
	}
	if l > math.MaxUint64-o {
		return Range{}, rangeError("range %d, %.60q, ends past 2^64", number, s)
	}
	return Range{o, l}, nil
}

// parseCount takes digits only: ParseUint's signs, underscores and other bases
// are not in the grammar.
func parseCount(s string) (uint64, error) {
	base := 10
	if len(s) > 2 && s[0] == '0' && s[1]|0x20 == 'x' {
		s, base = s[2:], 16
	}
	return strconv.ParseUint(s, base, 64)
}

func rangeError(format string, args ...any) error {
	return Errorf(ErrInvalidArgument, "read", "ranges", format, args...)
}

// Format gives the list in the grammar of R-SET-37, decimal, without blanks.
func (rs Ranges) Format() string {
	b := make([]byte, 0, len(rs)*16)
	for i, r := range rs {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendUint(b, r.Offset, 10)
		b = append(b, ':')
		b = strconv.AppendUint(b, r.Length, 10)
	}
	return string(b)
}

// FormatRanges is rs.Format().
func FormatRanges(rs []Range) string { return Ranges(rs).Format() }

// Total gives the sum of all lengths, the largest uint64 where it would be
// larger. Overlapping bytes count once for each range unless rs is normal.
func (rs Ranges) Total() uint64 {
	var sum uint64
	for _, r := range rs {
		if r.Length > math.MaxUint64-sum {
			return math.MaxUint64
		}
		sum += r.Length
	}
	return sum
}

// Normalize gives the same bytes as sorted ranges that neither overlap nor
// touch, without empty ones. rs is not changed.
func (rs Ranges) Normalize() Ranges {
	if rs.IsNormal() {
		return slices.Clone(rs)
	}
	sorted := slices.Clone(rs)
	slices.SortFunc(sorted, func(a, b Range) int {
		switch {
		case a.Offset < b.Offset:
			return -1
		case a.Offset > b.Offset:
			return 1
		}
		return 0
	})
	out := sorted[:0]
	for _, r := range sorted {
		end := r.End()
		if end == r.Offset {
			continue
		}
		if n := len(out); n > 0 && r.Offset <= out[n-1].End() {
			out[n-1].Length = max(out[n-1].End(), end) - out[n-1].Offset
			continue
		}
		out = append(out, Range{r.Offset, end - r.Offset})
	}
	return out
}

// IsNormal reports whether rs is sorted, without empty, overlapping or touching
// ranges.
func (rs Ranges) IsNormal() bool {
	for i, r := range rs {
		if r.Length == 0 || r.Length > math.MaxUint64-r.Offset {
			return false
		}
		if i > 0 && r.Offset <= rs[i-1].End() {
			return false
		}
	}
	return true
}

// Clip gives the bytes of rs below size, normal: what lies past the end of a
// file is not there to be read.
func (rs Ranges) Clip(size uint64) Ranges {
	if size == 0 {
		return Ranges{}
	}
	return rs.Intersect(Ranges{{0, size}})
}

// Intersect gives the bytes that are in both, normal.
func (rs Ranges) Intersect(other Ranges) Ranges {
	a, b := rs.Normalize(), other.Normalize()
	out := Ranges{}
	for i, j := 0, 0; i < len(a) && j < len(b); {
		start, end := max(a[i].Offset, b[j].Offset), min(a[i].End(), b[j].End())
		if start < end {
			out = append(out, Range{start, end - start})
		}
		if a[i].End() <= b[j].End() {
			i++
		} else {
			j++
		}
	}
	return out
}

// Subtract gives the bytes of rs that are not in other, normal.
func (rs Ranges) Subtract(other Ranges) Ranges {
	a, b := rs.Normalize(), other.Normalize()
	out := Ranges{}
	j := 0
	for _, r := range a {
		start, end := r.Offset, r.End()
		for j < len(b) && b[j].End() <= start {
			j++
		}
		for k := j; k < len(b) && b[k].Offset < end; k++ {
			if b[k].Offset > start {
				out = append(out, Range{start, b[k].Offset - start})
			}
			start = max(start, b[k].End())
		}
		if start < end {
			out = append(out, Range{start, end - start})
		}
	}
	return out
}

// Union gives the bytes that are in either, normal.
func (rs Ranges) Union(other Ranges) Ranges {
	return append(slices.Clone(rs), other...).Normalize()
}

// Contains reports whether every byte of r is in rs, which must be normal.
func (rs Ranges) Contains(r Range) bool {
	if r.Length == 0 {
		return true
	}
	i, found := slices.BinarySearchFunc(rs, r.Offset, func(x Range, offset uint64) int {
		switch {
		case x.End() <= offset:
			return -1
		case x.Offset > offset:
			return 1
		}
		return 0
	})
	return found && rs[i].End() >= r.End()
}

package vss

import (
	"encoding/binary"
	"errors"
	"io"
	"math"
	"strings"
)

// ReadRangesFile reads a binary ranges file (R-SET-39): a count and that many
// pairs of offset and length, all 64 bits, little-endian as this project reads
// it. size is the file's length, or negative if it is not known; memory grows
// with what was really read, not with what the count claims. The error is
// [ErrInvalidArgument] for a file of another form; errors of r are passed on.
func ReadRangesFile(r io.Reader, size int64) (Ranges, error) {
	var head [8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, shortRangesFile(err, "count")
	}
	count := binary.LittleEndian.Uint64(head[:])
	if count > MaxRanges {
		return nil, rangesFileError("it claims %d ranges, more than %d", count, MaxRanges)
	}
	if want := int64(8 + 16*count); size >= 0 && size != want {
		return nil, rangesFileError("%d ranges need %d bytes, and it has %d", count, want, size)
	}
	const batch = 4096
	ranges := make(Ranges, 0, min(count, batch))
	var buf [16 * batch]byte
	for uint64(len(ranges)) < count {
		n := min(count-uint64(len(ranges)), batch)
		if _, err := io.ReadFull(r, buf[:16*n]); err != nil {
			return nil, shortRangesFile(err, "ranges")
		}
		for i := range n {
			o := binary.LittleEndian.Uint64(buf[16*i:])
			l := binary.LittleEndian.Uint64(buf[16*i+8:])
			if l > math.MaxUint64-o {
				return nil, rangesFileError("range %d ends past 2^64", len(ranges)+1)
			}
			ranges = append(ranges, Range{o, l})
		}
	}
	if n, err := io.ReadFull(r, head[:1]); n > 0 {
		return nil, rangesFileError("it goes on after its %d ranges", count)
	} else if !errors.Is(err, io.EOF) {
		return nil, err
	}
	return ranges, nil
}

func shortRangesFile(err error, part string) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return rangesFileError("it ends within its %s", part)
	}
	return err
}

func rangesFileError(format string, args ...any) error {
	return Errorf(ErrInvalidArgument, "read", "ranges file", format, args...)
}

// AppendRangesFile appends the binary form of rs to dst.
func AppendRangesFile(dst []byte, rs []Range) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, uint64(len(rs)))
	for _, r := range rs {
		dst = binary.LittleEndian.AppendUint64(dst, r.Offset)
		dst = binary.LittleEndian.AppendUint64(dst, r.Length)
	}
	return dst
}

// ParseRangesOrFile reads what a partial or directed file's ranges text may be
// (R-SET-37, R-SET-38, D-16): a list, "File=" and a path, or a bare path. One of
// the two results is set. A text that begins with a digit is a list; a bare
// path must be a whole one in either style, so that a slip in a list is not
// taken for a file.
func ParseRangesOrFile(text string) (ranges Ranges, file string, err error) {
	t := strings.Trim(text, " ")
	if len(t) >= 5 && strings.EqualFold(t[:5], "File=") {
		file = strings.TrimLeft(t[5:], " ")
		if !isWholePath(file) {
			return nil, "", rangeError("%.100q names no file by its full path", text)
		}
		return nil, file, nil
	}
	if t != "" && (t[0] < '0' || t[0] > '9') && isWholePath(t) {
		return nil, t, nil
	}
	ranges, err = ParseRanges(t)
	return ranges, "", err
}

func isWholePath(p string) bool {
	return len(p) <= MaxNameLength && (POSIX.IsAbs(p) || Windows.IsAbs(p) || strings.HasPrefix(p, "%"))
}

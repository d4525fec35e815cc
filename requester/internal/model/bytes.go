package model

import "slices"

// Held is what a record holds of a file.
type Held struct {
	Data string
	// Known tells for each byte whether it is held; nil: all are. It is not nil
	// where a writer gave ranges and nothing was there that they could change.
	Known []bool
	// Now is what a file held by ranges upon a base was in all. To save more of
	// it than its writer asked for is no mistake.
	Now string
}

func whole(f File) Held { return Held{Data: f.Data} }

func within(ranges []Range, at int64) bool {
	for _, r := range ranges {
		// Not r.Offset+r.Length: the sum may be past what 64 bits hold.
		if at >= r.Offset && at-r.Offset < r.Length {
			return true
		}
	}
	return false
}

// patched is a file made of what was held and, in the ranges and past the end of
// what was held, of what the file has now.
func patched(base string, now File, ranges []Range) Held {
	out := []byte(now.Data)
	for i := range out {
		if i < len(base) && !within(ranges, int64(i)) {
			out[i] = base[i]
		}
	}
	return Held{Data: string(out), Now: now.Data}
}

// onlyRanges is nothing but ranges of a file, which may be all of it.
func onlyRanges(now File, ranges []Range) Held {
	out := Held{Data: now.Data, Known: make([]bool, len(now.Data))}
	for i := range out.Known {
		out.Known[i] = within(ranges, int64(i))
	}
	if !slices.Contains(out.Known, false) {
		out.Known = nil
	}
	return out
}

// onto is what a file on disk becomes when h is written into it: as long as it was
// when it was saved, and in what is not held as it was.
func (h Held) onto(disk string) string {
	out := []byte(h.Data)
	for i := range out {
		switch {
		case h.Known == nil || h.Known[i]:
		case i < len(disk):
			out[i] = disk[i]
		default:
			out[i] = 0
		}
	}
	return string(out)
}

package model

// Held is what a record holds of a file.
type Held struct {
	Data string
	// Known tells for each byte whether it is held; nil: all are. It is not nil
	// where a writer gave ranges and nothing was there that they could change.
	Known []bool
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
func patched(base Held, now File, ranges []Range) Held {
	out := []byte(now.Data)
	known := make([]bool, len(out))
	for i := range out {
		if i >= len(base.Data) || within(ranges, int64(i)) {
			known[i] = true
			continue
		}
		out[i], known[i] = base.Data[i], base.Known == nil || base.Known[i]
	}
	if base.Known == nil {
		known = nil
	}
	return Held{Data: string(out), Known: known}
}

// onlyRanges is nothing but ranges of a file.
func onlyRanges(now File, ranges []Range) Held {
	out := Held{Data: now.Data, Known: make([]bool, len(now.Data))}
	for i := range out.Known {
		out.Known[i] = within(ranges, int64(i))
	}
	return out
}

// onto is what a file on disk becomes when h is written into it.
func (h Held) onto(disk string) string {
	if h.Known == nil {
		return h.Data
	}
	out := make([]byte, max(len(disk), len(h.Data)))
	copy(out, disk)
	for i, known := range h.Known {
		if known {
			out[i] = h.Data[i]
		}
	}
	return string(out)
}

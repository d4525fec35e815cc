package vss

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

func TestR_SET_37_RangeLists(t *testing.T) {
	for in, want := range map[string]Ranges{
		"64:448":                    {{64, 448}},
		"64:448,0x1239E8577A:65536": {{64, 448}, {0x1239E8577A, 65536}},
		"0:10, 20:0x1F ":            {{0, 10}, {20, 31}},
		"5:1,0:1,0:2":               {{5, 1}, {0, 1}, {0, 2}}, // order and overlap stay
		"0:0":                       {{0, 0}},
		"0:18446744073709551615":    {{0, math.MaxUint64}},
		"0XFFFFFFFFFFFFFFFF:0":      {{math.MaxUint64, 0}},
		"18446744073709551614:0x1":  {{math.MaxUint64 - 1, 1}},
		"007:1":                     {{7, 1}},
		"1:2,  3:4":                 {{1, 2}, {3, 4}},
	} {
		got, err := ParseRanges(in)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("ParseRanges(%q) = %v, %v; want %v", in, got, err, want)
		}
		if back, err := ParseRanges(FormatRanges(got)); err != nil || !slices.Equal(back, want) {
			t.Errorf("%q does not read back: %v, %v", FormatRanges(got), back, err)
		}
	}
	for _, in := range []string{"", " ", ",", "1", "1:", ":1", "1:2,", "1:2,,3:4", "1 :2", "1: 2", "-1:2", "+1:2", "1:2;3:4", "0x:1", "0b1:1", "1_0:1", "1e3:1",
		"1:2 3:4", "1:2\n", "18446744073709551616:0", "0xFFFFFFFFFFFFFFFF:1", "18446744073709551615:2", "File=x", "1:2:3", "٣:1"} {
		if got, err := ParseRanges(in); !errors.Is(err, ErrInvalidArgument) {
			t.Errorf("ParseRanges(%q) = %v, %v; want E_INVALIDARG", in, got, err)
		}
	}
	if _, err := ParseRanges(strings.Repeat(",", MaxRanges)); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("too many ranges give %v", err)
	}
	if _, err := ParseRanges("1:2,x:3"); err == nil || !strings.Contains(err.Error(), `range 2, "x:3"`) {
		t.Errorf("the error does not name the range: %v", err)
	}
}

func TestR_SET_38_ListOrRangesFile(t *testing.T) {
	for in, want := range map[string]string{
		`File=C:\r.bin`: `C:\r.bin`, `file= /var/r`: `/var/r`, `C:\r.bin`: `C:\r.bin`, `/var/r,1`: `/var/r,1`,
		`\\?\Volume{1}\r`: `\\?\Volume{1}\r`, `%TEMP%\r`: `%TEMP%\r`,
	} {
		if ranges, file, err := ParseRangesOrFile(in); err != nil || file != want || ranges != nil {
			t.Errorf("%q: %v, %q, %v", in, ranges, file, err)
		}
	}
	if ranges, file, err := ParseRangesOrFile(" 1:2, 3:4"); err != nil || file != "" || len(ranges) != 2 {
		t.Errorf("list: %v, %q, %v", ranges, file, err)
	}
	for _, in := range []string{"", "File=", "File=r.bin", "r.bin", "x:1", `1\r.bin`} {
		if ranges, file, err := ParseRangesOrFile(in); !errors.Is(err, ErrInvalidArgument) {
			t.Errorf("%q: %v, %q, %v; want E_INVALIDARG", in, ranges, file, err)
		}
	}
}

func TestR_SET_39_RangesFile(t *testing.T) {
	want := Ranges{{1, 2}, {math.MaxUint64, 0}, {0, math.MaxUint64}}
	b := AppendRangesFile(nil, want)
	if len(b) != 8+16*3 || b[0] != 3 || b[8] != 1 || b[16] != 2 {
		t.Fatalf("form: % x", b)
	}
	for _, size := range []int64{int64(len(b)), -1} {
		if got, err := ReadRangesFile(iotest.OneByteReader(bytes.NewReader(b)), size); err != nil || !slices.Equal(got, want) {
			t.Errorf("size %d: %v, %v", size, got, err)
		}
	}
	if got, err := ReadRangesFile(bytes.NewReader(make([]byte, 8)), 8); err != nil || len(got) != 0 {
		t.Errorf("no ranges: %v, %v", got, err)
	}
	huge := binary.LittleEndian.AppendUint64(nil, math.MaxUint64)
	long := binary.LittleEndian.AppendUint64(nil, MaxRanges) // true within the bound, but the bytes are not there
	over := AppendRangesFile(nil, []Range{{2, math.MaxUint64}})
	for name, c := range map[string]struct {
		b    []byte
		size int64
	}{
		"count of 2^64-1": {huge, -1}, "count without ranges": {long, -1}, "empty": {nil, 0}, "half a count": {b[:5], -1},
		"cut": {b[:len(b)-1], -1}, "goes on": {append(slices.Clone(b), 0), -1}, "size disagrees": {b, int64(len(b)) + 16}, "past 2^64": {over, -1},
	} {
		if got, err := ReadRangesFile(bytes.NewReader(c.b), c.size); !errors.Is(err, ErrInvalidArgument) {
			t.Errorf("%s: %v, %v; want E_INVALIDARG", name, got, err)
		}
	}
	broken := io.MultiReader(bytes.NewReader(b[:20]), iotest.ErrReader(io.ErrClosedPipe))
	if _, err := ReadRangesFile(broken, -1); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("an error of the reader becomes %v", err)
	}
}

// TestRangeArithmeticAgreesWithSetsOfBytes holds each operation against plain
// sets of byte numbers.
func TestRangeArithmeticAgreesWithSetsOfBytes(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	random := func() Ranges {
		rs := Ranges{}
		for range rng.IntN(6) {
			rs = append(rs, Range{rng.Uint64N(40), rng.Uint64N(12)})
		}
		return rs
	}
	set := func(rs Ranges) (out [64]bool) {
		for _, r := range rs {
			for i := r.Offset; i < r.End(); i++ {
				out[i] = true
			}
		}
		return out
	}
	for range 5000 {
		a, b, size := random(), random(), rng.Uint64N(50)
		before := slices.Clone(a)
		sa, sb := set(a), set(b)
		for name, c := range map[string]struct {
			got  Ranges
			want func(i int) bool
		}{
			"normalize": {a.Normalize(), func(i int) bool { return sa[i] }},
			"intersect": {a.Intersect(b), func(i int) bool { return sa[i] && sb[i] }},
			"subtract":  {a.Subtract(b), func(i int) bool { return sa[i] && !sb[i] }},
			"union":     {a.Union(b), func(i int) bool { return sa[i] || sb[i] }},
			"clip":      {a.Clip(size), func(i int) bool { return sa[i] && uint64(i) < size }},
		} {
			if !c.got.IsNormal() {
				t.Fatalf("%s of %v and %v is not normal: %v", name, a, b, c.got)
			}
			got, total := set(c.got), uint64(0)
			for i := range got {
				if got[i] != c.want(i) {
					t.Fatalf("%s of %v and %v is %v, wrong at byte %d", name, a, b, c.got, i)
				}
				if got[i] {
					total++
				}
			}
			if c.got.Total() != total {
				t.Fatalf("total of %v is %d", c.got, c.got.Total())
			}
		}
		r := Range{rng.Uint64N(40), rng.Uint64N(12)}
		inside := true
		for i := r.Offset; i < r.End(); i++ {
			inside = inside && sa[i]
		}
		if got := a.Normalize().Contains(r); got != inside {
			t.Fatalf("%v contains %v: %v", a.Normalize(), r, got)
		}
		if !slices.Equal(a, before) {
			t.Fatalf("the operand was changed to %v", a)
		}
	}
}

func TestRangesNearTheEndOfTheNumbersDoNotOverflow(t *testing.T) {
	const top = uint64(math.MaxUint64)
	all := Ranges{{0, top}}
	if got := (Ranges{{top - 1, 5}, {top - 3, 2}}).Normalize(); !slices.Equal(got, Ranges{{top - 3, 3}}) {
		t.Errorf("normalize: %v", got)
	}
	if got := all.Subtract(Ranges{{1, top}}); !slices.Equal(got, Ranges{{0, 1}}) {
		t.Errorf("subtract: %v", got)
	}
	if got := (Ranges{{0, top}, {0, top}}).Total(); got != top {
		t.Errorf("total: %d", got)
	}
	if got := all.Clip(top); !slices.Equal(got, all) {
		t.Errorf("clip: %v", got)
	}
	if got := (Range{top, 1}).End(); got != top {
		t.Errorf("end: %d", got)
	}
}

func FuzzParseRanges(f *testing.F) {
	for _, s := range []string{"64:448,0x1239E8577A:65536", "0:0", "File=/x", `C:\r`, "1:2, 3:4", "0xFFFFFFFFFFFFFFFF:1", ",", "18446744073709551615:0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		rs, file, err := ParseRangesOrFile(s)
		if err != nil {
			if !errors.Is(err, ErrInvalidArgument) {
				t.Errorf("%q: %v", s, err)
			}
			return
		}
		if file != "" {
			return
		}
		back, err := ParseRanges(rs.Format())
		if err != nil || !slices.Equal(back, rs) {
			t.Errorf("%q: %v reads back as %v, %v", s, rs, back, err)
		}
		if n := rs.Normalize(); !n.IsNormal() || n.Total() > rs.Total() {
			t.Errorf("%q: normal form %v", s, n)
		}
	})
}

func FuzzRangesFile(f *testing.F) {
	f.Add(AppendRangesFile(nil, []Range{{1, 2}, {3, 4}}))
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0xff}, 24))
	f.Fuzz(func(t *testing.T, b []byte) {
		rs, err := ReadRangesFile(bytes.NewReader(b), -1)
		if err != nil {
			return
		}
		if again := AppendRangesFile(nil, rs); !bytes.Equal(again, b) {
			t.Errorf("% x reads as %v, which writes % x", b, rs, again)
		}
	})
}

func TestR_RES_29_RestoreOptions(t *testing.T) {
	for in, want := range map[string][]RestoreOption{
		``:                      nil,
		` `:                     nil,
		`"Authoritative"="All"`: {{"", "Authoritative", "All"}},
		`"Roll Forward"="Partial:2024", "x\y":"New Component Name"="Path\Name"`: {{"", "Roll Forward", "Partial:2024"}, {`x\y`, "New Component Name", `Path\Name`}},
		`"IncludeDisk"="1","IncludeDisk"="2"`:                                   {{"", "IncludeDisk", "1"}, {"", "IncludeDisk", "2"}},
		`"a"=""`:                                                                {{"", "a", ""}},
	} {
		got, err := ParseRestoreOptions(in)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %q, %v", in, got, err)
		}
		text, err := FormatRestoreOptions(got)
		if err != nil {
			t.Errorf("%q: %v", in, err)
		}
		if back, err := ParseRestoreOptions(text); err != nil || !slices.Equal(back, want) {
			t.Errorf("%q reads back as %q, %v", text, back, err)
		}
	}
	for _, in := range []string{`a`, `"a"`, `"a"=`, `"a"="b`, `"a"="b",`, `"a"="b" "c"="d"`, `""="x"`, `"s":"a"`, `"s":""="x"`, `,`, `"a" = "b"`} {
		if got, err := ParseRestoreOptions(in); !errors.Is(err, ErrInvalidArgument) || !strings.Contains(err.Error(), "at offset ") {
			t.Errorf("%q: %q, %v; want E_INVALIDARG and the offset", in, got, err)
		}
	}
	for _, bad := range []RestoreOption{{"", "", "x"}, {"", "a", `x"`}, {`"`, "a", "x"}} {
		if text, err := FormatRestoreOptions([]RestoreOption{bad}); !errors.Is(err, ErrInvalidArgument) {
			t.Errorf("%q is written as %s, %v", bad, text, err)
		}
	}
	if !(RestoreOption{Name: "roll forward"}).Is("Roll Forward") {
		t.Error("names know case")
	}
}

func FuzzRestoreOptions(f *testing.F) {
	f.Add(`"Authoritative"="All", "s":"Roll Forward"="Partial:x"`)
	f.Add(`"a"="`)
	f.Fuzz(func(t *testing.T, s string) {
		options, err := ParseRestoreOptions(s)
		if err != nil {
			return
		}
		text, err := FormatRestoreOptions(options)
		if err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		if back, err := ParseRestoreOptions(text); err != nil || !slices.Equal(back, options) {
			t.Errorf("%q: %q reads back as %q, %v", s, text, back, err)
		}
	})
}

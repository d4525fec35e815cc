package extents

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/sombra-backup/sombra/vss"
)

// list is a map held in memory.
type list struct{ left []extent }

func (l *list) next(context.Context) (extent, error) {
	if len(l.left) == 0 {
		return extent{}, io.EOF
	}
	e := l.left[0]
	l.left = l.left[1:]
	return e, nil
}

// disk gives the byte at a place; encoded blocks are a space of their own.
func disk(e extent, off uint64) uint64 {
	switch {
	case e.kind == zero:
		return 0
	case e.encoding != 0:
		return (e.place<<20 + e.inner + off - e.offset) | uint64(e.encoding)<<60
	}
	return e.place + off - e.offset + 1
}

// randomMap makes a map of a file, and what a reader would see of it. Opaque
// data is unlike all other.
func randomMap(rng *rand.Rand, size uint64) (all []extent, seen []uint64) {
	seen = make([]uint64, size)
	for at := uint64(rng.IntN(20)); at < size+20; {
		e := extent{offset: at, length: 1 + rng.Uint64N(30), kind: kind(rng.IntN(8) / 6), place: 8 * rng.Uint64N(6)}
		switch rng.IntN(8) {
		case 0:
			e.encoding, e.inner = uint8(1+rng.IntN(2)), 4*rng.Uint64N(4)
		case 1:
			e.kind = opaque
		}
		all = append(all, e)
		for off := e.offset; off < min(e.end(), size); off++ {
			if seen[off] = disk(e, off); e.kind == opaque {
				seen[off] = rng.Uint64() | 1<<63
			}
		}
		at = e.end() + uint64(max(rng.IntN(30)-15, 0))
	}
	return all, seen
}

// TestRangesAreExactlyWhatDiffers compares with a comparison byte for byte.
func TestRangesAreExactlyWhatDiffers(t *testing.T) {
	for seed := range uint64(3000) {
		rng := rand.New(rand.NewPCG(seed, 1))
		oldSize, newSize := rng.Uint64N(300), rng.Uint64N(300)
		a, was := randomMap(rng, oldSize)
		b, is := randomMap(rng, newSize)
		got, err := compare(t.Context(), &list{a}, &list{b}, oldSize, newSize, defaultRanges)
		if err != nil {
			t.Fatal(err)
		}
		covered := make([]bool, newSize)
		last := uint64(0)
		for i, r := range got {
			if r.Length == 0 || i > 0 && r.Offset <= last || r.End() > newSize {
				t.Fatalf("seed %d: %v is not in order, or past the end at %d", seed, got, newSize)
			}
			last = r.End()
			for off := r.Offset; off < r.End(); off++ {
				covered[off] = true
			}
		}
		for off := range newSize {
			if differs := off >= oldSize || was[off] != is[off]; differs != covered[off] {
				t.Fatalf("seed %d: byte %d differs: %v, told: %v", seed, off, differs, covered[off])
			}
		}
	}
}

func TestTooManyRangesAreToldAsFewer(t *testing.T) {
	var a []extent
	const n, step = 5000, 3 * 4096
	for i := range uint64(n) {
		a = append(a, extent{offset: i * step, length: 4096, place: 1 << 40})
	}
	got, err := compare(t.Context(), &list{}, &list{a}, n*step, n*step, 100)
	if err != nil || len(got) > 100 || len(got) == 0 {
		t.Fatalf("%d ranges, %v; want 1 to 100", len(got), err)
	}
	i := 0
	for _, e := range a {
		for i < len(got) && got[i].End() < e.end() {
			i++
		}
		if i == len(got) || got[i].Offset > e.offset {
			t.Fatalf("the change at %d is not told", e.offset)
		}
	}
}

func TestMapsThatMakeNoSenseAreRefused(t *testing.T) {
	for name, m := range map[string][]extent{
		"empty extent": {{offset: 0, length: 0}},
		"overlap":      {{offset: 0, length: 10}, {offset: 5, length: 10}},
		"backwards":    {{offset: 50, length: 10}, {offset: 5, length: 10}},
		"huge":         {{offset: 5, length: 1 << 63}},
		"far":          {{offset: 1 << 63, length: 5}},
	} {
		for _, swap := range []bool{false, true} {
			a, b := &list{m}, &list{}
			if swap {
				a, b = b, a
			}
			if _, err := compare(t.Context(), a, b, 100, 100, 100); !errors.Is(err, vss.ErrNotSupported) {
				t.Errorf("%s: %v, want VSS_E_NOT_SUPPORTED", name, err)
			}
		}
	}
}

func TestTooManyExtentsAreRefused(t *testing.T) {
	var a []extent
	for i := range uint64(11) {
		a = append(a, extent{offset: i, length: 1})
	}
	if _, err := compare(t.Context(), note(&list{a}, 10), &list{}, 100, 100, 100); !errors.Is(err, vss.ErrNotSupported) {
		t.Errorf("11 extents, of which 10 are allowed: %v, want VSS_E_NOT_SUPPORTED", err)
	}
	// Those past the end count as well.
	if _, err := compare(t.Context(), note(&list{a}, 10), &list{}, 5, 5, 100); !errors.Is(err, vss.ErrNotSupported) {
		t.Errorf("past the end: %v, want VSS_E_NOT_SUPPORTED", err)
	}
	if _, err := compare(t.Context(), note(&list{a}, 11), &list{}, 100, 100, 100); err != nil {
		t.Error(err)
	}
}

// TestABaseThatLosesItsBlocksMeanwhileIsRefused: they may have been given to the
// other file before its extents were listed.
func TestABaseThatLosesItsBlocksMeanwhileIsRefused(t *testing.T) {
	first := []extent{{offset: 0, length: 4096, place: 8192}, {offset: 4096, length: 4096, place: 4096}, {offset: 1 << 20, length: 4096, place: 1 << 20}}
	for name, then := range map[string][]extent{
		"moved":        {{offset: 0, length: 4096, place: 8192}, {offset: 4096, length: 4096, place: 16384}, first[2]},
		"given back":   {first[0], first[2]},
		"now zeros":    {first[0], {offset: 4096, length: 4096, place: 4096, kind: zero}, first[2]},
		"past the end": {first[0], first[1], {offset: 1 << 20, length: 4096, place: 2 << 20}},
		"encoded":      {first[0], {offset: 4096, length: 4096, place: 4096, encoding: 1}, first[2]},
		"added":        append(slices.Clone(first), extent{offset: 2 << 20, length: 1}),
	} {
		maps := [][]extent{first, then}
		base := func() extents {
			l := &list{maps[0]}
			maps = maps[1:]
			return l
		}
		got, err := compareHeld(t.Context(), base, &list{first}, 100_000, 100_000, Options{}.withDefaults())
		if !errors.Is(err, vss.ErrNotSupported) {
			t.Errorf("%s: told %v, %v; want VSS_E_NOT_SUPPORTED", name, got, err)
		}
	}
	// Listed in pieces, it is what it was.
	pieces := append([]extent{{offset: 0, length: 1024, place: 8192}, {offset: 1024, length: 3072, place: 8192 + 1024}}, first[1:]...)
	maps := [][]extent{first, pieces}
	base := func() extents {
		l := &list{maps[0]}
		maps = maps[1:]
		return l
	}
	if _, err := compareHeld(t.Context(), base, &list{first}, 100_000, 100_000, Options{}.withDefaults()); err != nil {
		t.Errorf("in pieces: %v", err)
	}
	got, err := compareHeld(t.Context(), func() extents { return &list{first} }, &list{first}, 100_000, 100_000, Options{}.withDefaults())
	if err != nil || len(got) != 0 {
		t.Errorf("held all the time: told %v, %v; want nothing", got, err)
	}
}

func FuzzCompare(f *testing.F) {
	f.Add([]byte{0, 5, 0, 1, 9, 9, 1, 2}, []byte{0, 5, 0, 2}, uint16(50), uint16(60))
	f.Fuzz(func(t *testing.T, a, b []byte, oldSize, newSize uint16) {
		parse := func(p []byte) *list {
			l := &list{}
			for ; len(p) >= 4; p = p[4:] {
				e := extent{offset: uint64(p[0]), length: uint64(p[1]), kind: kind(p[2] % 3), place: uint64(p[3])}
				if p[2]&8 != 0 {
					e.offset, e.length = e.offset<<56, e.length<<56
				}
				l.left = append(l.left, e)
			}
			return l
		}
		got, err := compare(t.Context(), parse(a), parse(b), uint64(oldSize), uint64(newSize), 10)
		if err != nil {
			return
		}
		last := uint64(0)
		for i, r := range got {
			if r.Length == 0 || i > 0 && r.Offset <= last || r.End() > uint64(newSize) {
				t.Fatalf("%v of a file of %d bytes", got, newSize)
			}
			last = r.End()
		}
	})
}

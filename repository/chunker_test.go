package repository

import (
	"bytes"
	"fmt"
	"io"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"
)

// plainCuts is the chunker as docs/format.md describes it, without any care
// for speed: the hash at every place is made of the 64 bytes before it anew.
func plainCuts(table *[256]uint64, s Chunking, data []byte) (lengths []int) {
	a := bits.TrailingZeros32(s.Average)
	for begin := 0; begin < len(data); {
		n := 0
		for n < len(data)-begin && n < int(s.Max) {
			if n++; n < int(s.Min) {
				continue
			}
			var h uint64
			for _, b := range data[begin+n-min(n, window) : begin+n] {
				h = 2*h + table[b]
			}
			if n <= int(s.Average) && h < 1<<(64-a-2) || n > int(s.Average) && h < 1<<(64-a+2) {
				break
			}
		}
		lengths = append(lengths, n)
		begin += n
	}
	return lengths
}

// cuts gives the lengths of the chunks, reading at most step bytes at a time.
func cuts(t *testing.T, k *keyring, s Chunking, buffer, step int, data []byte) (lengths []int) {
	t.Helper()
	rd := bytes.NewReader(data)
	c := newChunker(&k.gear, s, make([]byte, buffer), func(p []byte) (int, error) { return rd.Read(p[:min(step, len(p))]) })
	var all []byte
	for {
		chunk, err := c.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		lengths = append(lengths, len(chunk))
		all = append(all, chunk...)
	}
	if !bytes.Equal(all, data) {
		t.Fatal("the chunks are not the data")
	}
	return lengths
}

func testKeyring(t testing.TB) *keyring {
	t.Helper()
	k, err := newKeyring()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestContentIsCutAsTheDocumentSays(t *testing.T) {
	k := testKeyring(t)
	for _, s := range []Chunking{{64, 128, 256}, {100, 1024, 5000}, {256, 512, 100_000}, {64, 65536, 65537}} {
		for _, size := range []int{0, 1, 63, 64, 65, 127, 255, 256, 257, 10_000, 70_000} {
			for i, data := range [][]byte{randomData(size, uint64(size)), make([]byte, size), bytes.Repeat([]byte("abc"), size/3+1)[:size]} {
				want := plainCuts(&k.gear, s, data)
				for _, buffer := range []int{int(s.Max) + 1, 3 * int(s.Max)} {
					for _, step := range []int{1, 77, 1 << 20} {
						if got := cuts(t, k, s, buffer, step, data); !slices.Equal(got, want) {
							t.Fatalf("%v, %d bytes of kind %d, buffer of %d, reads of %d: chunks %v, want %v", s, size, i, buffer, step, got, want)
						}
					}
				}
			}
		}
	}
}

func TestChunksAverageAboutWhatIsAsked(t *testing.T) {
	k := testKeyring(t)
	s := defaultChunking()
	lengths := cuts(t, k, s, largeBuffer, 1<<20, randomData(96<<20, 1))
	average := (96 << 20) / len(lengths)
	if average < 700<<10 || average > 1600<<10 {
		t.Errorf("%d chunks, %d bytes on average", len(lengths), average)
	}
	for i, n := range lengths {
		if n > int(s.Max) || n < int(s.Min) && i < len(lengths)-1 {
			t.Errorf("chunk %d has %d bytes", i, n)
		}
	}
}

func TestCutsComeBackAfterAChange(t *testing.T) {
	k := testKeyring(t)
	s := Chunking{256, 1024, 8192}
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range 20 {
		data := randomData(200_000, uint64(round))
		at := rng.IntN(len(data))
		changed := slices.Concat(data[:at], randomData(rng.IntN(50), 99), data[at:])
		ends := func(data []byte) map[string]bool {
			m, at := map[string]bool{}, 0
			for _, n := range cuts(t, k, s, 32<<10, 1<<20, data) {
				m[string(data[at:at+n])] = true
				at += n
			}
			return m
		}
		before, fresh := ends(data), 0
		for chunk := range ends(changed) {
			if !before[chunk] {
				fresh++
			}
		}
		if fresh > 8 {
			t.Errorf("round %d: a change at %d gave %d new chunks of %d", round, at, fresh, len(before))
		}
	}
}

func TestCutsDependOnTheKey(t *testing.T) {
	s := Chunking{256, 1024, 8192}
	data := randomData(300_000, 1)
	a, b := cuts(t, testKeyring(t), s, 32<<10, 1<<20, data), cuts(t, testKeyring(t), s, 32<<10, 1<<20, data)
	at := func(lengths []int) (ends []int) {
		sum := 0
		for _, n := range lengths {
			sum += n
			ends = append(ends, sum)
		}
		return ends
	}
	same := 0
	for _, end := range at(a) {
		if slices.Contains(at(b), end) {
			same++
		}
	}
	if same > 10 {
		t.Errorf("%d of %d cuts are at the same place under two keys", same, len(a))
	}
}

func BenchmarkChunker(b *testing.B) {
	k := testKeyring(b)
	data := randomData(64<<20, 1)
	buf := make([]byte, largeBuffer)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		rd := bytes.NewReader(data)
		c := newChunker(&k.gear, defaultChunking(), buf, rd.Read)
		for {
			if _, err := c.next(); err != nil {
				break
			}
		}
	}
}

func TestRangesAreNormalised(t *testing.T) {
	for _, c := range []struct {
		in   []Range
		size int64
		want []Range
	}{
		{nil, 10, nil},
		{[]Range{{5, 2}, {0, 3}}, 10, []Range{{0, 3}, {5, 2}}},
		{[]Range{{0, 3}, {3, 2}}, 10, []Range{{0, 5}}},
		{[]Range{{0, 8}, {2, 2}, {7, 5}}, 10, []Range{{0, 10}}},
		{[]Range{{10, 5}, {12, 0}, {3, 0}}, 10, nil},
		{[]Range{{9, 1<<63 - 10}}, 10, []Range{{9, 1}}},
	} {
		got, err := normalRanges(c.in, c.size)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%v of %d: %v, %v, want %v", c.in, c.size, got, err, c.want)
		}
	}
}

func ExampleComparePaths() {
	paths := []string{"a.txt", "b", "a/b", "a"}
	slices.SortFunc(paths, func(x, y string) int { return ComparePaths("/", x, "/", y) })
	fmt.Println(paths)
	// Output: [a a/b a.txt b]
}

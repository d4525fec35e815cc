package repository

import (
	"io"
	"math/bits"
)

// chunker cuts a stream where its content says (FastCDC with a gear hash and
// normalised chunk sizes). The hash at a place depends on the 64 bytes before
// it and on the repository's key, and on nothing else: not on where the chunk
// began, so that after a change the cuts are soon the same again.
//
// It is not the one of go-cdc-chunkers, because what a format promises for
// ever must be written down here, table included; because this one scans no
// byte twice and moves only the unfinished chunk when it reads on; and because
// the key makes all of the table.
type chunker struct {
	table *[256]uint64
	sizes Chunking
	// small and large are what the hash must be below to cut before and after
	// the average size.
	small, large uint64

	fill func(p []byte) (int, error)
	buf  []byte
	// buf[begin:end] is read and not yet cut, its first scanned bytes are
	// known to hold no cut, and hash is the hash there.
	begin, end, scanned int
	hash                uint64
	err                 error
}

// window is how many bytes the gear hash remembers.
const window = 64

// newChunker cuts what fill reads; fill works as io.Reader's Read. The buffer
// must be longer than the greatest chunk.
func newChunker(table *[256]uint64, sizes Chunking, buf []byte, fill func(p []byte) (int, error)) *chunker {
	b := bits.TrailingZeros32(sizes.Average)
	return &chunker{
		table: table, sizes: sizes, fill: fill, buf: buf,
		small: 1 << (64 - b - 2), large: 1 << (64 - b + 2),
	}
}

// next gives the next chunk, valid until it is called again; io.EOF after the
// last.
func (c *chunker) next() ([]byte, error) {
	for {
		if n := c.cut(c.buf[c.begin:c.end]); n > 0 {
			return c.take(n), nil
		}
		if c.err == io.EOF && c.begin < c.end {
			return c.take(c.end - c.begin), nil
		}
		if c.err != nil {
			return nil, c.err
		}
		if c.end == len(c.buf) {
			c.end = copy(c.buf, c.buf[c.begin:c.end])
			c.begin = 0
		}
		var n int
		n, c.err = c.fill(c.buf[c.end:])
		c.end += n
	}
}

// take ends the chunk after n bytes.
func (c *chunker) take(n int) []byte {
	chunk := c.buf[c.begin : c.begin+n : c.begin+n]
	c.begin += n
	c.scanned, c.hash = 0, 0
	if c.begin == c.end {
		c.begin, c.end = 0, 0
	}
	return chunk
}

// cut gives the length of the chunk that data begins with, or zero if its end
// is not in data yet.
func (c *chunker) cut(data []byte) int {
	least, average, most := int(c.sizes.Min), int(c.sizes.Average), int(c.sizes.Max)
	if len(data) > most {
		data = data[:most]
	}
	if len(data) < least {
		return 0
	}
	i, hash := c.scanned, c.hash
	// The window before the first place where a cut is allowed.
	if begin := max(i, least-window); begin < least-1 {
		for _, b := range data[begin : least-1] {
			hash = hash<<1 + c.table[b]
		}
		i = least - 1
	}
	for _, phase := range [...]struct {
		end   int
		below uint64
	}{{average, c.small}, {most, c.large}} {
		if end := min(phase.end, len(data)); i < end {
			n, h := scan(c.table, data[i:end], hash, phase.below)
			if n > 0 {
				return i + n
			}
			i, hash = end, h
		}
	}
	if len(data) == most {
		return most
	}
	c.scanned, c.hash = i, hash
	return 0
}

// scan runs the hash over data and gives the number of bytes after which it
// is below the bound, or zero and the hash at the end.
func scan(table *[256]uint64, data []byte, hash, below uint64) (int, uint64) {
	n := 0
	for ; len(data) >= 4; data = data[4:] {
		// Four at a time: the additions wait for each other, the table
		// look-ups do not.
		t0, t1, t2, t3 := table[data[0]], table[data[1]], table[data[2]], table[data[3]]
		h0 := hash<<1 + t0
		h1 := h0<<1 + t1
		h2 := h1<<1 + t2
		hash = h2<<1 + t3
		switch {
		case h0 < below:
			return n + 1, h0
		case h1 < below:
			return n + 2, h1
		case h2 < below:
			return n + 3, h2
		case hash < below:
			return n + 4, hash
		}
		n += 4
	}
	for _, b := range data {
		n++
		if hash = hash<<1 + table[b]; hash < below {
			return n, hash
		}
	}
	return 0, hash
}

package repository

import (
	"iter"
	"math/bits"
)

// bitset is a set of small numbers.
type bitset []uint64

// set puts a number into the set, and says whether it was new there.
func (b *bitset) set(n uint64) bool {
	for uint64(len(*b)) <= n/64 {
		*b = append(*b, 0)
	}
	word := &(*b)[n/64]
	before := *word
	*word |= 1 << (n % 64)
	return *word != before
}

// has says whether a number is in the set.
func (b bitset) has(n uint64) bool { return n/64 < uint64(len(b)) && b[n/64]&(1<<(n%64)) != 0 }

// all gives the numbers in ascending order.
func (b bitset) all() iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		for i, word := range b {
			for ; word != 0; word &= word - 1 {
				if !yield(uint64(64*i + bits.TrailingZeros64(word))) {
					return
				}
			}
		}
	}
}

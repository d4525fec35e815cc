package repository

import (
	"encoding/binary"
	"math/bits"
	"slices"
)

// indexLayer is a sorted array of lines, by the first four bytes of their ids.
// The lines of one large index object are a layer of four bytes a line, as they
// are sorted already. Those of smaller ones are merged into layers that double in
// size up to some, so that taking in a new index object costs little; each line
// has its number there, four bytes more.
type indexLayer struct {
	prefix []uint32
	// line are the lines' numbers; if it is nil they are first, first+1, ...
	line  []uint32
	first uint32
}

const (
	// aloneLines is how many lines of one index object are a layer by
	// themselves: fewer would make too many layers to look into.
	aloneLines = 1 << 17
	// layerLines is how many lines a layer of several index objects has at most:
	// while two layers become one both take memory.
	layerLines = 1 << 20
)

// number gives the number of the layer's line at that place.
func (l *indexLayer) number(at int) uint32 {
	if l.line == nil {
		return l.first + uint32(at)
	}
	return l.line[at]
}

// search gives the first place whose prefix is not less. Ids are hashes, spread
// evenly: the place is not far from where it would be if they were so exactly.
func (l *indexLayer) search(prefix uint32) int {
	n := len(l.prefix)
	guess := int(uint64(prefix) * uint64(n) >> 32)
	// All before low are less; high is not, or is the end.
	low, high := 0, n
	step := 1 << (bits.Len(uint(n)) / 2)
	if guess < n && l.prefix[guess] < prefix {
		for low = guess + 1; low+step < n; step *= 2 {
			if l.prefix[low+step] >= prefix {
				high = low + step
				break
			}
			low += step + 1
		}
	} else {
		for high = guess; high-step > 0; step *= 2 {
			if l.prefix[high-step] < prefix {
				low = high - step + 1
				break
			}
			high -= step
		}
	}
	at, _ := slices.BinarySearch(l.prefix[low:high], prefix)
	return low + at
}

// addLayer takes in the prefixes of the lines from number first on. The layers
// before are shared with readers: only the slice is new.
func addLayer(layers []indexLayer, prefixes []uint32, first uint32) []indexLayer {
	layer := indexLayer{prefix: prefixes, first: first}
	if len(prefixes) >= aloneLines {
		// Before the others, so that those that grow stay together.
		return slices.Insert(slices.Clone(layers), 0, layer)
	}
	layer.line = make([]uint32, len(prefixes))
	for i := range layer.line {
		layer.line[i] = first + uint32(i)
	}
	for n := len(layers); n > 0; n = len(layers) {
		last := layers[n-1]
		if last.line == nil || len(last.prefix) > min(2*len(layer.prefix), layerLines-len(layer.prefix)) {
			break
		}
		layer = mergeLayers(last, layer)
		layers = layers[:n-1]
	}
	return append(slices.Clip(layers), layer)
}

// idPrefix is what the layers keep of an id.
func idPrefix(id ID) uint32 { return binary.BigEndian.Uint32(id[:]) }

// mergeLayers makes one sorted layer of two.
func mergeLayers(a, b indexLayer) indexLayer {
	n := len(a.prefix) + len(b.prefix)
	m := indexLayer{prefix: make([]uint32, n), line: make([]uint32, n)}
	i, j, k := 0, 0, 0
	for ; i < len(a.prefix) && j < len(b.prefix); k++ {
		if a.prefix[i] <= b.prefix[j] {
			m.prefix[k], m.line[k] = a.prefix[i], a.line[i]
			i++
		} else {
			m.prefix[k], m.line[k] = b.prefix[j], b.line[j]
			j++
		}
	}
	copy(m.prefix[k:], a.prefix[i:])
	copy(m.line[k:], a.line[i:])
	k += len(a.prefix) - i
	copy(m.prefix[k:], b.prefix[j:])
	copy(m.line[k:], b.line[j:])
	return m
}

package repository

import (
	"encoding/binary"
	"math/rand/v2"
)

// Subset chooses packs to be read whole. At most one of its three ways is set;
// the zero value chooses all.
type Subset struct {
	// Part and Of choose the packs of one of Of parts, counted from one: who
	// reads part 1 of 7 on Monday, 2 of 7 on Tuesday and so on has read every
	// pack after a week, whatever was added meanwhile.
	Part, Of int
	// Share, above 0 and at most 1, chooses packs at random until they make up
	// that share of all bytes.
	Share float64
	// Bytes chooses packs at random until they make up so many bytes.
	Bytes int64
}

// maxParts bounds Subset.Of.
const maxParts = 1 << 20

func (s Subset) check() error {
	ways := 0
	for _, set := range []bool{s.Part != 0 || s.Of != 0, s.Share != 0, s.Bytes != 0} {
		if set {
			ways++
		}
	}
	if ways > 1 || (s.Part != 0 || s.Of != 0) && (s.Part < 1 || s.Of > maxParts || s.Part > s.Of) || !(s.Share >= 0 && s.Share <= 1) || s.Bytes < 0 {
		return invalidf("part %d of %d, a share of %v, %d bytes is no subset", s.Part, s.Of, s.Share, s.Bytes)
	}
	return nil
}

// choose gives the packs chosen, nil for all.
func (s Subset) choose(order []ID, packs map[ID]*checkedPack) map[ID]bool {
	if s == (Subset{}) {
		return nil
	}
	chosen := map[ID]bool{}
	if s.Of > 0 {
		for _, id := range order {
			if binary.BigEndian.Uint64(id[:])%uint64(s.Of) == uint64(s.Part-1) {
				chosen[id] = true
			}
		}
		return chosen
	}
	var all int64
	for _, p := range packs {
		all += p.size
	}
	want := s.Bytes
	if s.Share > 0 {
		want = int64(s.Share * float64(all))
	}
	for _, i := range rand.Perm(len(order)) {
		if want <= 0 {
			break
		}
		chosen[order[i]] = true
		want -= packs[order[i]].size
	}
	return chosen
}

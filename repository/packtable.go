package repository

import (
	"hash/maphash"
	"iter"
)

// knownPack is a pack that some index object names.
type knownPack struct {
	id   ID
	size int64
	kind objectKind
	// absent says that the pack was looked for and is not in the store, marked
	// that prune will delete it: nobody may build on it.
	absent, marked bool
	// unproven says that it was not looked for since an index object named it:
	// whoever reads may try it, but nobody may build on it.
	unproven bool
}

// firm says whether a backup may build on the pack.
func (p *knownPack) firm() bool { return !p.absent && !p.marked && !p.unproven }

// packTable holds the packs of a chunkIndex, which are counted from zero and
// found by their ids. A pack costs 40 bytes, and 4 to 11 for finding it. Its
// memory grows in blocks, so that growing leaves little garbage.
type packTable struct {
	blocks [][]packItem
	n      int
	// slots hold numbers of packs, plus one, each near the place that its id
	// hashes to.
	slots []uint32
	seed  maphash.Seed
}

// packItem is a knownPack as it is kept. No pack has more than maxPack bytes.
type packItem struct {
	id                       ID
	size                     uint32
	kind                     objectKind
	absent, marked, unproven bool
}

// packBlock is how many packs a block has.
const packBlock = 4096

// len is the number of packs.
func (t *packTable) len() int { return t.n }

func (t *packTable) item(no uint32) *packItem { return &t.blocks[no/packBlock][no%packBlock] }

// at gives the pack of that number.
func (t *packTable) at(no uint32) knownPack {
	p := t.item(no)
	return knownPack{p.id, int64(p.size), p.kind, p.absent, p.marked, p.unproven}
}

// all gives the packs by their numbers.
func (t *packTable) all() iter.Seq2[uint32, knownPack] {
	return func(yield func(uint32, knownPack) bool) {
		for no := range uint32(t.n) {
			if !yield(no, t.at(no)) {
				return
			}
		}
	}
}

// find gives the number of the pack with that id.
func (t *packTable) find(id ID) (no uint32, ok bool) {
	if len(t.slots) == 0 {
		return 0, false
	}
	at := t.slot(id)
	return t.slots[at] - 1, t.slots[at] != 0
}

// slot gives the slot of the pack with that id, or the one where it would be. The
// hash is of this process alone: ids in an index object are chosen by its author.
func (t *packTable) slot(id ID) int {
	mask := len(t.slots) - 1
	at := int(maphash.Bytes(t.seed, id[:])) & mask
	for t.slots[at] != 0 && t.item(t.slots[at]-1).id != id {
		at = (at + 1) & mask
	}
	return at
}

// add takes in a pack whose id is not there, and gives its number.
func (t *packTable) add(p knownPack) uint32 {
	if 4*(t.n+1) > 3*len(t.slots) {
		t.grow()
	}
	no := uint32(t.n)
	if no/packBlock == uint32(len(t.blocks)) {
		// A small repository need not pay for a whole block.
		t.blocks = append(t.blocks, make([]packItem, 0, min(t.n, packBlock)))
	}
	block := &t.blocks[no/packBlock]
	*block = append(*block, packItem{p.id, uint32(p.size), p.kind, p.absent, p.marked, p.unproven})
	t.n++
	t.slots[t.slot(p.id)] = no + 1
	return no
}

// grow doubles the slots.
func (t *packTable) grow() {
	if len(t.slots) == 0 {
		t.seed = maphash.MakeSeed()
	}
	t.slots = make([]uint32, max(16, 2*len(t.slots)))
	for no := range uint32(t.n) {
		t.slots[t.slot(t.item(no).id)] = no + 1
	}
}

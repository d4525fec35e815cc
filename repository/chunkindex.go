package repository

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"sort"
	"sync"

	"github.com/sombra-backup/sombra/repository/store"
)

// chunkIndex finds chunks through all index objects of the repository.
//
// In memory it keeps eight bytes a line: the first four bytes of the id, and
// the line's number. Both arrays are sorted by the former, in layers that
// double in size up to some, so that taking in a new index object costs little. A chunk
// that is not stored is told in memory but for one look-up in 4 billion per
// line; for one that is, the page that holds the line is read from the store,
// or found in a cache of fixed size.
type chunkIndex struct {
	store store.Store
	keys  *keyring
	pages *lru[pageKey, []byte]

	mu     sync.RWMutex
	packs  []knownPack
	packNo map[ID]uint32
	// parts are the index objects read, in the order of their first lines.
	parts  []*indexPart
	byName map[ID]*indexPart
	// superseded names the objects that others say they replace.
	superseded map[ID]bool
	layers     []indexLayer
	// marked are the packs that prune has said it will delete. A mark is for
	// ever: see docs/format.md.
	marked map[ID]bool
	// listed are the index objects that were in the store at the last refresh.
	listed map[ID]bool
	// damaged holds why index objects could not be read.
	damaged map[ID]error
	// refreshed counts how often the index was read, adopted says that packs
	// without a readable index were looked for since.
	refreshed int
	adopted   bool

	// adopting is held while they are looked for.
	adopting sync.Mutex
}

type pageKey struct {
	part *indexPart
	page int
}

// knownPack is a pack that some index object names.
type knownPack struct {
	id   ID
	size int64
	kind objectKind
	// absent says that the pack was looked for and is not in the store, marked
	// that prune will delete it: nobody may build on it.
	absent, marked bool
}

// indexPart is one index object, or the lines of packs that none names.
type indexPart struct {
	name ID
	*index
	// first is the number of its first line among all.
	first uint64
	// packNo translates its pack numbers into those of the chunkIndex.
	packNo []uint32
	// memory holds the lines if they are not in an object.
	memory []byte
}

// layerLines is how many lines a layer of several index objects has at most:
// while two layers become one both take memory.
const layerLines = 1 << 21

// indexLayer is a sorted array of lines: prefix of id, number of line.
type indexLayer struct {
	prefix, line []uint32
}

// location is where a chunk is.
type location struct {
	pack          knownPack
	packNo        uint32
	offset, size  uint32
	start, length uint32
	// number is the line's among all lines of the index.
	number uint32
}

func newChunkIndex(st store.Store, k *keyring, cacheBytes int64) *chunkIndex {
	return &chunkIndex{
		store: st, keys: k, pages: newLRU[pageKey, []byte](cacheBytes),
		packNo: map[ID]uint32{}, byName: map[ID]*indexPart{}, superseded: map[ID]bool{}, damaged: map[ID]error{}, marked: map[ID]bool{},
	}
}

// refresh reads the index objects that are new in the store. Those that cannot
// be read are remembered in damaged and harm only what they alone know; an
// error of the store itself is returned.
func (x *chunkIndex) refresh(ctx context.Context) error { return x.refreshOnce(ctx, true) }

// refreshOnce is refresh; if index objects went meanwhile it reads once more.
func (x *chunkIndex) refreshOnce(ctx context.Context, again bool) error {
	gone := 0
	x.mu.Lock()
	clear(x.damaged)
	x.adopted = false
	x.refreshed++
	x.mu.Unlock()
	var fresh []ID
	listed := map[ID]bool{}
	err := x.store.List(ctx, prefixIndex, func(info store.Info) error {
		if o, ok := parseName(info.Name); ok {
			listed[o.id] = true
			if !x.knows(o.id) {
				fresh = append(fresh, o.id)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("list index: %w", err)
	}
	x.mu.Lock()
	x.listed = listed
	x.mu.Unlock()
	for _, id := range fresh {
		err := x.load(ctx, id, nil)
		if errors.Is(err, store.ErrNotExist) {
			// Prune deleted it since it was listed; what supersedes it may have
			// been put after the listing.
			x.mu.Lock()
			delete(x.damaged, id)
			x.mu.Unlock()
			gone++
			continue
		}
		if err != nil && !errors.Is(err, ErrDamaged) {
			return err
		}
	}
	if gone > 0 && again {
		return x.refreshOnce(ctx, false)
	}
	return nil
}

// knows says whether the index object was taken in, or need not be.
func (x *chunkIndex) knows(id ID) bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.byName[id] != nil || x.superseded[id]
}

// load reads one index object and, if each is not nil, calls it for every line.
func (x *chunkIndex) load(ctx context.Context, id ID, each func(part *indexPart, line []byte)) error {
	part, prefixes, err := x.readPart(ctx, id, each)
	x.mu.Lock()
	defer x.mu.Unlock()
	if err != nil {
		if errors.Is(err, ErrDamaged) {
			x.damaged[id] = err
		}
		return err
	}
	delete(x.damaged, id)
	for _, s := range part.Supersedes {
		x.superseded[ID(s)] = true
	}
	return x.addLocked(part, prefixes)
}

// readPart reads an index object whole and checks all of it.
func (x *chunkIndex) readPart(ctx context.Context, id ID, each func(*indexPart, []byte)) (*indexPart, []uint32, error) {
	name := indexName(id)
	object, err := readObject(ctx, x.store, name, maxIndex)
	if err != nil {
		return nil, nil, err
	}
	if hashObject(object) != id {
		return nil, nil, &ObjectError{"verify", name, damagef("its bytes do not match its name")}
	}
	idx, err := decodeIndex(x.keys, object)
	if err != nil {
		return nil, nil, &ObjectError{"decode", name, err}
	}
	part := &indexPart{name: id, index: idx}
	prefixes := make([]uint32, 0, idx.Lines)
	err = idx.eachPage(object, func(n int, page []byte) {
		for ; len(page) > 0; page = page[lineSize:] {
			prefixes = append(prefixes, binary.BigEndian.Uint32(page))
			if each != nil {
				each(part, page[:lineSize])
			}
		}
	})
	if err != nil {
		return nil, nil, &ObjectError{"decode", name, err}
	}
	return part, prefixes, nil
}

// eachPage opens the pages of the object in place and gives each to f.
func (x *index) eachPage(object []byte, f func(n int, page []byte)) error {
	var last ID
	for n := range x.pages() {
		offset, size, _ := x.page(n)
		page, err := x.openPage(n, object[offset:offset+int64(size)])
		if err != nil {
			return err
		}
		// Lines of one id may stand on both sides of a page's end.
		if first := ID(page[:IDSize]); n > 0 && slices.Compare(last[:], first[:]) > 0 {
			return damagef("page %d is not sorted after the one before it", n)
		}
		last = ID(page[len(page)-lineSize:][:IDSize])
		f(n, page)
	}
	return nil
}

// addLocked takes in a part whose lines begin with the prefixes.
func (x *chunkIndex) addLocked(part *indexPart, prefixes []uint32) error {
	if x.byName[part.name] != nil {
		return nil
	}
	if n := len(x.parts); n > 0 {
		part.first = x.parts[n-1].first + x.parts[n-1].Lines
	}
	if part.first+part.Lines > math.MaxUint32 {
		return wrapf(ErrUnsupported, "the index has more than %d lines", uint32(math.MaxUint32))
	}
	for _, p := range part.Packs {
		id := ID(p.ID)
		no, ok := x.packNo[id]
		if !ok {
			no = uint32(len(x.packs))
			x.packs = append(x.packs, knownPack{kind: objectKind(p.Kind), id: id, size: p.Size, marked: x.marked[id]})
			x.packNo[id] = no
		}
		part.packNo = append(part.packNo, no)
	}
	x.parts = append(x.parts, part)
	x.byName[part.name] = part
	lines := make([]uint32, len(prefixes))
	for i := range lines {
		lines[i] = uint32(part.first) + uint32(i)
	}
	layer := indexLayer{prefixes, lines}
	for n := len(x.layers); n > 0 && len(x.layers[n-1].prefix) <= min(2*len(layer.prefix), layerLines-len(layer.prefix)); n = len(x.layers) {
		layer = mergeLayers(x.layers[n-1], layer)
		x.layers = x.layers[:n-1]
	}
	// The layers before are shared with readers; only the slice is new.
	x.layers = append(slices.Clip(x.layers), layer)
	return nil
}

// idPrefix is what the layers keep of an id.
func idPrefix(id ID) uint32 { return binary.BigEndian.Uint32(id[:]) }

// mergeLayers makes one sorted layer of two.
func mergeLayers(a, b indexLayer) indexLayer {
	n := len(a.prefix) + len(b.prefix)
	m := indexLayer{make([]uint32, 0, n), make([]uint32, 0, n)}
	for i, j := 0, 0; i < len(a.prefix) || j < len(b.prefix); {
		if j == len(b.prefix) || (i < len(a.prefix) && a.prefix[i] <= b.prefix[j]) {
			m.prefix, m.line = append(m.prefix, a.prefix[i]), append(m.line, a.line[i])
			i++
		} else {
			m.prefix, m.line = append(m.prefix, b.prefix[j]), append(m.line, b.line[j])
			j++
		}
	}
	return m
}

// find calls f for each place of the chunk that the index knows, until f says
// that it is enough. Pages that cannot be read are passed over if there is
// another place, and are the error if there is none.
func (x *chunkIndex) find(ctx context.Context, id ID, f func(location) (enough bool)) error {
	x.mu.RLock()
	layers := x.layers
	x.mu.RUnlock()
	prefix := idPrefix(id)
	found, failed := false, error(nil)
	for i := len(layers) - 1; i >= 0; i-- {
		layer := layers[i]
		for j, _ := slices.BinarySearch(layer.prefix, prefix); j < len(layer.prefix) && layer.prefix[j] == prefix; j++ {
			loc, ok, err := x.line(ctx, layer.line[j], id)
			if err != nil {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				failed = err
				continue
			}
			if !ok {
				continue
			}
			found = true
			if f(loc) {
				return nil
			}
		}
	}
	if found {
		return nil
	}
	return failed
}

// line reads the line of that number and says whether it is the chunk's.
func (x *chunkIndex) line(ctx context.Context, number uint32, id ID) (location, bool, error) {
	x.mu.RLock()
	parts := x.parts
	x.mu.RUnlock()
	n := sort.Search(len(parts), func(i int) bool { return parts[i].first > uint64(number) }) - 1
	part := parts[n]
	in := int(uint64(number) - part.first)
	page, err := x.page(ctx, part, in/pageLines)
	if err != nil {
		return location{}, false, err
	}
	line := readLine(page[in%pageLines*lineSize:])
	if line.id != id {
		return location{}, false, nil
	}
	no := part.packNo[line.pack]
	x.mu.RLock()
	pack := x.packs[no]
	x.mu.RUnlock()
	return location{pack, no, line.offset, line.size, line.start, line.length, number}, true, nil
}

// page gives the lines of a page.
func (x *chunkIndex) page(ctx context.Context, part *indexPart, n int) ([]byte, error) {
	if part.memory != nil {
		begin := n * pageLines * lineSize
		return part.memory[begin:min(begin+pageLines*lineSize, len(part.memory))], nil
	}
	key := pageKey{part, n}
	if page, ok := x.pages.get(key); ok {
		return page, nil
	}
	name := indexName(part.name)
	offset, size, _ := part.index.page(n)
	box := make([]byte, size)
	if err := readFull(ctx, x.store, name, box, offset); err != nil {
		return nil, err
	}
	page, err := part.openPage(n, box)
	if err != nil {
		return nil, &ObjectError{"decode", name, err}
	}
	x.pages.put(key, page, int64(size))
	return page, nil
}

// holds says whether the chunk is stored in a pack that is there and will stay,
// and in which. Doubt means no: then it is stored again.
func (x *chunkIndex) holds(ctx context.Context, id ID) (loc location, ok bool, err error) {
	err = x.find(ctx, id, func(l location) bool {
		if l.pack.absent || l.pack.marked {
			return false
		}
		loc, ok = l, true
		return true
	})
	if err != nil && errors.Is(err, ErrDamaged) {
		err = nil
	}
	return loc, ok, err
}

// compare lists the packs in the store and marks those that index lines name
// and that are not there, or not with their length.
func (x *chunkIndex) compare(ctx context.Context) error {
	x.mu.RLock()
	absent := make([]bool, len(x.packs))
	for i := range absent {
		absent[i] = true
	}
	x.mu.RUnlock()
	for _, prefix := range []string{prefixData, prefixMeta} {
		err := x.store.List(ctx, prefix, func(info store.Info) error {
			o, ok := parseName(info.Name)
			if !ok {
				return nil
			}
			x.mu.RLock()
			defer x.mu.RUnlock()
			if no, ok := x.packNo[o.id]; ok && int(no) < len(absent) && x.packs[no].size == info.Size && x.packs[no].kind == o.kind {
				absent[no] = false
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("list packs: %w", err)
		}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for i, a := range absent {
		x.packs[i].absent = a
	}
	return nil
}

// damage gives why index objects could not be read, nil if all could.
func (x *chunkIndex) damage() error {
	x.mu.RLock()
	defer x.mu.RUnlock()
	ids := make([]ID, 0, len(x.damaged))
	for id := range x.damaged {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b ID) int { return cmp.Compare(a.String(), b.String()) })
	var errs []error
	for _, id := range ids {
		errs = append(errs, x.damaged[id])
	}
	return errors.Join(errs...)
}

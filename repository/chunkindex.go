package repository

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"sync"

	"github.com/sombra-backup/sombra/repository/store"
)

// chunkIndex finds chunks through all index objects of the repository.
//
// In memory it keeps the first four bytes of each line's id, sorted, in layers;
// see indexLayer. A chunk that is not stored is told in memory but for one
// look-up in 4 billion per line; for one that is, the page that holds the line is
// read from the store, or found in a cache of fixed size.
type chunkIndex struct {
	store store.Store
	keys  *keyring
	pages *lru[pageKey, []byte]
	// near keeps copies of index objects, nil if none are kept.
	near *indexCache
	// strict says that index objects are read from the store, copies or not, so
	// that damage there shows. Single pages are read from copies all the same.
	strict bool

	mu    sync.RWMutex
	packs packTable
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

// indexPart is one index object, or the lines of packs that none names.
type indexPart struct {
	name ID
	// index has lost its pack table once it is one of a chunkIndex's: packNo and
	// sizes say the same in eight bytes a pack.
	*index
	// first is the number of its first line among all.
	first uint64
	// packNo translates its pack numbers into those of the chunkIndex.
	packNo []uint32
	// memory holds the lines if they are not in an object.
	memory []byte
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
		byName: map[ID]*indexPart{}, superseded: map[ID]bool{}, damaged: map[ID]error{}, marked: map[ID]bool{},
	}
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
		for j := layer.search(prefix); j < len(layer.prefix) && layer.prefix[j] == prefix; j++ {
			loc, ok, err := x.line(ctx, layer.number(j), id)
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
	pack := x.packs.at(no)
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
	offset, size, _ := part.index.page(n)
	box := make([]byte, size)
	page := x.nearPage(part, n, box, offset)
	if page == nil {
		name := indexName(part.name)
		if err := readFull(ctx, x.store, name, box, offset); err != nil {
			return nil, err
		}
		var err error
		if page, err = part.openPage(n, box); err != nil {
			return nil, &ObjectError{"decode", name, err}
		}
	}
	x.pages.put(key, page, int64(size))
	return page, nil
}

// nearPage gives the lines of a page from the copy of its index object, nil if
// there is none, or none that is right.
func (x *chunkIndex) nearPage(part *indexPart, n int, box []byte, offset int64) []byte {
	f := x.near.open(part.name)
	if f == nil {
		return nil
	}
	defer f.Close()
	if _, err := f.ReadAt(box, offset); err != nil {
		return nil
	}
	page, err := part.openPage(n, box)
	if err != nil {
		return nil
	}
	return page
}

// holds says whether the chunk is stored in a pack that is there and will stay,
// and in which. Doubt means no: then it is stored again.
func (x *chunkIndex) holds(ctx context.Context, id ID) (loc location, ok bool, err error) {
	err = x.find(ctx, id, func(l location) bool {
		if !l.pack.firm() {
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

// compare lists the packs in the store and notes which of those that index lines
// name are not there, or not with their length. What index objects that are read
// later name is unproven until the next time.
func (x *chunkIndex) compare(ctx context.Context) error {
	_, err := x.compareAll(ctx)
	return err
}

// compareAll is compare, and gives the packs that are there, are not marked, and
// that no index object read so far names.
func (x *chunkIndex) compareAll(ctx context.Context) (unnamed []knownPack, err error) {
	x.mu.RLock()
	absent := make([]bool, x.packs.len())
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
			no, named := x.packs.find(o.id)
			if named && int(no) < len(absent) && int64(x.packs.item(no).size) == info.Size && x.packs.item(no).kind == o.kind {
				absent[no] = false
			}
			if !named && !x.marked[o.id] {
				unnamed = append(unnamed, knownPack{kind: o.kind, id: o.id, size: info.Size})
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("list packs: %w", err)
		}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for i, a := range absent {
		pack := x.packs.item(uint32(i))
		pack.absent, pack.unproven = a, false
	}
	return unnamed, nil
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

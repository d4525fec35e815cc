package repository

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync/atomic"

	"github.com/zeebo/blake3"
	"golang.org/x/sync/errgroup"

	"github.com/sombra-backup/sombra/repository/store"
)

// listedObject is an object named by its bytes, as a listing shows it.
type listedObject struct {
	id   ID
	size int64
}

const (
	// fewReaders is how many objects are read at once from a store that does not
	// say what it gains by, manyReaders from one that is far away. Index objects
	// are small, or read in strokes, so that this bounds the memory as well.
	fewReaders  = 2
	manyReaders = 8
	// indexStroke is how much of an index object is in memory at once.
	indexStroke = 2 << 20
)

// readersOf is how many small objects are read from a store at once.
func readersOf(st store.Store) int {
	if c, ok := st.(store.Concurrent); ok && c.Concurrency() > 1 {
		return min(2*c.Concurrency(), manyReaders)
	}
	return fewReaders
}

// eachAtOnce calls f for the numbers below n, several at once, as many as the
// store of objects that f reads gains by, with a number of the goroutine below
// readersOf. The first error ends it.
func eachAtOnce(ctx context.Context, st store.Store, n int, f func(ctx context.Context, reader, i int) error) error {
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for reader := range min(readersOf(st), n) {
		group.Go(func() error {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if err := ctx.Err(); err != nil {
					return err
				}
				if err := f(ctx, reader, i); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// refresh reads the index objects that are new in the store: one listing, and
// nothing else if there are none. Those that cannot be read are remembered in
// damaged and harm only what they alone know; an error of the store itself is
// returned. What is read now and was not compared with a listing of the packs is
// nothing to build on; see compare.
func (x *chunkIndex) refresh(ctx context.Context) error { return x.refreshOnce(ctx, true) }

// refreshOnce is refresh; if index objects went meanwhile it reads once more.
func (x *chunkIndex) refreshOnce(ctx context.Context, again bool) error {
	x.mu.Lock()
	clear(x.damaged)
	x.adopted = false
	x.refreshed++
	x.mu.Unlock()
	var fresh []listedObject
	listed := map[ID]bool{}
	err := x.store.List(ctx, prefixIndex, func(info store.Info) error {
		if o, ok := parseName(info.Name); ok {
			listed[o.id] = true
			if !x.knows(o.id) {
				fresh = append(fresh, listedObject{o.id, info.Size})
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
	gone, err := x.loadAll(ctx, fresh)
	if len(fresh) > 0 {
		x.near.sweep(listed)
	}
	if err == nil && gone && again {
		return x.refreshOnce(ctx, false)
	}
	return err
}

// loadAll reads index objects, several at once, and says whether some went since
// they were listed: prune deleted them, and what supersedes them may have been put
// after the listing. The largest come first: what supersedes others is larger than
// they are, and once it is known they need not be read.
func (x *chunkIndex) loadAll(ctx context.Context, fresh []listedObject) (gone bool, err error) {
	slices.SortFunc(fresh, func(a, b listedObject) int {
		return cmp.Or(cmp.Compare(b.size, a.size), slices.Compare(a.id[:], b.id[:]))
	})
	buffers := make([][]byte, readersOf(x.store))
	for len(fresh) > 0 {
		n := 1
		for n < len(fresh) && sizeClass(uint64(fresh[n].size)) == sizeClass(uint64(fresh[0].size)) {
			n++
		}
		g, err := x.loadSome(ctx, fresh[:n], buffers)
		if gone = gone || g; err != nil {
			return gone, err
		}
		fresh = fresh[n:]
	}
	return gone, nil
}

// loadSome is loadAll for objects of about one size.
func (x *chunkIndex) loadSome(ctx context.Context, fresh []listedObject, buffers [][]byte) (gone bool, err error) {
	var went atomic.Bool
	err = eachAtOnce(ctx, x.store, len(fresh), func(ctx context.Context, reader, i int) error {
		if x.knows(fresh[i].id) {
			return nil
		}
		_, err := x.load(ctx, fresh[i], &buffers[reader], nil)
		if errors.Is(err, store.ErrNotExist) {
			x.mu.Lock()
			delete(x.damaged, fresh[i].id)
			x.mu.Unlock()
			went.Store(true)
			return nil
		}
		if errors.Is(err, ErrDamaged) {
			return nil
		}
		return err
	})
	return went.Load(), err
}

// knows says whether the index object was taken in, or need not be.
func (x *chunkIndex) knows(id ID) bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.byName[id] != nil || x.superseded[id]
}

// load reads one index object and, if each is not nil, calls it for every line.
// It gives the object's pack table, which the part does not keep.
func (x *chunkIndex) load(ctx context.Context, o listedObject, memory *[]byte, each func(part *indexPart, line []byte)) ([]indexPack, error) {
	part, prefixes, err := x.readPart(ctx, o, memory, each)
	x.mu.Lock()
	defer x.mu.Unlock()
	if err != nil {
		if errors.Is(err, ErrDamaged) {
			x.damaged[o.id] = err
		}
		return nil, err
	}
	delete(x.damaged, o.id)
	for _, s := range part.Supersedes {
		x.superseded[ID(s)] = true
	}
	packs := part.Packs
	return packs, x.addLocked(part, prefixes, false)
}

// indexReader reads pieces of an index object: small ones it has whole.
type indexReader struct {
	// from reads bytes of the object.
	from   func(p []byte, offset int64) error
	copy   *indexCopy
	memory []byte
	whole  bool
	hash   *blake3.Hasher
}

// take gives n bytes of the object, in memory that the next call uses again.
func (r *indexReader) take(offset int64, n int) ([]byte, error) {
	if r.whole {
		return r.memory[offset : offset+int64(n)], nil
	}
	p := r.memory[:n]
	if err := r.from(p, offset); err != nil {
		return nil, err
	}
	r.copy.write(p, offset)
	return p, nil
}

// takeHashed is take for what comes next.
func (r *indexReader) takeHashed(offset int64, n int) ([]byte, error) {
	p, err := r.take(offset, n)
	if err == nil && !r.whole {
		r.hash.Write(p)
	}
	return p, err
}

// fromStore reads an index object from the store.
func (x *chunkIndex) fromStore(ctx context.Context, id ID) func(p []byte, offset int64) error {
	name := indexName(id)
	return func(p []byte, offset int64) error { return readFull(ctx, x.store, name, p, offset) }
}

// readPart reads all of an index object and checks it, in little memory however
// large it is. It reads a copy if there is one, unless the caller wants to see each
// line, or the index is strict.
func (x *chunkIndex) readPart(ctx context.Context, o listedObject, memory *[]byte, each func(*indexPart, []byte)) (*indexPart, []uint32, error) {
	f := x.near.open(o.id)
	if f != nil {
		defer f.Close()
	}
	if f != nil && each == nil && !x.strict {
		from := func(p []byte, offset int64) error {
			_, err := f.ReadAt(p, offset)
			return cmp.Or(ctx.Err(), err)
		}
		part, prefixes, err := x.readPieces(o, &indexReader{from: from}, memory, nil)
		if err == nil || ctx.Err() != nil {
			return part, prefixes, err
		}
		x.near.drop(o.id)
		f = nil
	}
	var w *indexCopy
	if f == nil {
		w = x.near.create(o.id)
	}
	part, prefixes, err := x.readPieces(o, &indexReader{from: x.fromStore(ctx, o.id), copy: w}, memory, each)
	w.end(err == nil)
	return part, prefixes, named(err, indexName(o.id))
}

// readPieces is readPart with a reader, to which it gives the memory. Its errors
// may lack the object's name.
func (x *chunkIndex) readPieces(o listedObject, r *indexReader, memory *[]byte, each func(*indexPart, []byte)) (*indexPart, []uint32, error) {
	name := indexName(o.id)
	if o.size > maxIndex {
		return nil, nil, &ObjectError{"read", name, damagef("%d bytes are more than the %d it may have", o.size, maxIndex)}
	}
	if need := int(min(o.size, indexStroke)); len(*memory) < need {
		*memory = make([]byte, need)
	}
	r.memory, r.hash = *memory, blake3.New()
	if o.size <= indexStroke {
		whole, err := r.take(0, int(o.size))
		if err != nil {
			return nil, nil, err
		}
		if hashObject(whole) != o.id {
			return nil, nil, &ObjectError{"verify", name, damagef("its bytes do not match its name")}
		}
		r.memory, r.whole = whole, true
	}
	idx, ends, err := openIndex(x.keys, o.size, r)
	if err != nil {
		return nil, nil, err
	}
	part := &indexPart{name: o.id, index: idx}
	prefixes := make([]uint32, 0, idx.Lines)
	r.hash.Write(ends.header)
	err = idx.eachPage(r.takeHashed, func(n int, page []byte) error {
		for ; len(page) > 0; page = page[lineSize:] {
			prefixes = append(prefixes, binary.BigEndian.Uint32(page))
			if each != nil {
				each(part, page[:lineSize])
			}
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	r.hash.Write(ends.tail)
	if !r.whole && ID(r.hash.Sum(nil)) != o.id {
		return nil, nil, &ObjectError{"verify", name, damagef("its bytes do not match its name")}
	}
	return part, prefixes, nil
}

// addLocked takes in a part whose lines begin with the prefixes. proven says that
// its packs are there: they were put, or listed, just now.
func (x *chunkIndex) addLocked(part *indexPart, prefixes []uint32, proven bool) error {
	if there := x.byName[part.name]; there != nil {
		for _, no := range there.packNo {
			pack := x.packs.item(no)
			pack.unproven = pack.unproven && !proven
		}
		return nil
	}
	if n := len(x.parts); n > 0 {
		part.first = x.parts[n-1].first + x.parts[n-1].Lines
	}
	if part.first+part.Lines > math.MaxUint32 {
		return wrapf(ErrUnsupported, "the index has more than %d lines", uint32(math.MaxUint32))
	}
	part.packNo = make([]uint32, 0, len(part.Packs))
	for _, p := range part.Packs {
		id := ID(p.ID)
		no, ok := x.packs.find(id)
		if !ok {
			no = x.packs.add(knownPack{kind: objectKind(p.Kind), id: id, size: p.Size, marked: x.marked[id], unproven: !proven})
		} else if proven {
			x.packs.item(no).unproven = false
		}
		part.packNo = append(part.packNo, no)
	}
	part.Packs = nil
	x.parts = append(x.parts, part)
	x.byName[part.name] = part
	x.layers = addLayer(x.layers, prefixes, uint32(part.first))
	return nil
}

// tablePack gives the pack with that number in the part's own pack table.
func (x *chunkIndex) tablePack(part *indexPart, n int) indexPack {
	pack := x.packs.at(part.packNo[n])
	return indexPack{Kind: uint8(pack.kind), ID: pack.id[:], Size: int64(part.sizes[n])}
}

// eachLineOf calls f for every line of a part, with its number there. It reads
// many pages with one request, and leaves them in the cache for those who look up
// what is on them.
func (x *chunkIndex) eachLineOf(ctx context.Context, part *indexPart, memory *[]byte, f func(number uint64, line indexLine) error) error {
	var failed error
	lines := func(n int, page []byte) error {
		for i := range len(page) / lineSize {
			if failed = f(uint64(n*pageLines+i), readLine(page[i*lineSize:])); failed != nil {
				return failed
			}
		}
		return nil
	}
	if part.memory != nil {
		return lines(0, part.memory)
	}
	if need := min(indexStroke, part.pages()*pageSize); len(*memory) < need {
		*memory = make([]byte, need)
	}
	r := &indexReader{from: x.fromStore(ctx, part.name), memory: *memory}
	err := part.eachPage(r.take, func(n int, page []byte) error {
		if failed = ctx.Err(); failed != nil {
			return failed
		}
		x.pages.put(pageKey{part, n}, bytes.Clone(page), int64(len(page)))
		return lines(n, page)
	})
	if failed != nil {
		return failed
	}
	return named(err, indexName(part.name))
}

// named gives an error of decoding an object the object's name, unless it has it.
func named(err error, name string) error {
	var of *ObjectError
	if err == nil || errors.As(err, &of) {
		return err
	}
	return &ObjectError{"decode", name, err}
}

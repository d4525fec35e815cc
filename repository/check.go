package repository

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"

	"github.com/sombra-backup/sombra/repository/store"
)

// CheckOptions says how much Check looks at.
type CheckOptions struct {
	// ReadData has every object read whole and every chunk decrypted and
	// hashed; without it, the packs' data is not read.
	ReadData bool
	// Subset, with ReadData, has only some of the packs read whole.
	Subset Subset
	// Progress, if not nil, is told with ReadData how far the packs are read,
	// before the first and after each, in the calling goroutine.
	Progress func(Progress)
}

// Problem is one thing that Check found wrong.
type Problem struct {
	// Object is the damaged or missing object of the store. It is empty for a
	// problem that follows from another one's: a file that needs a chunk of a
	// damaged pack.
	Object string
	// Record is the record that is hurt, zero if the problem is an object's.
	Record ID
	// Root and Path give the entry that is hurt; of a damaged block of a file
	// table, the first entry that cannot be read.
	Root, Path string
	// Document is the name of the document that is hurt.
	Document string
	// Err says what is wrong. It wraps ErrDamaged.
	Err error
}

// Report is what Check saw in all.
type Report struct {
	// Objects counts the objects of the store, Bytes their sizes.
	Objects int64 `json:"objects"`
	Bytes   int64 `json:"bytes"`
	// Packs, Indexes, Records, Notes, Keys count objects by kind; Intents are of
	// backups that go on or were killed lately, Marks are prune's.
	Packs   int64 `json:"packs"`
	Indexes int64 `json:"indexes"`
	Records int64 `json:"records"`
	Notes   int64 `json:"notes"`
	Keys    int64 `json:"keys"`
	Intents int64 `json:"intents"`
	Marks   int64 `json:"marks"`
	// Chunks counts the index's lines; ChunksRead those decrypted and hashed.
	Chunks     int64 `json:"chunks"`
	ChunksRead int64 `json:"chunks_read"`
	// PacksRead and BytesRead count the packs read whole.
	PacksRead int64 `json:"packs_read"`
	BytesRead int64 `json:"bytes_read"`
	// Entries counts the file tables' lines, Extents the chunks looked up for
	// them.
	Entries int64 `json:"entries"`
	Extents int64 `json:"extents"`
	// Unindexed counts packs that no index names: a backup that was
	// interrupted, or one that is going on, leaves them. They harm nothing.
	Unindexed int64 `json:"unindexed"`
	// Gone counts packs that the index names, that are not there, and that no
	// record needs: prune has deleted them.
	Gone int64 `json:"gone"`
	// Vanished counts objects that were deleted while the check went on.
	Vanished int64 `json:"vanished"`
	// SetAside counts damaged objects that repair has put aside.
	SetAside int64 `json:"set_aside"`
	// Foreign lists objects that are none of the repository's (at most 100).
	Foreign []string `json:"foreign,omitempty"`
	// Problems counts the problems reported.
	Problems int64 `json:"problems"`
}

// maxForeign is how many foreign objects a report lists.
const maxForeign = 100

// Check looks for damage and calls f, if not nil, for each problem, in the
// calling goroutine. Without ReadData it makes sure of the structure: that all
// objects are there and have their size, that the index agrees with the packs'
// own directories, that records, file tables and extent lists can be read, and
// that every extent of every record is found and fits. With ReadData it also
// reads every object whole, and decrypts and hashes every chunk.
//
// It changes nothing, takes nothing from caches, and may run beside backups.
// Damage is a problem, not an error: an error says that the store failed, the
// context was done, or the key cannot read (ErrWriteOnly), and that the check
// is not complete.
//
// What no check can find is an object whose absence breaks nothing: a whole
// record that was deleted, if nothing refers to it, or a key slot other than
// the one in use.
func (r *Repository) Check(ctx context.Context, o CheckOptions, f func(Problem)) (Report, error) {
	if err := r.ready(ctx); err != nil {
		return Report{}, err
	}
	if err := o.Subset.check(); err != nil {
		return Report{}, err
	}
	if r.keys.private == nil {
		return Report{}, ErrWriteOnly
	}
	c := &checker{
		r: r.fresh(), o: o, report: f,
		packs: map[ID]*checkedPack{}, sums: map[ID]*indexedPack{}, good: map[chunkPlace]bool{}, gone: map[ID]bool{},
		seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}, needed: map[ID]bool{},
	}
	defer c.r.decoder.Close()
	for _, step := range []func(context.Context) error{c.list, c.configAndKeys, c.shared, c.index, c.checkPacks, c.records, c.missingPacks, c.notes} {
		if err := step(ctx); err != nil {
			return c.total, fmt.Errorf("check: %w", err)
		}
	}
	return c.total, nil
}

// fresh gives the repository as if it had just been opened.
func (r *Repository) fresh() *Repository {
	f := newRepository(r.store, r.options, r.keys, r.chunking, r.slot)
	return f
}

// checker is one run of Check.
type checker struct {
	r      *Repository
	o      CheckOptions
	report func(Problem)
	total  Report

	keyNames, recordNames, noteNames, sharedNames []objectName
	indexNames                                    []listedObject
	// packs are the packs in the store.
	packs map[ID]*checkedPack
	// sums are the packs that the index names.
	sums map[ID]*indexedPack
	// good holds the chunks of damaged packs that are whole all the same.
	good map[chunkPlace]bool
	// gone are index objects already reported missing.
	gone map[ID]bool
	// known are the records that could be read.
	known map[ID]bool
	seeds [2]maphash.Seed
	// missing are the packs that the index names and that are not there, with
	// their names; needed those of which a record needs something; blind says
	// that not all that records need could be found out.
	missing map[ID]string
	needed  map[ID]bool
	blind   bool
	// reads are the packs to be read whole, nil for all.
	reads    map[ID]bool
	progress Progress
}

// checkedPack is a pack in the store.
type checkedPack struct {
	kind    objectKind
	size    int64
	damaged bool
}

// indexedPack is a pack as index objects describe it.
type indexedPack struct {
	kind objectKind
	size int64
	// objects are the index objects that name it, each with its lines summed.
	objects []indexSum
}

// indexSum is a sum over the lines that one index object has of one pack: the
// same lines in any order give the same sum, and nobody can make others that
// do, for the hash is seeded at random.
type indexSum struct {
	object ID
	lines  int64
	sum    [2]uint64
}

// chunkPlace is a chunk in a pack.
type chunkPlace struct{ pack, chunk ID }

// problem reports one.
func (c *checker) problem(p Problem) {
	c.total.Problems++
	if c.report != nil {
		c.report(p)
	}
}

// object reports that an object is damaged if err says so, and gives back all
// other errors.
func (c *checker) object(name string, err error) error {
	if errors.Is(err, store.ErrNotExist) && name != configName {
		// It was there when it was listed.
		c.total.Vanished++
		return nil
	}
	if err == nil || !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrUnsupported) && !errors.Is(err, ErrNoRepository) {
		return err
	}
	c.problem(Problem{Object: name, Err: err})
	return nil
}

// list looks at all names. What refers is listed before what is referred to:
// a backup that is committed meanwhile is then seen whole or not at all.
func (c *checker) list(ctx context.Context) error {
	known := []string{prefixNotes, prefixRecords, prefixIndex, prefixKeys, prefixIntents, prefixMarks, prefixData, prefixMeta}
	for _, prefix := range known {
		if err := c.r.store.List(ctx, prefix, func(info store.Info) error { return c.listed(ctx, info) }); err != nil {
			return err
		}
	}
	return c.r.store.List(ctx, "", func(info store.Info) error {
		for _, prefix := range known {
			if strings.HasPrefix(info.Name, prefix) {
				return nil
			}
		}
		return c.listed(ctx, info)
	})
}

// listed takes in one name.
func (c *checker) listed(ctx context.Context, info store.Info) error {
	c.total.Objects++
	c.total.Bytes += info.Size
	o, ok := parseName(info.Name)
	if !ok && strings.HasPrefix(info.Name, prefixDamaged) {
		c.total.SetAside++
		return nil
	}
	if !ok {
		if len(c.total.Foreign) < maxForeign {
			c.total.Foreign = append(c.total.Foreign, info.Name)
		}
		return nil
	}
	switch o.kind {
	case kindSlot:
		c.total.Keys++
		c.keyNames = append(c.keyNames, o)
	case kindIndex:
		c.total.Indexes++
		c.indexNames = append(c.indexNames, listedObject{o.id, info.Size})
	case kindIntent, kindMark:
		c.sharedNames = append(c.sharedNames, o)
	case kindRecord:
		if void, err := c.r.isVoid(ctx, info.Name, info.Size); void || err != nil {
			return err
		}
		c.total.Records++
		c.recordNames = append(c.recordNames, o)
	case kindNote:
		c.total.Notes++
		c.noteNames = append(c.noteNames, o)
	case kindDataPack, kindMetaPack:
		c.total.Packs++
		if c.packs[o.id] == nil {
			c.packs[o.id] = &checkedPack{kind: o.kind, size: info.Size}
		}
	}
	return nil
}

// configAndKeys looks at the config and the key slots.
func (c *checker) configAndKeys(ctx context.Context) error {
	conf, err := readConfig(ctx, c.r.store)
	if err == nil {
		err = conf.authenticate(c.r.keys)
	}
	if err := c.object(configName, err); err != nil {
		return err
	}
	own := false
	for _, o := range c.keyNames {
		name := slotName(o.id)
		own = own || name == c.r.slot
		_, err := readSlot(ctx, c.r.store, name)
		if err := c.object(name, err); err != nil {
			return err
		}
	}
	if !own {
		c.problem(Problem{Object: c.r.slot, Err: damagef("the key slot that opened the repository is missing")})
	}
	return nil
}

// shared looks at intents and marks.
func (c *checker) shared(ctx context.Context) error {
	for _, o := range c.sharedNames {
		name, box, limit := intentName(o.id), boxIntent, int64(maxIntent)
		if o.kind == kindMark {
			name, box, limit = markName(o.id), boxMark, maxMark
			c.total.Marks++
		} else {
			c.total.Intents++
		}
		plain, err := c.r.readSharedOnce(ctx, name, o.kind, box, limit)
		if err == nil {
			if o.kind == kindMark {
				_, err = decodeMark(plain, c.r.keys.repo)
			} else {
				_, err = decodeIntent(plain, c.r.keys.repo)
			}
		}
		if err := c.object(name, err); err != nil {
			return err
		}
	}
	return nil
}

// index reads all index objects.
func (c *checker) index(ctx context.Context) error {
	var memory []byte
	for _, o := range c.indexNames {
		sums := map[uint32]*indexSum{}
		lines := int64(0)
		packs, err := c.r.index.load(ctx, o, &memory, func(part *indexPart, line []byte) {
			lines++
			l := readLine(line)
			s := sums[l.pack]
			if s == nil {
				s = &indexSum{object: o.id}
				sums[l.pack] = s
			}
			c.sum(s, l)
		})
		if errors.Is(err, store.ErrNotExist) {
			// Prune deleted it since it was listed; what it told is asked of the
			// packs themselves.
			delete(c.r.index.damaged, o.id)
			c.gone[o.id] = true
		}
		if err := c.object(indexName(o.id), err); err != nil {
			return err
		}
		if err != nil {
			continue
		}
		c.total.Chunks += lines
		for n, p := range packs {
			c.indexed(ID(p.ID), objectKind(p.Kind), p.Size, o.id, sums[uint32(n)])
		}
	}
	// What is superseded may name packs that are no more.
	for id, p := range c.sums {
		p.objects = slices.DeleteFunc(p.objects, func(s indexSum) bool { return c.r.index.superseded[s.object] })
		if len(p.objects) == 0 {
			delete(c.sums, id)
		}
	}
	return nil
}

// sum adds a line to the sum.
func (c *checker) sum(s *indexSum, l indexLine) {
	l.pack = 0
	line := l.append(nil)
	s.lines++
	for i := range s.sum {
		s.sum[i] += maphash.Bytes(c.seeds[i], line)
	}
}

// indexed notes what an index object says of a pack.
func (c *checker) indexed(pack ID, kind objectKind, size int64, object ID, s *indexSum) {
	p := c.sums[pack]
	if p == nil {
		p = &indexedPack{kind: kind, size: size}
		c.sums[pack] = p
	}
	if p.kind != kind || p.size != size {
		c.problem(Problem{Object: indexName(object), Err: damagef("it says of pack %s what another index object does not", pack)})
	}
	if s == nil {
		s = &indexSum{object: object}
	}
	p.objects = append(p.objects, *s)
}

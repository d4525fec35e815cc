package repository

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/sombra-backup/sombra/repository/store"
)

// BeginOptions says what a backup builds on.
type BeginOptions struct {
	// Base is the record that unchanged content is taken from, if any. Commit
	// adds it to RecordInfo.Parents if it is not there.
	Base *Record
	// StateOf names which of this machine's local states the backup replaces, if
	// the key is a write-only one: hexadecimal digits, at most 64, or nothing.
	// Backups of different trees have different states, of which
	// [MaxLocalStates] are kept.
	StateOf string
}

// Backup is a record in the making. Its methods may be called from several
// goroutines; Commit and Abort wait for the others to return.
//
// After an error of the store every further call fails with the same error and
// only Abort is left. An error of a source, or ErrInvalid, concerns that one
// call only.
type Backup struct {
	r    *Repository
	base *Record
	pipe *pipeline
	// temp sorts the entries.
	sorter *entrySorter

	// gate is held for reading by calls going on, for writing to end them.
	gate  sync.RWMutex
	ended bool

	// unnamed are packs that survey found and that no index object names.
	unnamed []knownPack

	mu sync.Mutex
	// pending are the chunks added and not yet in the index.
	pending map[ID]struct{}
	// relied holds the numbers of the packs that the backup builds on.
	relied bitset
	// baseStands says that the base was not forgotten before the backup began.
	baseStands bool
	// sampled says that it builds on more packs than relied holds.
	sampled atomic.Bool
	// written are the index objects put by pipelines that have ended, and
	// storedBefore counts their bytes.
	written      []ID
	storedBefore int64
	// keeper says to others that the backup goes on.
	keeper *keeper

	read, added, addedBytes atomic.Int64
	// local keeps what the next backup needs, if the key cannot read.
	local    *localWriter
	localErr error
	// usedPrints are of files that this backup has a newer version of.
	usedPrints usedPrints
	// documents says that one was put.
	documents atomic.Bool
}

// sweepAge is how old the remains of interrupted Puts must be to be swept.
const sweepAge = 24 * time.Hour

// Begin starts a backup: it says so in an intent, that no prune may delete what
// the backup builds on, reads what is new in the index, and compares the
// index with the packs that are there, so that a chunk whose pack was lost is
// stored again, and one in a pack that an interrupted backup left is not. The context lives as long as the backup does: when it is done
// the backup fails. Abort must be called in the end; after Commit it does
// nothing.
func (r *Repository) Begin(ctx context.Context, o BeginOptions) (*Backup, error) {
	if err := r.ready(ctx); err != nil {
		return nil, err
	}
	if o.Base != nil && o.Base.repo != r {
		return nil, invalidf("the base is a record of another repository")
	}
	if !validStateOf(o.StateOf) {
		return nil, invalidf("%.100q names no local state", o.StateOf)
	}
	if sw, ok := r.store.(store.Sweeper); ok {
		if err := sw.Sweep(ctx, sweepAge); err != nil {
			return nil, fmt.Errorf("begin backup: %w", err)
		}
	}
	k, err := r.keep(ctx, hostName())
	if err != nil {
		return nil, fmt.Errorf("begin backup: %w", err)
	}
	r.sweepPrints()
	b := &Backup{r: r, base: o.Base, keeper: k, pending: map[ID]struct{}{}}
	b.sorter = newEntrySorter(r.options.TempDir)
	if dir := r.localDir(); dir != "" {
		b.local = newLocalWriter(r.keys, dir, o.StateOf)
	}
	b.pipe = newPipeline(ctx, r, b.indexed)
	err = b.survey(ctx)
	if err == nil {
		err = b.lookForBase(ctx)
	}
	if err == nil {
		err = b.takeUp(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("begin backup: %w", err), b.Abort())
	}
	return b, nil
}

// survey looks at what there is to build on: the marks, then the index, then
// the packs. Whatever is marked later is held back by the intent that was put
// before.
func (b *Backup) survey(ctx context.Context) error {
	if err := b.r.mark(ctx); err != nil {
		return err
	}
	if err := b.r.index.refresh(ctx); err != nil {
		return err
	}
	var err error
	b.unnamed, err = b.r.index.compareAll(ctx)
	return err
}

// lookForBase sees whether the base is still a record. If it was forgotten, prune
// may have deleted any part of what it needs.
func (b *Backup) lookForBase(ctx context.Context) error {
	if b.base == nil {
		return nil
	}
	var err error
	b.baseStands, err = b.r.stands(ctx, b.base.ID)
	return err
}

// hostName is for people who ask whose backup holds a prune back.
func hostName() string {
	name, _ := os.Hostname()
	if len(name) > MaxName || !utf8.ValidString(name) {
		return ""
	}
	return name
}

// enter begins a call; leave ends it.
func (b *Backup) enter(ctx context.Context) error {
	b.gate.RLock()
	err := ctx.Err()
	if b.ended {
		err = ErrClosed
	} else if cause := b.pipe.err(); cause != nil {
		err = cause
	}
	if err != nil {
		b.gate.RUnlock()
	}
	return err
}

func (b *Backup) leave() { b.gate.RUnlock() }

// putChunk stores a chunk unless it is stored, and gives its name.
func (b *Backup) putChunk(ctx context.Context, kind objectKind, data []byte) (ID, error) {
	id, missing, err := b.missing(ctx, kind, data)
	if err != nil || !missing {
		return id, err
	}
	return id, b.pipe.add(kind, id, data)
}

// putBuffer is putChunk for data in memory of the pipeline's, which it takes.
func (b *Backup) putBuffer(ctx context.Context, kind objectKind, data []byte) (ID, error) {
	id, missing, err := b.missing(ctx, kind, data)
	switch {
	case err == nil && missing && len(data) >= largeChunk:
		return id, b.pipe.addLarge(kind, id, data)
	case err == nil && missing:
		err = b.pipe.add(kind, id, data)
	}
	b.pipe.giveBack(data)
	return id, err
}

// missing gives the name of a chunk, and says whether the caller has to add it:
// it is not stored, and nobody else is about to.
func (b *Backup) missing(ctx context.Context, kind objectKind, data []byte) (ID, bool, error) {
	id := b.r.keys.chunkID(kind, data)
	if b.local != nil && kind == kindMetaPack {
		b.local.add(id, data)
	}
	b.mu.Lock()
	_, known := b.pending[id]
	b.mu.Unlock()
	if known {
		return id, false, nil
	}
	loc, known, err := b.r.index.holds(ctx, id)
	if err != nil {
		return id, false, err
	}
	if known && int(loc.length) == len(data) {
		b.rely(loc.packNo)
		return id, false, nil
	}
	b.mu.Lock()
	_, known = b.pending[id]
	b.pending[id] = struct{}{}
	b.mu.Unlock()
	if known {
		return id, false, nil
	}
	b.added.Add(1)
	b.addedBytes.Add(int64(len(data)))
	return id, true, nil
}

// indexed is told that chunks are in the index now.
func (b *Backup) indexed(lines []indexLine) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range lines {
		delete(b.pending, lines[i].id)
	}
}

// stored says whether the chunk is in the repository or on its way there.
func (b *Backup) stored(ctx context.Context, c chunkRef) error { return b.find(ctx, c, b.rely) }

// find is stored, and tells in which pack the chunk is, unless it is on its way.
func (b *Backup) find(ctx context.Context, c chunkRef, in func(packNo uint32)) error {
	// Most are in the index. What is on its way may have got there since it was
	// looked for, so that it is looked for again.
	for again := false; ; again = true {
		loc, ok, err := b.r.index.holds(ctx, c.id)
		if err != nil {
			return err
		}
		if ok && loc.length == c.length {
			in(loc.packNo)
			return nil
		}
		b.mu.Lock()
		_, ok = b.pending[c.id]
		b.mu.Unlock()
		switch {
		case ok:
			return nil
		case again:
			return damagef("chunk %s of %d bytes is not stored", c.id, c.length)
		}
	}
}

// Holds says whether everything the content needs is in the repository, or
// was added by this backup: nil, or an error that wraps ErrDamaged. Content of
// a base that fails must be stored anew. It reads the extent list of content
// too large to be kept in one entry, which must be of a committed record.
func (b *Backup) Holds(ctx context.Context, c Content) error {
	if err := b.enter(ctx); err != nil {
		return err
	}
	defer b.leave()
	return b.holdsAll(ctx, &c)
}

// holdsAll is Holds without the gate.
func (b *Backup) holdsAll(ctx context.Context, c *Content) error {
	return b.eachStored(ctx, c, b.rely)
}

// eachStored is holdsAll, and tells in which packs the chunks are.
func (b *Backup) eachStored(ctx context.Context, c *Content, in func(packNo uint32)) error {
	node := func(n *listNode) error {
		for _, ref := range n.refs {
			if err := b.find(ctx, ref, in); err != nil {
				return err
			}
		}
		return nil
	}
	if err := node(&c.top); err != nil || c.top.level == 0 {
		return err
	}
	return b.r.eachNode(ctx, &c.top, node)
}

// holdsTop is Holds for what the content itself refers to.
func (b *Backup) holdsTop(ctx context.Context, c Content) error {
	for _, ref := range c.top.refs {
		if err := b.stored(ctx, ref); err != nil {
			return err
		}
	}
	return nil
}

// Add adds an entry to the file table. Entries come in any order; memory for
// them is bounded, the rest goes to a temporary file. If a root and path is
// added again the later entry replaces the earlier one. The entry is checked:
// ErrInvalid if it breaks a rule that Entry states, ErrDamaged if its content
// refers to chunks that are not stored (of large content, only the first level
// is looked at; see Holds).
func (b *Backup) Add(ctx context.Context, e Entry) error {
	if err := b.enter(ctx); err != nil {
		return err
	}
	defer b.leave()
	encoded, err := e.encode()
	if err != nil {
		return fmt.Errorf("add %s: %w", printable(e.Root, e.Path), err)
	}
	for c := range e.contents() {
		if err := b.holdsTop(ctx, c); err != nil {
			return fmt.Errorf("add %s: %w", printable(e.Root, e.Path), err)
		}
		if b.local != nil {
			b.carry(ctx, &c.top)
		}
	}
	return b.sorter.add(sortedEntry{root: e.Root, path: e.Path, typ: e.Type, size: e.Size, encoded: encoded})
}

// Keep adds an entry as it stands in a file table of this repository, most
// often that of the base: it costs less than Add, and the table comes out with
// the same bytes. Fields that a newer program wrote are kept. It is what Add is
// otherwise, and ErrDamaged says that not everything its content needs is in the
// repository, looked at as Holds does.
func (b *Backup) Keep(ctx context.Context, l Line) error {
	if err := b.enter(ctx); err != nil {
		return err
	}
	defer b.leave()
	if l.Entry == nil || len(l.encoded) == 0 {
		return invalidf("keep an entry of no file table")
	}
	for c := range l.contents() {
		if err := b.holdsAll(ctx, &c); err != nil {
			return fmt.Errorf("keep %s: %w", printable(l.Root, l.Path), err)
		}
		if b.local != nil {
			b.carry(ctx, &c.top)
		}
	}
	return b.sorter.add(l.sorted())
}

// fail stops the backup's pipeline.
func (b *Backup) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pipe.fail(err)
}

// rely notes that the backup builds on what is in a pack.
func (b *Backup) rely(packNo uint32) {
	b.mu.Lock()
	b.relied.set(uint64(packNo))
	b.mu.Unlock()
}

// relyAll is rely for several packs.
func (b *Backup) relyAll(packs []uint32) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, no := range packs {
		b.relied.set(uint64(no))
	}
}

// end closes the gate and says whether this call did it.
func (b *Backup) end() bool {
	b.gate.Lock()
	defer b.gate.Unlock()
	first := !b.ended
	b.ended = true
	return first
}

// Abort ends the backup without a record. Whole packs that were stored stay,
// harmless, and are indexed for the next backup to find. After Commit or Abort
// it does nothing.
func (b *Backup) Abort() error {
	// Wakes calls that wait for the pipeline.
	b.fail(ErrClosed)
	if !b.end() {
		return nil
	}
	b.keeper.halt()
	b.pipe.abort(b.pipe.ctx)
	b.abortLocal()
	return errors.Join(b.keeper.remove(b.pipe.ctx), b.sorter.close())
}

// addParent adds a record to the parents unless it is there.
func addParent(parents []ID, id ID) []ID {
	for _, p := range parents {
		if p == id {
			return parents
		}
	}
	return append(parents[:len(parents):len(parents)], id)
}

package repository

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
)

// Restoration restores many files so that each pack is read once, whichever
// files its chunks belong to: first all files are added, then Run reads the
// packs in the order the files need them and gives every piece to its file.
//
// Memory is bounded however many files there are: the plan is sorted through a
// temporary file in Options.TempDir, 76 bytes for each extent and some 200 for
// each file. docs/decisions/restore-by-pack.md has the reasons.
type Restoration struct {
	r *Repository

	mu    sync.Mutex
	lines lineSorter
	files spool
	packs []knownPack // by rank
	ranks map[ID]uint32
	void  map[int64]bool // files of which not all could be planned
	// many has the number of pieces of files with more than a batch of them.
	many  map[int64]int64
	begun bool

	// unfinished and batch are maxUnfinished and planBatch, but for tests.
	unfinished, batch int
}

// Pieces says which pieces of a file are wanted.
type Pieces int

const (
	// AllPieces is all data of the file.
	AllPieces Pieces = iota
	// UnprovenPieces is what Same could not tell from the file alone.
	UnprovenPieces
)

// RestoreSink is where a Restoration's files go. Its methods are called from
// several goroutines.
type RestoreSink interface {
	// Open begins a file: its first piece is there. The tag is the one that it
	// was added with.
	Open(ctx context.Context, e *Entry, tag uint64) (io.WriterAt, error)

	// Done ends a file, once: with nil when all pieces were written, else with
	// the first error, of Open, of WriteAt, or one that wraps ErrDamaged and
	// names what cannot be read. w is what Open gave, nil if it failed. An
	// error that Done returns ends the Restoration.
	Done(ctx context.Context, e *Entry, tag uint64, w io.WriterAt, err error) error
}

// maxUnfinished is how many files with more than one piece are open at a time.
// Those that would be more are read one by one in the end, and packs for them
// again: files in pieces are opened when their first pack is read, and most
// are finished with the next.
const maxUnfinished = 1024

// maxPlanLines bounds a plan: 1.2 GiB of temporary file, 16 TiB of files with
// chunks of the usual size. A small extent list can claim a file without end.
const maxPlanLines = 1 << 24

// ErrPlanFull says that a Restoration takes no more: it is to be run, and the
// file added to another one, or read with OpenContent.
var ErrPlanFull = errors.New("the restoration's plan is full")

// NewRestoration gives one without files. Close must be called in the end.
func (r *Repository) NewRestoration() *Restoration {
	dir := r.options.TempDir
	return &Restoration{r: r, lines: lineSorter{dir: dir, memory: lineMemory}, files: spool{dir: dir, memory: 4 << 20},
		ranks: map[ID]uint32{}, void: map[int64]bool{}, many: map[int64]int64{}, unfinished: maxUnfinished, batch: planBatch}
}

// Close gives memory and temporary files back.
func (p *Restoration) Close() error { return errors.Join(p.lines.close(), p.files.close()) }

// fileHeader is the length of what stands before an entry in the spool: its
// length, the tag, and the number of pieces, 0 if it is in Restoration.many.
const fileHeader = 4 + 8 + 8

// planBatch is how many lines of one file are collected before they are added.
const planBatch = 1 << 12

// Add plans a file's content. It says how many pieces are to be written: with
// none there is nothing to do, and the sink is never told of the file. With an
// error the file is not in the plan; one that wraps ErrDamaged says that it
// cannot be restored, ErrPlanFull that it must wait. Add may be called from
// several goroutines, and not after Run has begun.
func (p *Restoration) Add(ctx context.Context, e *Entry, tag uint64, which Pieces) (pieces int64, err error) {
	if err := p.r.ready(ctx); err != nil {
		return 0, err
	}
	add := planned{p: p, tag: tag, file: -1}
	if add.encoded, err = e.encode(); err != nil {
		return 0, err
	}
	at := int64(0)
	err = newExtentReader(p.r, e.Content).between(ctx, 0, e.Content.size, func(pc piece) error {
		to := at
		at += pc.length
		if pc.hole || which == UnprovenPieces && pc.proven() {
			return nil
		}
		line, err := p.line(ctx, pc)
		if err != nil {
			return fmt.Errorf("read stored content at %d: %w", to, err)
		}
		line.to = to
		if len(add.batch) == p.batch {
			if err := add.flush(false); err != nil {
				return err
			}
		}
		add.batch = append(add.batch, line)
		return nil
	})
	if err == nil && len(add.batch) > 0 {
		err = add.flush(true)
	}
	if err != nil && add.file >= 0 {
		p.mu.Lock()
		p.void[add.file] = true
		p.mu.Unlock()
	}
	return add.pieces, err
}

// planned is a file that is being added.
type planned struct {
	p       *Restoration
	tag     uint64
	encoded []byte
	file    int64 // where it is in the spool, -1 as long as it is not
	batch   []planLine
	pieces  int64 // before those in the batch
}

// flush adds the lines that were collected.
func (a *planned) flush(last bool) (err error) {
	p := a.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.begun || p.lines.count+int64(len(a.batch)) > maxPlanLines {
		return ErrPlanFull
	}
	a.pieces += int64(len(a.batch))
	if a.file < 0 {
		le := binary.LittleEndian
		b := le.AppendUint32(make([]byte, 0, fileHeader+len(a.encoded)), uint32(len(a.encoded)))
		b = le.AppendUint64(b, a.tag)
		if last {
			b = le.AppendUint64(b, uint64(a.pieces))
		} else {
			b = le.AppendUint64(b, 0)
		}
		if a.file, err = p.files.append(append(b, a.encoded...)); err != nil {
			return err
		}
	} else if last {
		p.many[a.file] = a.pieces
	}
	for i := range a.batch {
		a.batch[i].file = uint64(a.file) << 1
		if last && a.pieces == 1 {
			a.batch[i].file |= 1
		}
	}
	err = p.lines.add(a.batch...)
	a.batch = a.batch[:0]
	return err
}

// proven says that the piece is a chunk, whole: then the bytes of a file tell
// by themselves whether they are the piece's.
func (pc *piece) proven() bool { return pc.offset == 0 && pc.length == int64(pc.chunk.length) }

// line plans a piece: it finds the pack.
func (p *Restoration) line(ctx context.Context, pc piece) (planLine, error) {
	loc, err := p.r.locate(ctx, pc.chunk)
	if err != nil {
		return planLine{}, err
	}
	p.mu.Lock()
	rank, ok := p.ranks[loc.pack.id]
	if !ok {
		rank = uint32(len(p.packs))
		p.ranks[loc.pack.id] = rank
		p.packs = append(p.packs, loc.pack)
	}
	p.mu.Unlock()
	return planLine{rank: rank, offset: loc.offset, size: loc.size, start: loc.start, length: loc.length, id: pc.chunk.id,
		at: pc.offset, n: uint32(pc.length)}, nil
}

// locate finds a place of a chunk that fits what refers to it.
func (r *Repository) locate(ctx context.Context, ref chunkRef) (loc location, err error) {
	find := func() (ok bool, err error) {
		err = r.index.find(ctx, ref.id, func(l location) bool {
			if l.length == ref.length && l.size <= maxFrameBox && !l.pack.absent {
				loc, ok = l, true
			}
			return ok
		})
		return ok, err
	}
	ok, err := find()
	if ok {
		return loc, nil
	}
	if ctx.Err() != nil {
		return loc, ctx.Err()
	}
	// No index knows it, or what they know is wrong. Reading the chunk looks
	// everywhere, and says what is wrong.
	if _, err := r.chunk(ctx, ref.id, ref.length); err != nil {
		return loc, err
	}
	if ok, err = find(); !ok && err == nil {
		err = damagef("chunk %s is in no pack", ref.id)
	}
	return loc, err
}

// plannedFile is a file of the plan, read from the spool.
type plannedFile struct {
	entry  *Entry
	tag    uint64
	pieces int64
}

// describe reads a planned file from the spool.
func (p *Restoration) describe(file int64) (f plannedFile, err error) {
	var header [fileHeader]byte
	if err := p.files.read(header[:], file); err != nil {
		return f, fmt.Errorf("plan restore: %w", err)
	}
	n := binary.LittleEndian.Uint32(header[:])
	if n > MaxEntry {
		return f, errors.New("plan restore: the temporary file was changed")
	}
	encoded := make([]byte, n)
	if err := p.files.read(encoded, file+fileHeader); err != nil {
		return f, fmt.Errorf("plan restore: %w", err)
	}
	f.tag, f.pieces = binary.LittleEndian.Uint64(header[4:]), int64(binary.LittleEndian.Uint64(header[12:]))
	if many, ok := p.many[file]; ok {
		f.pieces = many
	}
	f.entry, _, _, err = decodeEntry(encoded)
	return f, err
}

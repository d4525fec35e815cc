package repository

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/sombra-backup/sombra/repository/store"
)

// pipeline takes new chunks to the store: frames are filled in the callers'
// goroutines, compressed by workers, encrypted into packs, and packs are put
// by uploaders. Every queue is short, so a slow store holds the callers back.
// The first error stops all of it.
type pipeline struct {
	r      *Repository
	ctx    context.Context
	cancel context.CancelCauseFunc

	frames  chan frameJob
	uploads chan *packBuilder
	workers sync.WaitGroup
	putters sync.WaitGroup

	open  [2]openFrames
	packs [2]openPack
	// buffers keeps the memory of frames, by size, objects that of packs.
	buffers [len(bufferSizes)]sync.Pool
	objects chan []byte

	mu    sync.Mutex
	batch indexBatch
	// written are the index objects put so far.
	written []ID
	// indexed is told which chunks can from now on be found in the index.
	indexed func(lines []indexLine)

	stored atomic.Int64
}

// frameJob is a frame to be compressed.
type frameJob struct {
	kind   objectKind
	data   []byte
	chunks []packedChunk
}

// openFrames is the frame that small chunks of a kind are collected in.
type openFrames struct {
	mu sync.Mutex
	frameJob
}

// openPack is the pack that frames of a kind go to.
type openPack struct {
	mu      sync.Mutex
	builder *packBuilder
	// first is the memory of the first one.
	first []byte
}

const (
	// A chunk of at least largeChunk bytes is a frame by itself. Smaller ones
	// share frames of about dataFrame, or metaFrame, bytes: less is read for
	// one block of a table.
	largeChunk = 256 << 10
	dataFrame  = 1 << 20
	metaFrame  = 256 << 10
	// uploaders is how many packs are put at once, unless the store says what
	// it gains by; maxUploaders bounds that, and the memory it takes.
	uploaders    = 2
	maxUploaders = 4
	// smallPack is the memory a backup's first pack of a kind begins in: many
	// backups have little to say.
	smallPack = 1 << 20
	// packChunks is the most chunks the writer puts into one pack.
	packChunks = 1 << 15
	// An index object is written when it has batchLines lines or batchPacks
	// packs, so that what an interrupted backup stored is found again.
	batchLines = 1 << 17
	batchPacks = 64
)

// kindNumber counts the kinds of packs from zero.
func kindNumber(k objectKind) int {
	if k == kindMetaPack {
		return 1
	}
	return 0
}

// newPipeline starts the goroutines, which end when drain or stop is called.
func newPipeline(ctx context.Context, r *Repository, indexed func([]indexLine)) *pipeline {
	p := &pipeline{
		r: r, indexed: indexed,
		frames:  make(chan frameJob, 1),
		uploads: make(chan *packBuilder),
	}
	p.ctx, p.cancel = context.WithCancelCause(ctx)
	for i := range p.buffers {
		p.buffers[i].New = func() any { b := make([]byte, 0, bufferSizes[i]); return &b }
	}
	putters := r.uploaders()
	p.objects = make(chan []byte, putters+1)
	for i := range p.packs {
		p.packs[i].first = make([]byte, 0, min(smallPack, r.options.PackSize))
	}
	for range r.options.Workers {
		p.workers.Go(p.compress)
	}
	for range putters {
		p.putters.Go(p.upload)
	}
	return p
}

// uploaders is how many packs are put at once.
func (r *Repository) uploaders() int {
	if c, ok := r.store.(store.Concurrent); ok && c.Concurrency() > 0 {
		return min(c.Concurrency(), maxUploaders)
	}
	return uploaders
}

// fail stops the pipeline; the first error is the one that callers get.
func (p *pipeline) fail(err error) { p.cancel(err) }

// err is why the pipeline stopped.
func (p *pipeline) err() error { return context.Cause(p.ctx) }

// addLarge takes in a new chunk of at least largeChunk bytes, and the memory that
// it is in, which is of buffer.
func (p *pipeline) addLarge(kind objectKind, id ID, data []byte) error {
	return p.send(frameJob{kind, data, []packedChunk{{id, uint32(len(data))}}})
}

// add takes in a new chunk. It copies the data.
func (p *pipeline) add(kind objectKind, id ID, data []byte) error {
	if len(data) >= largeChunk {
		return p.addLarge(kind, id, append(p.buffer(len(data)), data...))
	}
	chunk := packedChunk{id, uint32(len(data))}
	target := dataFrame
	if kind == kindMetaPack {
		target = metaFrame
	}
	f := &p.open[kindNumber(kind)]
	f.mu.Lock()
	if f.data == nil {
		f.data = p.buffer(target + largeChunk)
	}
	f.kind = kind
	f.data = append(f.data, data...)
	f.chunks = append(f.chunks, chunk)
	if len(f.data) < target && len(f.chunks) < packChunks {
		f.mu.Unlock()
		return nil
	}
	job := f.frameJob
	f.frameJob = frameJob{}
	f.mu.Unlock()
	return p.send(job)
}

// bufferSizes are the sizes of the memory that frames are kept in.
var bufferSizes = [...]int{dataFrame + largeChunk, 2 << 20, maxChunk}

// buffer gives empty memory for n bytes, at most maxChunk.
func (p *pipeline) buffer(n int) []byte {
	i := 0
	for n > bufferSizes[i] {
		i++
	}
	return *p.buffers[i].Get().(*[]byte)
}

// giveBack takes the memory of a frame.
func (p *pipeline) giveBack(b []byte) {
	i := slices.Index(bufferSizes[:], cap(b))
	if i < 0 {
		return // it was made anew when it grew
	}
	b = b[:0]
	p.buffers[i].Put(&b)
}

// flush ends the frame that chunks of a kind are collected in, so that those
// added from now on share none with those before.
func (p *pipeline) flush(kind objectKind) error {
	f := &p.open[kindNumber(kind)]
	f.mu.Lock()
	job := f.frameJob
	f.frameJob = frameJob{}
	f.mu.Unlock()
	if len(job.chunks) == 0 {
		return nil
	}
	return p.send(job)
}

// send hands a frame to the workers.
func (p *pipeline) send(job frameJob) error {
	select {
	case p.frames <- job:
		return nil
	case <-p.ctx.Done():
		return p.err()
	}
}

// compress is a worker: it takes frames until there are no more.
func (p *pipeline) compress() {
	data, meta := newEncoder(zstd.SpeedFastest), newEncoder(zstd.SpeedDefault)
	defer data.Close()
	defer meta.Close()
	var frame []byte
	for job := range p.frames {
		if p.ctx.Err() != nil {
			continue
		}
		enc := data
		if job.kind == kindMetaPack {
			enc = meta
		}
		frame = appendFrame(frame[:0], enc, job.data)
		if err := p.pack(job.kind, frame, job.chunks); err != nil {
			p.fail(err)
		}
		p.giveBack(job.data)
	}
}

// pack encrypts a frame into the open pack of its kind. If there is no room for
// it there, that pack is handed on first; others wait until that is done, so that
// there are never more packs in memory than one of each kind, one of each kind
// that waits, and those being put.
func (p *pipeline) pack(kind objectKind, frame []byte, chunks []packedChunk) error {
	o := &p.packs[kindNumber(kind)]
	o.mu.Lock()
	defer o.mu.Unlock()
	if b := o.builder; b != nil && (len(b.object)+len(frame)+boxOverhead > p.r.options.PackSize || b.chunks+len(chunks) > packChunks) {
		o.builder = nil
		select {
		case p.uploads <- b:
		case <-p.ctx.Done():
			return p.err()
		}
	}
	if o.builder == nil {
		memory := o.first
		if o.first = nil; memory == nil {
			memory = p.object()
		}
		b, err := newPackBuilder(p.r.keys, kind, memory)
		if err != nil {
			return err
		}
		o.builder = b
	}
	if b := o.builder; cap(b.object) < p.r.options.PackSize && cap(b.object)-len(b.object) < len(frame)+boxOverhead {
		b.object = append(p.object(), b.object...)
	}
	o.builder.add(frame, chunks)
	return nil
}

// object gives empty memory for a pack and its directory.
func (p *pipeline) object() []byte {
	select {
	case object := <-p.objects:
		return object
	default:
		return make([]byte, 0, p.r.options.PackSize+p.r.options.PackSize/16)
	}
}

// upload puts packs until there are no more.
func (p *pipeline) upload() {
	for b := range p.uploads {
		if p.ctx.Err() != nil {
			continue
		}
		if err := p.put(b); err != nil {
			p.fail(err)
		}
	}
}

// put stores one pack and writes an index object when enough have come
// together. A pack's name is the hash of bytes that are random to everyone: if
// the name is taken, an earlier try of this very Put has succeeded.
func (p *pipeline) put(b *packBuilder) error {
	object := b.finish()
	id := hashObject(object)
	if err := p.r.put(p.ctx, packName(b.kind, id), object); err != nil {
		return err
	}
	p.stored.Add(int64(len(object)))
	size := int64(len(object))
	if cap(object) >= p.r.options.PackSize {
		select {
		case p.objects <- object[:0]:
		default:
		}
	}

	p.mu.Lock()
	defer p.mu.Unlock()
	p.batch.add(b.kind, id, size, b.frames)
	return p.indexFullLocked()
}

// index takes in packs that are in the store already.
func (p *pipeline) index(batch *indexBatch) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.batch.lines)+len(batch.lines) > maxIndexEntries {
		if err := p.writeIndexLocked(p.ctx); err != nil {
			return err
		}
	}
	p.batch.join(batch)
	return p.indexFullLocked()
}

// indexFullLocked writes an index object if enough has come together.
func (p *pipeline) indexFullLocked() error {
	if len(p.batch.lines) < batchLines && len(p.batch.packs) < batchPacks {
		return nil
	}
	return p.writeIndexLocked(p.ctx)
}

// writeIndexLocked puts the index object for the packs put since the last.
func (p *pipeline) writeIndexLocked(ctx context.Context) error {
	if len(p.batch.packs) == 0 {
		return nil
	}
	batch := p.batch
	p.batch = indexBatch{}
	object := batch.encode(p.r.keys, nil)
	id := hashObject(object)
	if err := p.r.put(ctx, indexName(id), object); err != nil {
		return err
	}
	p.stored.Add(int64(len(object)))
	p.written = append(p.written, id)
	prefixes := make([]uint32, len(batch.lines))
	for i, line := range batch.lines {
		prefixes[i] = idPrefix(line.id)
	}
	idx, err := decodeIndex(p.r.keys, object)
	if err != nil {
		return fmt.Errorf("read back index %s: %w", id.Short(), err)
	}
	p.r.index.mu.Lock()
	err = p.r.index.addLocked(&indexPart{name: id, index: idx}, prefixes, true)
	p.r.index.mu.Unlock()
	if err == nil {
		p.indexed(batch.lines)
	}
	return err
}

// drain takes everything added so far to the store and waits until it is
// durable. Nothing may be added any more.
func (p *pipeline) drain() error {
	for _, kind := range []objectKind{kindDataPack, kindMetaPack} {
		if p.flush(kind) != nil {
			break
		}
	}
	close(p.frames)
	p.workers.Wait()
	for i := range p.packs {
		if b := p.packs[i].builder; b != nil && p.ctx.Err() == nil {
			select {
			case p.uploads <- b:
			case <-p.ctx.Done():
			}
		}
		p.packs[i].builder = nil
	}
	close(p.uploads)
	p.putters.Wait()
	if err := p.err(); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.cancel(ErrClosed)
	return p.writeIndexLocked(p.ctx)
}

// abortTime is how long an aborted backup may take to index what it stored.
const abortTime = 10 * time.Second

// abort ends the pipeline. Packs that are in the store already get their
// index object, if the store is still there to take it, so that the next
// backup finds them.
func (p *pipeline) abort(ctx context.Context) {
	p.fail(ErrClosed)
	p.drain()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTime)
	defer cancel()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.writeIndexLocked(ctx)
}

// put puts an object whose name is its hash.
func (r *Repository) put(ctx context.Context, name string, object []byte) error {
	err := r.store.Put(ctx, name, object)
	if err == nil || errors.Is(err, store.ErrExist) {
		return nil
	}
	return &ObjectError{"put", name, err}
}

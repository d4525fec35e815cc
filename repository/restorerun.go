package repository

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// A Restoration is run by three kinds of goroutines: one goes through the plan
// and makes it spans of packs, some read spans, so that a store far away is
// asked for several at once, and some open the frames of a span and write.
// There are only so many buffers for spans.

const (
	// spanBytes is the most that is read of a pack at once, unless one frame
	// is more: all of a pack of the usual size.
	spanBytes = 20 << 20
	// spanGap is how many bytes that nobody wants are read rather than asking
	// the store twice.
	spanGap = 128 << 10
	// spanLines bounds the lines of a span: a chunk may be in many files.
	spanLines = 1 << 17
	// spanBuffers is how many spans are in memory, spanReaders how many are
	// read at a time.
	spanBuffers = 3
	spanReaders = 2
)

// span is a stretch of a pack and the frames wanted of it.
type span struct {
	pack   knownPack
	offset int64
	length int64
	frames []spanFrame

	// buf is what was read, nil if it could not be; memory is its memory.
	buf, memory []byte
	left        atomic.Int64 // frames that are not done
}

// spanFrame is a frame of a span and the pieces wanted of it.
type spanFrame struct {
	offset, size uint32
	lines        []planLine
	// again says that the frame was in the span before: it had too many lines.
	again bool
}

// frameTask is a frame that was read.
type frameTask struct {
	*span
	frame int
}

// Run restores all that was added. It may be called once. The error is one of
// the store's temporary files, of a sink's Done, or the context's; what is wrong
// with a file the sink is told.
func (p *Restoration) Run(ctx context.Context, sink RestoreSink) error {
	p.mu.Lock()
	p.begun = true
	p.mu.Unlock()
	if err := p.files.flush(); err != nil {
		return fmt.Errorf("plan restore: %w", err)
	}
	next, err := p.lines.sorted()
	if err != nil {
		return err
	}
	workers := max(2, runtime.GOMAXPROCS(0))
	group, inner := errgroup.WithContext(ctx)
	run := &restoreRun{p: p, sink: sink, files: map[int64]*unfinished{}, spans: make(chan *span), frames: make(chan frameTask),
		buffers: make(chan []byte, spanBuffers)}
	for range spanBuffers {
		run.buffers <- nil
	}
	var readers sync.WaitGroup
	readers.Add(spanReaders)
	group.Go(func() error { return run.split(inner, next) })
	for range spanReaders {
		group.Go(func() error {
			defer readers.Done()
			return run.read(inner)
		})
	}
	group.Go(func() error {
		readers.Wait()
		close(run.frames)
		return nil
	})
	for range workers {
		group.Go(func() error { return run.work(inner) })
	}
	if err := group.Wait(); err != nil {
		run.abandon(err)
		return err
	}
	return run.postponed(ctx)
}

// restoreRun is a Restoration that is run.
type restoreRun struct {
	p       *Restoration
	sink    RestoreSink
	spans   chan *span
	frames  chan frameTask
	buffers chan []byte

	mu    sync.Mutex
	files map[int64]*unfinished
	open  int
	late  []int64 // files to be read by themselves, as too many were unfinished
}

// split makes spans of the plan's lines.
func (r *restoreRun) split(ctx context.Context, next func() (planLine, error)) error {
	defer close(r.spans)
	send := func(s *span) error {
		if s == nil {
			return nil
		}
		select {
		case r.spans <- s:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	var s *span
	rank, lines := uint32(0), 0
	for {
		l, err := next()
		if err == io.EOF {
			return send(s)
		}
		if err != nil {
			return err
		}
		if s != nil && l.rank == rank {
			last := &s.frames[len(s.frames)-1]
			same := l.offset == last.offset && l.size == last.size
			if lines < spanLines && (same || s.fits(l)) {
				if !same {
					s.frames = append(s.frames, spanFrame{offset: l.offset, size: l.size})
					s.length = max(s.length, int64(l.offset)+int64(l.size)-s.offset)
					last = &s.frames[len(s.frames)-1]
				}
				last.lines = append(last.lines, l)
				lines++
				continue
			}
			if err := send(s); err != nil {
				return err
			}
			s = newSpan(r.p.packs[rank], l, same)
		} else {
			if err := send(s); err != nil {
				return err
			}
			rank = l.rank
			s = newSpan(r.p.packs[rank], l, false)
		}
		lines = 1
	}
}

// newSpan begins a span. One that begins near the pack's begins with its header,
// which is needed to open anything.
func newSpan(pack knownPack, l planLine, again bool) *span {
	s := &span{pack: pack, offset: int64(l.offset), frames: []spanFrame{{offset: l.offset, size: l.size, lines: []planLine{l}, again: again}}}
	if s.offset <= headerSize+spanGap && !again {
		s.offset = 0
	}
	s.length = int64(l.offset) + int64(l.size) - s.offset
	return s
}

// fits says whether the line's frame can be read with the span.
func (s *span) fits(l planLine) bool {
	end := s.offset + s.length
	return int64(l.offset) <= end+spanGap && int64(l.offset)+int64(l.size)-s.offset <= spanBytes
}

// read reads spans and hands out their frames.
func (r *restoreRun) read(ctx context.Context) error {
	for s := range r.spans {
		select {
		case s.memory = <-r.buffers:
		case <-ctx.Done():
			return ctx.Err()
		}
		r.fetch(ctx, s)
		s.left.Store(int64(len(s.frames)))
		for i := range s.frames {
			select {
			case r.frames <- frameTask{s, i}:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return ctx.Err()
}

// fetch reads a span. If that fails the span has no bytes, and its chunks are
// sought one by one.
func (r *restoreRun) fetch(ctx context.Context, s *span) {
	if s.frames[0].again {
		return
	}
	repo := r.p.r
	if int64(cap(s.memory)) < s.length {
		s.memory = make([]byte, max(s.length, int64(min(repo.options.PackSize+1<<20, spanBytes))))
	}
	buf := s.memory[:s.length]
	if readFull(ctx, repo.store, packName(s.pack.kind, s.pack.id), buf, s.offset) != nil {
		return
	}
	s.buf = buf
	if _, ok := repo.ciphers.get(s.pack.id); !ok && s.offset == 0 && s.length >= headerSize {
		if c, err := repo.keys.openObject(s.pack.kind, buf[:headerSize]); err == nil {
			repo.ciphers.put(s.pack.id, c, 1)
		}
	}
	// Once, before several goroutines ask for it; an error they will meet again.
	repo.packCipher(ctx, s.pack)
}

// work opens frames and writes the pieces in them.
func (r *restoreRun) work(ctx context.Context) error {
	var memory []byte
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case job, ok := <-r.frames:
			if !ok {
				return nil
			}
			var err error
			memory, err = r.frame(ctx, job, memory)
			if job.left.Add(-1) == 0 {
				r.buffers <- job.memory // it has room for all there are
			}
			if err != nil {
				return err
			}
		}
	}
}

// frame writes the pieces of a frame. memory is for its chunks.
func (r *restoreRun) frame(ctx context.Context, job frameTask, memory []byte) ([]byte, error) {
	f := &job.frames[job.frame]
	data, memory, whole := r.decode(ctx, job, memory)
	var chunk []byte
	var chunkErr error
	for i, l := range f.lines {
		if i == 0 || l.start != f.lines[i-1].start || l.id != f.lines[i-1].id || l.length != f.lines[i-1].length {
			chunk, chunkErr = r.chunk(ctx, job.pack, data, l, whole)
		}
		var piece []byte
		if chunkErr == nil {
			piece = chunk[l.at : l.at+l.n]
		}
		if err := r.deliver(ctx, l, piece, chunkErr); err != nil {
			return memory, err
		}
	}
	return memory, ctx.Err()
}

// decode gives the chunks of a frame, and whether they are whole: else they are
// sought elsewhere.
func (r *restoreRun) decode(ctx context.Context, job frameTask, memory []byte) (data, kept []byte, whole bool) {
	repo, f := r.p.r, &job.frames[job.frame]
	if job.buf == nil {
		return nil, memory, false
	}
	c, err := repo.packCipher(ctx, job.pack)
	if err != nil {
		return nil, memory, false
	}
	begin := int64(f.offset) - job.offset
	plain, err := openBox(c, boxFrame, int64(f.offset), job.buf[begin:begin+int64(f.size)])
	if err != nil {
		return nil, memory, false
	}
	if len(plain) >= frameHeaderSize {
		if n := binary.LittleEndian.Uint32(plain[1:]); n <= maxChunk && int(n) > cap(memory) {
			memory = make([]byte, 0, max(int(n), 1<<20))
		}
	}
	data, err = decodeFrameInto(repo.decoder, plain, memory)
	return data, memory, err == nil
}

// chunk gives the verified bytes of a line's chunk.
func (r *restoreRun) chunk(ctx context.Context, pack knownPack, data []byte, l planLine, whole bool) ([]byte, error) {
	if end := uint64(l.start) + uint64(l.length); whole && end <= uint64(len(data)) {
		if chunk := data[l.start:end]; r.p.r.keys.chunkID(pack.kind, chunk) == l.id {
			return chunk, nil
		}
	}
	return r.p.r.chunk(ctx, l.id, l.length)
}

// postponed restores the files that were too many.
func (r *restoreRun) postponed(ctx context.Context) error {
	for _, file := range r.late {
		f, err := r.p.describe(file)
		if err != nil {
			return err
		}
		w, err := r.sink.Open(ctx, f.entry, f.tag)
		if err == nil {
			var stored *File
			if stored, err = r.p.r.OpenContent(ctx, f.entry.Content); err == nil {
				err = stored.Each(ctx, func(at int64, data []byte) error {
					_, err := w.WriteAt(data, at)
					return err
				})
			}
		}
		if err := r.sink.Done(ctx, f.entry, f.tag, w, err); err != nil {
			return err
		}
	}
	return nil
}

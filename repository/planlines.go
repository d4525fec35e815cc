package repository

import (
	"bufio"
	"cmp"
	"container/heap"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"slices"
)

// planLine is a piece of a file and where it is stored.
type planLine struct {
	// rank orders the packs as the files first need them.
	rank uint32
	// offset and size are the frame's box, start and length the chunk in it.
	offset, size, start, length uint32
	id                          ID
	// at and n are the piece in the chunk.
	at, n uint32
	// file is where the file's description lies in the plan's spool, shifted
	// by one; the lowest bit says that the file has no other piece.
	file uint64
	// to is where in the file the piece belongs.
	to int64
}

const planLineSize = 7*4 + IDSize + 2*8

func (l *planLine) compare(m *planLine) int {
	return cmp.Or(cmp.Compare(l.rank, m.rank), cmp.Compare(l.offset, m.offset), cmp.Compare(l.start, m.start),
		cmp.Compare(l.file, m.file), cmp.Compare(l.to, m.to))
}

func (l *planLine) append(b []byte) []byte {
	le := binary.LittleEndian
	for _, v := range [...]uint32{l.rank, l.offset, l.size, l.start, l.length, l.at, l.n} {
		b = le.AppendUint32(b, v)
	}
	b = append(b, l.id[:]...)
	b = le.AppendUint64(b, l.file)
	return le.AppendUint64(b, uint64(l.to))
}

func readPlanLine(b []byte) (l planLine) {
	le := binary.LittleEndian
	for i, v := range [...]*uint32{&l.rank, &l.offset, &l.size, &l.start, &l.length, &l.at, &l.n} {
		*v = le.Uint32(b[4*i:])
	}
	b = b[7*4:]
	copy(l.id[:], b)
	l.file, l.to = le.Uint64(b[IDSize:]), int64(le.Uint64(b[IDSize+8:]))
	return l
}

// lineMemory is how many lines are sorted in memory before a run of them goes
// to a temporary file: 10 MiB of them.
const lineMemory = 10 << 20 / planLineSize

// lineSorter sorts any number of lines with bounded memory. It is not for
// several goroutines.
type lineSorter struct {
	dir    string
	memory int // in lines
	lines  []planLine
	count  int64
	file   *tempFile
	runs   []Range
	end    int64
}

func (s *lineSorter) add(lines ...planLine) error {
	s.count += int64(len(lines))
	if len(s.lines) > 1<<10 && cap(s.lines) < s.memory { // grow once
		s.lines = slices.Grow(s.lines, s.memory+planBatch-len(s.lines))
	}
	s.lines = append(s.lines, lines...)
	if len(s.lines) < s.memory {
		return nil
	}
	return s.spill()
}

func (s *lineSorter) sort() {
	slices.SortFunc(s.lines, func(a, b planLine) int { return a.compare(&b) })
}

// spill writes the lines in memory to the file, as one sorted run.
func (s *lineSorter) spill() (err error) {
	if s.file == nil {
		if s.file, err = newTempFile(s.dir, "sombra-restore-*"); err != nil {
			return fmt.Errorf("plan restore: %w", err)
		}
	}
	s.sort()
	w := bufio.NewWriterSize(io.NewOffsetWriter(s.file, s.end), 256<<10)
	begin := s.end
	var b []byte
	for i := range s.lines {
		b = s.lines[i].append(b[:0])
		if _, err := w.Write(b); err != nil {
			return fmt.Errorf("plan restore: %w", err)
		}
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("plan restore: %w", err)
	}
	s.end += int64(len(s.lines)) * planLineSize
	s.runs = append(s.runs, Range{begin, s.end - begin})
	s.lines = s.lines[:0]
	return nil
}

// sorted gives all lines in order, io.EOF after the last. Nothing may be added
// any more.
func (s *lineSorter) sorted() (next func() (planLine, error), err error) {
	if len(s.runs) > 0 {
		if err := s.spill(); err != nil {
			return nil, err
		}
		s.lines = nil
		h := &lineHeap{}
		for _, run := range s.runs {
			r := &lineRun{r: bufio.NewReaderSize(io.NewSectionReader(s.file, run.Offset, run.Length), 64<<10)}
			if err := r.advance(); err == nil {
				heap.Push(h, r)
			} else if err != io.EOF {
				return nil, err
			}
		}
		return h.next, nil
	}
	s.sort()
	i := 0
	return func() (planLine, error) {
		if i == len(s.lines) {
			return planLine{}, io.EOF
		}
		i++
		return s.lines[i-1], nil
	}, nil
}

func (s *lineSorter) close() error {
	s.lines = nil
	return s.file.close()
}

// lineRun is a sorted run and the line it is at.
type lineRun struct {
	r    *bufio.Reader
	head planLine
}

func (r *lineRun) advance() error {
	var b [planLineSize]byte
	if _, err := io.ReadFull(r.r, b[:]); err == io.EOF {
		return err
	} else if err != nil {
		return fmt.Errorf("plan restore: the temporary file: %w", err)
	}
	r.head = readPlanLine(b[:])
	return nil
}

// lineHeap merges sorted runs.
type lineHeap []*lineRun

func (h lineHeap) Len() int           { return len(h) }
func (h lineHeap) Less(i, j int) bool { return h[i].head.compare(&h[j].head) < 0 }
func (h lineHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *lineHeap) Push(x any)        { *h = append(*h, x.(*lineRun)) }
func (h *lineHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

func (h *lineHeap) next() (planLine, error) {
	if len(*h) == 0 {
		return planLine{}, io.EOF
	}
	run := (*h)[0]
	l := run.head
	switch err := run.advance(); {
	case err == io.EOF:
		heap.Pop(h)
	case err != nil:
		return l, err
	default:
		heap.Fix(h, 0)
	}
	return l, nil
}

// tempFile is a file that goes with the process where the system allows it.
type tempFile struct {
	*os.File
	unlinked bool
}

func newTempFile(dir, pattern string) (*tempFile, error) {
	f, err := os.CreateTemp(dir, pattern)
	if err != nil {
		return nil, err
	}
	return &tempFile{f, os.Remove(f.Name()) == nil}, nil
}

// close removes the file; of none it does nothing.
func (f *tempFile) close() error {
	if f == nil {
		return nil
	}
	err := f.File.Close()
	if !f.unlinked {
		err = os.Remove(f.Name())
	}
	return err
}

// spool keeps byte strings, the first in memory, all others in a temporary
// file. Appending and reading may not overlap.
type spool struct {
	dir    string
	memory int
	head   []byte
	file   *tempFile
	w      *bufio.Writer
	end    int64
}

// append adds the bytes, and says where they are.
func (s *spool) append(b []byte) (at int64, err error) {
	at = s.end
	s.end += int64(len(b))
	if s.file == nil && len(s.head)+len(b) <= s.memory {
		s.head = append(s.head, b...)
		return at, nil
	}
	if s.file == nil {
		if s.file, err = newTempFile(s.dir, "sombra-restore-*"); err != nil {
			return 0, fmt.Errorf("plan restore: %w", err)
		}
		s.w = bufio.NewWriterSize(s.file, 256<<10)
	}
	if _, err = s.w.Write(b); err != nil {
		err = fmt.Errorf("plan restore: %w", err)
	}
	return at, err
}

// flush ends the appending.
func (s *spool) flush() error {
	if s.w == nil {
		return nil
	}
	return s.w.Flush()
}

// read fills p from what lies at the place.
func (s *spool) read(p []byte, at int64) error {
	if at < int64(len(s.head)) {
		if copy(p, s.head[at:]) < len(p) {
			return io.ErrUnexpectedEOF
		}
		return nil
	}
	if s.file == nil {
		return io.ErrUnexpectedEOF
	}
	_, err := s.file.ReadAt(p, at-int64(len(s.head)))
	return err
}

func (s *spool) close() error {
	s.head = nil
	return s.file.close()
}

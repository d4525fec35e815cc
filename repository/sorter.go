package repository

import (
	"bufio"
	"cmp"
	"container/heap"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
)

// sortMemory is how many bytes of entries are sorted in memory before a run of
// them goes to a temporary file.
const sortMemory = 24 << 20

// sortedEntry is an encoded entry with what the table writer must know of it.
type sortedEntry struct {
	root, path string
	typ        FileType
	size       int64
	// seq counts the entries as they were added.
	seq     uint64
	encoded []byte
	// leaf, if it is not nil, stands for all entries of a block, of which this is
	// the first; encoded is nil then.
	leaf *keptLeaf
}

func (e *sortedEntry) compare(f *sortedEntry) int {
	return cmp.Or(ComparePaths(e.root, e.path, f.root, f.path), cmp.Compare(e.seq, f.seq))
}

// entrySorter sorts any number of entries with bounded memory. add may be
// called from several goroutines; each and close only when that has ended.
type entrySorter struct {
	dir    string
	memory int

	mu    sync.Mutex
	items []sortedEntry
	bytes int
	seq   uint64
	// leaves are the kept ones.
	leaves []sortedEntry
	file   *os.File
	// runs are the stretches of the file that are sorted; end is its length.
	runs []Range
	end  int64
	// unlinked says that the file has lost its name already.
	unlinked bool
}

func newEntrySorter(dir string) *entrySorter { return &entrySorter{dir: dir, memory: sortMemory} }

// add takes in an entry.
func (s *entrySorter) add(e sortedEntry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e.seq = s.seq
	s.seq++
	s.items = append(s.items, e)
	if s.bytes += len(e.encoded) + len(e.path) + 100; s.bytes < s.memory {
		return nil
	}
	return s.spill()
}

// spill writes the entries in memory to the file, as one sorted run.
func (s *entrySorter) spill() error {
	if s.file == nil {
		f, err := os.CreateTemp(s.dir, "sombra-table-*")
		if err != nil {
			return fmt.Errorf("sort file table: %w", err)
		}
		// Where the system allows it the file has no name from here on, and
		// goes with the process.
		s.file, s.unlinked = f, os.Remove(f.Name()) == nil
	}
	s.sortItems()
	w := bufio.NewWriterSize(io.NewOffsetWriter(s.file, s.end), 256<<10)
	begin := s.end
	for i := range s.items {
		n, err := s.items[i].write(w)
		if err != nil {
			return fmt.Errorf("sort file table: %w", err)
		}
		s.end += n
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("sort file table: %w", err)
	}
	s.runs = append(s.runs, Range{begin, s.end - begin})
	clear(s.items)
	s.items, s.bytes = s.items[:0], 0
	return nil
}

// maxKeptLeaves bounds how many leaves are kept in memory, at some 400 bytes: those
// of 13 million entries.
const maxKeptLeaves = 1 << 16

// addLeaf takes in a whole leaf. If there are too many of them it does not.
func (s *entrySorter) addLeaf(first sortedEntry, k *keptLeaf) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.leaves) == maxKeptLeaves {
		return false
	}
	first.seq, first.leaf = s.seq, k
	s.seq++
	s.leaves = append(s.leaves, first)
	return true
}

func (s *entrySorter) sortItems() {
	sortEntries(s.items)
	sortEntries(s.leaves)
}

// sortEntries sorts what often is sorted.
func sortEntries(list []sortedEntry) {
	compare := func(a, b sortedEntry) int { return a.compare(&b) }
	if !slices.IsSortedFunc(list, compare) {
		slices.SortFunc(list, compare)
	}
}

// runHeader is the length of the numbers before an entry in a run.
const runHeader = 4 + 4 + 4 + 1 + 8 + 8

func (e *sortedEntry) write(w io.Writer) (int64, error) {
	var h [runHeader]byte
	le := binary.LittleEndian
	le.PutUint32(h[0:], uint32(len(e.root)))
	le.PutUint32(h[4:], uint32(len(e.path)))
	le.PutUint32(h[8:], uint32(len(e.encoded)))
	h[12] = byte(e.typ)
	le.PutUint64(h[13:], uint64(e.size))
	le.PutUint64(h[21:], e.seq)
	n := int64(0)
	for _, p := range [][]byte{h[:], []byte(e.root), []byte(e.path), e.encoded} {
		m, err := w.Write(p)
		n += int64(m)
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// readSorted reads what write wrote; io.EOF at the end of the run.
func readSorted(r io.Reader) (e sortedEntry, err error) {
	var h [runHeader]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return e, err
	}
	le := binary.LittleEndian
	root, path, encoded := int(le.Uint32(h[0:])), int(le.Uint32(h[4:])), int(le.Uint32(h[8:]))
	if root > MaxName || path > MaxPath || encoded > MaxEntry {
		return e, fmt.Errorf("the temporary file was changed")
	}
	b := make([]byte, root+path+encoded)
	if _, err := io.ReadFull(r, b); err != nil {
		return e, fmt.Errorf("the temporary file ends early: %v", err)
	}
	return sortedEntry{
		root: string(b[:root]), path: string(b[root : root+path]), encoded: b[root+path:],
		typ: FileType(h[12]), size: int64(le.Uint64(h[13:])), seq: le.Uint64(h[21:]),
	}, nil
}

// each calls f for every entry in order; of several with one place, for the
// one added last. A leaf comes whole if nothing else lies among its entries.
func (s *entrySorter) each(ctx context.Context, f func(sortedEntry) error) error {
	s.sortItems()
	next, err := s.merged(ctx)
	if err != nil {
		return err
	}
	var held sortedEntry
	holding := false
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		e, err := next()
		if err != nil && err != io.EOF {
			return fmt.Errorf("sort file table: %w", err)
		}
		if holding && (err == io.EOF || ComparePaths(held.root, held.path, e.root, e.path) != 0) {
			if err := f(held); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		held, holding = e, true
	}
}

// merged gives the entries of all runs and of memory in order.
func (s *entrySorter) merged(ctx context.Context) (next func() (sortedEntry, error), err error) {
	memory := listed(s.items)
	if len(s.runs) == 0 && len(s.leaves) == 0 {
		return memory, nil
	}
	h := &runHeap{}
	for _, run := range s.runs {
		r := bufio.NewReaderSize(io.NewSectionReader(s.file, run.Offset, run.Length), 64<<10)
		if err := h.start(func() (sortedEntry, error) { return readSorted(r) }); err != nil {
			return nil, fmt.Errorf("sort file table: %w", err)
		}
	}
	if err := h.start(memory); err != nil {
		return nil, err
	}
	if err := h.start(listed(s.leaves)); err != nil {
		return nil, err
	}
	return func() (sortedEntry, error) {
		for {
			e, err := h.next()
			if err != nil || e.leaf == nil || h.whole(&e) {
				return e, err
			}
			lines, err := e.leaf.lines(ctx)
			if err != nil {
				return e, err
			}
			list := make([]sortedEntry, len(lines))
			for i := range lines {
				list[i] = lines[i].sorted()
				list[i].seq = e.seq
			}
			if err := h.start(listed(list)); err != nil {
				return e, err
			}
		}
	}, nil
}

// listed gives the entries of a list.
func listed(list []sortedEntry) func() (sortedEntry, error) {
	return func() (e sortedEntry, err error) {
		if len(list) == 0 {
			return e, io.EOF
		}
		e, list = list[0], list[1:]
		return e, nil
	}
}

// runHeap merges sorted runs.
type runHeap []*sortRun

type sortRun struct {
	head sortedEntry
	next func() (sortedEntry, error)
}

func (h runHeap) Len() int           { return len(h) }
func (h runHeap) Less(i, j int) bool { return h[i].head.compare(&h[j].head) < 0 }
func (h runHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *runHeap) Push(x any)        { *h = append(*h, x.(*sortRun)) }
func (h *runHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

// start takes in a run.
func (h *runHeap) start(next func() (sortedEntry, error)) error {
	head, err := next()
	if err == io.EOF {
		return nil
	}
	if err == nil {
		heap.Push(h, &sortRun{head, next})
	}
	return err
}

// whole says whether nothing that is to come lies among the entries of a leaf.
func (h *runHeap) whole(first *sortedEntry) bool {
	if len(*h) == 0 {
		return true
	}
	next, last := &(*h)[0].head, &first.leaf.last
	return ComparePaths(next.root, next.path, last.root, last.path) > 0
}

// next gives the least entry of all runs.
func (h *runHeap) next() (sortedEntry, error) {
	if len(*h) == 0 {
		return sortedEntry{}, io.EOF
	}
	run := (*h)[0]
	e := run.head
	head, err := run.next()
	switch {
	case err == io.EOF:
		heap.Pop(h)
	case err != nil:
		return e, err
	default:
		run.head = head
		heap.Fix(h, 0)
	}
	return e, nil
}

// close gives memory and file back.
func (s *entrySorter) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.items, s.runs, s.leaves = nil, nil, nil
	if s.file == nil {
		return nil
	}
	f := s.file
	s.file = nil
	err := f.Close()
	if !s.unlinked {
		err = os.Remove(f.Name())
	}
	return err
}

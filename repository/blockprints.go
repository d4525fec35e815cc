package repository

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/zeebo/blake3"
)

// Block prints are what this machine keeps of a large file that it stored: a
// keyed hash of each block. With them the next backup finds the blocks that
// changed, and stores these, not the hundred times larger chunks around them.
//
// They lie in "blocks" below Options.StateDir, in a file named by the content they are of.
// Losing them costs speed and room: nothing else refers to them. They cannot
// make a backup wrong either. A block counts as unchanged only if 128 bits of
// a hash of it, keyed by the repository, are what is written at its place in
// the file of this very content; bits that flip, blocks that a power cut left
// empty and files cut short match nothing. They are not synced. Only what others
// could have put back from an older time would be believed: so directory and files
// must be this user's alone, as those of a local state.

const (
	// LargeFile is the size in bytes of files from which on prints are kept,
	// unless Options say otherwise.
	LargeFile = 64 << 20
	// printSize is the length of a print, printHeader that of what stands
	// before the first: magic, name of the content, length of a block.
	printSize   = 16
	printHeader = magicSize + IDSize + 8
	printMagic  = "SOMBRAB\x01"
	// minBlock is the length of blocks, unless a file would have more than
	// maxBlocks of them.
	minBlock  = 8 << 10
	maxBlocks = 1 << 27
	// printAge is how long prints are kept that no backup used.
	printAge = 180 * 24 * time.Hour
	// printDepth is how far below the state directory they lie.
	printDepth = 1
)

type blockPrint [printSize]byte

// blockLength is how long the blocks of a file are.
func blockLength(size int64) int64 {
	n := int64(minBlock)
	for size/n >= maxBlocks {
		n *= 2
	}
	return n
}

// blocksOf is how many blocks a file has.
func blocksOf(size, length int64) int64 { return (size + length - 1) / length }

// print is a block's.
func (k *keyring) print(h *blake3.Hasher, block []byte) (p blockPrint) {
	h.Reset()
	h.Write(block)
	return sumPrint(h)
}

func sumPrint(h *blake3.Hasher) (p blockPrint) {
	var sum [32]byte
	h.Sum(sum[:0])
	copy(p[:], sum[:])
	return p
}

// printDir is where prints are kept.
func (r *Repository) printDir() string { return filepath.Join(r.options.StateDir, "blocks") }

// printPath names the file with the prints of a content.
func (r *Repository) printPath(c Content) (path string, name ID) {
	name = keyedHash(r.keys.prints, []byte("content"), format.marshal(c.wire()))
	return filepath.Join(r.printDir(), hex.EncodeToString(name[:])), name
}

// keepsPrints says whether prints are kept of a file: a large one without
// holes.
func (r *Repository) keepsPrints(src Source) bool {
	if r.options.StateDir == "" || src.Size < r.options.LargeFile || src.At == nil {
		return false
	}
	data, err := normalRanges(src.Data, src.Size)
	return src.Data == nil || err == nil && len(data) == 1 && data[0] == Range{0, src.Size}
}

// oldPrints are the prints of a content that is stored.
type oldPrints struct {
	file   *os.File
	length int64 // of a block
	count  int64
}

// openPrints gives the prints of a content, nil if there are none to be used.
func (r *Repository) openPrints(c Content) *oldPrints {
	path, name := r.printPath(c)
	if checkPrivateDir(r.printDir(), printDepth) != nil {
		return nil
	}
	f, err := openPrivate(path)
	if err != nil {
		return nil
	}
	var header [printHeader]byte
	if _, err := f.ReadAt(header[:], 0); err == nil && string(header[:magicSize]) == printMagic && ID(header[magicSize:][:IDSize]) == name {
		length := int64(binary.LittleEndian.Uint64(header[magicSize+IDSize:]))
		if length == blockLength(c.size) {
			return &oldPrints{file: f, length: length, count: blocksOf(c.size, length)}
		}
	}
	f.Close()
	return nil
}

// read gives the prints of the blocks from the first on; those that are not
// there are zero, which no block's is.
func (o *oldPrints) read(prints []blockPrint, first int64, buf []byte) error {
	clear(prints)
	n := min(int64(len(prints)), o.count-first)
	if n <= 0 {
		return nil
	}
	got, err := o.file.ReadAt(buf[:n*printSize], printHeader+first*printSize)
	if err != nil && err != io.EOF {
		return fmt.Errorf("read block prints: %w", err)
	}
	for i := range got / printSize {
		copy(prints[i][:], buf[i*printSize:])
	}
	return nil
}

// newPrints are prints in the making, from a source that is read in order, if
// with gaps. Until keep is called they have a passing name. What goes wrong
// with their file ends them, not the backup.
type newPrints struct {
	r    *Repository
	at   io.ReaderAt
	file *os.File
	err  error

	size, length int64
	hash         *blake3.Hasher
	next         int64 // where the source was read up to
	partial      bool  // the block at next was not read from its beginning
	// run are the prints not yet written, from block first on.
	run   []byte
	first int64
}

// newPrints begins the prints of a source. The caller calls keep or drop.
func (r *Repository) newPrints(src Source, length int64) *newPrints {
	p := &newPrints{r: r, at: src.At, size: src.Size, length: length, hash: newHasher(r.keys.prints)}
	if p.err = makePrivateDir(r.printDir(), printDepth); p.err == nil {
		p.file, p.err = os.CreateTemp(r.printDir(), ".new-")
	}
	return p
}

// ReadAt implements io.ReaderAt: it reads the source.
func (p *newPrints) ReadAt(b []byte, off int64) (int, error) {
	n, err := p.at.ReadAt(b, off)
	p.saw(b[:n], off)
	return n, err
}

// saw takes in what was read.
func (p *newPrints) saw(b []byte, off int64) {
	if p.err != nil {
		return
	}
	if off != p.next {
		p.gap()
		p.next, p.partial = off, off%p.length != 0
		p.hash.Reset()
	}
	for len(b) > 0 {
		in := p.next % p.length
		n := min(int64(len(b)), p.length-in)
		p.hash.Write(b[:n])
		b, p.next = b[n:], p.next+n
		if in+n == p.length || p.next == p.size {
			p.end((p.next - 1) / p.length)
		}
	}
}

// end ends a block. One that was not read whole gets a print that matches none:
// nobody knows whether its other bytes were stored as they were seen before.
func (p *newPrints) end(block int64) {
	print := sumPrint(p.hash)
	if p.partial {
		print = blockPrint{}
	}
	p.set(block, print)
	p.hash.Reset()
	p.partial = false
}

// gap is where the source is not read on.
func (p *newPrints) gap() {
	if p.next%p.length != 0 && p.next != p.size {
		p.set(p.next/p.length, blockPrint{})
	}
}

// set writes the print of a block.
func (p *newPrints) set(block int64, print blockPrint) {
	if block != p.first+int64(len(p.run)/printSize) || len(p.run) >= 64<<10 {
		p.flush()
		p.first = block
	}
	p.run = append(p.run, print[:]...)
}

func (p *newPrints) flush() {
	if p.err == nil && len(p.run) > 0 {
		_, p.err = p.file.WriteAt(p.run, printHeader+p.first*printSize)
	}
	p.run = p.run[:0]
}

// inherit takes over the prints of another version of the file.
func (p *newPrints) inherit(o *oldPrints) {
	if p.err == nil {
		n := min(o.count, blocksOf(p.size, p.length)) * printSize
		_, p.err = io.Copy(io.NewOffsetWriter(p.file, printHeader), io.NewSectionReader(o.file, printHeader, n))
		if p.err != nil {
			return
		}
	}
}

// keep gives the prints the name of the content they are of.
func (p *newPrints) keep(c Content) {
	p.gap()
	p.flush()
	path, name := p.r.printPath(c)
	header := append([]byte(printMagic), name[:]...)
	header = binary.LittleEndian.AppendUint64(header, uint64(p.length))
	if p.err == nil {
		_, p.err = p.file.WriteAt(header, 0)
	}
	if p.err == nil {
		p.err = p.file.Close()
	}
	if p.err == nil {
		p.err = os.Rename(p.file.Name(), path)
	}
	p.drop()
}

// drop forgets what keep did not keep.
func (p *newPrints) drop() {
	if p.file == nil {
		return
	}
	p.file.Close()
	os.Remove(p.file.Name())
	p.file = nil
}

// usedPrints are those of bases that a backup has a newer version of. They go
// when it is committed.
type usedPrints struct {
	mu    sync.Mutex
	paths []string
}

func (u *usedPrints) add(path string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.paths = append(u.paths, path)
}

// forget removes them.
func (u *usedPrints) forget() {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, path := range u.paths {
		os.Remove(path)
	}
}

// sweepPrints removes prints that no backup has used for long. They are this
// machine's own and can be missed, so errors are of no matter.
func (r *Repository) sweepPrints() {
	if r.options.StateDir == "" {
		return
	}
	list, err := os.ReadDir(r.printDir())
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	for _, e := range list {
		fi, err := e.Info()
		if err == nil && fi.Mode().IsRegular() && time.Since(fi.ModTime()) > printAge {
			os.Remove(filepath.Join(r.printDir(), e.Name()))
		}
	}
}

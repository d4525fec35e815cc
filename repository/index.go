package repository

import (
	"bytes"
	"cmp"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"slices"
)

// An index object tells where chunks are. It is made of
//
//	magic, salt  (8 + 32 bytes)
//	pages        boxes 'P' of 256 lines each, the last of 1 to 256
//	tail         box 'T': number of lines, packs, what it supersedes
//	trailer      length of the tail's box (4 bytes, little endian), magic
//
// A line is 52 bytes: id, then five numbers of four bytes, little endian.
// Lines are sorted by id, then pack, then offsets, so that a chunk is found
// by binary search.

const (
	// lineSize is the length of a line.
	lineSize = IDSize + 5*4
	// pageLines is how many lines a page has.
	pageLines = 256
	// pageSize is the length of a full page's box.
	pageSize = pageLines*lineSize + boxOverhead
	// indexHeaderSize is where the first page begins.
	indexHeaderSize = magicSize + saltSize
)

// indexLine is a line of an index object.
type indexLine struct {
	id ID
	// pack counts in the object's pack table.
	pack uint32
	// offset and size are those of the frame's box in the pack.
	offset, size uint32
	// start and length are those of the chunk among the frame's chunks.
	start, length uint32
}

func (l *indexLine) append(b []byte) []byte {
	b = append(b, l.id[:]...)
	for _, n := range [...]uint32{l.pack, l.offset, l.size, l.start, l.length} {
		b = binary.LittleEndian.AppendUint32(b, n)
	}
	return b
}

// readLine reads a line; b has lineSize bytes at least.
func readLine(b []byte) (l indexLine) {
	le := binary.LittleEndian
	copy(l.id[:], b)
	b = b[IDSize:lineSize]
	l.pack, l.offset, l.size, l.start, l.length = le.Uint32(b), le.Uint32(b[4:]), le.Uint32(b[8:]), le.Uint32(b[12:]), le.Uint32(b[16:])
	return l
}

// compareLines is the order of lines.
func compareLines(a, b indexLine) int {
	return cmp.Or(bytes.Compare(a.id[:], b.id[:]), cmp.Compare(a.pack, b.pack), cmp.Compare(a.offset, b.offset), cmp.Compare(a.start, b.start))
}

// check says whether the line can be right for packs of those sizes.
func (l *indexLine) check(sizes []uint32) error {
	if uint64(l.pack) >= uint64(len(sizes)) {
		return damagef("the line of chunk %s names pack %d of %d", l.id.Short(), l.pack, len(sizes))
	}
	end := int64(l.offset) + int64(l.size)
	if l.offset < headerSize || l.size < boxOverhead+frameHeaderSize || end > int64(sizes[l.pack])-trailerSize ||
		uint64(l.start)+uint64(l.length) > maxChunk {
		return damagef("the line of chunk %s has impossible offsets", l.id.Short())
	}
	return nil
}

// indexPack is a pack in an index object's pack table.
type indexPack struct {
	_    struct{} `cbor:",toarray"`
	Kind uint8
	ID   []byte
	Size int64
}

// indexTail is the end of an index object.
type indexTail struct {
	Lines uint64      `cbor:"1,keyasint"`
	Packs []indexPack `cbor:"2,keyasint"`
	// Supersedes names index objects whose lines are all in this one.
	Supersedes [][]byte `cbor:"3,keyasint,omitempty"`
	// Fences are the first eight bytes of the first id of each page.
	Fences []byte `cbor:"4,keyasint"`
}

// indexBatch collects the lines for one index object.
type indexBatch struct {
	packs []indexPack
	lines []indexLine
}

// add takes in a pack.
func (b *indexBatch) add(kind objectKind, id ID, size int64, frames []packedFrame) {
	pack := uint32(len(b.packs))
	b.packs = append(b.packs, indexPack{Kind: uint8(kind), ID: id[:], Size: size})
	for _, f := range frames {
		b.lines = appendLines(b.lines, pack, f)
	}
}

// join takes in another batch.
func (b *indexBatch) join(other *indexBatch) {
	first := uint32(len(b.packs))
	b.packs = append(b.packs, other.packs...)
	for _, line := range other.lines {
		line.pack += first
		b.lines = append(b.lines, line)
	}
}

// appendLines appends the lines of a frame's chunks.
func appendLines(lines []indexLine, pack uint32, f packedFrame) []indexLine {
	start := uint32(0)
	for _, c := range f.chunks {
		lines = append(lines, indexLine{c.id, pack, f.offset, f.size, start, c.size})
		start += c.size
	}
	return lines
}

// encode makes the index object.
func (b *indexBatch) encode(k *keyring, supersedes []ID) []byte {
	slices.SortFunc(b.lines, compareLines)
	tail := indexTail{Lines: uint64(len(b.lines)), Packs: b.packs}
	for _, id := range supersedes {
		tail.Supersedes = append(tail.Supersedes, id[:])
	}
	salt := make([]byte, saltSize)
	rand.Read(salt)
	c := k.indexCipher(salt)
	// All of it at once: a box is appended with no room to spare, and pages that
	// moved each time the next came would be copied hundreds of times.
	tail.Fences = make([]byte, 0, 8*(len(b.lines)/pageLines+1))
	size := len(b.lines)*lineSize + (len(b.lines)/pageLines+2)*(boxOverhead+8) + len(b.packs)*(IDSize+32) + len(supersedes)*(IDSize+2) + 4096
	object := make([]byte, 0, size)
	object = append(append(object, magic(kindIndex)...), salt...)
	page := make([]byte, 0, pageLines*lineSize)
	for lines := range slices.Chunk(b.lines, pageLines) {
		page = page[:0]
		for i := range lines {
			page = lines[i].append(page)
		}
		tail.Fences = append(tail.Fences, page[:8]...)
		object = appendBox(object, c, boxPage, page)
	}
	offset := len(object)
	object = appendBox(object, c, boxTail, format.marshal(tail))
	object = binary.LittleEndian.AppendUint32(object, uint32(len(object)-offset))
	return append(object, magic(kindIndex)...)
}

// index is an index object taken apart, its pages not yet opened.
type index struct {
	indexTail
	cipher cipher.AEAD
	// sizes are those of the packs in its table.
	sizes []uint32
	// pagesEnd is where the pages end.
	pagesEnd int64
}

// pages is the number of pages.
func (x *index) pages() int { return int((x.Lines + pageLines - 1) / pageLines) }

// page says where a page's box lies and how many lines it has.
func (x *index) page(n int) (offset int64, size, lines int) {
	lines = min(pageLines, int(x.Lines)-n*pageLines)
	return indexHeaderSize + int64(n)*pageSize, lines*lineSize + boxOverhead, lines
}

// openPage opens a page's box in place and checks its lines: their order, and
// that each can be right.
func (x *index) openPage(n int, box []byte) ([]byte, error) {
	offset, size, lines := x.page(n)
	if len(box) != size {
		return nil, damagef("page %d has %d bytes, not %d", n, len(box), size)
	}
	page, err := openBox(x.cipher, boxPage, offset, box)
	if err != nil {
		return nil, err
	}
	return page, x.checkPage(n, page, lines)
}

// checkPage says whether the lines of a page keep the rules.
func (x *index) checkPage(n int, page []byte, lines int) error {
	if !bytes.Equal(page[:8], x.Fences[8*n:8*n+8]) {
		return damagef("page %d begins with another id than the tail says", n)
	}
	var last indexLine
	for i := range lines {
		line := readLine(page[i*lineSize:])
		if i > 0 && compareLines(last, line) >= 0 {
			return damagef("page %d is not sorted", n)
		}
		if err := line.check(x.sizes); err != nil {
			return err
		}
		last = line
	}
	return nil
}

// eachPage opens all pages, which take reads many at a time, and gives each to f,
// in memory that is used again.
func (x *index) eachPage(take func(offset int64, n int) ([]byte, error), f func(n int, page []byte) error) error {
	const stroke = indexStroke / pageSize
	var last ID
	for first := 0; first < x.pages(); first += stroke {
		end := min(first+stroke, x.pages())
		begin, _, _ := x.page(first)
		offset, size, _ := x.page(end - 1)
		boxes, err := take(begin, int(offset-begin)+size)
		if err != nil {
			return err
		}
		for n := first; n < end; n++ {
			offset, size, _ := x.page(n)
			page, err := x.openPage(n, boxes[offset-begin:][:size])
			if err != nil {
				return err
			}
			// Lines of one id may stand on both sides of a page's end.
			if first := ID(page[:IDSize]); n > 0 && slices.Compare(last[:], first[:]) > 0 {
				return damagef("page %d is not sorted after the one before it", n)
			}
			last = ID(page[len(page)-lineSize:][:IDSize])
			if err := f(n, page); err != nil {
				return err
			}
		}
	}
	return nil
}

// indexEnds are the bytes of an index object before its pages and after them.
type indexEnds struct{ header, tail []byte }

// decodeIndex takes an index object apart that is in memory.
func decodeIndex(k *keyring, object []byte) (*index, error) {
	x, _, err := openIndex(k, int64(len(object)), &indexReader{memory: object, whole: true})
	return x, err
}

// openIndex reads all of an index object of size bytes but its pages.
func openIndex(k *keyring, size int64, r *indexReader) (x *index, ends indexEnds, err error) {
	if size >= indexHeaderSize+trailerSize {
		ends.header, err = r.take(0, indexHeaderSize)
		ends.header = bytes.Clone(ends.header)
	}
	if err != nil {
		return nil, ends, err
	}
	if ends.header == nil || string(ends.header[:magicSize]) != magic(kindIndex) {
		return nil, ends, damagef("it does not begin with %q", magic(kindIndex))
	}
	trailer, err := r.take(size-trailerSize, trailerSize)
	if err != nil {
		return nil, ends, err
	}
	offset, n, err := decodeTrailer(kindIndex, trailer, size, indexHeaderSize)
	if err != nil {
		return nil, ends, err
	}
	ends.tail = make([]byte, n+trailerSize)
	copy(ends.tail[n:], trailer)
	for read := 0; read < n; {
		p, err := r.take(offset+int64(read), min(n-read, indexStroke))
		if err != nil {
			return nil, ends, err
		}
		read += copy(ends.tail[read:], p)
	}
	x = &index{cipher: k.indexCipher(ends.header[magicSize:]), pagesEnd: offset}
	tail, err := openBox(x.cipher, boxTail, offset, bytes.Clone(ends.tail[:n]))
	if err != nil {
		return nil, ends, err
	}
	return x, ends, x.readTail(tail)
}

// readTail reads and checks the tail.
func (x *index) readTail(tail []byte) error {
	if err := format.unmarshal(tail, &x.indexTail); err != nil {
		return err
	}
	return x.checkTail()
}

// checkTail says whether the tail keeps the rules.
func (x *index) checkTail() error {
	if x.Lines > maxIndexEntries || len(x.Packs) > maxIndexPacks {
		return damagef("it declares %d lines and %d packs", x.Lines, len(x.Packs))
	}
	x.sizes = make([]uint32, 0, len(x.Packs))
	pages := x.pages()
	want := int64(indexHeaderSize)
	if pages > 0 {
		offset, size, _ := x.page(pages - 1)
		want = offset + int64(size)
	}
	if want != x.pagesEnd || len(x.Fences) != 8*pages {
		return damagef("%d lines do not fill the %d bytes of its pages", x.Lines, x.pagesEnd-indexHeaderSize)
	}
	for _, p := range x.Packs {
		if len(p.ID) != IDSize || (p.Kind != uint8(kindDataPack) && p.Kind != uint8(kindMetaPack)) || p.Size < headerSize+trailerSize || p.Size > maxPack {
			return damagef("its pack table has an impossible pack")
		}
		x.sizes = append(x.sizes, uint32(p.Size))
	}
	for _, id := range x.Supersedes {
		if len(id) != IDSize {
			return damagef("it supersedes an impossible name")
		}
	}
	return nil
}

package repository

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/cipher"
	"encoding/binary"
	"io"
	"slices"

	"github.com/klauspost/compress/zstd"
	"github.com/zeebo/blake3"
)

// A write-only key cannot read the repository, so a machine that has one keeps
// at home what its next backup needs: the last record, and the blocks of its
// file table, extent lists and documents. docs/keys.md describes the two files:
//
//	key     magic (8), local key (32)
//	*.state magic (8), a box 'B' for each block, a box 'R' with the record, a box
//	        'D' with the directory, trailer: offset (8) and length (4) of the
//	        directory's box, magic (8)
//
// The local key is drawn anew for each state file, which is named after it. So a
// state file that was put back from an older time is not found, or does not
// open, and no nonce comes twice under one key.

const (
	kindState    objectKind = 'S'
	kindStateKey objectKind = 'Y'

	boxBlock boxKind = 'B'

	// stateTrailer is the length of a state file's trailer.
	stateTrailer = 8 + 4 + magicSize
	// stateLineSize is the length of a line of the directory.
	stateLineSize = IDSize + 8 + 4 + 4
	// stateHead is what stands before the lines.
	stateHead = IDSize + 8 + 4 + 4
	// maxStateBlocks bounds the blocks of a state: the tables and lists of some
	// hundred million files.
	maxStateBlocks = 1 << 20
	maxStateDir    = stateHead + maxStateBlocks*stateLineSize + boxOverhead
)

// stateLine says where a block is in a state file.
type stateLine struct {
	id ID
	// offset and size are those of the box, length that of the block.
	offset       int64
	size, length uint32
}

// stateDirectory is what a state file says of itself.
type stateDirectory struct {
	record ID
	// at is where the record's box is, its id being zero.
	at stateLine
	// lines are sorted by id.
	lines []stateLine
}

// stateCipher gives the cipher of the state file that goes with a local key.
func (k *keyring) stateCipher(local secret) cipher.AEAD {
	return derivedCipher("local state", slices.Concat(k.index[:], k.id[:], local[:], k.repo[:]))
}

// stateName names the state file of a local key, and says nothing of the key.
func stateName(local secret) string {
	var name [16]byte
	blake3.DeriveKey(derivation("local state name"), local[:], name[:])
	return hexName(name[:]) + ".state"
}

// encode gives the directory's plaintext. It sorts the lines.
func (d *stateDirectory) encode() []byte {
	slices.SortFunc(d.lines, func(a, b stateLine) int { return bytes.Compare(a.id[:], b.id[:]) })
	le := binary.LittleEndian
	p := make([]byte, 0, stateHead+len(d.lines)*stateLineSize+boxOverhead)
	p = append(p, d.record[:]...)
	p = le.AppendUint64(p, uint64(d.at.offset))
	p = le.AppendUint32(p, d.at.size)
	p = le.AppendUint32(p, uint32(len(d.lines)))
	for _, l := range d.lines {
		p = append(p, l.id[:]...)
		p = le.AppendUint64(p, uint64(l.offset))
		p = le.AppendUint32(p, l.size)
		p = le.AppendUint32(p, l.length)
	}
	return p
}

// decodeStateDirectory reads a directory whose box lies at the offset end: all
// boxes must fill the file up to there, without gaps or overlaps.
func decodeStateDirectory(p []byte, end int64) (*stateDirectory, error) {
	le := binary.LittleEndian
	if len(p) < stateHead {
		return nil, damagef("a directory of %d bytes", len(p))
	}
	d := &stateDirectory{record: ID(p)}
	d.at = stateLine{offset: int64(le.Uint64(p[IDSize:])), size: le.Uint32(p[IDSize+8:])}
	n := le.Uint32(p[IDSize+12:])
	p = p[stateHead:]
	if uint64(n)*stateLineSize != uint64(len(p)) {
		return nil, damagef("a directory of %d blocks in %d bytes", n, len(p))
	}
	d.lines = make([]stateLine, n)
	for i := range d.lines {
		l := &d.lines[i]
		*l = stateLine{ID(p), int64(le.Uint64(p[IDSize:])), le.Uint32(p[IDSize+8:]), le.Uint32(p[IDSize+12:])}
		if l.length == 0 || l.length > maxChunk || l.size < boxOverhead || l.size > maxFrameBox {
			return nil, damagef("a block of %d bytes in %d", l.length, l.size)
		}
		if i > 0 && bytes.Compare(d.lines[i-1].id[:], l.id[:]) >= 0 {
			return nil, damagef("a directory that is not in order")
		}
		p = p[stateLineSize:]
	}
	if d.at.size < boxOverhead || d.at.size > MaxRecord {
		return nil, damagef("a record of %d bytes", d.at.size)
	}
	at := int64(magicSize)
	for _, l := range d.byOffset() {
		if l.offset != at {
			return nil, damagef("a box at %d where one at %d belongs", l.offset, at)
		}
		at += int64(l.size)
	}
	if at != end {
		return nil, damagef("boxes that end at %d, not at %d", at, end)
	}
	return d, nil
}

// byOffset gives the boxes before the directory in the order of the file.
func (d *stateDirectory) byOffset() []stateLine {
	lines := append(slices.Clone(d.lines), d.at)
	slices.SortFunc(lines, func(a, b stateLine) int { return cmp.Compare(a.offset, b.offset) })
	return lines
}

// find gives the line of a block.
func (d *stateDirectory) find(id ID) (stateLine, bool) {
	n, ok := slices.BinarySearchFunc(d.lines, id, func(l stateLine, id ID) int { return bytes.Compare(l.id[:], id[:]) })
	if !ok {
		return stateLine{}, false
	}
	return d.lines[n], true
}

// stateFile is a state file open for reading, from several goroutines.
type stateFile struct {
	*stateDirectory
	from   io.ReaderAt
	cipher cipher.AEAD
	// plain is the record's plaintext.
	plain []byte
}

// openStateFile reads a state file of size bytes. All of it is authenticated
// here, so that damage shows before anything rests on it.
func openStateFile(from io.ReaderAt, size int64, c cipher.AEAD) (*stateFile, error) {
	head, tail := make([]byte, magicSize), make([]byte, stateTrailer)
	if size < magicSize+stateTrailer+2*boxOverhead {
		return nil, damagef("a file of %d bytes", size)
	}
	if err := readState(from, head, 0); err != nil {
		return nil, err
	}
	if err := readState(from, tail, size-stateTrailer); err != nil {
		return nil, err
	}
	if string(head) != magic(kindState) || string(tail[12:]) != magic(kindState) {
		return nil, damagef("it is no local state of this version")
	}
	at, n := binary.LittleEndian.Uint64(tail), binary.LittleEndian.Uint32(tail[8:])
	if n < boxOverhead || n > maxStateDir || at < magicSize || at > uint64(size) || at+uint64(n)+stateTrailer != uint64(size) {
		return nil, damagef("its directory is at an impossible place")
	}
	box := make([]byte, n)
	if err := readState(from, box, int64(at)); err != nil {
		return nil, err
	}
	p, err := openBox(c, boxDirectory, int64(at), box)
	if err != nil {
		return nil, err
	}
	d, err := decodeStateDirectory(p, int64(at))
	if err != nil {
		return nil, err
	}
	s := &stateFile{stateDirectory: d, from: from, cipher: c}
	return s, s.verify(int64(at))
}

// verify authenticates every box before the directory, and keeps the record.
func (s *stateFile) verify(end int64) error {
	rd := bufio.NewReaderSize(io.NewSectionReader(s.from, magicSize, end-magicSize), 1<<20)
	for _, l := range s.byOffset() {
		box := make([]byte, l.size)
		if _, err := io.ReadFull(rd, box); err != nil {
			return damagef("read at %d: %v", l.offset, err)
		}
		kind := boxBlock
		if l.offset == s.at.offset {
			kind = boxRecord
		}
		plain, err := openBox(s.cipher, kind, l.offset, box)
		if err != nil {
			return err
		}
		if kind == boxRecord {
			s.plain = plain
		}
	}
	return nil
}

// block gives a block, nil if the state does not have it.
func (s *stateFile) block(dec *zstd.Decoder, id ID, length uint32) ([]byte, error) {
	l, ok := s.find(id)
	if !ok {
		return nil, nil
	}
	if l.length != length {
		return nil, damagef("block %s has %d bytes where %d are referred to", id.Short(), l.length, length)
	}
	box := make([]byte, l.size)
	if err := readState(s.from, box, l.offset); err != nil {
		return nil, err
	}
	frame, err := openBox(s.cipher, boxBlock, l.offset, box)
	if err != nil {
		return nil, err
	}
	block, err := decodeFrame(dec, frame)
	if err == nil && uint64(len(block)) != uint64(length) {
		err = damagef("block %s has %d bytes where %d are referred to", id.Short(), len(block), length)
	}
	return block, err
}

// readState fills p from a file.
func readState(from io.ReaderAt, p []byte, offset int64) error {
	if n, err := from.ReadAt(p, offset); n != len(p) {
		return damagef("read at %d: %v", offset, err)
	}
	return nil
}

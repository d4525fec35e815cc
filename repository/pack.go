package repository

import (
	"crypto/cipher"
	"encoding/binary"
)

// A pack is an object made of
//
//	header     magic and sealed key (headerSize bytes)
//	frames     boxes 'F', one after the other
//	directory  box 'D': what the frames hold
//	trailer    length of the directory's box (4 bytes, little endian), magic
//
// Everything an index says of a pack can be read again from its directory.

// trailerSize is the length of a pack's and an index object's trailer.
const trailerSize = 4 + magicSize

// packedChunk is a chunk in a frame.
type packedChunk struct {
	id ID
	// size is the chunk's length in bytes.
	size uint32
}

// packedFrame is a frame in a pack.
type packedFrame struct {
	// offset and size are the box's in the pack. The offset is not stored: the
	// first frame follows the header, each other the one before it.
	offset, size uint32
	chunks       []packedChunk
}

// plainSize is the length of the frame's chunks together.
func (f *packedFrame) plainSize() (n uint64) {
	for _, c := range f.chunks {
		n += uint64(c.size)
	}
	return n
}

// packBuilder makes one pack in memory.
type packBuilder struct {
	kind   objectKind
	cipher cipher.AEAD
	object []byte
	frames []packedFrame
	chunks int
}

// newPackBuilder begins a pack, in the memory of buf.
func newPackBuilder(k *keyring, kind objectKind, buf []byte) (*packBuilder, error) {
	header, c, err := k.sealObject(kind)
	if err != nil {
		return nil, err
	}
	return &packBuilder{kind: kind, cipher: c, object: append(buf[:0], header...)}, nil
}

// add appends a frame that holds the chunks.
func (p *packBuilder) add(frame []byte, chunks []packedChunk) {
	offset := len(p.object)
	p.object = appendBox(p.object, p.cipher, boxFrame, frame)
	p.frames = append(p.frames, packedFrame{uint32(offset), uint32(len(p.object) - offset), chunks})
	p.chunks += len(chunks)
}

// finish ends the pack and gives the object.
func (p *packBuilder) finish() []byte {
	offset := len(p.object)
	p.object = appendBox(p.object, p.cipher, boxDirectory, encodeDirectory(p.frames))
	p.object = binary.LittleEndian.AppendUint32(p.object, uint32(len(p.object)-offset))
	p.object = append(p.object, magic(p.kind)...)
	return p.object
}

// encodeDirectory writes, all numbers of four bytes little endian: the number
// of frames; for each frame the length of its box, the number of its chunks,
// and for each chunk id and length.
func encodeDirectory(frames []packedFrame) []byte {
	le := binary.LittleEndian
	b := le.AppendUint32(nil, uint32(len(frames)))
	for _, f := range frames {
		b = le.AppendUint32(b, f.size)
		b = le.AppendUint32(b, uint32(len(f.chunks)))
		for _, c := range f.chunks {
			b = append(b, c.id[:]...)
			b = le.AppendUint32(b, c.size)
		}
	}
	return b
}

// decodeDirectory reads what encodeDirectory wrote. The frames fill the pack
// from the header's end to end.
func decodeDirectory(b []byte, end int64) ([]packedFrame, error) {
	r := directoryReader{b: b}
	count := r.uint32()
	// Each frame takes eight bytes here at least.
	if uint64(count)*8 > uint64(len(b)) {
		return nil, damagef("its directory declares %d frames in %d bytes", count, len(b))
	}
	frames := make([]packedFrame, 0, count)
	offset, chunks := int64(headerSize), 0
	for range count {
		f := packedFrame{offset: uint32(offset), size: r.uint32()}
		n := r.uint32()
		if uint64(n)*(IDSize+4) > uint64(len(r.b)) || n == 0 || f.size < boxOverhead+frameHeaderSize {
			return nil, damagef("its directory has a frame of %d bytes with %d chunks", f.size, n)
		}
		if chunks += int(n); chunks > maxPackChunks {
			return nil, damagef("its directory has more than %d chunks", maxPackChunks)
		}
		f.chunks = make([]packedChunk, n)
		for i := range f.chunks {
			copy(f.chunks[i].id[:], r.bytes(IDSize))
			f.chunks[i].size = r.uint32()
		}
		if f.plainSize() > maxChunk {
			return nil, damagef("its directory has a frame of %d bytes of chunks", f.plainSize())
		}
		if offset += int64(f.size); offset > end {
			break
		}
		frames = append(frames, f)
	}
	if r.short || len(r.b) != 0 || offset != end {
		return nil, damagef("its directory does not add up: frames end at %d of %d, %d bytes are left over", offset, end, len(r.b))
	}
	return frames, nil
}

// directoryReader takes fixed fields from a directory.
type directoryReader struct {
	b     []byte
	short bool
}

func (r *directoryReader) bytes(n int) []byte {
	if len(r.b) < n {
		r.short, r.b = true, nil
		return make([]byte, n)
	}
	p := r.b[:n]
	r.b = r.b[n:]
	return p
}

func (r *directoryReader) uint32() uint32 { return binary.LittleEndian.Uint32(r.bytes(4)) }

// decodeTrailer reads the end of a pack or index object of the given size: it
// says where the last box begins and how long it is.
func decodeTrailer(kind objectKind, trailer []byte, size, first int64) (offset int64, length int, err error) {
	if len(trailer) != trailerSize || string(trailer[4:]) != magic(kind) {
		return 0, 0, damagef("it does not end with %q", magic(kind))
	}
	n := int64(binary.LittleEndian.Uint32(trailer))
	offset = size - trailerSize - n
	if n < boxOverhead || offset < first {
		return 0, 0, damagef("its last box of %d bytes does not fit", n)
	}
	return offset, int(n), nil
}

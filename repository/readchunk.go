package repository

import (
	"bytes"
	"context"
	"crypto/cipher"
	"errors"
	"fmt"
	"strings"
	"sync"
)

// frameKey names a frame: its pack and where it begins there.
type frameKey struct {
	pack   ID
	offset uint32
}

// openFrame is a decoded frame. Its bytes are never changed.
type openFrame struct {
	data []byte

	mu sync.Mutex
	// verified holds the places whose chunk was hashed back to its id.
	verified map[uint32]ID
}

// chunk gives the verified bytes of a chunk, which must have the given length.
// The caller must not change them. If the chunk is stored in several places,
// one that is whole suffices.
func (r *Repository) chunk(ctx context.Context, id ID, length uint32) ([]byte, error) {
	if r.WriteOnly() {
		return r.localChunk(id, length)
	}
	data, err := r.findChunk(ctx, id, length)
	if data != nil || err != nil && !errors.Is(err, ErrDamaged) {
		return data, err
	}
	// An index object may be missing or damaged: then the packs' own
	// directories are asked.
	if err := r.index.adopt(ctx, r); err != nil {
		return nil, err
	}
	data, err = r.findChunk(ctx, id, length)
	if data == nil && err == nil {
		err = errors.Join(damagef("chunk %s is in no index and no pack", id), r.index.damage())
	}
	return data, err
}

// findChunk is chunk through the index as it is. It gives no data and no error
// if the index does not know the chunk.
func (r *Repository) findChunk(ctx context.Context, id ID, length uint32) ([]byte, error) {
	var data []byte
	var failed error
	err := r.index.find(ctx, id, func(loc location) bool {
		d, err := r.chunkAt(ctx, id, length, loc)
		if err != nil {
			failed = fmt.Errorf("chunk %s: %w", id.Short(), err)
			return ctx.Err() != nil
		}
		data = d
		return true
	})
	if data != nil {
		return data, nil
	}
	return nil, errors.Join(failed, err)
}

// chunkAt reads the chunk from one place.
func (r *Repository) chunkAt(ctx context.Context, id ID, length uint32, loc location) ([]byte, error) {
	if loc.length != length {
		return nil, damagef("it has %d bytes where %d are referred to", loc.length, length)
	}
	f, err := r.frame(ctx, loc)
	if err != nil {
		return nil, err
	}
	name := packName(loc.pack.kind, loc.pack.id)
	if uint64(loc.start)+uint64(loc.length) > uint64(len(f.data)) {
		return nil, &ObjectError{"read", name, damagef("the frame at %d is too short for the chunk at %d", loc.offset, loc.start)}
	}
	data := f.data[loc.start : loc.start+loc.length : loc.start+loc.length]
	f.mu.Lock()
	verified := f.verified[loc.start] == id
	f.mu.Unlock()
	if !verified {
		if r.keys.chunkID(loc.pack.kind, data) != id {
			return nil, &ObjectError{"verify", name, damagef("what lies in the frame at %d is not the chunk", loc.offset)}
		}
		f.mu.Lock()
		f.verified[loc.start] = id
		f.mu.Unlock()
	}
	return data, nil
}

// frame gives a decoded frame.
func (r *Repository) frame(ctx context.Context, loc location) (*openFrame, error) {
	key := frameKey{loc.pack.id, loc.offset}
	if f, ok := r.frames.get(key); ok {
		return f, nil
	}
	c, err := r.packCipher(ctx, loc.pack)
	if err != nil {
		return nil, err
	}
	name := packName(loc.pack.kind, loc.pack.id)
	if loc.size > maxFrameBox {
		return nil, &ObjectError{"read", name, damagef("a frame of %d bytes", loc.size)}
	}
	box := make([]byte, loc.size)
	if err := readFull(ctx, r.store, name, box, int64(loc.offset)); err != nil {
		return nil, err
	}
	plain, err := openBox(c, boxFrame, int64(loc.offset), box)
	if err != nil {
		return nil, &ObjectError{"decode", name, err}
	}
	data, err := decodeFrame(r.decoder, plain)
	if err != nil {
		return nil, &ObjectError{"decode", name, err}
	}
	f := &openFrame{data: data, verified: map[uint32]ID{}}
	r.frames.put(key, f, int64(len(data)))
	return f, nil
}

// packCipher gives the cipher of a pack, from its header.
func (r *Repository) packCipher(ctx context.Context, p knownPack) (cipher.AEAD, error) {
	if c, ok := r.ciphers.get(p.id); ok {
		return c, nil
	}
	name := packName(p.kind, p.id)
	var header [headerSize]byte
	if err := readFull(ctx, r.store, name, header[:], 0); err != nil {
		return nil, err
	}
	c, err := r.keys.openObject(p.kind, header[:])
	if err != nil {
		return nil, &ObjectError{"decode", name, err}
	}
	r.ciphers.put(p.id, c, 1)
	return c, nil
}

// directory reads what a pack holds from the pack itself.
func (r *Repository) directory(ctx context.Context, p knownPack) ([]packedFrame, error) {
	name := packName(p.kind, p.id)
	if p.size < headerSize+boxOverhead+trailerSize || p.size > maxPack {
		return nil, &ObjectError{"decode", name, damagef("a pack of %d bytes", p.size)}
	}
	c, err := r.packCipher(ctx, p)
	if err != nil {
		return nil, err
	}
	var trailer [trailerSize]byte
	if err := readFull(ctx, r.store, name, trailer[:], p.size-trailerSize); err != nil {
		return nil, err
	}
	// Nothing vouches for the trailer, and the directory's box has to be in
	// memory before it can be opened.
	offset, n, err := decodeTrailer(p.kind, trailer[:], p.size, headerSize)
	if err == nil && n > maxDirectoryBox {
		err = damagef("a directory of %d bytes", n)
	}
	if err != nil {
		return nil, &ObjectError{"decode", name, err}
	}
	box := make([]byte, n)
	if err := readFull(ctx, r.store, name, box, offset); err != nil {
		return nil, err
	}
	return decodePackDirectory(c, name, offset, box)
}

// decodePackDirectory opens a directory's box and reads it.
func decodePackDirectory(c cipher.AEAD, name string, offset int64, box []byte) ([]packedFrame, error) {
	plain, err := openBox(c, boxDirectory, offset, box)
	if err == nil {
		var frames []packedFrame
		if frames, err = decodeDirectory(plain, offset); err == nil {
			return frames, nil
		}
	}
	return nil, &ObjectError{"decode", name, err}
}

// checkPack reads a pack whole and verifies everything in it: name, directory,
// and that every chunk hashes to its id. It calls good for each chunk that
// does. The error of a damaged one says what is wrong first, and how much more.
func (r *Repository) checkPack(ctx context.Context, p knownPack, good func(packedChunk)) error {
	name := packName(p.kind, p.id)
	object, err := readObject(ctx, r.store, name, maxPack)
	if err != nil {
		return err
	}
	var wrong []error
	if hashObject(object) != p.id {
		wrong = append(wrong, damagef("its bytes do not match its name"))
	}
	frames, c, err := r.openPack(p.kind, object)
	if err != nil {
		wrong = append(wrong, err)
	}
	for _, f := range frames {
		if err := r.checkFrame(p.kind, c, object, f, good); err != nil {
			wrong = append(wrong, err)
		}
	}
	return packDamage(name, wrong)
}

// packDamage makes one error of what is wrong with a pack, in a line that stays
// short whatever the medium holds.
func packDamage(name string, wrong []error) error {
	const told = 3
	if len(wrong) == 0 {
		return nil
	}
	var words []string
	for _, err := range wrong[:min(told, len(wrong))] {
		if !errors.Is(err, ErrDamaged) {
			return &ObjectError{"verify", name, err}
		}
		words = append(words, strings.TrimPrefix(err.Error(), ErrDamaged.Error()+": "))
	}
	if n := len(wrong) - told; n > 0 {
		words = append(words, fmt.Sprintf("%d more", n))
	}
	return &ObjectError{"verify", name, damagef("%s", strings.Join(words, "; "))}
}

// openPack reads header and directory of a pack that is in memory.
func (r *Repository) openPack(kind objectKind, object []byte) ([]packedFrame, cipher.AEAD, error) {
	c, err := r.keys.openObject(kind, object)
	if err != nil {
		return nil, nil, err
	}
	size := int64(len(object))
	if size < headerSize+trailerSize {
		return nil, nil, damagef("a pack of %d bytes", size)
	}
	offset, n, err := decodeTrailer(kind, object[size-trailerSize:], size, headerSize)
	if err != nil {
		return nil, nil, err
	}
	plain, err := openBox(c, boxDirectory, offset, bytes.Clone(object[offset:offset+int64(n)]))
	if err != nil {
		return nil, nil, err
	}
	frames, err := decodeDirectory(plain, offset)
	return frames, c, err
}

// checkFrame verifies the chunks of one frame of a pack that is in memory,
// which it overwrites.
func (r *Repository) checkFrame(kind objectKind, c cipher.AEAD, object []byte, f packedFrame, good func(packedChunk)) error {
	plain, err := openBox(c, boxFrame, int64(f.offset), object[f.offset:f.offset+f.size])
	if err != nil {
		return err
	}
	data, err := decodeFrame(r.decoder, plain)
	if err != nil {
		return err
	}
	if uint64(len(data)) != f.plainSize() {
		return damagef("the frame at %d has %d bytes of chunks, its directory says %d", f.offset, len(data), f.plainSize())
	}
	var damage error
	for _, ch := range f.chunks {
		if r.keys.chunkID(kind, data[:ch.size]) == ch.id {
			good(ch)
		} else {
			damage = damagef("what lies in the frame at %d is not chunk %s", f.offset, ch.id.Short())
		}
		data = data[ch.size:]
	}
	return damage
}

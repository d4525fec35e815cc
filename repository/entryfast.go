package repository

import (
	"bytes"
	"encoding/binary"
	"math"
	"time"
	"unicode/utf8"
)

// entryReader decodes the entries of one leaf by hand: what our own encoder
// writes, several times faster than a decoder that must know all of CBOR, and
// with strings and attributes shared that are the same in entry after entry.
// Whatever looks in the least unusual it gives up, and the general decoder
// decides what it is: nothing is accepted here that is not accepted there, with
// the same meaning.
type entryReader struct {
	left []byte
	// gaveUp says that something is not as our encoder writes it.
	gaveUp bool

	root, user, group string
	// attrs is what rawAttrs decodes to.
	attrs    map[string]string
	rawAttrs []byte
	// lengths, extents and spans are used again for each content.
	lengths        []uint32
	extents, spans []uint64
}

// next decodes the first entry of a block and gives its bytes and the rest.
func (r *entryReader) next(block []byte) (e *Entry, encoded, rest []byte, err error) {
	r.left, r.gaveUp = block, false
	if e := r.entry(); !r.gaveUp {
		encoded = block[:len(block)-len(r.left)]
		if len(encoded) <= MaxEntry && e.check() == nil {
			return e, encoded, r.left, nil
		}
	}
	return decodeEntry(block)
}

// The major types of CBOR that entries have.
const (
	majorUint  = 0
	majorInt   = 1
	majorBytes = 2
	majorText  = 3
	majorArray = 4
	majorMap   = 5
)

// head reads the first bytes of an item: its type and number, which must be in
// the shortest form.
func (r *entryReader) head() (major int, n uint64) {
	if len(r.left) == 0 {
		r.gaveUp = true
		return -1, 0
	}
	major, n = int(r.left[0]>>5), uint64(r.left[0]&31)
	if n < 24 {
		r.left = r.left[1:]
		return major, n
	}
	size := 1 << (n - 24)
	if n > 27 || len(r.left) < 1+size {
		r.gaveUp = true
		return -1, 0
	}
	var least uint64
	switch p := r.left[1:]; size {
	case 1:
		n, least = uint64(p[0]), 24
	case 2:
		n, least = uint64(binary.BigEndian.Uint16(p)), 1<<8
	case 4:
		n, least = uint64(binary.BigEndian.Uint32(p)), 1<<16
	case 8:
		n, least = binary.BigEndian.Uint64(p), 1<<32
	}
	r.left = r.left[1+size:]
	r.gaveUp = r.gaveUp || n < least
	return major, n
}

// number reads the number of an item that must be of the type, at most most.
func (r *entryReader) number(major int, most uint64) uint64 {
	m, n := r.head()
	if m != major || n > most {
		r.gaveUp = true
		return 0
	}
	return n
}

func (r *entryReader) uint(most uint64) uint64 { return r.number(majorUint, most) }

// bytes reads a byte string, or with majorText a text, without copying it.
func (r *entryReader) bytes(major int) []byte {
	n := r.number(major, uint64(len(r.left)))
	if n > uint64(len(r.left)) {
		r.gaveUp = true
	}
	if r.gaveUp {
		return nil
	}
	b := r.left[:n:n]
	r.left = r.left[n:]
	return b
}

// shared reads a byte string that is often the same as the last.
func (r *entryReader) shared(last *string) string {
	if b := r.bytes(majorBytes); string(b) != *last {
		*last = string(b)
	}
	return *last
}

// count reads the number of elements of an array or map: no more than there
// are bytes left.
func (r *entryReader) count(major int) int {
	return int(r.number(major, uint64(min(len(r.left), 1<<16))))
}

// key reads the next key of a map, which must come after the last.
func (r *entryReader) key(last uint64) uint64 {
	k := r.uint(entryFields)
	r.gaveUp = r.gaveUp || k <= last
	return k
}

// entry reads an entry.
func (r *entryReader) entry() *Entry {
	e := &Entry{}
	last := uint64(0)
	seen := 0
	for n := r.count(majorMap); n > 0 && !r.gaveUp; n-- {
		last = r.key(last)
		if last <= 3 {
			seen++
		}
		r.field(e, last)
	}
	r.gaveUp = r.gaveUp || seen != 3
	return e
}

func (r *entryReader) field(e *Entry, key uint64) {
	switch key {
	case 1:
		e.Root = r.shared(&r.root)
	case 2:
		e.Path = string(r.bytes(majorBytes))
	case 3:
		e.Type = FileType(r.uint(math.MaxUint8))
	case 4:
		e.Mode = uint32(r.uint(math.MaxUint32))
	case 5:
		e.UID = uint32(r.uint(math.MaxUint32))
	case 6:
		e.GID = uint32(r.uint(math.MaxUint32))
	case 7:
		e.User = r.shared(&r.user)
	case 8:
		e.Group = r.shared(&r.group)
	case 9:
		e.Size = int64(r.uint(math.MaxInt64))
	case 10:
		e.ModTime = r.time()
	case 11:
		e.AccessTime = r.time()
	case 12:
		e.ChangeTime = r.time()
	case 13:
		e.BirthTime = r.time()
	default:
		r.laterField(e, key)
	}
}

func (r *entryReader) laterField(e *Entry, key uint64) {
	switch key {
	case 14:
		e.Device = r.uint(math.MaxUint64)
	case 15:
		e.Inode = r.uint(math.MaxUint64)
	case 16:
		e.Nlink = uint32(r.uint(math.MaxUint32))
	case 17:
		e.HardLink = r.uint(math.MaxUint64)
	case 18:
		e.Rdev = r.uint(math.MaxUint64)
	case 19:
		e.LinkTarget = string(r.bytes(majorBytes))
	case 20:
		e.InodeFlags = uint32(r.uint(math.MaxUint32))
	case 21:
		e.Xattrs = r.xattrs()
	case 26:
		e.Content = r.content()
	case 27:
		e.Attrs = r.attributes()
	default: // Windows'
		r.gaveUp = true
	}
}

func (r *entryReader) time() time.Time {
	r.gaveUp = r.gaveUp || r.number(majorArray, 2) != 2
	var w wireTime
	switch major, n := r.head(); {
	case n > maxTime:
		r.gaveUp = true
	case major == majorUint:
		w.Sec = int64(n)
	case major == majorInt:
		w.Sec = -1 - int64(n)
	default:
		r.gaveUp = true
	}
	w.Nsec = uint32(r.uint(math.MaxUint32))
	t, err := w.time()
	r.gaveUp = r.gaveUp || err != nil
	return t
}

func (r *entryReader) xattrs() map[string][]byte {
	n := r.count(majorMap)
	if n == 0 {
		r.gaveUp = true
		return nil
	}
	m := make(map[string][]byte, min(n, 64))
	for range n {
		name, value := r.bytes(majorBytes), r.bytes(majorBytes)
		if r.gaveUp {
			return nil
		}
		m[string(name)] = append([]byte{}, value...)
	}
	r.gaveUp = len(m) != n // one comes twice
	return m
}

// attributes reads attrs. Files that were read by one backup mostly have the
// same, and then share them.
func (r *entryReader) attributes() map[string]string {
	if n := len(r.rawAttrs); n > 0 && len(r.left) >= n && bytes.Equal(r.left[:n], r.rawAttrs) {
		r.left = r.left[n:]
		return r.attrs
	}
	begin := r.left
	n := r.count(majorMap)
	if n == 0 || n > MaxAttrs {
		r.gaveUp = true
		return nil
	}
	m := make(map[string]string, n)
	for range n {
		name, value := r.bytes(majorText), r.bytes(majorBytes)
		if r.gaveUp || !utf8.Valid(name) {
			r.gaveUp = true
			return nil
		}
		m[string(name)] = string(value)
	}
	if r.gaveUp = len(m) != n; !r.gaveUp {
		r.attrs, r.rawAttrs = m, begin[:len(begin)-len(r.left)]
	}
	return m
}

// content reads content of one node or more: the checks are the general ones.
func (r *entryReader) content() (c Content) {
	w := wireContent{}
	last := uint64(0)
	for n := r.count(majorMap); n > 0 && !r.gaveUp; n-- {
		switch last = r.key(last); last {
		case 1:
			w.Size = r.uint(math.MaxInt64)
		case 2:
			r.node(&w.Top)
		default:
			r.gaveUp = true
		}
	}
	if r.gaveUp || last != 2 {
		r.gaveUp = true
		return c
	}
	c, err := w.content()
	r.gaveUp = err != nil
	return c
}

func (r *entryReader) node(w *wireNode) {
	last := uint64(0)
	for n := r.count(majorMap); n > 0 && !r.gaveUp; n-- {
		switch last = r.key(last); last {
		case 1:
			w.Level = uint(r.uint(maxDepth))
		case 2:
			w.IDs = r.bytes(majorBytes)
		case 3:
			r.lengths = r.lengths[:0]
			for range r.count(majorArray) {
				r.lengths = append(r.lengths, uint32(r.uint(math.MaxUint32)))
			}
			w.Lengths = r.lengths
		case 4:
			r.extents = r.numbers(r.extents)
			w.Extents = r.extents
		case 5:
			r.spans = r.numbers(r.spans)
			w.Spans = r.spans
		default:
			r.gaveUp = true
		}
	}
}

func (r *entryReader) numbers(into []uint64) []uint64 {
	into = into[:0]
	for range r.count(majorArray) {
		into = append(into, r.uint(math.MaxUint64))
	}
	return into
}

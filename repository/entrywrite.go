package repository

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
	"sync"
	"time"
)

// entryWriter encodes an entry by hand, byte for byte as the general encoder
// does and several times faster. Entries with named streams are left to that
// one.
type entryWriter struct {
	b      []byte
	fields int
	names  []string // of the map that is being sorted
}

var entryWriters = sync.Pool{New: func() any { return new(entryWriter) }}

// encodeFast gives the bytes of an entry without streams, in memory of their own.
func encodeFast(e *Entry) []byte {
	w := entryWriters.Get().(*entryWriter)
	defer entryWriters.Put(w)
	// The number of fields comes first and is known last.
	const room = 2
	w.b, w.fields = append(w.b[:0], make([]byte, room)...), 0
	w.entry(e)
	start := room - 1
	if w.fields < 24 {
		w.b[start] = byte(majorMap<<5 | w.fields)
	} else {
		start--
		w.b[start], w.b[start+1] = majorMap<<5|24, byte(w.fields)
	}
	return bytes.Clone(w.b[start:])
}

func (w *entryWriter) entry(e *Entry) {
	w.key(1)
	w.bytes(majorBytes, e.Root)
	w.key(2)
	w.bytes(majorBytes, e.Path)
	w.key(3)
	w.head(majorUint, uint64(e.Type))
	w.number(4, uint64(e.Mode))
	w.number(5, uint64(e.UID))
	w.number(6, uint64(e.GID))
	w.text(7, e.User)
	w.text(8, e.Group)
	w.number(9, uint64(e.Size))
	w.time(10, e.ModTime)
	w.time(11, e.AccessTime)
	w.time(12, e.ChangeTime)
	w.time(13, e.BirthTime)
	w.number(14, e.Device)
	w.number(15, e.Inode)
	w.number(16, uint64(e.Nlink))
	w.number(17, e.HardLink)
	w.number(18, e.Rdev)
	w.text(19, e.LinkTarget)
	w.number(20, uint64(e.InodeFlags))
	if len(e.Xattrs) > 0 {
		w.key(21)
		writeMap(w, majorBytes, e.Xattrs)
	}
	w.number(22, uint64(e.WindowsAttributes))
	w.text(23, string(e.SecurityDescriptor))
	w.text(24, string(e.ReparseData))
	if e.Content.size > 0 {
		w.key(26)
		w.content(&e.Content)
	}
	if len(e.Attrs) > 0 {
		w.key(27)
		writeMap(w, majorText, e.Attrs)
	}
}

// head writes the first bytes of an item, in the shortest form.
func (w *entryWriter) head(major int, n uint64) {
	t := byte(major << 5)
	switch {
	case n < 24:
		w.b = append(w.b, t|byte(n))
	case n < 1<<8:
		w.b = append(w.b, t|24, byte(n))
	case n < 1<<16:
		w.b = binary.BigEndian.AppendUint16(append(w.b, t|25), uint16(n))
	case n < 1<<32:
		w.b = binary.BigEndian.AppendUint32(append(w.b, t|26), uint32(n))
	default:
		w.b = binary.BigEndian.AppendUint64(append(w.b, t|27), n)
	}
}

// key begins a field of the entry.
func (w *entryWriter) key(k uint64) {
	w.fields++
	w.head(majorUint, k)
}

func (w *entryWriter) bytes(major int, s string) {
	w.head(major, uint64(len(s)))
	w.b = append(w.b, s...)
}

// number, text and time write a field unless it is empty.
func (w *entryWriter) number(key, n uint64) {
	if n != 0 {
		w.key(key)
		w.head(majorUint, n)
	}
}

func (w *entryWriter) text(key uint64, s string) {
	if s != "" {
		w.key(key)
		w.bytes(majorBytes, s)
	}
}

func (w *entryWriter) time(key uint64, t time.Time) {
	if t.IsZero() {
		return
	}
	w.key(key)
	w.head(majorArray, 2)
	if sec := t.Unix(); sec >= 0 {
		w.head(majorUint, uint64(sec))
	} else {
		w.head(majorInt, uint64(-1-sec))
	}
	w.head(majorUint, uint64(t.Nanosecond()))
}

// writeMap writes names and byte strings, the names in the order of their
// encoded bytes: the shorter first.
func writeMap[V ~string | ~[]byte](w *entryWriter, names int, m map[string]V) {
	w.names = w.names[:0]
	for name := range m {
		w.names = append(w.names, name)
	}
	slices.SortFunc(w.names, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) })
	w.head(majorMap, uint64(len(w.names)))
	for _, name := range w.names {
		w.bytes(names, name)
		v := m[name]
		w.head(majorBytes, uint64(len(v)))
		w.b = append(w.b, v...)
	}
	clear(w.names)
}

// content writes content that is not empty.
func (w *entryWriter) content(c *Content) {
	w.head(majorMap, 2)
	w.head(majorUint, 1)
	w.head(majorUint, uint64(c.size))
	w.head(majorUint, 2)
	w.node(&c.top)
}

func (w *entryWriter) node(n *listNode) {
	fields := 0
	for _, there := range [...]bool{n.level > 0, len(n.refs) > 0, len(n.refs) > 0, len(n.extents) > 0, len(n.spans) > 0} {
		if there {
			fields++
		}
	}
	w.head(majorMap, uint64(fields))
	if n.level > 0 {
		w.head(majorUint, 1)
		w.head(majorUint, uint64(n.level))
	}
	if len(n.refs) > 0 {
		w.head(majorUint, 2)
		w.head(majorBytes, uint64(IDSize*len(n.refs)))
		for i := range n.refs {
			w.b = append(w.b, n.refs[i].id[:]...)
		}
		w.head(majorUint, 3)
		w.head(majorArray, uint64(len(n.refs)))
		for i := range n.refs {
			w.head(majorUint, uint64(n.refs[i].length))
		}
	}
	if len(n.extents) > 0 {
		w.head(majorUint, 4)
		w.head(majorArray, uint64(3*len(n.extents)))
		for _, e := range n.extents {
			w.head(majorUint, uint64(e.length))
			w.head(majorUint, uint64(e.ref))
			w.head(majorUint, uint64(e.offset))
		}
	}
	if len(n.spans) > 0 {
		w.head(majorUint, 5)
		w.head(majorArray, uint64(len(n.spans)))
		for _, s := range n.spans {
			w.head(majorUint, uint64(s))
		}
	}
}

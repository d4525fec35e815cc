package repository

import (
	"fmt"
	"iter"
	"maps"
	"time"
	"unicode/utf8"

	"github.com/fxamacker/cbor/v2"
)

// wireEntry is an Entry as it is encoded: a map with these numbers as keys,
// in the deterministic encoding of CBOR. Texts of the file system are byte
// strings, for nothing says that they are UTF-8.
type wireEntry struct {
	Root               []byte                     `cbor:"1,keyasint"`
	Path               []byte                     `cbor:"2,keyasint"`
	Type               uint8                      `cbor:"3,keyasint"`
	Mode               uint32                     `cbor:"4,keyasint,omitempty"`
	UID                uint32                     `cbor:"5,keyasint,omitempty"`
	GID                uint32                     `cbor:"6,keyasint,omitempty"`
	User               []byte                     `cbor:"7,keyasint,omitempty"`
	Group              []byte                     `cbor:"8,keyasint,omitempty"`
	Size               uint64                     `cbor:"9,keyasint,omitempty"`
	ModTime            *wireTime                  `cbor:"10,keyasint,omitempty"`
	AccessTime         *wireTime                  `cbor:"11,keyasint,omitempty"`
	ChangeTime         *wireTime                  `cbor:"12,keyasint,omitempty"`
	BirthTime          *wireTime                  `cbor:"13,keyasint,omitempty"`
	Device             uint64                     `cbor:"14,keyasint,omitempty"`
	Inode              uint64                     `cbor:"15,keyasint,omitempty"`
	Nlink              uint32                     `cbor:"16,keyasint,omitempty"`
	HardLink           uint64                     `cbor:"17,keyasint,omitempty"`
	Rdev               uint64                     `cbor:"18,keyasint,omitempty"`
	LinkTarget         []byte                     `cbor:"19,keyasint,omitempty"`
	InodeFlags         uint32                     `cbor:"20,keyasint,omitempty"`
	Xattrs             map[cbor.ByteString][]byte `cbor:"21,keyasint,omitempty"`
	WindowsAttributes  uint32                     `cbor:"22,keyasint,omitempty"`
	SecurityDescriptor []byte                     `cbor:"23,keyasint,omitempty"`
	ReparseData        []byte                     `cbor:"24,keyasint,omitempty"`
	Streams            []wireStream               `cbor:"25,keyasint,omitempty"`
	Content            *wireContent               `cbor:"26,keyasint,omitempty"`
	Attrs              map[string][]byte          `cbor:"27,keyasint,omitempty"`
}

// entryFields is the greatest key this program knows.
const entryFields = 27

// wireTime is a point of time: seconds since 1970 and nanoseconds.
type wireTime struct {
	_    struct{} `cbor:",toarray"`
	Sec  int64
	Nsec uint32
}

// wireStream is a named stream.
type wireStream struct {
	_       struct{} `cbor:",toarray"`
	Name    []byte
	Content *wireContent
}

func encodeTime(t time.Time) *wireTime {
	if t.IsZero() {
		return nil
	}
	return &wireTime{Sec: t.Unix(), Nsec: uint32(t.Nanosecond())}
}

func (w *wireTime) time() (time.Time, error) {
	if w == nil {
		return time.Time{}, nil
	}
	if w.Nsec >= 1e9 || w.Sec > maxTime || w.Sec < -maxTime {
		return time.Time{}, damagef("a time of %d seconds and %d nanoseconds", w.Sec, w.Nsec)
	}
	return time.Unix(w.Sec, int64(w.Nsec)).UTC(), nil
}

// maxTime bounds seconds since 1970: time.Time cannot count much further.
const maxTime = 1 << 57

// check says whether the entry keeps the rules; reader and writer both ask.
func (e *Entry) check() error {
	if err := checkPlace(e.Root, e.Path); err != nil {
		return err
	}
	switch {
	case e.Type < Regular || e.Type > Reparse:
		return fmt.Errorf("the type is %d", e.Type)
	case e.Mode > 0o7777:
		return fmt.Errorf("the mode is %#o", e.Mode)
	case e.Size < 0:
		return fmt.Errorf("the size is %d", e.Size)
	case e.Type == Regular && e.Content.size != e.Size && e.Content.size != 0:
		return fmt.Errorf("the size is %d, that of the content %d", e.Size, e.Content.size)
	case e.Type != Regular && e.Content.size != 0:
		return fmt.Errorf("a %v with content", e.Type)
	case len(e.LinkTarget) > MaxPath:
		return fmt.Errorf("a link target of %d bytes", len(e.LinkTarget))
	case (e.Type == Symlink) != (e.LinkTarget != ""):
		return fmt.Errorf("a %v with a link target of %d bytes", e.Type, len(e.LinkTarget))
	case len(e.Attrs) > MaxAttrs:
		return fmt.Errorf("%d attributes", len(e.Attrs))
	}
	for _, t := range [...]time.Time{e.ModTime, e.AccessTime, e.ChangeTime, e.BirthTime} {
		if !t.IsZero() && (t.Unix() > maxTime || t.Unix() < -maxTime) {
			return fmt.Errorf("a time %d seconds from 1970", t.Unix())
		}
	}
	for name := range e.Attrs {
		if !utf8.ValidString(name) {
			return fmt.Errorf("an attribute whose name is no UTF-8")
		}
	}
	return nil
}

// encode gives the entry's bytes, after checking it.
func (e *Entry) encode() ([]byte, error) {
	if err := e.check(); err != nil {
		return nil, wrapf(ErrInvalid, "%v", err)
	}
	encoded, err := e.encodeKnown()
	if err != nil {
		return nil, wrapf(ErrInvalid, "%v", err)
	}
	if len(e.extra) > 0 {
		if encoded, err = addFields(encoded, e.extra); err != nil {
			return nil, err
		}
	}
	if len(encoded) > MaxEntry {
		return nil, invalidf("it takes %d bytes, the most is %d", len(encoded), MaxEntry)
	}
	return encoded, nil
}

// encodeKnown encodes the fields that this program knows.
func (e *Entry) encodeKnown() ([]byte, error) {
	if len(e.Streams) > 0 {
		return format.enc.Marshal(e.wire())
	}
	return encodeFast(e), nil
}

func (e *Entry) wire() *wireEntry {
	w := &wireEntry{
		Root: []byte(e.Root), Path: []byte(e.Path), Type: uint8(e.Type), Mode: e.Mode, UID: e.UID, GID: e.GID,
		User: []byte(e.User), Group: []byte(e.Group), Size: uint64(e.Size),
		ModTime: encodeTime(e.ModTime), AccessTime: encodeTime(e.AccessTime), ChangeTime: encodeTime(e.ChangeTime), BirthTime: encodeTime(e.BirthTime),
		Device: e.Device, Inode: e.Inode, Nlink: e.Nlink, HardLink: e.HardLink, Rdev: e.Rdev,
		LinkTarget: []byte(e.LinkTarget), InodeFlags: e.InodeFlags,
		WindowsAttributes: e.WindowsAttributes, SecurityDescriptor: e.SecurityDescriptor, ReparseData: e.ReparseData,
	}
	if len(e.Xattrs) > 0 {
		w.Xattrs = make(map[cbor.ByteString][]byte, len(e.Xattrs))
		for name, value := range e.Xattrs {
			if value == nil {
				value = []byte{}
			}
			w.Xattrs[cbor.ByteString(name)] = value
		}
	}
	for _, s := range e.Streams {
		w.Streams = append(w.Streams, wireStream{Name: []byte(s.Name), Content: s.Content.wire()})
	}
	if e.Content.size > 0 {
		w.Content = e.Content.wire()
	}
	w.Attrs = encodeAttrs(e.Attrs)
	return w
}

func encodeAttrs(attrs map[string]string) map[string][]byte {
	if len(attrs) == 0 {
		return nil
	}
	w := make(map[string][]byte, len(attrs))
	for k, v := range attrs {
		w[k] = []byte(v)
	}
	return w
}

func decodeAttrs(w map[string][]byte) map[string]string {
	if len(w) == 0 {
		return nil
	}
	attrs := make(map[string]string, len(w))
	for k, v := range w {
		attrs[k] = string(v)
	}
	return attrs
}

// addFields adds fields to an encoded map.
func addFields(encoded []byte, extra map[uint64][]byte) ([]byte, error) {
	fields := map[uint64]cbor.RawMessage{}
	if err := format.dec.Unmarshal(encoded, &fields); err != nil {
		return nil, wrapf(ErrInvalid, "%v", err)
	}
	for key, value := range extra {
		fields[key] = value
	}
	return format.enc.Marshal(fields)
}

// decodeEntry reads the first entry of a block and gives the rest.
func decodeEntry(block []byte) (e *Entry, encoded, rest []byte, err error) {
	var w wireEntry
	var extra map[uint64][]byte
	rest, err = format.strict.UnmarshalFirst(block, &w)
	if isUnknownField(err) {
		// A newer program wrote it: keep what this one does not know.
		w = wireEntry{}
		if rest, err = format.dec.UnmarshalFirst(block, &w); err == nil {
			extra, err = unknownFields(block[:len(block)-len(rest)])
		}
	}
	if err != nil {
		return nil, nil, nil, damagef("an entry that does not decode: %v", err)
	}
	encoded = block[:len(block)-len(rest)]
	if len(encoded) > MaxEntry {
		return nil, nil, nil, damagef("an entry of %d bytes", len(encoded))
	}
	if e, err = w.entry(); err != nil {
		return nil, nil, nil, fmt.Errorf("entry %s: %w", printable(string(w.Root), string(w.Path)), err)
	}
	e.extra = extra
	return e, encoded, rest, nil
}

// unknownFields gives the fields of an encoded entry that this program does
// not know, as they are.
func unknownFields(encoded []byte) (map[uint64][]byte, error) {
	fields := map[uint64]cbor.RawMessage{}
	if err := format.dec.Unmarshal(encoded, &fields); err != nil {
		return nil, err
	}
	extra := map[uint64][]byte{}
	for key, value := range fields {
		if key == 0 || key > entryFields {
			extra[key] = value
		}
	}
	return extra, nil
}

// entry checks what was read and makes it an Entry.
func (w *wireEntry) entry() (*Entry, error) {
	if w.Size > 1<<63-1 {
		return nil, damagef("a size of %d", w.Size)
	}
	e := &Entry{
		Root: string(w.Root), Path: string(w.Path), Type: FileType(w.Type), Mode: w.Mode, UID: w.UID, GID: w.GID,
		User: string(w.User), Group: string(w.Group), Size: int64(w.Size),
		Device: w.Device, Inode: w.Inode, Nlink: w.Nlink, HardLink: w.HardLink, Rdev: w.Rdev,
		LinkTarget: string(w.LinkTarget), InodeFlags: w.InodeFlags,
		WindowsAttributes: w.WindowsAttributes, SecurityDescriptor: w.SecurityDescriptor, ReparseData: w.ReparseData,
		Attrs: decodeAttrs(w.Attrs),
	}
	var err error
	for _, t := range []struct {
		to   *time.Time
		from *wireTime
	}{{&e.ModTime, w.ModTime}, {&e.AccessTime, w.AccessTime}, {&e.ChangeTime, w.ChangeTime}, {&e.BirthTime, w.BirthTime}} {
		if *t.to, err = t.from.time(); err != nil {
			return nil, err
		}
	}
	if len(w.Xattrs) > 0 {
		e.Xattrs = make(map[string][]byte, len(w.Xattrs))
		for name, value := range w.Xattrs {
			e.Xattrs[string(name)] = value
		}
	}
	for _, s := range w.Streams {
		c, err := s.Content.content()
		if err != nil {
			return nil, err
		}
		e.Streams = append(e.Streams, Stream{string(s.Name), c})
	}
	if e.Content, err = w.Content.content(); err != nil {
		return nil, err
	}
	if err := e.check(); err != nil {
		return nil, damagef("%v", err)
	}
	return e, nil
}

// contents gives the content of the entry and of its streams.
func (e *Entry) contents() iter.Seq[Content] {
	return func(yield func(Content) bool) {
		if !yield(e.Content) {
			return
		}
		for _, s := range e.Streams {
			if !yield(s.Content) {
				return
			}
		}
	}
}

// Clone gives a copy of the entry that shares no map with it, and keeps the
// fields that this program does not know.
func (e *Entry) Clone() Entry {
	c := *e
	c.Xattrs, c.Attrs = maps.Clone(e.Xattrs), maps.Clone(e.Attrs)
	return c
}

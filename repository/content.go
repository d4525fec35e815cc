package repository

import "io"

// Content is the data of one file as stored: an ordered list of extents that
// covers it from its first to its last byte. It is a value, small whatever the
// file's size, and may be copied and kept as long as the repository has the
// record it came from, or the backup that made it is going on. The zero
// Content is that of an empty file.
type Content struct {
	size int64
	top  listNode
}

// Size is the length of the file in bytes.
func (c Content) Size() int64 { return c.size }

// Equal says whether both have the same extents, which implies the same
// bytes. The converse does not hold: one sequence of bytes can be stored as
// different extents.
func (c Content) Equal(d Content) bool { return c.size == d.size && c.top.equal(&d.top) }

// Source is a file to be stored.
type Source struct {
	// At gives the file's bytes. It is read once, front to back, by one
	// goroutine.
	At io.ReaderAt
	// Size is the length of the file in bytes.
	Size int64
	// Data, if not nil, says where the file has data; all the rest is holes
	// and is not read. The ranges may come in any order and overlap. Nil means
	// that all is data; a slice that is empty and not nil means one hole.
	Data []Range
}

// Segment is a stretch of a file that is all data or all hole.
type Segment struct {
	Range
	// Hole says that the bytes are zeros that were not allocated.
	Hole bool
}

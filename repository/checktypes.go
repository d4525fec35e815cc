package repository

// CheckOptions says how much Check looks at.
type CheckOptions struct {
	// ReadData has every object read whole and every chunk decrypted and
	// hashed; without it, only the structure is looked at.
	ReadData bool
}

// Problem is one thing that Check found wrong.
type Problem struct {
	// Object is the damaged or missing object of the store. It is empty for a
	// problem that follows from another one's: a file that needs a chunk of a
	// damaged pack.
	Object string
	// Record is the record that is hurt, zero if the problem is an object's.
	Record ID
	// Root and Path give the entry that is hurt.
	Root, Path string
	// Document is the name of the document that is hurt.
	Document string
	// Err says what is wrong.
	Err error
}

// Report is what Check saw in all.
type Report struct {
	// Objects counts the objects of the store, Bytes their sizes.
	Objects, Bytes int64
	// Packs, Indexes, Records, Notes, Keys count objects by kind.
	Packs, Indexes, Records, Notes, Keys int64
	// Chunks counts the index's lines; ChunksRead those decrypted and hashed.
	Chunks, ChunksRead int64
	// Entries counts the file tables' lines, Extents the extents looked up.
	Entries, Extents int64
	// Unindexed counts packs that no index names: a backup that was
	// interrupted, or one that is going on, leaves them. They harm nothing.
	Unindexed int64
	// Foreign lists objects that are none of the repository's (at most 100).
	Foreign []string
	// Problems counts the problems reported.
	Problems int64
}

package repository

// The bounds of the format. A reader refuses what lies outside before it sets
// memory aside; a writer never writes it. docs/format.md repeats them.
const (
	// maxChunk bounds the bytes of one chunk and of one frame's plaintext.
	maxChunk = 4 << 20
	// minChunk is the least that Chunking.Min may be.
	minChunk = 64
	// maxFrameBox bounds the box of a frame: data that does not compress is
	// kept as it is.
	maxFrameBox = maxChunk + frameHeaderSize + boxOverhead
	// maxPack bounds a pack object.
	maxPack = 256 << 20
	// maxPackChunks bounds a pack's directory.
	maxPackChunks = 1 << 20
	// maxDirectoryBox bounds the box of a pack's directory: each chunk may
	// have a frame of its own.
	maxDirectoryBox = 4 + maxPackChunks*(8+IDSize+4) + boxOverhead
	// maxIndexEntries bounds the lines of one index object, maxIndexPacks its
	// pack table.
	maxIndexEntries = 1 << 20
	maxIndexPacks   = 1 << 18
	// maxIndex bounds an index object.
	maxIndex = 128 << 20
	// maxDepth bounds the levels of an extent list and of a file table.
	maxDepth = 8
	// maxBlock bounds a block of a file table or of an extent list.
	maxBlock = maxChunk
	// maxConfig and maxSlot bound those objects.
	maxConfig = 64 << 10
	maxSlot   = 64 << 10
	// maxIntent and maxMark bound those objects, maxMarkPacks the packs one mark
	// names.
	maxIntent    = 64 << 10
	maxMark      = 16 << 20
	maxMarkPacks = 1 << 17
	// maxSlots is how many key slots are looked at.
	maxSlots = 256
	// maxRecords bounds the records (and the notes of one record) listed.
	maxRecords = 1 << 20
)

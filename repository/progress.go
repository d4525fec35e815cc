package repository

// Progress says how far a check is with the packs that it reads whole, or a prune
// with those that it copies from.
type Progress struct {
	// Packs and Bytes are done: bytes of whole packs in a check, of chunks that
	// are used in a prune.
	Packs, Bytes int64
	// AllPacks and AllBytes are what there is to do.
	AllPacks, AllBytes int64
}

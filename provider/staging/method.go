package staging

import (
	"context"
	"os"
	"time"
)

// Method is how a provider copies one file, and what it knows of the cost. Its
// methods are called by several goroutines at the same time.
type Method interface {
	// Name is the provider's, for messages.
	Name() string

	// Examine measures a file that would be copied, or a copy; it returns the
	// number of its extents, or 0 if that does not matter. An error that
	// cannot be got round (a file of a kind the method can't copy) ends
	// Estimate.
	Examine(src *os.File) (extents int, err error)

	// Expect says what files with these totals will cost.
	Expect(t Totals) Expectation

	// Unclaimed says whether data of no writer may be copied too.
	Unclaimed() bool

	// Workers is how many files are best copied at the same time while
	// nothing is held. In the hold it is one for each processor.
	Workers() int

	// Flush is called before a file is copied in a pass that is not the
	// last. It must write back what is dirty.
	Flush(src *os.File) error

	// Copy makes dst hold exactly the content of src, whose size was size
	// a moment ago. If fresh, dst is new and empty; otherwise it holds what
	// an earlier Copy left. It returns soon after ctx has ended, and says how
	// many bytes it wrote or shared.
	Copy(ctx context.Context, src, dst *os.File, size int64, fresh bool) (bytes uint64, err error)

	// Renew says whether a file of this size that is copied again becomes a
	// new file rather than have its earlier copy changed.
	Renew(size int64) bool
}

// Totals sums up the files of a scope.
type Totals struct {
	Files, Dirs int
	// Bytes is their size, Data how much of that is not holes.
	Bytes, Data uint64
	Extents     int
	// RecentFiles and RecentBytes are those changed in the last minute,
	// which will be changed again.
	RecentFiles int
	RecentBytes uint64
	// Suspect: on this file system every file counts as changed.
	Suspect bool
	// FSType is the kernel's number of the volume's file system type.
	FSType int64
}

// Expectation is what a [Method] expects copying to cost.
type Expectation struct {
	// Hold is the time inside the hold.
	Hold time.Duration
	// Room is the bytes of space in the area.
	Room uint64
	// Notes are for users.
	Notes []string
}

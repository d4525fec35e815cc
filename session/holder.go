package session

import (
	"context"
	"time"
)

// Holder is a session that can keep its writers frozen while somebody else
// copies their volumes: the hypervisor below this host, or a cloud. A session
// that has this ability implements it besides Session.
//
//	StartSnapshotSet, no AddToSnapshotSet
//	PrepareForBackup, GatherWriterStatus, WriterStatus
//	HoldWriters ... the copy is made
//	ThawWriters, GatherWriterStatus, WriterStatus
//	BackupComplete ...
//
// AbortBackup and Close end a hold, too. So does the end of the session's
// process, however it ends, and each writer lets go by itself when its limit has
// passed.
type Holder interface {
	Session

	// HoldWriters takes the place of DoSnapshotSet in a set without volumes:
	// PrepareForSnapshot, Freeze, and all are held when it returns. It tells until
	// when: ThawWriters must have been called by then, or the first of the
	// writers lets go. That is Limits.Writer after it was asked to freeze, or
	// sooner if a writer says so of itself.
	//
	// It fails, and nobody is held, if a required writer refuses, or processes
	// or volumes cannot be brought to rest. A writer that is not required and
	// refuses is out alone; its state tells.
	//
	// While writers are held the session writes to no file: the file systems may
	// be frozen.
	HoldWriters(ctx context.Context, h Hold, p Progress) (until time.Time, err error)

	// ThawWriters ends the hold: Thaw in the reverse order, PostSnapshot. A writer
	// that was not held throughout has failed, and its state tells; the error is
	// one for all of them. Receipt then tells how long everything took.
	ThawWriters(ctx context.Context, p Progress) error
}

// Hold says what the copy made while writers are held is like.
type Hold struct {
	// Atomic: it takes all volumes at one instant, or every file system is
	// frozen until it is done. Else not a byte of the writers' files must change
	// from the beginning of the hold to its end, and processes of writers whose
	// Freeze does not give that are stopped.
	Atomic bool
}

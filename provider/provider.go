// Package provider is what an author of a shadow copy provider works with.
//
// A provider makes a point-in-time copy of a volume. The coordinator asks every
// provider whether it serves a volume, chooses one, and drives one [Snapshot]
// a volume through the steps of IVssProviderCreateSnapshotSet:
//
//	Supports            IsVolumeSupported; asked at any time, changes nothing
//	BeginPrepare        AddToSnapshotSet: cheap, lists and measures, makes nothing big
//	Snapshot.Estimate   what the copy would cost; plan stops here
//	Snapshot.EndPrepare before any writer is frozen; may take long: flush, first passes
//	Snapshot.PreCommit  writers are frozen; a second at most
//	Snapshot.Commit     the instant; all snapshots of a set commit at the same time
//	Snapshot.PostCommit writes flow again, writers are about to be thawed
//	Snapshot.Abort      instead of any of the above, at any point, more than once
//	Provider.Delete     removes the copy, or what a dead process left of it
//
// A provider keeps no state outside the copy itself: everything needed to
// delete a copy is in its [Ref], which the coordinator writes to its journal
// before BeginPrepare. Providers live in packages of their own below
// providers/, and each runs the suite in providertest.
package provider

import (
	"context"
	"time"

	"github.com/sombra-backup/sombra/vss"
)

// Info names a provider. ID is fixed for ever: it is what an administrator
// gives to choose a provider, and what documents record.
type Info struct {
	ID      vss.GUID
	Name    string // one word, as in "btrfs"
	Type    vss.ProviderType
	Version string
}

// Volume is a file system, or on btrfs a subvolume, as a provider sees it.
type Volume struct {
	// ID is stable over reboots where the volume has a UUID; see Persistent.
	ID string
	// Root is an absolute path under which the whole volume can be reached:
	// a mount point, or the directory that is the subvolume's root.
	Root string
	// FSType is the kernel's name of the file system type, as in "btrfs".
	FSType string
	// Source is what is mounted, as mountinfo has it; informative.
	Source string
	// Persistent says that ID is a UUID rather than the number of a mount.
	Persistent bool
	// ReadOnly says that the mount refuses writes.
	ReadOnly bool
}

// Capabilities is what a provider can do for one volume. Callers decide by
// these, never by a provider's name.
type Capabilities struct {
	// Atomic: one Commit takes every byte of the volume at one instant while
	// programs write. That holds for what they made durable (fsync and its
	// like): an order between writes that were only buffered is not kept.
	// Otherwise files are taken one after another. Without Atomic, and for
	// programs that only buffer, the coordinator must see to it that files
	// are still.
	Atomic bool
	// NeedsScope: only the files of [Request.Scope] are in the copy.
	NeedsScope bool
	// ClaimedOnly: of those only the files that a writer claims, never data of
	// no writer. Where nothing is claimed there is nothing to make a copy of.
	ClaimedOnly bool
	// ChangedRanges: two copies can be compared without reading them.
	ChangedRanges bool
	// AreaOnVolume: [Ref].Area must lie on the volume's own file system, so
	// <volume root>/.sombra for whoever may create it.
	AreaOnVolume bool
	// HoldFileSystem: the copy is taken below the file system, which must be
	// frozen (FIFREEZE) around Commit. Never set where that would block it.
	HoldFileSystem bool
	// Note is a restriction worth showing to the user; often empty.
	Note string
}

// AreaName is the name of the area in a volume's root. What is below it is in
// no copy's scope.
const AreaName = ".sombra"

// Ref names one copy, made or only begun. It can be stored and used by another
// process after a crash.
type Ref struct {
	Provider   vss.GUID
	SetID      vss.GUID
	SnapshotID vss.GUID
	Volume     Volume
	// Area is the directory that may hold what the provider creates. The
	// coordinator chooses it: <volume root>/.sombra ([AreaName]) for root, a
	// directory of the user's own otherwise. A provider creates nothing
	// outside it. Its last element may be absent: the provider makes it,
	// mode 0700, and takes it away again when nothing is left in it.
	Area string
}

// Request is what BeginPrepare is given.
type Request struct {
	Ref     Ref
	Context vss.SnapshotContext
	// Scope is the files wanted. It is a rule, not a listing: files come
	// and go until Commit, and the listing made in Commit is the truth.
	Scope Scope
	// HoldLimit is how long Commit may take. A provider that foresees that
	// it can't keep it says so in Estimate, before anything is frozen.
	HoldLimit time.Duration
	// Unclaimed asks for data of no writer to be copied too if that is
	// expected to fit half the HoldLimit (only with NeedsScope).
	Unclaimed bool
}

// Estimate is what a copy is expected to cost.
type Estimate struct {
	Room      uint64        // bytes of free space wanted in the area
	Free      uint64        // bytes of free space there now
	Hold      time.Duration // expected length of Commit
	Files     int           // claimed files in scope now (NeedsScope only)
	Bytes     uint64        // their size
	Extents   int           // their extents, where that is what costs; else 0
	Unclaimed bool          // data of no writer will be in the copy
	Notes     []string      // what a user should know, one sentence each
}

// Copied tells what a copy cost and where it is. Valid after PostCommit.
type Copied struct {
	// Root is the directory at which the copy of the volume's root can be
	// read. With NeedsScope only files of the scope are under it, and a
	// [Manifest] beside it holds the attributes a copied file cannot have.
	Root string
	// Flush is how long flushing took, before anything was frozen.
	Flush time.Duration
	// Files and Bytes count what was copied or cloned inside Commit,
	// Extents the extents cloned there.
	Files, Extents int
	Bytes          uint64
	// Unclaimed: data of no writer is in the copy.
	Unclaimed bool
	// Moved names files that changed while Commit was copying them: whoever
	// said they were still was wrong. At most [MaxMoved] are named.
	Moved []string
	// Note is what a user should know of how the copy was made, one sentence
	// without an end: what held up Commit, say. Empty if there is nothing.
	Note string
}

// MaxMoved bounds [Copied].Moved.
const MaxMoved = 100

// Provider makes shadow copies. Its methods are called by several goroutines
// at the same time. Errors carry the model's codes ([vss.Error]); any other
// error is reported as VSS_E_UNEXPECTED_PROVIDER_ERROR.
type Provider interface {
	Info() Info

	// Supports reports what the provider can do for v. If it does not serve
	// v the error is VSS_E_VOLUME_NOT_SUPPORTED_BY_PROVIDER and says why, in
	// words for the user: wrong file system, missing privilege, read-only.
	// area is the directory copies would be made in (see [Ref].Area); it need
	// not exist yet. It must leave nothing behind on the volume.
	Supports(ctx context.Context, v Volume, area string) (Capabilities, error)

	// BeginPrepare starts a copy (BeginPrepareSnapshot). After an error
	// nothing is left behind.
	BeginPrepare(ctx context.Context, r Request) (Snapshot, error)

	// Locate finds a finished copy again and returns where it can be read:
	// VSS_E_OBJECT_NOT_FOUND if it is gone.
	Locate(ctx context.Context, ref Ref) (Copied, error)

	// Delete removes the copy ref names, whatever stage it was in when its
	// maker stopped or died. It returns nil if there is nothing (left) to
	// delete, and may be called while a Commit of a stuck caller still runs.
	Delete(ctx context.Context, ref Ref) error
}

// Snapshot is one copy in the making. Methods are called one after another in
// the order given in the package comment, except Abort, which may come at any
// time and from another goroutine.
type Snapshot interface {
	// Estimate tells what the copy would cost. VSS_E_INSUFFICIENT_STORAGE if
	// it cannot have the room, VSS_E_HOLD_WRITES_TIMEOUT if it would outlast
	// the limit; both say by how much and what would help.
	Estimate(ctx context.Context) (Estimate, error)

	// EndPrepare does all that can be done while programs still write
	// (EndPrepareSnapshots). Running out of room later than here is a fault.
	EndPrepare(ctx context.Context) error

	// PreCommit comes when writers are frozen (PreCommitSnapshots).
	PreCommit(ctx context.Context) error

	// Commit takes the copy (CommitSnapshots). When it returns, programs may
	// write again without changing what the copy shows.
	Commit(ctx context.Context) error

	// PostCommit ends the making (PostCommitSnapshots) and says where the
	// copy is.
	PostCommit(ctx context.Context) (Copied, error)

	// Abort gives the copy up and removes what was made of it
	// (AbortSnapshots). It may be called several times.
	Abort(ctx context.Context) error
}

// Finalizer is implemented by a [Snapshot] whose copy can be written to
// between PreFinalCommit and PostFinalCommit, so that writers can recover or
// tidy their data in it (auto-recovery in PostSnapshot).
type Finalizer interface {
	PreFinalCommit(ctx context.Context) error
	PostFinalCommit(ctx context.Context) error
}

// Refresher is implemented by a [Snapshot] that gains from doing part of
// EndPrepare again at the last moment: flush, or take another pass over what
// has changed since. It is called after the writers have handled
// PrepareForSnapshot, right before the first of them is frozen.
type Refresher interface {
	Refresh(ctx context.Context) error
}

// Sizer is implemented by a [Provider] that can tell how much disk space a
// finished copy takes that nothing else shares: what deleting it would free, its
// records aside. (On btrfs that is less than what was changed since: an extent
// stays as long as a part of it is in use.) Where the context's deadline comes first, all is false and bytes
// what was found by then.
type Sizer interface {
	Held(ctx context.Context, ref Ref) (bytes uint64, all bool, err error)
}

// RangeTeller is implemented by a [Provider] that can compare two of its
// copies without reading them. The ranges returned cover every byte of the
// file at path (slash-separated, from the volume's root) that differs between
// base and the copy now, and may cover more. VSS_E_NOT_SUPPORTED means that
// nothing can be vouched for, and the caller must read.
type RangeTeller interface {
	ChangedRanges(ctx context.Context, base, now Ref, path string) ([]vss.Range, error)
}

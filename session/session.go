// Package session is what a requester talks to: the calls of
// IVssBackupComponents and the access to the data they lead to.
//
// There are several implementations, and a requester cannot tell them apart:
// the coordinator in this process, on hosts that have no service of their own;
// Windows' own Volume Shadow Copy Service; and a session on another host. The
// suite in sessiontest runs against each.
//
// # Order
//
// One Session serves one backup, one restore, or one query, and is never used
// again. Its calls must come in the model's order; a call out of order is
// VSS_E_BAD_STATE and changes nothing. A backup:
//
//	InitializeForBackup, SetContext, SetBackupState, EnableWriterClasses...
//	GatherWriterMetadata, WriterMetadata
//	AddComponent...
//	StartSnapshotSet, AddToSnapshotSet..., Estimates
//	SetBackupOptions, SetPreviousBackupStamp
//	PrepareForBackup, GatherWriterStatus, WriterStatus
//	DoSnapshotSet, GatherWriterStatus, WriterStatus
//	BackupComponents, Tree, Live ... the requester copies
//	SetBackupSucceeded for each explicit component
//	BackupComplete, GatherWriterStatus, WriterStatus
//	SaveAsXML
//	Close
//
// and a restore:
//
//	InitializeForRestore, SetRestoreState, GatherWriterMetadata
//	SetSelectedForRestore..., AddRestoreSubcomponent, SetRestoreOptions,
//	SetAdditionalRestores, AddNewTarget, ...
//	PreRestore, GatherWriterStatus, WriterStatus
//	BackupComponents, Target ... the requester writes
//	AddAlternativeLocationMapping, SetFileRestoreStatus
//	PostRestore, GatherWriterStatus, WriterStatus
//	Close
//
// # Paths
//
// A session hands out no paths of its host. A path in a document or on a
// command line is a string in the host's [vss.PathStyle]; ResolvePath turns it
// into a volume and a name from that volume's root, and [Tree] takes such
// names, always separated by slashes, "." for the root.
//
// # Errors
//
// Errors carry the model's code; vss.CodeOf finds it, errors.Is compares. Where
// a method does not exist on a host, the error is VSS_E_NOT_SUPPORTED.
//
// # Concurrency
//
// The calls of the model come one at a time, but AbortBackup and Close may come
// while another call runs; that call then ends early. Trees and targets may be
// used by several goroutines.
package session

import (
	"context"

	"github.com/sombra-backup/sombra/vss"
)

// Session is one backup, restore or query in a shadow copy service.
type Session interface {
	Setup
	Writers
	Snapshots
	Restorer
	Data

	// Host describes the host the session is on. Works in every state.
	Host(ctx context.Context) (Host, error)

	// SessionID tells sessions apart that run in parallel (GetSessionId).
	SessionID(ctx context.Context) (vss.GUID, error)

	// Close ends the session (Release). Auto-release shadow copies go,
	// writers get BackupShutdown, and Abort before that if a backup was under
	// way. It may be called several times.
	Close() error
}

// Setup opens a session and says what it is for.
type Setup interface {
	// InitializeForBackup must be the first call of a backup. The document
	// is nil except to import a transported set.
	InitializeForBackup(ctx context.Context, document []byte) error

	// SetContext chooses the kind of shadow copies; at most once; the
	// default is VSS_CTX_BACKUP.
	SetContext(ctx context.Context, c vss.SnapshotContext) error

	// SetBackupState says what kind of backup this is; before
	// PrepareForBackup. The type must not be UNDEFINED or OTHER (R-TYPE-1).
	SetBackupState(ctx context.Context, s BackupState) error

	// InitializeForRestore must be the first call of a restore. It loads the
	// stored Backup Components Document. stored tells the service which
	// writers the backup had, so that built-in ones can be there again.
	InitializeForRestore(ctx context.Context, document []byte, stored []StoredWriter) error

	// SetRestoreState is optional, before PreRestore.
	SetRestoreState(ctx context.Context, t vss.RestoreType) error

	// EnableWriterClasses makes the named classes the only ones called,
	// DisableWriterClasses and DisableWriterInstances leave writers out.
	// They come before GatherWriterMetadata.
	EnableWriterClasses(ctx context.Context, classes ...vss.GUID) error
	DisableWriterClasses(ctx context.Context, classes ...vss.GUID) error
	DisableWriterInstances(ctx context.Context, instances ...vss.GUID) error

	// SaveAsXML returns the Backup Components Document. In a backup it is
	// VSS_E_BAD_STATE before DoSnapshotSet has ended (D-32), or, in a backup
	// without a shadow copy, before PrepareForBackup has.
	SaveAsXML(ctx context.Context) ([]byte, error)
}

// Writers is the conversation with the writers, through the service.
type Writers interface {
	// GatherWriterMetadata sends Identify to every writer and waits; once a
	// session.
	GatherWriterMetadata(ctx context.Context, p Progress) error

	// WriterMetadata returns what the writers answered
	// (GetWriterMetadataCount, GetWriterMetadata), in the order found. Until
	// FreeWriterMetadata.
	WriterMetadata(ctx context.Context) ([]WriterInfo, error)
	FreeWriterMetadata(ctx context.Context) error

	// AddComponent adds an explicit component; before PrepareForBackup (D-5).
	// Twice the same is VSS_E_OBJECT_ALREADY_EXISTS; one that no gathered
	// document has is VSS_E_OBJECT_NOT_FOUND (R-SEL-15).
	AddComponent(ctx context.Context, c Component) error

	// SetBackupOptions and SetPreviousBackupStamp come before PrepareForBackup.
	SetBackupOptions(ctx context.Context, c Component, options string) error
	SetPreviousBackupStamp(ctx context.Context, c Component, stamp string) error

	// PrepareForBackup sends the event; after SetBackupState and
	// StartSnapshotSet. A writer that refuses is out, the rest go on: its
	// state tells.
	PrepareForBackup(ctx context.Context, p Progress) error

	// GatherWriterStatus asks each writer for its state, WriterStatus
	// returns the answers, those of the writers gathered first and in the
	// same order. After them come writers that were found but failed
	// Identify, with that state: they are not in WriterMetadata. Reliable after PrepareForBackup, DoSnapshotSet,
	// BackupComplete, PreRestore and PostRestore. The call after
	// BackupComplete or PostRestore frees the writer's session slot.
	GatherWriterStatus(ctx context.Context, p Progress) error
	WriterStatus(ctx context.Context) ([]WriterStatus, error)
	FreeWriterStatus(ctx context.Context) error

	// BackupComponents returns the components of the document as they are
	// now (GetWriterComponents): the same document SaveAsXML returns, but
	// also while writers may still change it.
	BackupComponents(ctx context.Context) ([]byte, error)

	// SetBackupSucceeded gives the outcome of an explicit component and its
	// set: true only if every file was saved (R-SEL-18). After DoSnapshotSet,
	// before BackupComplete.
	SetBackupSucceeded(ctx context.Context, c Component, ok bool) error

	// BackupComplete tells the writers that the backup is on the medium.
	// It must not be called before it is: logs are truncated in it.
	BackupComplete(ctx context.Context, p Progress) error

	// AbortBackup gives up. Writers get Abort if they may still need it.
	// Ignored if nothing is under way.
	AbortBackup(ctx context.Context) error
}

// Snapshots makes and keeps shadow copies.
type Snapshots interface {
	// IsVolumeSupported tells what a provider would do for a volume. With a
	// zero provider it is the one that would be chosen: hardware, then
	// software, then system.
	IsVolumeSupported(ctx context.Context, provider vss.GUID, volume string) (Support, error)

	// StartSnapshotSet makes an empty set. VSS_E_SNAPSHOT_SET_IN_PROGRESS
	// while another run on the host has one.
	StartSnapshotSet(ctx context.Context) (vss.GUID, error)

	// AddToSnapshotSet adds a volume, at most 64. A zero provider lets the
	// service choose. The scope is the candidate files, claimed and
	// unclaimed; providers of whole volumes ignore it.
	AddToSnapshotSet(ctx context.Context, volume string, provider vss.GUID, scope Scope) (vss.GUID, error)

	// Estimates tells what DoSnapshotSet is expected to cost for each volume
	// added. An Estimate with a Refusal says that DoSnapshotSet would fail.
	Estimates(ctx context.Context) ([]Estimate, error)

	// DoSnapshotSet takes the shadow copies: PrepareForSnapshot, Freeze,
	// commit of all volumes, Thaw, PostSnapshot.
	//
	// It fails, and no shadow copy is left, if a provider fails, the hold
	// limit passes, or a required writer refuses. A writer that is not
	// required and refuses is out of the set alone; its state tells (D-7).
	DoSnapshotSet(ctx context.Context, p Progress) error

	// Receipt tells how long everything took: of the set made last.
	Receipt(ctx context.Context) (Receipt, error)

	SnapshotProperties(ctx context.Context, snapshot vss.GUID) (SnapshotProperties, error)

	// SnapshotSpace tells how much disk space deleting a finished copy would free.
	// It does not look for longer than a moment. VSS_E_NOT_SUPPORTED where
	// nobody knows.
	SnapshotSpace(ctx context.Context, snapshot vss.GUID) (Space, error)

	// QuerySnapshots and QueryProviders are Query. They list finished copies
	// of this host and the providers known to it.
	QuerySnapshots(ctx context.Context) ([]SnapshotProperties, error)
	QueryProviders(ctx context.Context) ([]Provider, error)

	// DeleteSnapshots deletes a shadow copy, or all of a set, one after
	// another, and returns how many went.
	DeleteSnapshots(ctx context.Context, id vss.GUID, kind vss.ObjectType) (int, error)

	// ExposeSnapshot makes a persistent copy readable at a path of the host
	// and returns the path; UnexposeSnapshot ends that.
	ExposeSnapshot(ctx context.Context, snapshot vss.GUID, path string) (string, error)
	UnexposeSnapshot(ctx context.Context, snapshot vss.GUID) error

	// The rest of the model. VSS_E_NOT_SUPPORTED where a host has no such
	// thing.
	ImportSnapshots(ctx context.Context) error
	BreakSnapshotSet(ctx context.Context, set vss.GUID) error
	RevertToSnapshot(ctx context.Context, snapshot vss.GUID, force bool) error
}

// Restorer is the part of a restore that writers see. All of it but
// PostRestore, SetFileRestoreStatus, SetRangesFilePath and
// AddAlternativeLocationMapping comes before PreRestore.
type Restorer interface {
	// SetSelectedForRestore chooses a component that AddComponent put in the
	// document. VSS_E_OBJECT_NOT_FOUND if its writer is not running
	// (R-SEL-28). A non-zero instance restores to that instance
	// (SetSelectedForRestoreEx, R-SEL-30).
	SetSelectedForRestore(ctx context.Context, c Component, selected bool, instance vss.GUID) error

	// AddRestoreSubcomponent narrows a selected component (R-SEL-24).
	AddRestoreSubcomponent(ctx context.Context, c Component, path, name string) error

	SetRestoreOptions(ctx context.Context, c Component, options string) error
	SetAdditionalRestores(ctx context.Context, c Component, more bool) error
	SetAuthoritativeRestore(ctx context.Context, c Component, on bool) error
	SetRollForward(ctx context.Context, c Component, t vss.RollForwardType, point string) error
	SetRestoreName(ctx context.Context, c Component, name string) error
	AddNewTarget(ctx context.Context, c Component, spec vss.FileSpec, path string) error

	// PreRestore sends the event to the writers with a chosen component.
	PreRestore(ctx context.Context, p Progress) error

	AddAlternativeLocationMapping(ctx context.Context, c Component, spec vss.FileSpec, destination string) error
	SetRangesFilePath(ctx context.Context, c Component, partialFile int, path string) error
	SetFileRestoreStatus(ctx context.Context, c Component, s vss.FileRestoreStatus) error

	PostRestore(ctx context.Context, p Progress) error
}

// Data leads to the bytes.
type Data interface {
	// ResolvePath expands the environment in a path of the host (R-SET-8) and
	// tells its volume. The path need not exist; its nearest existing parent
	// decides. Links in the directories above it are followed, the last
	// element is not.
	ResolvePath(ctx context.Context, path string) (Location, error)

	// Volume describes a volume by its id.
	Volume(ctx context.Context, id string) (Volume, error)

	// VolumesUnder lists the volumes mounted or nested below a path, each
	// with the path at which its root appears, without the one path is on.
	VolumesUnder(ctx context.Context, path string) ([]Location, error)

	// Tree is the shadow copy of one volume. It is valid until the copy is
	// deleted. With a file-by-file provider the tree also shows what was not
	// copied, read live, and each [Entry] says which it is.
	Tree(ctx context.Context, snapshot vss.GUID) (Tree, error)

	// Live is the volume itself, for what needs no copy.
	Live(ctx context.Context, volume string) (Tree, error)

	// Target is where a restore writes: everything below the directory dir of
	// the host, or, if dir is empty, the host's own root. In the latter case
	// roots are the absolute paths the backup was made of: only they, and the
	// directories above them, may be reached through links.
	Target(ctx context.Context, dir string, roots []string) (Target, error)
}

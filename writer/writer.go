// Package writer is what an author of a writer works with: the interface
// [Writer], the events it gets, and how it is served.
//
// A writer knows how to bring one application's data to a consistent state. It
// declares its components and their files in a Writer Metadata Document when
// asked to identify itself, and then takes part in the backup's events. In a
// backup they come in this order:
//
//	Identify           may come at any time; always the same answer; keeps no state
//	PrepareForBackup   components are chosen; slow work may begin        [BackupPreparer]
//	PrepareForSnapshot last long work before the freeze                 [SnapshotPreparer]
//	Freeze             stop changes; short; the last chance to say no
//	Thaw               go on as before
//	PostSnapshot       last changes to the components document          [PostSnapshotter]
//	BackupComplete     the data is safe; truncate logs now or never     [BackupCompleter]
//	BackupShutdown     the requester is gone, for good or for bad       [BackupShutdowner]
//	Abort              instead of going on, between PrepareForBackup and PostSnapshot
//
// and in a restore: Identify, PreRestore [PreRestorer], PostRestore [PostRestorer].
//
// Only Identify, Freeze, Thaw and Abort must be there. The rest are interfaces
// of their own, found by type assertion; a writer without one answers as the
// model's default handler does, with success.
//
// A handler's result has the model's meaning. A nil error is TRUE. An error is
// FALSE: the writer vetoes, with the code found in the error if that is one a
// writer may use (VSS_E_WRITERERROR_*), else VSS_E_WRITERERROR_NONRETRYABLE. A
// handler that goes on but has something to report calls
// [Event.SetWriterFailure] and returns nil.
//
// Events of one writer come one at a time, except that Abort may come while
// another handler runs whose time is up; its context is then already
// cancelled. Every handler gets a context that ends at its time limit.
package writer

import (
	"context"
	"encoding/json"
	"time"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/vss"
)

// Writer is the part every writer has.
type Writer interface {
	// Describe says how the writer wants to be driven. Constant.
	Describe() Description

	// Identify builds the Writer Metadata Document (OnIdentify). The
	// identity in it must carry InstanceID, which is new at every start of
	// the writer, and an instance name that survives. It keeps no state and
	// changes nothing. An error leaves the writer out of the list.
	Identify(ctx context.Context) (*metadata.WriterMetadata, error)

	// Freeze stops changes to the files of the chosen components, and
	// returns when they have stopped (OnFreeze). It should return quickly.
	// It calls e.Frozen to tell how long it waited for locks and which
	// processes hold the files.
	Freeze(ctx context.Context, e *Event) error

	// Thaw undoes Freeze (OnThaw). It is called for every writer whose
	// Freeze was called and returned nil, whatever happened since.
	Thaw(ctx context.Context, e *Event) error

	// Abort returns to normal from wherever the writer is and frees
	// temporary things (OnAbort). It may come several times, and to a
	// writer just started in place of one that died frozen: it must then
	// undo what the dead one did.
	Abort(ctx context.Context, e *Event) error
}

// The optional events. See the package comment for when they come.
type (
	// BackupPreparer gets PrepareForBackup (OnPrepareBackup).
	BackupPreparer interface {
		PrepareForBackup(ctx context.Context, e *Event) error
	}
	// SnapshotPreparer gets PrepareForSnapshot (OnPrepareSnapshot).
	SnapshotPreparer interface {
		PrepareForSnapshot(ctx context.Context, e *Event) error
	}
	// PostSnapshotter gets PostSnapshot (OnPostSnapshot).
	PostSnapshotter interface {
		PostSnapshot(ctx context.Context, e *Event) error
	}
	// BackupCompleter gets BackupComplete (OnBackupComplete). The document
	// is read-only; GetBackupSucceeded of each component tells its outcome.
	// Logs are truncated here or not at all (R-TYPE-17).
	BackupCompleter interface {
		BackupComplete(ctx context.Context, e *Event) error
	}
	// BackupShutdowner gets BackupShutdown (OnBackupShutdown), also when
	// the requester died. Clean up; never truncate logs here.
	BackupShutdowner interface {
		BackupShutdown(ctx context.Context, e *Event) error
	}
	// PreRestorer gets PreRestore (OnPreRestore): close files, or refuse.
	PreRestorer interface {
		PreRestore(ctx context.Context, e *Event) error
	}
	// PostRestorer gets PostRestore (OnPostRestore): recover, or reopen.
	PostRestorer interface {
		PostRestore(ctx context.Context, e *Event) error
	}
)

// Stillness is what a writer's Freeze gives.
type Stillness int

const (
	// CommitsHeld: nothing new is acknowledged, but files may still be
	// written. Enough only where one operation of the provider takes all of
	// the writer's files at once.
	CommitsHeld Stillness = iota
	// FilesStill: no byte of the writer's files changes.
	FilesStill
	// NothingHeld: Freeze holds nothing by itself; transactions may be
	// acknowledged until Thaw. But whatever one operation of a provider takes
	// of all the writer's files at once is a state from which the application
	// recovers everything that was acknowledged before: one with a log that is
	// durable before it acknowledges. Enough only where the whole set, other
	// writers' files included, is one such copy: over two of them a
	// transaction could be in the later one and what it followed from not in
	// the earlier.
	NothingHeld
)

func (s Stillness) String() string {
	switch s {
	case FilesStill:
		return "files still"
	case NothingHeld:
		return "nothing held"
	default:
		return "commits held"
	}
}

// Description says how a writer wants to be driven.
type Description struct {
	// Level orders Freeze: front-end first, then back-end, then system. Zero
	// means front-end, the model's default.
	Level vss.ApplicationLevel
	// FreezeTimeout is the longest the writer wants to be frozen. Zero means
	// the service's own limit (60 s); a longer one than that has no effect.
	FreezeTimeout time.Duration
	// Stillness is what Freeze gives.
	Stillness Stillness
	// NamesProcesses: Frozen will name the processes that write the files,
	// so that they can be stopped where Stillness does not suffice.
	NamesProcesses bool
	// ReadsPaused: the application answers no reads while frozen.
	ReadsPaused bool
	// OutlivesProcess: what Freeze does does not end by itself with the
	// writer's process. If that dies frozen, the service starts the writer
	// again and sends it Abort.
	OutlivesProcess bool
	// Weak, if not empty, says in a few words why this writer's word is worth
	// less than a live connection's, as "scripts, no proof of stillness". It
	// is shown by plan and kept in the record.
	Weak string
	// CrashConsistent: while frozen the files have no more than what a crash of
	// the application would leave, which need not be all that it acknowledged.
	// Its components are at that level in plan and record, and out of reach of
	// who asks for application consistency. Weak says why.
	CrashConsistent bool
}

// FreezeReport is what a writer tells of its Freeze.
type FreezeReport struct {
	// LockWait is how long it waited for the application's lock; the rest
	// of the time until Thaw the application was held.
	LockWait time.Duration
	// Processes are all processes that can write the writer's files.
	Processes []int
}

// BackupState is what SetBackupState said.
type BackupState struct {
	SelectComponents    bool
	BootableSystemState bool
	Type                vss.BackupType
	PartialFileSupport  bool
}

// Snapshot names one shadow copy of the set to a writer (GetSnapshotDeviceName).
type Snapshot struct {
	ID       vss.GUID
	VolumeID string
	// VolumeRoot is where the volume is, DeviceRoot where its copy is. The
	// latter is empty before the copy is made.
	VolumeRoot string
	DeviceRoot string
}

// OpenFile is a file of the writer that a process has open.
type OpenFile struct {
	Path    string
	PID     int
	Command string
}

// Event is one event as a writer gets it. It belongs to one call; an Abort
// beside another event has an Event of its own.
type Event struct {
	// SessionID tells parallel sessions apart, SnapshotSetID is zero where
	// no shadow copy is made.
	SessionID     vss.GUID
	SnapshotSetID vss.GUID
	Context       vss.SnapshotContext
	State         BackupState
	RestoreType   vss.RestoreType

	// Limit, in Freeze, is the longest from its beginning to the end of Thaw
	// that the service allows; zero means 60 s. The writer's own
	// Description.FreezeTimeout goes before it if it is shorter.
	Limit time.Duration

	// Components is the writer's part of the Backup Components Document:
	// its explicit components. It is nil where the model gives none (not in
	// component mode, or an event without the document). Changes are kept
	// in PrepareForBackup, PostSnapshot, PreRestore and PostRestore and
	// lost in the others.
	Components *metadata.WriterComponents

	// Snapshots are the shadow copies of the set, from PrepareForSnapshot
	// (without DeviceRoot) and PostSnapshot on.
	Snapshots []Snapshot

	// Open lists, in PreRestore, which processes have files of the chosen
	// components open. The service finds them by device and inode.
	Open []OpenFile

	// Failure and Report are filled by the writer through SetWriterFailure
	// and Frozen.
	Failure *Failure
	Report  FreezeReport
}

// Failure is what SetWriterFailureEx carries.
type Failure struct {
	Code        vss.Code // VSS_E_WRITERERROR_*, or vss.OK
	Application uint32   // the application's own code, 0 if none
	Message     string
}

// SetWriterFailure reports a failure (SetWriterFailureEx). With a nil result of
// the handler it is a failure that does not stop the backup.
func (e *Event) SetWriterFailure(code vss.Code, application uint32, message string) {
	e.Failure = &Failure{Code: code, Application: application, Message: message}
}

// Frozen is called by Freeze to give its report.
func (e *Event) Frozen(r FreezeReport) { e.Report = r }

// Owner is the identity a writer's process runs with: that of the owner of the
// data, so that reading or locking it can do no more than its owner could.
type Owner struct {
	UID, GID uint32
	Groups   []uint32
}

// Spec says what is needed to make one built-in writer in another process.
type Spec struct {
	Kind string // Kind.Name
	// Name is the instance name, which survives restarts.
	Name  string
	Owner Owner
	// Config is the kind's own.
	Config json.RawMessage
	// Discovered says that nobody configured this writer. It gets a shorter
	// time to freeze, and gives way to a configured one.
	Discovered bool
	// Required makes the whole set fail if this writer fails.
	Required bool
	// Unit is the unit of systemd, such as "postgresql@15-main.service", that
	// runs the application, empty if none does or none is known. Discover
	// sets it: to what package unit finds for the application's process, or
	// to what the configuration says, but never to what a backup says.
	Unit string `json:",omitempty"`
	// UnitConfigured says that the configuration names Unit. One that was only
	// found is stopped only if it runs as Owner.
	UnitConfigured bool `json:",omitempty"`
	// Service is Unit as New gets it: nil without a Unit, and in Discover.
	Service Service `json:"-"`
}

// Discovery is what a kind is given to find its instances.
type Discovery struct {
	// Paths are the absolute paths chosen for backup, below which data may
	// be looked for. Empty in a restore.
	Paths []string
	// Running has servers that run found wherever their data lies: a copy of
	// the whole machine has all of them, whatever Paths say.
	Running bool
	// Exclude is tested against absolute paths of files and directories.
	Exclude func(path string) bool
	// Configs are the entries of this kind in the configuration.
	Configs []Config
	// Auto allows finding what nobody configured.
	Auto bool
	// Stored is the writers of a backup to be restored: a kind answers with
	// a Spec for each that it can serve again.
	Stored []Stored
	// CacheDir may keep results between runs; may be empty.
	CacheDir string
}

// Everywhere reports whether each server that runs is to be found, wherever its
// data lies.
func (d Discovery) Everywhere() bool { return d.Running }

// Config is one configured writer.
type Config struct {
	Kind     string          `json:"kind"`
	Name     string          `json:"name,omitempty"`
	Required bool            `json:"required,omitempty"`
	Config   json.RawMessage `json:"config,omitempty"`
}

// Stored is one writer of a backup record.
type Stored struct {
	Metadata *metadata.WriterMetadata
	// Owner is who owned the data when it was backed up.
	Owner Owner
}

// Kind is one sort of built-in writer.
type Kind interface {
	// Name is one word, as in the configuration.
	Name() string
	// Class is the writer class id, fixed for ever.
	Class() vss.GUID
	// Discover finds instances. It runs in the service's own process with its
	// rights: it reads directories and attributes, never the data. Other kinds'
	// Discover run at the same time, over the same d.Stored, which is not changed.
	Discover(ctx context.Context, d Discovery) ([]Spec, error)
	// New makes the writer. It runs in the writer host, with the owner's
	// rights, for many specifications at the same time, as servers may take long
	// to answer. It ends with ctx, which the writer does not outlive to use. An
	// error wrapping ErrNotMine leaves it out without complaint.
	New(ctx context.Context, s Spec) (Writer, error)
}

package session

import (
	"time"

	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/vss"
)

// Scope is the candidate files of one volume; see [provider.Scope].
type Scope = provider.Scope

// Options is what the maker of a session tells it beyond the model's calls.
// All of it can be sent to another host.
type Options struct {
	// Paths are the host's paths chosen for backup; built-in writers look
	// for their data below them.
	Paths []string
	// Running has servers that run found wherever their data lies, for a copy
	// that has all of the host.
	Running bool
	// Exclude are patterns of paths below which nobody looks.
	Exclude []string
	// Writers are configured ones.
	Writers []WriterConfig
	// NoDiscovery leaves out writers nobody configured.
	NoDiscovery bool
	Limits      Limits
}

// WriterConfig configures one built-in writer. Config is JSON of the kind's own.
type WriterConfig struct {
	Kind     string
	Name     string
	Required bool
	Config   []byte
}

// Limits bound how long anything may take. Zero means the default.
type Limits struct {
	// Writer is from Freeze to Thaw of one writer; 60 s. Freezing all of
	// them may take as much of it as leaves room for the hold.
	Writer time.Duration
	// Hold is from the last writer frozen to the last volume committed,
	// stopping processes included; 10 s.
	Hold time.Duration
	// Discovered is how long a writer that nobody configured may take to
	// freeze; 2 s.
	Discovered time.Duration
	// Event is for each of the events that may be long: PrepareForBackup,
	// PrepareForSnapshot, PostSnapshot, BackupComplete, PreRestore and
	// PostRestore; and for stopping or starting a service; 10 minutes.
	Event time.Duration
	// Identify is for Identify; 60 s.
	Identify time.Duration
	// Prepare is for the providers' EndPrepare; 30 minutes.
	Prepare time.Duration
}

// Progress is told how a long call goes on. It may be nil. It is called by one
// goroutine at a time and must return soon.
type Progress func(Step)

// Step is one thing that happened in a long call.
type Step struct {
	// Event is the event or provider step, as "Freeze" or "Commit".
	Event string
	// Subject is the writer instance or volume it concerns; empty for all.
	Subject string
	// Done is false when it begins and true when it has ended.
	Done bool
	Took time.Duration
	Err  string
}

// Host describes a host.
type Host struct {
	ID    string // stable; on Linux the machine id, hashed for this program
	Name  string
	OS    string // as GOOS
	Style vss.PathStyle
	// Native: the host has a shadow copy service of its own.
	Native bool
	// Privileged: others' data can be reached.
	Privileged bool
}

// BackupState is what SetBackupState takes.
type BackupState struct {
	SelectComponents    bool
	BootableSystemState bool
	Type                vss.BackupType
	PartialFileSupport  bool
	// Purpose says in a word what persistent shadow copies made in this backup are
	// kept for; see [SnapshotProperties]. At most 200 bytes.
	Purpose string
}

// Component names a component of one writer instance.
type Component struct {
	Instance    vss.GUID
	Writer      vss.GUID // class id
	Type        vss.ComponentType
	LogicalPath string
	Name        string
}

// WriterInfo is a writer that answered Identify.
type WriterInfo struct {
	Instance vss.GUID
	// Document is its Writer Metadata Document.
	Document []byte
	// Discovered: nobody configured it.
	Discovered bool
	Required   bool
	// Foreign: it runs as another user than the service, who has fewer rights.
	// What it asks for may be done with what is that user's, and no more.
	Foreign bool
	// FilesStill and the others are what it declares of its Freeze; see
	// writer.Description. Neither FilesStill nor NothingHeld: commits are held.
	FilesStill     bool
	NothingHeld    bool
	NamesProcesses bool
	ReadsPaused    bool
	Weak           string
	// CrashConsistent: its files have no more than what a crash would leave.
	CrashConsistent bool
}

// WriterStatus is what GetWriterStatusEx gives.
type WriterStatus struct {
	Instance vss.GUID
	Writer   vss.GUID
	Name     string // friendly name
	// InstanceName survives restarts.
	InstanceName string
	State        vss.WriterState
	// Failure is vss.OK, VSS_E_WRITERERROR_*, VSS_E_WRITER_NOT_RESPONDING or
	// VSS_E_WRITER_STATUS_NOT_AVAILABLE.
	Failure vss.Code
	// Application and Message are the writer's own words.
	Application uint32
	Message     string
	// Event is the event in which it failed; empty if it did not.
	Event string
}

// StoredWriter is one writer of a stored backup.
type StoredWriter struct {
	Document []byte
	// UID and GID are who owned its data.
	UID, GID uint32
}

// Volume describes a volume of the host.
type Volume struct {
	ID string
	// Root is the path of its root, for people.
	Root   string
	FSType string
	Source string
	// Persistent: the id survives a restart of the host.
	Persistent bool
	ReadOnly   bool
	// TimesTell: the change time of a file moves, by this host's clock, with
	// every change of its content that comes after the file was opened through
	// a live tree or after its shadow copy was begun, a store through a memory
	// map included. False where nobody can vouch for it.
	TimesTell bool
}

// Location is a place on a volume.
type Location struct {
	Volume string // volume id
	// Name is slash-separated from the volume's root, "." for the root.
	Name string
	// Path is the host's path, cleaned and expanded.
	Path string
	// Left, from VolumesUnder, says why the volume holds nobody's data or
	// cannot take part in a backup, as "proc holds no data"; else empty.
	Left string
}

// Level is how consistent data is.
type Level int

const (
	// LevelNone: read live, each file by itself.
	LevelNone Level = iota
	// LevelCrash: as after a power cut, all at one instant.
	LevelCrash
	// LevelApp: its writer brought it to a consistent state.
	LevelApp
)

func (l Level) String() string {
	return [...]string{"none", "crash", "app"}[l]
}

// Provider describes a provider.
type Provider struct {
	ID      vss.GUID
	Name    string
	Type    vss.ProviderType
	Version string
}

// Support is what a provider would do for a volume.
type Support struct {
	Provider     Provider
	Capabilities provider.Capabilities
	// Refused names the better providers that do not serve the volume and why.
	Refused []Refusal
}

// Refusal is a reason in words.
type Refusal struct {
	Subject string
	Reason  string
}

// Estimate is what the shadow copy of one volume is expected to cost.
type Estimate struct {
	Snapshot vss.GUID
	Volume   string
	Provider Provider
	Area     string // where the copy will lie
	provider.Estimate
	// Atomic as in [provider.Capabilities].
	Atomic bool
	// Refusal is empty, or why DoSnapshotSet would fail, with its code.
	Refusal string
	Code    vss.Code
	// Held are the writers with files in the copy whose own stillness will not
	// suffice, if the set stays as it is.
	Held []HeldWriter
}

// HeldWriter is a writer whose processes will be stopped while the set is made.
type HeldWriter struct {
	Instance vss.GUID
	// Refusal, if not empty, is why they cannot be: the writer will be refused
	// before anything is frozen.
	Refusal string
}

// SnapshotProperties is VSS_SNAPSHOT_PROP.
type SnapshotProperties struct {
	ID         vss.GUID
	SetID      vss.GUID
	Count      int // of copies in the set
	Volume     string
	VolumeRoot string
	// Device is where the copy is, in words for people; data is read
	// through Tree.
	Device     string
	Exposed    string
	Host       string
	Provider   Provider
	Attributes vss.SnapshotAttributes
	Context    vss.SnapshotContext
	Created    time.Time
	State      vss.SnapshotState
	// Purpose is what its maker said it is kept for, see [BackupState].
	Purpose string
}

// Space is the disk space that only one shadow copy takes.
type Space struct {
	Bytes uint64
	// Least: there was no time to look at all of it, and it is more.
	Least bool
}

// Receipt is the freeze receipt of a set: what was held, and for how long. A
// duration not measured is zero.
type Receipt struct {
	SetID   vss.GUID  `json:"set_id"`
	Started time.Time `json:"started"`
	// Instant is when the commit ended: what the copy shows.
	Instant time.Time       `json:"instant"`
	Writers []WriterReceipt `json:"writers"`
	Volumes []VolumeReceipt `json:"volumes"`
	// Hold is from the last writer frozen to the last volume committed, or to
	// ThawWriters.
	Hold time.Duration `json:"hold_ns"`
	// Flush is how long it took, within a hold by HoldWriters, to bring what
	// writers have written to the disk.
	Flush time.Duration `json:"flush_ns,omitempty"`
	// Stopped is how many processes were stopped, descendants of those named
	// included, and Stop how (ptrace, freezer, signal; empty if none were).
	Stopped int    `json:"stopped"`
	Stop    string `json:"stop,omitempty"`
	// Stopping is how long that took, within Hold.
	Stopping time.Duration `json:"stopping_ns,omitempty"`
}

// WriterReceipt is one writer's part.
type WriterReceipt struct {
	Instance     vss.GUID      `json:"instance"`
	Name         string        `json:"name"`
	InstanceName string        `json:"instance_name"`
	Prepare      time.Duration `json:"prepare_ns"`   // PrepareForBackup and PrepareForSnapshot
	LockWait     time.Duration `json:"lock_wait_ns"` // within Freeze, not yet holding
	Freeze       time.Duration `json:"freeze_ns"`    // the whole of Freeze, LockWait included
	Held         time.Duration `json:"held_ns"`      // from having the lock to the end of Thaw
	Thaw         time.Duration `json:"thaw_ns"`
	PostSnapshot time.Duration `json:"post_snapshot_ns"`
	// Stillness is what was reached: "files still", "commits held" or "nothing
	// held", and Stopped that it took stopping its processes, of which there were
	// so many, descendants included.
	Stillness   string `json:"stillness"`
	Stopped     bool   `json:"stopped,omitempty"`
	Processes   int    `json:"processes,omitempty"`
	ReadsPaused bool   `json:"reads_paused,omitempty"`
	Weak        string `json:"weak,omitempty"`
	State       string `json:"state"`
	Error       string `json:"error,omitempty"`
}

// VolumeReceipt is one volume's part.
type VolumeReceipt struct {
	Snapshot vss.GUID      `json:"snapshot"`
	Volume   string        `json:"volume"`
	Root     string        `json:"root"`
	Provider string        `json:"provider"`
	Atomic   bool          `json:"atomic"`
	Prepare  time.Duration `json:"prepare_ns"`
	Flush    time.Duration `json:"flush_ns"`
	// PreCommit and Commit are within the hold.
	PreCommit time.Duration `json:"pre_commit_ns,omitempty"`
	Commit    time.Duration `json:"commit_ns"`
	Files     int           `json:"files"`   // copied or cloned in the hold
	Bytes     uint64        `json:"bytes"`   // copied in the hold
	Extents   int           `json:"extents"` // cloned in the hold
	// Unclaimed: data of no writer is in the copy, else it is read live.
	Unclaimed bool `json:"unclaimed"`
	// Note is what the provider says of how the copy was made; mostly empty.
	Note string `json:"note,omitempty"`
}

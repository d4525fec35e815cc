package requester

import "github.com/sombra-backup/sombra/session"

// Reporter is told how a backup or a restore goes on. Its methods may be called
// by several goroutines at once and must return soon. A nil Reporter is fine
// wherever one is taken.
type Reporter interface {
	// Phase tells that a part of the work begins.
	Phase(p Phase)
	// Step passes on what a long call of the session does.
	Step(s session.Step)
	// Plan is what will be done, as soon as that is known.
	Plan(p *Plan)
	// Status is a writer's state after a phase.
	Status(after Phase, s session.WriterStatus)
	// File is a file that is done, or failed.
	File(f FileEvent)
	// Totals are the counts so far, at most some ten times a second.
	Totals(t Totals)
	// Warning is a sentence for the user.
	Warning(text string)
}

// FailureReporter is a [Reporter] that may not want to be told of each file. It is
// asked once.
type FailureReporter interface {
	// OnlyFailures tells that File is of use for files that failed.
	OnlyFailures() bool
}

// Phase is a part of a backup or restore.
type Phase string

// The phases, in the order in which they come.
const (
	PhaseGather   Phase = "gather"   // writers are asked for their documents
	PhaseSelect   Phase = "select"   // components and volumes are chosen
	PhasePrepare  Phase = "prepare"  // PrepareForBackup
	PhaseSnapshot Phase = "snapshot" // DoSnapshotSet
	PhaseCopy     Phase = "copy"     // bytes stream into the repository
	PhaseCommit   Phase = "commit"   // documents and record are saved
	PhaseComplete Phase = "complete" // BackupComplete

	PhasePreRestore  Phase = "pre_restore"
	PhaseRestore     Phase = "restore" // files are written
	PhasePostRestore Phase = "post_restore"
)

// FileEvent is one file done.
type FileEvent struct {
	// Path is the host's.
	Path   string `json:"path"`
	Size   int64  `json:"size"`
	Action string `json:"action"` // "new", "unchanged", "failed", "restored", "identical", "kept", "left out", "vanished"
	Source string `json:"source,omitempty"`
	Error  string `json:"error,omitempty"`
}

// Totals are counts of objects. They mean the same in backups, restores and the
// totals of records.
type Totals struct {
	// Files counts regular files, one with several names as often as it has
	// names, Bytes their sizes, and Others all that are neither files nor
	// directories: symbolic links, pipes, devices.
	Files     int64 `json:"files"`
	Dirs      int64 `json:"dirs"`
	Others    int64 `json:"others"`
	Bytes     int64 `json:"bytes"`
	Unchanged int64 `json:"unchanged"`
	Failed    int64 `json:"failed"`
	LeftOut   int64 `json:"left_out"`
	// Vanished are objects of no writer, read live, that were listed and then
	// removed before they could be read: they are no part of the backup, as if
	// it had come to their directory later.
	Vanished int64 `json:"vanished,omitempty"`
	// Compared are files of which only what changed since the last backup's shadow
	// copy was read, ComparedBytes their sizes, and ChangedBytes what was read.
	Compared      int64 `json:"compared,omitempty"`
	ComparedBytes int64 `json:"compared_bytes,omitempty"`
	ChangedBytes  int64 `json:"changed_bytes,omitempty"`
	// Expected are guesses from the plan; 0 where none could be made.
	ExpectedBytes int64 `json:"expected_bytes,omitempty"`
}

// plus adds counts up.
func (t Totals) plus(u Totals) Totals {
	t.Files, t.Dirs, t.Others, t.Bytes = t.Files+u.Files, t.Dirs+u.Dirs, t.Others+u.Others, t.Bytes+u.Bytes
	t.Unchanged, t.Failed, t.LeftOut, t.Vanished = t.Unchanged+u.Unchanged, t.Failed+u.Failed, t.LeftOut+u.LeftOut, t.Vanished+u.Vanished
	return t
}

// quiet is the Reporter of those who gave none.
type quiet struct{}

func (quiet) Phase(Phase)                        {}
func (quiet) Step(session.Step)                  {}
func (quiet) Plan(*Plan)                         {}
func (quiet) Status(Phase, session.WriterStatus) {}
func (quiet) File(FileEvent)                     {}
func (quiet) Totals(Totals)                      {}
func (quiet) Warning(string)                     {}

func orQuiet(r Reporter) Reporter {
	if r == nil {
		return quiet{}
	}
	return r
}

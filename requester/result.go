package requester

import (
	"fmt"
	"time"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// Outcome is how a backup, restore or extraction ended. Where several apply the
// first in this order counts: Interrupted, Failed, Incomplete,
// LowerConsistency, WriterFailedAfter, Complete. Data that is missing weighs
// more than how consistent the rest is, and both more than a writer that failed
// when everything was already saved.
type Outcome int

// The outcomes.
const (
	// Complete: everything asked for is there, at the level asked for.
	Complete Outcome = iota
	// WriterFailedAfter: the record is complete, but a writer failed after
	// the shadow copy, in BackupComplete, or in PostRestore.
	WriterFailedAfter
	// LowerConsistency: all files are there, some at a lower level than asked.
	LowerConsistency
	// Incomplete: there is a record, and something is missing in it.
	Incomplete
	// Failed: there is no record, or nothing was restored.
	Failed
	// Interrupted: the context ended. There is no record.
	Interrupted
)

// String gives the outcome as records and summaries have it.
func (o Outcome) String() string {
	switch o {
	case Complete:
		return "complete"
	case WriterFailedAfter:
		return "writer_failed_after"
	case LowerConsistency:
		return "lower_consistency"
	case Incomplete:
		return "incomplete"
	case Failed:
		return "failed"
	case Interrupted:
		return "interrupted"
	}
	return fmt.Sprintf("outcome(%d)", int(o))
}

// MarshalText gives String.
func (o Outcome) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText reads what MarshalText gave.
func (o *Outcome) UnmarshalText(text []byte) error {
	for v := Complete; v <= Interrupted; v++ {
		if v.String() == string(text) {
			*o = v
			return nil
		}
	}
	return fmt.Errorf("outcome %.40q is none", text)
}

// ExitCode is the exit code that stands for the outcome: 0, 5, 4, 3, 1, 130.
func (o Outcome) ExitCode() int {
	switch o {
	case Complete:
		return 0
	case WriterFailedAfter:
		return 5
	case LowerConsistency:
		return 4
	case Incomplete:
		return 3
	case Interrupted:
		return 130
	}
	return 1
}

// worse gives the outcome that weighs more.
func (o Outcome) worse(p Outcome) Outcome { return max(o, p) }

// Result is what a backup did. All but Record and Notes is in the record, as
// the document [DocResult].
type Result struct {
	Outcome Outcome `json:"outcome"`
	// Record is nil if none was committed.
	Record  *repository.Record `json:"-"`
	ID      string             `json:"record,omitempty"`
	Started time.Time          `json:"started"`
	Ended   time.Time          `json:"ended,omitzero"`
	// Instant is what the backup shows.
	Instant time.Time `json:"instant"`
	Type    string    `json:"type"`
	// Level is the lowest level of what was saved.
	Level      string            `json:"level"`
	Required   string            `json:"required_level"`
	Plan       *Plan             `json:"plan,omitempty"`
	Components []ComponentResult `json:"components"`
	Writers    []WriterResult    `json:"writers"`
	Receipt    *session.Receipt  `json:"receipt,omitempty"`
	Totals     Totals            `json:"totals"`
	// Kept are the shadow copies that the backup left behind, and Shadows counts
	// all that backups have, when this one had ended.
	Kept     []KeptShadow `json:"kept_shadow_copies,omitempty"`
	Shadows  *KeptCount   `json:"kept_count,omitempty"`
	Failures []Failure    `json:"failures,omitempty"`
	Failed   int          `json:"failed_count,omitempty"`
	LeftOut  []LeftOut    `json:"left_out,omitempty"`
	LeftOuts int          `json:"left_out_count,omitempty"`
	Warnings []string     `json:"warnings,omitempty"`
}

// ComponentResult is the outcome of one explicit component and its set.
type ComponentResult struct {
	Writer       string   `json:"writer"`
	InstanceName string   `json:"instance_name,omitempty"`
	Class        vss.GUID `json:"class"`
	Instance     vss.GUID `json:"instance"`
	LogicalPath  string   `json:"logical_path,omitempty"`
	Name         string   `json:"name"`
	Type         string   `json:"type"`
	// BackupType is what the type asked for came to, Base the record that it was
	// built upon. TypeNotes say why it is not what was asked for.
	BackupType string   `json:"backup_type,omitempty"`
	Base       string   `json:"base,omitempty"`
	TypeNotes  []string `json:"type_notes,omitempty"`
	// Members are the full paths of the implicit components of its set.
	Members   []string `json:"members,omitempty"`
	Succeeded bool     `json:"succeeded"`
	Level     string   `json:"level"`
	Files     int64    `json:"files"`
	Bytes     int64    `json:"bytes"`
	// Read tells how what this backup read of it was chosen and read.
	Read FilesRead `json:"read"`
	// WriterErrors are mistakes in its writer's lists of differenced and partial
	// files: those that fail the component, and those that do not.
	WriterErrors []string `json:"writer_errors,omitempty"`
	// Error is why it failed: the first file's error, or the writer's.
	Error string `json:"error,omitempty"`
	// Method and Status are of a restore, Told what its writer was told in it,
	// in words.
	Method string   `json:"restore_method,omitempty"`
	Status string   `json:"file_restore_status,omitempty"`
	Told   []string `json:"told,omitempty"`
	// Branch is where its files went, see [Branch], and Mappings are the alternate
	// location mappings that led there.
	Branch   string   `json:"restore_branch,omitempty"`
	Mappings []string `json:"alternate_location_mappings,omitempty"`
	// MethodUsed is the restore method that the user put in place of the writer's.
	MethodUsed string `json:"restore_method_used,omitempty"`
	// PendingReboot is the set of its files that wait for the next start.
	PendingReboot string `json:"pending_reboot,omitempty"`
}

// FilesRead counts the files of a component by how a backup took them.
type FilesRead struct {
	// Whole were read from beginning to end, Ranged by ranges only that the writer
	// lists, Compared by what the provider tells has changed, and Unchanged not at
	// all: they have the content of the record built upon.
	Whole     int64 `json:"whole"`
	Ranged    int64 `json:"ranged"`
	Compared  int64 `json:"compared"`
	Unchanged int64 `json:"unchanged"`
	// Ranges and RangedBytes are what was read of those taken by ranges.
	Ranges      int64 `json:"ranges"`
	RangedBytes int64 `json:"ranged_bytes"`
	// ChangedBytes is what was read of those compared.
	ChangedBytes int64 `json:"changed_bytes"`
	// Differenced and Partial were chosen by the writer's lists, and Lacked of
	// them would not have been by the masks alone (D-28).
	Differenced int64 `json:"differenced"`
	Partial     int64 `json:"partial"`
	Lacked      int64 `json:"mask_lacked"`
}

// count adds a saved file.
func (r *ComponentResult) count(j *job, g *got) {
	r.Files++
	r.Bytes += g.content.Size()
	switch {
	case g.unchanged:
		r.Read.Unchanged++
		return
	case g.part.ranged:
		r.Read.Ranged++
		r.Read.Ranges += int64(len(g.part.ranges))
		r.Read.RangedBytes += int64(g.part.ranges.Total())
	case g.since.told():
		r.Read.Compared++
		r.Read.ChangedBytes += g.since.bytes
	default:
		r.Read.Whole++
	}
	switch j.matched {
	case matchedDifferenced:
		r.Read.Differenced++
	case matchedPartial:
		r.Read.Partial++
	}
	if j.lacked {
		r.Read.Lacked++
	}
}

// WriterResult is a writer's states as read after each phase.
type WriterResult struct {
	Name         string        `json:"name"`
	InstanceName string        `json:"instance_name,omitempty"`
	Instance     vss.GUID      `json:"instance"`
	States       []WriterState `json:"states"`
}

// WriterState is a writer's state at one time.
type WriterState struct {
	After   Phase  `json:"after"`
	State   string `json:"state"`
	Code    string `json:"code,omitempty"`
	Message string `json:"message,omitempty"`
	Event   string `json:"event,omitempty"`
}

// Failure is a file that could not be saved or restored.
type Failure struct {
	Path      string `json:"path"`
	Writer    string `json:"writer,omitempty"`
	Component string `json:"component,omitempty"`
	// Specification is the file specification that has the file, or the entry of
	// the writer's lists.
	Specification string `json:"specification,omitempty"`
	Error         string `json:"error"`
}

// RestoreResult is what a restore or an extraction did.
type RestoreResult struct {
	Outcome    Outcome           `json:"outcome"`
	Record     string            `json:"record"`
	Extraction bool              `json:"extraction"`
	DryRun     bool              `json:"dry_run,omitempty"`
	Target     string            `json:"target,omitempty"`
	Started    time.Time         `json:"started"`
	Ended      time.Time         `json:"ended"`
	Components []ComponentResult `json:"components"`
	// Chain are the operations, oldest record first, if there is more than one.
	Chain   []ChainLinkResult `json:"chain,omitempty"`
	Writers []WriterResult    `json:"writers"`
	// Unclaimed tells that data of no writer was restored.
	Unclaimed bool `json:"unclaimed"`
	// Services are those that were to be stopped and started.
	Services []ServiceResult `json:"services,omitempty"`
	// RebootFor says what the host must be restarted for, and why (R-RES-33).
	RebootFor []string  `json:"reboot_for,omitempty"`
	Totals    Totals    `json:"totals"`
	Failures  []Failure `json:"failures,omitempty"`
	Failed    int       `json:"failed_count,omitempty"`
	LeftOut   []LeftOut `json:"left_out,omitempty"`
	LeftOuts  int       `json:"left_out_count,omitempty"`
	Warnings  []string  `json:"warnings,omitempty"`
}

package requester

import (
	"time"

	"github.com/sombra-backup/sombra/vss"
)

// Plan is what a backup would do, or did set out to do: it is what "plan"
// prints and what the record keeps. The names of its fields in JSON are stable;
// fields may be added.
type Plan struct {
	Host  PlanHost `json:"host"`
	Type  string   `json:"type"`
	Paths []Place  `json:"paths"`
	// Level is the lowest level of all data in the plan, Required what was
	// asked for.
	Level    string `json:"level"`
	Required string `json:"required_level"`
	// Reachable is false if Required is out of reach; Unreachable says why.
	Reachable   bool     `json:"reachable"`
	Unreachable []string `json:"unreachable,omitempty"`

	Writers []PlanWriter `json:"writers"`
	Volumes []PlanVolume `json:"volumes"`
	// NoPartial: writers are told that no partial files are taken.
	NoPartial bool `json:"no_partial,omitempty"`
	// FreezeEstimate is how long applications are expected to be held.
	FreezeEstimate time.Duration `json:"freeze_estimate_ns"`
	// KeepBaseShadow is how many shadow copies of each volume are to be kept, and
	// Shadows counts those that backups have kept by now.
	KeepBaseShadow int        `json:"keep_base_shadow,omitempty"`
	Shadows        *KeptCount `json:"kept_count,omitempty"`
	// Outside lists files of chosen components that lie under none of the paths.
	Outside      []string `json:"outside,omitempty"`
	OutsideCount int      `json:"outside_count,omitempty"`
	// LeftOut is what was under the paths or named, and will not be saved.
	LeftOut      []LeftOut `json:"left_out,omitempty"`
	LeftOutCount int       `json:"left_out_count,omitempty"`
	Warnings     []string  `json:"warnings,omitempty"`
}

// PlanHost is the host the data is on.
type PlanHost struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	OS         string `json:"os"`
	PathStyle  string `json:"path_style"`
	Native     bool   `json:"native"`
	Privileged bool   `json:"privileged"`
}

// Place is a place on a volume.
type Place struct {
	// Path is as given, or as the host has it; Table the file table's path.
	Path   string `json:"path"`
	Table  string `json:"table"`
	Volume string `json:"volume"`
	// Name is from the volume's root.
	Name string `json:"name"`
}

// PlanWriter is one writer that answered.
type PlanWriter struct {
	Name         string   `json:"name"`
	InstanceName string   `json:"instance_name,omitempty"`
	Class        vss.GUID `json:"class"`
	Instance     vss.GUID `json:"instance"`
	Discovered   bool     `json:"discovered,omitempty"`
	Required     bool     `json:"required,omitempty"`
	// ReadsPaused: it answers no reads while it is held, by its own word or since
	// its processes are stopped, which Stopped says.
	ReadsPaused bool `json:"reads_paused,omitempty"`
	Stopped     bool `json:"processes_stopped,omitempty"`
	// Unstill, if not empty, is why it will be refused: its files cannot be had
	// still, and are not all taken at one instant.
	Unstill    string          `json:"unstill,omitempty"`
	Weak       string          `json:"weak,omitempty"`
	Stillness  string          `json:"stillness"`
	Type       string          `json:"type"` // the type of backup it gets
	TypeNote   string          `json:"type_note,omitempty"`
	Components []PlanComponent `json:"components"`
	Error      string          `json:"error,omitempty"` // its document cannot be used
}

// PlanComponent is one component and what becomes of it.
type PlanComponent struct {
	LogicalPath string `json:"logical_path,omitempty"`
	Name        string `json:"name"`
	Type        string `json:"type"`
	Selectable  bool   `json:"selectable"`
	// Selected is "explicit", "implicit" or "no".
	Selected string `json:"selected"`
	// Set is the full path of the component whose set it is in, if implicit.
	Set string `json:"set,omitempty"`
	// Why it is chosen, or not.
	Why     string   `json:"why"`
	Level   string   `json:"level,omitempty"`
	Volumes []string `json:"volumes,omitempty"`
	Files   int      `json:"file_specifications"`
	// BackupType is what the type asked for comes to for an explicit component and
	// its set, Base the record that it builds upon and BaseTime that one's instant.
	// TypeNotes say why it is not what was asked for.
	BackupType string    `json:"backup_type,omitempty"`
	Base       string    `json:"base,omitempty"`
	BaseTime   time.Time `json:"base_time,omitzero"`
	TypeNotes  []string  `json:"type_notes,omitempty"`
}

// PlanVolume is one volume with data in the plan.
type PlanVolume struct {
	ID         string `json:"id"`
	Root       string `json:"root"`
	FileSystem string `json:"file_system"`
	// Provider is empty if no shadow copy is made: because none serves the
	// volume, and then Refusal says why, or because nothing would be in it.
	Provider   string        `json:"provider,omitempty"`
	ProviderID vss.GUID      `json:"provider_id"`
	Refusal    string        `json:"refusal,omitempty"`
	Refused    []PlanRefusal `json:"refused_providers,omitempty"`
	Atomic     bool          `json:"atomic"`
	// Claimed and Unclaimed tell what data it has in the plan, and Level and
	// UnclaimedLevel how consistent each will be.
	Claimed        bool   `json:"claimed"`
	Unclaimed      bool   `json:"unclaimed"`
	Level          string `json:"level,omitempty"`
	UnclaimedLevel string `json:"unclaimed_level,omitempty"`
	// Room and Free are bytes in Area, where the copy will lie.
	Area  string        `json:"area,omitempty"`
	Room  uint64        `json:"room"`
	Free  uint64        `json:"free"`
	Hold  time.Duration `json:"hold_ns"`
	Files int           `json:"files"`
	Bytes uint64        `json:"bytes"`
	Notes []string      `json:"notes,omitempty"`
}

// PlanRefusal tells why a provider that would have been preferred does not
// serve a volume.
type PlanRefusal struct {
	Provider string `json:"provider"`
	Reason   string `json:"reason"`
}

// LeftOut is something that will not be, or was not, saved.
type LeftOut struct {
	// Path is the host's; empty for a whole component or writer.
	Path      string `json:"path,omitempty"`
	Writer    string `json:"writer,omitempty"`
	Component string `json:"component,omitempty"`
	Reason    string `json:"reason"`
	// Asked is true if the user asked for it to be left out: then it does
	// not make the backup incomplete. The same holds for what holds no data.
	Asked bool `json:"asked"`
}

// maxLeftOut bounds each list of names in a plan and a result; counts go on.
const maxLeftOut = 10000

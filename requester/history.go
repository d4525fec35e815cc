package requester

import (
	"time"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/vss"
)

// HistoryKey tells a component apart over backups: instance ids are new at every
// start of a writer, names are not.
type HistoryKey struct {
	Host         string   `json:"host"`
	Class        vss.GUID `json:"class"`
	InstanceName string   `json:"instance_name,omitempty"`
	LogicalPath  string   `json:"logical_path,omitempty"`
	Name         string   `json:"name"`
}

// HistoryLine is what a record says of the part that one explicit component had
// in its backup. The lines of a record are its document [DocHistory].
type HistoryLine struct {
	HistoryKey
	// Asked is the type that the writer was told, Type the one whose files were
	// saved: words as [vss.BackupType.Word] gives them.
	Asked string `json:"asked"`
	Type  string `json:"type"`
	// Base is the id of the record that the files continue, empty if none.
	Base string `json:"base,omitempty"`
	// Stamp tells that a previous stamp was given to the writer, BackupStamp is
	// what the writer will know this backup by: both are opaque (R-TYPE-12).
	Stamp       bool   `json:"stamp,omitempty"`
	BackupStamp string `json:"backup_stamp,omitempty"`
	// Counts is what later backups may build upon it as, "full", "incremental" or
	// "log"; empty: they build upon what was before it. See [Typing].
	Counts    string `json:"counts,omitempty"`
	Succeeded bool   `json:"succeeded"`
	// Added counts the files that the record has of the component though no file
	// specification has them: its writer listed them (R-SET-34).
	Added int64 `json:"added,omitempty"`
	// Notes say in words why Type is not Asked, or what else was done otherwise.
	Notes []string `json:"notes,omitempty"`
}

// Base is a component's part in an earlier record, to be built upon.
type Base struct {
	Record repository.ID
	Time   time.Time // the record's instant
	Type   vss.BackupType
	Stamp  string // opaque; of the writer (GetBackupStamp)
	Added  int64  // as in its [HistoryLine]
}

// ComponentHistory is what the records tell of one component: nil where there is
// no such backup that succeeded, or its chain down to a full one has a hole.
type ComponentHistory struct {
	// Full is the newest full backup: what a differential builds upon.
	Full *Base
	// Incremental is the newest full or incremental one: what an incremental
	// builds upon.
	Incremental *Base
	// Log is the newest full, incremental or log backup: what a log backup
	// builds upon.
	Log *Base
	// Incrementals and Differentials tell which kinds there were since Full, for
	// writers that allow only one (R-TYPE-10).
	Incrementals, Differentials bool
}

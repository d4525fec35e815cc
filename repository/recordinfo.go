package repository

import "time"

// State says whether a backup has everything it was meant to have. The
// numbers are the format's.
type State uint8

// The states of a record.
const (
	// Complete means that nothing failed.
	Complete State = 1
	// Incomplete means that something that should be in the backup is not;
	// what, the requester says in its own words.
	Incomplete State = 2
)

// String gives "complete" or "incomplete".
func (s State) String() string {
	switch s {
	case Complete:
		return "complete"
	case Incomplete:
		return "incomplete"
	}
	return "unknown"
}

// Host says where a backup was made.
type Host struct {
	// ID identifies the machine for ever (the machine id).
	ID string
	// Name is its name at the time.
	Name string
	// OS is the system, as runtime.GOOS has it.
	OS string
	// PathStyle tells how the paths of this host are read: "posix" or
	// "windows".
	PathStyle string
}

// Root is the top of one tree of entries.
type Root struct {
	// ID is what Entry.Root says. It may be anything of 1 to 255 bytes that
	// stays the same from backup to backup, such as the path itself: then
	// blocks of the file table are shared between records.
	ID string
	// Path is the absolute path on the host, in the host's own style.
	Path string
	// Volume identifies the volume, if the requester knows it.
	Volume string
	// FileSystem is the volume's type ("ext4", "ntfs").
	FileSystem string
	// Attrs holds what else the requester wants to keep about the root.
	Attrs map[string]string
}

// RecordInfo is what the requester says of a backup.
type RecordInfo struct {
	// Time is the instant the backup shows, kept to the nanosecond in UTC.
	Time time.Time
	// Started is when the backup began.
	Started time.Time
	Host    Host
	// User is who made the backup.
	User string
	// Program is the name and version of the program.
	Program string
	// Type is the backup type in the requester's word ("full", "copy", …).
	Type string
	// Tags are the user's.
	Tags []string
	// Roots lists each root that the entries name.
	Roots []Root
	// Parents are the records that this one was made against: its bases.
	Parents []ID
	// State says whether the backup is complete.
	State State
	// Documents are named pieces of content, such as "bcd.xml". They are read
	// apart from the file table; a damaged one harms nothing else.
	Documents map[string]Content
	// Summary is opaque to the repository and at most MaxSummary bytes.
	Summary []byte
	// Attrs holds further small facts.
	Attrs map[string]string
}

// Limits on a record.
const (
	// MaxSummary is the greatest length of RecordInfo.Summary in bytes.
	MaxSummary = 1 << 20
	// MaxDocuments is the most documents a record may have.
	MaxDocuments = 4096
	// MaxRoots is the most roots a record may have.
	MaxRoots = 4096
	// MaxName is the greatest length in bytes of a document's name, a tag, a
	// root's id and of the other short texts of a record.
	MaxName = 255
	// MaxRecord is the greatest length of a record object in bytes.
	MaxRecord = 16 << 20
	// MaxNote is the greatest length of a note's body in bytes.
	MaxNote = 1 << 20
)

// Totals are the counts of a record, made by the repository.
type Totals struct {
	// Entries counts the lines of the file table, Files the regular files
	// among them, Bytes their sizes.
	Entries int64 `json:"entries"`
	Files   int64 `json:"files"`
	Bytes   int64 `json:"bytes"`
	// BytesRead counts what was read from sources.
	BytesRead int64 `json:"bytes_read"`
	// ChunksAdded and BytesAdded count what was not in the repository before,
	// BytesStored what that takes there, compressed and encrypted.
	ChunksAdded int64 `json:"chunks_added"`
	BytesAdded  int64 `json:"bytes_added"`
	BytesStored int64 `json:"bytes_stored"`
}

// count counts an entry.
func (t *Totals) count(typ FileType, size int64) {
	t.Entries++
	if typ == Regular {
		t.Files++
		t.Bytes += size
	}
}

// Note is a small thing said of a record after it was committed, such as the
// outcome of BackupComplete.
type Note struct {
	// ID is the note's own; AddNote sets it.
	ID ID
	// Record is the record the note is about; AddNote sets it.
	Record ID
	// Time is when it was said.
	Time time.Time
	// Kind is the requester's word for what it is.
	Kind string
	// Body is opaque to the repository and at most MaxNote bytes.
	Body []byte
}

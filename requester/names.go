package requester

// Names of a record's documents.
const (
	DocBCD    = "bcd.xml"
	DocPlan   = "plan.json"
	DocResult = "result.json"
	// DocWriter is the prefix of each Writer Metadata Document: "wmd/0.xml".
	DocWriter = "wmd/"
	// DocWriters is the list of what a restore must know of each writer
	// besides its document.
	DocWriters = "writers.json"
	// NoteComplete is the kind of the note with the outcome of BackupComplete.
	NoteComplete = "backup-complete"
)

// Keys of an entry's Attrs in the file table. An entry without AttrWriter is
// data of no writer. Absent means the default in parentheses.
const (
	AttrSource        = "source"         // "shadow" or "live" ("shadow")
	AttrVolume        = "volume"         // the volume's id
	AttrWriter        = "writer"         // the writer's friendly name
	AttrWriterClass   = "writer_class"   // GUID
	AttrWriterName    = "writer_name"    // instance name
	AttrComponent     = "component"      // full path of the component
	AttrComponentSet  = "component_set"  // full path of the explicit component
	AttrComponentType = "component_type" // "database" or "filegroup"
	AttrSpec          = "spec"           // file specification: path, pattern, recursion
	AttrAlternate     = "alternate"      // the path read from, if it is not the path
	AttrMethod        = "method"         // restore method
	AttrMapping       = "mapping"        // destination by the writer's mapping
	AttrWriterRestore = "writer_restore" // when the writer takes part in a restore
	AttrRead          = "read"           // when the backup began that read the data: if this one, its Started (unknown)
	AttrOutcome       = "outcome"        // "failed" ("saved")
	AttrError         = "error"          // why it failed
	AttrRole          = "role"           // "parent": a directory above what was chosen
)

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
	// DocHistory is the list of [HistoryLine]: what later backups build upon.
	DocHistory = "history.json"
	// DocRanges is the prefix of lists of ranges too long for an entry, and of
	// writers' ranges files: "ranges/0".
	DocRanges = "ranges/"
	// DocRangesFiles is the list of [RangesFile]: the writers' ranges files.
	DocRangesFiles = "ranges.json"
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
	AttrBase          = "base"           // id of the record whose content this one continues
	AttrRanges        = "ranges"         // bytes that the backup of AttrRead read anew, "offset:length,...", or the name of the document that lists them (all)
	AttrSince         = "since"          // id of the record since whose shadow copy the provider told what changed: the backup of AttrRead read only that (all)
	AttrChanged       = "changed"        // with AttrSince: how much that was, "ranges:bytes"
	AttrMatched       = "matched"        // the writer's list that chose the file: "differenced" or "partial" (the mask)
	AttrPartial       = "partial"        // "only": nothing but AttrRanges is held, the rest is in no record (the content is whole)
	AttrMask          = "mask"           // "lacked": the mask alone would not have saved it (D-28)
	AttrRole          = "role"           // "parent": a directory above what was chosen
)

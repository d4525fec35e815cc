package vss

// BackupType is VSS_BACKUP_TYPE: the one kind of backup an operation performs
// (R-TYPE-1).
type BackupType int32

// Values of VSS_BACKUP_TYPE.
const (
	// BackupTypeUndefined is an application error (R-TYPE-1).
	BackupTypeUndefined BackupType = 0
	// BackupTypeFull takes all files, updates history and may truncate logs (R-TYPE-2).
	BackupTypeFull BackupType = 1
	// BackupTypeIncremental takes what changed since the last full or incremental (R-TYPE-4).
	BackupTypeIncremental BackupType = 2
	// BackupTypeDifferential takes what changed since the last full (R-TYPE-5).
	BackupTypeDifferential BackupType = 3
	// BackupTypeLog takes database log files only (R-TYPE-6).
	BackupTypeLog BackupType = 4
	// BackupTypeCopy takes the files of a full and leaves history and logs alone (R-TYPE-3).
	BackupTypeCopy BackupType = 5
	// BackupTypeOther is not usable here (R-TYPE-1).
	BackupTypeOther BackupType = 6
)

var backupTypeNames = enumeration[BackupType]{"VSS_BACKUP_TYPE", []entry[BackupType]{
	{BackupTypeUndefined, "VSS_BT_UNDEFINED", "undefined"},
	{BackupTypeFull, "VSS_BT_FULL", "full"},
	{BackupTypeIncremental, "VSS_BT_INCREMENTAL", "incremental"},
	{BackupTypeDifferential, "VSS_BT_DIFFERENTIAL", "differential"},
	{BackupTypeLog, "VSS_BT_LOG", "log"},
	{BackupTypeCopy, "VSS_BT_COPY", "copy"},
	{BackupTypeOther, "VSS_BT_OTHER", "other"},
}}

// String gives the constant's name, such as VSS_BT_FULL.
func (v BackupType) String() string { return backupTypeNames.name(v) }

// Word gives the spelling in documents and on command lines, such as full.
func (v BackupType) Word() string { return backupTypeNames.word(v) }

// ParseBackupType finds a value by its word or its constant's name, in any case.
func ParseBackupType(s string) (BackupType, error) { return backupTypeNames.parse(s) }

// BackupSchema is VSS_BACKUP_SCHEMA: a mask of the kinds of backup and restore
// a writer supports beyond full.
type BackupSchema uint32

// Values of VSS_BACKUP_SCHEMA.
const (
	// SchemaUndefined is a writer that supports full only (R-TYPE-8).
	SchemaUndefined    BackupSchema = 0
	SchemaDifferential BackupSchema = 0x1
	SchemaIncremental  BackupSchema = 0x2
	// SchemaExclusiveIncrementalDifferential forbids mixing the two kinds between two fulls (R-TYPE-10).
	SchemaExclusiveIncrementalDifferential BackupSchema = 0x4
	SchemaLog                              BackupSchema = 0x8
	SchemaCopy                             BackupSchema = 0x10
	// SchemaTimestamped says the writer uses backup stamps (R-TYPE-11, R-TYPE-12).
	SchemaTimestamped BackupSchema = 0x20
	// SchemaLastModify says the writer names differenced files (R-SET-32).
	SchemaLastModify BackupSchema = 0x40
	// SchemaLSN is reserved.
	SchemaLSN BackupSchema = 0x80
	// SchemaNewTarget allows AddNewTarget (R-RES-21).
	SchemaNewTarget BackupSchema = 0x100
	// SchemaRestoreWithMove allows SetSelectedForRestoreEx (R-SEL-30).
	SchemaRestoreWithMove        BackupSchema = 0x200
	SchemaIndependentSystemState BackupSchema = 0x400
	// SchemaRollForwardRestore allows SetRollForward.
	SchemaRollForwardRestore BackupSchema = 0x1000
	// SchemaRestoreRename allows SetRestoreName.
	SchemaRestoreRename BackupSchema = 0x2000
	// SchemaAuthoritativeRestore allows SetAuthoritativeRestore.
	SchemaAuthoritativeRestore BackupSchema = 0x4000
	SchemaParallelRestores     BackupSchema = 0x8000
)

var backupSchemaNames = enumeration[BackupSchema]{"VSS_BACKUP_SCHEMA", []entry[BackupSchema]{
	{SchemaUndefined, "VSS_BS_UNDEFINED", ""},
	{SchemaDifferential, "VSS_BS_DIFFERENTIAL", ""},
	{SchemaIncremental, "VSS_BS_INCREMENTAL", ""},
	{SchemaExclusiveIncrementalDifferential, "VSS_BS_EXCLUSIVE_INCREMENTAL_DIFFERENTIAL", ""},
	{SchemaLog, "VSS_BS_LOG", ""},
	{SchemaCopy, "VSS_BS_COPY", ""},
	{SchemaTimestamped, "VSS_BS_TIMESTAMPED", ""},
	{SchemaLastModify, "VSS_BS_LAST_MODIFY", ""},
	{SchemaLSN, "VSS_BS_LSN", ""},
	{SchemaNewTarget, "VSS_BS_WRITER_SUPPORTS_NEW_TARGET", ""},
	{SchemaRestoreWithMove, "VSS_BS_WRITER_SUPPORTS_RESTORE_WITH_MOVE", ""},
	{SchemaIndependentSystemState, "VSS_BS_INDEPENDENT_SYSTEM_STATE", ""},
	{SchemaRollForwardRestore, "VSS_BS_ROLLFORWARD_RESTORE", ""},
	{SchemaRestoreRename, "VSS_BS_RESTORE_RENAME", ""},
	{SchemaAuthoritativeRestore, "VSS_BS_AUTHORITATIVE_RESTORE", ""},
	{SchemaParallelRestores, "VSS_BS_WRITER_SUPPORTS_PARALLEL_RESTORES", ""},
}}

// String gives the names of the bits that are set, joined by "|".
func (v BackupSchema) String() string { return backupSchemaNames.maskName(v) }

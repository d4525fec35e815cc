package vss

// RestoreMethod is VSS_RESTOREMETHOD_ENUM: how a writer wants its files put
// back (R-RES-2..13).
type RestoreMethod int32

// Values of VSS_RESTOREMETHOD_ENUM.
const (
	// RestoreMethodUndefined is a writer error (R-RES-13).
	RestoreMethodUndefined RestoreMethod = 0
	// RestoreMethodIfNotThere restores only where no file of the set exists (R-RES-5).
	RestoreMethodIfNotThere RestoreMethod = 1
	// RestoreMethodIfCanReplace restores if every file can be replaced (R-RES-6).
	RestoreMethodIfCanReplace RestoreMethod = 2
	// RestoreMethodStopRestoreStart stops a service, restores, starts it (R-RES-7).
	RestoreMethodStopRestoreStart RestoreMethod = 3
	// RestoreMethodToAlternateLocation restores to mapped locations (R-RES-9).
	RestoreMethodToAlternateLocation RestoreMethod = 4
	// RestoreMethodAtReboot replaces files at the next restart (R-RES-10).
	RestoreMethodAtReboot RestoreMethod = 5
	// RestoreMethodAtRebootIfCannotReplace replaces now or else at restart (R-RES-11).
	RestoreMethodAtRebootIfCannotReplace RestoreMethod = 6
	// RestoreMethodCustom is the writer's own documented way (R-RES-12).
	RestoreMethodCustom RestoreMethod = 7
	// RestoreMethodRestoreStopStart restores, then restarts a service (R-RES-8).
	RestoreMethodRestoreStopStart RestoreMethod = 8
)

var restoreMethodNames = enumeration[RestoreMethod]{"VSS_RESTOREMETHOD_ENUM", []entry[RestoreMethod]{
	{RestoreMethodUndefined, "VSS_RME_UNDEFINED", "UNDEFINED"},
	{RestoreMethodIfNotThere, "VSS_RME_RESTORE_IF_NOT_THERE", "RESTORE_IF_NOT_THERE"},
	{RestoreMethodIfCanReplace, "VSS_RME_RESTORE_IF_CAN_REPLACE", "RESTORE_IF_CAN_BE_REPLACED"},
	{RestoreMethodStopRestoreStart, "VSS_RME_STOP_RESTORE_START", "STOP_RESTORE_START"},
	{RestoreMethodToAlternateLocation, "VSS_RME_RESTORE_TO_ALTERNATE_LOCATION", "RESTORE_TO_ALTERNATE_LOCATION"},
	{RestoreMethodAtReboot, "VSS_RME_RESTORE_AT_REBOOT", "REPLACE_AT_REBOOT"},
	{RestoreMethodAtRebootIfCannotReplace, "VSS_RME_RESTORE_AT_REBOOT_IF_CANNOT_REPLACE", "REPLACE_AT_REBOOT_IF_CANNOT_REPLACE"},
	{RestoreMethodCustom, "VSS_RME_CUSTOM", "CUSTOM"},
	{RestoreMethodRestoreStopStart, "VSS_RME_RESTORE_STOP_START", "RESTORE_STOP_START"},
}}

// String gives the constant's name, such as VSS_RME_RESTORE_IF_NOT_THERE.
func (v RestoreMethod) String() string { return restoreMethodNames.name(v) }

// Word gives the spelling of the Writer Metadata Document, such as RESTORE_IF_NOT_THERE.
func (v RestoreMethod) Word() string { return restoreMethodNames.word(v) }

// ParseRestoreMethod finds a value by its word or its constant's name, in any case.
func ParseRestoreMethod(s string) (RestoreMethod, error) { return restoreMethodNames.parse(s) }

// WriterRestore is VSS_WRITERRESTORE_ENUM: which restore events a writer
// needs.
type WriterRestore int32

// Values of VSS_WRITERRESTORE_ENUM.
const (
	// WriterRestoreUndefined is a writer error.
	WriterRestoreUndefined WriterRestore = 0
	// WriterRestoreNever needs no restore events.
	WriterRestoreNever WriterRestore = 1
	// WriterRestoreIfReplaceFails needs PreRestore, and PostRestore if a restore in place failed.
	WriterRestoreIfReplaceFails WriterRestore = 2
	// WriterRestoreAlways needs both events.
	WriterRestoreAlways WriterRestore = 3
)

var writerRestoreNames = enumeration[WriterRestore]{"VSS_WRITERRESTORE_ENUM", []entry[WriterRestore]{
	{WriterRestoreUndefined, "VSS_WRE_UNDEFINED", "undefined"},
	{WriterRestoreNever, "VSS_WRE_NEVER", "never"},
	{WriterRestoreIfReplaceFails, "VSS_WRE_IF_REPLACE_FAILS", "ifReplaceFails"},
	{WriterRestoreAlways, "VSS_WRE_ALWAYS", "always"},
}}

// String gives the constant's name, such as VSS_WRE_NEVER.
func (v WriterRestore) String() string { return writerRestoreNames.name(v) }

// Word gives the spelling of the Writer Metadata Document, such as never.
func (v WriterRestore) Word() string { return writerRestoreNames.word(v) }

// ParseWriterRestore finds a value by its word or its constant's name, in any case.
func ParseWriterRestore(s string) (WriterRestore, error) { return writerRestoreNames.parse(s) }

// RestoreTarget is VSS_RESTORE_TARGET: where a writer wants a component set
// restored (R-RES-16, R-RES-17).
type RestoreTarget int32

// Values of VSS_RESTORE_TARGET.
const (
	// RestoreTargetUndefined is a writer error.
	RestoreTargetUndefined RestoreTarget = 0
	// RestoreTargetOriginal obeys the restore method; the default.
	RestoreTargetOriginal RestoreTarget = 1
	// RestoreTargetAlternate wants a mapping for every file.
	RestoreTargetAlternate RestoreTarget = 2
	// RestoreTargetDirected uses directed targets.
	RestoreTargetDirected RestoreTarget = 3
	// RestoreTargetOriginalLocation uses original paths whatever the method.
	RestoreTargetOriginalLocation RestoreTarget = 4
)

var restoreTargetNames = enumeration[RestoreTarget]{"VSS_RESTORE_TARGET", []entry[RestoreTarget]{
	{RestoreTargetUndefined, "VSS_RT_UNDEFINED", "undefined"},
	{RestoreTargetOriginal, "VSS_RT_ORIGINAL", "original"},
	{RestoreTargetAlternate, "VSS_RT_ALTERNATE", "alternate"},
	{RestoreTargetDirected, "VSS_RT_DIRECTED", "directed"},
	{RestoreTargetOriginalLocation, "VSS_RT_ORIGINAL_LOCATION", "originalLocation"},
}}

// String gives the constant's name, such as VSS_RT_ORIGINAL.
func (v RestoreTarget) String() string { return restoreTargetNames.name(v) }

// Word gives the spelling in the Backup Components Document, such as original.
func (v RestoreTarget) Word() string { return restoreTargetNames.word(v) }

// ParseRestoreTarget finds a value by its word or its constant's name, in any case.
func ParseRestoreTarget(s string) (RestoreTarget, error) { return restoreTargetNames.parse(s) }

// FileRestoreStatus is VSS_FILE_RESTORE_STATUS: the outcome of restoring a
// component set (R-RES-32).
type FileRestoreStatus int32

// Values of VSS_FILE_RESTORE_STATUS.
const (
	// FileRestoreStatusUndefined is an error, or a restore that has not begun.
	FileRestoreStatusUndefined FileRestoreStatus = 0
	// FileRestoreStatusNone failed with nothing written.
	FileRestoreStatusNone FileRestoreStatus = 1
	// FileRestoreStatusAll restored every file.
	FileRestoreStatusAll FileRestoreStatus = 2
	// FileRestoreStatusFailed failed part-way; what is on disk is damaged.
	FileRestoreStatusFailed FileRestoreStatus = 3
)

var fileRestoreStatusNames = enumeration[FileRestoreStatus]{"VSS_FILE_RESTORE_STATUS", []entry[FileRestoreStatus]{
	{FileRestoreStatusUndefined, "VSS_RS_UNDEFINED", "undefined"},
	{FileRestoreStatusNone, "VSS_RS_NONE", "none"},
	{FileRestoreStatusAll, "VSS_RS_ALL", "all"},
	{FileRestoreStatusFailed, "VSS_RS_FAILED", "failed"},
}}

// String gives the constant's name, such as VSS_RS_NONE.
func (v FileRestoreStatus) String() string { return fileRestoreStatusNames.name(v) }

// Word gives the spelling in the Backup Components Document, such as none.
func (v FileRestoreStatus) Word() string { return fileRestoreStatusNames.word(v) }

// ParseFileRestoreStatus finds a value by its word or its constant's name, in any case.
func ParseFileRestoreStatus(s string) (FileRestoreStatus, error) {
	return fileRestoreStatusNames.parse(s)
}

// RestoreType is VSS_RESTORE_TYPE: the kind of a restore operation.
type RestoreType int32

// Values of VSS_RESTORE_TYPE.
const (
	// RestoreTypeUndefined is taken for by copy.
	RestoreTypeUndefined RestoreType = 0
	RestoreTypeByCopy    RestoreType = 1
	// RestoreTypeImport uses an imported shadow copy.
	RestoreTypeImport RestoreType = 2
	// RestoreTypeOther is an error.
	RestoreTypeOther RestoreType = 3
)

var restoreTypeNames = enumeration[RestoreType]{"VSS_RESTORE_TYPE", []entry[RestoreType]{
	{RestoreTypeUndefined, "VSS_RTYPE_UNDEFINED", "undefined"},
	{RestoreTypeByCopy, "VSS_RTYPE_BY_COPY", "byCopy"},
	{RestoreTypeImport, "VSS_RTYPE_IMPORT", "import"},
	{RestoreTypeOther, "VSS_RTYPE_OTHER", "other"},
}}

// String gives the constant's name, such as VSS_RTYPE_BY_COPY.
func (v RestoreType) String() string { return restoreTypeNames.name(v) }

// Word gives the spelling in the Backup Components Document, such as byCopy.
func (v RestoreType) Word() string { return restoreTypeNames.word(v) }

// ParseRestoreType finds a value by its word or its constant's name, in any case.
func ParseRestoreType(s string) (RestoreType, error) { return restoreTypeNames.parse(s) }

// RollForwardType is VSS_ROLLFORWARD_TYPE: how far a writer replays its logs
// after a restore.
type RollForwardType int32

// Values of VSS_ROLLFORWARD_TYPE.
const (
	// RollForwardUndefined is a requester error.
	RollForwardUndefined RollForwardType = 0
	RollForwardNone      RollForwardType = 1
	RollForwardAll       RollForwardType = 2
	// RollForwardPartial goes to a named point.
	RollForwardPartial RollForwardType = 3
)

var rollForwardTypeNames = enumeration[RollForwardType]{"VSS_ROLLFORWARD_TYPE", []entry[RollForwardType]{
	{RollForwardUndefined, "VSS_RF_UNDEFINED", "undefined"},
	{RollForwardNone, "VSS_RF_NONE", "none"},
	{RollForwardAll, "VSS_RF_ALL", "all"},
	{RollForwardPartial, "VSS_RF_PARTIAL", "partial"},
}}

// String gives the constant's name, such as VSS_RF_NONE.
func (v RollForwardType) String() string { return rollForwardTypeNames.name(v) }

// Word gives the spelling in the Backup Components Document, such as none.
func (v RollForwardType) Word() string { return rollForwardTypeNames.word(v) }

// ParseRollForwardType finds a value by its word or its constant's name, in any case.
func ParseRollForwardType(s string) (RollForwardType, error) { return rollForwardTypeNames.parse(s) }

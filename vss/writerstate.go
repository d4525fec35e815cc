package vss

// WriterState is VSS_WRITER_STATE: where a writer stands in the sequence of
// events.
type WriterState int32

// Values of VSS_WRITER_STATE.
const (
	WriterUnknown                  WriterState = 0
	WriterStable                   WriterState = 1
	WriterWaitingForFreeze         WriterState = 2
	WriterWaitingForThaw           WriterState = 3
	WriterWaitingForPostSnapshot   WriterState = 4
	WriterWaitingForBackupComplete WriterState = 5
	WriterFailedAtIdentify         WriterState = 6
	WriterFailedAtPrepareBackup    WriterState = 7
	WriterFailedAtPrepareSnapshot  WriterState = 8
	WriterFailedAtFreeze           WriterState = 9
	WriterFailedAtThaw             WriterState = 10
	WriterFailedAtPostSnapshot     WriterState = 11
	WriterFailedAtBackupComplete   WriterState = 12
	WriterFailedAtPreRestore       WriterState = 13
	WriterFailedAtPostRestore      WriterState = 14
	WriterFailedAtBackupShutdown   WriterState = 15
	// WriterStateCount is the number of states, not a state.
	WriterStateCount WriterState = 16
)

var writerStateNames = enumeration[WriterState]{"VSS_WRITER_STATE", []entry[WriterState]{
	{WriterUnknown, "VSS_WS_UNKNOWN", ""},
	{WriterStable, "VSS_WS_STABLE", ""},
	{WriterWaitingForFreeze, "VSS_WS_WAITING_FOR_FREEZE", ""},
	{WriterWaitingForThaw, "VSS_WS_WAITING_FOR_THAW", ""},
	{WriterWaitingForPostSnapshot, "VSS_WS_WAITING_FOR_POST_SNAPSHOT", ""},
	{WriterWaitingForBackupComplete, "VSS_WS_WAITING_FOR_BACKUP_COMPLETE", ""},
	{WriterFailedAtIdentify, "VSS_WS_FAILED_AT_IDENTIFY", ""},
	{WriterFailedAtPrepareBackup, "VSS_WS_FAILED_AT_PREPARE_BACKUP", ""},
	{WriterFailedAtPrepareSnapshot, "VSS_WS_FAILED_AT_PREPARE_SNAPSHOT", ""},
	{WriterFailedAtFreeze, "VSS_WS_FAILED_AT_FREEZE", ""},
	{WriterFailedAtThaw, "VSS_WS_FAILED_AT_THAW", ""},
	{WriterFailedAtPostSnapshot, "VSS_WS_FAILED_AT_POST_SNAPSHOT", ""},
	{WriterFailedAtBackupComplete, "VSS_WS_FAILED_AT_BACKUP_COMPLETE", ""},
	{WriterFailedAtPreRestore, "VSS_WS_FAILED_AT_PRE_RESTORE", ""},
	{WriterFailedAtPostRestore, "VSS_WS_FAILED_AT_POST_RESTORE", ""},
	{WriterFailedAtBackupShutdown, "VSS_WS_FAILED_AT_BACKUPSHUTDOWN", ""},
	{WriterStateCount, "VSS_WS_COUNT", ""},
}}

// String gives the constant's name, such as VSS_WS_STABLE.
func (v WriterState) String() string { return writerStateNames.name(v) }

// AlternateWriterState is VSS_ALTERNATE_WRITER_STATE, of which only one value
// is of use.
type AlternateWriterState int32

// Values of VSS_ALTERNATE_WRITER_STATE.
const (
	AlternateWriterUndefined AlternateWriterState = 0
	// AlternateWriterNone is the only one to use.
	AlternateWriterNone   AlternateWriterState = 1
	AlternateWriterExists AlternateWriterState = 2
	AlternateWriterThis   AlternateWriterState = 3
)

var alternateWriterStateNames = enumeration[AlternateWriterState]{"VSS_ALTERNATE_WRITER_STATE", []entry[AlternateWriterState]{
	{AlternateWriterUndefined, "VSS_AWS_UNDEFINED", ""},
	{AlternateWriterNone, "VSS_AWS_NO_ALTERNATE_WRITER", ""},
	{AlternateWriterExists, "VSS_AWS_ALTERNATE_WRITER_EXISTS", ""},
	{AlternateWriterThis, "VSS_AWS_THIS_IS_ALTERNATE_WRITER", ""},
}}

// String gives the constant's name, such as VSS_AWS_NO_ALTERNATE_WRITER.
func (v AlternateWriterState) String() string { return alternateWriterStateNames.name(v) }

// SubscribeMask is VSS_SUBSCRIBE_MASK: the events a writer asks for; only
// backup and restore events together are supported.
type SubscribeMask uint32

// Values of VSS_SUBSCRIBE_MASK.
const (
	SubscribePostSnapshot  SubscribeMask = 0x1
	SubscribeBackupEvents  SubscribeMask = 0x2
	SubscribeRestoreEvents SubscribeMask = 0x4
	SubscribeIOThrottling  SubscribeMask = 0x8
	SubscribeAll           SubscribeMask = 0xFFFFFFFF
)

var subscribeMaskNames = enumeration[SubscribeMask]{"VSS_SUBSCRIBE_MASK", []entry[SubscribeMask]{
	{SubscribePostSnapshot, "VSS_SM_POST_SNAPSHOT_FLAG", ""},
	{SubscribeBackupEvents, "VSS_SM_BACKUP_EVENTS_FLAG", ""},
	{SubscribeRestoreEvents, "VSS_SM_RESTORE_EVENTS_FLAG", ""},
	{SubscribeIOThrottling, "VSS_SM_IO_THROTTLING_FLAG", ""},
	{SubscribeAll, "VSS_SM_ALL_FLAGS", ""},
}}

// String gives the names of the bits that are set, joined by "|".
func (v SubscribeMask) String() string { return subscribeMaskNames.maskName(v) }

// ApplicationLevel is VSS_APPLICATION_LEVEL: Freeze goes to front-end writers
// first, then back-end, then system.
type ApplicationLevel int32

// Values of VSS_APPLICATION_LEVEL.
const (
	LevelUnknown ApplicationLevel = 0
	LevelSystem  ApplicationLevel = 1
	LevelBackEnd ApplicationLevel = 2
	// LevelFrontEnd is the default.
	LevelFrontEnd ApplicationLevel = 3
	// LevelSystemRM is not documented by Microsoft.
	LevelSystemRM ApplicationLevel = 4
	// LevelAuto is reserved.
	LevelAuto ApplicationLevel = -1
)

var applicationLevelNames = enumeration[ApplicationLevel]{"VSS_APPLICATION_LEVEL", []entry[ApplicationLevel]{
	{LevelUnknown, "VSS_APP_UNKNOWN", "unknown"},
	{LevelSystem, "VSS_APP_SYSTEM", "system"},
	{LevelBackEnd, "VSS_APP_BACK_END", "back-end"},
	{LevelFrontEnd, "VSS_APP_FRONT_END", "front-end"},
	{LevelSystemRM, "VSS_APP_SYSTEM_RM", ""},
	{LevelAuto, "VSS_APP_AUTO", ""},
}}

// String gives the constant's name, such as VSS_APP_SYSTEM.
func (v ApplicationLevel) String() string { return applicationLevelNames.name(v) }

// Word gives the spelling in configurations, such as system.
func (v ApplicationLevel) Word() string { return applicationLevelNames.word(v) }

// ParseApplicationLevel finds a value by its word or its constant's name, in any case.
func ParseApplicationLevel(s string) (ApplicationLevel, error) { return applicationLevelNames.parse(s) }

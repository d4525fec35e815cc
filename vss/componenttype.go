package vss

// ComponentType is VSS_COMPONENT_TYPE: whether a component is a database or a
// file group (R-SET-7).
type ComponentType int32

// Values of VSS_COMPONENT_TYPE.
const (
	ComponentTypeUndefined ComponentType = 0
	ComponentTypeDatabase  ComponentType = 1
	ComponentTypeFileGroup ComponentType = 2
)

var componentTypeNames = enumeration[ComponentType]{"VSS_COMPONENT_TYPE", []entry[ComponentType]{
	{ComponentTypeUndefined, "VSS_CT_UNDEFINED", "undefined"},
	{ComponentTypeDatabase, "VSS_CT_DATABASE", "database"},
	{ComponentTypeFileGroup, "VSS_CT_FILEGROUP", "filegroup"},
}}

// String gives the constant's name, such as VSS_CT_DATABASE.
func (v ComponentType) String() string { return componentTypeNames.name(v) }

// Word gives the spelling in the Backup Components Document, such as database.
func (v ComponentType) Word() string { return componentTypeNames.word(v) }

// ParseComponentType finds a value by its word or its constant's name, in any case.
func ParseComponentType(s string) (ComponentType, error) { return componentTypeNames.parse(s) }

// ComponentFlags is VSS_COMPONENT_FLAGS: a mask of properties of a component.
type ComponentFlags uint32

// Values of VSS_COMPONENT_FLAGS.
const (
	// FlagBackupRecovery says the writer writes to the shadow copy after its creation.
	FlagBackupRecovery ComponentFlags = 0x1
	// FlagAppRollbackRecovery says so for rollback shadow copies only.
	FlagAppRollbackRecovery ComponentFlags = 0x2
	// FlagNotSystemState keeps a component out of system state backups (R-SEL-19).
	FlagNotSystemState ComponentFlags = 0x4
)

var componentFlagsNames = enumeration[ComponentFlags]{"VSS_COMPONENT_FLAGS", []entry[ComponentFlags]{
	{FlagBackupRecovery, "VSS_CF_BACKUP_RECOVERY", ""},
	{FlagAppRollbackRecovery, "VSS_CF_APP_ROLLBACK_RECOVERY", ""},
	{FlagNotSystemState, "VSS_CF_NOT_SYSTEM_STATE", ""},
}}

// String gives the names of the bits that are set, joined by "|".
func (v ComponentFlags) String() string { return componentFlagsNames.maskName(v) }

// UsageType is VSS_USAGE_TYPE: what the host uses a writer's data for.
type UsageType int32

// Values of VSS_USAGE_TYPE.
const (
	// UsageUndefined is a writer error.
	UsageUndefined           UsageType = 0
	UsageBootableSystemState UsageType = 1
	UsageSystemService       UsageType = 2
	UsageUserData            UsageType = 3
	UsageOther               UsageType = 4
)

var usageTypeNames = enumeration[UsageType]{"VSS_USAGE_TYPE", []entry[UsageType]{
	{UsageUndefined, "VSS_UT_UNDEFINED", "UNDEFINED"},
	{UsageBootableSystemState, "VSS_UT_BOOTABLESYSTEMSTATE", "BOOTABLE_SYSTEM_STATE"},
	{UsageSystemService, "VSS_UT_SYSTEMSERVICE", "SYSTEM_SERVICE"},
	{UsageUserData, "VSS_UT_USERDATA", "USER_DATA"},
	{UsageOther, "VSS_UT_OTHER", "OTHER"},
}}

// String gives the constant's name, such as VSS_UT_BOOTABLESYSTEMSTATE.
func (v UsageType) String() string { return usageTypeNames.name(v) }

// Word gives the spelling of the Writer Metadata Document, such as BOOTABLE_SYSTEM_STATE.
func (v UsageType) Word() string { return usageTypeNames.word(v) }

// ParseUsageType finds a value by its word or its constant's name, in any case.
func ParseUsageType(s string) (UsageType, error) { return usageTypeNames.parse(s) }

// SourceType is VSS_SOURCE_TYPE: what kind of data source a writer manages.
type SourceType int32

// Values of VSS_SOURCE_TYPE.
const (
	// SourceUndefined is a writer error, to be reported.
	SourceUndefined       SourceType = 0
	SourceTransactedDB    SourceType = 1
	SourceNonTransactedDB SourceType = 2
	// SourceOther is the default.
	SourceOther SourceType = 3
)

var sourceTypeNames = enumeration[SourceType]{"VSS_SOURCE_TYPE", []entry[SourceType]{
	{SourceUndefined, "VSS_ST_UNDEFINED", "UNDEFINED"},
	{SourceTransactedDB, "VSS_ST_TRANSACTEDDB", "TRANSACTION_DB"},
	{SourceNonTransactedDB, "VSS_ST_NONTRANSACTEDDB", "NONTRANSACTION_DB"},
	{SourceOther, "VSS_ST_OTHER", "OTHER"},
}}

// String gives the constant's name, such as VSS_ST_TRANSACTEDDB.
func (v SourceType) String() string { return sourceTypeNames.name(v) }

// Word gives the spelling of the Writer Metadata Document, such as TRANSACTION_DB.
func (v SourceType) Word() string { return sourceTypeNames.word(v) }

// ParseSourceType finds a value by its word or its constant's name, in any case.
func ParseSourceType(s string) (SourceType, error) { return sourceTypeNames.parse(s) }

package vss

// SnapshotState is VSS_SNAPSHOT_STATE: where a shadow copy stands in its
// making. Queries show only created ones.
type SnapshotState int32

// Values of VSS_SNAPSHOT_STATE.
const (
	SnapshotUnknown                   SnapshotState = 0
	SnapshotPreparing                 SnapshotState = 1
	SnapshotProcessingPrepare         SnapshotState = 2
	SnapshotPrepared                  SnapshotState = 3
	SnapshotProcessingPreCommit       SnapshotState = 4
	SnapshotPreCommitted              SnapshotState = 5
	SnapshotProcessingCommit          SnapshotState = 6
	SnapshotCommitted                 SnapshotState = 7
	SnapshotProcessingPostCommit      SnapshotState = 8
	SnapshotProcessingPreFinalCommit  SnapshotState = 9
	SnapshotPreFinalCommitted         SnapshotState = 10
	SnapshotProcessingPostFinalCommit SnapshotState = 11
	SnapshotCreated                   SnapshotState = 12
	SnapshotAborted                   SnapshotState = 13
	SnapshotDeleted                   SnapshotState = 14
	SnapshotPostCommitted             SnapshotState = 15
	// SnapshotStateCount is the number of states, not a state.
	SnapshotStateCount SnapshotState = 16
)

var snapshotStateNames = enumeration[SnapshotState]{"VSS_SNAPSHOT_STATE", []entry[SnapshotState]{
	{SnapshotUnknown, "VSS_SS_UNKNOWN", ""},
	{SnapshotPreparing, "VSS_SS_PREPARING", ""},
	{SnapshotProcessingPrepare, "VSS_SS_PROCESSING_PREPARE", ""},
	{SnapshotPrepared, "VSS_SS_PREPARED", ""},
	{SnapshotProcessingPreCommit, "VSS_SS_PROCESSING_PRECOMMIT", ""},
	{SnapshotPreCommitted, "VSS_SS_PRECOMMITTED", ""},
	{SnapshotProcessingCommit, "VSS_SS_PROCESSING_COMMIT", ""},
	{SnapshotCommitted, "VSS_SS_COMMITTED", ""},
	{SnapshotProcessingPostCommit, "VSS_SS_PROCESSING_POSTCOMMIT", ""},
	{SnapshotProcessingPreFinalCommit, "VSS_SS_PROCESSING_PREFINALCOMMIT", ""},
	{SnapshotPreFinalCommitted, "VSS_SS_PREFINALCOMMITTED", ""},
	{SnapshotProcessingPostFinalCommit, "VSS_SS_PROCESSING_POSTFINALCOMMIT", ""},
	{SnapshotCreated, "VSS_SS_CREATED", ""},
	{SnapshotAborted, "VSS_SS_ABORTED", ""},
	{SnapshotDeleted, "VSS_SS_DELETED", ""},
	{SnapshotPostCommitted, "VSS_SS_POSTCOMMITTED", ""},
	{SnapshotStateCount, "VSS_SS_COUNT", ""},
}}

// String gives the constant's name, such as VSS_SS_PREPARING.
func (v SnapshotState) String() string { return snapshotStateNames.name(v) }

// SnapshotContext is VSS_SNAPSHOT_CONTEXT: whether writers take part in a
// shadow copy set and how long it lives. Its value is a combination of
// SnapshotAttributes.
type SnapshotContext uint32

// Values of VSS_SNAPSHOT_CONTEXT.
const (
	// ContextBackup has writers and auto-release; the default.
	ContextBackup SnapshotContext = 0x0
	// ContextFileShareBackup has no writers, auto-release.
	ContextFileShareBackup SnapshotContext = 0x10
	// ContextNASRollback has no writers, persistent.
	ContextNASRollback SnapshotContext = 0x19
	// ContextAppRollback has writers, persistent.
	ContextAppRollback SnapshotContext = 0x9
	// ContextClientAccessible has no writers, persistent, system provider only.
	ContextClientAccessible SnapshotContext = 0x1D
	// ContextClientAccessibleWriters is the same with writers.
	ContextClientAccessibleWriters SnapshotContext = 0xD
	// ContextAll is for queries and deletion, never for creation.
	ContextAll SnapshotContext = 0xFFFFFFFF
)

var snapshotContextNames = enumeration[SnapshotContext]{"VSS_SNAPSHOT_CONTEXT", []entry[SnapshotContext]{
	{ContextBackup, "VSS_CTX_BACKUP", ""},
	{ContextFileShareBackup, "VSS_CTX_FILE_SHARE_BACKUP", ""},
	{ContextNASRollback, "VSS_CTX_NAS_ROLLBACK", ""},
	{ContextAppRollback, "VSS_CTX_APP_ROLLBACK", ""},
	{ContextClientAccessible, "VSS_CTX_CLIENT_ACCESSIBLE", ""},
	{ContextClientAccessibleWriters, "VSS_CTX_CLIENT_ACCESSIBLE_WRITERS", ""},
	{ContextAll, "VSS_CTX_ALL", ""},
}}

// String gives the constant's name, such as VSS_CTX_FILE_SHARE_BACKUP.
func (v SnapshotContext) String() string { return snapshotContextNames.name(v) }

// SnapshotAttributes is VSS_VOLUME_SNAPSHOT_ATTRIBUTES: a mask of properties
// of a shadow copy.
type SnapshotAttributes uint32

// Values of VSS_VOLUME_SNAPSHOT_ATTRIBUTES.
const (
	AttrPersistent       SnapshotAttributes = 0x1
	AttrNoAutoRecovery   SnapshotAttributes = 0x2
	AttrClientAccessible SnapshotAttributes = 0x4
	AttrNoAutoRelease    SnapshotAttributes = 0x8
	AttrNoWriters        SnapshotAttributes = 0x10
	AttrTransportable    SnapshotAttributes = 0x20
	AttrNotSurfaced      SnapshotAttributes = 0x40
	AttrNotTransacted    SnapshotAttributes = 0x80
	AttrHardwareAssisted SnapshotAttributes = 0x10000
	AttrDifferential     SnapshotAttributes = 0x20000
	AttrPlex             SnapshotAttributes = 0x40000
	AttrImported         SnapshotAttributes = 0x80000
	AttrExposedLocally   SnapshotAttributes = 0x100000
	AttrExposedRemotely  SnapshotAttributes = 0x200000
	AttrAutoRecover      SnapshotAttributes = 0x400000
	AttrRollbackRecovery SnapshotAttributes = 0x800000
	// AttrDelayedPostSnapshot is reserved.
	AttrDelayedPostSnapshot SnapshotAttributes = 0x1000000
	AttrTxFRecovery         SnapshotAttributes = 0x2000000
	AttrFileShare           SnapshotAttributes = 0x4000000
)

var snapshotAttributesNames = enumeration[SnapshotAttributes]{"VSS_VOLUME_SNAPSHOT_ATTRIBUTES", []entry[SnapshotAttributes]{
	{AttrPersistent, "VSS_VOLSNAP_ATTR_PERSISTENT", ""},
	{AttrNoAutoRecovery, "VSS_VOLSNAP_ATTR_NO_AUTORECOVERY", ""},
	{AttrClientAccessible, "VSS_VOLSNAP_ATTR_CLIENT_ACCESSIBLE", ""},
	{AttrNoAutoRelease, "VSS_VOLSNAP_ATTR_NO_AUTO_RELEASE", ""},
	{AttrNoWriters, "VSS_VOLSNAP_ATTR_NO_WRITERS", ""},
	{AttrTransportable, "VSS_VOLSNAP_ATTR_TRANSPORTABLE", ""},
	{AttrNotSurfaced, "VSS_VOLSNAP_ATTR_NOT_SURFACED", ""},
	{AttrNotTransacted, "VSS_VOLSNAP_ATTR_NOT_TRANSACTED", ""},
	{AttrHardwareAssisted, "VSS_VOLSNAP_ATTR_HARDWARE_ASSISTED", ""},
	{AttrDifferential, "VSS_VOLSNAP_ATTR_DIFFERENTIAL", ""},
	{AttrPlex, "VSS_VOLSNAP_ATTR_PLEX", ""},
	{AttrImported, "VSS_VOLSNAP_ATTR_IMPORTED", ""},
	{AttrExposedLocally, "VSS_VOLSNAP_ATTR_EXPOSED_LOCALLY", ""},
	{AttrExposedRemotely, "VSS_VOLSNAP_ATTR_EXPOSED_REMOTELY", ""},
	{AttrAutoRecover, "VSS_VOLSNAP_ATTR_AUTORECOVER", ""},
	{AttrRollbackRecovery, "VSS_VOLSNAP_ATTR_ROLLBACK_RECOVERY", ""},
	{AttrDelayedPostSnapshot, "VSS_VOLSNAP_ATTR_DELAYED_POSTSNAPSHOT", ""},
	{AttrTxFRecovery, "VSS_VOLSNAP_ATTR_TXF_RECOVERY", ""},
	{AttrFileShare, "VSS_VOLSNAP_ATTR_FILE_SHARE", ""},
}}

// String gives the names of the bits that are set, joined by "|".
func (v SnapshotAttributes) String() string { return snapshotAttributesNames.maskName(v) }

// ProviderType is VSS_PROVIDER_TYPE. Where nobody chooses, hardware is asked
// first, then software, then system.
type ProviderType int32

// Values of VSS_PROVIDER_TYPE.
const (
	ProviderUnknown   ProviderType = 0
	ProviderSystem    ProviderType = 1
	ProviderSoftware  ProviderType = 2
	ProviderHardware  ProviderType = 3
	ProviderFileShare ProviderType = 4
)

var providerTypeNames = enumeration[ProviderType]{"VSS_PROVIDER_TYPE", []entry[ProviderType]{
	{ProviderUnknown, "VSS_PROV_UNKNOWN", "unknown"},
	{ProviderSystem, "VSS_PROV_SYSTEM", "system"},
	{ProviderSoftware, "VSS_PROV_SOFTWARE", "software"},
	{ProviderHardware, "VSS_PROV_HARDWARE", "hardware"},
	{ProviderFileShare, "VSS_PROV_FILESHARE", "fileshare"},
}}

// String gives the constant's name, such as VSS_PROV_SYSTEM.
func (v ProviderType) String() string { return providerTypeNames.name(v) }

// Word gives the spelling in listings, such as system.
func (v ProviderType) Word() string { return providerTypeNames.word(v) }

// ParseProviderType finds a value by its word or its constant's name, in any case.
func ParseProviderType(s string) (ProviderType, error) { return providerTypeNames.parse(s) }

// ObjectType is VSS_OBJECT_TYPE: what a query or a deletion is about.
type ObjectType int32

// Values of VSS_OBJECT_TYPE.
const (
	ObjectUnknown     ObjectType = 0
	ObjectNone        ObjectType = 1
	ObjectSnapshotSet ObjectType = 2
	ObjectSnapshot    ObjectType = 3
	ObjectProvider    ObjectType = 4
)

var objectTypeNames = enumeration[ObjectType]{"VSS_OBJECT_TYPE", []entry[ObjectType]{
	{ObjectUnknown, "VSS_OBJECT_UNKNOWN", ""},
	{ObjectNone, "VSS_OBJECT_NONE", ""},
	{ObjectSnapshotSet, "VSS_OBJECT_SNAPSHOT_SET", ""},
	{ObjectSnapshot, "VSS_OBJECT_SNAPSHOT", ""},
	{ObjectProvider, "VSS_OBJECT_PROVIDER", ""},
}}

// String gives the constant's name, such as VSS_OBJECT_NONE.
func (v ObjectType) String() string { return objectTypeNames.name(v) }

// SnapshotCompatibility is VSS_SNAPSHOT_COMPATIBILITY: what a volume with
// shadow copies should do without.
type SnapshotCompatibility uint32

// Values of VSS_SNAPSHOT_COMPATIBILITY.
const (
	CompatibilityDisableDefrag       SnapshotCompatibility = 0x1
	CompatibilityDisableContentIndex SnapshotCompatibility = 0x2
)

var snapshotCompatibilityNames = enumeration[SnapshotCompatibility]{"VSS_SNAPSHOT_COMPATIBILITY", []entry[SnapshotCompatibility]{
	{CompatibilityDisableDefrag, "VSS_SC_DISABLE_DEFRAG", ""},
	{CompatibilityDisableContentIndex, "VSS_SC_DISABLE_CONTENTINDEX", ""},
}}

// String gives the names of the bits that are set, joined by "|".
func (v SnapshotCompatibility) String() string { return snapshotCompatibilityNames.maskName(v) }

// SnapshotPropertyID is VSS_SNAPSHOT_PROPERTY_ID: one property of a shadow
// copy.
type SnapshotPropertyID int32

// Values of VSS_SNAPSHOT_PROPERTY_ID.
const (
	PropertyUnknown            SnapshotPropertyID = 0
	PropertySnapshotID         SnapshotPropertyID = 1
	PropertySnapshotSetID      SnapshotPropertyID = 2
	PropertySnapshotsCount     SnapshotPropertyID = 3
	PropertySnapshotDevice     SnapshotPropertyID = 4
	PropertyOriginalVolume     SnapshotPropertyID = 5
	PropertyOriginatingMachine SnapshotPropertyID = 6
	PropertyServiceMachine     SnapshotPropertyID = 7
	PropertyExposedName        SnapshotPropertyID = 8
	PropertyExposedPath        SnapshotPropertyID = 9
	PropertyProviderID         SnapshotPropertyID = 10
	PropertySnapshotAttributes SnapshotPropertyID = 11
	PropertyCreationTimestamp  SnapshotPropertyID = 12
	PropertyStatus             SnapshotPropertyID = 13
)

var snapshotPropertyIDNames = enumeration[SnapshotPropertyID]{"VSS_SNAPSHOT_PROPERTY_ID", []entry[SnapshotPropertyID]{
	{PropertyUnknown, "VSS_SPROPID_UNKNOWN", ""},
	{PropertySnapshotID, "VSS_SPROPID_SNAPSHOT_ID", ""},
	{PropertySnapshotSetID, "VSS_SPROPID_SNAPSHOT_SET_ID", ""},
	{PropertySnapshotsCount, "VSS_SPROPID_SNAPSHOTS_COUNT", ""},
	{PropertySnapshotDevice, "VSS_SPROPID_SNAPSHOT_DEVICE", ""},
	{PropertyOriginalVolume, "VSS_SPROPID_ORIGINAL_VOLUME", ""},
	{PropertyOriginatingMachine, "VSS_SPROPID_ORIGINATING_MACHINE", ""},
	{PropertyServiceMachine, "VSS_SPROPID_SERVICE_MACHINE", ""},
	{PropertyExposedName, "VSS_SPROPID_EXPOSED_NAME", ""},
	{PropertyExposedPath, "VSS_SPROPID_EXPOSED_PATH", ""},
	{PropertyProviderID, "VSS_SPROPID_PROVIDER_ID", ""},
	{PropertySnapshotAttributes, "VSS_SPROPID_SNAPSHOT_ATTRIBUTES", ""},
	{PropertyCreationTimestamp, "VSS_SPROPID_CREATION_TIMESTAMP", ""},
	{PropertyStatus, "VSS_SPROPID_STATUS", ""},
}}

// String gives the constant's name, such as VSS_SPROPID_SNAPSHOT_ID.
func (v SnapshotPropertyID) String() string { return snapshotPropertyIDNames.name(v) }

// HardwareOptions is VSS_HARDWARE_OPTIONS: how BreakSnapshotSetEx leaves the
// disks, and what a provider is told of it.
type HardwareOptions uint32

// Values of VSS_HARDWARE_OPTIONS.
const (
	HardwareBreakMaskLUNs           HardwareOptions = 0x1
	HardwareBreakMakeReadWrite      HardwareOptions = 0x2
	HardwareBreakRevertIdentityAll  HardwareOptions = 0x4
	HardwareBreakRevertIdentityNone HardwareOptions = 0x8
	HardwareNotifyReadWrite         HardwareOptions = 0x100
	HardwareNotifyLUNPreRecovery    HardwareOptions = 0x200
	HardwareNotifyLUNPostRecovery   HardwareOptions = 0x400
	HardwareDoMaskLUNs              HardwareOptions = 0x800
)

var hardwareOptionsNames = enumeration[HardwareOptions]{"VSS_HARDWARE_OPTIONS", []entry[HardwareOptions]{
	{HardwareBreakMaskLUNs, "VSS_BREAKEX_FLAG_MASK_LUNS", ""},
	{HardwareBreakMakeReadWrite, "VSS_BREAKEX_FLAG_MAKE_READ_WRITE", ""},
	{HardwareBreakRevertIdentityAll, "VSS_BREAKEX_FLAG_REVERT_IDENTITY_ALL", ""},
	{HardwareBreakRevertIdentityNone, "VSS_BREAKEX_FLAG_REVERT_IDENTITY_NONE", ""},
	{HardwareNotifyReadWrite, "VSS_ONLUNSTATECHANGE_NOTIFY_READ_WRITE", ""},
	{HardwareNotifyLUNPreRecovery, "VSS_ONLUNSTATECHANGE_NOTIFY_LUN_PRE_RECOVERY", ""},
	{HardwareNotifyLUNPostRecovery, "VSS_ONLUNSTATECHANGE_NOTIFY_LUN_POST_RECOVERY", ""},
	{HardwareDoMaskLUNs, "VSS_ONLUNSTATECHANGE_DO_MASK_LUNS", ""},
}}

// String gives the names of the bits that are set, joined by "|".
func (v HardwareOptions) String() string { return hardwareOptionsNames.maskName(v) }

// RecoveryOptions is VSS_RECOVERY_OPTIONS: how RecoverSet treats disk
// identities and volumes.
type RecoveryOptions uint32

// Values of VSS_RECOVERY_OPTIONS.
const (
	RecoveryRevertIdentityAll RecoveryOptions = 0x100
	RecoveryNoVolumeCheck     RecoveryOptions = 0x200
)

var recoveryOptionsNames = enumeration[RecoveryOptions]{"VSS_RECOVERY_OPTIONS", []entry[RecoveryOptions]{
	{RecoveryRevertIdentityAll, "VSS_RECOVERY_REVERT_IDENTITY_ALL", ""},
	{RecoveryNoVolumeCheck, "VSS_RECOVERY_NO_VOLUME_CHECK", ""},
}}

// String gives the names of the bits that are set, joined by "|".
func (v RecoveryOptions) String() string { return recoveryOptionsNames.maskName(v) }

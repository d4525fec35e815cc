package metadata

// Namespaces and version of the documents, as Windows writes them.
const (
	writerMetadataSpace   = "x-schema:#VssWriterMetadataInfo"
	backupComponentsSpace = "x-schema:#VssComponentMetadata"
	documentVersion       = "1.2"
)

// Elements of the Writer Metadata Document. Those marked "ours" no document of
// Microsoft's was seen to hold; docs/documents.md lists them with their
// meaning.
const (
	elemWriterMetadata = "WRITER_METADATA"
	elemIdentification = "IDENTIFICATION"
	elemRestoreMethod  = "RESTORE_METHOD"
	elemLocations      = "BACKUP_LOCATIONS"
	elemExclude        = "EXCLUDE_FILES"
	elemExcludeFrom    = "EXCLUDE_FILES_FROM_SNAPSHOT"
	elemFileGroup      = "FILE_GROUP"
	elemDatabase       = "DATABASE"
	elemFileList       = "FILE_LIST"
	elemDatabaseFiles  = "DATABASE_FILES"
	elemDatabaseLogs   = "DATABASE_LOGFILES"
	elemMapping        = "ALTERNATE_LOCATION_MAPPING" // ours, in both documents
	elemDependency     = "DEPENDENCY"                 // ours
)

// Elements of the Backup Components Document.
const (
	elemBackupComponents = "BACKUP_COMPONENTS"
	elemWriterComponents = "WRITER_COMPONENTS"
	elemComponent        = "COMPONENT"
	elemPartialFile      = "PARTIAL_FILE"         // ours
	elemDifferenced      = "DIFFERENCED_FILES"    // ours
	elemDirectedTarget   = "DIRECTED_TARGET"      // ours
	elemNewTarget        = "NEW_TARGET"           // ours
	elemSubcomponent     = "RESTORE_SUBCOMPONENT" // ours
	elemFailure          = "FAILURE"              // ours
)

// Attributes seen in documents of Microsoft's.
const (
	attrVersion            = "version"
	attrBackupSchema       = "backupSchema"
	attrWriterID           = "writerId"
	attrInstanceID         = "instanceId"
	attrInstanceName       = "instanceName"
	attrFriendlyName       = "friendlyName"
	attrUsage              = "usage"
	attrDataSource         = "dataSource"
	attrMajorVersion       = "majorVersion"
	attrMinorVersion       = "minorVersion"
	attrMethod             = "method"
	attrWriterRestore      = "writerRestore"
	attrRebootRequired     = "rebootRequired"
	attrPath               = "path"
	attrFilespec           = "filespec"
	attrRecursive          = "recursive"
	attrFilespecBackupType = "filespecBackupType"
	attrLogicalPath        = "logicalPath"
	attrComponentName      = "componentName"
	attrCaption            = "caption"
	attrRestoreMetadata    = "restoreMetadata" // a flag in one document; text, and ours, in the other
	attrNotify             = "notifyOnBackupComplete"
	attrSelectable         = "selectable"
	attrSelectableRestore  = "selectableForRestore"
	attrComponentFlags     = "componentFlags"
	attrBootable           = "bootableSystemStateBackup"
	attrSelectComponents   = "selectComponents"
	attrBackupType         = "backupType"
	attrPartialSupport     = "partialFileSupport"
	attrSnapshotSetID      = "snapshotSetId"
	attrComponentType      = "componentType"
	attrComponentCaption   = "componentCaption"
)

// Attributes that are ours.
const (
	attrAlternatePath       = "alternatePath"
	attrService             = "service"
	attrUserProcedure       = "userProcedure"
	attrIcon                = "icon"
	attrRestoreType         = "restoreType"
	attrBackupSucceeded     = "backupSucceeded"
	attrBackupOptions       = "backupOptions"
	attrBackupMetadata      = "backupMetadata"
	attrBackupStamp         = "backupStamp"
	attrPreviousStamp       = "previousBackupStamp"
	attrSelectedForRestore  = "selectedForRestore"
	attrRestoreInstanceID   = "restoreInstanceId"
	attrRestoreOptions      = "restoreOptions"
	attrAdditionalRestores  = "additionalRestores"
	attrRestoreTarget       = "restoreTarget"
	attrFileRestoreStatus   = "fileRestoreStatus"
	attrPrepareMsg          = "prepareForBackupFailureMsg"
	attrPostSnapshotMsg     = "postSnapshotFailureMsg"
	attrPreRestoreMsg       = "preRestoreFailureMsg"
	attrPostRestoreMsg      = "postRestoreFailureMsg"
	attrAuthoritative       = "authoritativeRestore"
	attrRollForwardType     = "rollForwardType"
	attrRollForwardPoint    = "rollForwardPoint"
	attrRestoreName         = "restoreName"
	attrRepair              = "repair"
	attrNewPath             = "newPath"
	attrRanges              = "ranges"
	attrMetadata            = "metadata"
	attrRangesFilePath      = "rangesFilePath"
	attrLastModifyTime      = "lastModifyTime"
	attrSourcePath          = "sourcePath"
	attrSourceFilespec      = "sourceFilespec"
	attrSourceRanges        = "sourceRanges"
	attrDestinationPath     = "destinationPath"
	attrDestinationFilespec = "destinationFilespec"
	attrDestinationRanges   = "destinationRanges"
	attrHR                  = "hr"
	attrApplicationHR       = "applicationHr"
	attrMessage             = "message"
)

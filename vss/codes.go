package vss

// The codes a call can end with. Those of the service itself begin with
// 0x800423 or 0x800424, the general ones of Windows come first.
const (
	OK                                                      Code = 0x00000000 // S_OK
	ErrNotImplemented                                       Code = 0x80004001 // E_NOTIMPL
	ErrFail                                                 Code = 0x80004005 // E_FAIL
	ErrGeneralUnexpected                                    Code = 0x8000FFFF // E_UNEXPECTED
	ErrAccessDenied                                         Code = 0x80070005 // E_ACCESSDENIED
	ErrOutOfMemory                                          Code = 0x8007000E // E_OUTOFMEMORY
	ErrInvalidArgument                                      Code = 0x80070057 // E_INVALIDARG
	InfoAsyncPending                                        Code = 0x00042309 // VSS_S_ASYNC_PENDING
	InfoAsyncFinished                                       Code = 0x0004230A // VSS_S_ASYNC_FINISHED
	InfoAsyncCancelled                                      Code = 0x0004230B // VSS_S_ASYNC_CANCELLED
	InfoSomeSnapshotsNotImported                            Code = 0x00042321 // VSS_S_SOME_SNAPSHOTS_NOT_IMPORTED
	ErrBadState                                             Code = 0x80042301 // VSS_E_BAD_STATE
	ErrUnexpected                                           Code = 0x80042302 // VSS_E_UNEXPECTED
	ErrProviderAlreadyRegistered                            Code = 0x80042303 // VSS_E_PROVIDER_ALREADY_REGISTERED
	ErrProviderNotRegistered                                Code = 0x80042304 // VSS_E_PROVIDER_NOT_REGISTERED
	ErrProviderVeto                                         Code = 0x80042306 // VSS_E_PROVIDER_VETO
	ErrProviderInUse                                        Code = 0x80042307 // VSS_E_PROVIDER_IN_USE
	ErrObjectNotFound                                       Code = 0x80042308 // VSS_E_OBJECT_NOT_FOUND
	ErrVolumeNotSupported                                   Code = 0x8004230C // VSS_E_VOLUME_NOT_SUPPORTED
	ErrObjectAlreadyExists                                  Code = 0x8004230D // VSS_E_OBJECT_ALREADY_EXISTS
	ErrVolumeNotSupportedByProvider                         Code = 0x8004230E // VSS_E_VOLUME_NOT_SUPPORTED_BY_PROVIDER
	ErrUnexpectedProviderError                              Code = 0x8004230F // VSS_E_UNEXPECTED_PROVIDER_ERROR
	ErrCorruptXMLDocument                                   Code = 0x80042310 // VSS_E_CORRUPT_XML_DOCUMENT
	ErrInvalidXMLDocument                                   Code = 0x80042311 // VSS_E_INVALID_XML_DOCUMENT
	ErrMaximumNumberOfVolumesReached                        Code = 0x80042312 // VSS_E_MAXIMUM_NUMBER_OF_VOLUMES_REACHED
	ErrFlushWritesTimeout                                   Code = 0x80042313 // VSS_E_FLUSH_WRITES_TIMEOUT
	ErrHoldWritesTimeout                                    Code = 0x80042314 // VSS_E_HOLD_WRITES_TIMEOUT
	ErrUnexpectedWriterError                                Code = 0x80042315 // VSS_E_UNEXPECTED_WRITER_ERROR
	ErrSnapshotSetInProgress                                Code = 0x80042316 // VSS_E_SNAPSHOT_SET_IN_PROGRESS
	ErrMaximumNumberOfSnapshotsReached                      Code = 0x80042317 // VSS_E_MAXIMUM_NUMBER_OF_SNAPSHOTS_REACHED
	ErrWriterInfrastructure                                 Code = 0x80042318 // VSS_E_WRITER_INFRASTRUCTURE
	ErrWriterNotResponding                                  Code = 0x80042319 // VSS_E_WRITER_NOT_RESPONDING
	ErrWriterAlreadySubscribed                              Code = 0x8004231A // VSS_E_WRITER_ALREADY_SUBSCRIBED
	ErrUnsupportedContext                                   Code = 0x8004231B // VSS_E_UNSUPPORTED_CONTEXT
	ErrVolumeInUse                                          Code = 0x8004231D // VSS_E_VOLUME_IN_USE
	ErrMaximumDiffAreaAssociationsReached                   Code = 0x8004231E // VSS_E_MAXIMUM_DIFFAREA_ASSOCIATIONS_REACHED
	ErrInsufficientStorage                                  Code = 0x8004231F // VSS_E_INSUFFICIENT_STORAGE
	ErrNoSnapshotsImported                                  Code = 0x80042320 // VSS_E_NO_SNAPSHOTS_IMPORTED
	ErrSomeSnapshotsNotImported                             Code = 0x80042321 // VSS_E_SOME_SNAPSHOTS_NOT_IMPORTED
	ErrMaximumNumberOfRemoteMachinesReached                 Code = 0x80042322 // VSS_E_MAXIMUM_NUMBER_OF_REMOTE_MACHINES_REACHED
	ErrRemoteServerUnavailable                              Code = 0x80042323 // VSS_E_REMOTE_SERVER_UNAVAILABLE
	ErrRemoteServerUnsupported                              Code = 0x80042324 // VSS_E_REMOTE_SERVER_UNSUPPORTED
	ErrRevertInProgress                                     Code = 0x80042325 // VSS_E_REVERT_IN_PROGRESS
	ErrRevertVolumeLost                                     Code = 0x80042326 // VSS_E_REVERT_VOLUME_LOST
	ErrRebootRequired                                       Code = 0x80042327 // VSS_E_REBOOT_REQUIRED
	ErrTransactionFreezeTimeout                             Code = 0x80042328 // VSS_E_TRANSACTION_FREEZE_TIMEOUT
	ErrTransactionThawTimeout                               Code = 0x80042329 // VSS_E_TRANSACTION_THAW_TIMEOUT
	ErrUnselectedVolume                                     Code = 0x8004232A // VSS_E_UNSELECTED_VOLUME
	ErrSnapshotNotInSet                                     Code = 0x8004232B // VSS_E_SNAPSHOT_NOT_IN_SET
	ErrNestedVolumeLimit                                    Code = 0x8004232C // VSS_E_NESTED_VOLUME_LIMIT
	ErrVolumeNotLocal                                       Code = 0x8004232D // VSS_E_VOLUME_NOT_LOCAL
	ErrClusterTimeout                                       Code = 0x8004232E // VSS_E_CLUSTER_TIMEOUT
	ErrNotSupported                                         Code = 0x8004232F // VSS_E_NOT_SUPPORTED
	ErrWriterErrorPartialFailure                            Code = 0x80042336 // VSS_E_WRITERERROR_PARTIAL_FAILURE
	ErrWriterErrorInconsistentSnapshot                      Code = 0x800423F0 // VSS_E_WRITERERROR_INCONSISTENTSNAPSHOT
	ErrWriterErrorOutOfResources                            Code = 0x800423F1 // VSS_E_WRITERERROR_OUTOFRESOURCES
	ErrWriterErrorTimeout                                   Code = 0x800423F2 // VSS_E_WRITERERROR_TIMEOUT
	ErrWriterErrorRetryable                                 Code = 0x800423F3 // VSS_E_WRITERERROR_RETRYABLE
	ErrWriterErrorNonRetryable                              Code = 0x800423F4 // VSS_E_WRITERERROR_NONRETRYABLE
	ErrWriterErrorRecoveryFailed                            Code = 0x800423F5 // VSS_E_WRITERERROR_RECOVERY_FAILED
	ErrBreakRevertIDFailed                                  Code = 0x800423F6 // VSS_E_BREAK_REVERT_ID_FAILED
	ErrLegacyProvider                                       Code = 0x800423F7 // VSS_E_LEGACY_PROVIDER
	ErrMissingDisk                                          Code = 0x800423F8 // VSS_E_MISSING_DISK
	ErrMissingHiddenVolume                                  Code = 0x800423F9 // VSS_E_MISSING_HIDDEN_VOLUME
	ErrMissingVolume                                        Code = 0x800423FA // VSS_E_MISSING_VOLUME
	ErrAutoRecoveryFailed                                   Code = 0x800423FB // VSS_E_AUTORECOVERY_FAILED
	ErrDynamicDiskError                                     Code = 0x800423FC // VSS_E_DYNAMIC_DISK_ERROR
	ErrNonTransportableBCD                                  Code = 0x800423FD // VSS_E_NONTRANSPORTABLE_BCD
	ErrCannotRevertDiskID                                   Code = 0x800423FE // VSS_E_CANNOT_REVERT_DISKID
	ErrResyncInProgress                                     Code = 0x800423FF // VSS_E_RESYNC_IN_PROGRESS
	ErrClusterError                                         Code = 0x80042400 // VSS_E_CLUSTER_ERROR
	ErrASRErrorDiskAssignmentFailed                         Code = 0x80042401 // VSS_E_ASRERROR_DISK_ASSIGNMENT_FAILED
	ErrASRErrorDiskRecreationFailed                         Code = 0x80042402 // VSS_E_ASRERROR_DISK_RECREATION_FAILED
	ErrASRErrorNoARCPath                                    Code = 0x80042403 // VSS_E_ASRERROR_NO_ARCPATH
	ErrASRErrorMissingDynDisk                               Code = 0x80042404 // VSS_E_ASRERROR_MISSING_DYNDISK
	ErrASRErrorSharedCriDisk                                Code = 0x80042405 // VSS_E_ASRERROR_SHARED_CRIDISK
	ErrASRErrorDataDiskRDisk0                               Code = 0x80042406 // VSS_E_ASRERROR_DATADISK_RDISK0
	ErrASRErrorRDisk0TooSmall                               Code = 0x80042407 // VSS_E_ASRERROR_RDISK0_TOOSMALL
	ErrASRErrorCriticalDisksTooSmall                        Code = 0x80042408 // VSS_E_ASRERROR_CRITICAL_DISKS_TOO_SMALL
	ErrWriterStatusNotAvailable                             Code = 0x80042409 // VSS_E_WRITER_STATUS_NOT_AVAILABLE
	ErrASRErrorDynamicVHDNotSupported                       Code = 0x8004240A // VSS_E_ASRERROR_DYNAMIC_VHD_NOT_SUPPORTED
	ErrCriticalVolumeOnInvalidDisk                          Code = 0x80042411 // VSS_E_CRITICAL_VOLUME_ON_INVALID_DISK
	ErrASRErrorRDiskForSystemDiskNotFound                   Code = 0x80042412 // VSS_E_ASRERROR_RDISK_FOR_SYSTEM_DISK_NOT_FOUND
	ErrASRErrorNoPhysicalDiskAvailable                      Code = 0x80042413 // VSS_E_ASRERROR_NO_PHYSICAL_DISK_AVAILABLE
	ErrASRErrorFixedPhysicalDiskAvailableAfterDiskExclusion Code = 0x80042414 // VSS_E_ASRERROR_FIXED_PHYSICAL_DISK_AVAILABLE_AFTER_DISK_EXCLUSION
	ErrASRErrorCriticalDiskCannotBeExcluded                 Code = 0x80042415 // VSS_E_ASRERROR_CRITICAL_DISK_CANNOT_BE_EXCLUDED
	ErrASRErrorSystemPartitionHidden                        Code = 0x80042416 // VSS_E_ASRERROR_SYSTEM_PARTITION_HIDDEN
	ErrFSSTimeout                                           Code = 0x80042417 // VSS_E_FSS_TIMEOUT
)

// codeTable is in the order of the constants; codeIndex finds its lines.
var codeTable = []struct {
	code    Code
	name    string
	meaning string
}{
	{OK, "S_OK", "all is well"},
	{ErrNotImplemented, "E_NOTIMPL", "the call is not implemented"},
	{ErrFail, "E_FAIL", "the operation failed for a reason without a code"},
	{ErrGeneralUnexpected, "E_UNEXPECTED", "an unexpected error occurred; the service's log may say more"},
	{ErrAccessDenied, "E_ACCESSDENIED", "the caller lacks the rights for this"},
	{ErrOutOfMemory, "E_OUTOFMEMORY", "there is not enough memory or another resource"},
	{ErrInvalidArgument, "E_INVALIDARG", "an argument is not valid"},
	{InfoAsyncPending, "VSS_S_ASYNC_PENDING", "the asynchronous operation is still running"},
	{InfoAsyncFinished, "VSS_S_ASYNC_FINISHED", "the asynchronous operation ended well"},
	{InfoAsyncCancelled, "VSS_S_ASYNC_CANCELLED", "the asynchronous operation was cancelled"},
	{InfoSomeSnapshotsNotImported, "VSS_S_SOME_SNAPSHOTS_NOT_IMPORTED", "only some of the shadow copies were imported"},
	{ErrBadState, "VSS_E_BAD_STATE", "the call is not allowed in the present state"},
	{ErrUnexpected, "VSS_E_UNEXPECTED", "an unexpected internal error occurred"},
	{ErrProviderAlreadyRegistered, "VSS_E_PROVIDER_ALREADY_REGISTERED", "the provider is already registered"},
	{ErrProviderNotRegistered, "VSS_E_PROVIDER_NOT_REGISTERED", "no provider is registered under this id"},
	{ErrProviderVeto, "VSS_E_PROVIDER_VETO", "the provider refused the operation"},
	{ErrProviderInUse, "VSS_E_PROVIDER_IN_USE", "the provider is busy and cannot be unregistered"},
	{ErrObjectNotFound, "VSS_E_OBJECT_NOT_FOUND", "the named object does not exist"},
	{ErrVolumeNotSupported, "VSS_E_VOLUME_NOT_SUPPORTED", "no provider supports the volume"},
	{ErrObjectAlreadyExists, "VSS_E_OBJECT_ALREADY_EXISTS", "the object exists already"},
	{ErrVolumeNotSupportedByProvider, "VSS_E_VOLUME_NOT_SUPPORTED_BY_PROVIDER", "the chosen provider does not support the volume"},
	{ErrUnexpectedProviderError, "VSS_E_UNEXPECTED_PROVIDER_ERROR", "the provider failed in a way it must not"},
	{ErrCorruptXMLDocument, "VSS_E_CORRUPT_XML_DOCUMENT", "the XML document is damaged"},
	{ErrInvalidXMLDocument, "VSS_E_INVALID_XML_DOCUMENT", "the XML document is not well-formed or not of the expected form"},
	{ErrMaximumNumberOfVolumesReached, "VSS_E_MAXIMUM_NUMBER_OF_VOLUMES_REACHED", "the shadow copy set already holds the most volumes it may"},
	{ErrFlushWritesTimeout, "VSS_E_FLUSH_WRITES_TIMEOUT", "flushing writes took too long"},
	{ErrHoldWritesTimeout, "VSS_E_HOLD_WRITES_TIMEOUT", "writes were held longer than allowed"},
	{ErrUnexpectedWriterError, "VSS_E_UNEXPECTED_WRITER_ERROR", "sending an event to writers went wrong"},
	{ErrSnapshotSetInProgress, "VSS_E_SNAPSHOT_SET_IN_PROGRESS", "another shadow copy set is being made"},
	{ErrMaximumNumberOfSnapshotsReached, "VSS_E_MAXIMUM_NUMBER_OF_SNAPSHOTS_REACHED", "the volume or provider has as many shadow copies as it may"},
	{ErrWriterInfrastructure, "VSS_E_WRITER_INFRASTRUCTURE", "the service that sends events to writers does not work"},
	{ErrWriterNotResponding, "VSS_E_WRITER_NOT_RESPONDING", "the writer gave no answer"},
	{ErrWriterAlreadySubscribed, "VSS_E_WRITER_ALREADY_SUBSCRIBED", "the writer has subscribed already"},
	{ErrUnsupportedContext, "VSS_E_UNSUPPORTED_CONTEXT", "the context is not supported for this call or provider"},
	{ErrVolumeInUse, "VSS_E_VOLUME_IN_USE", "the volume is in use and cannot be locked"},
	{ErrMaximumDiffAreaAssociationsReached, "VSS_E_MAXIMUM_DIFFAREA_ASSOCIATIONS_REACHED", "no more storage associations can be added"},
	{ErrInsufficientStorage, "VSS_E_INSUFFICIENT_STORAGE", "there is not enough room for the shadow copy"},
	{ErrNoSnapshotsImported, "VSS_E_NO_SNAPSHOTS_IMPORTED", "no shadow copy was imported"},
	{ErrSomeSnapshotsNotImported, "VSS_E_SOME_SNAPSHOTS_NOT_IMPORTED", "some shadow copies were not imported"},
	{ErrMaximumNumberOfRemoteMachinesReached, "VSS_E_MAXIMUM_NUMBER_OF_REMOTE_MACHINES_REACHED", "too many remote machines are involved"},
	{ErrRemoteServerUnavailable, "VSS_E_REMOTE_SERVER_UNAVAILABLE", "the remote server cannot be reached"},
	{ErrRemoteServerUnsupported, "VSS_E_REMOTE_SERVER_UNSUPPORTED", "the remote server runs a version too old"},
	{ErrRevertInProgress, "VSS_E_REVERT_IN_PROGRESS", "the volume is already being reverted"},
	{ErrRevertVolumeLost, "VSS_E_REVERT_VOLUME_LOST", "the volume vanished while it was reverted"},
	{ErrRebootRequired, "VSS_E_REBOOT_REQUIRED", "the machine must be restarted first"},
	{ErrTransactionFreezeTimeout, "VSS_E_TRANSACTION_FREEZE_TIMEOUT", "transactions could not be frozen in time"},
	{ErrTransactionThawTimeout, "VSS_E_TRANSACTION_THAW_TIMEOUT", "transactions could not be thawed in time"},
	{ErrUnselectedVolume, "VSS_E_UNSELECTED_VOLUME", "a volume that was not named would be overwritten"},
	{ErrSnapshotNotInSet, "VSS_E_SNAPSHOT_NOT_IN_SET", "the shadow copy is not in the loaded document"},
	{ErrNestedVolumeLimit, "VSS_E_NESTED_VOLUME_LIMIT", "the volume is nested too deeply"},
	{ErrVolumeNotLocal, "VSS_E_VOLUME_NOT_LOCAL", "the volume is not on this machine"},
	{ErrClusterTimeout, "VSS_E_CLUSTER_TIMEOUT", "a cluster operation timed out"},
	{ErrNotSupported, "VSS_E_NOT_SUPPORTED", "the operation is not supported here"},
	{ErrWriterErrorPartialFailure, "VSS_E_WRITERERROR_PARTIAL_FAILURE", "the writer reports that some of its components failed"},
	{ErrWriterErrorInconsistentSnapshot, "VSS_E_WRITERERROR_INCONSISTENTSNAPSHOT", "the shadow copy set lacks a volume the writer needs"},
	{ErrWriterErrorOutOfResources, "VSS_E_WRITERERROR_OUTOFRESOURCES", "the writer ran out of resources; try again later"},
	{ErrWriterErrorTimeout, "VSS_E_WRITERERROR_TIMEOUT", "the time from Freeze to Thaw was exceeded; try again later"},
	{ErrWriterErrorRetryable, "VSS_E_WRITERERROR_RETRYABLE", "the writer failed, and would likely succeed if all were done again"},
	{ErrWriterErrorNonRetryable, "VSS_E_WRITERERROR_NONRETRYABLE", "the writer failed, and would likely fail again"},
	{ErrWriterErrorRecoveryFailed, "VSS_E_WRITERERROR_RECOVERY_FAILED", "the writer could not recover its data in the shadow copy"},
	{ErrBreakRevertIDFailed, "VSS_E_BREAK_REVERT_ID_FAILED", "the disk identity is already present, so the set was not broken off"},
	{ErrLegacyProvider, "VSS_E_LEGACY_PROVIDER", "the provider is of a version without this operation"},
	{ErrMissingDisk, "VSS_E_MISSING_DISK", "a disk is missing"},
	{ErrMissingHiddenVolume, "VSS_E_MISSING_HIDDEN_VOLUME", "a hidden volume is missing"},
	{ErrMissingVolume, "VSS_E_MISSING_VOLUME", "a volume is missing"},
	{ErrAutoRecoveryFailed, "VSS_E_AUTORECOVERY_FAILED", "automatic recovery of the shadow copy failed"},
	{ErrDynamicDiskError, "VSS_E_DYNAMIC_DISK_ERROR", "a dynamic disk is in trouble"},
	{ErrNonTransportableBCD, "VSS_E_NONTRANSPORTABLE_BCD", "the document does not describe a transportable shadow copy set"},
	{ErrCannotRevertDiskID, "VSS_E_CANNOT_REVERT_DISKID", "the disk identity could not be set back"},
	{ErrResyncInProgress, "VSS_E_RESYNC_IN_PROGRESS", "another resynchronisation is running"},
	{ErrClusterError, "VSS_E_CLUSTER_ERROR", "a cluster operation failed"},
	{ErrASRErrorDiskAssignmentFailed, "VSS_E_ASRERROR_DISK_ASSIGNMENT_FAILED", "there are too few disks, or too small ones"},
	{ErrASRErrorDiskRecreationFailed, "VSS_E_ASRERROR_DISK_RECREATION_FAILED", "a disk that is needed cannot be created"},
	{ErrASRErrorNoARCPath, "VSS_E_ASRERROR_NO_ARCPATH", "a restart is needed to finish preparing the disks"},
	{ErrASRErrorMissingDynDisk, "VSS_E_ASRERROR_MISSING_DYNDISK", "a disk of a dynamic volume is missing"},
	{ErrASRErrorSharedCriDisk, "VSS_E_ASRERROR_SHARED_CRIDISK", "a critical volume lies on a disk shared in a cluster"},
	{ErrASRErrorDataDiskRDisk0, "VSS_E_ASRERROR_DATADISK_RDISK0", "a data disk is the first disk of the firmware"},
	{ErrASRErrorRDisk0TooSmall, "VSS_E_ASRERROR_RDISK0_TOOSMALL", "the first disk of the firmware is too small"},
	{ErrASRErrorCriticalDisksTooSmall, "VSS_E_ASRERROR_CRITICAL_DISKS_TOO_SMALL", "the critical disks are too small"},
	{ErrWriterStatusNotAvailable, "VSS_E_WRITER_STATUS_NOT_AVAILABLE", "the writer has no status for this session, being out of session slots"},
	{ErrASRErrorDynamicVHDNotSupported, "VSS_E_ASRERROR_DYNAMIC_VHD_NOT_SUPPORTED", "dynamic virtual disks are not supported here"},
	{ErrCriticalVolumeOnInvalidDisk, "VSS_E_CRITICAL_VOLUME_ON_INVALID_DISK", "a critical volume lies on a disk of the wrong kind"},
	{ErrASRErrorRDiskForSystemDiskNotFound, "VSS_E_ASRERROR_RDISK_FOR_SYSTEM_DISK_NOT_FOUND", "no disk was found for the system disk"},
	{ErrASRErrorNoPhysicalDiskAvailable, "VSS_E_ASRERROR_NO_PHYSICAL_DISK_AVAILABLE", "no physical disk is available"},
	{ErrASRErrorFixedPhysicalDiskAvailableAfterDiskExclusion, "VSS_E_ASRERROR_FIXED_PHYSICAL_DISK_AVAILABLE_AFTER_DISK_EXCLUSION", "a fixed disk remains only among the excluded ones"},
	{ErrASRErrorCriticalDiskCannotBeExcluded, "VSS_E_ASRERROR_CRITICAL_DISK_CANNOT_BE_EXCLUDED", "a critical disk cannot be excluded"},
	{ErrASRErrorSystemPartitionHidden, "VSS_E_ASRERROR_SYSTEM_PARTITION_HIDDEN", "the system partition is hidden"},
	{ErrFSSTimeout, "VSS_E_FSS_TIMEOUT", "the shadow copy of a file share timed out"},
}

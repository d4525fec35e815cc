package vss

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

// TestCodesHaveTheHeadersValues holds every code of the public headers, written
// down apart from the constants.
func TestCodesHaveTheHeadersValues(t *testing.T) {
	want := []struct {
		code  Code
		value uint32
		name  string
	}{
		{OK, 0, "S_OK"},
		{ErrNotImplemented, 0x80004001, "E_NOTIMPL"},
		{ErrFail, 0x80004005, "E_FAIL"},
		{ErrGeneralUnexpected, 0x8000FFFF, "E_UNEXPECTED"},
		{ErrAccessDenied, 0x80070005, "E_ACCESSDENIED"},
		{ErrOutOfMemory, 0x8007000E, "E_OUTOFMEMORY"},
		{ErrInvalidArgument, 0x80070057, "E_INVALIDARG"},
		{InfoAsyncPending, 0x00042309, "VSS_S_ASYNC_PENDING"},
		{InfoAsyncFinished, 0x0004230A, "VSS_S_ASYNC_FINISHED"},
		{InfoAsyncCancelled, 0x0004230B, "VSS_S_ASYNC_CANCELLED"},
		{InfoSomeSnapshotsNotImported, 0x00042321, "VSS_S_SOME_SNAPSHOTS_NOT_IMPORTED"},
		{ErrBadState, 0x80042301, "VSS_E_BAD_STATE"},
		{ErrUnexpected, 0x80042302, "VSS_E_UNEXPECTED"},
		{ErrProviderAlreadyRegistered, 0x80042303, "VSS_E_PROVIDER_ALREADY_REGISTERED"},
		{ErrProviderNotRegistered, 0x80042304, "VSS_E_PROVIDER_NOT_REGISTERED"},
		{ErrProviderVeto, 0x80042306, "VSS_E_PROVIDER_VETO"},
		{ErrProviderInUse, 0x80042307, "VSS_E_PROVIDER_IN_USE"},
		{ErrObjectNotFound, 0x80042308, "VSS_E_OBJECT_NOT_FOUND"},
		{ErrVolumeNotSupported, 0x8004230C, "VSS_E_VOLUME_NOT_SUPPORTED"},
		{ErrObjectAlreadyExists, 0x8004230D, "VSS_E_OBJECT_ALREADY_EXISTS"},
		{ErrVolumeNotSupportedByProvider, 0x8004230E, "VSS_E_VOLUME_NOT_SUPPORTED_BY_PROVIDER"},
		{ErrUnexpectedProviderError, 0x8004230F, "VSS_E_UNEXPECTED_PROVIDER_ERROR"},
		{ErrCorruptXMLDocument, 0x80042310, "VSS_E_CORRUPT_XML_DOCUMENT"},
		{ErrInvalidXMLDocument, 0x80042311, "VSS_E_INVALID_XML_DOCUMENT"},
		{ErrMaximumNumberOfVolumesReached, 0x80042312, "VSS_E_MAXIMUM_NUMBER_OF_VOLUMES_REACHED"},
		{ErrFlushWritesTimeout, 0x80042313, "VSS_E_FLUSH_WRITES_TIMEOUT"},
		{ErrHoldWritesTimeout, 0x80042314, "VSS_E_HOLD_WRITES_TIMEOUT"},
		{ErrUnexpectedWriterError, 0x80042315, "VSS_E_UNEXPECTED_WRITER_ERROR"},
		{ErrSnapshotSetInProgress, 0x80042316, "VSS_E_SNAPSHOT_SET_IN_PROGRESS"},
		{ErrMaximumNumberOfSnapshotsReached, 0x80042317, "VSS_E_MAXIMUM_NUMBER_OF_SNAPSHOTS_REACHED"},
		{ErrWriterInfrastructure, 0x80042318, "VSS_E_WRITER_INFRASTRUCTURE"},
		{ErrWriterNotResponding, 0x80042319, "VSS_E_WRITER_NOT_RESPONDING"},
		{ErrWriterAlreadySubscribed, 0x8004231A, "VSS_E_WRITER_ALREADY_SUBSCRIBED"},
		{ErrUnsupportedContext, 0x8004231B, "VSS_E_UNSUPPORTED_CONTEXT"},
		{ErrVolumeInUse, 0x8004231D, "VSS_E_VOLUME_IN_USE"},
		{ErrMaximumDiffAreaAssociationsReached, 0x8004231E, "VSS_E_MAXIMUM_DIFFAREA_ASSOCIATIONS_REACHED"},
		{ErrInsufficientStorage, 0x8004231F, "VSS_E_INSUFFICIENT_STORAGE"},
		{ErrNoSnapshotsImported, 0x80042320, "VSS_E_NO_SNAPSHOTS_IMPORTED"},
		{ErrSomeSnapshotsNotImported, 0x80042321, "VSS_E_SOME_SNAPSHOTS_NOT_IMPORTED"},
		{ErrMaximumNumberOfRemoteMachinesReached, 0x80042322, "VSS_E_MAXIMUM_NUMBER_OF_REMOTE_MACHINES_REACHED"},
		{ErrRemoteServerUnavailable, 0x80042323, "VSS_E_REMOTE_SERVER_UNAVAILABLE"},
		{ErrRemoteServerUnsupported, 0x80042324, "VSS_E_REMOTE_SERVER_UNSUPPORTED"},
		{ErrRevertInProgress, 0x80042325, "VSS_E_REVERT_IN_PROGRESS"},
		{ErrRevertVolumeLost, 0x80042326, "VSS_E_REVERT_VOLUME_LOST"},
		{ErrRebootRequired, 0x80042327, "VSS_E_REBOOT_REQUIRED"},
		{ErrTransactionFreezeTimeout, 0x80042328, "VSS_E_TRANSACTION_FREEZE_TIMEOUT"},
		{ErrTransactionThawTimeout, 0x80042329, "VSS_E_TRANSACTION_THAW_TIMEOUT"},
		{ErrUnselectedVolume, 0x8004232A, "VSS_E_UNSELECTED_VOLUME"},
		{ErrSnapshotNotInSet, 0x8004232B, "VSS_E_SNAPSHOT_NOT_IN_SET"},
		{ErrNestedVolumeLimit, 0x8004232C, "VSS_E_NESTED_VOLUME_LIMIT"},
		{ErrVolumeNotLocal, 0x8004232D, "VSS_E_VOLUME_NOT_LOCAL"},
		{ErrClusterTimeout, 0x8004232E, "VSS_E_CLUSTER_TIMEOUT"},
		{ErrNotSupported, 0x8004232F, "VSS_E_NOT_SUPPORTED"},
		{ErrWriterErrorPartialFailure, 0x80042336, "VSS_E_WRITERERROR_PARTIAL_FAILURE"},
		{ErrWriterErrorInconsistentSnapshot, 0x800423F0, "VSS_E_WRITERERROR_INCONSISTENTSNAPSHOT"},
		{ErrWriterErrorOutOfResources, 0x800423F1, "VSS_E_WRITERERROR_OUTOFRESOURCES"},
		{ErrWriterErrorTimeout, 0x800423F2, "VSS_E_WRITERERROR_TIMEOUT"},
		{ErrWriterErrorRetryable, 0x800423F3, "VSS_E_WRITERERROR_RETRYABLE"},
		{ErrWriterErrorNonRetryable, 0x800423F4, "VSS_E_WRITERERROR_NONRETRYABLE"},
		{ErrWriterErrorRecoveryFailed, 0x800423F5, "VSS_E_WRITERERROR_RECOVERY_FAILED"},
		{ErrBreakRevertIDFailed, 0x800423F6, "VSS_E_BREAK_REVERT_ID_FAILED"},
		{ErrLegacyProvider, 0x800423F7, "VSS_E_LEGACY_PROVIDER"},
		{ErrMissingDisk, 0x800423F8, "VSS_E_MISSING_DISK"},
		{ErrMissingHiddenVolume, 0x800423F9, "VSS_E_MISSING_HIDDEN_VOLUME"},
		{ErrMissingVolume, 0x800423FA, "VSS_E_MISSING_VOLUME"},
		{ErrAutoRecoveryFailed, 0x800423FB, "VSS_E_AUTORECOVERY_FAILED"},
		{ErrDynamicDiskError, 0x800423FC, "VSS_E_DYNAMIC_DISK_ERROR"},
		{ErrNonTransportableBCD, 0x800423FD, "VSS_E_NONTRANSPORTABLE_BCD"},
		{ErrCannotRevertDiskID, 0x800423FE, "VSS_E_CANNOT_REVERT_DISKID"},
		{ErrResyncInProgress, 0x800423FF, "VSS_E_RESYNC_IN_PROGRESS"},
		{ErrClusterError, 0x80042400, "VSS_E_CLUSTER_ERROR"},
		{ErrASRErrorDiskAssignmentFailed, 0x80042401, "VSS_E_ASRERROR_DISK_ASSIGNMENT_FAILED"},
		{ErrASRErrorDiskRecreationFailed, 0x80042402, "VSS_E_ASRERROR_DISK_RECREATION_FAILED"},
		{ErrASRErrorNoARCPath, 0x80042403, "VSS_E_ASRERROR_NO_ARCPATH"},
		{ErrASRErrorMissingDynDisk, 0x80042404, "VSS_E_ASRERROR_MISSING_DYNDISK"},
		{ErrASRErrorSharedCriDisk, 0x80042405, "VSS_E_ASRERROR_SHARED_CRIDISK"},
		{ErrASRErrorDataDiskRDisk0, 0x80042406, "VSS_E_ASRERROR_DATADISK_RDISK0"},
		{ErrASRErrorRDisk0TooSmall, 0x80042407, "VSS_E_ASRERROR_RDISK0_TOOSMALL"},
		{ErrASRErrorCriticalDisksTooSmall, 0x80042408, "VSS_E_ASRERROR_CRITICAL_DISKS_TOO_SMALL"},
		{ErrWriterStatusNotAvailable, 0x80042409, "VSS_E_WRITER_STATUS_NOT_AVAILABLE"},
		{ErrASRErrorDynamicVHDNotSupported, 0x8004240A, "VSS_E_ASRERROR_DYNAMIC_VHD_NOT_SUPPORTED"},
		{ErrCriticalVolumeOnInvalidDisk, 0x80042411, "VSS_E_CRITICAL_VOLUME_ON_INVALID_DISK"},
		{ErrASRErrorRDiskForSystemDiskNotFound, 0x80042412, "VSS_E_ASRERROR_RDISK_FOR_SYSTEM_DISK_NOT_FOUND"},
		{ErrASRErrorNoPhysicalDiskAvailable, 0x80042413, "VSS_E_ASRERROR_NO_PHYSICAL_DISK_AVAILABLE"},
		{ErrASRErrorFixedPhysicalDiskAvailableAfterDiskExclusion, 0x80042414, "VSS_E_ASRERROR_FIXED_PHYSICAL_DISK_AVAILABLE_AFTER_DISK_EXCLUSION"},
		{ErrASRErrorCriticalDiskCannotBeExcluded, 0x80042415, "VSS_E_ASRERROR_CRITICAL_DISK_CANNOT_BE_EXCLUDED"},
		{ErrASRErrorSystemPartitionHidden, 0x80042416, "VSS_E_ASRERROR_SYSTEM_PARTITION_HIDDEN"},
		{ErrFSSTimeout, 0x80042417, "VSS_E_FSS_TIMEOUT"},
	}
	for _, w := range want {
		if uint32(w.code) != w.value || w.code.Name() != w.name {
			t.Errorf("%s = %s, want 0x%08X", w.name, w.code, w.value)
		}
		if m := w.code.Meaning(); m == "" || strings.HasSuffix(m, ".") || strings.Contains(m, "unknown code") {
			t.Errorf("%s means %q; want one clause without a full stop", w.name, m)
		}
		if parsed, err := ParseCode(w.name); err != nil || parsed != w.code {
			t.Errorf("ParseCode(%q) = %v, %v", w.name, parsed, err)
		}
		if got, want := w.code.Succeeded(), w.value < 0x80000000; got != want {
			t.Errorf("%s.Succeeded() = %v", w.name, got)
		}
	}
	if len(want) != len(codeTable) {
		t.Errorf("%d codes are tested, and there are %d", len(want), len(codeTable))
	}
}

func TestErrorNamesOperationObjectCodeAndCause(t *testing.T) {
	err := &Error{Op: "AddComponent", Object: "db\\main", Code: ErrObjectAlreadyExists, Err: io.ErrUnexpectedEOF}
	want := "AddComponent db\\main: the object exists already (VSS_E_OBJECT_ALREADY_EXISTS 0x8004230D): unexpected EOF"
	if err.Error() != want {
		t.Errorf("got  %s\nwant %s", err, want)
	}
	if got := (&Error{Code: ErrBadState}).Error(); got != "the call is not allowed in the present state (VSS_E_BAD_STATE 0x80042301)" {
		t.Errorf("bare error: %s", got)
	}
	if got := (&Error{Op: "Freeze", Code: Code(0x80990000)}).Error(); got != "Freeze: failure with an unknown code (HRESULT 0x80990000)" {
		t.Errorf("unknown code: %s", got)
	}
}

func TestErrorsIsAndAsFindCodeAndCauseAtAnyDepth(t *testing.T) {
	inner := Errorf(ErrWriterErrorTimeout, "Freeze", "writer a", "after %d s: %w", 60, context.DeadlineExceeded)
	outer := fmt.Errorf("backup: %w", &Error{Op: "DoSnapshotSet", Code: ErrWriterErrorPartialFailure, Err: inner})
	for _, target := range []error{ErrWriterErrorTimeout, ErrWriterErrorPartialFailure, context.DeadlineExceeded} {
		if !errors.Is(outer, target) {
			t.Errorf("errors.Is does not find %v in %v", target, outer)
		}
	}
	if errors.Is(outer, ErrBadState) {
		t.Error("errors.Is finds a code that is not there")
	}
	var e *Error
	if !errors.As(outer, &e) || e.Op != "DoSnapshotSet" {
		t.Errorf("errors.As gives %v, want the outermost *Error", e)
	}
	for _, c := range []struct {
		err  error
		want Code
	}{{nil, OK}, {outer, ErrWriterErrorPartialFailure}, {inner, ErrWriterErrorTimeout}, {io.EOF, ErrUnexpected}, {ErrBadState, ErrBadState}} {
		if got := CodeOf(c.err); got != c.want {
			t.Errorf("CodeOf(%v) = %v, want %v", c.err, got, c.want)
		}
	}
}

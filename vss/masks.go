package vss

// DefaultFileSpecBackupType is the mask of a file set that says nothing: every
// type saves it, every type reads it from the shadow copy.
const DefaultFileSpecBackupType = AllBackupRequired | AllSnapshotRequired

// Supports reports whether a writer with this schema takes part in a backup of
// the type by its own rules (R-TYPE-7): full always, undefined and other never.
func (s BackupSchema) Supports(t BackupType) bool {
	switch t {
	case BackupTypeFull:
		return true
	case BackupTypeDifferential:
		return s&SchemaDifferential != 0
	case BackupTypeIncremental:
		return s&SchemaIncremental != 0
	case BackupTypeLog:
		return s&SchemaLog != 0
	case BackupTypeCopy:
		return s&SchemaCopy != 0
	}
	return false
}

// BackupRequired reports whether a backup of the type must save the file set
// (R-SET-25, R-SET-26). A copy goes by the bit of a full, having none itself.
func (m FileSpecBackupType) BackupRequired(t BackupType) bool {
	return m&backupBit(t) != 0
}

// SnapshotRequired reports whether a backup of the type must read the file set
// from the shadow copy and never from the live volume (R-SET-27).
func (m FileSpecBackupType) SnapshotRequired(t BackupType) bool {
	return m&(backupBit(t)<<8) != 0
}

// backupBit gives the backup bit of a type; the shadow copy bit is eight
// places to the left of it.
func backupBit(t BackupType) FileSpecBackupType {
	switch t {
	case BackupTypeFull, BackupTypeCopy:
		return FullBackupRequired
	case BackupTypeDifferential:
		return DifferentialBackupRequired
	case BackupTypeIncremental:
		return IncrementalBackupRequired
	case BackupTypeLog:
		return LogBackupRequired
	}
	return 0
}

// Failed reports whether the state is one of the VSS_WS_FAILED_AT_ ones.
func (v WriterState) Failed() bool {
	return v >= WriterFailedAtIdentify && v <= WriterFailedAtBackupShutdown
}

// Attributes gives the mask a context stands for.
func (v SnapshotContext) Attributes() SnapshotAttributes { return SnapshotAttributes(v) }

// HasWriters reports whether writers take part in shadow copies of this
// context.
func (v SnapshotContext) HasWriters() bool { return v.Attributes()&AttrNoWriters == 0 }

// Persistent reports whether shadow copies of this context outlive the session
// that made them.
func (v SnapshotContext) Persistent() bool { return v.Attributes()&AttrNoAutoRelease != 0 }

// RequesterAttributes are the bits a requester may add to a context.
const RequesterAttributes = AttrNoAutoRecovery | AttrTransportable | AttrNotTransacted |
	AttrDifferential | AttrPlex | AttrRollbackRecovery | AttrTxFRecovery

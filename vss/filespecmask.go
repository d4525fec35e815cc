package vss

// FileSpecBackupType is VSS_FILE_SPEC_BACKUP_TYPE: for each file set, which
// types of backup must save it and which must read it from a shadow copy
// (R-SET-25..29).
type FileSpecBackupType uint32

// Values of VSS_FILE_SPEC_BACKUP_TYPE.
const (
	FullBackupRequired           FileSpecBackupType = 0x1
	DifferentialBackupRequired   FileSpecBackupType = 0x2
	IncrementalBackupRequired    FileSpecBackupType = 0x4
	LogBackupRequired            FileSpecBackupType = 0x8
	FullSnapshotRequired         FileSpecBackupType = 0x100
	DifferentialSnapshotRequired FileSpecBackupType = 0x200
	IncrementalSnapshotRequired  FileSpecBackupType = 0x400
	LogSnapshotRequired          FileSpecBackupType = 0x800
	// CreatedDuringBackup says the files appear during the snapshot sequence (R-SET-29).
	CreatedDuringBackup FileSpecBackupType = 0x10000
	// AllBackupRequired is the four backup bits.
	AllBackupRequired FileSpecBackupType = 0xF
	// AllSnapshotRequired is the four shadow copy bits.
	AllSnapshotRequired FileSpecBackupType = 0xF00
)

var fileSpecBackupTypeNames = enumeration[FileSpecBackupType]{"VSS_FILE_SPEC_BACKUP_TYPE", []entry[FileSpecBackupType]{
	{FullBackupRequired, "VSS_FSBT_FULL_BACKUP_REQUIRED", ""},
	{DifferentialBackupRequired, "VSS_FSBT_DIFFERENTIAL_BACKUP_REQUIRED", ""},
	{IncrementalBackupRequired, "VSS_FSBT_INCREMENTAL_BACKUP_REQUIRED", ""},
	{LogBackupRequired, "VSS_FSBT_LOG_BACKUP_REQUIRED", ""},
	{FullSnapshotRequired, "VSS_FSBT_FULL_SNAPSHOT_REQUIRED", ""},
	{DifferentialSnapshotRequired, "VSS_FSBT_DIFFERENTIAL_SNAPSHOT_REQUIRED", ""},
	{IncrementalSnapshotRequired, "VSS_FSBT_INCREMENTAL_SNAPSHOT_REQUIRED", ""},
	{LogSnapshotRequired, "VSS_FSBT_LOG_SNAPSHOT_REQUIRED", ""},
	{CreatedDuringBackup, "VSS_FSBT_CREATED_DURING_BACKUP", ""},
	{AllBackupRequired, "VSS_FSBT_ALL_BACKUP_REQUIRED", ""},
	{AllSnapshotRequired, "VSS_FSBT_ALL_SNAPSHOT_REQUIRED", ""},
}}

// String gives the names of the bits that are set, joined by "|".
func (v FileSpecBackupType) String() string { return fileSpecBackupTypeNames.maskName(v) }

package postgres

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer/kept"
)

// asideName is the directory in which a restore keeps what was there before.
const asideName = kept.Directory

// stagingName is the directory, beside the log's segments, in which complete ones
// are linked for a log backup, and in which restored ones are found by recovery.
const stagingName = "sombra-log"

// dataMask saves a file set in every backup but a log's, from the shadow copy:
// each of them is a whole instant. What did not change is not read again.
const dataMask = vss.FullBackupRequired | vss.DifferentialBackupRequired | vss.IncrementalBackupRequired |
	vss.FullSnapshotRequired | vss.DifferentialSnapshotRequired | vss.IncrementalSnapshotRequired

// walMask is of the log's own files, which come and go.
const walMask = dataMask | vss.CreatedDuringBackup

// logMask saves what was staged, in log backups alone and without a copy.
const logMask = vss.LogBackupRequired | vss.CreatedDuringBackup

// Identify implements [writer.Writer].
func (w *pgWriter) Identify(context.Context) (*metadata.WriterMetadata, error) {
	m, err := metadata.NewWriterMetadata(metadata.Identity{
		InstanceID: w.instance, ClassID: classID, Name: writerName, InstanceName: strconv.FormatUint(w.system, 10),
		Usage: vss.UsageUserData, Source: vss.SourceTransactedDB, MajorVersion: 1,
	})
	if err != nil {
		return nil, err
	}
	if err := w.describe(m); err != nil {
		return nil, fmt.Errorf("describe the cluster in %s: %w", w.conf.Data, err)
	}
	return m, nil
}

func (w *pgWriter) describe(m *metadata.WriterMetadata) error {
	data := w.conf.Data
	schema := vss.SchemaCopy | vss.SchemaDifferential | vss.SchemaIncremental | vss.SchemaTimestamped | vss.SchemaNewTarget | vss.SchemaRollForwardRestore
	if w.conf.Logs || w.conf.Restore {
		schema |= vss.SchemaLog
	}
	errs := []error{
		m.AddComponent(metadata.ComponentInfo{Type: vss.ComponentTypeDatabase, Name: data,
			Caption: "PostgreSQL " + tested + " cluster " + filepath.Base(data), Selectable: true, NotifyOnBackupComplete: true}),
		m.SetBackupSchema(schema),
		m.SetRestoreMethod(metadata.RestoreMethod{Method: vss.RestoreMethodIfCanReplace, WriterRestore: vss.WriterRestoreAlways}),
	}
	if w.layout == nil { // of a restore: the backup's own document says what there is
		return errors.Join(errs...)
	}
	return errors.Join(append(errs, w.describeData(m), w.describeLog(m), w.describeSpaces(m))...)
}

// describeData declares the data directory.
func (w *pgWriter) describeData(m *metadata.WriterMetadata) error {
	data := w.conf.Data
	const member = "data"
	errs := []error{
		m.AddDatabaseFiles("", data, data, "*", dataMask|vss.CreatedDuringBackup),
		m.AddComponent(metadata.ComponentInfo{Type: vss.ComponentTypeFileGroup, LogicalPath: data, Name: member, Caption: "the cluster's directories"}),
		m.AddFilesToFileGroup(data, member, vss.FileSpec{Path: filepath.Join(data, "pg_tblspc"), Pattern: "*"}, "", dataMask),
	}
	for _, dir := range w.layout.dirs {
		errs = append(errs, m.AddFilesToFileGroup(data, member, vss.FileSpec{Path: filepath.Join(data, dir), Pattern: "*", Recursive: true}, "", dataMask))
	}
	// Nothing in these is saved. They are the cluster's with all directories in them: as
	// data of nobody those would be put into a running cluster by a restore that this
	// writer refuses, and no server starts with the empty directory of a replication slot.
	for _, dir := range emptied {
		path := filepath.Join(data, dir)
		errs = append(errs,
			m.AddFilesToFileGroup(data, member, vss.FileSpec{Path: path, Pattern: "*", Recursive: true}, "", dataMask),
			m.AddExcludeFiles(vss.FileSpec{Path: path, Pattern: "*", Recursive: true}))
	}
	// What belongs to one run of the server, to a backup by other means, or to
	// a restore that did not end.
	for _, name := range []string{"postmaster.pid", "postmaster.opts", "backup_label", "backup_label.old", "tablespace_map", "tablespace_map.old", "backup_manifest",
		"backup_manifest.tmp", "postgresql.auto.conf.tmp", "current_logfiles", "current_logfiles.tmp", "recovery.signal"} {
		errs = append(errs, m.AddExcludeFiles(vss.FileSpec{Path: data, Pattern: name}))
	}
	errs = append(errs, excludeTemporary(m, filepath.Join(data, "base")), excludeTemporary(m, filepath.Join(data, "global")),
		m.AddExcludeFiles(vss.FileSpec{Path: filepath.Join(data, asideName), Pattern: "*", Recursive: true}))
	return errors.Join(errs...)
}

// excludeTemporary excludes what the server makes anew, and temporary files.
func excludeTemporary(m *metadata.WriterMetadata, dir string) error {
	return errors.Join(
		m.AddExcludeFiles(vss.FileSpec{Path: dir, Pattern: "pg_internal.init*", Recursive: true}),
		m.AddExcludeFiles(vss.FileSpec{Path: filepath.Join(dir, "pgsql_tmp"), Pattern: "*", Recursive: true}))
}

// describeLog declares the write-ahead log.
func (w *pgWriter) describeLog(m *metadata.WriterMetadata) error {
	data, wal := w.conf.Data, w.layout.wal
	errs := []error{
		m.AddDatabaseLogFiles("", data, wal, "*", walMask),
		m.AddDatabaseLogFiles("", data, filepath.Join(wal, "archive_status"), "*", walMask),
		m.AddExcludeFiles(vss.FileSpec{Path: wal, Pattern: "xlogtemp.*"}),
		m.AddExcludeFiles(vss.FileSpec{Path: filepath.Join(wal, asideName), Pattern: "*", Recursive: true}),
	}
	if w.conf.Logs {
		errs = append(errs, m.AddDatabaseLogFiles("", data, w.staging(), "*", logMask))
	}
	return errors.Join(errs...)
}

// describeSpaces declares the tablespaces.
func (w *pgWriter) describeSpaces(m *metadata.WriterMetadata) error {
	var errs []error
	for _, s := range w.layout.spaces {
		name, dir := "tablespace "+s.OID, filepath.Join(s.Dir, tablespaceVersion)
		errs = append(errs,
			m.AddComponent(metadata.ComponentInfo{Type: vss.ComponentTypeFileGroup, LogicalPath: w.conf.Data, Name: name, Caption: "tablespace in " + s.Dir}),
			m.AddFilesToFileGroup(w.conf.Data, name, vss.FileSpec{Path: dir, Pattern: "*", Recursive: true}, "", dataMask),
			excludeTemporary(m, dir),
			m.AddExcludeFiles(vss.FileSpec{Path: filepath.Join(s.Dir, asideName), Pattern: "*", Recursive: true}))
	}
	return errors.Join(errs...)
}

// staging is where complete segments are linked for a log backup.
func (w *pgWriter) staging() string { return filepath.Join(w.layout.wal, stagingName) }

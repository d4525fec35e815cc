package redis

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
	"github.com/sombra-backup/sombra/writer/kept"
)

// redisWriter is the writer of one server.
type redisWriter struct {
	conf     config
	spec     writer.Spec
	facts    facts
	instance vss.GUID

	// turn holds a token while a handler uses what follows. Abort may come
	// beside another handler, and waits here until that one has seen that its
	// time is up.
	turn   chan struct{}
	held   *hold     // while frozen
	frozen *snapshot // what was true at the last Freeze; nil before
	moved  string    // where asAOF moved the append-only file's directory; empty before
}

var (
	_ writer.Writer           = (*redisWriter)(nil)
	_ writer.SnapshotPreparer = (*redisWriter)(nil)
	_ writer.BackupShutdowner = (*redisWriter)(nil)
)

// Describe implements [writer.Writer].
func (w *redisWriter) Describe() writer.Description {
	return writer.Description{Level: vss.LevelBackEnd, Stillness: writer.FilesStill, Weak: w.facts.weak, CrashConsistent: w.facts.crash}
}

// paths of the server's files.
func (n names) rdbPath(dir string) string { return filepath.Join(dir, n.rdb) }
func (n names) aofPath(dir string) string { return filepath.Join(dir, n.aofDir) }
func (n names) manifest(dir string) string {
	return filepath.Join(dir, n.aofDir, n.aofBase+".manifest")
}

// Identify implements [writer.Writer].
func (w *redisWriter) Identify(context.Context) (*metadata.WriterMetadata, error) {
	m, err := metadata.NewWriterMetadata(metadata.Identity{
		InstanceID: w.instance, ClassID: classID, Name: writerName, InstanceName: w.spec.Name,
		Usage: vss.UsageUserData, Source: vss.SourceTransactedDB, MajorVersion: 1,
	})
	if err != nil {
		return nil, err
	}
	if err := w.describe(m); err != nil {
		return nil, fmt.Errorf("describe the Redis server of %s: %w", w.conf.Directory, err)
	}
	return m, nil
}

const schema = vss.SchemaCopy | vss.SchemaDifferential | vss.SchemaIncremental | vss.SchemaTimestamped | vss.SchemaLastModify | vss.SchemaNewTarget

func (w *redisWriter) describe(m *metadata.WriterMetadata) error {
	dir, n := w.conf.Directory, w.facts.names
	err := m.AddComponent(metadata.ComponentInfo{
		Type: vss.ComponentTypeDatabase, Name: dir, Caption: "Redis data in " + dir, Selectable: true,
	})
	if err != nil {
		return err
	}
	errs := []error{
		m.SetBackupSchema(schema),
		m.SetRestoreMethod(metadata.RestoreMethod{Method: vss.RestoreMethodIfCanReplace, WriterRestore: vss.WriterRestoreAlways}),
		m.AddExcludeFiles(vss.FileSpec{Path: dir, Pattern: "temp-*"}),
		m.AddExcludeFiles(vss.FileSpec{Path: dir, Pattern: markName}),
		m.AddExcludeFiles(vss.FileSpec{Path: filepath.Join(dir, kept.Directory), Pattern: "*", Recursive: true}),
	}
	if w.facts.aof {
		for _, set := range w.facts.aofSets(dir) {
			if set.log {
				err = m.AddDatabaseLogFiles("", dir, set.spec.Path, set.spec.Pattern, 0)
			} else {
				err = m.AddDatabaseFiles("", dir, set.spec.Path, set.spec.Pattern, 0)
			}
			errs = append(errs, err)
		}
		errs = append(errs,
			m.AddExcludeFiles(vss.FileSpec{Path: n.aofPath(dir), Pattern: "temp-*"}),
			m.AddExcludeFiles(vss.FileSpec{Path: dir, Pattern: n.rdb}))
		return errors.Join(errs...)
	}
	// A server that has not saved yet makes the file in Freeze.
	const mask = vss.DefaultFileSpecBackupType | vss.CreatedDuringBackup
	return errors.Join(append(errs, m.AddDatabaseFiles("", dir, dir, n.rdb, mask))...)
}

// fileSet is one file specification of an append-only file.
type fileSet struct {
	spec vss.FileSpec
	log  bool
}

// aofSets are the parts of an append-only file: what it begins with, which is made
// anew by each rewrite; what was appended since; and the list of both.
func (f *facts) aofSets(dir string) []fileSet {
	at := f.names.aofPath(dir)
	return []fileSet{
		{spec: vss.FileSpec{Path: at, Pattern: f.names.aofBase + ".manifest"}},
		{spec: vss.FileSpec{Path: at, Pattern: f.names.aofBase + ".*.base.*"}},
		{spec: vss.FileSpec{Path: at, Pattern: f.names.aofBase + ".*.incr.aof"}, log: true},
	}
}

// take waits for the handler that is at work to end.
func (w *redisWriter) take(ctx context.Context, event string) error {
	select {
	case w.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return vss.Errorf(vss.ErrWriterErrorTimeout, event, w.conf.Directory, "another event is still at work: %w", context.Cause(ctx))
	}
}

func (w *redisWriter) give() { <-w.turn }

// failure gives an error the code of a writer.
func (w *redisWriter) failure(ctx context.Context, code vss.Code, event string, err error) error {
	if ctx.Err() != nil {
		code = vss.ErrWriterErrorTimeout
	}
	return vss.Errorf(code, event, w.conf.Directory, "%w", err)
}

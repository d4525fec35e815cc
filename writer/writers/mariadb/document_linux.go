package mariadb

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/vss"
)

const (
	// everyImage: the files belong to each backup but a log backup, from the
	// shadow copy.
	everyImage = vss.FullBackupRequired | vss.DifferentialBackupRequired | vss.IncrementalBackupRequired |
		vss.FullSnapshotRequired | vss.DifferentialSnapshotRequired | vss.IncrementalSnapshotRequired
	// comesAndGoes: it need not be there.
	comesAndGoes = everyImage | vss.CreatedDuringBackup
	// logsOnly: the files belong to log backups alone, and are read live.
	logsOnly = vss.LogBackupRequired
)

// layout says where a server has its files.
type layout struct {
	sets     []metadata.FileSet // without overlaps
	excludes []vss.FileSpec
	spool    string   // where logs are linked
	shared   spool    // where earlier writers linked them
	subdirs  []string // those of the data directory, by name
}

// lay finds out where a server has its files. f is nil if it does not run: then
// all is taken to be in the data directory.
func lay(dir string, f *facts) (*layout, error) {
	l := &layout{spool: spoolBelow(dir)}
	l.data(dir, "*", everyImage)
	var err error
	if l.subdirs, err = subdirectories(dir); err != nil {
		return nil, err
	}
	for _, name := range l.subdirs {
		l.data(filepath.Join(dir, name), "*", everyImage)
	}
	for _, pattern := range []string{"*.pid", "*.sock", "*.err", "ibtmp*"} {
		l.exclude(dir, pattern)
	}
	if f != nil {
		l.elsewhere(dir, f)
	}
	if err := l.linked(dir); err != nil {
		return nil, err
	}
	return l, nil
}

// subdirectories lists the directories of a data directory: those of its databases
// and of engines that have one of their own.
func subdirectories(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && e.Name()[0] != '.' && e.Name() != "lost+found" {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

func (l *layout) data(dir, pattern string, mask vss.FileSpecBackupType) {
	l.sets = append(l.sets, metadata.FileSet{FileSpec: vss.FileSpec{Path: dir, Pattern: pattern}, Kind: metadata.DatabaseFiles, BackupType: mask})
}

func (l *layout) exclude(dir, pattern string) {
	l.excludes = append(l.excludes, vss.FileSpec{Path: dir, Pattern: pattern})
}

// has reports whether a set has all files of a directory already.
func (l *layout) has(dir string) bool {
	return slices.ContainsFunc(l.sets, func(s metadata.FileSet) bool { return s.Path == dir && s.Pattern == "*" })
}

// elsewhere adds what the server was told to have outside the data directory, and
// leaves out what is no data.
func (l *layout) elsewhere(dir string, f *facts) {
	at := func(path string) string {
		if path == "" {
			return dir
		}
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, path)
		}
		if real, err := filepath.EvalSymlinks(path); err == nil {
			return real
		}
		return filepath.Clean(path)
	}
	add := func(dir, pattern string, kind metadata.FileSetKind) {
		if !l.has(dir) {
			l.sets = append(l.sets, metadata.FileSet{FileSpec: vss.FileSpec{Path: dir, Pattern: pattern}, Kind: kind, BackupType: comesAndGoes})
		}
	}
	add(at(f.redoDir), "ib_logfile*", metadata.DatabaseFiles)
	add(at(f.undoDir), "undo*", metadata.DatabaseFiles)
	add(at(f.ariaDir), "aria_log*", metadata.DatabaseFiles)
	for _, path := range tablespaces(f.DataFiles) {
		home, name := filepath.Split(path)
		if !filepath.IsAbs(path) {
			home, name = filepath.Split(filepath.Join(f.dataHome, path))
		}
		add(at(filepath.Clean(home)), name, metadata.DatabaseFiles)
	}
	if f.LogBin {
		logs := at(filepath.Dir(f.LogBase))
		if base := filepath.Base(f.LogBase); !l.has(logs) {
			add(logs, base+".*", metadata.DatabaseLogFiles)
			if index := filepath.Base(f.logIndex); at(filepath.Dir(f.logIndex)) != logs || !strings.HasPrefix(index, base+".") {
				add(at(filepath.Dir(f.logIndex)), index, metadata.DatabaseLogFiles)
			}
			l.spool, l.shared = spoolAt(dir, logs), spool{sharedSpool(logs), base}
		}
	}
	if f.relayBase != "" {
		add(at(filepath.Dir(f.relayBase)), filepath.Base(f.relayBase)+".*", metadata.DatabaseLogFiles)
	}
	// What lies elsewhere no set has, and it may be saved as anybody's file.
	for _, path := range append(tablespaces(f.tempData), f.errorLog, f.slowLog, f.generalLog, f.pid, f.socket) {
		if dir := at(filepath.Dir(path)); path != "" && l.has(dir) {
			l.exclude(dir, filepath.Base(path))
		}
	}
}

// tablespaces gives the files of a setting such as "ibdata1:12M;ibdata2:10M:autoextend".
func tablespaces(setting string) []string {
	var files []string
	for part := range strings.SplitSeq(setting, ";") {
		if name, _, _ := strings.Cut(part, ":"); name != "" {
			files = append(files, name)
		}
	}
	return files
}

// maxLinkFile bounds a file that tells where a table is, in bytes.
const maxLinkFile = 4 << 10

// linked adds the tables that CREATE TABLE ... DATA DIRECTORY has put elsewhere:
// InnoDB's by files .isl that have the path, others by symbolic links.
func (l *layout) linked(dir string) error {
	for _, sub := range l.subdirs {
		entries, err := os.ReadDir(filepath.Join(dir, sub))
		if err != nil {
			return err
		}
		for _, e := range entries {
			path := filepath.Join(dir, sub, e.Name())
			switch {
			case e.Type()&os.ModeSymlink != 0:
				to, err := filepath.EvalSymlinks(path)
				if err != nil {
					return fmt.Errorf("table file %s leads elsewhere: %w", path, err)
				}
				l.data(filepath.Dir(to), filepath.Base(to), everyImage)
			case strings.HasSuffix(e.Name(), ".isl") && e.Type().IsRegular():
				to, err := readShort(path)
				if err != nil {
					return err
				}
				l.data(filepath.Dir(to), filepath.Base(to), everyImage)
			}
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if info, err := os.Stat(filepath.Join(dir, e.Name())); e.Type()&os.ModeSymlink != 0 && err == nil && info.IsDir() {
			return fmt.Errorf("%s is a symbolic link to a directory, which MariaDB itself advises against; bind-mount the directory there instead", filepath.Join(dir, e.Name()))
		}
	}
	return nil
}

func readShort(path string) (string, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return "", err
	}
	if info.Size() > maxLinkFile {
		return "", fmt.Errorf("%s: it has %d bytes, too many for a path", path, info.Size())
	}
	data, err := os.ReadFile(path)
	to := filepath.Clean(strings.TrimSpace(string(data)))
	if err == nil && !filepath.IsAbs(to) {
		err = fmt.Errorf("%s: it holds %.200q, which is no absolute path", path, to)
	}
	return to, err
}

// describe fills the document.
func (w *dbWriter) describe(m *metadata.WriterMetadata, l *layout, f *facts) error {
	caption := "MariaDB server of " + w.dir
	if f != nil {
		caption = "MariaDB " + f.Version
	}
	err := m.AddComponent(metadata.ComponentInfo{Type: vss.ComponentTypeDatabase, Name: w.dir, Caption: caption,
		NotifyOnBackupComplete: true, Selectable: true, SelectableForRestore: true})
	if err != nil {
		return err
	}
	schema := vss.SchemaDifferential | vss.SchemaIncremental | vss.SchemaLog | vss.SchemaCopy | vss.SchemaTimestamped |
		vss.SchemaNewTarget | vss.SchemaRollForwardRestore
	if f != nil && f.canLog() != nil && !w.restore {
		schema &^= vss.SchemaLog // the plan says what comes of that
	}
	errs := []error{
		m.SetBackupSchema(schema),
		m.SetRestoreMethod(metadata.RestoreMethod{Method: vss.RestoreMethodIfCanReplace, WriterRestore: vss.WriterRestoreAlways}),
	}
	l.sets = append(l.sets, metadata.FileSet{FileSpec: vss.FileSpec{Path: l.spool, Pattern: "*"}, Kind: metadata.DatabaseLogFiles, BackupType: logsOnly})
	for _, s := range l.sets {
		if err := checkPath(s.Path); err != nil {
			return err
		}
		if s.Kind == metadata.DatabaseLogFiles {
			errs = append(errs, m.AddDatabaseLogFiles("", w.dir, s.Path, s.Pattern, s.BackupType))
		} else {
			errs = append(errs, m.AddDatabaseFiles("", w.dir, s.Path, s.Pattern, s.BackupType))
		}
	}
	slices.SortFunc(l.excludes, compareSpecs)
	for _, x := range slices.CompactFunc(l.excludes, func(a, b vss.FileSpec) bool { return compareSpecs(a, b) == 0 }) {
		errs = append(errs, m.AddExcludeFiles(x))
	}
	return errors.Join(errs...)
}

func compareSpecs(a, b vss.FileSpec) int {
	if c := strings.Compare(a.Path, b.Path); c != 0 {
		return c
	}
	return strings.Compare(a.Pattern, b.Pattern)
}

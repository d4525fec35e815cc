package metadata

import (
	"encoding/base64"
	"slices"
	"strconv"

	"github.com/sombra-backup/sombra/metadata/xmldoc"
	"github.com/sombra-backup/sombra/vss"
)

// NewWriterMetadata begins a document, as VSS does before it calls OnIdentify.
// The writer then fills it through the methods of IVssCreateWriterMetadata.
func NewWriterMetadata(id Identity) (*WriterMetadata, error) {
	if id.ClassID.IsZero() || id.InstanceID.IsZero() {
		return nil, vss.Errorf(vss.ErrInvalidArgument, "create", writerMetadataName, "writer %q has no class id or no instance id", id.Name)
	}
	doc := xmldoc.New(elemWriterMetadata, writerMetadataSpace)
	root := doc.Root()
	if err := set(root, pair{attrVersion, documentVersion}); err != nil {
		return nil, err
	}
	_, err := add(root, elemIdentification,
		pair{attrWriterID, id.ClassID.String()},
		pair{attrInstanceID, id.InstanceID.String()},
		pair{"?" + attrInstanceName, id.InstanceName},
		pair{attrFriendlyName, id.Name},
		pair{attrUsage, id.Usage.Word()},
		pair{attrDataSource, id.Source.Word()},
		pair{attrMajorVersion, decimal(id.MajorVersion)},
		pair{attrMinorVersion, decimal(id.MinorVersion)},
	)
	if err != nil {
		return nil, err
	}
	m := &WriterMetadata{doc: doc, identity: id, byPath: make(map[componentKey]*ComponentInfo)}
	return m, nil
}

func decimal[T ~uint32](v T) string { return strconv.FormatUint(uint64(v), 10) }

// place gives the element that holds components and excludes.
func (m *WriterMetadata) place() *xmldoc.Node {
	if m.locations == nil {
		m.locations = m.doc.Root().Append(elemLocations)
	}
	return m.locations
}

// SetBackupSchema sets the kinds of backup the writer supports beyond full.
func (m *WriterMetadata) SetBackupSchema(schema vss.BackupSchema) error {
	if err := set(m.doc.Root(), pair{attrBackupSchema, decimal(schema)}); err != nil {
		return err
	}
	m.schema = schema
	return nil
}

// SetRestoreMethod sets the writer's one restore method; a second call is
// vss.ErrObjectAlreadyExists. A service goes with methods
// RestoreMethodStopRestoreStart and RestoreMethodRestoreStopStart, and with no
// other.
func (m *WriterMetadata) SetRestoreMethod(method RestoreMethod) error {
	const op = "SetRestoreMethod"
	if m.method != nil {
		return vss.Errorf(vss.ErrObjectAlreadyExists, op, m.identity.Name, "the method is %v", m.method.Method)
	}
	if method.Method <= vss.RestoreMethodUndefined || method.Method > vss.RestoreMethodRestoreStopStart {
		return vss.Errorf(vss.ErrInvalidArgument, op, m.identity.Name, "%v is no restore method", method.Method)
	}
	if method.WriterRestore <= vss.WriterRestoreUndefined || method.WriterRestore > vss.WriterRestoreAlways {
		return vss.Errorf(vss.ErrInvalidArgument, op, m.identity.Name, "%v does not say which restore events are needed", method.WriterRestore)
	}
	if usesService(method.Method) != (method.Service != "") {
		return vss.Errorf(vss.ErrInvalidArgument, op, m.identity.Name, "service %q with method %v", method.Service, method.Method)
	}
	n, err := add(m.doc.Root(), elemRestoreMethod,
		pair{attrMethod, method.Method.Word()},
		pair{"?" + attrService, method.Service},
		pair{"?" + attrUserProcedure, method.UserProcedure},
		pair{attrWriterRestore, method.WriterRestore.Word()},
		pair{attrRebootRequired, yesNo(method.RebootRequired)},
	)
	if err != nil {
		return err
	}
	m.method, m.methodNode = &method, n
	return nil
}

func usesService(m vss.RestoreMethod) bool {
	return m == vss.RestoreMethodStopRestoreStart || m == vss.RestoreMethodRestoreStopStart
}

// AddAlternateLocationMapping offers another place for a file set. Before
// SetRestoreMethod it is vss.ErrObjectNotFound.
func (m *WriterMetadata) AddAlternateLocationMapping(mapping AlternateLocationMapping) error {
	const op = "AddAlternateLocationMapping"
	if m.methodNode == nil {
		return vss.Errorf(vss.ErrObjectNotFound, op, m.identity.Name, "no restore method is set yet")
	}
	if err := validSpec(op, mapping.FileSpec); err != nil {
		return err
	}
	if mapping.AlternatePath == "" {
		return vss.Errorf(vss.ErrInvalidArgument, op, mapping.FileSpec.String(), "no destination")
	}
	pairs := append(specPairs(mapping.FileSpec), pair{attrAlternatePath, mapping.AlternatePath})
	if _, err := add(m.methodNode, elemMapping, pairs...); err != nil {
		return err
	}
	m.mappings = append(m.mappings, mapping)
	return nil
}

// validSpec checks what holds in every style: a path, and a pattern without a
// directory part.
func validSpec(op string, spec vss.FileSpec) error {
	if err := spec.Validate(vss.POSIX); err != nil {
		return &vss.Error{Op: op, Object: spec.String(), Code: vss.ErrInvalidArgument, Err: err}
	}
	return nil
}

func specPairs(spec vss.FileSpec) []pair {
	return []pair{{attrPath, spec.Path}, {attrFilespec, spec.Pattern}, {attrRecursive, yesNo(spec.Recursive)}}
}

// AddExcludeFiles excludes files from all of the writer's components (R-SET-10).
func (m *WriterMetadata) AddExcludeFiles(spec vss.FileSpec) error {
	if err := m.addSpec("AddExcludeFiles", elemExclude, spec); err != nil {
		return err
	}
	m.exclude = append(m.exclude, spec)
	return nil
}

// AddExcludeFilesFromSnapshot reports what the writer deletes from the shadow
// copy (R-SET-24).
func (m *WriterMetadata) AddExcludeFilesFromSnapshot(spec vss.FileSpec) error {
	if err := m.addSpec("AddExcludeFilesFromSnapshot", elemExcludeFrom, spec); err != nil {
		return err
	}
	m.excludeFrom = append(m.excludeFrom, spec)
	return nil
}

func (m *WriterMetadata) addSpec(op, element string, spec vss.FileSpec) error {
	if err := validSpec(op, spec); err != nil {
		return err
	}
	_, err := add(m.place(), element, specPairs(spec)...)
	return err
}

// AddComponent adds a component without file sets and dependencies, which have
// calls of their own; those in info are not looked at. A bad type, name or
// logical path is vss.ErrInvalidArgument (R-SEL-3), a second component of the
// same logical path and name vss.ErrObjectAlreadyExists (R-SEL-1).
func (m *WriterMetadata) AddComponent(info ComponentInfo) error {
	const op = "AddComponent"
	element := elemFileGroup
	switch info.Type {
	case vss.ComponentTypeDatabase:
		element = elemDatabase
	case vss.ComponentTypeFileGroup:
	default:
		return vss.Errorf(vss.ErrInvalidArgument, op, info.FullPath(), "%v is no type of a component", info.Type)
	}
	if err := validKey(op, info.LogicalPath, info.Name); err != nil {
		return err
	}
	key := componentKey{info.LogicalPath, info.Name}
	if m.byPath[key] != nil {
		return vss.Errorf(vss.ErrObjectAlreadyExists, op, info.FullPath(), "")
	}
	n, err := add(m.place(), element,
		pair{"?" + attrLogicalPath, info.LogicalPath},
		pair{attrComponentName, info.Name},
		pair{"?" + attrCaption, info.Caption},
		pair{"?" + attrIcon, base64.StdEncoding.EncodeToString(info.Icon)},
		pair{attrRestoreMetadata, yesNo(info.RestoreMetadata)},
		pair{attrNotify, yesNo(info.NotifyOnBackupComplete)},
		pair{attrSelectable, yesNo(info.Selectable)},
		pair{attrSelectableRestore, yesNo(info.SelectableForRestore)},
		pair{attrComponentFlags, decimal(info.Flags)},
	)
	if err != nil {
		return err
	}
	c := info
	c.Icon = slices.Clone(info.Icon)
	c.FileSets, c.Dependencies, c.node = nil, nil, n
	m.byPath[key] = &c
	m.components = append(m.components, &c)
	return nil
}

func validKey(op, logicalPath, name string) error {
	err := vss.ValidateComponentName(name)
	if err == nil {
		err = vss.ValidateLogicalPath(logicalPath)
	}
	if err != nil {
		return &vss.Error{Op: op, Object: vss.FullPath(logicalPath, name), Code: vss.ErrInvalidArgument, Err: err}
	}
	return nil
}

// AddFilesToFileGroup adds a file set to a file group. A mask of 0 is
// vss.DefaultFileSpecBackupType. An unknown component is vss.ErrObjectNotFound,
// a database vss.ErrInvalidArgument.
func (m *WriterMetadata) AddFilesToFileGroup(logicalPath, name string, spec vss.FileSpec, alternatePath string, mask vss.FileSpecBackupType) error {
	return m.addFiles("AddFilesToFileGroup", logicalPath, name,
		FileSet{FileSpec: spec, Kind: FileGroupFiles, AlternatePath: alternatePath, BackupType: mask})
}

// AddDatabaseFiles adds data files to a database; there is no recursion and no
// alternate path (R-SET-7). Errors as with AddFilesToFileGroup.
func (m *WriterMetadata) AddDatabaseFiles(logicalPath, name, path, pattern string, mask vss.FileSpecBackupType) error {
	return m.addFiles("AddDatabaseFiles", logicalPath, name,
		FileSet{FileSpec: vss.FileSpec{Path: path, Pattern: pattern}, Kind: DatabaseFiles, BackupType: mask})
}

// AddDatabaseLogFiles adds log files to a database, as AddDatabaseFiles does
// data files.
func (m *WriterMetadata) AddDatabaseLogFiles(logicalPath, name, path, pattern string, mask vss.FileSpecBackupType) error {
	return m.addFiles("AddDatabaseLogFiles", logicalPath, name,
		FileSet{FileSpec: vss.FileSpec{Path: path, Pattern: pattern}, Kind: DatabaseLogFiles, BackupType: mask})
}

func (m *WriterMetadata) addFiles(op, logicalPath, name string, set FileSet) error {
	c, err := m.find(op, logicalPath, name)
	if err != nil {
		return err
	}
	if (c.Type == vss.ComponentTypeDatabase) == (set.Kind == FileGroupFiles) {
		return vss.Errorf(vss.ErrInvalidArgument, op, c.FullPath(), "%v cannot belong to a component of type %v", set.Kind, c.Type)
	}
	if err := validSpec(op, set.FileSpec); err != nil {
		return err
	}
	if set.BackupType == 0 {
		set.BackupType = vss.DefaultFileSpecBackupType
	}
	pairs := []pair{{attrPath, set.Path}, {attrFilespec, set.Pattern}}
	element := elemFileList
	switch set.Kind {
	case DatabaseFiles:
		element = elemDatabaseFiles
	case DatabaseLogFiles:
		element = elemDatabaseLogs
	default:
		pairs = append(pairs, pair{attrRecursive, yesNo(set.Recursive)}, pair{"?" + attrAlternatePath, set.AlternatePath})
	}
	if _, err := add(c.node, element, append(pairs, pair{attrFilespecBackupType, decimal(set.BackupType)})...); err != nil {
		return err
	}
	c.FileSets = append(c.FileSets, set)
	return nil
}

func (m *WriterMetadata) find(op, logicalPath, name string) (*ComponentInfo, error) {
	if c, ok := m.Component(logicalPath, name); ok {
		return c, nil
	}
	return nil, vss.Errorf(vss.ErrObjectNotFound, op, vss.FullPath(logicalPath, name), "writer %q has no such component", m.identity.Name)
}

// AddComponentDependency says that a component needs another writer's
// (R-SEL-31). An unknown component is vss.ErrObjectNotFound; a dependency on
// the writer's own class is not permitted (R-SEL-32).
func (m *WriterMetadata) AddComponentDependency(logicalPath, name string, on Dependency) error {
	const op = "AddComponentDependency"
	c, err := m.find(op, logicalPath, name)
	if err != nil {
		return err
	}
	if on.WriterClass == m.identity.ClassID {
		return vss.Errorf(vss.ErrInvalidArgument, op, c.FullPath(), "it would depend on its own writer") // R-SEL-32
	}
	if err := vss.ValidateComponentName(on.Name); err != nil {
		return &vss.Error{Op: op, Object: c.FullPath(), Code: vss.ErrInvalidArgument, Err: err}
	}
	_, err = add(c.node, elemDependency,
		pair{attrWriterID, on.WriterClass.String()},
		pair{"?" + attrLogicalPath, on.LogicalPath},
		pair{attrComponentName, on.Name},
	)
	if err != nil {
		return err
	}
	on.LogicalPath = vss.NormalizeLogicalPath(on.LogicalPath)
	c.Dependencies = append(c.Dependencies, on)
	return nil
}

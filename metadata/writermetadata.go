package metadata

import (
	"encoding/base64"

	"github.com/sombra-backup/sombra/metadata/xmldoc"
	"github.com/sombra-backup/sombra/vss"
)

// Identity is what GetIdentityEx and GetVersion report of a writer.
type Identity struct {
	InstanceID   vss.GUID // new at every start of the writer
	ClassID      vss.GUID // the same for all instances
	Name         string
	InstanceName string // names what survives restarts; may be empty
	Usage        vss.UsageType
	Source       vss.SourceType
	MajorVersion uint32
	MinorVersion uint32
}

// RestoreMethod is what GetRestoreMethod reports: one for each writer.
type RestoreMethod struct {
	Method         vss.RestoreMethod
	Service        string // to be stopped and started, methods 3 and 8 only
	UserProcedure  string // address of instructions for a person; may be empty
	WriterRestore  vss.WriterRestore
	RebootRequired bool
}

// AlternateLocationMapping says where the files of a file set go if they cannot
// go to their own place (R-RES-18): Path is replaced by AlternatePath, names
// and subdirectories are kept. Offered ones stand in the Writer Metadata
// Document, used ones in the Backup Components Document (R-RES-19).
type AlternateLocationMapping struct {
	vss.FileSpec
	AlternatePath string
}

// FileSetKind says in which of its component's lists a file set stands.
type FileSetKind uint8

// Lists of file sets: file groups have one, databases have two (R-SET-7).
const (
	FileGroupFiles FileSetKind = iota
	DatabaseFiles
	DatabaseLogFiles
)

// String gives "files", "database files" or "database log files".
func (k FileSetKind) String() string {
	switch k {
	case DatabaseFiles:
		return "database files"
	case DatabaseLogFiles:
		return "database log files"
	}
	return "files"
}

// FileSet is one IVssWMFiledesc of a component.
type FileSet struct {
	vss.FileSpec
	Kind          FileSetKind
	AlternatePath string // where to read the files on backup (R-SET-12); mostly empty
	BackupType    vss.FileSpecBackupType
}

// Dependency is one IVssWMDependency (R-SEL-31). LogicalPath may begin with
// `\\Computer\` for a component on another machine (R-SEL-34).
type Dependency struct {
	WriterClass vss.GUID
	LogicalPath string
	Name        string
}

// ComponentInfo is one IVssWMComponent: what a writer says of a component.
// Those a document hands out are to be read only.
type ComponentInfo struct {
	Type                   vss.ComponentType
	LogicalPath            string
	Name                   string
	Caption                string
	Icon                   []byte
	RestoreMetadata        bool // reserved, as is the next
	NotifyOnBackupComplete bool
	Selectable             bool
	SelectableForRestore   bool
	Flags                  vss.ComponentFlags

	FileSets     []FileSet // of all lists, in the order of the document
	Dependencies []Dependency

	node *xmldoc.Node
}

// FullPath gives logical path and name.
func (c *ComponentInfo) FullPath() string { return vss.FullPath(c.LogicalPath, c.Name) }

// Files gives the file sets of one list.
func (c *ComponentInfo) Files(kind FileSetKind) []FileSet {
	var out []FileSet
	for _, s := range c.FileSets {
		if s.Kind == kind {
			out = append(out, s)
		}
	}
	return out
}

// WriterMetadata is a Writer Metadata Document.
type WriterMetadata struct {
	doc       *xmldoc.Document
	locations *xmldoc.Node // where new components go; nil until needed

	identity    Identity
	schema      vss.BackupSchema
	method      *RestoreMethod
	methodNode  *xmldoc.Node
	mappings    []AlternateLocationMapping
	components  []*ComponentInfo
	byPath      map[componentKey]*ComponentInfo
	exclude     []vss.FileSpec
	excludeFrom []vss.FileSpec
	problems    []Problem // found while reading
}

type componentKey struct{ logicalPath, name string }

const writerMetadataName = "writer metadata document"

// ParseWriterMetadata reads a document (IVssExamineWriterMetadata::LoadFromXML).
// A broken one is vss.ErrInvalidXMLDocument with a [*SyntaxError] in it. data is
// kept and must not be changed afterwards.
func ParseWriterMetadata(data []byte) (*WriterMetadata, error) {
	doc, err := open(data, writerMetadataName, elemWriterMetadata, writerMetadataSpace)
	if err != nil {
		return nil, err
	}
	m, err := loadWriterMetadata(doc)
	if err != nil {
		return nil, invalid(writerMetadataName, err)
	}
	return m, nil
}

func loadWriterMetadata(doc *xmldoc.Document) (*WriterMetadata, error) {
	m := &WriterMetadata{doc: doc, byPath: make(map[componentKey]*ComponentInfo)}
	r := &reader{}
	root := doc.Root()
	m.schema = vss.BackupSchema(r.number(root, attrBackupSchema, 0, 32))
	identified := false
	elements(root, func(n *xmldoc.Node) {
		switch n.Local() {
		case elemIdentification:
			if identified {
				r.fail(n, "a second element %s", elemIdentification)
			}
			identified = true
			m.identity = readIdentity(r, n)
		case elemRestoreMethod:
			if m.method != nil {
				r.fail(n, "a second element %s; a writer has one method", elemRestoreMethod)
			}
			m.readRestoreMethod(r, n)
		case elemLocations:
			m.locations = n
			m.readLocations(r, n)
		}
	})
	if !identified {
		r.fail(root, "there is no element %s", elemIdentification)
	}
	m.problems = r.problems
	return m, r.err
}

func readIdentity(r *reader, n *xmldoc.Node) Identity {
	return Identity{
		InstanceID:   r.guid(n, attrInstanceID, true),
		ClassID:      r.guid(n, attrWriterID, true),
		Name:         n.AttrOr(attrFriendlyName, ""),
		InstanceName: n.AttrOr(attrInstanceName, ""),
		Usage:        word(r, n, attrUsage, vss.ParseUsageType),
		Source:       word(r, n, attrDataSource, vss.ParseSourceType),
		MajorVersion: uint32(r.number(n, attrMajorVersion, 0, 32)),
		MinorVersion: uint32(r.number(n, attrMinorVersion, 0, 32)),
	}
}

func (m *WriterMetadata) readRestoreMethod(r *reader, n *xmldoc.Node) {
	m.methodNode = n
	m.method = &RestoreMethod{
		Method:         word(r, n, attrMethod, vss.ParseRestoreMethod),
		Service:        n.AttrOr(attrService, ""),
		UserProcedure:  n.AttrOr(attrUserProcedure, ""),
		WriterRestore:  word(r, n, attrWriterRestore, vss.ParseWriterRestore),
		RebootRequired: r.yes(n, attrRebootRequired),
	}
	elements(n, func(c *xmldoc.Node) {
		if c.Local() == elemMapping {
			m.mappings = append(m.mappings, readMapping(r, c))
		}
	})
}

func readMapping(r *reader, n *xmldoc.Node) AlternateLocationMapping {
	return AlternateLocationMapping{r.fileSpec(n), r.text(n, attrAlternatePath)}
}

func (m *WriterMetadata) readLocations(r *reader, n *xmldoc.Node) {
	elements(n, func(c *xmldoc.Node) {
		switch c.Local() {
		case elemExclude:
			m.exclude = append(m.exclude, r.fileSpec(c))
		case elemExcludeFrom:
			m.excludeFrom = append(m.excludeFrom, r.fileSpec(c))
		case elemFileGroup:
			m.readComponent(r, c, vss.ComponentTypeFileGroup)
		case elemDatabase:
			m.readComponent(r, c, vss.ComponentTypeDatabase)
		}
	})
}

func (m *WriterMetadata) readComponent(r *reader, n *xmldoc.Node, t vss.ComponentType) {
	c := &ComponentInfo{
		Type:                   t,
		LogicalPath:            logicalPath(n),
		Name:                   r.text(n, attrComponentName),
		Caption:                n.AttrOr(attrCaption, ""),
		RestoreMetadata:        r.yes(n, attrRestoreMetadata),
		NotifyOnBackupComplete: r.yes(n, attrNotify),
		Selectable:             r.yes(n, attrSelectable),
		SelectableForRestore:   r.yes(n, attrSelectableRestore),
		Flags:                  vss.ComponentFlags(r.number(n, attrComponentFlags, 0, 32)),
		node:                   n,
	}
	if icon, ok := n.Attr(attrIcon); ok {
		var err error
		if c.Icon, err = base64.StdEncoding.DecodeString(icon); err != nil {
			r.fail(n, "attribute %s of component %.60q is no base64", attrIcon, c.Name)
		}
	}
	elements(n, func(f *xmldoc.Node) { c.readPart(r, f) })
	key := componentKey{c.LogicalPath, c.Name}
	if m.byPath[key] != nil {
		r.fail(n, "component %.100q stands twice", c.FullPath()) // R-SEL-1
	}
	m.byPath[key] = c
	m.components = append(m.components, c)
}

func (c *ComponentInfo) readPart(r *reader, n *xmldoc.Node) {
	kind := FileGroupFiles
	switch n.Local() {
	case elemFileList:
	case elemDatabaseFiles:
		kind = DatabaseFiles
	case elemDatabaseLogs:
		kind = DatabaseLogFiles
	case elemDependency:
		c.Dependencies = append(c.Dependencies, Dependency{
			r.guid(n, attrWriterID, true), logicalPath(n), r.text(n, attrComponentName),
		})
		return
	default:
		return
	}
	c.FileSets = append(c.FileSets, FileSet{
		FileSpec:      r.fileSpec(n),
		Kind:          kind,
		AlternatePath: n.AttrOr(attrAlternatePath, ""),
		BackupType:    vss.FileSpecBackupType(r.number(n, attrFilespecBackupType, uint64(vss.DefaultFileSpecBackupType), 32)),
	})
}

// Identity answers GetIdentity, GetIdentityEx and GetVersion.
func (m *WriterMetadata) Identity() Identity { return m.identity }

// BackupSchema answers GetBackupSchema.
func (m *WriterMetadata) BackupSchema() vss.BackupSchema { return m.schema }

// RestoreMethod answers GetRestoreMethod; ok is false if the writer set none
// (D-3: real ones without files do not).
func (m *WriterMetadata) RestoreMethod() (method RestoreMethod, ok bool) {
	if m.method == nil {
		return RestoreMethod{}, false
	}
	return *m.method, true
}

// AlternateLocationMappings answers GetAlternateLocationMapping for all i; to be
// read only.
func (m *WriterMetadata) AlternateLocationMappings() []AlternateLocationMapping { return m.mappings }

// Components answers GetComponent for all i, in the order of the document; to
// be read only.
func (m *WriterMetadata) Components() []*ComponentInfo { return m.components }

// Component finds a component by logical path and name, exactly.
func (m *WriterMetadata) Component(logicalPath, name string) (c *ComponentInfo, ok bool) {
	c, ok = m.byPath[componentKey{vss.NormalizeLogicalPath(logicalPath), name}]
	return c, ok
}

// ComponentID gives a component's identity among all writers.
func (m *WriterMetadata) ComponentID(c *ComponentInfo) vss.ComponentID {
	return vss.ComponentID{WriterClass: m.identity.ClassID, LogicalPath: c.LogicalPath, Name: c.Name}
}

// ExcludeFiles answers GetExcludeFile for all i (R-SET-10); to be read only.
func (m *WriterMetadata) ExcludeFiles() []vss.FileSpec { return m.exclude }

// ExcludeFilesFromSnapshot answers GetExcludeFromSnapshotFile for all i: what
// the writer itself deletes from the shadow copy (R-SET-24); to be read only.
func (m *WriterMetadata) ExcludeFilesFromSnapshot() []vss.FileSpec { return m.excludeFrom }

// SaveAsXML gives the document: byte for byte as it was read if nobody changed
// it, else written from the tree.
func (m *WriterMetadata) SaveAsXML() []byte { return m.doc.Bytes() }

// Rewrite writes the document from the tree whether it was changed or not, in
// UTF-8. What it gives is equivalent to what was read.
func (m *WriterMetadata) Rewrite() []byte { return m.doc.Marshal() }

// Clone gives an independent copy.
func (m *WriterMetadata) Clone() *WriterMetadata {
	c, err := loadWriterMetadata(m.doc.Clone())
	if err != nil {
		// The tree was loaded once, and the setters keep it loadable.
		panic("metadata: clone of a writer metadata document: " + err.Error())
	}
	return c
}

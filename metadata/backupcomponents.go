package metadata

import (
	"github.com/sombra-backup/sombra/metadata/xmldoc"
	"github.com/sombra-backup/sombra/vss"
)

const backupComponentsName = "backup components document"

// BackupState is what SetBackupState sets.
type BackupState struct {
	SelectComponents    bool // component mode (R-SEL-14)
	BootableSystemState bool
	Type                vss.BackupType
	PartialFileSupport  bool // partial files may be used (R-SET-35)
}

// WriterKey says which writer instance a part of the document belongs to.
type WriterKey struct {
	InstanceID vss.GUID
	ClassID    vss.GUID
	Schema     vss.BackupSchema // as of the writer's own document
}

// BackupComponents is a Backup Components Document. Components got from it stay
// valid as long as it lives, also through MergeWriterPart.
type BackupComponents struct {
	doc        *xmldoc.Document
	writers    []*WriterComponents
	byInstance map[vss.GUID]*WriterComponents
}

// WriterComponents is IVssWriterComponents: the explicit components of one
// writer instance (R-SEL-12).
type WriterComponents struct {
	key        WriterKey
	node       *xmldoc.Node
	components []*Component
	byPath     map[componentKey]*Component
}

// NewBackupComponents begins a document without backup state or components
// (IVssBackupComponents::InitializeForBackup).
func NewBackupComponents() *BackupComponents {
	doc := xmldoc.New(elemBackupComponents, backupComponentsSpace)
	if err := set(doc.Root(), pair{attrVersion, documentVersion}); err != nil {
		panic("metadata: " + err.Error()) // a constant text
	}
	return &BackupComponents{doc: doc, byInstance: make(map[vss.GUID]*WriterComponents)}
}

// ParseBackupComponents reads a document (InitializeForRestore). A broken one
// is vss.ErrInvalidXMLDocument with a [*SyntaxError] in it. data is kept and
// must not be changed afterwards.
func ParseBackupComponents(data []byte) (*BackupComponents, error) {
	doc, err := open(data, backupComponentsName, elemBackupComponents, backupComponentsSpace)
	if err != nil {
		return nil, err
	}
	b, err := loadBackupComponents(doc)
	if err != nil {
		return nil, invalid(backupComponentsName, err)
	}
	return b, nil
}

// loadBackupComponents indexes the tree and reads every typed attribute once,
// so that no getter can fail later.
func loadBackupComponents(doc *xmldoc.Document) (*BackupComponents, error) {
	b := &BackupComponents{doc: doc, byInstance: make(map[vss.GUID]*WriterComponents)}
	r := &reader{}
	root := doc.Root()
	readState(r, root)
	elements(root, func(n *xmldoc.Node) {
		if n.Local() == elemWriterComponents {
			b.loadWriter(r, n)
		}
	})
	return b, r.err
}

func readState(r *reader, root *xmldoc.Node) BackupState {
	r.guid(root, attrSnapshotSetID, false)
	word(r, root, attrRestoreType, vss.ParseRestoreType)
	return BackupState{
		SelectComponents:    r.yes(root, attrSelectComponents),
		BootableSystemState: r.yes(root, attrBootable),
		Type:                word(r, root, attrBackupType, vss.ParseBackupType),
		PartialFileSupport:  r.yes(root, attrPartialSupport),
	}
}

func (b *BackupComponents) loadWriter(r *reader, n *xmldoc.Node) {
	w := &WriterComponents{node: n, byPath: make(map[componentKey]*Component)}
	w.key = WriterKey{
		InstanceID: r.guid(n, attrInstanceID, true),
		ClassID:    r.guid(n, attrWriterID, true),
		Schema:     vss.BackupSchema(r.number(n, attrBackupSchema, 0, 32)),
	}
	if _, ok := b.Writer(w.key.InstanceID); ok {
		r.fail(n, "writer instance %v stands twice", w.key.InstanceID)
	}
	elements(n, func(c *xmldoc.Node) {
		if c.Local() != elemComponent {
			return
		}
		comp := &Component{writer: w, node: c}
		comp.key = componentKey{logicalPath(c), r.text(c, attrComponentName)}
		comp.check(r)
		if w.byPath[comp.key] != nil {
			r.fail(c, "component %.100q stands twice", comp.FullPath()) // R-SEL-1
		}
		w.byPath[comp.key] = comp
		w.components = append(w.components, comp)
	})
	b.writers = append(b.writers, w)
	b.byInstance[w.key.InstanceID] = w
}

// BackupState gives what SetBackupState set; ok is false if it was not called.
func (b *BackupComponents) BackupState() (state BackupState, ok bool) {
	_, ok = b.doc.Root().Attr(attrBackupType)
	return readState(&reader{}, b.doc.Root()), ok
}

// SetBackupState sets type and mode of the backup. Types undefined and other
// are vss.ErrInvalidArgument (R-TYPE-1).
func (b *BackupComponents) SetBackupState(state BackupState) error {
	if state.Type <= vss.BackupTypeUndefined || state.Type >= vss.BackupTypeOther {
		return vss.Errorf(vss.ErrInvalidArgument, "SetBackupState", "", "%v is no type a backup can have", state.Type)
	}
	return set(b.doc.Root(),
		pair{attrBootable, yesNo(state.BootableSystemState)},
		pair{attrSelectComponents, yesNo(state.SelectComponents)},
		pair{attrBackupType, state.Type.Word()},
		pair{attrPartialSupport, yesNo(state.PartialFileSupport)},
	)
}

// RestoreType gives what SetRestoreState set, undefined (to be taken for by
// copy) if it was not called.
func (b *BackupComponents) RestoreType() vss.RestoreType {
	return word(&reader{}, b.doc.Root(), attrRestoreType, vss.ParseRestoreType)
}

// SetRestoreState sets the kind of the restore.
func (b *BackupComponents) SetRestoreState(t vss.RestoreType) error {
	if t < vss.RestoreTypeUndefined || t > vss.RestoreTypeOther {
		return vss.Errorf(vss.ErrInvalidArgument, "SetRestoreState", "", "%v is no type a restore can have", t)
	}
	return set(b.doc.Root(), pair{attrRestoreType, t.Word()})
}

// SnapshotSetID gives the id of the shadow copy set, zero before there is one.
func (b *BackupComponents) SnapshotSetID() vss.GUID {
	return (&reader{}).guid(b.doc.Root(), attrSnapshotSetID, false)
}

// SetSnapshotSetID records the id StartSnapshotSet made.
func (b *BackupComponents) SetSnapshotSetID(id vss.GUID) error {
	return set(b.doc.Root(), pair{attrSnapshotSetID, id.String()})
}

// Writers answers GetWriterComponents for all i: writers with explicit
// components, in the order of the document; to be read only.
func (b *BackupComponents) Writers() []*WriterComponents { return b.writers }

// Writer finds the part of one writer instance.
func (b *BackupComponents) Writer(instance vss.GUID) (w *WriterComponents, ok bool) {
	w, ok = b.byInstance[instance]
	return w, ok
}

// Key says whose components these are (GetWriterInfo).
func (w *WriterComponents) Key() WriterKey { return w.key }

// Components answers GetComponent for all i; to be read only.
func (w *WriterComponents) Components() []*Component { return w.components }

// Component finds a component of this writer instance.
func (w *WriterComponents) Component(logicalPath, name string) (c *Component, ok bool) {
	c, ok = w.byPath[componentKey{vss.NormalizeLogicalPath(logicalPath), name}]
	return c, ok
}

// Component finds an explicit component by identity; as identities are unique
// over all instances of a class (R-SEL-2), no instance is needed. None is
// vss.ErrObjectNotFound.
func (b *BackupComponents) Component(id vss.ComponentID) (*Component, error) {
	for _, w := range b.writers {
		if w.key.ClassID != id.WriterClass {
			continue
		}
		if c, ok := w.Component(id.LogicalPath, id.Name); ok {
			return c, nil
		}
	}
	return nil, vss.Errorf(vss.ErrObjectNotFound, "find component", id.String(), "")
}

// AddComponent adds an explicit component of a writer instance. One of the same
// class, logical path and name is vss.ErrObjectAlreadyExists (R-SEL-1, R-SEL-2);
// a bad type or name, or a key that disagrees with what the document says of
// the instance, vss.ErrInvalidArgument. Whether the writer has such a component
// (R-SEL-15) the caller knows.
func (b *BackupComponents) AddComponent(writer WriterKey, t vss.ComponentType, logicalPath, name string) (*Component, error) {
	const op = "AddComponent"
	full := vss.FullPath(logicalPath, name)
	if t != vss.ComponentTypeDatabase && t != vss.ComponentTypeFileGroup {
		return nil, vss.Errorf(vss.ErrInvalidArgument, op, full, "%v is no type of a component", t)
	}
	if writer.InstanceID.IsZero() || writer.ClassID.IsZero() {
		return nil, vss.Errorf(vss.ErrInvalidArgument, op, full, "the writer has no class id or no instance id")
	}
	if err := validKey(op, logicalPath, name); err != nil {
		return nil, err
	}
	if _, err := b.Component(vss.ComponentID{WriterClass: writer.ClassID, LogicalPath: logicalPath, Name: name}); err == nil {
		return nil, vss.Errorf(vss.ErrObjectAlreadyExists, op, full, "")
	}
	if err := check(pair{attrLogicalPath, logicalPath}, pair{attrComponentName, name}); err != nil {
		return nil, err
	}
	w, ok := b.Writer(writer.InstanceID)
	if ok && w.key != writer {
		return nil, vss.Errorf(vss.ErrInvalidArgument, op, full, "writer instance %v stands in the document with class %v and schema %d",
			writer.InstanceID, w.key.ClassID, w.key.Schema)
	}
	if !ok {
		var err error
		if w, err = b.addWriter(writer); err != nil {
			return nil, err
		}
	}
	n, err := add(w.node, elemComponent,
		pair{"?" + attrLogicalPath, logicalPath},
		pair{attrComponentName, name},
		pair{attrComponentType, t.Word()},
	)
	if err != nil {
		return nil, err
	}
	c := &Component{writer: w, node: n, key: componentKey{logicalPath, name}}
	w.byPath[c.key] = c
	w.components = append(w.components, c)
	return c, nil
}

func (b *BackupComponents) addWriter(key WriterKey) (*WriterComponents, error) {
	n, err := add(b.doc.Root(), elemWriterComponents,
		pair{attrInstanceID, key.InstanceID.String()},
		pair{attrWriterID, key.ClassID.String()},
		pair{attrBackupSchema, decimal(key.Schema)},
	)
	if err != nil {
		return nil, err
	}
	w := &WriterComponents{key: key, node: n, byPath: make(map[componentKey]*Component)}
	b.writers = append(b.writers, w)
	b.byInstance[w.key.InstanceID] = w
	return w, nil
}

// ClearRestore takes out what only a restore puts into a document: selection and
// options, restore and directed targets, new targets, mappings used, outcomes. A
// restore begins from the document of a backup, which has none of it, and must not
// take what a medium put there for what its own writers and user said. It reports
// whether there was anything.
func (b *BackupComponents) ClearRestore() (changed bool) {
	drop := func(n *xmldoc.Node, names ...string) {
		for _, name := range names {
			if _, ok := n.Attr(name); ok {
				n.RemoveAttr(name)
				changed = true
			}
		}
	}
	drop(b.doc.Root(), attrRestoreType)
	for _, w := range b.writers {
		for _, c := range w.components {
			drop(c.node, attrSelectedForRestore, attrRestoreInstanceID, attrRestoreOptions, attrAdditionalRestores, attrRestoreTarget,
				attrFileRestoreStatus, attrPreRestoreMsg, attrPostRestoreMsg, attrAuthoritative, attrRollForwardType, attrRollForwardPoint, attrRestoreName)
			var out []*xmldoc.Node
			elements(c.node, func(n *xmldoc.Node) {
				switch n.Local() {
				case elemDirectedTarget, elemNewTarget, elemSubcomponent, elemMapping:
					out = append(out, n)
				case elemPartialFile:
					drop(n, attrRangesFilePath)
				}
			})
			for _, n := range out {
				c.node.Remove(n)
				changed = true
			}
		}
	}
	return changed
}

// SaveAsXML gives the document: byte for byte as it was read if nobody changed
// it, else written from the tree.
func (b *BackupComponents) SaveAsXML() []byte { return b.doc.Bytes() }

// Rewrite writes the document from the tree whether it was changed or not, in
// UTF-8. What it gives is equivalent to what was read.
func (b *BackupComponents) Rewrite() []byte { return b.doc.Marshal() }

// Clone gives an independent copy.
func (b *BackupComponents) Clone() *BackupComponents {
	c, err := loadBackupComponents(b.doc.Clone())
	if err != nil {
		// The tree was loaded once, and the setters keep it loadable.
		panic("metadata: clone of a backup components document: " + err.Error())
	}
	return c
}

// Validate lists words and values the model does not allow, none of which keeps
// the rest from being used.
func (b *BackupComponents) Validate() []Problem {
	r := &reader{}
	readState(r, b.doc.Root())
	seen := make(map[vss.ComponentID]bool)
	for _, w := range b.writers {
		for _, c := range w.components {
			c.check(r)
			if seen[c.ID()] {
				r.problems = append(r.problems, Problem{"R-SEL-2", "component " + c.FullPath(), "two instances of its writer class have it"})
			}
			seen[c.ID()] = true
			if err := validKey("check", c.key.logicalPath, c.key.name); err != nil {
				r.problems = append(r.problems, Problem{"R-SEL-3", "component " + c.FullPath(), "its name or logical path is not allowed"})
			}
		}
	}
	return r.problems
}

package metadata

import (
	"github.com/sombra-backup/sombra/metadata/xmldoc"
	"github.com/sombra-backup/sombra/vss"
)

// WriterPart gives what one writer instance is shown of the document, as a
// document of its own: the backup state and that instance's components. An
// instance without components is vss.ErrObjectNotFound.
func (b *BackupComponents) WriterPart(instance vss.GUID) ([]byte, error) {
	w, ok := b.Writer(instance)
	if !ok {
		return nil, vss.Errorf(vss.ErrObjectNotFound, "extract part of", "writer instance "+instance.String(), "it has no components in the document")
	}
	return w.Part(), nil
}

// Part gives what WriterPart gives for this writer instance: a document of the
// backup state and these components, with all that was changed in them. It is
// what MergeWriterPart takes.
func (w *WriterComponents) Part() []byte { return w.node.Extract().Marshal() }

// ParseWriterPart reads what Part gave. A document that does not hold exactly
// one writer instance is vss.ErrInvalidXMLDocument.
func ParseWriterPart(data []byte) (*WriterComponents, error) {
	b, err := ParseBackupComponents(data)
	if err != nil {
		return nil, err
	}
	if n := len(b.writers); n != 1 {
		return nil, invalid("part of a "+backupComponentsName, b.doc.Root().Errorf("it holds %d writer instances, not 1", n))
	}
	return b.writers[0], nil
}

// MergeWriterPart takes over what a writer wrote into the part it was given by
// WriterPart. All else must be as it was: backup state, identity, membership
// and order of components, what only a requester sets, and what was added
// before; a part that changes any of it is refused with
// vss.ErrInvalidArgument, one that sets backup metadata again with
// vss.ErrObjectAlreadyExists, and the document then stays unchanged.
func (b *BackupComponents) MergeWriterPart(instance vss.GUID, part []byte) error {
	const op = "merge part of"
	object := "writer instance " + instance.String()
	p, err := ParseBackupComponents(part)
	if err != nil {
		return &vss.Error{Op: op, Object: object, Code: vss.CodeOf(err), Err: err}
	}
	w, ok := b.Writer(instance)
	if !ok {
		return vss.Errorf(vss.ErrObjectNotFound, op, object, "it has no components in the document")
	}
	if err := b.comparePart(w, p); err != nil {
		return &vss.Error{Op: op, Object: object, Code: vss.ErrInvalidArgument, Err: err}
	}
	// Once on a copy, so that a refusal half-way leaves nothing behind.
	trial := b.Clone()
	tw, _ := trial.Writer(instance)
	for _, target := range []*WriterComponents{tw, w} {
		for i, c := range p.writers[0].components {
			if err := target.components[i].take(c); err != nil {
				return &vss.Error{Op: op, Object: object, Code: vss.CodeOf(err), Err: err}
			}
		}
	}
	return nil
}

// comparePart checks all that a writer must leave alone.
func (b *BackupComponents) comparePart(w *WriterComponents, p *BackupComponents) error {
	const op = "compare"
	oldRoot, newRoot := b.doc.Root(), p.doc.Root()
	if name, ok := sameAttrs(oldRoot, newRoot, nil); !ok {
		return vss.Errorf(vss.ErrInvalidArgument, op, "backup state", "attribute %s was changed", name)
	}
	if count := len(p.writers); count != 1 {
		return vss.Errorf(vss.ErrInvalidArgument, op, "membership", "the part holds %d writer instances, not 1", count)
	}
	n := p.writers[0]
	if name, ok := sameAttrs(w.node, n.node, nil); !ok {
		return vss.Errorf(vss.ErrInvalidArgument, op, "identity", "attribute %s was changed", name)
	}
	if len(n.components) != len(w.components) {
		return vss.Errorf(vss.ErrInvalidArgument, op, "membership", "the part holds %d components, not %d", len(n.components), len(w.components))
	}
	for i, c := range w.components {
		if n.components[i].key != c.key {
			return vss.Errorf(vss.ErrInvalidArgument, op, "membership", "component %d is %s, not %s", i+1, n.components[i].FullPath(), c.FullPath())
		}
		if err := c.compare(n.components[i]); err != nil {
			return err
		}
	}
	return nil
}

// writerAttrs and writerLists are what IVssComponent lets a writer set.
var (
	writerAttrs = map[string]bool{
		attrBackupMetadata: true, attrBackupStamp: true, attrRestoreMetadata: true, attrRestoreTarget: true,
		attrPrepareMsg: true, attrPostSnapshotMsg: true, attrPreRestoreMsg: true, attrPostRestoreMsg: true,
	}
	writerLists = map[string]bool{
		elemPartialFile: true, elemDifferenced: true, elemDirectedTarget: true, elemFailure: true,
	}
)

// compare checks that a component differs from c in what a writer sets only,
// and that lists were only added to.
func (c *Component) compare(changed *Component) error {
	const op = "compare"
	if name, ok := sameAttrs(c.node, changed.node, writerAttrs); !ok {
		return c.fail(vss.ErrInvalidArgument, op, "attribute %s was changed, which a writer does not set", name)
	}
	for name := range writerAttrs {
		_, before := c.node.Attr(name)
		if _, after := changed.node.Attr(name); before && !after {
			return c.fail(vss.ErrInvalidArgument, op, "attribute %s was taken away", name)
		}
	}
	older, newer := byName(c.node), byName(changed.node)
	for name, list := range newer {
		old := older[name]
		if !writerLists[name] && len(list) != len(old) {
			return c.fail(vss.ErrInvalidArgument, op, "elements %s were added, which a writer does not set", name)
		}
	}
	for name, old := range older {
		list := newer[name]
		if len(list) < len(old) {
			return c.fail(vss.ErrInvalidArgument, op, "elements %s were taken away", name)
		}
		for i := range old {
			if name != elemFailure && !old[i].Equal(list[i]) {
				return c.fail(vss.ErrInvalidArgument, op, "element %s number %d was changed", name, i+1)
			}
		}
	}
	return nil
}

// byName sorts the child elements of a component by name, those of other
// namespaces under names no element of ours can have.
func byName(n *xmldoc.Node) map[string][]*xmldoc.Node {
	m := make(map[string][]*xmldoc.Node)
	for _, c := range n.Children() {
		if c.Kind() != xmldoc.Element {
			continue
		}
		name := c.Local()
		if c.Space() != n.Space() {
			name = "{" + c.Space() + "}" + name
		}
		m[name] = append(m[name], c)
	}
	return m
}

// sameAttrs compares attributes by value, without those in except and without
// namespace declarations; it gives the name of the first that differs.
func sameAttrs(a, b *xmldoc.Node, except map[string]bool) (string, bool) {
	for _, pair := range [2][2]*xmldoc.Node{{a, b}, {b, a}} {
		attrs := pair[0].Attrs()
		for i := range attrs {
			name := attrs[i].Name()
			if except[name] || xmldoc.IsNamespace(name) {
				continue
			}
			if v, ok := pair[1].Attr(name); !ok || v != attrs[i].Value() {
				return name, false
			}
		}
	}
	return "", true
}

// take sets on c what the writer set on changed, through the calls the writer
// would have made, so that their checks hold for parts from elsewhere too.
func (c *Component) take(changed *Component) error {
	for _, step := range []func(*Component) error{c.takeTexts, c.takeLists, c.takeFailure} {
		if err := step(changed); err != nil {
			return err
		}
	}
	return nil
}

func (c *Component) takeTexts(changed *Component) error {
	if text, ok := changed.BackupMetadata(); ok {
		if old, set := c.BackupMetadata(); !set || old != text {
			if err := c.SetBackupMetadata(text); err != nil {
				return err
			}
		}
	}
	if _, ok := changed.node.Attr(attrRestoreTarget); ok && changed.RestoreTarget() != c.RestoreTarget() {
		if err := c.SetRestoreTarget(changed.RestoreTarget()); err != nil {
			return err
		}
	}
	for _, name := range []string{attrBackupStamp, attrRestoreMetadata, attrPrepareMsg, attrPostSnapshotMsg, attrPreRestoreMsg, attrPostRestoreMsg} {
		if text, ok := changed.node.Attr(name); ok {
			if err := set(c.node, pair{name, text}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *Component) takeLists(changed *Component) error {
	old, l := c.readLists(&reader{}), changed.readLists(&reader{})
	for _, p := range l.partial[len(old.partial):] {
		if p.RangesFilePath != "" {
			return c.fail(vss.ErrInvalidArgument, "AddPartialFile", "a ranges file's new path, which a writer does not set")
		}
		if err := c.AddPartialFile(p); err != nil {
			return err
		}
	}
	for _, d := range l.differenced[len(old.differenced):] {
		if err := c.AddDifferencedFilesByLastModifyTime(d); err != nil {
			return err
		}
	}
	for _, d := range l.directed[len(old.directed):] {
		if err := c.AddDirectedTarget(d); err != nil {
			return err
		}
	}
	return nil
}

func (c *Component) takeFailure(changed *Component) error {
	f, ok := changed.Failure()
	if old, had := c.Failure(); !ok || had && old == f {
		return nil
	}
	return c.SetFailure(f)
}

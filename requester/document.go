package requester

import (
	"fmt"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// NewWriter reads a Writer Metadata Document into the tree of components.
func NewWriter(info session.WriterInfo) (*Writer, error) {
	doc, err := metadata.ParseWriterMetadata(info.Document)
	if err != nil {
		return nil, err
	}
	id := doc.Identity()
	w := &Writer{
		Info: info, Instance: info.Instance, Class: id.ClassID, Name: id.Name, InstanceName: id.InstanceName,
		Usage: id.Usage, Schema: doc.BackupSchema(), Exclude: doc.ExcludeFiles(),
	}
	if w.Instance.IsZero() {
		w.Instance = id.InstanceID
	}
	w.Restore = restoreMethod(doc)
	for _, c := range doc.Components() {
		w.Components = append(w.Components, newComponent(c))
	}
	if err := w.Link(); err != nil {
		return nil, err
	}
	return w, nil
}

func restoreMethod(doc *metadata.WriterMetadata) (r RestoreMethod) {
	m, ok := doc.RestoreMethod()
	if !ok {
		return r
	}
	r = RestoreMethod{Given: true, Method: m.Method, WriterRestore: m.WriterRestore, Reboot: m.RebootRequired, Service: m.Service, Procedure: m.UserProcedure}
	for _, a := range doc.AlternateLocationMappings() {
		r.Mappings = append(r.Mappings, Mapping{Spec: a.FileSpec, Destination: a.AlternatePath})
	}
	return r
}

func newComponent(info *metadata.ComponentInfo) *Component {
	c := &Component{
		Type: info.Type, LogicalPath: info.LogicalPath, Name: info.Name, Caption: info.Caption,
		Selectable: info.Selectable, SelectableForRestore: info.SelectableForRestore, Flags: info.Flags,
	}
	for _, f := range info.FileSets {
		c.Files = append(c.Files, FileSet{Spec: f.FileSpec, Alternate: f.AlternatePath, Mask: f.BackupType, Kind: listKind(f.Kind)})
	}
	for _, d := range info.Dependencies {
		c.Dependencies = append(c.Dependencies, newDependency(d))
	}
	return c
}

func listKind(k metadata.FileSetKind) ListKind {
	switch k {
	case metadata.DatabaseFiles:
		return DatabaseList
	case metadata.DatabaseLogFiles:
		return DatabaseLogList
	}
	return FileGroupList
}

// newDependency takes the machine off a remote one. The prefix belongs on the
// logical path; one page looks for it in the name, so both are tried (D-4).
func newDependency(d metadata.Dependency) Dependency {
	out := Dependency{Class: d.WriterClass, LogicalPath: vss.NormalizeLogicalPath(d.LogicalPath), Name: d.Name}
	if computer, path, ok := vss.ParseRemotePath(d.LogicalPath); ok {
		out.Computer, out.LogicalPath = computer, path
	} else if computer, path, ok := vss.ParseRemotePath(d.Name); ok {
		out.Computer = computer
		out.LogicalPath, out.Name = vss.SplitFullPath(path)
	}
	return out
}

// readWriters reads the documents of all writers. One that cannot be read
// leaves its writer out, and says so.
func readWriters(infos []session.WriterInfo) (writers []*Writer, broken []error) {
	for i, info := range infos {
		w, err := NewWriter(info)
		if err != nil {
			broken = append(broken, fmt.Errorf("document of writer %d (instance %s): %w", i, info.Instance, err))
			continue
		}
		writers = append(writers, w)
	}
	return writers, broken
}

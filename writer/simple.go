package writer

import (
	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/vss"
)

// OneComponent makes the document of a simple writer: one file group that a user
// may choose, with these file sets, restored to its own place without the
// writer's help. A writer that wants more builds its document itself, or adds
// to this one.
func OneComponent(id metadata.Identity, component string, files ...vss.FileSpec) (*metadata.WriterMetadata, error) {
	doc, err := metadata.NewWriterMetadata(id)
	if err != nil {
		return nil, err
	}
	method := metadata.RestoreMethod{Method: vss.RestoreMethodIfCanReplace, WriterRestore: vss.WriterRestoreNever}
	if err := doc.SetRestoreMethod(method); err != nil {
		return nil, err
	}
	if err := doc.SetBackupSchema(vss.SchemaCopy); err != nil {
		return nil, err
	}
	err = doc.AddComponent(metadata.ComponentInfo{
		Type: vss.ComponentTypeFileGroup, Name: component, Selectable: true, SelectableForRestore: true,
	})
	for _, spec := range files {
		if err == nil {
			err = doc.AddFilesToFileGroup("", component, spec, "", vss.DefaultFileSpecBackupType)
		}
	}
	return doc, err
}

package writer

import (
	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/vss"
)

// identity is what a document says of who its writer is.
type identity struct {
	instance, class vss.GUID
	name            string
}

func identityOf(doc *metadata.WriterMetadata) identity {
	id := doc.Identity()
	return identity{instance: id.InstanceID, class: id.ClassID, name: id.InstanceName}
}

// formatMetadata and parseMetadata carry a Writer Metadata Document.
func formatMetadata(doc *metadata.WriterMetadata) ([]byte, error) {
	return doc.SaveAsXML(), nil
}

func parseMetadata(text []byte) (*metadata.WriterMetadata, error) {
	return metadata.ParseWriterMetadata(text)
}

// formatComponents and parseComponents carry a writer's part of the Backup
// Components Document, as a document with nothing else in it.
func formatComponents(w *metadata.WriterComponents) ([]byte, error) {
	return w.Part(), nil
}

func parseComponents(text []byte) (*metadata.WriterComponents, error) {
	return metadata.ParseWriterPart(text)
}

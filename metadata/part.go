package metadata

import "github.com/sombra-backup/sombra/vss"

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
		return nil, vss.Errorf(vss.ErrInvalidXMLDocument, "read", "part of a "+backupComponentsName, "it holds %d writer instances, not 1", n)
	}
	return b.writers[0], nil
}

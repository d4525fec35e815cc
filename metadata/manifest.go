package metadata

import (
	"strconv"
	"strings"

	"github.com/sombra-backup/sombra/metadata/xmldoc"
	"github.com/sombra-backup/sombra/vss"
)

// Manifest is the Manifest.xml of a DiskShadow metadata cabinet: what is in the
// cabinet and how the shadow copies in it were called. It is only read, and
// written again as it was.
type Manifest struct {
	ShadowCopySets       []ManifestSet
	BackupComponentsFile string
	Aliases              []ManifestAlias
	Writers              []ManifestWriter
	Logfile              string

	doc *xmldoc.Document
}

// SaveAsXML gives the document byte for byte as it was read.
func (m *Manifest) SaveAsXML() []byte { return m.doc.Bytes() }

// Rewrite writes the document from the tree, in UTF-8. What it gives is
// equivalent to what was read.
func (m *Manifest) Rewrite() []byte { return m.doc.Marshal() }

// ManifestSet is one shadow copy set.
type ManifestSet struct {
	ID           vss.GUID
	MachineName  string
	ShadowCopies []ManifestShadowCopy
}

// ManifestShadowCopy is one shadow copy. Provider is zero where the choice was
// left to the service.
type ManifestShadowCopy struct {
	ID             vss.GUID
	Alias          string
	OriginalVolume string
	Provider       vss.GUID
}

// ManifestAlias is a name for an id, such as VSS_SHADOW_SET.
type ManifestAlias struct {
	Name  string
	Value string
}

// ManifestWriter says which file holds a writer's document.
type ManifestWriter struct {
	Name         string // with blanks, which the file writes "%s"
	MetadataFile string // a path on the machine the cabinet was made on
}

// File gives the name of the writer's document in the cabinet: only the last
// part of the path is of use.
func (w ManifestWriter) File() string { return vss.Windows.Base(w.MetadataFile) }

const manifestName = "manifest"

// ParseManifest reads a manifest, UTF-16 as Windows writes it or UTF-8. A broken
// one is vss.ErrInvalidXMLDocument with a [*SyntaxError] in it.
func ParseManifest(data []byte) (*Manifest, error) {
	doc, err := open(data, manifestName, "Manifest", "")
	if err != nil {
		return nil, err
	}
	m, r := &Manifest{doc: doc}, &reader{}
	elements(doc.Root(), func(n *xmldoc.Node) {
		switch n.Local() {
		case "ShadowCopySet":
			m.ShadowCopySets = append(m.ShadowCopySets, readManifestSet(r, n))
		case "BackupComponents":
			m.BackupComponentsFile = r.text(n, "File")
		case "Aliases":
			elements(n, func(a *xmldoc.Node) {
				if a.Local() == "Alias" {
					m.Aliases = append(m.Aliases, ManifestAlias{r.text(a, "Name"), r.text(a, "Value")})
				}
			})
		case "Writers":
			m.readWriters(r, n)
		case "Logfile":
			m.Logfile = r.text(n, "Name")
		}
	})
	if r.err != nil {
		return nil, invalid(manifestName, r.err)
	}
	return m, nil
}

func readManifestSet(r *reader, n *xmldoc.Node) ManifestSet {
	s := ManifestSet{ID: r.guid(n, "GUID", true), MachineName: n.AttrOr("MachineName", "")}
	elements(n, func(c *xmldoc.Node) {
		if c.Local() == "ShadowCopy" {
			s.ShadowCopies = append(s.ShadowCopies, ManifestShadowCopy{
				ID:             r.guid(c, "GUID", true),
				Alias:          c.AttrOr("Alias", ""),
				OriginalVolume: r.text(c, "OriginalVolume"),
				Provider:       r.guid(c, "Provider", false),
			})
		}
	})
	return s
}

func (m *Manifest) readWriters(r *reader, n *xmldoc.Node) {
	elements(n, func(w *xmldoc.Node) {
		if w.Local() == "Writer" {
			name := strings.ReplaceAll(r.text(w, "Name"), "%s", " ")
			m.Writers = append(m.Writers, ManifestWriter{name, r.text(w, "MetadataFile")})
		}
	})
	if count, ok := n.Attr("Count"); ok && count != strconv.Itoa(len(m.Writers)) {
		r.fail(n, "Count is %.20q, and there are %d writers", count, len(m.Writers))
	}
}

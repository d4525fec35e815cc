package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/sombra-backup/sombra/metadata"
)

func newDoc(a *app) *cobra.Command {
	cmd := group("doc", "Look at Writer Metadata and Backup Components Documents, of any origin", &cobra.Command{
		Use:   "inspect FILE",
		Short: "Print a document as a readable tree, or with --json as JSON",
		Args:  takes("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := readDocument(args[0], a.stdin)
			if err != nil {
				return err
			}
			return a.inspect(d)
		},
	}, &cobra.Command{
		Use:   "roundtrip FILE",
		Short: "Read a document and print it as this program writes it",
		Args:  takes("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := readDocument(args[0], a.stdin)
			if err != nil {
				return err
			}
			_, err = a.stdout.Write(d.rewrite())
			return err
		},
	})
	cmd.PersistentPreRunE = needsNoConfig
	return cmd
}

// document is one of the two kinds.
type document struct {
	writer   *metadata.WriterMetadata
	backup   *metadata.BackupComponents
	manifest *metadata.Manifest
}

func (d document) rewrite() []byte {
	switch {
	case d.writer != nil:
		return d.writer.Rewrite()
	case d.backup != nil:
		return d.backup.Rewrite()
	}
	return d.manifest.Rewrite()
}

// readDocument reads a file, or standard input for "-", and finds out which
// kind of document it is.
func readDocument(name string, stdin io.Reader) (document, error) {
	r := stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return document{}, pathError(err)
		}
		defer f.Close()
		r = f
	}
	data, err := io.ReadAll(io.LimitReader(r, maxDocument+1))
	if err != nil {
		return document{}, pathError(err)
	}
	if len(data) > maxDocument {
		return document{}, fmt.Errorf("%s: larger than %d bytes", name, maxDocument)
	}
	w, werr := metadata.ParseWriterMetadata(bytes.Clone(data))
	if werr == nil {
		return document{writer: w}, nil
	}
	b, berr := metadata.ParseBackupComponents(bytes.Clone(data))
	if berr == nil {
		return document{backup: b}, nil
	}
	m, merr := metadata.ParseManifest(data)
	if merr == nil {
		return document{manifest: m}, nil
	}
	// Tell the failure of the kind it says it is.
	switch root := rootElement(data); root {
	case "WRITER_METADATA", "":
		err = werr
	case "BACKUP_COMPONENTS":
		err = berr
	case "Manifest":
		err = merr
	default:
		err = fmt.Errorf("neither a Writer Metadata Document nor a Backup Components Document nor a manifest: its root element is %.60s", root)
	}
	return document{}, fmt.Errorf("%s: %w", name, err)
}

// rootElement is the name of a document's root, or empty where this reader does
// not get that far.
func rootElement(data []byte) string {
	d := xml.NewDecoder(bytes.NewReader(data))
	for {
		t, err := d.Token()
		if err != nil {
			return ""
		}
		if e, ok := t.(xml.StartElement); ok {
			return e.Name.Local
		}
	}
}

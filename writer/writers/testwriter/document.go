package testwriter

import (
	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/vss"
)

// document builds the Writer Metadata Document. Paths stand in it as in the
// configuration: the environment is resolved by who uses them (R-SET-8).
func (c *Config) document(instance vss.GUID, name string) (*metadata.WriterMetadata, error) {
	doc, err := metadata.NewWriterMetadata(metadata.Identity{
		InstanceID: instance, ClassID: vss.TestWriterClass, Name: "Sombra Test Writer", InstanceName: name,
		Usage: c.Usage, Source: vss.SourceOther,
	})
	if err != nil {
		return nil, err
	}
	if err := doc.SetBackupSchema(c.schema()); err != nil {
		return nil, err
	}
	if err := doc.SetRestoreMethod(c.Restore); err != nil {
		return nil, err
	}
	for _, m := range c.Mappings {
		if err := doc.AddAlternateLocationMapping(m); err != nil {
			return nil, err
		}
	}
	for _, spec := range c.ExcludeFiles {
		if err := doc.AddExcludeFiles(spec); err != nil {
			return nil, err
		}
	}
	for i := range c.Components {
		if err := c.Components[i].add(doc); err != nil {
			return nil, err
		}
	}
	return doc, nil
}

func (c *Component) add(doc *metadata.WriterMetadata) error {
	err := doc.AddComponent(metadata.ComponentInfo{
		Type: c.Type, LogicalPath: c.LogicalPath, Name: c.Name, NotifyOnBackupComplete: true,
		Selectable: c.Selectable, SelectableForRestore: c.SelectableForRestore,
	})
	if err != nil {
		return err
	}
	for _, f := range c.Files {
		switch {
		case f.Log:
			err = doc.AddDatabaseLogFiles(c.LogicalPath, c.Name, f.Path, f.Pattern, f.BackupType)
		case c.Type == vss.ComponentTypeDatabase:
			err = doc.AddDatabaseFiles(c.LogicalPath, c.Name, f.Path, f.Pattern, f.BackupType)
		default:
			err = doc.AddFilesToFileGroup(c.LogicalPath, c.Name, f.FileSpec, f.AlternatePath, f.BackupType)
		}
		if err != nil {
			return err
		}
	}
	for _, d := range c.Dependencies {
		if err := doc.AddComponentDependency(c.LogicalPath, c.Name, d); err != nil {
			return err
		}
	}
	return nil
}

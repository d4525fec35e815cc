package systemd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sombra-backup/sombra/writer"
	"github.com/sombra-backup/sombra/writer/owner"
)

// Discover implements [writer.Kind]: a writer for each entry of the configuration,
// in a backup and in a restore. Its process runs as the owner of the first path,
// and reads nothing there but attributes.
func (Kind) Discover(_ context.Context, d writer.Discovery) ([]writer.Spec, error) {
	var specs []writer.Spec
	seen := map[string]bool{}
	for _, entry := range d.Configs {
		c, err := parseConfig(entry.Config)
		if err != nil {
			return nil, err
		}
		if seen[c.Unit] {
			return nil, fmt.Errorf("systemd configuration: unit %s stands twice; put all its paths into one entry", c.Unit)
		}
		seen[c.Unit] = true
		who, err := ownerOf(c.Paths[0])
		if err != nil {
			return nil, fmt.Errorf("systemd configuration of %s: %w", c.Unit, err)
		}
		specs = append(specs, writer.Spec{
			Kind: kindName, Name: nameOf(entry.Name, c), Owner: who, Config: entry.Config, Required: entry.Required, Unit: c.Unit, UnitConfigured: true,
		})
	}
	return specs, nil
}

// ownerOf is the owner of what lies at a path, or of the nearest directory above it
// that is there: what is to be restored may be gone.
func ownerOf(path string) (writer.Owner, error) {
	if os.Geteuid() != 0 {
		return owner.Of(uint32(os.Geteuid()), uint32(os.Getegid())), nil
	}
	for {
		real, err := filepath.EvalSymlinks(path)
		if err == nil {
			return owner.OfFile(real)
		}
		if !errors.Is(err, fs.ErrNotExist) || path == "/" {
			return writer.Owner{}, err
		}
		path = filepath.Dir(path)
	}
}

package hooks

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// Kind is the writer kind "hooks". The zero Kind is ready for use, by several
// goroutines at once.
//
// Scripts run with the rights of whoever started the service, root or not, and
// so only that user's and root's scripts are run.
type Kind struct{}

var _ writer.Kind = Kind{}

// kindName is the kind's word in the configuration.
const kindName = "hooks"

var classID = vss.MustParseGUID("4b3d0ce8-daaf-47a2-9ccc-4eb99f77f0c6")

// Name implements [writer.Kind].
func (Kind) Name() string { return kindName }

// Class implements [writer.Kind].
func (Kind) Class() vss.GUID { return classID }

// Discover implements [writer.Kind]: a writer for each configured directory
// and, for root only, one for /etc/sombra/hooks.d if scripts are in it, which is
// as good as configured: where paths are chosen, and for a copy of the whole
// machine, which has whatever the scripts bring to rest. Other directories with scripts, such as QEMU's, have another caller; they are used
// only if the configuration names them. Scripts have no part in a restore, so
// nothing is made for stored writers.
func (Kind) Discover(_ context.Context, d writer.Discovery) ([]writer.Spec, error) {
	return discover(d, DefaultDirectory)
}

func discover(d writer.Discovery, standard string) ([]writer.Spec, error) {
	owner, err := caller()
	if err != nil {
		return nil, err
	}
	var specs []writer.Spec
	configured := map[string]bool{}
	for _, entry := range d.Configs {
		c, err := parseConfig(entry.Config)
		if err != nil {
			return nil, err
		}
		if configured[c.Directory] {
			return nil, fmt.Errorf("hooks configuration: directory %s stands twice; put all its components into one entry", c.Directory)
		}
		configured[c.Directory] = true
		specs = append(specs, writer.Spec{
			Kind: kindName, Name: nameOf(entry.Name, c), Owner: owner, Config: entry.Config, Required: entry.Required,
		})
	}
	if !d.Auto || owner.UID != 0 || configured[standard] || len(d.Paths) == 0 && !d.Everywhere() {
		return specs, nil
	}
	names, err := scriptNames(standard)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(names) == 0 {
		return specs, nil
	}
	if err != nil {
		return nil, err
	}
	// Whoever put scripts there has configured them: they are not left out
	// because they take their time, nor because they cannot be run.
	return append(specs, writer.Spec{Kind: kindName, Name: standard, Owner: owner}), nil
}

// nameOf is the instance name: the configured one, else the directory.
func nameOf(name string, c config) string {
	if name != "" {
		return name
	}
	return c.Directory
}

// New implements [writer.Kind]. A directory without scripts, or scripts that
// others could change, are an error that names them.
func (Kind) New(_ context.Context, s writer.Spec) (writer.Writer, error) {
	c, err := parseConfig(s.Config)
	if err != nil {
		return nil, err
	}
	return newWriter(nameOf(s.Name, c), c)
}

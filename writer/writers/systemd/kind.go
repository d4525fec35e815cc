package systemd

import (
	"context"
	"fmt"

	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// Kind is the writer kind "systemd". The zero Kind is ready for use, by several
// goroutines at once.
type Kind struct{}

var _ writer.Kind = Kind{}

// kindName is the kind's word in the configuration.
const kindName = "systemd"

var classID = vss.MustParseGUID("8d1f6c52-3a97-4e0b-9b76-5c2e4f0a7d13")

// Name implements [writer.Kind].
func (Kind) Name() string { return kindName }

// Class implements [writer.Kind].
func (Kind) Class() vss.GUID { return classID }

// nameOf is the instance name: the configured one, else the unit.
func nameOf(name string, c config) string {
	if name != "" {
		return name
	}
	return c.Unit
}

// New implements [writer.Kind].
func (Kind) New(_ context.Context, s writer.Spec) (writer.Writer, error) {
	c, err := parseConfig(s.Config)
	if err != nil {
		return nil, err
	}
	unit, ok := s.Service.(writer.ServiceHolder)
	if !ok {
		return nil, fmt.Errorf("systemd writer %s: this process cannot reach its unit", c.Unit)
	}
	return newWriter(nameOf(s.Name, c), c, unit), nil
}

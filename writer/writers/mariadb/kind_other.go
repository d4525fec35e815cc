//go:build !linux

package mariadb

import (
	"context"
	"errors"

	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// Kind is the writer kind "mariadb". It serves servers on Linux only, as it finds
// and watches their processes by means that only Linux has.
type Kind struct{}

var _ writer.Kind = Kind{}

var errSystem = errors.New("the mariadb writer works on Linux only; elsewhere stop the server or back its files up unclaimed")

// Name implements [writer.Kind].
func (Kind) Name() string { return KindName }

// Class implements [writer.Kind].
func (Kind) Class() vss.GUID { return classID }

// Discover implements [writer.Kind]: it finds nothing, and a configured or
// stored writer is an error.
func (Kind) Discover(_ context.Context, d writer.Discovery) ([]writer.Spec, error) {
	if len(d.Configs) > 0 || len(d.Stored) > 0 {
		return nil, errSystem
	}
	return nil, nil
}

// New implements [writer.Kind] with an error.
func (Kind) New(context.Context, writer.Spec) (writer.Writer, error) { return nil, errSystem }

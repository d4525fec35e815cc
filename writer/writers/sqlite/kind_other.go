//go:build !linux

package sqlite

import (
	"context"
	"errors"

	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// Kind is the writer kind "sqlite". It serves databases on Linux only, as it
// watches SQLite's locks by means that only Linux has.
type Kind struct{}

var _ writer.Kind = Kind{}

var errSystem = errors.New("the sqlite writer works on Linux only; on Windows stop the application or back its files up unclaimed")

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

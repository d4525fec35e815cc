//go:build !linux

package redis

import (
	"context"
	"errors"

	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// Kind is the writer kind "redis". It serves servers on Linux only.
type Kind struct{}

var _ writer.Kind = Kind{}

var errSystem = errors.New("the redis writer works on Linux only")

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

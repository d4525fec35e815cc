//go:build !linux

package etcd

import (
	"context"
	"errors"
	"fmt"

	"github.com/sombra-backup/sombra/writer"
)

// Discover implements [writer.Kind]: servers are found on Linux only.
func (Kind) Discover(_ context.Context, d writer.Discovery) ([]writer.Spec, error) {
	if len(d.Configs) > 0 {
		return nil, fmt.Errorf("configuration of an etcd writer: %w on this system", errors.ErrUnsupported)
	}
	return nil, nil
}

// New implements [writer.Kind]; nothing is discovered that it could be called for.
func (Kind) New(context.Context, writer.Spec) (writer.Writer, error) {
	return nil, errors.ErrUnsupported
}

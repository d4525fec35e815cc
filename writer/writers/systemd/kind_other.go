//go:build !linux

package systemd

import (
	"context"
	"errors"
	"fmt"

	"github.com/sombra-backup/sombra/writer"
)

// Discover implements [writer.Kind]: units of systemd are on Linux only.
func (Kind) Discover(_ context.Context, d writer.Discovery) ([]writer.Spec, error) {
	if len(d.Configs) > 0 {
		return nil, fmt.Errorf("systemd configuration: %w on this system", errors.ErrUnsupported)
	}
	return nil, nil
}

//go:build !linux

package host

import (
	"context"
	"errors"
	"fmt"

	"github.com/sombra-backup/sombra/writer"
)

// Host exists on Linux only.
type Host struct{}

// Start returns an error that wraps [errors.ErrUnsupported].
func Start(_ context.Context, _ Options, specs []writer.Spec) (*Host, error) {
	if err := checkGroup(specs); err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("writer hosts run on Linux only: %w", errors.ErrUnsupported)
}

// Main returns 1.
func Main(context.Context, []writer.Kind) int { return 1 }

// The methods are never called, since there is no Host to call them on.

// Writers returns nothing.
func (*Host) Writers() []Writer { return nil }

// Errors returns nothing.
func (*Host) Errors() []error { return nil }

// PID returns 0.
func (*Host) PID() int { return 0 }

// Done returns nil.
func (*Host) Done() <-chan struct{} { return nil }

// Err returns nil.
func (*Host) Err() error { return nil }

// Kill does nothing.
func (*Host) Kill() {}

// Close returns nil.
func (*Host) Close(context.Context) error { return nil }

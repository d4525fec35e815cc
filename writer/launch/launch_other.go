//go:build !linux

package launch

import (
	"errors"
	"fmt"

	"github.com/sombra-backup/sombra/writer"
)

// Process exists on Linux only.
type Process struct{}

// PID returns 0.
func (*Process) PID() int { return 0 }

// Done returns nil.
func (*Process) Done() <-chan struct{} { return nil }

// Err returns nil.
func (*Process) Err() error { return nil }

// Environment returns nil.
func Environment() []string { return nil }

func start(_ writer.Spec, p Program) (*Process, error) {
	return nil, fmt.Errorf("start %s: %w", p.Path, errors.ErrUnsupported)
}

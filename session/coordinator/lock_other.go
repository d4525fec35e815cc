//go:build !unix

package coordinator

import (
	"os"

	"github.com/sombra-backup/sombra/vss"
)

// lockState is where hosts with a service of their own end: that service keeps
// sets apart, and the coordinator has nothing to do there.
func lockState(string) (*os.File, error) {
	return nil, vss.Errorf(vss.ErrNotSupported, "StartSnapshotSet", "", "this host has a shadow copy service of its own")
}

func lockFile(string) (*os.File, error) { return lockState("") }

func checkState(string) error { return nil }

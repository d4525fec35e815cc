//go:build unix

package coordinator

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/vss"
)

// lockState takes the lock that lets one run at a time make a set on this host.
// The kernel frees it when the process ends, however it ends.
func lockState(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return f, nil
	}
	f.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, vss.Errorf(vss.ErrSnapshotSetInProgress, "StartSnapshotSet", "",
			"another run holds %s; wait for its end", f.Name())
	}
	return nil, &os.PathError{Op: "flock", Path: f.Name(), Err: err}
}

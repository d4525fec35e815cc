//go:build unix

package coordinator

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/vss"
)

// checkState refuses a state directory that others can write to: what its journal
// names is deleted, with our rights.
func checkState(dir string) error {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return &os.PathError{Op: "stat", Path: dir, Err: err}
	}
	if uid := os.Geteuid(); int(st.Uid) != uid {
		return vss.Errorf(vss.ErrInvalidArgument, "open", "state directory "+dir,
			"it belongs to user %d and not to user %d; name another one, or change its owner", st.Uid, uid)
	}
	if st.Mode&0o022 != 0 {
		return vss.Errorf(vss.ErrInvalidArgument, "open", "state directory "+dir,
			"others may write to it (mode %04o); take that right away with chmod go-w", st.Mode&0o7777)
	}
	return nil
}

// lockState takes the lock that lets one run at a time make a set on this host.
// The kernel frees it when the process ends, however it ends.
func lockState(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := lockFile(filepath.Join(dir, "lock"))
	if errors.Is(err, errLocked) {
		return nil, vss.Errorf(vss.ErrSnapshotSetInProgress, "StartSnapshotSet", "",
			"another run holds %s; wait for its end", filepath.Join(dir, "lock"))
	}
	return f, err
}

// lockFile locks a file, which it makes, until the file is closed: errLocked if
// another has it.
func lockFile(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return f, nil
	}
	f.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, errLocked
	}
	return nil, &os.PathError{Op: "flock", Path: name, Err: err}
}

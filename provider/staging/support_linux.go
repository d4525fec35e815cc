package staging

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/vss"
)

// CanWalk gives VSS_E_VOLUME_NOT_SUPPORTED_BY_PROVIDER if the kernel cannot
// keep a walk from being led out of the volume whose root directory is open as
// root (openat2, Linux 5.6; some containers refuse it).
func CanWalk(v provider.Volume, name string, root int) error {
	fd, err := openOnce(root, ".", unix.O_PATH|unix.O_DIRECTORY)
	if err == unix.ENOSYS || err == unix.EPERM {
		return vss.Errorf(vss.ErrVolumeNotSupportedByProvider, name, v.Root, "the kernel does not let openat2 be used, without which a symbolic link could lead out of the volume: Linux 5.6 or a less strict container is needed")
	}
	if err != nil {
		return vss.Errorf(vss.ErrVolumeNotSupportedByProvider, name, v.Root, "%w", &os.PathError{Op: "open", Path: v.Root, Err: err})
	}
	return unix.Close(fd)
}

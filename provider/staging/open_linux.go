package staging

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/provider/area"
)

// longPath is a length up to which a path goes to the kernel in one piece.
const longPath = area.LongPath

// openBeneath opens what lies at path below the directory at; see
// [area.OpenBeneath].
func openBeneath(at int, path string, flags int) (int, error) {
	return area.OpenBeneath(at, path, flags)
}

// openOnce is openBeneath for a path short enough for the kernel.
func openOnce(at int, path string, flags int) (int, error) { return area.OpenAt(at, path, flags) }

// openToRead opens a regular file, if it may without setting its time of
// access. Should it have become something else, opening it does not wait.
func openToRead(at int, name string) (int, error) {
	const flags = unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY
	fd, err := openOnce(at, name, flags|unix.O_NOATIME)
	if err == unix.EPERM { // neither owner nor root
		fd, err = openOnce(at, name, flags)
	}
	return fd, err
}

// openDirectory opens a directory to list it.
func openDirectory(at int, path string) (int, error) {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NONBLOCK
	fd, err := openBeneath(at, path, flags|unix.O_NOATIME)
	if err == unix.EPERM {
		fd, err = openBeneath(at, path, flags)
	}
	if err == unix.EACCES { // it may still be passed through
		fd, err = openBeneath(at, path, unix.O_PATH|unix.O_DIRECTORY)
	}
	return fd, err
}

// vanished reports whether the error says that an object listed a moment ago
// is there no more, or is now something else: a socket, for one, cannot be
// opened (ENXIO), nor can a device without a driver.
func vanished(err error) bool {
	var errno unix.Errno
	if !errors.As(err, &errno) {
		return false
	}
	switch errno {
	case unix.ENOENT, unix.ENOTDIR, unix.ELOOP, unix.ESTALE, unix.ENXIO, unix.ENODEV:
		return true
	}
	return false
}

package staging

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"
)

// resolve keeps a path below where it starts: no links of any kind, no "..",
// no other mount.
const resolve = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV

// longPath is a length up to which a path goes to the kernel in one piece.
const longPath = 4000

// openBeneath opens what lies at path below the directory at, following no
// link and entering no mount. Paths may be longer than the kernel takes.
func openBeneath(at int, path string, flags int) (int, error) {
	fd := at
	for len(path) > longPath {
		cut := strings.LastIndexByte(path[:longPath], '/')
		next, err := openOnce(fd, path[:cut], unix.O_PATH|unix.O_DIRECTORY)
		if fd != at {
			unix.Close(fd)
		}
		if err != nil {
			return -1, err
		}
		fd, path = next, path[cut+1:]
	}
	got, err := openOnce(fd, path, flags)
	if fd != at {
		unix.Close(fd)
	}
	return got, err
}

func openOnce(at int, path string, flags int) (fd int, err error) {
	how := unix.OpenHow{Flags: uint64(flags) | unix.O_CLOEXEC | unix.O_NOFOLLOW, Resolve: resolve}
	for range 1000 { // EAGAIN: something was renamed meanwhile
		fd, err = unix.Openat2(at, path, &how)
		if err != unix.EINTR && err != unix.EAGAIN {
			break
		}
	}
	return fd, err
}

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

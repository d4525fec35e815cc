package area

import (
	"strings"

	"golang.org/x/sys/unix"
)

// Resolve keeps a path below where it starts: no links of any kind, no "..",
// no other mount. It is for openat2.
const Resolve = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV

// LongPath is a length up to which a path goes to the kernel in one piece.
const LongPath = 4000

// OpenBeneath opens what lies at path below the directory at, following no
// link and entering no mount. Paths may be longer than the kernel takes.
func OpenBeneath(at int, path string, flags int) (int, error) {
	fd := at
	for len(path) > LongPath {
		cut := strings.LastIndexByte(path[:LongPath], '/')
		if cut < 0 {
			if fd != at {
				unix.Close(fd)
			}
			return -1, unix.ENAMETOOLONG
		}
		next, err := OpenAt(fd, path[:cut], unix.O_PATH|unix.O_DIRECTORY)
		if fd != at {
			unix.Close(fd)
		}
		if err != nil {
			return -1, err
		}
		fd, path = next, path[cut+1:]
	}
	got, err := OpenAt(fd, path, flags)
	if fd != at {
		unix.Close(fd)
	}
	return got, err
}

// OpenAt is [OpenBeneath] for a path short enough for the kernel.
func OpenAt(at int, path string, flags int) (fd int, err error) {
	how := unix.OpenHow{Flags: uint64(flags) | unix.O_CLOEXEC | unix.O_NOFOLLOW, Resolve: Resolve}
	for range 1000 { // EAGAIN: something was renamed meanwhile
		fd, err = unix.Openat2(at, path, &how)
		if err != unix.EINTR && err != unix.EAGAIN {
			break
		}
	}
	return fd, err
}

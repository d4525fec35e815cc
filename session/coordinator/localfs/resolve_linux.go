package localfs

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// A nameError says why a name leads nowhere; kind is what errors.Is finds.
type nameError struct {
	text string
	kind error
}

func (e *nameError) Error() string { return e.text }
func (e *nameError) Unwrap() error { return e.kind }

var (
	errLink   = &nameError{"leads through a symbolic link", fs.ErrInvalid}
	errCross  = &nameError{"leads to another volume", fs.ErrInvalid}
	errName   = &nameError{"is not a name from the root: slash-separated elements, none of them empty, dot or dot-dot", fs.ErrInvalid}
	errNotDir = &nameError{"is not a directory, or lies below what is not", fs.ErrNotExist}
	errProc   = &nameError{"/proc is not mounted, and without it attributes cannot be reached", fs.ErrInvalid}
)

func pathError(op, name string, err error) error {
	if err == nil {
		return nil
	}
	switch err {
	case unix.ELOOP:
		err = errLink
	case unix.EXDEV:
		err = errCross
	case unix.ENOTDIR:
		err = errNotDir
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// checkName refuses what is no name of a tree. Unlike fs.ValidPath it lets any
// bytes be, as the file systems do.
func checkName(op, name string) error {
	if name == "." {
		return nil
	}
	for rest := name; ; {
		elem, after, more := strings.Cut(rest, "/")
		if elem == "" || elem == "." || elem == ".." || strings.IndexByte(elem, 0) >= 0 {
			return &fs.PathError{Op: op, Path: name, Err: errName}
		}
		if len(elem) > pieceMax { // file systems have their own bounds below this
			return &fs.PathError{Op: op, Path: name, Err: unix.ENAMETOOLONG}
		}
		if !more {
			return nil
		}
		rest = after
	}
}

// splitName gives the directory of a checked name, "." for the top, and its
// last element.
func splitName(name string) (dir, elem string) {
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		return name[:i], name[i+1:]
	}
	return ".", name
}

// haveOpenat2 asks the kernel once. Some sandboxes answer EPERM for calls they
// don't know.
var haveOpenat2 = sync.OnceValue(func() bool {
	fd, err := unix.Openat2(unix.AT_FDCWD, "/", &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS})
	if err == nil {
		unix.Close(fd)
	}
	return err != unix.ENOSYS && err != unix.EPERM
})

// base is a directory that names are opened from, and the rules by which.
type base struct {
	mu     sync.RWMutex // held while they are used, so that Close cannot let another file take their numbers
	fd     int
	own    int // the directory /proc/self/fd
	closed bool

	// oneVolume refuses names that lead to another volume. The rest tells
	// what this one is; subvolumes of btrfs differ by device alone.
	oneVolume bool
	btrfs     bool
	root      unix.Statx_t

	stepwise bool // as if there were no openat2
}

// newBase takes the descriptor over, also when it fails.
func newBase(fd int, oneVolume bool) (*base, error) {
	b := &base{fd: fd, oneVolume: oneVolume, stepwise: !haveOpenat2()}
	if err := statxFD(fd, &b.root); err != nil {
		unix.Close(fd)
		return nil, err
	}
	var s unix.Statfs_t
	if err := unix.Fstatfs(fd, &s); err != nil {
		unix.Close(fd)
		return nil, err
	}
	b.btrfs = s.Type == unix.BTRFS_SUPER_MAGIC
	var err error
	if b.own, err = openProc(); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return b, nil
}

// openProc opens the directory of this process's descriptors: to go there by its
// path takes as long as all else that opening a file does.
func openProc() (int, error) {
	for {
		fd, err := unix.Open("/proc/self/fd", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.ENOENT, err == unix.ENOTDIR:
			return -1, errProc
		case err != nil:
			return -1, err
		}
		var s unix.Statfs_t
		if err := unix.Fstatfs(fd, &s); err != nil || s.Type != unix.PROC_SUPER_MAGIC {
			unix.Close(fd)
			return -1, errProc
		}
		return fd, nil
	}
}

func (b *base) close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil
	}
	b.closed = true
	return errors.Join(unix.Close(b.fd), unix.Close(b.own))
}

// path is where the directory is now.
func (b *base) path() (string, error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.closed {
		return "", fs.ErrClosed
	}
	path, err := os.Readlink(procPath(b.fd))
	if err == nil && (!strings.HasPrefix(path, "/") || strings.HasSuffix(path, " (deleted)")) {
		err = &nameError{"is not there any more", fs.ErrNotExist}
	}
	return path, err
}

// pieceMax is the longest part of a name handed to the kernel at once.
const pieceMax = unix.PathMax - 1

// open opens a checked name. With O_PATH|O_NOFOLLOW a symbolic link itself is
// opened if it is the last element.
func (b *base) open(name string, flags int) (int, error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.closed {
		return -1, fs.ErrClosed
	}
	fd, err := b.openBelow(b.fd, name, flags)
	if err != nil || !b.oneVolume || !b.btrfs {
		return fd, err
	}
	// Going into a nested subvolume is no crossing of mounts.
	var sx unix.Statx_t
	if err := statxFD(fd, &sx); err == nil && b.sameDevice(&sx) {
		return fd, nil
	}
	unix.Close(fd)
	return -1, unix.EXDEV
}

func (b *base) openBelow(dir int, name string, flags int) (int, error) {
	if b.stepwise {
		return b.openSteps(dir, name, flags)
	}
	cur := dir
	for len(name) > pieceMax {
		cut := strings.LastIndexByte(name[:pieceMax+1], '/')
		next, err := b.openat2(cur, name[:cut], unix.O_PATH|unix.O_DIRECTORY)
		closeUnless(cur, dir)
		if err != nil {
			return -1, err
		}
		cur, name = next, name[cut+1:]
	}
	fd, err := b.openat2(cur, name, flags)
	closeUnless(cur, dir)
	return fd, err
}

func closeUnless(fd, kept int) {
	if fd != kept {
		unix.Close(fd)
	}
}

func (b *base) openat2(dir int, name string, flags int) (int, error) {
	how := unix.OpenHow{
		Flags:   uint64(flags) | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	}
	if b.oneVolume {
		how.Resolve |= unix.RESOLVE_NO_XDEV
	}
	for again := 0; ; again++ {
		fd, err := unix.Openat2(dir, name, &how)
		// EAGAIN: something was renamed or mounted meanwhile, and the
		// kernel cannot vouch for the result.
		if err == unix.EINTR || err == unix.EAGAIN && again < 1000 {
			continue
		}
		return fd, err
	}
}

// openSteps does without openat2: one element at a time, none of them a link.
func (b *base) openSteps(dir int, name string, flags int) (int, error) {
	cur := dir
	for {
		elem, rest, more := strings.Cut(name, "/")
		step := flags
		if more {
			step = unix.O_PATH | unix.O_DIRECTORY
		}
		next, err := openElem(cur, elem, step)
		if err == nil {
			err = b.checkStep(next)
		}
		closeUnless(cur, dir)
		if err != nil {
			if next >= 0 {
				unix.Close(next)
			}
			return -1, err
		}
		if !more {
			return next, nil
		}
		cur, name = next, rest
	}
}

// openElem opens one element, and tells a link by ELOOP as openat2 does.
func openElem(dir int, elem string, flags int) (int, error) {
	for {
		fd, err := unix.Openat(dir, elem, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err == unix.EINTR {
			continue
		}
		if err == unix.ENOTDIR {
			var sx unix.Statx_t
			if statxAt(dir, elem, &sx) == nil && sx.Mode&unix.S_IFMT == unix.S_IFLNK {
				err = unix.ELOOP
			}
		}
		if err == nil && flags&unix.O_PATH != 0 && flags&unix.O_NOFOLLOW == 0 {
			var sx unix.Statx_t
			if statxFD(fd, &sx) == nil && sx.Mode&unix.S_IFMT == unix.S_IFLNK {
				unix.Close(fd)
				return -1, unix.ELOOP
			}
		}
		return fd, err
	}
}

// checkStep is RESOLVE_NO_XDEV.
func (b *base) checkStep(fd int) error {
	if !b.oneVolume {
		return nil
	}
	var sx unix.Statx_t
	if err := statxFD(fd, &sx); err != nil {
		return err
	}
	if !b.sameMount(&sx) {
		return unix.EXDEV
	}
	return nil
}

func (b *base) sameDevice(sx *unix.Statx_t) bool {
	return sx.Dev_major == b.root.Dev_major && sx.Dev_minor == b.root.Dev_minor
}

func (b *base) sameMount(sx *unix.Statx_t) bool {
	if sx.Mask&b.root.Mask&unix.STATX_MNT_ID != 0 {
		return sx.Mnt_id == b.root.Mnt_id
	}
	return b.sameDevice(sx)
}

// openDir opens a directory for lookups in it.
func (b *base) openDir(name string) (int, error) {
	return b.open(name, unix.O_PATH|unix.O_DIRECTORY)
}

// parent opens the directory of a name. The root's own parent is itself, its
// element ".".
func (b *base) parent(name string) (fd int, elem string, err error) {
	dir, elem := splitName(name)
	fd, err = b.openDir(dir)
	return fd, elem, err
}

// openRegular opens a regular file, and nothing else, whatever stands at the
// name a moment later, and describes it as it was before. Flags are for the
// second opening.
func (b *base) openRegular(name string, flags int, sx *unix.Statx_t) (int, error) {
	path, err := b.open(name, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return -1, err
	}
	defer unix.Close(path)
	if err := statxFD(path, sx); err != nil {
		return -1, err
	}
	if sx.Mode&unix.S_IFMT != unix.S_IFREG {
		if sx.Mode&unix.S_IFMT == unix.S_IFLNK {
			return -1, unix.ELOOP
		}
		return -1, &nameError{"is " + kindOf(sx.Mode) + ", not a regular file", fs.ErrInvalid}
	}
	return b.reopen(path, flags)
}

// reopen opens what an O_PATH descriptor stands for.
func (b *base) reopen(path, flags int) (int, error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.closed {
		return -1, fs.ErrClosed
	}
	number := strconv.Itoa(path)
	for {
		fd, err := unix.Openat(b.own, number, flags|unix.O_CLOEXEC, 0)
		switch {
		case err == unix.EINTR:
		case err == unix.EPERM && flags&unix.O_NOATIME != 0:
			flags &^= unix.O_NOATIME // only the owner and root may
		default:
			return fd, err
		}
	}
}

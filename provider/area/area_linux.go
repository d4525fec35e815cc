package area

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/vss"
)

// Dir is an open area. It may be used by several goroutines.
type Dir struct {
	file *os.File
	path string
}

// Open opens an area that is there: fs.ErrNotExist if it isn't,
// VSS_E_PROVIDER_VETO if it is somebody else's or a symbolic link.
func Open(path string) (*Dir, error) {
	parent, base, err := split(path)
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	return openIn(parent, base, path)
}

// Make opens an area, and makes its last element if that is absent.
func Make(path string) (*Dir, error) {
	parent, base, err := split(path)
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	if err := unix.Mkdirat(int(parent.Fd()), base, 0o700); err != nil && err != unix.EEXIST {
		return nil, Failure("make", path, err)
	}
	return openIn(parent, base, path)
}

// Open opens the directory of one copy.
func (d *Dir) Open(name string) (*Dir, error) {
	return openIn(d.file, name, filepath.Join(d.path, name))
}

// Check tells in words why what is at the path of an area cannot be one, before
// anything is made. An absent one is as good as one that is there.
func Check(path string) error {
	var st unix.Stat_t
	switch err := unix.Lstat(path, &st); err {
	case nil:
	case unix.ENOENT, unix.ENOTDIR:
		return nil
	default:
		return &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return errIrregular(path)
	}
	return checkOwner(path, st.Uid)
}

func errIrregular(path string) error {
	return fmt.Errorf("%s is not a directory; move it away", path)
}

func checkOwner(path string, uid uint32) error {
	if int(uid) == os.Geteuid() {
		return nil
	}
	return fmt.Errorf("%s belongs to user %d and not to user %d, who makes the shadow copy; move it away", path, uid, os.Geteuid())
}

func split(path string) (parent *os.File, base string, err error) {
	dir, base := filepath.Split(filepath.Clean(path))
	if !filepath.IsAbs(path) || base == "" {
		return nil, "", vss.Errorf(vss.ErrInvalidArgument, "open area", path, "an area is an absolute path of a directory")
	}
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, "", Failure("open", dir, err)
	}
	return os.NewFile(uintptr(fd), dir), base, nil
}

func openIn(parent *os.File, base, path string) (*Dir, error) {
	fd, err := unix.Openat(int(parent.Fd()), base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == unix.ELOOP || err == unix.ENOTDIR {
		return nil, vss.Errorf(vss.ErrProviderVeto, "open area", path, "%w", errIrregular(path))
	}
	if err != nil {
		return nil, Failure("open", path, err)
	}
	d := &Dir{os.NewFile(uintptr(fd), path), path}
	if err := d.makePrivate(); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// makePrivate checks that the directory is the caller's, and sees to it that it
// is nobody else's to read. Where the file system knows no permissions, the
// mount options decide for the volume and for the copies on it alike; then it
// is enough that nobody else can write.
func (d *Dir) makePrivate() error {
	var st unix.Stat_t
	if err := unix.Fstat(d.Fd(), &st); err != nil {
		return Failure("stat", d.path, err)
	}
	if err := checkOwner(d.path, st.Uid); err != nil {
		return vss.Errorf(vss.ErrProviderVeto, "open area", d.path, "%w", err)
	}
	if st.Mode&0o777 == 0o700 {
		return nil
	}
	err := unix.Fchmod(d.Fd(), 0o700)
	if err == nil || st.Mode&0o022 == 0 && !hasPermissions(d.Fd()) {
		return nil
	}
	return Failure("make private", d.path, err)
}

// hasPermissions reports whether files on fd's file system have modes.
func hasPermissions(fd int) bool {
	const exfat, ntfs3 = 0x2011bab0, 0x7366746e
	var s unix.Statfs_t
	if unix.Fstatfs(fd, &s) != nil {
		return true
	}
	switch s.Type {
	case unix.MSDOS_SUPER_MAGIC, exfat, ntfs3:
		return false
	}
	return true
}

// Fd is the directory's descriptor, valid until Close.
func (d *Dir) Fd() int { return int(d.file.Fd()) }

// Path is the path the area was opened by.
func (d *Dir) Path() string { return d.path }

// Close closes the descriptor.
func (d *Dir) Close() error { return d.file.Close() }

// Mkdir makes the directory of one copy, mode 0700. If the area itself was
// removed meanwhile (see [Retire]) the error is fs.ErrNotExist; if the copy is
// there already, VSS_E_OBJECT_ALREADY_EXISTS.
func (d *Dir) Mkdir(name string) error {
	err := unix.Mkdirat(d.Fd(), name, 0o700)
	if err == unix.EEXIST {
		return vss.Errorf(vss.ErrObjectAlreadyExists, "make shadow copy", filepath.Join(d.path, name), "")
	}
	if err != nil {
		return Failure("make", filepath.Join(d.path, name), err)
	}
	return nil
}

// MakeCopy makes the area and in it the directory of one copy, and opens the
// area.
func MakeCopy(path, name string) (*Dir, error) {
	var d *Dir
	var err error
	// Another copy that was the last one may take the area away just
	// between the two steps.
	for range 1000 {
		if d, err = Make(path); err == nil {
			if err = d.Mkdir(name); err == nil {
				return d, nil
			}
			d.Close()
		}
		if !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	return nil, err
}

// Nearest opens the area or, if it is absent, the directory nearest above it
// that is there: to learn about the file system the area will be on.
func Nearest(path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK, 0)
		if !errors.Is(err, os.ErrNotExist) || path == "/" || path == "." {
			return f, err
		}
		path = filepath.Dir(path)
	}
}

// Retire removes the area if nothing is in it.
func Retire(path string) { unix.Rmdir(path) }

// Free is the room in bytes that is left to users other than root.
func (d *Dir) Free() (uint64, error) {
	var s unix.Statfs_t
	if err := unix.Fstatfs(d.Fd(), &s); err != nil {
		return 0, Failure("statfs", d.path, err)
	}
	return s.Bavail * uint64(s.Bsize), nil
}

// NeedRoom gives VSS_E_INSUFFICIENT_STORAGE if less than need bytes are free.
func (d *Dir) NeedRoom(op string, need uint64) error {
	free, err := d.Free()
	if err != nil {
		return err
	}
	if free < need {
		return vss.Errorf(vss.ErrInsufficientStorage, op, d.path, "the shadow copy needs %s and %s are free: free %s there",
			Size(need), Size(free), Size(need-free))
	}
	return nil
}

// IsFull reports whether an error means a full file system or quota.
func IsFull(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}

// Failure gives an error from the system that a provider must be ready for its
// code: VSS_E_INSUFFICIENT_STORAGE if there is no room, else
// VSS_E_PROVIDER_VETO. An error that has a code, or says that a context has
// ended, stays as it is.
func Failure(op, object string, err error) error {
	var coded *vss.Error
	if errors.As(err, &coded) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	switch {
	case IsFull(err):
		return vss.Errorf(vss.ErrInsufficientStorage, op, object, "%w", err)
	case errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM):
		return vss.Errorf(vss.ErrProviderVeto, op, object, "%w for user %d", err, os.Geteuid())
	}
	return vss.Errorf(vss.ErrProviderVeto, op, object, "%w", err)
}

// Size writes a number of bytes for people.
func Size(n uint64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d bytes", n)
	}
	v, u := float64(n)/1024, 0
	for v >= 1024 && u < len(units)-1 {
		v /= 1024
		u++
	}
	return fmt.Sprintf("%.1f %ciB", v, units[u])
}

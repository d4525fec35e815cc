package area

import (
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
		return nil, NoRoom(&os.PathError{Op: "mkdir", Path: path, Err: err}, path)
	}
	return openIn(parent, base, path)
}

func split(path string) (parent *os.File, base string, err error) {
	dir, base := filepath.Split(filepath.Clean(path))
	if !filepath.IsAbs(path) || base == "" {
		return nil, "", vss.Errorf(vss.ErrInvalidArgument, "open area", path, "an area is an absolute path of a directory")
	}
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, "", &os.PathError{Op: "open", Path: dir, Err: err}
	}
	return os.NewFile(uintptr(fd), dir), base, nil
}

func openIn(parent *os.File, base, path string) (*Dir, error) {
	fd, err := unix.Openat(int(parent.Fd()), base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == unix.ELOOP || err == unix.ENOTDIR {
		return nil, vss.Errorf(vss.ErrProviderVeto, "open area", path, "it is not a directory; move it away")
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	d := &Dir{os.NewFile(uintptr(fd), path), path}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		d.Close()
		return nil, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if int(st.Uid) != os.Geteuid() {
		d.Close()
		return nil, vss.Errorf(vss.ErrProviderVeto, "open area", path, "it belongs to user %d and not to user %d, who makes the shadow copy; move it away", st.Uid, os.Geteuid())
	}
	if st.Mode&0o777 != 0o700 {
		if err := unix.Fchmod(fd, 0o700); err != nil {
			d.Close()
			return nil, &os.PathError{Op: "chmod", Path: path, Err: err}
		}
	}
	return d, nil
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
		return NoRoom(&os.PathError{Op: "mkdir", Path: filepath.Join(d.path, name), Err: err}, d.path)
	}
	return nil
}

// MakeCopy makes the area and in it the directory of one copy, and opens both.
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
		return 0, &os.PathError{Op: "statfs", Path: d.path, Err: err}
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

// NoRoom turns an error that means a full file system or quota into
// VSS_E_INSUFFICIENT_STORAGE, and leaves any other as it is.
func NoRoom(err error, object string) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return vss.Errorf(vss.ErrInsufficientStorage, "make shadow copy", object, "%w", err)
	}
	return err
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

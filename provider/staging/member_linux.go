package staging

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/provider/area"
	"github.com/sombra-backup/sombra/vss"
)

// Member is a file in a finished copy, open for reading.
type Member struct {
	File *os.File
	copy *area.Dir
	path string
}

// OpenMember opens the file at a path of a finished copy. VSS_E_NOT_SUPPORTED
// says that the copy is gone, or the file not in it, or not as it was when the
// copy was finished: what a comparison with it told would be worth nothing.
func OpenMember(ref provider.Ref, path string) (*Member, error) {
	dir, err := area.Open(copyPath(ref))
	if err != nil {
		return nil, notThere(ref, path, err)
	}
	m := &Member{copy: dir, path: path}
	tree, err := area.OpenBeneath(dir.Fd(), treeName, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		m.Close()
		return nil, notThere(ref, path, err)
	}
	defer unix.Close(tree)
	fd, err := area.OpenBeneath(tree, path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		m.Close()
		return nil, notThere(ref, path, err)
	}
	m.File = os.NewFile(uintptr(fd), filepath.Join(copyPath(ref), treeName, path))
	if err := m.Untouched(); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// Close closes what is open.
func (m *Member) Close() {
	if m.File != nil {
		m.File.Close()
	}
	m.copy.Close()
}

// Untouched gives VSS_E_NOT_SUPPORTED if the file was changed after the copy was
// finished, which is when its manifest was written, or is gone.
func (m *Member) Untouched() error {
	manifest, err := statAt(m.copy.Fd(), provider.ManifestName)
	if err == unix.ENOENT {
		return notComparable(m.path, "the shadow copy %s is not finished", filepath.Base(m.copy.Path()))
	}
	if err != nil {
		return area.Failure("stat", m.copy.Path(), err)
	}
	now, err := statAt(int(m.File.Fd()), "")
	if err != nil {
		return area.Failure("stat", m.File.Name(), err)
	}
	if !now.isRegular() {
		return notComparable(m.path, "it is no regular file")
	}
	if now.nlink == 0 || goTime(now.ctime).After(goTime(manifest.mtime)) {
		return notComparable(m.path, "it was changed in the copy after that was made")
	}
	return nil
}

func notComparable(path, format string, args ...any) error {
	return vss.Errorf(vss.ErrNotSupported, "compare", path, format, args...)
}

// notThere gives the reason why a file cannot be compared its code. Faults of
// the system stay what they are.
func notThere(ref provider.Ref, path string, err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EXDEV) || errors.Is(err, unix.ENAMETOOLONG) || vanished(err) {
		return notComparable(path, "it is not in the shadow copy %s: %w", ref.SnapshotID, err)
	}
	return err
}

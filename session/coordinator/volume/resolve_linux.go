package volume

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// maxPath bounds a path asked about. The kernel takes no longer ones.
const maxPath = unix.PathMax

// Resolve finds the volume that an absolute path is on, and its name there. The
// path need not exist: the nearest parent that does decides. Links in the
// directories above are followed, the last element is not; if it is a mount
// point or the root of a subvolume, the path is the root of that volume.
//
// Errors are fs.ErrPermission where a directory may not be looked into,
// fs.ErrInvalid for what is not an absolute path, and
// VSS_E_VOLUME_NOT_SUPPORTED for a place that has no name on a volume.
func (t *Table) Resolve(ctx context.Context, name string) (session.Location, provider.Volume, error) {
	if !path.IsAbs(name) || strings.IndexByte(name, 0) >= 0 || len(name) >= maxPath {
		return session.Location{}, provider.Volume{}, &fs.PathError{Op: "resolve", Path: name, Err: fs.ErrInvalid}
	}
	p, rest, err := openNearest(name)
	if err != nil {
		return session.Location{}, provider.Volume{}, &fs.PathError{Op: "resolve", Path: name, Err: err}
	}
	defer p.close()
	clean := path.Clean(rest)
	if strings.HasPrefix(clean, "../") || clean == ".." || strings.Contains(rest, "..") && clean != rest {
		// Beyond what exists dot-dot can only be a matter of text, and
		// what is left of it may exist.
		p.close()
		return t.Resolve(ctx, path.Join(p.real, rest))
	}
	v, inside, err := t.volumeOf(ctx, p)
	if err != nil {
		return session.Location{}, provider.Volume{}, fmt.Errorf("resolve %s: %w", name, err)
	}
	full := path.Join(p.real, clean)
	if !hasDots(name) {
		full = path.Clean(name)
	}
	return session.Location{Volume: v.ID, Name: joinName(inside, clean), Path: full}, v, nil
}

// hasDots reports whether a path has an element dot-dot, so that cleaning it
// may lead elsewhere than the kernel would go.
func hasDots(name string) bool {
	for elem := range strings.SplitSeq(name, "/") {
		if elem == ".." {
			return true
		}
	}
	return false
}

// spot is an object that exists: its descriptor (O_PATH), its path without
// links, and what statx says of it.
type spot struct {
	fd     int
	real   string
	stat   unix.Statx_t
	closed bool
}

func (p *spot) close() {
	if !p.closed {
		p.closed = true
		unix.Close(p.fd)
	}
}

func (p *spot) isDir() bool { return p.stat.Mode&unix.S_IFMT == unix.S_IFDIR }

// openNearest opens what a path leads to, or the nearest directory above it
// that is there; rest is what is missing, "." if nothing.
func openNearest(name string) (*spot, string, error) {
	follow := unix.O_NOFOLLOW
	rest := "."
	for {
		p, err := openSpot(name, follow)
		if err == nil {
			return p, rest, nil
		}
		if err != unix.ENOENT && err != unix.ENOTDIR && err != unix.ENAMETOOLONG || name == "/" {
			return nil, "", err
		}
		name = strings.TrimRight(name, "/")
		i := strings.LastIndexByte(name, '/')
		if name == "" || i < 0 {
			name = "/"
			continue
		}
		rest = joinMissing(name[i+1:], rest)
		if name = name[:i]; name == "" {
			name = "/"
		}
		follow = 0
	}
}

func joinMissing(elem, rest string) string {
	if rest == "." {
		return elem
	}
	return elem + "/" + rest
}

func openSpot(name string, flags int) (*spot, error) {
	fd, err := unix.Open(name, unix.O_PATH|unix.O_CLOEXEC|flags, 0)
	for err == unix.EINTR {
		fd, err = unix.Open(name, unix.O_PATH|unix.O_CLOEXEC|flags, 0)
	}
	if err != nil {
		return nil, err
	}
	p := &spot{fd: fd}
	if err := statx(fd, "", unix.AT_EMPTY_PATH, &p.stat); err != nil {
		p.close()
		return nil, err
	}
	if p.real, err = os.Readlink("/proc/self/fd/" + strconv.Itoa(fd)); err != nil {
		p.close()
		return nil, err
	}
	if !strings.HasPrefix(p.real, "/") || p.stat.Nlink == 0 {
		p.close()
		return nil, unix.ENOENT // removed, or out of this process's root
	}
	return p, nil
}

func statx(dir int, name string, flags int, sx *unix.Statx_t) error {
	for {
		err := unix.Statx(dir, name, flags|unix.AT_NO_AUTOMOUNT, unix.STATX_BASIC_STATS|unix.STATX_MNT_ID, sx)
		if err != unix.EINTR {
			return err
		}
	}
}

func lstat(name string, sx *unix.Statx_t) error {
	return statx(unix.AT_FDCWD, name, unix.AT_SYMLINK_NOFOLLOW, sx)
}

func sameObject(a, b *unix.Statx_t) bool {
	return a.Ino == b.Ino && a.Dev_major == b.Dev_major && a.Dev_minor == b.Dev_minor
}

// volumeOf finds the volume of an object and its name there.
func (t *Table) volumeOf(ctx context.Context, p *spot) (provider.Volume, string, error) {
	s := t.now()
	m := s.mountOf(p)
	if m == nil {
		if err := t.reload(ctx); err != nil {
			return provider.Volume{}, "", err
		}
		s = t.now()
		if m = s.mountOf(p); m == nil {
			return provider.Volume{}, "", vss.Errorf(vss.ErrVolumeNotSupported, "find the volume of", p.real,
				"its file system is not in this process's list of mounts; a chroot must be a mount point")
		}
	}
	if strings.HasSuffix(m.root, "//deleted") || strings.HasPrefix(m.root, "/..") {
		return provider.Volume{}, "", vss.Errorf(vss.ErrVolumeNotSupported, "find the volume of", p.real,
			"the directory mounted on %s has been removed from its file system", m.point)
	}
	if m.fsType == "btrfs" {
		return t.subvolumeOf(s, m, p)
	}
	view, err := s.viewOf(m, p)
	if err != nil {
		return provider.Volume{}, "", err
	}
	v := view.describe(s.uuid(view), view.root, view.point)
	return v, relative(joinPath(m.root, relative(p.real, m.point)), view.root), nil
}

// mountOf finds the mount an object is on; nil if it is not in the table.
func (s *mounts) mountOf(p *spot) *mount {
	var m *mount
	if p.stat.Mask&unix.STATX_MNT_ID != 0 {
		m = s.byID[int(p.stat.Mnt_id)]
	} else {
		m = s.at(p.real)
	}
	if m == nil || !isBelow(p.real, m.point) {
		return nil
	}
	return m
}

// viewOf chooses, of the mounts that show an object, the one that shows most of
// the file system, so that an object has one name however it was reached.
func (s *mounts) viewOf(m *mount, p *spot) (*mount, error) {
	inside := joinPath(m.root, relative(p.real, m.point))
	for _, c := range s.sameFS(m) {
		if !isBelow(inside, c.root) {
			continue
		}
		if c == m || s.shows(c, inside, p) {
			m = c
			break
		}
	}
	if m.root == "/" {
		return m, nil
	}
	var root unix.Statx_t
	if err := lstat(m.point, &root); err != nil {
		return nil, &fs.PathError{Op: "describe", Path: m.point, Err: err}
	}
	if root.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil, vss.Errorf(vss.ErrVolumeNotSupported, "find the volume of", p.real,
			"a single file is mounted there, and no directory of its file system can be seen from here")
	}
	return m, nil
}

// shows reports whether the object can be reached through the mount c too; it
// cannot where something else is mounted over it there.
func (s *mounts) shows(c *mount, inside string, p *spot) bool {
	var sx unix.Statx_t
	name := joinPath(c.point, relative(inside, c.root))
	if lstat(name, &sx) != nil || !sameObject(&sx, &p.stat) {
		return false
	}
	if sx.Mask&unix.STATX_MNT_ID != 0 {
		return int(sx.Mnt_id) == c.id
	}
	return s.at(name) == c
}

// errNotFound is for an id that names no volume now.
func errNotFound(id string) error {
	return vss.Errorf(vss.ErrObjectNotFound, "find volume", id, "no such volume is mounted where this process can see it")
}

// Volume finds a volume by its id: VSS_E_OBJECT_NOT_FOUND if it is not mounted
// now, or cannot be seen. Its Root is the place that shows most of it, or, of a
// btrfs subvolume that is not mounted by itself, any of those where it appears.
func (t *Table) Volume(ctx context.Context, id string) (provider.Volume, error) {
	s := t.now()
	if seen := t.hint(id); seen != "" {
		if v, err := t.volumeAt(ctx, seen); err == nil && v.ID == id {
			return v, nil
		}
	}
	if n, ok := strings.CutPrefix(id, byMount); ok {
		return s.volumeOfMount(id, n)
	}
	base, dir, part := strings.Cut(id, ":")
	if !part {
		dir = "/"
	}
	fsID, subvol, isSubvol := strings.Cut(base, "/")
	for _, m := range s.visible {
		if !m.hasUUID() || s.uuid(m) != fsID {
			continue
		}
		if isSubvol != (m.fsType == "btrfs") {
			break
		}
		if isSubvol {
			return t.findSubvolume(ctx, s, m, id, subvol, dir, part)
		}
		for _, c := range s.sameFS(m) {
			if c.root == dir {
				return c.describe(fsID, dir, c.point), nil
			}
		}
		break
	}
	return provider.Volume{}, errNotFound(id)
}

func (s *mounts) volumeOfMount(id, number string) (provider.Volume, error) {
	n, err := strconv.Atoi(number)
	m := s.byID[n]
	if err != nil || m == nil || s.at(m.point) != m || s.uuid(m) != "" {
		return provider.Volume{}, errNotFound(id)
	}
	return m.describe("", m.root, m.point), nil
}

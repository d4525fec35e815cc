package volume

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/provider/providers/btrfs"
	"github.com/sombra-backup/sombra/vss"
)

// subvolumeRoot is the inode of every subvolume's root directory.
const subvolumeRoot = 256

// subvolumeOf finds the subvolume an object lies in and its name there.
func (t *Table) subvolumeOf(s *mounts, m *mount, p *spot) (provider.Volume, string, error) {
	top, on := rootAbove(p, m.point), m
	at := p.real
	if top == "" {
		// Only a part of the subvolume is mounted here; perhaps the whole
		// is elsewhere.
		inside := joinPath(m.root, relative(p.real, m.point))
		for _, c := range s.sameFS(m) {
			if c == m || !isBelow(inside, c.root) || !s.shows(c, inside, p) {
				continue
			}
			at = joinPath(c.point, relative(inside, c.root))
			if top = rootAbove(&spot{real: at, stat: p.stat}, c.point); top != "" {
				on = c
				break
			}
		}
	}
	if top == "" {
		return s.partOf(m, p)
	}
	base, err := s.subvolumeID(on, top)
	if err != nil {
		return provider.Volume{}, "", err
	}
	v := on.describe(base, "/", top)
	s.preferMount(&v, on)
	v.ReadOnly = v.ReadOnly || isReadOnlySubvolume(v.Root)
	t.remember(v.ID, v.Root)
	return v, relative(at, top), nil
}

// rootAbove goes from an object up to the root directory of its subvolume;
// empty if the mount at point does not show it.
func rootAbove(p *spot, point string) string {
	dir, first := p.real, p.isDir()
	for {
		var sx unix.Statx_t
		if first && lstat(dir, &sx) == nil && sx.Ino == subvolumeRoot && sx.Mode&unix.S_IFMT == unix.S_IFDIR {
			return dir
		}
		if dir == point || dir == "/" {
			return ""
		}
		dir, first = path.Dir(dir), true
	}
}

// subvolumeID is the id of the subvolume with the root directory top.
func (s *mounts) subvolumeID(m *mount, top string) (string, error) {
	fd, err := unix.Open(top, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", &fs.PathError{Op: "identify subvolume", Path: top, Err: err}
	}
	defer unix.Close(fd)
	sub, err := btrfs.SubvolumeUUID(fd)
	if err != nil {
		return "", fmt.Errorf("identify subvolume %s: %w", top, err)
	}
	u := s.uuid(m)
	if u == "" {
		u = byMount + strconv.Itoa(m.id) // of two with one UUID the second
	}
	return u + "/" + formatUUID(sub), nil
}

// preferMount has a subvolume that is mounted by itself seen at its mount point
// rather than through the mount of one above it.
func (s *mounts) preferMount(v *provider.Volume, on *mount) {
	var want unix.Statx_t
	if lstat(v.Root, &want) != nil {
		return
	}
	var best *mount
	for _, c := range s.sameFS(on) {
		var sx unix.Statx_t
		if lstat(c.point, &sx) == nil && sameObject(&sx, &want) && (best == nil || best.readOnly && !c.readOnly) {
			best = c
		}
	}
	if best != nil {
		v.Root, v.Source, v.ReadOnly = best.point, best.source, best.readOnly
	}
}

// partOf names a directory of a subvolume whose root cannot be seen.
func (s *mounts) partOf(m *mount, p *spot) (provider.Volume, string, error) {
	view, err := s.viewOf(m, p)
	if err != nil {
		return provider.Volume{}, "", err
	}
	base, err := s.subvolumeID(view, view.point)
	if err != nil {
		return provider.Volume{}, "", err
	}
	v := view.describe(base, view.root, view.point)
	return v, relative(joinPath(m.root, relative(p.real, m.point)), view.root), nil
}

func isReadOnlySubvolume(root string) bool {
	fd, err := unix.Open(root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	var flags uint64
	const readOnly = 1 << 1 // BTRFS_SUBVOL_RDONLY
	return ioctl(fd, btrfsIocGetFlags, unsafe.Pointer(&flags)) == nil && flags&readOnly != 0
}

// findSubvolume finds a subvolume by its UUID: where it was seen last, where it
// is mounted, or nested below a mount.
func (t *Table) findSubvolume(ctx context.Context, s *mounts, m *mount, id, subvol, dir string, part bool) (provider.Volume, error) {
	base := s.uuid(m) + "/" + subvol
	list := s.sameFS(m)
	if part {
		for _, c := range list {
			if got, err := s.subvolumeID(c, c.point); c.root == dir && err == nil && got == base {
				return c.describe(base, dir, c.point), nil
			}
		}
		return provider.Volume{}, errNotFound(id)
	}
	for _, c := range list {
		if v, err := t.volumeAt(ctx, c.point); err == nil && v.ID == id {
			return v, nil
		}
	}
	for _, c := range list {
		v, err := t.findNested(ctx, c, id, subvol)
		if err != nil || v.ID == id {
			return v, err
		}
	}
	return provider.Volume{}, errNotFound(id)
}

// findNested looks for a subvolume below one mount. Where the mount shows only
// a part of a subvolume, the kernel has no list.
func (t *Table) findNested(ctx context.Context, m *mount, id, subvol string) (provider.Volume, error) {
	nested, err := btrfs.Subvolumes(ctx, m.point)
	if err == nil {
		for _, n := range nested {
			if n.Err == nil && formatUUID(n.UUID) == subvol {
				return t.volumeAt(ctx, joinPath(m.point, n.Path))
			}
		}
		return provider.Volume{}, nil
	}
	if err := ctx.Err(); err != nil {
		return provider.Volume{}, err
	}
	places, err := t.nestedByWalk(ctx, m.point)
	if err != nil {
		return provider.Volume{}, err
	}
	for _, p := range places {
		if p.Volume.ID == id {
			return p.Volume, nil
		}
	}
	return provider.Volume{}, nil
}

// volumeAt is the volume whose root is at a path.
func (t *Table) volumeAt(ctx context.Context, root string) (provider.Volume, error) {
	p, err := openSpot(root, unix.O_NOFOLLOW)
	if err != nil {
		return provider.Volume{}, &fs.PathError{Op: "find the volume at", Path: root, Err: err}
	}
	defer p.close()
	v, name, err := t.volumeOf(ctx, p)
	if err == nil && name != "." {
		err = vss.Errorf(vss.ErrObjectNotFound, "find volume", root, "this is not the root of a volume")
	}
	return v, err
}

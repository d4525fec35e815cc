package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/provider/providers/btrfs"
	"github.com/sombra-backup/sombra/session"
)

// Place is where a volume, or a part of one, appears below a path.
type Place struct {
	// Location has the path at which it appears, and the volume and the name
	// on it that are seen there: "." unless a directory was bound.
	session.Location
	Volume provider.Volume
	// Pseudo: proc, sysfs and their like, which hold nobody's data.
	Pseudo bool
	// Remote: another machine, or a process, answers for it. It was not
	// asked.
	Remote bool
	// Nested: a btrfs subvolume that is not mounted by itself; Snapshot: one
	// that is a read-only snapshot of another.
	Nested, Snapshot bool
	// Err tells why no more than the path is known.
	Err error
}

// Under lists what is mounted below a path, and on btrfs the subvolumes nested
// there, ordered by path, without the volume the path itself is on. Mounts that
// others hide are left out, and so are subvolumes in a volume's area. The same
// volume can be in the list several times. Nothing below a path that does not
// exist.
func (t *Table) Under(ctx context.Context, name string) ([]Place, error) {
	if !filepath.IsAbs(name) {
		return nil, &fs.PathError{Op: "list volumes below", Path: name, Err: fs.ErrInvalid}
	}
	p, rest, err := openNearest(name)
	if err != nil {
		return nil, &fs.PathError{Op: "list volumes below", Path: name, Err: err}
	}
	defer p.close()
	if rest != "." || !p.isDir() {
		return nil, nil
	}
	s := t.now()
	var all []Place
	if m := s.mountOf(p); m != nil && m.fsType == "btrfs" {
		if all, err = t.nested(ctx, p.real); err != nil {
			return nil, err
		}
	}
	for _, m := range s.visible {
		if m.point == p.real || !isBelow(m.point, p.real) {
			continue
		}
		place := t.mountedAt(ctx, m)
		all = append(all, place)
		if m.fsType == "btrfs" && place.Err == nil {
			below, err := t.nested(ctx, m.point)
			if err != nil {
				return nil, err
			}
			all = append(all, below...)
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(all, func(a, b Place) int { return strings.Compare(a.Path, b.Path) })
	return all, nil
}

// mountedAt describes a mount, without touching it where that may take long.
func (t *Table) mountedAt(ctx context.Context, m *mount) Place {
	place := Place{Pseudo: pseudo[m.fsType], Remote: isRemote(m.fsType)}
	place.Path = m.point
	if place.Pseudo || place.Remote {
		place.Volume = m.describe("", m.root, m.point)
		place.Location.Volume, place.Name = place.Volume.ID, "."
		return place
	}
	p, err := openSpot(m.point, unix.O_NOFOLLOW)
	if err != nil {
		place.Err = &fs.PathError{Op: "describe", Path: m.point, Err: err}
		return place
	}
	defer p.close()
	place.Volume, place.Name, place.Err = t.volumeOf(ctx, p)
	place.Location.Volume = place.Volume.ID
	return place
}

// nested lists the subvolumes nested below a directory of a btrfs mount.
func (t *Table) nested(ctx context.Context, dir string) ([]Place, error) {
	p, err := openSpot(dir, unix.O_NOFOLLOW)
	if err != nil {
		return nil, &fs.PathError{Op: "list subvolumes below", Path: dir, Err: err}
	}
	defer p.close()
	v, inside, err := t.volumeOf(ctx, p)
	if err != nil {
		return nil, err
	}
	subs, err := btrfs.Subvolumes(ctx, v.Root)
	if err != nil {
		if ctx.Err() != nil || !strings.Contains(v.ID, ":/") {
			return nil, fmt.Errorf("list subvolumes below %s: %w", dir, err)
		}
		return t.nestedByWalk(ctx, dir)
	}
	var all []Place
	for _, sub := range subs {
		place := Place{Nested: true, Snapshot: sub.ReadOnly && !sub.ParentUUID.IsZero()}
		if sub.Err != nil {
			name, known := pathIn(sub.Err)
			if !known {
				// This user may not look at all directories on the way to
				// it, but it may be below this one all the same.
				return t.nestedByWalk(ctx, dir)
			}
			sub.Path = name
			place.Err = fmt.Errorf("subvolume %d of %s: %w", sub.ID, v.Root, sub.Err)
		}
		if sub.Path == inside || !isBelow("/"+sub.Path, joinPath("/", inside)) {
			continue
		}
		place.Path = joinPath(dir, relative("/"+sub.Path, joinPath("/", inside)))
		switch {
		case place.Err == nil:
			all = append(all, t.fillNested(ctx, place))
		case !p.hidden(place.Path):
			all = append(all, place)
		}
	}
	return all, nil
}

// pathIn gives the path from the subvolume's root that an error of
// [btrfs.Subvolumes] tells; it knows none if the kernel did not give it.
func pathIn(err error) (string, bool) {
	var at *fs.PathError
	if !errors.As(err, &at) {
		return "", false
	}
	return at.Path, true
}

// hidden reports whether something on the way to a path below p is mounted over
// it, or the path is gone.
func (p *spot) hidden(name string) bool {
	var sx unix.Statx_t
	if err := lstat(name, &sx); err != nil {
		return err == unix.ENOENT || err == unix.ENOTDIR
	}
	return sx.Mask&p.stat.Mask&unix.STATX_MNT_ID != 0 && sx.Mnt_id != p.stat.Mnt_id
}

func (t *Table) fillNested(ctx context.Context, place Place) Place {
	place.Name = "."
	place.Volume, place.Err = t.volumeAt(ctx, place.Path)
	place.Location.Volume = place.Volume.ID
	return place
}

// nestedByWalk looks at every directory, where the kernel cannot tell: the
// subvolume's root cannot be seen from here, or this user may not look at all
// that is between. A directory that may not be looked into is in the list with
// its error, as there may be subvolumes in it.
func (t *Table) nestedByWalk(ctx context.Context, dir string) ([]Place, error) {
	var all []Place
	var top unix.Statx_t
	if err := lstat(dir, &top); err != nil {
		return nil, &fs.PathError{Op: "list subvolumes below", Path: dir, Err: err}
	}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if d != nil && d.IsDir() && d.Name() == provider.AreaName && inRoot(filepath.Dir(name)) {
			return fs.SkipDir
		}
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if len(all) == 0 || all[len(all)-1].Path != name { // a subvolume's root is there already
				all = append(all, Place{Location: session.Location{Path: name}, Nested: true, Err: err})
			}
			return fs.SkipDir
		}
		if !d.IsDir() || name == dir {
			return nil
		}
		var sx unix.Statx_t
		if err := lstat(name, &sx); err != nil {
			return nil // gone meanwhile
		}
		if sx.Mask&top.Mask&unix.STATX_MNT_ID != 0 && sx.Mnt_id != top.Mnt_id {
			return fs.SkipDir
		}
		if sx.Ino == subvolumeRoot {
			place := Place{Nested: true}
			place.Path = name
			all = append(all, t.fillNested(ctx, place))
		}
		return nil
	})
	return all, err
}

// inRoot reports whether a directory is the root of a subvolume.
func inRoot(dir string) bool {
	var sx unix.Statx_t
	return lstat(dir, &sx) == nil && sx.Ino == subvolumeRoot
}

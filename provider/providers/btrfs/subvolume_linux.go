package btrfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/vss"
)

// Subvolume is one nested in another.
type Subvolume struct {
	// Path is slash-separated, from the subvolume that was asked about.
	// It is empty if Err is set.
	Path string
	ID   uint64
	// UUID names the subvolume for ever; see [SubvolumeUUID].
	UUID vss.GUID
	// ParentUUID is that of the subvolume this is a snapshot of, or zero.
	ParentUUID vss.GUID
	ReadOnly   bool
	// Err tells why nothing more than ID is known: its directory, or one on
	// the way there, cannot be reached by this user.
	Err error
}

// maxNested bounds how many subvolumes one call reports.
const maxNested = 1 << 20

// Subvolumes lists the subvolumes nested at any depth in the one whose root
// directory is root, ordered by path. Those below an area
// ([provider.AreaName] in a subvolume's root) are left out: they are copies. It needs no privilege (Linux 4.18), but
// what the user may not reach is reported with an error in its entry. A
// subvolume on which something else is mounted is listed like any other.
func Subvolumes(ctx context.Context, root string) ([]Subvolume, error) {
	top, err := os.Open(root)
	if err != nil {
		return nil, err
	}
	defer top.Close()
	if !IsSubvolume(int(top.Fd())) {
		return nil, vss.Errorf(vss.ErrInvalidArgument, "list subvolumes", root, "not the root directory of a btrfs subvolume")
	}
	var all []Subvolume
	queue := []string{"."}
	for len(queue) > 0 {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		dir := queue[0]
		queue = queue[1:]
		children, err := childrenOf(top, dir)
		if err != nil {
			return nil, fmt.Errorf("list subvolumes in %s: %w", path.Join(root, dir), err)
		}
		for _, c := range children {
			if inArea(dir, c.Path) {
				continue
			}
			if len(all) == maxNested {
				return nil, fmt.Errorf("list subvolumes in %s: more than %d", root, maxNested)
			}
			all = append(all, c)
			if c.Err == nil {
				queue = append(queue, c.Path)
			}
		}
	}
	slices.SortFunc(all, func(a, b Subvolume) int { return strings.Compare(a.Path, b.Path) })
	return all, nil
}

// inArea reports whether a subvolume lies in the area of its parent.
func inArea(parent, child string) bool {
	if parent != "." {
		child = strings.TrimPrefix(child, parent+"/")
	}
	return child == provider.AreaName || strings.HasPrefix(child, provider.AreaName+"/")
}

// childrenOf lists the subvolumes whose parent is the one at dir below top.
func childrenOf(top *os.File, dir string) ([]Subvolume, error) {
	fd, err := openBeneath(int(top.Fd()), dir)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var list []Subvolume
	var args rootRefs
	for {
		err := ioctl(fd, iocGetSubvolRootRef, &args)
		if err != nil && err != unix.EOVERFLOW { // EOVERFLOW: there are more
			return nil, err
		}
		for _, ref := range args.refs[:args.num] {
			list = append(list, describe(int(top.Fd()), fd, dir, ref.treeID, ref.dirID))
		}
		if err == nil {
			return list, nil
		}
	}
}

func describe(top, parent int, dir string, treeID, dirID uint64) Subvolume {
	s := Subvolume{ID: treeID}
	lookup := inoLookupUser{dirID: dirID, treeID: treeID}
	if s.Err = ioctl(parent, iocInoLookupUser, &lookup); s.Err != nil {
		return s
	}
	name := path.Join(dir, cString(lookup.path[:]), cString(lookup.name[:]))
	fd, err := openBeneath(top, name)
	if err != nil {
		s.Err = &os.PathError{Op: "open", Path: name, Err: err}
		return s
	}
	defer unix.Close(fd)
	var info subvolInfo
	if err := ioctl(fd, iocGetSubvolInfo, &info); err != nil {
		s.Err = &os.PathError{Op: "describe subvolume", Path: name, Err: err}
		return s
	}
	if info.treeID != treeID {
		// Something else is mounted there, or it was just replaced.
		s.Err = &os.PathError{Op: "open", Path: name, Err: errors.New("another file system or subvolume hides it")}
		return s
	}
	s.Path, s.UUID, s.ParentUUID = name, info.uuid, info.parentUUID
	s.ReadOnly = info.flags&1 != 0 // BTRFS_ROOT_SUBVOL_RDONLY, not the ioctl's flag
	return s
}

// IsSubvolume reports whether fd is the root directory of a btrfs subvolume.
func IsSubvolume(fd int) bool {
	var fs unix.Statfs_t
	var st unix.Stat_t
	return unix.Fstatfs(fd, &fs) == nil && fs.Type == unix.BTRFS_SUPER_MAGIC &&
		unix.Fstat(fd, &st) == nil && st.Ino == firstFreeObjectID && st.Mode&unix.S_IFMT == unix.S_IFDIR
}

// SubvolumeUUID is the UUID of the subvolume that the open file or directory
// fd lies in. The top-level subvolume of older file systems has none; it is
// named by the UUID of its file system.
func SubvolumeUUID(fd int) (vss.GUID, error) {
	var info subvolInfo
	if err := ioctl(fd, iocGetSubvolInfo, &info); err != nil {
		return vss.GUID{}, os.NewSyscallError("BTRFS_IOC_GET_SUBVOL_INFO", err)
	}
	if info.uuid != [16]byte{} {
		return info.uuid, nil
	}
	id, err := fileSystemID(fd)
	if err != nil {
		return vss.GUID{}, os.NewSyscallError("BTRFS_IOC_FS_INFO", err)
	}
	return id, nil
}

func openBeneath(at int, name string) (int, error) {
	return unix.Openat2(at, name, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	})
}

func cString(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

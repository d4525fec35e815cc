package localfs

import (
	"io/fs"
	"os/user"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/session"
)

const statxMask = unix.STATX_BASIC_STATS | unix.STATX_BTIME | unix.STATX_MNT_ID

func statxAt(dir int, elem string, sx *unix.Statx_t) error {
	for {
		err := unix.Statx(dir, elem, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, statxMask, sx)
		if err != unix.EINTR {
			return err
		}
	}
}

func statxFD(fd int, sx *unix.Statx_t) error {
	for {
		err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, statxMask, sx)
		if err != unix.EINTR {
			return err
		}
	}
}

func procPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// entryAt describes one object of an open directory. proc is the directory's
// path under /proc/self/fd.
func (b *base) entryAt(dir int, proc, elem string, source session.Source) (session.Entry, error) {
	return b.describe(dir, proc, elem, source, false)
}

// describe is entryAt, and without what takes further calls if bare.
func (b *base) describe(dir int, proc, elem string, source session.Source, bare bool) (session.Entry, error) {
	var sx unix.Statx_t
	if err := statxAt(dir, elem, &sx); err != nil {
		if err != unix.ENOENT && b.isMount(dir, elem) {
			// A dead or private file system is mounted here.
			return session.Entry{Name: elem, Mode: fs.ModeDir, MountPoint: true, Source: source}, nil
		}
		return session.Entry{Name: elem}, err
	}
	e := entryOf(elem, &sx)
	e.Source = source
	e.MountPoint = b.beginsVolume(&sx)
	if bare && !e.MountPoint {
		e.Bare = true
		return e, nil
	}
	var err error
	if e.Mode&fs.ModeSymlink != 0 {
		if e.Target, err = readlinkAt(dir, elem); err != nil {
			return session.Entry{Name: elem}, err
		}
	}
	if e.XAttrs, err = listXAttrs(dir, proc, elem); err != nil && !e.MountPoint {
		return session.Entry{Name: elem}, err
	}
	return e, nil
}

// isMount reports whether something is mounted on elem that cannot be looked at.
func (b *base) isMount(dir int, elem string) bool {
	if b.stepwise {
		return false
	}
	how := unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_SYMLINKS,
	}
	fd, err := unix.Openat2(dir, elem, &how)
	if err == nil {
		unix.Close(fd)
	}
	return err == unix.EXDEV
}

// emptySubvolume is the inode of the empty directory that stands in a btrfs
// snapshot where a nested subvolume was.
const emptySubvolume = 2

// beginsVolume reports whether an object is the root of another volume. On
// btrfs a nested subvolume is told by its device; the root itself is the only
// inode 256 of it.
func (b *base) beginsVolume(sx *unix.Statx_t) bool {
	if b.sameDevice(sx) && sx.Ino == b.root.Ino && b.sameMount(sx) {
		return false
	}
	if !b.oneVolume {
		return sx.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
	}
	if sx.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 || !b.sameMount(sx) {
		return true
	}
	return b.btrfs && sx.Mode&unix.S_IFMT == unix.S_IFDIR && (!b.sameDevice(sx) || sx.Ino == emptySubvolume)
}

// entryOf takes over what statx gives.
func entryOf(name string, sx *unix.Statx_t) session.Entry {
	e := session.Entry{
		Name:      name,
		Mode:      fileMode(sx.Mode),
		Perm:      uint32(sx.Mode) & 0o7777,
		UID:       sx.Uid,
		GID:       sx.Gid,
		User:      users.name(sx.Uid),
		Group:     groups.name(sx.Gid),
		Size:      int64(sx.Size),
		Modified:  timeOf(sx.Mtime),
		Accessed:  timeOf(sx.Atime),
		Changed:   timeOf(sx.Ctime),
		Inode:     sx.Ino,
		Links:     uint64(sx.Nlink),
		Allocated: int64(sx.Blocks) * 512,
	}
	if sx.Mask&unix.STATX_BTIME != 0 {
		e.Created = timeOf(sx.Btime)
	}
	if e.Mode&fs.ModeDevice != 0 {
		e.Device = unix.Mkdev(sx.Rdev_major, sx.Rdev_minor)
	}
	return e
}

func timeOf(t unix.StatxTimestamp) time.Time { return time.Unix(t.Sec, int64(t.Nsec)) }

func fileMode(mode uint16) fs.FileMode {
	m := fs.FileMode(mode & 0o777)
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		m |= fs.ModeDir
	case unix.S_IFLNK:
		m |= fs.ModeSymlink
	case unix.S_IFIFO:
		m |= fs.ModeNamedPipe
	case unix.S_IFSOCK:
		m |= fs.ModeSocket
	case unix.S_IFBLK:
		m |= fs.ModeDevice
	case unix.S_IFCHR:
		m |= fs.ModeDevice | fs.ModeCharDevice
	case unix.S_IFREG:
	default:
		m |= fs.ModeIrregular
	}
	if mode&unix.S_ISUID != 0 {
		m |= fs.ModeSetuid
	}
	if mode&unix.S_ISGID != 0 {
		m |= fs.ModeSetgid
	}
	if mode&unix.S_ISVTX != 0 {
		m |= fs.ModeSticky
	}
	return m
}

func kindOf(mode uint16) string {
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return "a directory"
	case unix.S_IFLNK:
		return "a symbolic link"
	case unix.S_IFIFO:
		return "a named pipe"
	case unix.S_IFSOCK:
		return "a socket"
	case unix.S_IFBLK, unix.S_IFCHR:
		return "a device"
	case unix.S_IFREG:
		return "a regular file"
	}
	return "of an unknown kind"
}

func readlinkAt(dir int, elem string) (string, error) {
	for size := 256; ; size *= 4 {
		buf := make([]byte, size)
		n, err := unix.Readlinkat(dir, elem, buf)
		if err != nil {
			return "", err
		}
		if n < size {
			return string(buf[:n]), nil
		}
		if size > 1<<16 {
			return "", unix.ENAMETOOLONG
		}
	}
}

// owners remembers names of users or groups: looking one up reads a file.
type owners struct {
	lookup func(id string) (string, error)
	last   atomic.Pointer[owner] // whom most was asked for
	mu     sync.RWMutex
	names  map[uint32]string
}

type owner struct {
	id   uint32
	name string
}

// ownersMax bounds what is remembered; whoever owns files of more is looked up
// again.
const ownersMax = 1 << 16

var users = &owners{names: map[uint32]string{}, lookup: func(id string) (string, error) {
	u, err := user.LookupId(id)
	if err != nil {
		return "", err
	}
	return u.Username, nil
}}

var groups = &owners{names: map[uint32]string{}, lookup: func(id string) (string, error) {
	g, err := user.LookupGroupId(id)
	if err != nil {
		return "", err
	}
	return g.Name, nil
}}

// name is the name of a user or group, empty if the host knows none.
func (o *owners) name(id uint32) string {
	if last := o.last.Load(); last != nil && last.id == id {
		return last.name
	}
	name := o.find(id)
	o.last.Store(&owner{id, name})
	return name
}

func (o *owners) find(id uint32) string {
	o.mu.RLock()
	name, ok := o.names[id]
	o.mu.RUnlock()
	if ok {
		return name
	}
	name, err := o.lookup(strconv.FormatUint(uint64(id), 10))
	if err != nil {
		name = ""
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.names) >= ownersMax {
		clear(o.names)
	}
	o.names[id] = name
	return name
}

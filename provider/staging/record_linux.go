package staging

import (
	"bytes"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/provider"
)

// record is one object of the copy in the making.
type record struct {
	path    string
	st      stat
	since   time.Time // when its latest copying began; zero before the first
	pass    int       // the pass that saw it last
	target  string
	xattrs  map[string][]byte
	claimed bool
	mount   bool
	missing string // why its content is not in the copy
	settled bool   // the copied object has its attributes
}

// entry is the record as the manifest has it.
func (r *record) entry() provider.ManifestEntry {
	s := &r.st
	e := provider.ManifestEntry{
		Path: r.path, Mode: s.mode, UID: s.uid, GID: s.gid, Inode: s.ino, Links: uint64(s.nlink), Device: s.rdev,
		Size: s.size, Allocated: s.blocks * 512,
		Accessed: goTime(s.atime), Modified: goTime(s.mtime), Changed: goTime(s.ctime),
		Target: r.target, XAttrs: r.xattrs, Claimed: r.claimed, MountPoint: r.mount, Missing: r.missing,
	}
	if s.btime.Sec != 0 || s.btime.Nsec != 0 {
		e.Created = goTime(s.btime)
	}
	return e
}

// maxXattrs is the most the kernel gives as list or value.
const maxXattrs = 64 << 10

// readXattrs reads the extended attributes of an open file, or of the entry
// name of the directory fd. A file system without them has none.
func readXattrs(fd int, name string) map[string][]byte {
	list := func(b []byte) (int, error) { return unix.Flistxattr(fd, b) }
	get := func(k string, b []byte) (int, error) { return unix.Fgetxattr(fd, k, b) }
	if name != "" {
		// There is no call that takes a directory and a name.
		p := "/proc/self/fd/" + strconv.Itoa(fd) + "/" + name
		list = func(b []byte) (int, error) { return unix.Llistxattr(p, b) }
		get = func(k string, b []byte) (int, error) { return unix.Lgetxattr(p, k, b) }
	}
	n, err := list(nil) // most files have none
	if err != nil || n == 0 {
		return nil
	}
	names := make([]byte, maxXattrs)
	if n, err = list(names); err != nil {
		return nil
	}
	all := map[string][]byte{}
	value := make([]byte, maxXattrs)
	for k := range bytes.SplitSeq(names[:n], []byte{0}) {
		if len(k) == 0 {
			continue
		}
		if n, err := get(string(k), value); err == nil {
			all[string(k)] = bytes.Clone(value[:n])
		}
	}
	if len(all) == 0 {
		return nil
	}
	return all
}

// settle gives a copied object the original's attributes, as far as this user
// may: the manifest has those that are refused. Permissions come after owner
// and extended attributes, which may take some away, and times last.
func settle(dir int, name string, r *record, root bool) error {
	s := &r.st
	if root {
		unix.Fchownat(dir, name, int(s.uid), int(s.gid), unix.AT_SYMLINK_NOFOLLOW)
	}
	link := s.kind() == unix.S_IFLNK
	if len(r.xattrs) > 0 {
		p := "/proc/self/fd/" + strconv.Itoa(dir) + "/" + name
		for k, v := range r.xattrs {
			unix.Lsetxattr(p, k, v, 0)
		}
	}
	if !link {
		mode := s.mode & 0o7777
		switch {
		case root:
		case s.isDir():
			mode = mode&0o777 | 0o700
		default:
			mode = mode&0o777 | 0o400
		}
		if err := unix.Fchmodat(dir, name, mode, 0); err != nil && err != unix.EPERM {
			return err // EPERM: a file system without modes
		}
	}
	times := []unix.Timespec{
		{Sec: s.atime.Sec, Nsec: int64(s.atime.Nsec)},
		{Sec: s.mtime.Sec, Nsec: int64(s.mtime.Nsec)},
	}
	return unix.UtimesNanoAt(dir, name, times, unix.AT_SYMLINK_NOFOLLOW)
}

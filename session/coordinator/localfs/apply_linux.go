package localfs

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"math"
	"slices"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/session"
)

// object is what attributes are given to: a descriptor of any kind, O_PATH
// included, so that a link or device is never opened and no name is looked up
// twice.
type object struct {
	fd   int
	mode uint16 // as it is; the type bits count
	name string // for messages

	opened bool // not O_PATH: it takes calls by descriptor, which cost half
	bare   bool // it is new and was given no extended attributes
}

const (
	accessACL  = "system.posix_acl_access"
	defaultACL = "system.posix_acl_default"
	capability = "security.capability"
)

// apply gives an object its attributes in the one order that keeps them: a
// change of owner takes setuid bits and capabilities away, and a mode given
// before the owner would for a moment open the file to the wrong user. What
// cannot be given is listed; only a type that differs from the entry's is an
// error that ends it.
func (o object) apply(e session.Entry) *session.AttributeError {
	p := &problems{name: o.name}
	owner, group := o.chown(e, p)
	perm := e.Perm & 0o7777
	if !owner {
		perm &^= unix.S_ISUID // else it would run with the restoring user's rights
	}
	if !group && e.Mode&fs.ModeDir == 0 {
		perm &^= unix.S_ISGID
	}
	if !o.setXAttrs(e.XAttrs, p) {
		perm = withoutACL(perm, e.XAttrs[accessACL])
	}
	if o.mode&unix.S_IFMT != unix.S_IFLNK {
		p.add("mode", o.chmod(perm))
	}
	p.add("times", o.chtimes(e))
	return p.err()
}

type problems struct {
	name string
	list []session.AttributeProblem
}

func (p *problems) add(attribute string, err error) {
	if err != nil {
		p.list = append(p.list, session.AttributeProblem{Attribute: attribute, Err: err})
	}
}

func (p *problems) err() *session.AttributeError {
	if len(p.list) == 0 {
		return nil
	}
	return &session.AttributeError{Name: p.name, Problems: p.list}
}

// chown tells whether the object has its owner and its group.
func (o object) chown(e session.Entry, p *problems) (owner, group bool) {
	var sx unix.Statx_t
	if err := statxFD(o.fd, &sx); err == nil && sx.Uid == e.UID && sx.Gid == e.GID {
		return true, true
	}
	if e.UID == math.MaxUint32 || e.GID == math.MaxUint32 {
		// To the kernel that means "leave as it is".
		p.add("owner", errors.New("4294967295 is no user or group"))
		return false, false
	}
	if unix.Fchownat(o.fd, "", int(e.UID), int(e.GID), unix.AT_EMPTY_PATH) == nil {
		return true, true
	}
	// An ordinary user may at least give a group of his own.
	errGroup := unix.Fchownat(o.fd, "", -1, int(e.GID), unix.AT_EMPTY_PATH)
	errOwner := unix.Fchownat(o.fd, "", int(e.UID), -1, unix.AT_EMPTY_PATH)
	p.add("owner", errOwner)
	p.add("group", errGroup)
	return errOwner == nil, errGroup == nil
}

// setXAttrs gives the attributes and takes away others, such as an ACL
// inherited from the directory. It reports whether the access ACL is right.
func (o object) setXAttrs(want map[string][]byte, p *problems) (acl bool) {
	if o.bare && len(want) == 0 {
		return true
	}
	proc := procPath(o.fd)
	acl = true
	has, err := readXAttrs(
		func(buf []byte) (int, error) { return unix.Listxattr(proc, buf) },
		func(string, []byte) (int, error) { return 0, nil })
	if err != nil {
		p.add("extended attributes", err)
	}
	for name := range has {
		if _, ok := want[name]; ok || !removable(name) {
			continue
		}
		if err := unix.Removexattr(proc, name); err != nil && err != unix.ENODATA {
			p.add(name, err)
			acl = acl && name != accessACL
		}
	}
	names := make([]string, 0, len(want))
	for name := range want {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if err := checkXAttr(name, want[name]); err != nil {
			p.add(name, err)
			continue
		}
		if err := unix.Setxattr(proc, name, want[name], 0); err != nil {
			p.add(name, err)
			acl = acl && name != accessACL
		}
	}
	return acl
}

// removable tells the attributes that make no sense on an object that did not
// have them. Labels that the host's own policy gives are left.
func removable(name string) bool {
	return name == accessACL || name == defaultACL || name == capability ||
		strings.HasPrefix(name, "user.") || strings.HasPrefix(name, "trusted.")
}

func checkXAttr(name string, value []byte) error {
	if name == "" || len(name) > 255 || strings.IndexByte(name, 0) >= 0 {
		return errors.New("not a name of an extended attribute")
	}
	if len(value) > xattrSizeMax {
		return unix.E2BIG
	}
	return nil
}

// withoutACL is the mode for a file whose access ACL cannot be set. With an ACL
// the mode's group bits are its mask, which may be more than the group had.
func withoutACL(perm uint32, acl []byte) uint32 {
	const (
		version  = 2
		groupObj = 4
	)
	if len(acl) < 4 || binary.LittleEndian.Uint32(acl) != version {
		return perm &^ 0o070
	}
	for entries := acl[4:]; len(entries) >= 8; entries = entries[8:] {
		if binary.LittleEndian.Uint16(entries) == groupObj {
			bits := uint32(binary.LittleEndian.Uint16(entries[2:])) & 7
			return perm &^ (0o070 &^ (bits << 3))
		}
	}
	return perm &^ 0o070
}

func (o object) chmod(perm uint32) error {
	if o.opened {
		return unix.Fchmod(o.fd, perm)
	}
	return unix.Chmod(procPath(o.fd), perm)
}

func (o object) chtimes(e session.Entry) error {
	ts := make([]unix.Timespec, 2)
	for i, t := range []time.Time{e.Accessed, e.Modified} {
		var err error
		if t.IsZero() {
			ts[i] = unix.Timespec{Nsec: unix.UTIME_OMIT}
		} else if ts[i], err = unix.TimeToTimespec(t); err != nil {
			return err
		}
	}
	if o.opened {
		return futimens(o.fd, ts)
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, procPath(o.fd), ts, 0)
}

// futimens is utimensat without a path.
func futimens(fd int, ts []unix.Timespec) error {
	_, _, e := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(unsafe.SliceData(ts))), 0, 0, 0)
	if e != 0 {
		return e
	}
	return nil
}

// typeBits are the type bits of the kind of object an entry describes.
func typeBits(e session.Entry) (uint16, error) {
	switch e.Mode.Type() {
	case 0:
		return unix.S_IFREG, nil
	case fs.ModeDir:
		return unix.S_IFDIR, nil
	case fs.ModeSymlink:
		return unix.S_IFLNK, nil
	case fs.ModeNamedPipe:
		return unix.S_IFIFO, nil
	case fs.ModeSocket:
		return unix.S_IFSOCK, nil
	case fs.ModeDevice:
		return unix.S_IFBLK, nil
	case fs.ModeDevice | fs.ModeCharDevice:
		return unix.S_IFCHR, nil
	}
	return 0, &nameError{"is of no kind this system has (" + e.Mode.String() + ")", fs.ErrInvalid}
}

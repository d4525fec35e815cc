package requester

import (
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// rootID is the one root of a record's file table.
const rootID = "/"

// newEntry turns what a tree tells of an object into a line of the file table.
// reason is not empty for objects that are not kept.
func newEntry(table string, e session.Entry, device uint64) (out repository.Entry, reason string) {
	out = repository.Entry{
		Root: rootID, Path: table, Mode: e.Perm & 0o7777, UID: e.UID, GID: e.GID, User: e.User, Group: e.Group,
		ModTime: e.Modified, AccessTime: e.Accessed, ChangeTime: e.Changed, BirthTime: e.Created,
		Device: device, Inode: e.Inode, Nlink: uint32(min(e.Links, 1<<32-1)), Xattrs: e.XAttrs,
		WindowsAttributes: e.Attributes, SecurityDescriptor: e.Descriptor,
	}
	switch {
	case e.Mode.IsRegular():
		out.Type, out.Size = repository.Regular, e.Size
	case e.Mode.IsDir():
		out.Type = repository.Directory
	case e.Mode&fs.ModeSymlink != 0:
		out.Type, out.LinkTarget = repository.Symlink, e.Target
	case e.Mode&fs.ModeNamedPipe != 0:
		out.Type = repository.Fifo
	case e.Mode&fs.ModeSocket != 0:
		return out, "a socket, which only its program can make again"
	case e.Mode&fs.ModeCharDevice != 0:
		out.Type, out.Rdev = repository.CharDevice, e.Device
	case e.Mode&fs.ModeDevice != 0:
		out.Type, out.Rdev = repository.BlockDevice, e.Device
	default:
		return out, fmt.Sprintf("an object of unknown kind (%s)", e.Mode)
	}
	return out, ""
}

// sessionEntry is the reverse: what a target is told of an object to make.
func sessionEntry(e *repository.Entry) session.Entry {
	out := session.Entry{
		Name: e.Path[strings.LastIndexByte(e.Path, '/')+1:], Perm: e.Mode & 0o7777, UID: e.UID, GID: e.GID, User: e.User, Group: e.Group,
		Size: e.Size, Modified: e.ModTime, Accessed: e.AccessTime, Changed: e.ChangeTime, Created: e.BirthTime,
		Inode: e.Inode, Links: uint64(e.Nlink), Device: e.Rdev, Target: e.LinkTarget, XAttrs: e.Xattrs,
		Descriptor: e.SecurityDescriptor, Attributes: e.WindowsAttributes,
	}
	out.Mode = fs.FileMode(e.Mode & 0o777)
	switch e.Type {
	case repository.Directory:
		out.Mode |= fs.ModeDir
	case repository.Symlink:
		out.Mode |= fs.ModeSymlink
	case repository.Fifo:
		out.Mode |= fs.ModeNamedPipe
	case repository.Socket:
		out.Mode |= fs.ModeSocket
	case repository.CharDevice:
		out.Mode |= fs.ModeDevice | fs.ModeCharDevice
	case repository.BlockDevice:
		out.Mode |= fs.ModeDevice
	}
	for bit, mode := range map[uint32]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if e.Mode&bit != 0 {
			out.Mode |= mode
		}
	}
	return out
}

// facts are the Attrs of a claimed file: with them its component can be put
// together again from the file table alone.
func facts(cl *Claim, defining *Component) map[string]string {
	c, w := cl.Component, cl.Component.Writer
	m := map[string]string{
		AttrWriter: w.Name, AttrWriterClass: w.Class.String(), AttrComponent: c.FullPath(),
		AttrComponentSet: defining.FullPath(), AttrComponentType: c.Type.Word(), AttrSpec: specText(cl.File.Spec),
		AttrVolume: cl.Volume,
	}
	if w.InstanceName != "" {
		m[AttrWriterName] = w.InstanceName
	}
	if cl.Alternate {
		m[AttrAlternate] = cl.File.Alternate
	}
	if w.Restore.Given {
		m[AttrMethod] = w.Restore.Method.Word()
		m[AttrWriterRestore] = w.Restore.WriterRestore.Word()
	}
	for _, mapping := range w.Restore.Mappings {
		if mapping.Spec.Equal(cl.File.Spec, vss.POSIX) {
			m[AttrMapping] = mapping.Destination
		}
	}
	return m
}

// specText writes a specification so that its three parts can be told apart.
func specText(s vss.FileSpec) string {
	text := s.Path + "|" + s.Pattern
	if s.Recursive {
		text += "|recursive"
	}
	return text
}

// racy is how close to a backup's beginning a change may lie and still have
// happened after the file was read: the coarsest clock of file systems in use.
const racy = 2 * time.Second

// unchangedSince reports whether a file is the one of an earlier record: the
// same inode with the same size and times. A change of which the clock of the
// file system may not tell whether it came before or after the reading counts
// as one.
func unchangedSince(base *repository.Entry, e session.Entry, began time.Time) bool {
	return base.Type == repository.Regular && base.Attrs[AttrOutcome] == "" &&
		base.Size == e.Size && base.Content.Size() == e.Size && base.Inode == e.Inode && e.Inode != 0 &&
		base.ModTime.Equal(e.Modified) && base.ChangeTime.Equal(e.Changed) && !e.Changed.IsZero() &&
		e.Changed.Before(began.Add(-racy)) && e.Modified.Before(began.Add(-racy))
}

package repository

import (
	"bytes"
	"maps"
	"slices"
	"strings"
)

// Change says in what two entries differ: a set of the constants below.
type Change uint32

// The things in which entries can differ.
const (
	// ChangedType is another type: the rest is then compared, too.
	ChangedType Change = 1 << iota
	// ChangedContent is other extents or another size.
	ChangedContent
	// ChangedTarget is another link target, device number or reparse data.
	ChangedTarget
	// ChangedMode is other permission bits.
	ChangedMode
	// ChangedOwner is another user or group, by number or name.
	ChangedOwner
	// ChangedModTime is another time of modification.
	ChangedModTime
	// ChangedXattrs is other extended attributes, ACLs among them.
	ChangedXattrs
	// ChangedFlags is other inode flags or Windows attributes.
	ChangedFlags
	// ChangedSecurity is another Windows security descriptor.
	ChangedSecurity
	// ChangedStreams is other named streams.
	ChangedStreams
	// ChangedLinks is another number of links, or another hard link group.
	ChangedLinks
	// ChangedBirthTime is another time of birth.
	ChangedBirthTime
	// ChangedAccessTime is another time of last access.
	ChangedAccessTime
	// ChangedChangeTime is another time of inode change.
	ChangedChangeTime
	// ChangedInode is another device or inode.
	ChangedInode
	// ChangedAttrs is other facts of the requester's, or of a newer program's.
	ChangedAttrs
)

// changeNames are the names of the bits, the lowest first.
var changeNames = []string{"type", "content", "target", "mode", "owner", "mtime", "xattrs", "flags", "security", "streams",
	"links", "btime", "atime", "ctime", "inode", "attrs"}

// Names gives the names of what differs, in the order of the constants.
func (c Change) Names() []string {
	var names []string
	for i, name := range changeNames {
		if c&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return names
}

// String gives the names, divided by commas.
func (c Change) String() string { return strings.Join(c.Names(), ",") }

// Changes says in what the entries differ, place aside: zero if in nothing.
func (e *Entry) Changes(f *Entry) Change {
	var c Change
	set := func(bit Change, differs bool) {
		if differs {
			c |= bit
		}
	}
	set(ChangedType, e.Type != f.Type)
	set(ChangedContent, e.Size != f.Size && (e.Type == Regular || f.Type == Regular) || !e.Content.Equal(f.Content))
	set(ChangedTarget, e.LinkTarget != f.LinkTarget || e.Rdev != f.Rdev || !bytes.Equal(e.ReparseData, f.ReparseData))
	set(ChangedMode, e.Mode != f.Mode)
	set(ChangedOwner, e.UID != f.UID || e.GID != f.GID || e.User != f.User || e.Group != f.Group)
	set(ChangedModTime, !e.ModTime.Equal(f.ModTime))
	set(ChangedXattrs, !maps.EqualFunc(e.Xattrs, f.Xattrs, bytes.Equal))
	set(ChangedFlags, e.InodeFlags != f.InodeFlags || e.WindowsAttributes != f.WindowsAttributes)
	set(ChangedSecurity, !bytes.Equal(e.SecurityDescriptor, f.SecurityDescriptor))
	set(ChangedStreams, !slices.EqualFunc(e.Streams, f.Streams, func(s, t Stream) bool { return s.Name == t.Name && s.Content.Equal(t.Content) }))
	set(ChangedLinks, e.Nlink != f.Nlink || e.HardLink != f.HardLink)
	set(ChangedBirthTime, !e.BirthTime.Equal(f.BirthTime))
	set(ChangedAccessTime, !e.AccessTime.Equal(f.AccessTime))
	set(ChangedChangeTime, !e.ChangeTime.Equal(f.ChangeTime))
	set(ChangedInode, e.Device != f.Device || e.Inode != f.Inode || e.Type == f.Type && e.Type != Regular && e.Size != f.Size)
	set(ChangedAttrs, !maps.Equal(e.Attrs, f.Attrs) || !maps.EqualFunc(e.extra, f.extra, bytes.Equal))
	return c
}

package repository

import "time"

// FileType is what an entry of the file table is. The numbers are the
// format's.
type FileType uint8

// The types of entries.
const (
	// Regular is a file with content.
	Regular FileType = 1
	// Directory contains the entries whose path begins with its own.
	Directory FileType = 2
	// Symlink has a link target.
	Symlink FileType = 3
	// Fifo is a named pipe.
	Fifo FileType = 4
	// Socket is a socket's name in the file system.
	Socket FileType = 5
	// CharDevice and BlockDevice have a device number.
	CharDevice  FileType = 6
	BlockDevice FileType = 7
	// Reparse is a Windows reparse point that is no symlink (a junction, a
	// mount point or another); its data is kept as Windows gave it.
	Reparse FileType = 8
)

// String gives the type's name in lower case.
func (t FileType) String() string {
	switch t {
	case Regular:
		return "file"
	case Directory:
		return "directory"
	case Symlink:
		return "symlink"
	case Fifo:
		return "fifo"
	case Socket:
		return "socket"
	case CharDevice:
		return "character device"
	case BlockDevice:
		return "block device"
	case Reparse:
		return "reparse point"
	}
	return "unknown type"
}

// Entry is one line of a record's file table: a file, directory or other thing
// with a name, all of its metadata, and what the requester has to say of it.
// Fields that do not apply are left zero; a zero time is an unknown one.
//
// Entries read from a table are shared: they must not be changed. Clone gives
// one that may be, and that keeps what a newer program wrote.
type Entry struct {
	// Root is the Root.ID of the root the entry lies below.
	Root string
	// Path is the place below the root: components divided by single slashes,
	// none of them empty, "." or "..", no NUL. The root itself has the empty
	// path. Bytes are kept as they are; nothing says that they are UTF-8.
	Path string
	// Type is what the entry is.
	Type FileType

	// Mode holds the Unix permission bits, set-user-id, set-group-id and
	// sticky included (07777).
	Mode uint32
	// UID and GID are the owner's numbers, User and Group their names.
	UID, GID    uint32
	User, Group string
	// Size is the length of the file as its file system told it.
	Size int64
	// ModTime, AccessTime, ChangeTime (of the inode) and BirthTime keep
	// nanoseconds and any year.
	ModTime, AccessTime, ChangeTime, BirthTime time.Time
	// Device, Inode and Nlink identify the file on its volume: Device need
	// only tell the volumes of one record apart.
	Device, Inode uint64
	Nlink         uint32
	// HardLink, if not zero, is the same number for all entries of the record
	// that are names of one file. Each of them has the content.
	HardLink uint64
	// Rdev is a device's number, as Linux encodes it.
	Rdev uint64
	// LinkTarget is what a symlink holds, byte for byte.
	LinkTarget string
	// InodeFlags are the flags lsattr shows (FS_IOC_GETFLAGS).
	InodeFlags uint32
	// Xattrs are the extended attributes by name, POSIX ACLs and
	// capabilities among them.
	Xattrs map[string][]byte

	// WindowsAttributes are FILE_ATTRIBUTE_ bits.
	WindowsAttributes uint32
	// SecurityDescriptor is a self-relative Windows security descriptor.
	SecurityDescriptor []byte
	// ReparseData is the data of a reparse point, tag included.
	ReparseData []byte
	// Streams are the named streams besides the file's content.
	Streams []Stream

	// Content is the data of a regular file. Its size is Size, or it is the
	// zero Content although Size is not zero: then the data is not in the
	// backup, and the requester says why in Attrs.
	Content Content

	// Attrs holds the requester's own facts about the file. The repository
	// carries them and never looks inside. Keys are UTF-8, values any bytes.
	Attrs map[string]string

	// extra holds the fields this program does not know, as they were read.
	extra map[uint64][]byte
}

// Stream is a named stream of a Windows file.
type Stream struct {
	// Name is the stream's name without colons.
	Name string
	// Content is its data.
	Content Content
}

// Limits on an entry. Larger things belong into content of their own.
const (
	// MaxPath is the greatest length of Path, and of LinkTarget, in bytes.
	MaxPath = 64 << 10
	// MaxEntry is the greatest length of an encoded entry in bytes, path,
	// extended attributes and everything else included.
	MaxEntry = 1 << 20
	// MaxAttrs is the most Attrs one entry or record may have.
	MaxAttrs = 64
)

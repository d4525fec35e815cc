package session

import (
	"context"
	"io"
	"io/fs"
	"time"

	"github.com/sombra-backup/sombra/vss"
)

// Source is where bytes are read from.
type Source int

const (
	// FromShadow: from the shadow copy.
	FromShadow Source = iota
	// FromLive: from the volume itself. Whoever reads must look at the file
	// before and after.
	FromLive
)

func (s Source) String() string {
	if s == FromLive {
		return "live"
	}
	return "shadow"
}

// Entry is a file, directory or other object with all its attributes.
type Entry struct {
	Name string // last element
	Mode fs.FileMode
	// Perm is the POSIX mode's low twelve bits.
	Perm     uint32
	UID, GID uint32
	User     string // names, where the host knows them
	Group    string
	Size     int64
	Modified time.Time
	Accessed time.Time
	Changed  time.Time
	Created  time.Time // zero where unknown
	// Inode and Links identify hard links within a volume.
	Inode  uint64
	Links  uint64
	Device uint64 // of a device node
	// Target is a symbolic link's.
	Target string
	// XAttrs hold extended attributes, POSIX ACLs among them as the kernel
	// gives them (system.posix_acl_access, ..._default).
	XAttrs map[string][]byte
	// Descriptor is a Windows security descriptor, self-relative.
	Descriptor []byte
	// Attributes are Windows file attributes.
	Attributes uint32
	Streams    []Stream
	// MountPoint: another volume (or nested subvolume) begins here. It is
	// kept as an empty directory and never entered through this tree. A
	// single file can be mounted too; it cannot be opened here. Of what
	// cannot be looked at (a dead server, another user's mount) only Name
	// and the type in Mode are known.
	MountPoint bool
	// Allocated is the bytes of disk space used, to tell sparse files.
	Allocated int64
	Source    Source
	// Bare: Target and XAttrs are not filled in, see [BareTree].
	Bare bool
}

// Stream is a named data stream.
type Stream struct {
	Name string
	Size int64
}

// Tree shows one volume, live or as its shadow copy shows it. Names are
// slash-separated from the volume's root. Links are never followed: not by
// the last element, not on the way; a name that leads through a link is an
// error that wraps fs.ErrInvalid. A Tree may be used by several goroutines.
type Tree interface {
	// Lstat describes one object: fs.ErrNotExist if it is not there.
	Lstat(ctx context.Context, name string) (Entry, error)

	// ReadDir calls fn for each object in a directory, ordered by name, with
	// all attributes. An object that vanishes meanwhile is left out; one
	// whose attributes cannot be read is given with its error and only the
	// name filled in. It stops at fn's first error and returns it.
	ReadDir(ctx context.Context, name string, fn func(Entry, error) error) error

	// Open opens a regular file. Its Entry is as at opening. In a live tree
	// what is still to be written of the file, or of the whole volume, is
	// flushed first: only then does a store through a memory map that was
	// written to before show in the file's times. See [Volume].TimesTell.
	Open(ctx context.Context, name string) (File, error)

	// ChangedRanges covers every byte of the file that differs from the same
	// name in the shadow copy base; VSS_E_NOT_SUPPORTED where nothing can be
	// vouched for.
	ChangedRanges(ctx context.Context, base vss.GUID, name string) ([]vss.Range, error)

	Close() error
}

// BareTree is implemented by trees that save something by leaving out of a
// listing what takes calls of its own for each object. Who has to know all of
// an object asks Lstat, and may find another object there by then.
type BareTree interface {
	Tree
	// ReadDirBare is ReadDir, but leaves out Target and XAttrs, and then says
	// so in Bare.
	ReadDirBare(ctx context.Context, name string, fn func(Entry, error) error) error
}

// File is an open file of a [Tree].
type File interface {
	io.ReaderAt
	io.Closer
	// Stat describes the file now, by its descriptor.
	Stat(ctx context.Context) (Entry, error)
	// Data returns the ranges that hold data, in order; what lies between
	// them, up to the size, is holes and reads as zero.
	Data(ctx context.Context) ([]vss.Range, error)
	// Stream opens a named data stream.
	Stream(ctx context.Context, name string) (io.ReadCloser, error)
}

// BareFile is implemented by files that save something by not describing
// themselves in full each time, before and after they are read.
type BareFile interface {
	File
	// Opened describes the file in full as it was when Open began with it: what
	// happens to it from then on, while it is flushed too, shows as a difference
	// to a later description. Only extended attributes may be newer.
	Opened(ctx context.Context) (Entry, error)
	// StatBare is Stat, but may leave out XAttrs, and then says so in Bare.
	StatBare(ctx context.Context) (Entry, error)
}

// Target is where a restore writes, and what the host does around it.
type Target interface {
	FileTarget
	Obstructions
	Services
	Reboots
}

// FileTarget is where a restore writes. It never trusts the names it is given: no
// name leads through a link or out of the target, and nothing already there is
// opened by following one. Names are as for [Tree], but from the target's root,
// which for the host's own root means a path without its leading slash. (On
// Windows the first element is the drive.) A FileTarget may be used by several
// goroutines.
type FileTarget interface {
	// Lstat and ReadDir are those of Tree.
	Lstat(ctx context.Context, name string) (Entry, error)
	ReadDir(ctx context.Context, name string, fn func(Entry, error) error) error

	// Mkdir makes a directory, and missing ones above it, mode 0700 until
	// SetAttributes; existed tells that name was there. It is left as it is,
	// save that an ordinary user's own gets his rights to write in it back,
	// so that a restore stopped half-way can be run again.
	Mkdir(ctx context.Context, name string) (existed bool, err error)

	// Create begins a file without a name, or under a temporary one in the
	// directory of name. It takes the place of what has the name when
	// committed; a directory is never replaced, and is an error that names it.
	Create(ctx context.Context, name string) (NewFile, error)

	// OpenFile opens an existing regular file to change it in place.
	OpenFile(ctx context.Context, name string) (ChangeFile, error)

	// Symlink, Link (to an object restored under oldname) and Mknod make the
	// object under a temporary name and rename it to name.
	Symlink(ctx context.Context, e Entry, name string) error
	Link(ctx context.Context, oldname, name string) error
	Mknod(ctx context.Context, e Entry, name string) error

	// SetAttributes gives an existing object owner, mode, extended
	// attributes and times; the way to end a directory. An object of
	// another type than the entry's is refused. What could not be given is
	// listed in an [AttributeError].
	SetAttributes(ctx context.Context, name string, e Entry) error

	// Remove removes one object; a directory only if it is empty.
	Remove(ctx context.Context, name string) error

	// Free is the room left where name is or would be.
	Free(ctx context.Context, name string) (uint64, error)

	// Sync makes all that was written durable.
	Sync(ctx context.Context) error

	Close() error
}

// NewFile is a file being restored. It is invisible under its final name until
// Commit. WriteAt may be called by several goroutines.
type NewFile interface {
	io.WriterAt
	// Truncate sets the size; parts never written are holes.
	Truncate(size int64) error
	// Commit gives the file its attributes (owner, then extended attributes,
	// mode with setuid last, times) and its name. With an [AttributeError]
	// the file has its data and its name, and lacks what the error lists.
	Commit(ctx context.Context, e Entry) error
	// Close removes the file if it was not committed.
	Close() error
}

// ChangeFile is an existing file being changed in place.
type ChangeFile interface {
	io.ReaderAt
	io.WriterAt
	Truncate(size int64) error
	Stat(ctx context.Context) (Entry, error)
	// SetAttributes gives this file, whatever has its name by now, owner,
	// extended attributes, mode and times. What could not be given is listed
	// in an [AttributeError].
	SetAttributes(ctx context.Context, e Entry) error
	Sync() error
	Close() error
}

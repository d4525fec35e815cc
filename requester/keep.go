package requester

import (
	"bytes"
	"context"
	"io/fs"
	"maps"
	"reflect"
	"time"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/session"
)

// keep takes over the entry of an object of no writer that is as it was in the
// base, without opening the object, and tells whether it did. What is not sure
// it leaves to be looked at in full.
func (c *copier) keep(ctx context.Context, j *job) (kept bool, err error) {
	if c.past == nil || j.cl != nil {
		return false, nil
	}
	if j.entry.Mode.IsRegular() && !j.volume.TimesTell {
		return false, nil // its times are no proof
	}
	old, ok, err := c.past.find(ctx, j.table)
	if !ok || err != nil || !sameObject(old.Entry, &j.entry, c.base.Started) || !c.sameFacts(old.Entry, j) {
		return false, err
	}
	switch {
	case !c.past.keep(): // it is to be stored again
		return false, nil
	case old.Type == repository.Regular:
		c.count(j, got{content: old.Content, entry: j.entry, unchanged: true})
	default:
		c.countOther(old.Type)
	}
	return true, nil
}

// sameFacts reports whether what the requester has to say of an object is what
// the base says of it.
func (c *copier) sameFacts(old *repository.Entry, j *job) bool {
	facts := c.facts.of(old.Attrs)
	if !facts.plain || facts.volume != j.volume.ID || old.Device != j.volume.device {
		return false
	}
	if old.Type != repository.Regular {
		return true
	}
	if facts.live != (j.entry.Source == session.FromLive) {
		return false
	}
	group := uint64(0)
	if j.entry.Links > 1 {
		c.mu.Lock()
		group = c.linkIDs.of(inode{j.from, j.entry.Inode}, c.device[j.from])
		c.mu.Unlock()
	}
	return old.HardLink == group
}

// knownFacts is what the attributes say that were looked at last: entries mostly
// share theirs with the one before.
type knownFacts struct {
	attrs  map[string]string
	volume string
	plain  bool // of no writer, and nothing failed
	live   bool // the data was read live
}

func (k *knownFacts) of(a map[string]string) *knownFacts {
	if k.attrs == nil || reflect.ValueOf(k.attrs).Pointer() != reflect.ValueOf(a).Pointer() {
		*k = knownFacts{attrs: a, volume: a[AttrVolume], live: a[AttrSource] == session.FromLive.String(),
			plain: a[AttrWriter] == "" && a[AttrOutcome] == "" && a[AttrRole] == ""}
	}
	return k
}

// sameObject reports whether an object is the one of an earlier record, in
// content and attributes: the same inode with the same change time, which
// nothing but the kernel sets, at every change of either. (All else is compared
// because it costs nothing.) A change of which the clock of the file system may
// not tell whether it came before or after the reading counts as one.
func sameObject(old *repository.Entry, e *session.Entry, began time.Time) bool {
	sure := began.Add(-racy)
	if old.Inode != e.Inode || e.Inode == 0 || e.Changed.IsZero() || !old.ChangeTime.Equal(e.Changed) || !old.ModTime.Equal(e.Modified) ||
		!e.Changed.Before(sure) || !e.Modified.Before(sure) {
		return false
	}
	kind, known := kindOf(e.Mode)
	if !known || old.Type != kind || e.MountPoint || kind == repository.Regular && (old.Size != e.Size || old.Content.Size() != e.Size) {
		return false
	}
	if old.Mode != e.Perm&0o7777 || old.UID != e.UID || old.GID != e.GID || old.User != e.User || old.Group != e.Group ||
		uint64(old.Nlink) != e.Links || !old.BirthTime.Equal(e.Created) || old.WindowsAttributes != e.Attributes {
		return false
	}
	if (kind == repository.CharDevice || kind == repository.BlockDevice) && old.Rdev != e.Device {
		return false
	}
	if e.Bare {
		return true
	}
	return old.LinkTarget == e.Target && len(e.Streams) == 0 && len(old.Streams) == 0 &&
		maps.EqualFunc(old.Xattrs, e.XAttrs, bytes.Equal) && bytes.Equal(old.SecurityDescriptor, e.Descriptor)
}

// kindOf is the type of entry that an object becomes; known is false for those
// that are not kept.
func kindOf(m fs.FileMode) (t repository.FileType, known bool) {
	switch {
	case m.IsRegular():
		return repository.Regular, true
	case m.IsDir():
		return repository.Directory, true
	case m&fs.ModeSymlink != 0:
		return repository.Symlink, true
	case m&fs.ModeNamedPipe != 0:
		return repository.Fifo, true
	case m&fs.ModeSocket != 0:
	case m&fs.ModeCharDevice != 0:
		return repository.CharDevice, true
	case m&fs.ModeDevice != 0:
		return repository.BlockDevice, true
	}
	return 0, false
}

// bareSystem reports whether a file system is one of which it is known that each change of an
// extended attribute sets the change time. On all others attributes are read.
func bareSystem(fsType string) bool {
	switch fsType {
	case "ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "tmpfs", "zfs", "bcachefs", "jfs":
		return true
	}
	return false
}

// complete fills in what a bare listing left out of an object. A regular file's
// is read with the file.
func (c *copier) complete(ctx context.Context, j *job) error {
	if !j.entry.Bare || j.entry.Mode.IsRegular() {
		return nil
	}
	e, err := j.tree.Lstat(ctx, j.name)
	if err == nil && e.Mode.Type() != j.entry.Mode.Type() {
		err = &changedError{"its type"}
	}
	if err == nil {
		j.entry = e
	}
	return err
}

// ReadMark is what AttrRead says in a record of data that its own backup read.
func ReadMark(rec *repository.Record) string { return readMark(rec.Started) }

// readMark is what AttrRead says of data read by a backup that began then.
func readMark(began time.Time) string { return began.UTC().Format(time.RFC3339Nano) }

// linkNumbers gives the files with several names numbers for
// [repository.Entry.HardLink]: the same in each record as long as no two want the
// same one, so that their entries need not change.
type linkNumbers struct {
	numbers map[inode]uint64
	taken   map[uint64]bool
}

func (l *linkNumbers) of(key inode, device uint64) uint64 {
	if n, ok := l.numbers[key]; ok {
		return n
	}
	if l.numbers == nil {
		l.numbers, l.taken = map[inode]uint64{}, map[uint64]bool{}
	}
	n := key.number + (device-1)<<48
	for n == 0 || l.taken[n] {
		n++
	}
	l.numbers[key], l.taken[n] = n, true
	return n
}

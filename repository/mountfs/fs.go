//go:build linux

package mountfs

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/sombra-backup/sombra/repository"
)

// Options says how a repository is shown.
type Options struct {
	// Show, if not nil, says which records are shown.
	Show func(*repository.Record) bool
	// AllowOther lets other users in; the kernel then checks permissions as
	// the entries have them, ACLs included. Without it only the user who
	// mounts gets in, and permissions do not keep him from reading.
	AllowOther bool
	// Refresh is how old the list of records may become; zero means 5 s.
	Refresh time.Duration
	// Log is told of damage. Nil is slog.Default.
	Log *slog.Logger
}

// FS is a repository as a file system, in the terms of go-fuse's raw interface.
// Its methods may be called from several goroutines.
type FS struct {
	fuse.RawFileSystem

	repo *repository.Repository
	o    Options
	log  *slog.Logger
	// ctx ends with the mount.
	ctx      context.Context
	uid, gid uint32

	view      *view
	recent    recent
	links     hardLinks
	allocated numbers
	files     openFiles

	toldMu sync.Mutex
	told   map[string]bool

	// renewing guards when the index was last read, and last read in vain.
	renewing        sync.Mutex
	renewed, inVain time.Time
}

// New makes a file system of the repository, and lists its records. The context
// ends all that goes on in it.
func New(ctx context.Context, repo *repository.Repository, o Options) (*FS, error) {
	if o.Refresh <= 0 {
		o.Refresh = 5 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	f := &FS{RawFileSystem: fuse.NewDefaultRawFileSystem(), repo: repo, o: o, log: o.Log, ctx: ctx,
		uid: uint32(os.Getuid()), gid: uint32(os.Getgid()), told: map[string]bool{}}
	f.files.init()
	f.view = newView(f)
	if err := f.view.refresh(ctx); err != nil {
		return nil, err
	}
	return f, nil
}

// String names the file system.
func (f *FS) String() string { return "sombra" }

// The timeouts for which the kernel may believe what it was told. What is in a
// record never changes; the list of records does.
const (
	recordTimeout = time.Hour
	viewTimeout   = time.Second
)

// request gives the context of a request.
func (f *FS) request(cancel <-chan struct{}) context.Context { return &fuse.Context{Cancel: cancel} }

// failed logs why something cannot be read, and gives the error number.
func (f *FS) failed(ctx context.Context, n *node, err error) syscall.Errno {
	if ctx.Err() != nil || f.ctx.Err() != nil {
		return syscall.EINTR
	}
	f.renew(err, time.Time{}) // so that the next who asks may find it
	what := "backup " + n.place.rec.ID.Short()
	if n.path != "" {
		what += ", /" + n.path
	}
	f.damaged(what, err)
	return syscall.EIO
}

// renewEvery is how often damage makes the index be read again where that did
// not help before.
const renewEvery = 10 * time.Second

// renew reads what is new in the index, if the error is one of damage: what was
// pruned meanwhile may lie elsewhere. It says whether to try again what was begun
// at a time; the zero time is of what is not tried again. Data that is lost does
// not make the index be read without end: once it was read in vain the next
// reading is renewEvery later.
func (f *FS) renew(err error, began time.Time) bool {
	if !errors.Is(err, repository.ErrDamaged) {
		return false
	}
	f.renewing.Lock()
	defer f.renewing.Unlock()
	recent := time.Since(f.renewed) < renewEvery
	switch {
	case !began.IsZero() && f.renewed.After(began):
		return true // another did it while this one failed
	case began.IsZero() && recent:
		f.inVain = time.Now()
		return false
	case recent && time.Since(f.inVain) < renewEvery:
		return false
	}
	err = f.repo.Refresh(f.ctx)
	f.renewed = time.Now()
	return err == nil
}

// keepRenewed reads what is new in the index from time to time, long before
// anything that was put elsewhere is gone from where it was.
func (f *FS) keepRenewed() {
	ticker := time.NewTicker(5 * time.Minute)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			if err := f.repo.Refresh(f.ctx); err != nil && f.ctx.Err() == nil {
				f.damaged("the index", err)
			}
		case <-f.ctx.Done():
			return
		}
	}
}

// maxTold bounds what is remembered of what was logged.
const maxTold = 4096

// damaged logs an error, once for a file and the object that is at fault.
func (f *FS) damaged(what string, err error) {
	text := what + ": " + err.Error()
	var object *repository.ObjectError
	if errors.As(err, &object) {
		text = what + "\x00" + object.Object
	}
	f.toldMu.Lock()
	again := f.told[text]
	if len(f.told) >= maxTold {
		clear(f.told)
	}
	f.told[text] = true
	f.toldMu.Unlock()
	if !again {
		f.log.Error("cannot read "+what, "error", err)
	}
}

// Lookup finds a child by name.
func (f *FS) Lookup(cancel <-chan struct{}, header *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	ctx := f.request(cancel)
	if header.NodeId>>slotShift == 0 {
		return f.lookupView(ctx, header.NodeId, name, out)
	}
	dir, errno := f.node(ctx, header.NodeId)
	if errno != 0 {
		return fuse.Status(errno)
	}
	if !dir.isDir() {
		return fuse.ENOTDIR
	}
	if len(name) > maxName {
		return fuse.Status(syscall.ENAMETOOLONG)
	}
	if dir.top {
		return f.lookupRoot(ctx, dir, name, out)
	}
	path := name
	if dir.path != "" {
		path = dir.path + "/" + name
	}
	if strings.Contains(name, "/") || name == "." || name == ".." || name == "" {
		return fuse.ENOENT
	}
	at, err := dir.table().Seek(ctx, dir.root, path)
	if err != nil {
		return fuse.Status(f.failed(ctx, dir, err))
	}
	child, found, ok, err := f.childAt(ctx, dir, at)
	if err != nil {
		return fuse.Status(f.failed(ctx, dir, err))
	}
	if !ok || found != name {
		// That it is not there will stay so.
		out.SetEntryTimeout(recordTimeout)
		out.NodeId = 0
		return fuse.OK
	}
	f.entryOut(ctx, child, out)
	return fuse.OK
}

// entryOut tells the kernel of a node.
func (f *FS) entryOut(ctx context.Context, n *node, out *fuse.EntryOut) {
	out.NodeId, out.Generation = n.id, 1
	f.attr(ctx, n, &out.Attr)
	out.SetEntryTimeout(recordTimeout)
	out.SetAttrTimeout(recordTimeout)
}

// lookupRoot finds a root of a record that has several.
func (f *FS) lookupRoot(ctx context.Context, top *node, name string, out *fuse.EntryOut) fuse.Status {
	for i, r := range top.place.rec.Roots {
		if fileName(r.ID) == name {
			n, errno := f.node(ctx, nodeID(top.place.slot, uint64(i), isRoot))
			if errno == 0 {
				f.entryOut(ctx, n, out)
			}
			return fuse.Status(errno)
		}
	}
	return fuse.ENOENT
}

// lookupView finds a child of a directory above the records.
func (f *FS) lookupView(ctx context.Context, number uint64, name string, out *fuse.EntryOut) fuse.Status {
	d := f.view.dir(number)
	if d == nil {
		return fuse.Status(syscall.ESTALE)
	}
	f.refresh(ctx)
	i := f.view.find(d, name)
	if i == nil {
		return fuse.ENOENT
	}
	return fuse.Status(f.itemOut(ctx, i, out))
}

// refresh looks for new records. If it fails those known stay.
func (f *FS) refresh(ctx context.Context) {
	if err := f.view.refresh(ctx); err != nil && ctx.Err() == nil {
		f.damaged("the list of backups", err)
	}
}

// itemOut tells the kernel of an entry of the view.
func (f *FS) itemOut(ctx context.Context, i *viewItem, out *fuse.EntryOut) syscall.Errno {
	if i.place != nil {
		n, errno := f.node(ctx, topOf(i.place))
		if errno != 0 {
			return errno
		}
		f.entryOut(ctx, n, out)
	} else {
		out.NodeId, out.Generation = itemNumber(i), 1
		f.viewAttr(out.NodeId, &out.Attr)
		out.SetAttrTimeout(viewTimeout)
	}
	out.SetEntryTimeout(viewTimeout)
	return 0
}

func itemNumber(i *viewItem) uint64 {
	switch {
	case i.place != nil:
		return topOf(i.place)
	case i.link != nil:
		return i.link.number
	}
	return i.dir.number
}

// viewAttr are the attributes of a directory or link of the view.
func (f *FS) viewAttr(number uint64, out *fuse.Attr) {
	f.dirAttr(out, time.Now())
	if target := f.view.target(number); target != "" {
		out.Mode, out.Size = syscall.S_IFLNK|0o777, uint64(len(target))
	}
	out.Ino = number
}

// GetAttr gives the attributes of a node.
func (f *FS) GetAttr(cancel <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	if in.NodeId>>slotShift == 0 {
		if in.NodeId != rootNode && f.view.dir(in.NodeId) == nil && f.view.target(in.NodeId) == "" {
			return fuse.Status(syscall.ESTALE)
		}
		f.viewAttr(in.NodeId, &out.Attr)
		out.SetTimeout(viewTimeout)
		return fuse.OK
	}
	ctx := f.request(cancel)
	n, errno := f.node(ctx, in.NodeId)
	if errno != 0 {
		return fuse.Status(errno)
	}
	f.attr(ctx, n, &out.Attr)
	out.SetTimeout(recordTimeout)
	return fuse.OK
}

// Readlink gives what a symbolic link holds.
func (f *FS) Readlink(cancel <-chan struct{}, header *fuse.InHeader) ([]byte, fuse.Status) {
	if header.NodeId>>slotShift == 0 {
		if target := f.view.target(header.NodeId); target != "" {
			return []byte(target), fuse.OK
		}
		return nil, fuse.EINVAL
	}
	n, errno := f.node(f.request(cancel), header.NodeId)
	if errno != 0 {
		return nil, fuse.Status(errno)
	}
	if n.entry == nil || n.entry.Type != repository.Symlink {
		return nil, fuse.EINVAL
	}
	// The kernel's limit; a longer one has no meaning on Linux.
	if len(n.entry.LinkTarget) >= syscall.PathMax {
		return nil, fuse.Status(syscall.ENAMETOOLONG)
	}
	return []byte(n.entry.LinkTarget), fuse.OK
}

// GetXAttr gives an extended attribute.
func (f *FS) GetXAttr(cancel <-chan struct{}, header *fuse.InHeader, attr string, dest []byte) (uint32, fuse.Status) {
	xattrs, errno := f.xattrs(cancel, header.NodeId)
	if errno != 0 {
		return 0, fuse.Status(errno)
	}
	value, ok := xattrs[attr]
	if !ok {
		return 0, fuse.ENODATA
	}
	return fill(dest, value)
}

// ListXAttr gives the names of the extended attributes.
func (f *FS) ListXAttr(cancel <-chan struct{}, header *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	xattrs, errno := f.xattrs(cancel, header.NodeId)
	if errno != 0 {
		return 0, fuse.Status(errno)
	}
	var list []byte
	for _, name := range slices.Sorted(maps.Keys(xattrs)) {
		// Such names there cannot be on Linux.
		if name == "" || len(name) > maxName || strings.ContainsRune(name, 0) {
			continue
		}
		list = append(append(list, name...), 0)
	}
	return fill(dest, list)
}

// fill puts a value into the kernel's buffer. One of no length asks for the
// size.
func fill(dest, value []byte) (uint32, fuse.Status) {
	switch {
	case len(value) > 64<<10: // XATTR_SIZE_MAX, XATTR_LIST_MAX
		return 0, fuse.Status(syscall.E2BIG)
	case len(dest) < len(value):
		return uint32(len(value)), fuse.ERANGE
	}
	return uint32(copy(dest, value)), fuse.OK
}

func (f *FS) xattrs(cancel <-chan struct{}, id uint64) (map[string][]byte, syscall.Errno) {
	if id>>slotShift == 0 {
		return nil, 0
	}
	n, errno := f.node(f.request(cancel), id)
	if errno != 0 || n.entry == nil {
		return nil, errno
	}
	return n.entry.Xattrs, 0
}

// StatFs describes the file system: it has no room.
func (f *FS) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	out.Bsize, out.Frsize, out.NameLen = 4096, 4096, maxName
	return fuse.OK
}

// OpenDir opens a directory.
func (f *FS) OpenDir(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	if in.NodeId>>slotShift != 0 {
		out.OpenFlags = fuse.FOPEN_CACHE_DIR | fuse.FOPEN_KEEP_CACHE
	}
	return fuse.OK
}

// ReadDir lists a directory.
func (f *FS) ReadDir(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return f.list(f.request(cancel), in, func(_ context.Context, e fuse.DirEntry, _ *node, _ *viewItem) (bool, syscall.Errno) {
		return out.AddDirEntry(e), 0
	})
}

// ReadDirPlus lists a directory with the attributes of all in it.
func (f *FS) ReadDirPlus(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return f.list(f.request(cancel), in, func(ctx context.Context, e fuse.DirEntry, n *node, i *viewItem) (bool, syscall.Errno) {
		o := out.AddDirLookupEntry(e)
		switch {
		case o == nil:
			return false, 0
		case n != nil:
			f.entryOut(ctx, n, o)
		case i != nil:
			// A record that cannot be read is listed without attributes; looking
			// at it gives the error.
			_ = f.itemOut(ctx, i, o)
		}
		return true, 0
	})
}

// lister takes an entry of a listing, which may have a node or an item of the
// view; more is false when there is no room left.
type lister func(ctx context.Context, e fuse.DirEntry, n *node, i *viewItem) (more bool, errno syscall.Errno)

// list lists a directory from an offset on: 0 and 1 are the directory itself
// and the one above, and each other is what the next entry is found by, plus 2.
func (f *FS) list(ctx context.Context, in *fuse.ReadIn, add lister) fuse.Status {
	for n, name := range []string{".", ".."} {
		if in.Offset > uint64(n) {
			continue
		}
		more, errno := add(ctx, fuse.DirEntry{Name: name, Mode: syscall.S_IFDIR, Ino: in.NodeId, Off: uint64(n + 1)}, nil, nil)
		if !more || errno != 0 {
			return fuse.Status(errno)
		}
	}
	from := max(in.Offset, 2) - 2
	if in.NodeId>>slotShift == 0 {
		return f.listView(ctx, in.NodeId, from, add)
	}
	dir, errno := f.node(ctx, in.NodeId)
	if errno != 0 {
		return fuse.Status(errno)
	}
	if !dir.isDir() {
		return fuse.ENOTDIR
	}
	if dir.top {
		return f.listRoots(ctx, dir, from, add)
	}
	return f.listDir(ctx, dir, from, add)
}

func (f *FS) listView(ctx context.Context, number, from uint64, add lister) fuse.Status {
	d := f.view.dir(number)
	if d == nil {
		return fuse.ENOTDIR
	}
	if from == 0 {
		f.refresh(ctx)
	}
	items, at := f.view.list(d)
	for k, i := range items {
		if uint64(at[k]) < from {
			continue
		}
		mode := uint32(syscall.S_IFDIR)
		if i.link != nil {
			mode = syscall.S_IFLNK
		}
		more, errno := add(ctx, fuse.DirEntry{Name: i.name, Mode: mode, Ino: itemNumber(i), Off: uint64(at[k]) + 3}, nil, i)
		if !more || errno != 0 {
			return fuse.Status(errno)
		}
	}
	return fuse.OK
}

func (f *FS) listRoots(ctx context.Context, top *node, from uint64, add lister) fuse.Status {
	for i, r := range top.place.rec.Roots {
		if uint64(i) < from {
			continue
		}
		n, errno := f.node(ctx, nodeID(top.place.slot, uint64(i), isRoot))
		if errno != 0 {
			return fuse.Status(errno)
		}
		more, errno := add(ctx, fuse.DirEntry{Name: fileName(r.ID), Mode: syscall.S_IFDIR, Ino: n.id, Off: uint64(i) + 3}, n, nil)
		if !more || errno != 0 {
			return fuse.Status(errno)
		}
	}
	return fuse.OK
}

// listDir lists a directory of a record. The offset after an entry is its
// number, so that a listing can be taken up anywhere.
func (f *FS) listDir(ctx context.Context, dir *node, from uint64, add lister) fuse.Status {
	at, err := f.listFrom(ctx, dir, from)
	for err == nil {
		var child *node
		var name string
		var ok bool
		if child, name, ok, err = f.childAt(ctx, dir, at); err != nil || !ok {
			break
		}
		if len(name) <= maxName {
			ino := child.id
			var attr fuse.Attr
			if child.entry != nil && child.entry.HardLink != 0 {
				f.attr(ctx, child, &attr)
				ino = attr.Ino
			}
			mode := uint32(syscall.S_IFDIR)
			if child.entry != nil {
				mode = fileTypes[child.entry.Type]
			}
			more, errno := add(ctx, fuse.DirEntry{Name: name, Mode: mode, Ino: ino, Off: uint64(at) + 3}, child, nil)
			if !more || errno != 0 {
				return fuse.Status(errno)
			}
		} else {
			f.damaged("a name of "+dir.path, errors.New("it is longer than Linux takes, and not shown"))
		}
		at, err = f.after(ctx, child, at)
	}
	if err != nil {
		return fuse.Status(f.failed(ctx, dir, err))
	}
	return fuse.OK
}

// listFrom finds where a listing begins or goes on.
func (f *FS) listFrom(ctx context.Context, dir *node, from uint64) (int64, error) {
	if from == 0 {
		at, err := dir.table().Seek(ctx, dir.root, dir.path)
		if err != nil || dir.entry == nil {
			return at, err
		}
		return at + 1, nil
	}
	at := int64(from - 1)
	child, _, ok, err := f.childAt(ctx, dir, at)
	if err != nil {
		return 0, err
	}
	if !ok {
		return 0, io.ErrUnexpectedEOF // an offset that was never given
	}
	return f.after(ctx, child, at)
}

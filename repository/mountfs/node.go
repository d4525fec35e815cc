//go:build linux

package mountfs

import (
	"context"
	"fmt"
	"math"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/sombra-backup/sombra/repository"
)

// A node's number has, from the top, 20 bits for the place of a record, 36 for
// the number of an entry in its file table, and 8 that say what it is of that
// entry. With a place of zero it is a node of the view.
const (
	rootNode = fuse.FUSE_ROOT_ID

	slotShift  = 44
	entryShift = 8
	maxSlot    = 1<<(64-slotShift) - 1
	maxEntry   = 1<<(slotShift-entryShift) - 1

	// isEntry is the entry itself; 1 to maxImplied the directory of so many
	// names above it that has no entry of its own.
	isEntry    = 0
	maxImplied = 250
	// isRoot is the root of the record that has that number.
	isRoot = 255
	// isTop is the directory of all roots, of a record that has several.
	isTop = 254
	// isLinked is in inode numbers only: a file of several names.
	isLinked = 253
)

func nodeID(slot, entry, what uint64) uint64 { return slot<<slotShift | entry<<entryShift | what }

// node is a file or directory of a record.
type node struct {
	id    uint64
	place *place
	root  string
	path  string
	// entry is nil for a directory that has none.
	entry *repository.Entry
	// top says that it is the directory of all roots.
	top bool
}

func (n *node) isDir() bool { return n.entry == nil || n.entry.Type == repository.Directory }

func (n *node) table() *repository.Table { return n.place.rec.Table() }

// node gives the node of that number, which the kernel was told before.
func (f *FS) node(ctx context.Context, id uint64) (*node, syscall.Errno) {
	p := f.view.slot(id >> slotShift)
	if p == nil {
		return nil, syscall.ESTALE
	}
	f.recent.use(p.rec)
	number, what := id>>entryShift&maxEntry, id&0xff
	n := &node{id: id, place: p}
	switch {
	case what == isTop:
		n.top = true
		return n, 0
	case what == isRoot && number < uint64(len(p.rec.Roots)):
		n.root = p.rec.Roots[number].ID
		return n, f.own(ctx, n)
	case what > maxImplied:
		return nil, syscall.ESTALE
	}
	e, err := n.table().At(ctx, int64(number))
	if err != nil {
		return nil, f.failed(ctx, n, err)
	}
	n.root, n.path, n.entry = e.Root, e.Path, e
	if what != isEntry {
		n.entry = nil
		if n.path = firstNames(e.Path, int(what)); n.path == e.Path {
			return nil, syscall.ESTALE
		}
	}
	return n, 0
}

// own looks for the entry of a root.
func (f *FS) own(ctx context.Context, n *node) syscall.Errno {
	at, err := n.table().Seek(ctx, n.root, "")
	if err == nil && at < n.table().Len() {
		var e *repository.Entry
		if e, err = n.table().At(ctx, at); err == nil && e.Root == n.root && e.Path == "" && e.Type == repository.Directory {
			n.entry = e
		}
	}
	if err != nil {
		return f.failed(ctx, n, err)
	}
	return 0
}

// firstNames gives the first names of a path.
func firstNames(path string, count int) string {
	for i := range len(path) {
		if path[i] == '/' {
			if count--; count == 0 {
				return path[:i]
			}
		}
	}
	return path
}

// topOf gives the number of the directory that shows a record.
func topOf(p *place) uint64 {
	if len(p.rec.Roots) == 1 {
		return nodeID(p.slot, 0, isRoot)
	}
	return nodeID(p.slot, 0, isTop)
}

// below gives the part of a path below a directory, and whether it is there.
func below(path, dir string) (string, bool) {
	if dir == "" {
		return path, path != ""
	}
	rest, ok := strings.CutPrefix(path, dir)
	if !ok || rest == "" || rest[0] != '/' {
		return "", false
	}
	return rest[1:], true
}

// childAt gives the child of a directory that the entry of that number is, or
// lies in. ok is false if it lies elsewhere.
func (f *FS) childAt(ctx context.Context, dir *node, number int64) (child *node, name string, ok bool, err error) {
	if number >= dir.table().Len() {
		return nil, "", false, nil
	}
	if number > maxEntry {
		return nil, "", false, errTooMany
	}
	e, err := dir.table().At(ctx, number)
	if err != nil {
		return nil, "", false, err
	}
	rest, in := below(e.Path, dir.path)
	if e.Root != dir.root || !in {
		return nil, "", false, nil
	}
	name, deeper, implied := strings.Cut(rest, "/")
	child = &node{place: dir.place, root: dir.root, path: e.Path[:len(e.Path)-len(rest)+len(name)], entry: e}
	what := uint64(isEntry)
	if implied && deeper != "" {
		child.entry = nil
		what = uint64(strings.Count(child.path, "/") + 1)
	}
	if what > maxImplied {
		return nil, "", false, errTooDeep
	}
	child.id = nodeID(dir.place.slot, uint64(number), what)
	return child, name, true, nil
}

// What node numbers have no room for.
var (
	errTooMany = fmt.Errorf("the file table has more than %d entries", int64(maxEntry))
	errTooDeep = fmt.Errorf("a directory without an entry is deeper than %d names", maxImplied)
)

// after gives the number of the first entry that is neither the child nor below
// it.
func (f *FS) after(ctx context.Context, child *node, number int64) (int64, error) {
	if !child.isDir() {
		return number + 1, nil
	}
	// No name has a NUL, and the slash comes before all other bytes: this is
	// the first place after all that is below.
	next, err := child.table().Seek(ctx, child.root, child.path+"\x00")
	// A hostile table may have it elsewhere; a listing must go on all the same.
	return max(next, number+1), err
}

// attr fills in the attributes of a node.
func (f *FS) attr(ctx context.Context, n *node, out *fuse.Attr) {
	out.Ino, out.Nlink, out.Blksize = n.id, 1, 64<<10
	e := n.entry
	if e == nil {
		f.dirAttr(out, n.place.rec.Time)
		out.Ino = n.id
		return
	}
	out.Mode = fileMode(e, n.place.rec.Host.PathStyle)
	out.Uid, out.Gid = e.UID, e.GID
	out.Size = uint64(e.Size)
	if e.Type == repository.Symlink {
		out.Size = uint64(len(e.LinkTarget))
	}
	mtime := e.ModTime
	out.Mtime, out.Mtimensec = seconds(mtime)
	out.Atime, out.Atimensec = seconds(orTime(e.AccessTime, mtime))
	out.Ctime, out.Ctimensec = seconds(orTime(e.ChangeTime, mtime))
	switch e.Type {
	case repository.CharDevice, repository.BlockDevice:
		out.Rdev = uint32(e.Rdev)
	case repository.Regular:
		out.Blocks = f.blocks(ctx, n)
	case repository.Directory:
		out.Blocks = 1
	}
	if e.HardLink != 0 && e.Type != repository.Directory {
		if number, ok := f.links.number(n.place.rec.ID, e.HardLink); ok {
			out.Ino, out.Nlink = nodeID(n.place.slot, number, isLinked), max(e.Nlink, 2)
		}
	}
}

// dirAttr are the attributes of a directory that is nobody's.
func (f *FS) dirAttr(out *fuse.Attr, t time.Time) {
	out.Mode, out.Nlink, out.Size = syscall.S_IFDIR|0o555, 1, 4096
	out.Uid, out.Gid = f.uid, f.gid
	out.Mtime, out.Mtimensec = seconds(t)
	out.Atime, out.Atimensec = seconds(t)
	out.Ctime, out.Ctimensec = seconds(t)
}

func orTime(t, other time.Time) time.Time {
	if t.IsZero() {
		return other
	}
	return t
}

// seconds gives a time as the kernel has it, zero for an unknown one.
func seconds(t time.Time) (uint64, uint32) {
	if t.IsZero() {
		return 0, 0
	}
	return uint64(t.Unix()), uint32(t.Nanosecond())
}

// fileTypes are the types as Linux has them. A reparse point is shown as a file
// without content.
var fileTypes = [...]uint32{
	repository.Regular: syscall.S_IFREG, repository.Directory: syscall.S_IFDIR, repository.Symlink: syscall.S_IFLNK,
	repository.Fifo: syscall.S_IFIFO, repository.Socket: syscall.S_IFSOCK,
	repository.CharDevice: syscall.S_IFCHR, repository.BlockDevice: syscall.S_IFBLK, repository.Reparse: syscall.S_IFREG,
}

// fileMode gives type and permission bits. Windows has none of these: all may
// read.
func fileMode(e *repository.Entry, style string) uint32 {
	mode := e.Mode
	if style == "windows" {
		mode = 0o444
		if e.Type == repository.Directory {
			mode = 0o555
		}
	}
	if e.Type == repository.Symlink {
		mode = 0o777
	}
	return fileTypes[e.Type] | mode
}

// hardLinks gives files of several names their numbers.
type hardLinks struct {
	mu    sync.Mutex
	large map[largeLink]uint64
}

type largeLink struct {
	record repository.ID
	group  uint64
}

// maxLarge bounds the memory for groups that do not fit.
const maxLarge = 1 << 18

// number gives a number for the group, which tells it from all other groups of
// the record. Requesters count groups from 1; of another's large numbers so many
// are told apart, and what is over is shown as files of their own.
func (h *hardLinks) number(record repository.ID, group uint64) (uint64, bool) {
	if group <= maxEntry/2 {
		return group, true
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.large == nil {
		h.large = map[largeLink]uint64{}
	}
	key := largeLink{record, group}
	n, ok := h.large[key]
	if !ok && len(h.large) < maxLarge {
		n, ok = uint64(len(h.large)), true
		h.large[key] = n
	}
	return maxEntry - n, ok
}

// blocks counts the 512-byte blocks of a file that are not in holes.
func (f *FS) blocks(ctx context.Context, n *node) uint64 {
	size := n.entry.Content.Size()
	all := uint64(size)/512 + uint64(min(size%512, 1))
	if size == 0 {
		return 0
	}
	if b, ok := f.allocated.get(n.id); ok {
		return b
	}
	file, err := f.repo.OpenContent(ctx, n.entry.Content)
	if err != nil {
		return all
	}
	// Extent lists of very large files are not read for this: a listing must
	// not take minutes.
	bytes, ok, err := file.Allocated(ctx, maxListBlocks)
	b := all
	if ok && err == nil && bytes >= 0 && bytes < math.MaxInt64-511 {
		b = uint64(bytes+511) / 512
	}
	if err == nil {
		f.allocated.put(n.id, b)
	}
	return b
}

// maxListBlocks is how many blocks of an extent list are read to know what a
// file has allocated.
const maxListBlocks = 64

package extents

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/fnv"
	"io"
	"math"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Of <linux/btrfs.h> and <linux/btrfs_tree.h>.
const (
	iocTreeSearchV2 = 0xc0709411 // _IOWR(0x94, 17, struct btrfs_ioctl_search_args_v2)

	itemInode  = 1   // BTRFS_INODE_ITEM_KEY
	itemOrphan = 48  // BTRFS_ORPHAN_ITEM_KEY
	itemExtent = 108 // BTRFS_EXTENT_DATA_KEY
	itemRoot   = 132 // BTRFS_ROOT_ITEM_KEY

	treeOfFile  = 0 // the subvolume the file is in
	treeOfTrees = 1 // BTRFS_ROOT_TREE_OBJECTID

	objectOrphans = math.MaxUint64 - 4 // BTRFS_ORPHAN_OBJECTID, -5

	extentInline   = 0
	extentRegular  = 1
	extentPrealloc = 2

	searchBuffer  = 256 << 10
	searchHeader  = 32 // struct btrfs_ioctl_search_header
	inlineHeader  = 21 // struct btrfs_file_extent_item up to its data
	regularExtent = 53 // all of it
	inodeItem     = 160
	sectorMost    = 64 << 10 // no file system has larger ones
)

// treeSearch is struct btrfs_ioctl_search_args_v2 with its buffer.
type treeSearch struct {
	treeID                 uint64
	minObject, maxObject   uint64
	minOffset, maxOffset   uint64
	minTransid, maxTransid uint64
	minType, maxType       uint32
	items, _               uint32
	_                      [4]uint64
	size                   uint64
	buffer                 [searchBuffer]byte
}

var _ [112 + searchBuffer]byte = [unsafe.Sizeof(treeSearch{})]byte{}

// search lists items of one object of a tree of the file system f is on, such as
// an inode.
func (s *treeSearch) search(f *os.File, tree, object uint64, kind uint32, from uint64) error {
	s.treeID = tree
	s.minObject, s.maxObject = object, object
	s.minOffset, s.maxOffset = from, math.MaxUint64
	s.minTransid, s.maxTransid = 0, math.MaxUint64
	s.minType, s.maxType = kind, kind
	s.items, s.size = math.MaxUint32, searchBuffer
	return ioctl(f, iocTreeSearchV2, s)
}

// item is one record found.
type item struct {
	transid, object, offset uint64
	kind                    uint32
	data                    []byte
}

// each gives the records found to fn, checking what the kernel wrote.
func (s *treeSearch) each(fn func(item) error) error {
	b := s.buffer[:]
	for range s.items {
		if len(b) < searchHeader {
			return refuse("the kernel's answer is cut short")
		}
		it := item{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:]), binary.LittleEndian.Uint64(b[16:]),
			binary.LittleEndian.Uint32(b[24:]), nil}
		n := int(binary.LittleEndian.Uint32(b[28:]))
		if n > len(b)-searchHeader {
			return refuse("the kernel's answer is cut short")
		}
		it.data, b = b[searchHeader:searchHeader+n], b[searchHeader+n:]
		if err := fn(it); err != nil {
			return err
		}
	}
	return nil
}

// btrfsTree lists the extents of a file from the file system's own records.
type btrfsTree struct {
	file   *os.File
	inode  uint64
	search treeSearch
	from   uint64
	queue  []extent
	end    bool
}

func newBtrfsTree(f *os.File, inode uint64) *btrfsTree { return &btrfsTree{file: f, inode: inode} }

func (t *btrfsTree) next(ctx context.Context) (extent, error) {
	for len(t.queue) == 0 {
		if t.end {
			return extent{}, io.EOF
		}
		if err := t.more(ctx); err != nil {
			return extent{}, err
		}
	}
	e := t.queue[0]
	t.queue = t.queue[1:]
	return e, nil
}

func (t *btrfsTree) more(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := t.search.search(t.file, treeOfFile, t.inode, itemExtent, t.from); err != nil {
		return mapError("BTRFS_IOC_TREE_SEARCH_V2", err)
	}
	t.queue = t.queue[:0]
	t.end = t.search.items == 0
	return t.search.each(func(it item) error {
		if it.object != t.inode || it.kind != itemExtent || it.offset < t.from || it.offset == math.MaxUint64 {
			return refuse("the kernel's answer is not what was asked for")
		}
		t.from = it.offset + 1
		e, hole, err := btrfsPart(it.offset, it.data)
		if err == nil && !hole {
			t.queue = append(t.queue, e)
		}
		return err
	})
}

// btrfsPart reads a struct btrfs_file_extent_item.
func btrfsPart(offset uint64, b []byte) (e extent, hole bool, err error) {
	if len(b) < inlineHeader {
		return e, false, refuse("the record of the extent at %d has %d bytes", offset, len(b))
	}
	compression, encryption, other, kind := b[16], b[17], binary.LittleEndian.Uint16(b[18:]), b[20]
	if encryption != 0 || other != 0 {
		return e, false, refuse("the data at %d is encrypted or encoded", offset)
	}
	e.offset = offset
	if kind == extentInline {
		// It stands for a whole sector at least, whose rest is zeros.
		e.kind, e.length = opaque, max(binary.LittleEndian.Uint64(b[8:]), 1)
		if e.length > sectorMost {
			return e, false, refuse("the inline extent at %d has %d bytes", offset, e.length)
		}
		return e, false, nil
	}
	if len(b) < regularExtent {
		return e, false, refuse("the record of the extent at %d has %d bytes", offset, len(b))
	}
	disk, inner := binary.LittleEndian.Uint64(b[21:]), binary.LittleEndian.Uint64(b[37:])
	e.length = binary.LittleEndian.Uint64(b[45:])
	switch {
	case disk == 0:
		return e, true, nil
	case kind == extentPrealloc:
		e.kind = zero
	case kind != extentRegular:
		return e, false, refuse("the extent at %d is of type %d, which this program does not know", offset, kind)
	case compression == 0:
		e.place = disk + inner
	default:
		e.place, e.inner, e.encoding = disk, inner, compression
	}
	return e, false, nil
}

// ErrNotRoot says that a question is answered to root only.
var errNotRoot = errors.New("only root is told")

// InodeTransid is the number of the last transaction in which the open file of a
// btrfs was changed. Only root is told: others get VSS_E_NOT_SUPPORTED.
func InodeTransid(f *os.File) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return 0, os.NewSyscallError("fstat", err)
	}
	s := new(treeSearch)
	if err := s.search(f, treeOfFile, st.Ino, itemInode, 0); err != nil {
		if err == unix.EPERM {
			return 0, refuse("when a file was changed last: %w", errNotRoot)
		}
		return 0, mapError("BTRFS_IOC_TREE_SEARCH_V2", err)
	}
	transid, found := uint64(0), false
	err := s.each(func(it item) error {
		if it.object != st.Ino || it.kind != itemInode || len(it.data) < inodeItem {
			return refuse("the kernel's answer is not what was asked for")
		}
		transid, found = binary.LittleEndian.Uint64(it.data[8:]), true
		return nil
	})
	if err == nil && !found {
		err = refuse("the file's inode is not in the tree it was opened in")
	}
	return transid, err
}

// Removal is what is left to remove of the deleted subvolumes of a btrfs.
type Removal struct {
	Subvolumes int    // of which something is left
	State      uint64 // another one whenever the kernel got on with it
}

// RemovalOf tells what the kernel has still to remove, in the background, of the
// deleted subvolumes of the btrfs of f. One of which a file is open it does not begin
// to remove. Only root is told: others get VSS_E_NOT_SUPPORTED.
func RemovalOf(f *os.File) (r Removal, err error) {
	orphans, root := new(treeSearch), new(treeSearch)
	if err := searchTrees(orphans, f, objectOrphans, itemOrphan); err != nil {
		return r, err
	}
	state := fnv.New64a()
	err = orphans.each(func(it item) error {
		if it.object != objectOrphans || it.kind != itemOrphan {
			return refuse("the kernel's answer is not what was asked for")
		}
		// The offset names a tree, or the file of an old free space cache.
		if err := searchTrees(root, f, it.offset, itemRoot); err != nil || root.items == 0 {
			return err
		}
		r.Subvolumes++
		return root.each(func(it item) error {
			state.Write(binary.LittleEndian.AppendUint64(nil, it.object))
			state.Write(it.data) // how far it has come is in there
			return nil
		})
	})
	r.State = state.Sum64()
	return r, err
}

func searchTrees(s *treeSearch, f *os.File, object uint64, kind uint32) error {
	err := s.search(f, treeOfTrees, object, kind, 0)
	if err == unix.EPERM {
		return refuse("what subvolumes are being removed: %w", errNotRoot)
	}
	if err != nil {
		return mapError("BTRFS_IOC_TREE_SEARCH_V2", err)
	}
	return nil
}

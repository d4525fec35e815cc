package btrfs

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The requests of <linux/btrfs.h> that are used here: _IOC(dir, 0x94, nr, size).
const (
	iocSync              = 0x00009408 // _IO(8)
	iocSnapDestroy       = 0x5000940f // _IOW(15), struct btrfs_ioctl_vol_args
	iocSnapCreateV2      = 0x50009417 // _IOW(23), struct btrfs_ioctl_vol_args_v2
	iocSubvolGetFlags    = 0x80089419 // _IOR(25), u64
	iocSubvolSetFlags    = 0x4008941a // _IOW(26), u64
	iocFSInfo            = 0x8400941f // _IOR(31), struct btrfs_ioctl_fs_info_args
	iocGetSubvolInfo     = 0x81f8943c // _IOR(60), struct btrfs_ioctl_get_subvol_info_args
	iocGetSubvolRootRef  = 0xd000943d // _IOWR(61), struct btrfs_ioctl_get_subvol_rootref_args
	iocInoLookupUser     = 0xd000943e // _IOWR(62), struct btrfs_ioctl_ino_lookup_user_args
	subvolReadOnly       = 1 << 1     // BTRFS_SUBVOL_RDONLY
	firstFreeObjectID    = 256        // the inode of every subvolume's root
	emptySubvolDirObject = 2          // the inode that stands for a subvolume in a snapshot of its parent
)

// volArgs is struct btrfs_ioctl_vol_args.
type volArgs struct {
	fd   int64
	name [4088]byte
}

// volArgsV2 is struct btrfs_ioctl_vol_args_v2.
type volArgsV2 struct {
	fd      int64
	transid uint64
	flags   uint64
	unused  [4]uint64
	name    [4040]byte
}

// fsInfo is struct btrfs_ioctl_fs_info_args.
type fsInfo struct {
	maxID, numDevices uint64
	fsid              [16]byte
	rest              [1024 - 32]byte
}

// subvolInfo is struct btrfs_ioctl_get_subvol_info_args.
type subvolInfo struct {
	treeID       uint64
	name         [256]byte
	parentID     uint64
	dirID        uint64
	generation   uint64
	flags        uint64
	uuid         [16]byte
	parentUUID   [16]byte
	receivedUUID [16]byte
	ctransid     uint64 // of the last change
	otransid     uint64 // of its making
	_            [2]uint64
	ctime        [2]uint64 // seconds, and nanoseconds in the low half
	otime        [2]uint64 // of its making
	_            [2][2]uint64
	reserved     [8]uint64
}

// rootRefs is struct btrfs_ioctl_get_subvol_rootref_args.
type rootRefs struct {
	minTreeID uint64
	refs      [255]struct{ treeID, dirID uint64 }
	num       uint8
	_         [7]uint8
}

// inoLookupUser is struct btrfs_ioctl_ino_lookup_user_args.
type inoLookupUser struct {
	dirID, treeID uint64
	name          [256]byte
	path          [3824]byte
}

// The sizes are part of the requests' numbers; a difference does not compile.
var (
	_ [4096]byte = [unsafe.Sizeof(volArgs{})]byte{}
	_ [4096]byte = [unsafe.Sizeof(volArgsV2{})]byte{}
	_ [1024]byte = [unsafe.Sizeof(fsInfo{})]byte{}
	_ [504]byte  = [unsafe.Sizeof(subvolInfo{})]byte{}
	_ [4096]byte = [unsafe.Sizeof(rootRefs{})]byte{}
	_ [4096]byte = [unsafe.Sizeof(inoLookupUser{})]byte{}
)

// ioctl performs a request whose argument is a *T of the matching structure.
func ioctl[T any](fd int, request uintptr, arg *T) error {
	for {
		_, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(arg)))
		runtime.KeepAlive(arg)
		switch e {
		case 0:
			return nil
		case unix.EINTR:
		default:
			return e
		}
	}
}

// snapshot makes a read-only snapshot of the subvolume src as the entry name of
// the directory dir.
func snapshot(src, dir int, name string) error {
	args := volArgsV2{fd: int64(src), flags: subvolReadOnly}
	if len(name) >= len(args.name) {
		return unix.ENAMETOOLONG
	}
	copy(args.name[:], name)
	return ioctl(dir, iocSnapCreateV2, &args)
}

// destroy deletes the subvolume that is the entry name of dir.
func destroy(dir int, name string) error {
	var args volArgs
	if len(name) >= len(args.name) {
		return unix.ENAMETOOLONG
	}
	copy(args.name[:], name)
	return ioctl(dir, iocSnapDestroy, &args)
}

// isReadOnly tells whether the subvolume fd is the root of is read-only.
func isReadOnly(fd int) (bool, error) {
	var flags uint64
	err := ioctl(fd, iocSubvolGetFlags, &flags)
	return flags&subvolReadOnly != 0, err
}

// makeWritable takes away the read-only property.
func makeWritable(fd int) error {
	var flags uint64
	if err := ioctl(fd, iocSubvolGetFlags, &flags); err != nil {
		return err
	}
	flags &^= subvolReadOnly
	return ioctl(fd, iocSubvolSetFlags, &flags)
}

// fileSystemID is the UUID of the file system fd is on.
func fileSystemID(fd int) ([16]byte, error) {
	var info fsInfo
	err := ioctl(fd, iocFSInfo, &info)
	return info.fsid, err
}

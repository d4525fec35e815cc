package volumeid

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// fsGetUUID is FS_IOC_GETFSUUID, since Linux 6.9, and subvolInfo is
	// BTRFS_IOC_GET_SUBVOL_INFO. Neither needs a privilege.
	fsGetUUID  = 0x80111500
	subvolInfo = 0x81f8943c
)

// Of names the volume a directory lies on by what survives a restart of the
// machine: the subvolume's UUID on btrfs, else the file system's. It is empty
// where there is none, and for a path that leads through a symbolic link.
func Of(dir string) string {
	fd, err := openNoLinks(dir)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	var fs unix.Statfs_t
	if unix.Fstatfs(fd, &fs) == nil && fs.Type == unix.BTRFS_SUPER_MAGIC {
		if id := subvolumeID(fd); id != "" {
			return id
		}
	}
	if id := fileSystemID(fd); id != "" {
		return id
	}
	return deviceUUID(fd)
}

// fileSystemID asks the file system for its UUID.
func fileSystemID(fd int) string {
	var uuid [17]byte // its length, then the UUID
	if !ioctl(fd, fsGetUUID, unsafe.Pointer(&uuid)) || uuid[0] != 16 || [16]byte(uuid[1:]) == [16]byte{} {
		return ""
	}
	return formatUUID(uuid[1:])
}

// subvolumeID gives a btrfs subvolume's UUID. The top one may have none; it has
// its number then.
func subvolumeID(fd int) string {
	const (
		size   = 504
		uuidAt = 296
	)
	var info [size]byte
	if !ioctl(fd, subvolInfo, unsafe.Pointer(&info)) {
		return ""
	}
	if uuid := info[uuidAt : uuidAt+16]; [16]byte(uuid) != [16]byte{} {
		return formatUUID(uuid)
	}
	id := fileSystemID(fd)
	if id == "" {
		return ""
	}
	return fmt.Sprintf("%s/%d", id, binary.NativeEndian.Uint64(info[:]))
}

// deviceUUID looks the volume's device up among the names udev keeps.
func deviceUUID(fd int) string {
	const dir = "/dev/disk/by-uuid"
	var st, dev unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return ""
	}
	names, _ := os.ReadDir(dir) // without udev there are no names
	for _, n := range names {
		if unix.Stat(filepath.Join(dir, n.Name()), &dev) == nil && dev.Mode&unix.S_IFMT == unix.S_IFBLK && dev.Rdev == st.Dev {
			return n.Name()
		}
	}
	return ""
}

func openNoLinks(dir string) (int, error) {
	how := unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	}
	for {
		fd, err := unix.Openat2(unix.AT_FDCWD, dir, &how)
		if !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN) {
			return fd, err
		}
	}
}

func ioctl(fd int, request uintptr, arg unsafe.Pointer) bool {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(arg))
	return errno == 0
}

func formatUUID(b []byte) string {
	h := hex.EncodeToString(b)
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

package volume

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The requests that tell a file system's UUID, none of which needs a privilege.
const (
	fsIocGetFSUUID   = 0x80111500 // FS_IOC_GETFSUUID, _IOR(0x15, 0, struct fsuuid2), Linux 6.9
	ext4IocGetFSUUID = 0x8008662c // EXT4_IOC_GETFSUUID, _IOR('f', 44, struct fsuuid), Linux 6.0
	xfsIocFSGeometry = 0x80705864 // XFS_IOC_FSGEOMETRY_V1, _IOR('X', 100, struct xfs_fsop_geom_v1)
	btrfsIocFSInfo   = 0x8400941f // BTRFS_IOC_FS_INFO, _IOR(0x94, 31, struct btrfs_ioctl_fs_info_args)
	btrfsIocGetFlags = 0x80089419 // BTRFS_IOC_SUBVOL_GETFLAGS, _IOR(0x94, 25, u64)
)

func ioctl(fd int, request uintptr, arg unsafe.Pointer) error {
	for {
		_, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(arg))
		runtime.KeepAlive(arg)
		if e == unix.EINTR {
			continue
		}
		if e != 0 {
			return e
		}
		return nil
	}
}

// hasUUID tells the file systems whose UUID is worth asking for. Those without
// a block device may have one that is new at each mount, as tmpfs does.
func (m *mount) hasUUID() bool { return m.major != 0 || m.fsType == "btrfs" || m.fsType == "bcachefs" }

// fsUUID is the UUID of the file system that fd is on, empty if it has none or
// none can be found out. The device is the file system's own, of mountinfo.
func fsUUID(fd int, fsType string, major, minor uint32) string {
	if u := ioctlUUID(fd, fsType); u != "" {
		return u
	}
	if u := udevUUID(major, minor); u != "" {
		return u
	}
	return linkUUID(major, minor)
}

func ioctlUUID(fd int, fsType string) string {
	switch fsType {
	case "btrfs":
		var info struct {
			maxID, devices uint64
			uuid           [16]byte
			rest           [1024 - 32]byte
		}
		if ioctl(fd, btrfsIocFSInfo, unsafe.Pointer(&info)) == nil {
			return formatUUID(info.uuid)
		}
	case "xfs":
		var geometry struct {
			sizes  [8]uint32
			blocks [4]uint64
			uuid   [16]byte
			rest   [8]uint32
		}
		if ioctl(fd, xfsIocFSGeometry, unsafe.Pointer(&geometry)) == nil {
			return formatUUID(geometry.uuid)
		}
	case "ext4", "ext3", "ext2":
		ext := struct {
			length, flags uint32
			uuid          [16]byte
		}{length: 16}
		if ioctl(fd, ext4IocGetFSUUID, unsafe.Pointer(&ext)) == nil {
			return formatUUID(ext.uuid)
		}
	}
	var general struct {
		length uint8
		uuid   [16]byte
	}
	if ioctl(fd, fsIocGetFSUUID, unsafe.Pointer(&general)) == nil && general.length == 16 {
		return formatUUID(general.uuid)
	}
	return ""
}

// formatUUID writes a UUID as Linux tools do; empty for one of zeros.
func formatUUID(u [16]byte) string {
	if u == [16]byte{} {
		return ""
	}
	x := hex.EncodeToString(u[:])
	return strings.Join([]string{x[:8], x[8:12], x[12:16], x[16:20], x[20:]}, "-")
}

// udevUUID looks into udev's database. Its file systems may have short ids,
// such as "6A3B-12FF" of FAT.
func udevUUID(major, minor uint32) string {
	b, err := os.ReadFile("/run/udev/data/b" + strconv.Itoa(int(major)) + ":" + strconv.Itoa(int(minor)))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		if u, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "E:ID_FS_UUID="); ok && isUUID(u) {
			return u
		}
	}
	return ""
}

func linkUUID(major, minor uint32) string {
	const dir = "/dev/disk/by-uuid"
	links, err := os.ReadDir(dir)
	if err != nil {
		return ""
	}
	for _, l := range links {
		var st unix.Stat_t
		if unix.Stat(filepath.Join(dir, l.Name()), &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFBLK &&
			st.Rdev == unix.Mkdev(major, minor) && isUUID(l.Name()) {
			return l.Name()
		}
	}
	return ""
}

// isUUID keeps ids apart from the other forms of a volume's id.
func isUUID(s string) bool {
	if len(s) < 4 || len(s) > 64 {
		return false
	}
	return strings.Trim(s, "0123456789abcdefABCDEF-") == ""
}

package volume

import "github.com/sombra-backup/sombra/provider"

// TimesTell is what [session.Volume] says of a volume, by the type of its file
// system:
//
//   - ext2, ext3, ext4, XFS, btrfs: tested, see the tests of localfs and of the
//     requester; f2fs, JFS, bcachefs and ZFS by the same way through the kernel:
//     pages are write-protected when they are written back, and the fault at the
//     next store sets the times.
//   - not tmpfs: its pages are never written back, and no store moves a time.
//   - not overlay: it is as its upper layer is, which may be tmpfs, and flushes
//     nothing if it is mounted volatile. Neither can be known from within a
//     container.
//   - not what another host or a process serves (NFS, CIFS, FUSE and so on): its times
//     are of another clock, are cached, or are whatever the server says.
//   - not FAT, exFAT and others without a change time that nobody can set.
func TimesTell(v provider.Volume) bool {
	switch v.FSType {
	case "ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "jfs", "bcachefs", "zfs":
		return true
	}
	return false
}

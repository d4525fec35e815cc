package extents

import (
	"context"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/vss"
)

// Compare gives the ranges of the file now, sorted and apart from each other,
// that cover every byte in which it differs from the file base, and every byte
// past the end of base. Both must be open regular files of one file system,
// which nobody writes to. VSS_E_NOT_SUPPORTED says why nothing can be vouched
// for; the files must be read then.
func Compare(ctx context.Context, base, now *os.File, o Options) (vss.Ranges, error) {
	o = o.withDefaults()
	old, err := examine(base)
	if err != nil {
		return nil, err
	}
	fresh, err := examine(now)
	if err != nil {
		return nil, err
	}
	if old.place != fresh.place {
		return nil, refuse("the two are not on one file system")
	}
	list := lister(old.fs, base)
	ranges, err := compareHeld(ctx, func() extents { return list(base, old.inode) }, list(now, fresh.inode), old.size, fresh.size, o)
	if err != nil {
		return nil, err
	}
	if again, err := examine(base); err != nil || again != old {
		return nil, refuse("it changed meanwhile")
	}
	if again, err := examine(now); err != nil || again != fresh {
		return nil, refuse("it changed meanwhile")
	}
	return ranges, nil
}

// Serves reports whether files on a type of file system (as the kernel calls it)
// can be compared.
func Serves(fsType string) bool { return fsType == "btrfs" || fsType == "xfs" }

// examined is what is looked at of a file before and after.
type examined struct {
	fs           int64
	place        uint64 // the same for files of one file system
	inode, size  uint64
	mtime, ctime unix.StatxTimestamp
}

func examine(f *os.File) (x examined, err error) {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &fs); err != nil {
		return x, os.NewSyscallError("fstatfs", err)
	}
	var st unix.Statx_t
	if err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH|unix.AT_STATX_SYNC_AS_STAT, unix.STATX_BASIC_STATS|unix.STATX_MNT_ID, &st); err != nil {
		return x, os.NewSyscallError("statx", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return x, refuse("it is no regular file")
	}
	place := unix.Mkdev(st.Dev_major, st.Dev_minor)
	switch int64(fs.Type) {
	case unix.BTRFS_SUPER_MAGIC:
		// Each subvolume has a device number of its own, and two images of one
		// file system the same UUID; but a mount has one file system.
		if place = st.Mnt_id; st.Mask&unix.STATX_MNT_ID == 0 {
			return x, refuse("the kernel does not tell through which mount a file is reached (Linux 5.8 does)")
		}
	case unix.XFS_SUPER_MAGIC:
		if realtime, err := isRealtime(f); err != nil {
			return x, err
		} else if realtime {
			return x, refuse("it lies on the realtime device, whose places are numbered like those of the other")
		}
	default:
		return x, refuse("places on a file system of type %#x are not known to be unique", fs.Type)
	}
	return examined{int64(fs.Type), place, st.Ino, st.Size, st.Mtime, st.Ctime}, nil
}

// fsxattr is struct fsxattr.
type fsxattr struct {
	flags, extsize, nextents, project, cowextsize uint32
	_                                             [8]byte
}

const (
	iocFSGetXAttr = 0x801c581f // FS_IOC_FSGETXATTR, _IOR('X', 31, struct fsxattr)
	flagRealtime  = 0x1        // FS_XFLAG_REALTIME
)

var _ [28]byte = [unsafe.Sizeof(fsxattr{})]byte{}

func isRealtime(f *os.File) (bool, error) {
	var x fsxattr
	if err := ioctl(f, iocFSGetXAttr, &x); err != nil {
		return false, mapError("FS_IOC_FSGETXATTR", err)
	}
	return x.flags&flagRealtime != 0, nil
}

// lister chooses how extents are listed: on btrfs from the file system's
// records, if this user may read them. What has no place yet is written back
// first.
func lister(fs int64, probe *os.File) func(f *os.File, inode uint64) extents {
	if fs == unix.BTRFS_SUPER_MAGIC {
		if _, err := InodeTransid(probe); err == nil {
			return func(f *os.File, inode uint64) extents { return &flushed{file: f, then: newBtrfsTree(f, inode)} }
		}
	}
	return func(f *os.File, _ uint64) extents { return newFiemap(f) }
}

// flushed writes a file back before the first extent.
type flushed struct {
	file *os.File
	then extents
	done bool
}

func (f *flushed) next(ctx context.Context) (extent, error) {
	if !f.done {
		if err := flush(f.file); err != nil {
			return extent{}, err
		}
		f.done = true
	}
	return f.then.next(ctx)
}

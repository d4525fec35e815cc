package staging

import (
	"time"

	"golang.org/x/sys/unix"
)

// stat is what is known of an object at one moment.
type stat struct {
	mode, uid, gid, nlink      uint32
	ino, dev, rdev             uint64
	size, blocks               int64
	atime, mtime, ctime, btime unix.StatxTimestamp
	mountRoot                  bool
}

const statMask = unix.STATX_BASIC_STATS | unix.STATX_BTIME

// statAt describes the entry name of a directory, or with no name the open
// file itself. It follows nothing and mounts nothing.
func statAt(fd int, name string) (stat, error) {
	flags := unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT
	if name == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	var x unix.Statx_t
	err := noIntr(func() error { return unix.Statx(fd, name, flags, statMask, &x) })
	if err != nil {
		return stat{}, err
	}
	s := stat{
		mode: uint32(x.Mode), uid: x.Uid, gid: x.Gid, nlink: x.Nlink, ino: x.Ino,
		dev: unix.Mkdev(x.Dev_major, x.Dev_minor), rdev: unix.Mkdev(x.Rdev_major, x.Rdev_minor),
		size: int64(x.Size), blocks: int64(x.Blocks),
		atime: x.Atime, mtime: x.Mtime, ctime: x.Ctime, btime: x.Btime,
		mountRoot: x.Attributes&x.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT != 0,
	}
	return s, nil
}

func (s *stat) kind() uint32    { return s.mode & unix.S_IFMT }
func (s *stat) isDir() bool     { return s.kind() == unix.S_IFDIR }
func (s *stat) isRegular() bool { return s.kind() == unix.S_IFREG }

// same reports whether nothing tells s and t apart that a change of content
// would alter.
func (s *stat) same(t *stat) bool {
	return s.kind() == t.kind() && s.ino == t.ino && s.dev == t.dev && s.size == t.size && s.rdev == t.rdev &&
		sameTime(s.mtime, t.mtime) && sameTime(s.ctime, t.ctime)
}

func sameTime(a, b unix.StatxTimestamp) bool { return a.Sec == b.Sec && a.Nsec == b.Nsec }

func goTime(t unix.StatxTimestamp) time.Time { return time.Unix(t.Sec, int64(t.Nsec)) }

// unchanged reports whether a file that was known when a copy of it began at
// since can only hold the same now. The clock of the file system's times moves
// in steps of tick, and lags behind the real one by up to one: a change made
// after since has a time of change later than since less one tick, and one
// more is for good measure. A time of change in whole seconds may come from a
// file system that has no better ones.
func unchanged(known, now *stat, since time.Time, tick time.Duration) bool {
	if !known.same(now) {
		return false
	}
	latest := goTime(now.ctime)
	if now.ctime.Nsec == 0 {
		latest = latest.Add(time.Second)
	}
	return latest.Before(since.Add(-2 * tick))
}

// clockTick is the step of the clock that file times are taken from.
func clockTick() time.Duration {
	var res unix.Timespec
	if err := unix.ClockGetres(unix.CLOCK_REALTIME_COARSE, &res); err != nil || res.Nano() <= 0 {
		return 10 * time.Millisecond // the longest of any kernel: HZ=100
	}
	return time.Duration(res.Nano())
}

// noIntr calls f again while a signal interrupts it.
func noIntr(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}

// Trusted reports whether on this type of file system (statfs f_type) every
// change to a file's content, a store through a memory mapping made before a
// flush included, shows in its time of change. tmpfs, for one, never writes
// pages back, so that stores to mapped pages fault only once.
func Trusted(fsType int64) bool {
	const f2fs = 0xf2f52010
	switch fsType {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, f2fs, unix.OVERLAYFS_SUPER_MAGIC:
		return true
	}
	return false
}

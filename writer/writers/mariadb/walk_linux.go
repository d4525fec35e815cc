package mariadb

import (
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// walkDepth is how deep below a chosen path the data of servers that do not run is
// looked for. Debian has it three deep in the root directory.
const walkDepth = 8

// walkFrom looks for data directories in a directory and below it.
func (f *finder) walkFrom(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil // a file, or gone, or not to be read: nothing is below it
	}
	dir := os.NewFile(uintptr(fd), path)
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || pseudo(fd) {
		return dir.Close()
	}
	return f.walk(dir, uint64(st.Dev), walkDepth)
}

// walk looks at a directory and those below it, each opened from the one above, so
// that nobody can lead it elsewhere. It closes the directory.
func (f *finder) walk(dir *os.File, dev uint64, depth int) error {
	defer dir.Close()
	if err := f.ctx.Err(); err != nil {
		return err
	}
	if isDataDirAt(int(dir.Fd())) {
		return f.discovered(dir.Name())
	}
	if depth == 0 {
		return nil
	}
	entries, _ := dir.ReadDir(-1) // what cannot be read is passed over
	for _, e := range entries {
		path := filepath.Join(dir.Name(), e.Name())
		if !e.IsDir() || e.Name() == ".sombra" || f.exclude != nil && f.exclude(path) {
			continue
		}
		below, on, ok := descend(int(dir.Fd()), e.Name(), path, dev)
		if !ok {
			continue
		}
		if err := f.walk(below, on, depth-1); err != nil {
			return err
		}
	}
	return nil
}

// descend opens a directory's subdirectory, and tells which device it is on. One that
// has gone, is a link now, may not be read, or is none of anybody's files is passed
// over; nothing is opened before that is known, so that no automatic mount is set off.
func descend(parent int, name, path string, dev uint64) (dir *os.File, on uint64, ok bool) {
	handle, err := unix.Openat(parent, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, 0, false
	}
	defer unix.Close(handle)
	var st unix.Stat_t
	if unix.Fstat(handle, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR || uint64(st.Dev) != dev && pseudo(handle) {
		return nil, 0, false
	}
	fd, err := unix.Openat(handle, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, 0, false
	}
	return os.NewFile(uintptr(fd), path), uint64(st.Dev), true
}

// isDataDirAt reports whether an open directory is a data directory by its content.
func isDataDirAt(fd int) bool {
	for name, kind := range map[string]uint32{"aria_log_control": unix.S_IFREG, "ibdata1": unix.S_IFREG, "mysql": unix.S_IFDIR} {
		var st unix.Stat_t
		if unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT) != nil || st.Mode&unix.S_IFMT != kind {
			return false
		}
	}
	return true
}

// isDataDir does so by path.
func isDataDir(path string) bool {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return isDataDirAt(fd)
}

// pseudoTypes are file systems that hold nobody's data.
var pseudoTypes = []int64{unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC, unix.DEBUGFS_MAGIC, unix.TRACEFS_MAGIC,
	unix.DEVPTS_SUPER_MAGIC, unix.SECURITYFS_MAGIC, unix.BPF_FS_MAGIC, unix.AUTOFS_SUPER_MAGIC, unix.PSTOREFS_MAGIC, unix.EFIVARFS_MAGIC, unix.HUGETLBFS_MAGIC}

// pseudo reports whether an open directory is of one of those.
func pseudo(fd int) bool {
	var fs unix.Statfs_t
	return unix.Fstatfs(fd, &fs) != nil || slices.Contains(pseudoTypes, int64(fs.Type))
}

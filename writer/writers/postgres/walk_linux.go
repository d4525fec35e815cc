package postgres

import (
	"os"
	"path/filepath"

	"github.com/sombra-backup/sombra/writer"
	"golang.org/x/sys/unix"
)

// walkDepth is how deep below a chosen path clusters whose server does not run are
// looked for. Distributions have theirs five deep in the root directory.
const walkDepth = 8

// below adds the clusters below a path whose server does not run. Only the path
// itself may be reached through links.
func (f *finder) below(name string) error {
	path := real(name)
	for up := path; up != "/"; up = filepath.Dir(up) {
		if f.have[up] {
			return nil // inside a cluster that is known
		}
		if dir, err := openDir(up); err == nil {
			is := f.looksLike(dir)
			dir.Close()
			if is {
				return f.maybe(up)
			}
		}
	}
	dir, err := openDir(path)
	if err != nil {
		return nil // a file, or gone: no cluster
	}
	return f.walk(dir, walkDepth)
}

func openDir(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}

// maybe adds a cluster that may turn out to be none.
func (f *finder) maybe(path string) error {
	if checkPath(path) != nil {
		return nil
	}
	return f.add(config{Data: path, found: found{Maybe: true}}, writer.Spec{Discovered: true})
}

// walk looks at a directory and those below it, each opened from the one above, so
// that nobody can lead the walk elsewhere. It closes the directory.
func (f *finder) walk(dir *os.File, depth int) error {
	defer dir.Close()
	if err := f.ctx.Err(); err != nil {
		return err
	}
	path := dir.Name()
	if f.have[path] || f.excluded(path) || pseudo(int(dir.Fd())) {
		return nil
	}
	if f.looksLike(dir) {
		return f.maybe(path)
	}
	if depth == 0 {
		return nil
	}
	entries, _ := dir.ReadDir(-1) // what cannot be read is passed over
	for _, e := range entries {
		if !e.IsDir() || e.Name() == ".sombra" {
			continue
		}
		fd, err := unix.Openat(int(dir.Fd()), e.Name(), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			continue
		}
		if err := f.walk(os.NewFile(uintptr(fd), filepath.Join(path, e.Name())), depth-1); err != nil {
			return err
		}
	}
	return nil
}

// looksLike reports whether a directory has the names of a cluster.
func (f *finder) looksLike(dir *os.File) bool {
	var version, control unix.Stat_t
	fd := int(dir.Fd())
	return unix.Fstatat(fd, "PG_VERSION", &version, unix.AT_SYMLINK_NOFOLLOW) == nil && version.Mode&unix.S_IFMT == unix.S_IFREG &&
		unix.Fstatat(fd, "global/pg_control", &control, unix.AT_SYMLINK_NOFOLLOW) == nil && control.Mode&unix.S_IFMT == unix.S_IFREG
}

// pseudo reports whether a directory is of a file system of the kernel's, which
// holds nobody's files.
func pseudo(fd int) bool {
	var fs unix.Statfs_t
	if unix.Fstatfs(fd, &fs) != nil {
		return true
	}
	switch int64(fs.Type) {
	case unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC, unix.DEBUGFS_MAGIC, unix.TRACEFS_MAGIC,
		unix.DEVPTS_SUPER_MAGIC, unix.SECURITYFS_MAGIC, unix.BPF_FS_MAGIC, unix.AUTOFS_SUPER_MAGIC:
		return true
	}
	return false
}

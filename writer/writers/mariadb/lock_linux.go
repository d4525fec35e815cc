package mariadb

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// lockFiles are the files that a server locks for as long as it runs, in the order
// in which it does: Aria's control file and InnoDB's first tablespace.
var lockFiles = []string{"aria_log_control", "ibdata1"}

// lockedBy tells which process runs on a data directory, 0 if none does. It must
// not be asked while this process holds the locks: they would be lost.
func lockedBy(dir string) (int, error) {
	for _, name := range lockFiles {
		pid, err := holder(filepath.Join(dir, name))
		if err != nil || pid != 0 {
			return pid, err
		}
	}
	return 0, nil
}

// errElsewhere is a lock whose holder this process cannot see.
var errElsewhere = errors.New("it is locked by a process that cannot be seen from here, in a container or on another machine; back it up or restore it from there, or stop it first")

func holder(path string) (int, error) {
	f, err := openFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	l := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &l); err != nil {
		return 0, &fs.PathError{Op: "look for locks of", Path: path, Err: err}
	}
	switch {
	case l.Type == unix.F_UNLCK:
		return 0, nil
	case l.Pid <= 0:
		return 0, fmt.Errorf("%s: %w", path, errElsewhere)
	}
	return int(l.Pid), nil
}

// openFile opens a regular file for locking.
func openFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		f.Close()
		return nil, fmt.Errorf("%s is no regular file", path)
	}
	return f, nil
}

// stopped is the hold on a server that does not run: its own locks, which its
// start waits for. They end with the process.
type stopped struct{ files []*os.File }

// holdStopped takes the locks. If the server runs, or is on its way up, that is an
// error.
func holdStopped(dir string) (*stopped, error) {
	s := &stopped{}
	for _, name := range lockFiles {
		f, err := openFile(filepath.Join(dir, name))
		if err != nil {
			return nil, errors.Join(err, s.release())
		}
		s.files = append(s.files, f)
		l := unix.Flock_t{Type: unix.F_WRLCK}
		if err := unix.FcntlFlock(f.Fd(), unix.F_SETLK, &l); err != nil {
			return nil, errors.Join(fmt.Errorf("the server of %s was started after the backup had begun; run it again (%w)", dir, err), s.release())
		}
	}
	return s, nil
}

func (s *stopped) release() error {
	var errs []error
	for _, f := range s.files {
		errs = append(errs, f.Close())
	}
	s.files = nil
	return errors.Join(errs...)
}

// lastVersion is the version of the server that last checked a data directory,
// empty if that is not noted there.
func lastVersion(dir string) (string, error) {
	for _, name := range []string{"mariadb_upgrade_info", "mysql_upgrade_info"} {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		defer f.Close()
		data, err := io.ReadAll(io.LimitReader(f, 100))
		version := strings.TrimSpace(strings.TrimRight(string(data), "\x00"))
		if err == nil && version != "" && !strings.Contains(version, "MariaDB") {
			version += "-MariaDB"
		}
		return version, err
	}
	return "", nil
}

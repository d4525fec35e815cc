package coordinator

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/provider/area"
	"github.com/sombra-backup/sombra/vss"
)

// hostID is an id for this host that survives restarts: the machine id, hashed
// with this program's name as its manual asks of those who would show it.
func hostID() (string, error) {
	data, err := os.ReadFile("/etc/machine-id")
	if err != nil {
		return "", err
	}
	id := strings.TrimSpace(string(data))
	if id == "" {
		return "", nil
	}
	mac := hmac.New(sha256.New, []byte(id))
	mac.Write([]byte("sombra"))
	return hex.EncodeToString(mac.Sum(nil)[:16]), nil
}

func isSelf(uid uint32) bool { return uint32(os.Geteuid()) == uid }

// foreignBelow gives the first thing that is not the user's among the files at or
// below dir that match. The directory must be the user's as well, since a restore
// could make any file in it, or the nearest one above that is there; unless only
// one file is meant, which is there and is his.
func foreignBelow(uid uint32, dir string, recursive bool, only string, match func(string) bool) (string, error) {
	real, missing, err := nearestReal(dir)
	if err != nil {
		return "", err
	}
	if only != "" && !missing {
		if own, err := owns(uid, filepath.Join(real, only)); own || err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	switch own, err := owns(uid, real); {
	case err != nil:
		return "", err
	case !own:
		return real, nil
	case missing:
		return "", nil
	}
	foreign := ""
	err = filepath.WalkDir(real, func(p string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case d.IsDir() && p != real && (!recursive || d.Name() == "lost+found"):
			return fs.SkipDir
		case !d.IsDir() && !match(d.Name()):
			return nil
		}
		own, err := owns(uid, p)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && !own {
			foreign = p
			return fs.SkipAll
		}
		return err
	})
	return foreign, err
}

// nearestReal resolves the links of a path, or of the nearest directory above it
// that is there.
func nearestReal(name string) (real string, missing bool, err error) {
	for {
		real, err = filepath.EvalSymlinks(name)
		if !errors.Is(err, fs.ErrNotExist) || name == "/" || name == "." {
			return real, missing, err
		}
		name, missing = filepath.Dir(name), true
	}
}

// owns reports whether an object is the user's; a link is looked at itself.
func owns(uid uint32, name string) (bool, error) {
	var st unix.Stat_t
	if err := unix.Lstat(name, &st); err != nil {
		return false, &fs.PathError{Op: "lstat", Path: name, Err: err}
	}
	return st.Uid == uid, nil
}

// foreignProcess finds the first of the processes that does not run as uid alone:
// one with more rights, as a set-user-id program, is not the user's to have
// stopped. Those that have ended are nobody's.
func foreignProcess(uid uint32, pids []int) (pid int, err error) {
	want := strconv.FormatUint(uint64(uid), 10)
	for _, pid := range pids {
		status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue
		}
		if err != nil {
			return pid, err
		}
		ids := ownersOf(status)
		if len(ids) != 4 {
			return pid, errors.New("/proc does not tell")
		}
		for _, id := range ids {
			if id != want {
				return pid, nil
			}
		}
	}
	return 0, nil
}

// ownersOf reads the user ids (real, effective, saved, file system) of a process
// from its status.
func ownersOf(status []byte) []string {
	for line := range strings.Lines(string(status)) {
		if ids, ok := strings.CutPrefix(line, "Uid:"); ok {
			return strings.Fields(ids)
		}
	}
	return nil
}

// countsAlike reports whether a process numbers processes as we do: whether it is
// in our pid namespace.
func countsAlike(pid int) bool {
	own, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return false
	}
	its, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/ns/pid")
	return err == nil && its == own
}

// checkArea refuses an area that is there and is not ours.
func checkArea(dir string) error {
	d, err := area.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return d.Close()
}

// openArea gives a path for a copy in an area by way of the area's directory,
// which must be ours: on a volume whose root is somebody else's, that one could
// put another in its place and have us read what it leads to. The path is good
// until done is called. A copy that does not lie in its area is its provider's
// own affair.
func openArea(dir, copied string) (root string, done func(), err error) {
	rel, err := filepath.Rel(dir, copied)
	if err != nil || !filepath.IsLocal(rel) {
		return copied, func() {}, nil
	}
	d, err := area.Open(dir)
	if err != nil {
		return "", nil, err
	}
	return filepath.Join("/proc/self/fd", strconv.Itoa(d.Fd()), rel), func() { d.Close() }, nil
}

// expose makes the tree at root readable at the directory at, read-only.
func expose(root, at string) error {
	if os.Geteuid() != 0 {
		return vss.Errorf(vss.ErrNotSupported, "ExposeSnapshot", at, "mounting needs root; read the copy at %s instead", root)
	}
	info, err := os.Lstat(at)
	if err != nil {
		return vss.Errorf(vss.ErrObjectNotFound, "ExposeSnapshot", at, "make the directory first: %v", err)
	}
	if !info.IsDir() {
		return vss.Errorf(vss.ErrInvalidArgument, "ExposeSnapshot", at, "not a directory")
	}
	if err := unix.Mount(root, at, "", unix.MS_BIND, ""); err != nil {
		return &fs.PathError{Op: "bind mount", Path: at, Err: err}
	}
	if err := unix.Mount("", at, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV, ""); err != nil {
		return errors.Join(&fs.PathError{Op: "remount read-only", Path: at, Err: err}, unexpose(at))
	}
	return nil
}

func unexpose(at string) error {
	err := unix.Unmount(at, unix.UMOUNT_NOFOLLOW)
	if err == nil || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		return nil // EINVAL: not mounted any more
	}
	return &fs.PathError{Op: "unmount", Path: at, Err: err}
}

// flushDirs writes back all that is dirty on the file systems of some directories,
// or of the nearest ones above that are there.
func flushDirs(ctx context.Context, dirs []string) error {
	done := map[uint64]bool{}
	for _, dir := range dirs {
		if err := ctx.Err(); err != nil {
			return err
		}
		real, _, err := nearestReal(dir)
		if err != nil {
			return err
		}
		if err := flushDir(real, done); err != nil {
			return err
		}
	}
	return nil
}

func flushDir(dir string, done map[uint64]bool) error {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || done[st.Dev] {
		return err
	}
	for {
		err := unix.Syncfs(fd)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return &fs.PathError{Op: "syncfs", Path: dir, Err: err}
		}
		done[st.Dev] = true
		return nil
	}
}

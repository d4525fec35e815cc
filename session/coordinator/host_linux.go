package coordinator

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

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

// ownedBy checks that every file and directory at or below name belongs to uid.
// What is not there yet is nobody's.
func ownedBy(uid uint32, name string, recursive bool, match func(string) bool) (foreign string, err error) {
	err = filepath.WalkDir(name, func(p string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if d.IsDir() && p != name && !recursive {
			return fs.SkipDir
		}
		if !d.IsDir() && !match(d.Name()) {
			return nil
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			if errors.Is(err, unix.ENOENT) {
				return nil
			}
			return &fs.PathError{Op: "lstat", Path: p, Err: err}
		}
		if st.Uid != uid && !d.IsDir() {
			foreign = p
			return fs.SkipAll
		}
		return nil
	})
	return foreign, err
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

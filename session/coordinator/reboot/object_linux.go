package reboot

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// errGone is the reason of a staged object that is not there.
var errGone = errors.New("is not there any more")

// openDir opens a directory by its absolute path, none of whose elements may be a
// symbolic link.
func openDir(dir string) (int, error) {
	cur, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &fs.PathError{Op: "open", Path: "/", Err: err}
	}
	at := "/"
	for elem := range strings.SplitSeq(strings.TrimPrefix(dir, "/"), "/") {
		if elem == "" {
			continue
		}
		at = path.Join(at, elem)
		next, err := unix.Openat(cur, elem, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err == unix.ENOTDIR {
			var st unix.Stat_t
			if unix.Fstatat(cur, elem, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK {
				err = errLink
			}
		}
		unix.Close(cur)
		if err != nil {
			return -1, &fs.PathError{Op: "open", Path: at, Err: err}
		}
		cur = next
	}
	return cur, nil
}

// errLink is wrapped by the error of a path that leads through a link.
var errLink = fmt.Errorf("a symbolic link is in the way: %w", unix.ELOOP)

// object is what has a name.
type object struct {
	kind   string // one of the types, or what else it is
	dir    bool
	size   int64
	mode   uint32
	uid    uint32
	gid    uint32
	inode  uint64
	device uint64
	ctime  unix.Timespec
}

// lookAt describes what has a name in a directory; fs.ErrNotExist if nothing has.
func lookAt(dir int, elem string) (object, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(dir, elem, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return object{}, err
	}
	o := object{size: st.Size, mode: st.Mode & 0o7777, uid: st.Uid, gid: st.Gid, inode: st.Ino, ctime: st.Ctim}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		o.kind = typeFile
	case unix.S_IFLNK:
		o.kind = typeLink
	case unix.S_IFIFO:
		o.kind = typeFIFO
	case unix.S_IFSOCK:
		o.kind = typeSocket
	case unix.S_IFDIR:
		o.kind, o.dir = "directory", true
	default:
		// Block and character devices of a number are two things.
		o.kind, o.device = typeDevice, uint64(st.Rdev)<<1
		if st.Mode&unix.S_IFMT == unix.S_IFBLK {
			o.device |= 1
		}
	}
	return o, nil
}

// same reports whether an object is still the one it was: not written to, not
// replaced. A rename may have changed its ctime.
func (o object) same(now object) bool {
	o.ctime, now.ctime = unix.Timespec{}, unix.Timespec{}
	return o == now
}

// sum is the SHA-256 of what an object holds, empty for those that hold nothing.
func (o object) sum(ctx context.Context, dir int, elem string) (string, error) {
	h := sha256.New()
	switch o.kind {
	case typeLink:
		buf := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(dir, elem, buf)
		if err != nil {
			return "", err
		}
		h.Write(buf[:n])
	case typeFile:
		// It was seen to be a regular file; should another thing be there by
		// now, opening it like this does nothing to it, and reading is refused.
		fd, err := unix.Openat(dir, elem, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
		if err != nil {
			return "", err
		}
		f := os.NewFile(uintptr(fd), elem)
		defer f.Close()
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return "", err
		}
		if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Ino != o.inode {
			return "", errors.New("was replaced while it was looked at")
		}
		if _, err := io.Copy(h, &untilDone{ctx, io.LimitReader(f, o.size+1)}); err != nil {
			return "", err
		}
	default:
		return "", nil
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// untilDone is a reader that ends when its context does.
type untilDone struct {
	ctx context.Context
	r   io.Reader
}

func (u *untilDone) Read(p []byte) (int, error) {
	if u.ctx.Err() != nil {
		return 0, context.Cause(u.ctx)
	}
	return u.r.Read(p)
}

// differs says in what an object is not the one that was staged; nil if it is. The
// inode does not count: not every file system keeps it over a restart.
func (f *file) differs(ctx context.Context, o object, dir int, elem string) error {
	switch {
	case o.kind != f.Type:
		return fmt.Errorf("is a %s and was a %s", o.kind, f.Type)
	case o.kind == typeFile && o.size != f.Size:
		return fmt.Errorf("has %d bytes and had %d", o.size, f.Size)
	case o.uid != f.UID || o.gid != f.GID:
		return fmt.Errorf("belongs to %d:%d and belonged to %d:%d", o.uid, o.gid, f.UID, f.GID)
	case o.mode != f.Mode:
		return fmt.Errorf("has mode %04o and had %04o", o.mode, f.Mode)
	case o.device != f.Device:
		return errors.New("is another device")
	}
	sum, err := o.sum(ctx, dir, elem)
	if err == nil && sum != f.SHA256 {
		err = errors.New("is damaged: its content is not what was staged")
	}
	return err
}

// describe notes what is staged.
func (f *file) describe(ctx context.Context, dir int) error {
	o, err := lookAt(dir, string(f.Staged))
	if err != nil {
		return err
	}
	if o.dir {
		return errors.New("is a directory, which is not swapped in")
	}
	f.Type, f.Size, f.Mode, f.UID, f.GID, f.Inode, f.Device = o.kind, o.size, o.mode, o.uid, o.gid, o.inode, o.device
	f.SHA256, err = o.sum(ctx, dir, string(f.Staged))
	return err
}

// removeStaged removes a staged object, or what was exchanged for it. That it is
// not there, or its directory is not, is no error.
func removeStaged(dir, elem string) error {
	fd, err := openDir(dir)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
			return nil
		}
		return err
	}
	defer unix.Close(fd)
	if err := unix.Unlinkat(fd, elem, 0); err != nil && err != unix.ENOENT {
		return &fs.PathError{Op: "remove", Path: path.Join(dir, elem), Err: err}
	}
	return nil
}

// syncAll writes out the file systems that directories are on, as far as they are
// there: what was done in those that are not needs no syncing.
func syncAll(dirs iter.Seq[string]) error {
	done, last := map[uint64]bool{}, ""
	for dir := range dirs {
		if dir == last {
			continue
		}
		last = dir
		fd, err := openDir(dir)
		if err != nil {
			continue
		}
		var st unix.Stat_t
		if err = unix.Fstat(fd, &st); err == nil && !done[uint64(st.Dev)] {
			done[uint64(st.Dev)] = true
			err = syncFS(fd)
		}
		unix.Close(fd)
		if err != nil {
			return &fs.PathError{Op: "sync", Path: dir, Err: err}
		}
	}
	return nil
}

// syncFS writes out the file system that a directory is on.
func syncFS(dir int) error {
	fd, err := unix.Open("/proc/self/fd/"+strconv.Itoa(dir), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Syncfs(fd)
}

package localfs

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/writer/kept"
)

// place is a checked name below a base.
type place struct {
	base *base
	name string
}

// rootMap says where one of the backup's own roots is. The directory above it
// was reached through links, and so was the root itself if it is a link to a
// directory; then here and self differ.
type rootMap struct {
	prefix string
	here   place // the root's own name
	self   place // what it leads to
}

// locate finds what a name is opened from. Whoever replaces or removes the name
// itself, and not what a root's link leads to, says so with here.
func (t *target) locate(name string, here bool) place {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range t.roots { // the longest first
		switch {
		case name == r.prefix && here:
			return r.here
		case name == r.prefix:
			return r.self
		case len(name) > len(r.prefix) && name[len(r.prefix)] == '/' && strings.HasPrefix(name, r.prefix):
			return place{r.self.base, join(r.self.name, name[len(r.prefix)+1:])}
		}
	}
	return place{t.host, name}
}

// AddRoot makes the directories above one of the backup's own roots, an absolute
// path, and the root itself if it is a link to a directory, reachable through
// links: those that are there now. Only a link of root's or of the caller's is
// followed, and by root only in a directory that nobody else may write in.
// Other links make the error, which names the link.
func (t *target) AddRoot(root string) error {
	prefix := strings.TrimPrefix(filepath.Clean(root), "/")
	if !filepath.IsAbs(root) {
		return &fs.PathError{Op: "open root", Path: root, Err: &nameError{"is not an absolute path", fs.ErrInvalid}}
	}
	if prefix == "" || t.dir != "" {
		return nil // only in place are there other roots than the target itself
	}
	if err := checkName("open root", prefix); err != nil {
		return err
	}
	dir, elem := splitName(prefix)
	top, err := openBase("/", false)
	if err != nil {
		return &fs.PathError{Op: "open root", Path: root, Err: err}
	}
	defer top.close()
	links := 0
	here, err := follow(top.fd, dir, &links)
	if err != nil {
		return &fs.PathError{Op: "open root", Path: root, Err: err}
	}
	r := rootMap{prefix: prefix, here: place{here.base, join(here.name, elem)}}
	r.self = r.here
	if here.name == "." && isLink(here.base.fd, elem) {
		switch self, err := follow(here.base.fd, elem, &links); {
		case err == nil:
			r.self = self
		case err != unix.ENOTDIR: // a link to a file is only itself
			here.base.close()
			return &fs.PathError{Op: "open root", Path: root, Err: err}
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.roots = append(t.roots, r)
	slices.SortStableFunc(t.roots, func(a, b rootMap) int { return len(b.prefix) - len(a.prefix) })
	return nil
}

func isLink(dir int, elem string) bool {
	var sx unix.Statx_t
	return statxAt(dir, elem, &sx) == nil && sx.Mode&unix.S_IFMT == unix.S_IFLNK
}

// maxLinks is the kernel's own bound on links in one path.
const maxLinks = 40

// follow goes from a directory along path, following trusted links, as far as
// there is something. The name left over is "." if all is there.
func follow(from int, path string, links *int) (place, error) {
	cur, err := unix.Openat(from, ".", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return place{}, err
	}
	todo := strings.Split(path, "/")
	for len(todo) > 0 {
		next, goal, err := followOne(cur, todo[0])
		if err == unix.ENOENT {
			break
		}
		if err != nil {
			unix.Close(cur)
			return place{}, err
		}
		todo = todo[1:]
		if next >= 0 {
			unix.Close(cur)
			cur = next
		}
		if goal != "" {
			if kept.Within(goal) { // see mayChange
				unix.Close(cur)
				return place{}, unix.EPERM
			}
			if *links++; *links > maxLinks {
				unix.Close(cur)
				return place{}, unix.ELOOP
			}
			todo = append(strings.Split(goal, "/"), todo...)
		}
	}
	todo = slices.DeleteFunc(todo, func(s string) bool { return s == "" || s == "." })
	rest := "."
	if len(todo) > 0 {
		rest = strings.Join(todo, "/")
	}
	if err := checkName("follow", rest); err != nil { // dot-dot after what is absent
		unix.Close(cur)
		return place{}, err
	}
	b, err := newBase(cur, false)
	return place{b, rest}, err
}

// followOne takes one step: to a directory, or, at a link, to the directory its
// target counts from, if that is another, and the target.
func followOne(cur int, elem string) (next int, goal string, err error) {
	if elem == "" || elem == "." {
		return -1, "", nil
	}
	var sx unix.Statx_t
	if err := statxAt(cur, elem, &sx); err != nil {
		return -1, "", err
	}
	next = -1
	if sx.Mode&unix.S_IFMT == unix.S_IFLNK {
		if goal, err = trustedLink(cur, elem, &sx); err != nil || !strings.HasPrefix(goal, "/") {
			return -1, goal, err
		}
		elem = "/"
	}
	next, err = unix.Openat(cur, elem, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	return next, goal, err
}

// trustedLink reads a link that nobody but root and the caller can have put
// where it is.
func trustedLink(dir int, elem string, link *unix.Statx_t) (string, error) {
	me := uint32(os.Geteuid())
	if link.Uid != 0 && link.Uid != me {
		return "", fmt.Errorf("%q is a symbolic link of user %d; only those of root and of the user who restores are followed: %w", elem, link.Uid, fs.ErrPermission)
	}
	var sx unix.Statx_t
	if err := statxFD(dir, &sx); err != nil {
		return "", err
	}
	if others := sx.Mode&0o022 != 0 && sx.Mode&unix.S_ISVTX == 0; me == 0 && (sx.Uid != 0 || others) {
		return "", fmt.Errorf("%q is a symbolic link in a directory that others than root can write in; it is not followed: %w", elem, fs.ErrPermission)
	}
	return readlinkAt(dir, elem)
}

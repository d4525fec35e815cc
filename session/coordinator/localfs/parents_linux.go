package localfs

import (
	"context"
	"os"

	"golang.org/x/sys/unix"
)

// parentDir is a directory in which something is made. Several may share the
// descriptor; close gives it back.
type parentDir struct {
	fd int
	// private: nobody but root and the user who restores may do anything in
	// it, as in all that a restore makes until it gives them their modes.
	private bool
	// plain: what is made in it gets no attributes from it.
	plain bool

	t    *target // nil: not kept
	key  place
	refs int    // guarded by target.dirs.mu, as used
	used uint64 // when it was last asked for
}

func (d *parentDir) close() {
	if d.t == nil {
		unix.Close(d.fd)
		return
	}
	d.t.dirs.mu.Lock()
	defer d.t.dirs.mu.Unlock()
	d.t.dirs.release(d)
}

// maxParents is how many directories are kept open: files come in the order in
// which they were backed up, so that most are in one used a moment ago.
const maxParents = 64

// parent opens the directory of a place. One that is private is kept open: what
// else its name may come to mean, nobody else can put anything in it, nor reach
// what is put there.
func (t *target) parent(p place) (*parentDir, string, error) {
	name, elem := splitName(p.name)
	key := place{p.base, name}
	if d := t.dirs.get(key); d != nil {
		return d, elem, nil
	}
	fd, err := p.base.openDir(name)
	if err != nil {
		return nil, "", err
	}
	return t.keep(&parentDir{fd: fd, key: key}), elem, nil
}

// keep looks at a directory that was opened, and keeps it if it is private.
func (t *target) keep(d *parentDir) *parentDir {
	var sx unix.Statx_t
	if statxFD(d.fd, &sx) != nil || int(sx.Uid) != os.Geteuid() || sx.Mode&0o077 != 0 || t.touchDevice(&sx, d.fd) != nil {
		return d
	}
	// Where there is an access ACL the group's bits are the most it gives.
	_, err := unix.Getxattr(procPath(d.fd), defaultACL, nil)
	d.private, d.plain = true, err == unix.ENODATA || err == unix.EOPNOTSUPP
	return t.dirs.add(t, d)
}

// parentOf opens the directory in which an object is to take a name. A
// directory that has the name already is an error, here or when it is taken.
func (t *target) parentOf(ctx context.Context, op, name string) (*parentDir, string, error) {
	p, err := t.where(ctx, op, name, true)
	if err != nil {
		return nil, "", err
	}
	dir, elem, err := t.parent(p)
	if err != nil {
		return nil, "", pathError(op, name, err)
	}
	if dir.private {
		return dir, elem, nil
	}
	var sx unix.Statx_t
	if statxAt(dir.fd, elem, &sx) == nil && sx.Mode&unix.S_IFMT == unix.S_IFDIR {
		err = errDirectory
	} else {
		err = t.touch(dir.fd)
	}
	if err != nil {
		dir.close()
		return nil, "", pathError(op, name, err)
	}
	return dir, elem, nil
}

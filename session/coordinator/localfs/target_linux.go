package localfs

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/writer/kept"
)

// TargetOptions say how a target is reached.
type TargetOptions struct {
	// Roots are the backup's own roots, absolute paths, for a restore in
	// place; see [Target].AddRoot.
	Roots []string
}

// Target is what [OpenTarget] gives.
type Target interface {
	session.FileTarget

	// AddRoot makes one of the backup's own roots, an absolute path, and the
	// directories above it reachable through links that are there now. It
	// does nothing for a target that is not the host's own root. Names below
	// the root are opened without following links, as all others.
	//
	// A link is followed only if it is root's or the caller's and, where
	// root restores, in a directory in which nobody else may write; any
	// other is an error that names it and wraps fs.ErrPermission.
	AddRoot(root string) error

	// InTheWay tells which names cannot be replaced or made because of the file
	// system, as [session.Obstructions] has it, and which of the names are of
	// regular files that are there.
	InTheWay(ctx context.Context, names []string) (list []session.Obstacle, present []string, err error)

	// Beside gives, for a name and an element, the name of that element in the
	// directory of the first, and that directory's absolute path on the host,
	// without the links through which it is reached, with the last element of
	// the name. Nothing need be there.
	Beside(name, elem string) (beside, dir, last string, err error)
}

type target struct {
	dir  string
	host *base

	mu    sync.Mutex
	roots []rootMap
	dirty map[uint64]*os.File // one directory on each device written to
	all   bool                // a device could not be noted: sync everything

	dirs parentCache
}

// OpenTarget opens a directory to restore into, or with an empty name the
// host's own root. The directory may be reached through links, and is made,
// mode 0700, if it is absent.
func OpenTarget(dir string, opts TargetOptions) (Target, error) {
	path := dir
	if path == "" {
		path = "/"
	} else if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, err
	}
	b, err := openBase(path, false)
	if err != nil {
		return nil, &fs.PathError{Op: "open target", Path: path, Err: err}
	}
	t := &target{dir: dir, host: b, dirty: map[uint64]*os.File{}}
	for _, root := range opts.Roots {
		if err := t.AddRoot(root); err != nil {
			t.Close()
			return nil, err
		}
	}
	return t, nil
}

// where checks a name and finds what it is opened from.
func (t *target) where(ctx context.Context, op, name string, here bool) (place, error) {
	if err := ctx.Err(); err != nil {
		return place{}, err
	}
	if err := checkName(op, name); err != nil {
		return place{}, err
	}
	if err := t.mayChange(op, name); err != nil {
		return place{}, err
	}
	p := t.locate(name, here)
	if here && p.name == "." {
		return place{}, &fs.PathError{Op: op, Path: name, Err: &nameError{"is the target itself", fs.ErrInvalid}}
	}
	return p, nil
}

// onlyLooks are the operations that change nothing.
var onlyLooks = []string{"describe", "read directory", "look at", "measure room at"}

// mayChange refuses what writers of this host keep for the end of a restore, among
// which are commands that they run then: of a backup none of it is believed.
func (t *target) mayChange(op, name string) error {
	if t.onHost() && kept.Within(name) && !slices.Contains(onlyLooks, op) {
		return pathError(op, name, &nameError{"is where this host's writers keep what a restore needs, which no backup may say", fs.ErrPermission})
	}
	return nil
}

// onHost reports whether the target is the host's own root.
func (t *target) onHost() bool { return filepath.Clean("/"+t.dir) == "/" }

func (t *target) Lstat(ctx context.Context, name string) (session.Entry, error) {
	p, err := t.where(ctx, "describe", name, false)
	if err != nil {
		return session.Entry{}, err
	}
	e, err := p.base.lstat(p.name, session.FromLive)
	if err == nil {
		_, e.Name = splitName(name)
	}
	return e, err
}

func (t *target) ReadDir(ctx context.Context, name string, fn func(session.Entry, error) error) error {
	p, err := t.where(ctx, "read directory", name, false)
	if err != nil {
		return err
	}
	return p.base.readDir(ctx, listing{at: p.name, name: name, source: session.FromLive}, fn)
}

func (t *target) Mkdir(ctx context.Context, name string) (existed bool, err error) {
	p, err := t.where(ctx, "make directory", name, false)
	if err != nil || p.name == "." {
		return err == nil, err
	}
	dir, elem, err := t.parent(p)
	if errors.Is(err, unix.ENOENT) {
		var fd int
		fd, elem, err = t.mkdirs(p)
		dir = &parentDir{fd: fd}
	}
	if err != nil {
		return false, pathError("make directory", name, err)
	}
	defer dir.close()
	existed, err = mkdirAt(dir.fd, elem)
	if err == nil && existed {
		err = mayWriteIn(dir.fd, elem)
	}
	if err != nil {
		return false, pathError("make directory", name, err)
	}
	if dir.private {
		return existed, nil
	}
	return existed, t.touch(dir.fd)
}

// mayWriteIn gives an ordinary user the rights to his own directory back that
// an earlier restore, stopped half-way, has taken away already.
func mayWriteIn(dir int, elem string) error {
	me := os.Geteuid()
	if me == 0 {
		return nil
	}
	fd, err := unix.Openat(dir, elem, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var sx unix.Statx_t
	if err := statxFD(fd, &sx); err != nil || int(sx.Uid) != me || sx.Mode&0o700 == 0o700 {
		return err
	}
	return unix.Chmod(procPath(fd), uint32(sx.Mode&0o7777|0o700))
}

// mkdirs opens the directory of a name, making what is missing.
func (t *target) mkdirs(p place) (fd int, elem string, err error) {
	dir, elem := splitName(p.name)
	cur, err := p.base.openDir(".")
	if err != nil {
		return -1, "", err
	}
	// Each directory is opened as a base of its own, so that the same rules
	// hold for each step.
	step := base{stepwise: p.base.stepwise}
	for start := 0; start <= len(dir); {
		end := start
		for end < len(dir) && dir[end] != '/' {
			end++
		}
		next, err := step.openBelow(cur, dir[start:end], unix.O_PATH|unix.O_DIRECTORY)
		if err == unix.ENOENT {
			if _, err = mkdirAt(cur, dir[start:end]); err == nil {
				if err = t.touch(cur); err == nil {
					next, err = step.openBelow(cur, dir[start:end], unix.O_PATH|unix.O_DIRECTORY)
				}
			}
		}
		unix.Close(cur)
		if err != nil {
			return -1, "", err
		}
		cur, start = next, end+1
	}
	return cur, elem, nil
}

func mkdirAt(dir int, elem string) (existed bool, err error) {
	if err = unix.Mkdirat(dir, elem, 0o700); err != unix.EEXIST {
		return false, err
	}
	var sx unix.Statx_t
	if err := statxAt(dir, elem, &sx); err != nil {
		return false, err
	}
	if sx.Mode&unix.S_IFMT != unix.S_IFDIR {
		return false, &nameError{kindOf(sx.Mode) + " is in the way", fs.ErrExist}
	}
	return true, nil
}

func (t *target) OpenFile(ctx context.Context, name string) (session.ChangeFile, error) {
	p, err := t.where(ctx, "open", name, false)
	if err != nil {
		return nil, err
	}
	var sx unix.Statx_t
	fd, err := p.base.openRegular(p.name, unix.O_RDWR|unix.O_NOCTTY, &sx)
	if err != nil {
		return nil, pathError("open", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	if err := t.touchDevice(&sx, fd); err != nil {
		f.Close()
		return nil, err
	}
	return changeFile{f}, nil
}

type changeFile struct{ *os.File }

func (f changeFile) Stat(ctx context.Context) (session.Entry, error) {
	if err := ctx.Err(); err != nil {
		return session.Entry{}, err
	}
	return statFile(f.File, session.FromLive)
}

func (f changeFile) SetAttributes(ctx context.Context, e session.Entry) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !e.Mode.IsRegular() {
		return pathError("set attributes of", f.Name(), &nameError{"the entry is not one of a regular file", fs.ErrInvalid})
	}
	return control(f.File, func(fd int) error {
		if failed := (object{fd: fd, mode: unix.S_IFREG, name: f.Name(), opened: true}).apply(e); failed != nil {
			return failed
		}
		return nil
	})
}

func (t *target) SetAttributes(ctx context.Context, name string, e session.Entry) error {
	const op = "set attributes of"
	p, err := t.where(ctx, op, name, false)
	if err != nil {
		return err
	}
	want, err := typeBits(e)
	if err != nil {
		return pathError(op, name, err)
	}
	if want == unix.S_IFLNK {
		p = t.locate(name, true)
	}
	fd, err := p.base.open(p.name, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return pathError(op, name, err)
	}
	defer unix.Close(fd)
	var sx unix.Statx_t
	if err := statxFD(fd, &sx); err != nil {
		return pathError(op, name, err)
	}
	if got := sx.Mode & unix.S_IFMT; got != want {
		return pathError(op, name, &nameError{"is " + kindOf(got) + " and was " + kindOf(want), fs.ErrInvalid})
	}
	if err := t.touchDevice(&sx, fd); err != nil {
		return err
	}
	if want == unix.S_IFDIR {
		t.dirs.forget(func(key place) bool { return key == p })
	}
	if failed := (object{fd: fd, mode: sx.Mode, name: name}).apply(e); failed != nil {
		return failed
	}
	return nil
}

func (t *target) Remove(ctx context.Context, name string) error {
	p, err := t.where(ctx, "remove", name, true)
	if err != nil {
		return err
	}
	dir, elem, err := p.base.parent(p.name)
	if err != nil {
		return pathError("remove", name, err)
	}
	defer unix.Close(dir)
	t.dirs.forget(func(place) bool { return true })
	if err = unix.Unlinkat(dir, elem, 0); err == unix.EISDIR {
		err = unix.Unlinkat(dir, elem, unix.AT_REMOVEDIR)
	}
	if err != nil {
		return pathError("remove", name, err)
	}
	return t.touch(dir)
}

// Free is asked of the nearest directory that is there.
func (t *target) Free(ctx context.Context, name string) (uint64, error) {
	p, err := t.where(ctx, "measure room at", name, false)
	if err != nil {
		return 0, err
	}
	for {
		fd, err := p.base.open(p.name, unix.O_PATH|unix.O_NOFOLLOW)
		if err == nil {
			defer unix.Close(fd)
			var s unix.Statfs_t
			if err := unix.Fstatfs(fd, &s); err != nil {
				return 0, pathError("measure room at", name, err)
			}
			return s.Bavail * uint64(s.Bsize), nil
		}
		if !errors.Is(err, unix.ENOENT) || p.name == "." {
			return 0, pathError("measure room at", name, err)
		}
		p.name, _ = splitName(p.name)
	}
}

// Beside implements [Target].
func (t *target) Beside(name, elem string) (beside, dir, last string, err error) {
	const op = "stage"
	for _, n := range []string{name, elem} {
		if err := errors.Join(checkName(op, n), t.mayChange(op, n)); err != nil {
			return "", "", "", err
		}
	}
	p := t.locate(name, true)
	if p.name == "." {
		return "", "", "", &fs.PathError{Op: op, Path: name, Err: &nameError{"is the target itself", fs.ErrInvalid}}
	}
	base, err := p.base.path()
	if err != nil {
		return "", "", "", pathError(op, name, err)
	}
	dir, last = filepath.Split(filepath.Join(base, p.name))
	dir = filepath.Clean(dir)
	if t.dir == "" {
		// The directory of a root may have been reached through links, and its
		// own path leads through none.
		return strings.TrimPrefix(filepath.Join(dir, elem), "/"), dir, last, nil
	}
	above, _ := splitName(name)
	return join(above, elem), dir, last, nil
}

func (t *target) Close() error {
	t.dirs.forget(func(place) bool { return true })
	t.mu.Lock()
	defer t.mu.Unlock()
	var errs []error
	for _, f := range t.dirty {
		errs = append(errs, f.Close())
	}
	clear(t.dirty)
	for _, r := range t.roots {
		errs = append(errs, r.here.base.close(), r.self.base.close())
	}
	return errors.Join(append(errs, t.host.close())...)
}

// temporary is a name for what is not finished yet; none of 26 random letters
// is ever there by accident.
func temporary() string { return ".sombra-" + rand.Text() }

// hostPath is a name for people.
func (t *target) hostPath(name string) string {
	if t.dir == "" {
		return "/" + name
	}
	return filepath.Join(t.dir, name)
}

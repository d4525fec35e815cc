package staging

import (
	"context"
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/provider/area"
)

// directory is one being walked, open as long as the walk or a job uses it.
type directory struct {
	path  string
	src   *os.File
	dst   int // of the copy; -1 until it is needed
	users atomic.Int32
}

func (d *directory) retain() { d.users.Add(1) }

func (d *directory) release() {
	if d.users.Add(-1) == 0 {
		d.src.Close()
		if d.dst >= 0 {
			unix.Close(d.dst)
		}
	}
}

// object is what a walk finds.
type object struct {
	dir     *directory // where it lies; nil for the volume's root
	name    string
	path    string
	st      stat
	claimed bool
	// needed: whatever stands in the way of reading it is an error of the
	// whole copy. True for claimed files and the directories on the way.
	needed bool
	mount  bool
	// self is the directory itself, opened, if it is one that is entered.
	self *directory
}

// walk finds the objects of a scope on one volume.
type walk struct {
	root      *os.File
	rootDev   uint64
	area      *stat // the area, not to be entered; nil if it isn't there yet
	scope     *provider.Matcher
	unclaimed bool
	visit     func(*object) error
	// failed is told of objects that cannot be looked at, and whether they are
	// needed; an error it gives ends the walk.
	failed func(name string, needed bool, err error) error
	// skip says what is not looked at; it may be nil.
	skip func(name string) bool
	// gone is told of what was listed and then was not there any more; it may
	// be nil.
	gone func(name string)
}

// run visits each directory before what is in it.
func (w *walk) run(ctx context.Context) error { return w.from(ctx, ".") }

// from visits a directory and all below it.
func (w *walk) from(ctx context.Context, dir string) error {
	st, err := statAt(int(w.root.Fd()), "")
	if err != nil {
		return w.veto(".", err)
	}
	w.rootDev = st.dev
	stack := []string{dir}
	for len(stack) > 0 {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		dir := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		subdirs, err := w.directory(ctx, dir)
		if err != nil {
			return err
		}
		slices.Reverse(subdirs)
		stack = append(stack, subdirs...)
	}
	return nil
}

// directory visits one directory and what is in it, and returns the paths of
// the directories to go on with.
func (w *walk) directory(ctx context.Context, dir string) ([]string, error) {
	needed := dir == "." || w.scope.Enter(dir, false)
	fd, err := openDirectory(int(w.root.Fd()), dir)
	if err != nil {
		switch {
		case vanished(err):
			w.vanished(dir)
			return nil, nil
		case err == unix.EXDEV:
			return nil, w.mounted(dir, needed)
		}
		return nil, w.failed(dir, needed, err)
	}
	d := &directory{path: dir, src: os.NewFile(uintptr(fd), filepath.Join(w.root.Name(), dir)), dst: -1}
	d.retain()
	defer d.release()
	st, err := statAt(fd, "")
	if err != nil {
		return nil, w.failed(dir, needed, err)
	}
	if st.dev != w.rootDev || w.area != nil && st.dev == w.area.dev && st.ino == w.area.ino {
		return nil, nil
	}
	if err := w.visit(&object{name: path.Base(dir), path: dir, st: st, needed: needed, self: d}); err != nil {
		return nil, err
	}
	names, listed, err := w.names(d)
	if vanished(err) {
		w.vanished(dir)
		return nil, nil
	}
	if err != nil {
		return nil, w.failed(dir, needed, err)
	}
	var subdirs []string
	for i, name := range names {
		if i%256 == 255 {
			if err := context.Cause(ctx); err != nil {
				return nil, err
			}
		}
		enter, err := w.entry(d, name, listed)
		if err != nil {
			return nil, err
		}
		if enter != "" {
			subdirs = append(subdirs, enter)
		}
	}
	return subdirs, nil
}

// mounted visits a directory on which something else is mounted without its
// parent's listing having shown it: it is just so, or the kernel does not tell
// (before Linux 5.8).
func (w *walk) mounted(dir string, needed bool) error {
	fd, err := unix.Openat2(int(w.root.Fd()), dir, &unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: area.Resolve &^ unix.RESOLVE_NO_XDEV})
	if err != nil {
		if vanished(err) {
			return nil
		}
		return w.failed(dir, needed, err)
	}
	defer unix.Close(fd)
	st, err := statAt(fd, "")
	if err != nil {
		return w.failed(dir, needed, err)
	}
	return w.visit(&object{name: path.Base(dir), path: dir, st: st, needed: needed, mount: true})
}

// entry visits one entry of a directory, unless it is a directory to be entered:
// that one is returned, to be visited when it is open. Listed says that the
// directory's listing had the name.
func (w *walk) entry(d *directory, name string, listed bool) (enter string, err error) {
	child := name
	if d.path != "." {
		child = d.path + "/" + name
	}
	if child == provider.AreaName || w.skip != nil && w.skip(child) {
		return "", nil
	}
	st, err := statAt(int(d.src.Fd()), name)
	if err != nil {
		if vanished(err) {
			if listed {
				w.vanished(child)
			}
			return "", nil
		}
		return "", w.failed(child, w.scope.Enter(d.path, false), err)
	}
	o := &object{dir: d, name: name, path: child, st: st}
	o.mount = st.mountRoot || st.isDir() && st.dev != w.rootDev
	if st.isDir() {
		if !w.scope.Enter(child, w.unclaimed) {
			return "", nil
		}
		o.needed = w.scope.Enter(child, false)
		if !o.mount {
			return child, nil
		}
		return "", w.visit(o)
	}
	switch {
	case w.scope.Claimed(child):
		o.claimed, o.needed = true, true
	case w.unclaimed && w.scope.IsUnclaimed(child):
	case st.kind() == unix.S_IFLNK && w.scope.Enter(child, false):
		// A link where a file set's directory should be. It is not
		// followed, but shown, so that nobody takes the set for empty.
		o.needed = true
	default:
		return "", nil
	}
	return "", w.visit(o)
}

// names lists a directory, or if no file set has files in it only the names
// that lead to one: that needs no right to read it, and no time. A name that is
// removed and made again meanwhile may be listed twice; here it is there once.
func (w *walk) names(d *directory) (names []string, listed bool, err error) {
	if steps, all := w.scope.Steps(d.path, w.unclaimed); !all {
		steps = slices.Sorted(slices.Values(steps))
		return slices.Compact(steps), false, nil
	}
	names, err = d.src.Readdirnames(-1)
	if err == io.EOF {
		err = nil
	}
	if errors.Is(err, unix.EBADF) { // opened only to pass through
		err = unix.EACCES
	}
	seen := make(map[string]struct{}, len(names))
	names = slices.DeleteFunc(names, func(name string) bool {
		_, again := seen[name]
		seen[name] = struct{}{}
		return again
	})
	return names, true, err
}

func (w *walk) vanished(name string) {
	if w.gone != nil {
		w.gone(name)
	}
}

func (w *walk) fail(name string, needed bool, err error) error { return w.failed(name, needed, err) }

func (w *walk) veto(name string, err error) error {
	return area.Failure("list", filepath.Join(w.root.Name(), name), err)
}

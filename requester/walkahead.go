package requester

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"sync"
	"sync/atomic"

	"github.com/sombra-backup/sombra/session"
)

// walker goes through a tree; see walk. Directories are listed one by one, none
// is open while another is listed, and what is kept in memory of listings is
// bounded however deep or wide a tree is.
type walker struct {
	tree  session.Tree
	visit visitor
	// ahead is how many directories are listed before it is their turn.
	ahead int
	// enters, with ahead, tells whether a directory will be entered. It is
	// only asked so that none is listed in vain.
	enters func(name string) bool
	// bare takes listings without what costs a call for each object, if the
	// tree has them.
	bare bool

	// free are lists that are done with.
	free sync.Pool
	// held counts the entries in memory, of all listings.
	held atomic.Int64
	// waiting are the listings begun ahead and not yet come to.
	waiting int
	open    []*listing // those of the directories that the walk is in
}

// Bounds on what is held in memory, in entries of some 300 bytes: of one listing,
// of all, and of all up to which others are begun ahead.
const (
	maxListing = 16 << 10
	maxHeld    = 48 << 10
	maxAhead   = 16 << 10
)

// listing is the list of a directory.
type listing struct {
	dir   string
	list  []listed
	err   error         // what kept the directory from being listed to its end
	large bool          // not kept: too much to be held
	done  chan struct{} // closed when it is there; nil: it is
	at    int           // the object the walk has got to
	next  int           // the object from which on directories can be listed ahead
}

type listed struct {
	entry session.Entry
	err   error
	below *listing // of a directory that is listed ahead
}

// run walks through what is below a directory.
func (w *walker) run(ctx context.Context, dir string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends what was begun ahead, for nothing
	defer w.settle()
	return w.directory(ctx, dir, nil, 0)
}

// settle waits for the listings that are under way: they use the tree.
func (w *walker) settle() {
	for _, l := range w.open {
		for i := range l.list {
			if b := l.list[i].below; b != nil && b.done != nil {
				<-b.done
			}
		}
	}
}

// broken passes on what keeps a directory from being listed: that is one
// object's failure.
func (w *walker) broken(dir string, err error) error {
	return ignoreSkip(w.visit(dir, session.Entry{Name: path.Base(dir), Mode: fs.ModeDir}, &dirError{err}))
}

// directory visits what is below a directory. l is its listing, if that was
// begun ahead.
func (w *walker) directory(ctx context.Context, dir string, l *listing, depth int) error {
	if depth > maxTreeDepth {
		return w.broken(dir, fmt.Errorf("it lies more than %d directories deep", maxTreeDepth))
	}
	if l == nil {
		l = &listing{dir: dir}
		w.list(ctx, l)
	} else {
		w.waiting--
		<-l.done
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if l.large {
		return w.stream(ctx, dir, depth)
	}
	w.open = append(w.open, l)
	for l.at = range l.list {
		if err := w.object(ctx, l, depth); err != nil {
			return err // settle needs what is open
		}
	}
	w.open = w.open[:len(w.open)-1]
	w.done(l)
	if l.err != nil {
		return w.broken(dir, l.err)
	}
	return nil
}

// object visits the object that the walk has got to in a listing, and what is
// below it.
func (w *walker) object(ctx context.Context, l *listing, depth int) error {
	w.lookAhead(ctx)
	o := &l.list[l.at]
	name := below(l.dir, o.entry.Name)
	enter, err := w.look(l.dir, name, &o.entry, o.err)
	switch {
	case err != nil:
		return err
	case enter:
		l.next = max(l.next, l.at+1)
		err = w.directory(ctx, name, o.below, depth+1)
	case o.below != nil: // begun for nothing
		w.waiting--
		<-o.below.done
		w.done(o.below)
	}
	if err == nil {
		*o = listed{}
	}
	return err
}

// done gives back what a listing holds.
func (w *walker) done(l *listing) {
	w.held.Add(-int64(len(l.list)))
	if cap(l.list) > 0 && cap(l.list) <= 512 {
		clear(l.list)
		l.list = l.list[:0]
		w.free.Put(&l.list)
	}
}

// look visits one object and tells whether it is to be entered.
func (w *walker) look(dir, name string, e *session.Entry, entryErr error) (enter bool, err error) {
	if !plainName(e.Name) {
		return false, w.broken(dir, fmt.Errorf("the service lists an object called %q in it", clip(e.Name, 100)))
	}
	if neverSaved(name) {
		return false, nil
	}
	switch err := w.visit(name, *e, entryErr); {
	case err == errSkip:
		return false, nil
	case err != nil:
		return false, err
	}
	return enterable(e, entryErr), nil
}

func enterable(e *session.Entry, err error) bool {
	return err == nil && e.Mode.IsDir() && !e.MountPoint
}

// errLarge ends a listing that is too large to be held.
var errLarge = errors.New("too large")

// list lists a directory into memory.
func (w *walker) list(ctx context.Context, l *listing) {
	if p, ok := w.free.Get().(*[]listed); ok {
		l.list = *p
	}
	err := w.readDir(ctx, l.dir, func(e session.Entry, err error) error {
		if len(l.list) >= maxListing || w.held.Load() >= maxHeld {
			return errLarge
		}
		w.held.Add(1)
		l.list = append(l.list, listed{entry: e, err: err})
		return nil
	})
	if err == errLarge {
		w.held.Add(-int64(len(l.list)))
		l.list, l.large, err = nil, true, nil
	}
	l.err = err
}

func (w *walker) readDir(ctx context.Context, dir string, fn func(session.Entry, error) error) error {
	if t, ok := w.tree.(session.BareTree); ok && w.bare {
		return t.ReadDirBare(ctx, dir, fn)
	}
	return w.tree.ReadDir(ctx, dir, fn)
}

// stream visits what is in a directory as it is listed, and enters the
// directories in it thereafter, as there is no memory for anything but their
// names. The order is another then.
func (w *walker) stream(ctx context.Context, dir string, depth int) error {
	var inner error
	var enter []string
	err := w.readDir(ctx, dir, func(e session.Entry, entryErr error) error {
		name := below(dir, e.Name)
		var in bool
		if in, inner = w.look(dir, name, &e, entryErr); in {
			enter = append(enter, e.Name)
		}
		return inner
	})
	switch {
	case inner != nil:
		return inner
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		if err := w.broken(dir, err); err != nil {
			return err
		}
	}
	for _, name := range enter {
		if err := w.directory(ctx, below(dir, name), nil, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// aheadAbove is how many listings may wait when one is begun for a directory
// that is not among the next ones: those are needed earlier.
const aheadAbove = 3

// lookAhead begins listings of directories that the walk comes to soon: those in
// the innermost directory first, then those in the ones above it.
func (w *walker) lookAhead(ctx context.Context) {
	limit := w.ahead
	for i := len(w.open) - 1; i >= 0 && i >= len(w.open)-8 && w.waiting < limit; i-- {
		for l := w.open[i]; w.waiting < limit && w.held.Load() < maxAhead; {
			if !w.begin(ctx, l) {
				break
			}
		}
		limit = min(limit, aheadAbove)
	}
}

// begin begins the next listing of a directory in the one listed, if any.
func (w *walker) begin(ctx context.Context, l *listing) bool {
	for l.next = max(l.next, l.at); l.next < len(l.list); {
		o := &l.list[l.next]
		l.next++
		if o.below != nil || !enterable(&o.entry, o.err) || !plainName(o.entry.Name) {
			continue
		}
		name := below(l.dir, o.entry.Name)
		if name == areaName || w.enters != nil && !w.enters(name) {
			continue
		}
		b := &listing{dir: name, done: make(chan struct{})}
		o.below = b
		w.waiting++
		go func() {
			defer close(b.done)
			w.list(ctx, b)
		}()
		return true
	}
	return false
}

// below joins a directory and a name in it.
func below(dir, name string) string {
	if dir == "." {
		return name
	}
	return dir + "/" + name
}

package reboot

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Outcome is what [Store.Apply] did with a set.
type Outcome struct {
	ID, What string
	Files    int
	// Swapped: all files are in their places. Waiting: the host was not
	// started since they were staged.
	Swapped, Waiting bool
	// Half: some files are in their places and some are not, and Err is why.
	Half bool
	Err  error
}

// Apply swaps in what waits for this start of the host, oldest first, and tells
// told what became of each set. The error is of what concerns no set alone; whether
// all went well takes both. A set that was begun with is ended even when ctx does.
func (s *Store) Apply(ctx context.Context, told func(Outcome)) error {
	// The unit is there only while something waits: a journal that is not there
	// is one that was not mounted in time.
	if err := s.checkDir(); err != nil {
		return fmt.Errorf("nothing is swapped in, as what waits cannot be read: %w", err)
	}
	unlock, err := s.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	errs := []error{s.tidy()}
	list, err := s.sets()
	errs = append(errs, err)
	for _, t := range list {
		if ctx.Err() != nil {
			errs = append(errs, context.Cause(ctx))
			break
		}
		if t.State == failed {
			continue
		}
		if t.State == withdrawn {
			errs = append(errs, s.withdraw(t))
			continue
		}
		o := Outcome{ID: t.ID.String(), What: t.What, Files: len(t.Files)}
		if s.marked(t.ID) {
			o.Waiting = true
		} else {
			s.applySet(ctx, t, &o)
		}
		told(o)
	}
	_, err = s.dropUnit()
	return errors.Join(append(errs, err)...)
}

// applySet takes one set as far as it gets.
func (s *Store) applySet(ctx context.Context, t *set, o *Outcome) {
	r := &run{store: s, set: t, dirs: map[name]int{}}
	defer r.close()
	if t.State == pending {
		if o.Err = r.check(ctx); o.Err != nil {
			if ctx.Err() == nil {
				o.Err = r.failed(o.Err)
			}
			return
		}
		t.State, t.Attempted = swapping, time.Now().UTC()
		if o.Err = s.write(t); o.Err != nil {
			return // nothing has changed; the next start tries again
		}
		s.step("begun")
	}
	// From here on the set is ended, come what may.
	ctx = context.WithoutCancel(ctx)
	if t.State == swapping {
		if err := r.swap(ctx); err != nil {
			back := r.putBack(ctx)
			if back == nil {
				o.Err = r.failed(err)
				return
			}
			o.Half, o.Err = true, fmt.Errorf("%w; and those swapped before cannot be put back: %w", err, back)
			t.Error, t.Attempted = o.Err.Error(), time.Now().UTC()
			o.Err = errors.Join(o.Err, s.write(t))
			return
		}
		if err := syncAll(r.set.directories()); err != nil {
			// The next start looks again where each file is.
			o.Half, o.Err = true, fmt.Errorf("the files are in their places, but that is not on the disk: %w", err)
			return
		}
		s.step("swapped")
		t.State, t.Error = swapped, ""
		if err := s.write(t); err != nil {
			o.Err = fmt.Errorf("the files are in their places, but that cannot be noted: %w", err)
			return
		}
	}
	o.Swapped = true
	if o.Err = r.removeOld(); o.Err == nil {
		o.Err = s.remove(t.ID)
	}
}

// run is the work on one set.
type run struct {
	store *Store
	set   *set
	dirs  map[name]int
	// seen are the staged objects as check saw them.
	seen map[int]object
}

func (r *run) close() {
	for _, fd := range r.dirs {
		unix.Close(fd)
	}
}

// maxDirs bounds how many directories are open at once.
const maxDirs = 256

func (r *run) dir(f *file) (int, error) {
	if fd, ok := r.dirs[f.Directory]; ok {
		return fd, nil
	}
	if len(r.dirs) == maxDirs {
		r.close()
		clear(r.dirs)
	}
	fd, err := openDir(string(f.Directory))
	if err == nil {
		r.dirs[f.Directory] = fd
	}
	return fd, err
}

// failed notes that nothing has changed and that it is not tried again.
func (r *run) failed(err error) error {
	t := r.set
	t.State, t.Error, t.Attempted = failed, err.Error(), time.Now().UTC()
	return errors.Join(err, r.store.write(t))
}

// check looks at all files before the first is touched.
func (r *run) check(ctx context.Context) error {
	r.seen = map[int]object{}
	for i := range r.set.Files {
		f := &r.set.Files[i]
		dir, err := r.dir(f)
		if err != nil {
			return fmt.Errorf("%s: %w", f.path(), err)
		}
		staged, err := lookAt(dir, string(f.Staged))
		if err == unix.ENOENT {
			err = errGone
		}
		if err == nil {
			err = f.differs(ctx, staged, dir, string(f.Staged))
		}
		if err != nil {
			return fmt.Errorf("%s: what was staged for it (%s) %w", f.path(), f.Staged, err)
		}
		old, err := lookAt(dir, string(f.Name))
		if err == nil && old.dir {
			return fmt.Errorf("%s: a directory is in its place", f.path())
		} else if err != nil && err != unix.ENOENT {
			return fmt.Errorf("%s: %w", f.path(), err)
		}
		f.Replaces = old.inode
		r.seen[i] = staged
	}
	return nil
}

// swap swaps in all files that are not in their places yet.
func (r *run) swap(ctx context.Context) error {
	for i := range r.set.Files {
		f := &r.set.Files[i]
		dir, err := r.dir(f)
		if err != nil {
			return fmt.Errorf("%s: %w", f.path(), err)
		}
		staged, in, err := r.where(ctx, i, dir)
		if err == nil && !in {
			err = exchange(dir, string(f.Staged), string(f.Name), staged)
			r.store.step("exchanged")
		}
		if err != nil {
			return fmt.Errorf("%s: %w", f.path(), err)
		}
	}
	return nil
}

// where finds out whether a file is in its place already. If not it is the staged
// object returned.
func (r *run) where(ctx context.Context, i, dir int) (staged object, in bool, err error) {
	f := &r.set.Files[i]
	if err := settleAside(dir, string(f.Staged), string(f.Name)); err != nil {
		return object{}, false, err
	}
	staged, serr := lookAt(dir, string(f.Staged))
	now, nerr := lookAt(dir, string(f.Name))
	if before, ok := r.seen[i]; ok && serr == nil && staged == before {
		return staged, false, nil // check has compared its content
	}
	if nerr == nil && now.inode == f.Inode && now.kind == f.Type && (serr != nil || staged.inode != f.Inode) {
		return object{}, true, nil // whatever was written to it since
	}
	if nerr == nil && f.replaced(staged, serr) {
		return object{}, true, nil // and something else was put there since
	}
	if serr == nil {
		if serr = f.differs(ctx, staged, dir, string(f.Staged)); serr == nil {
			return staged, false, nil
		}
	} else if serr == unix.ENOENT {
		serr = errGone
	}
	if nerr == nil && f.differs(ctx, now, dir, string(f.Name)) == nil {
		return object{}, true, nil
	}
	return object{}, false, fmt.Errorf("what was staged for it (%s) %w", f.Staged, serr)
}

// replaced reports whether the staged name has what was in the file's place when it
// was begun with.
func (f *file) replaced(staged object, err error) bool {
	if f.Replaces == 0 {
		return err == unix.ENOENT
	}
	return err == nil && f.Replaces != f.Inode && staged.inode == f.Replaces
}

// untouched reports whether what was in the file's place when it was begun with
// still is.
func (f *file) untouched(dir int) bool {
	now, err := lookAt(dir, string(f.Name))
	if f.Replaces == 0 {
		return err == unix.ENOENT
	}
	return err == nil && now.inode == f.Replaces
}

// putBack undoes what swap did to a set.
func (r *run) putBack(ctx context.Context) error {
	var errs []error
	for i := len(r.set.Files) - 1; i >= 0; i-- {
		f := &r.set.Files[i]
		dir, err := r.dir(f)
		if err == nil && f.untouched(dir) {
			continue
		}
		in := false
		if err == nil {
			_, in, err = r.where(ctx, i, dir)
		}
		if err == nil && !in {
			continue
		}
		var now object
		if err == nil {
			now, err = lookAt(dir, string(f.Name))
		}
		if err == nil {
			err = exchange(dir, string(f.Name), string(f.Staged), now)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", f.path(), err))
		}
	}
	return errors.Join(append(errs, syncAll(r.set.directories()))...)
}

// removeOld removes what was exchanged for the files, once all are in.
func (r *run) removeOld() error {
	var errs []error
	for i := range r.set.Files {
		f := &r.set.Files[i]
		if err := removeStaged(string(f.Directory), string(f.Staged)); err != nil {
			errs = append(errs, err)
		}
		r.store.step("removed")
	}
	// While it is not on the disk that they are gone the journal names them.
	return errors.Join(append(errs, syncAll(r.set.directories()))...)
}

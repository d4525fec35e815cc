package requester

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// filler writes entries of a file table into a target.
type filler struct {
	repo   *repository.Repository
	target session.Target
	rep    Reporter
	// elsewhere: the directories above what was chosen are not the host's own,
	// and need not have the owner those have, which an ordinary user could
	// give to none.
	elsewhere bool
	overwrite Overwrite
	dry       bool
	shown     func(table string) string // an entry's path for people
	table     *repository.Table
	others    []*repository.Table // of other records of which files are restored
	// record is the short id of the backup, warn tells the user something, and
	// partialOf how a file is restored of which only ranges are held.
	record    string
	warn      func(format string, args ...any)
	partialOf func(ctx context.Context, e *repository.Entry) (partialFile, error)
	mine      func(*repository.Entry) bool // put by an earlier operation of this restore; may be nil
	// dirBefore gives the table's directory whose attributes one on the target has.
	dirBefore func(dir string) string

	work *errgroup.Group
	// restoration takes the files' content, until all are known.
	restoration *repository.Restoration
	full        func(error) // ends the restore: there is no room
	settle      *settler

	mu           sync.Mutex
	sets         []*setRun     // that tags name
	waiting      []replacement // see later
	waitingBytes int64
	together     []*setRun           // whose files are held back
	held         int                 // how many files
	dirs         []*repository.Entry // to be given their attributes at the end
	made         map[string]bool     // directories this run made
	fresh        map[string]bool     // of them, those that were not there
	origins      origins
	names        map[uint64]*linked
	links        []laterLink
	totals       Totals
	told         time.Time
	failures     []Failure
	failed       int
}

// linked is where the first name of a file with several was restored.
type linked struct {
	name string
	ok   bool
}

type laterLink struct {
	entry *repository.Entry
	set   *setRun
}

// setRun is what becomes of one component set.
type setRun struct {
	set     *RestoreSet
	entries []*repository.Entry
	result  ComponentResult
	live    bool // its writer takes part
	written bool // something of it is on disk
	refused string
	chain   *setChain // its part in a chain of restores; nil if there is none
	told    instructions
	into    vss.GUID // the writer instance it is moved to; zero: its own
	// decision is where its files go: by routes, to what diversion has, if that is
	// where its writer's mappings lead; by directed, if its writer directs them.
	decision  Decision
	override  *RestoreMethod // the user's, in place of the writer's
	routes    func(component string) *routes
	diversion *diversion
	directed  []*directedFile
	together  *together         // holds its files back; nil: each takes its place alone
	reboot    session.RebootSet // being staged for the next start
}

func newFiller(ctx context.Context, repo *repository.Repository, t session.Target, rep Reporter) (*filler, context.Context) {
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(workers())
	return &filler{repo: repo, target: &onceTold{Target: t}, rep: rep, work: work, restoration: repo.NewRestoration(), made: map[string]bool{}, fresh: map[string]bool{}, names: map[uint64]*linked{}}, ctx
}

// validName checks a name that comes from the medium: relative, without empty,
// "." and ".." parts, and without anything that a host could take for more than
// a name.
func validName(name string, windows bool) error {
	if name == "" {
		return nil // the root
	}
	if len(name) > repository.MaxPath {
		return fmt.Errorf("a name of %d bytes", len(name))
	}
	for part := range strings.SplitSeq(name, "/") {
		switch {
		case part == "" || part == "." || part == "..":
			return fmt.Errorf("%q is no name below a directory", clip(name, 200))
		case strings.ContainsRune(part, 0):
			return fmt.Errorf("%q holds a NUL", clip(name, 200))
		case windows && strings.ContainsAny(part, `\:*?"<>|`):
			return fmt.Errorf("%q holds a character that Windows names cannot have", clip(name, 200))
		}
	}
	return nil
}

// put restores one entry. Directories are made at once, files by a worker, and
// further names of a file when the first is there. The error ends the restore.
func (f *filler) put(ctx context.Context, e *repository.Entry, set *setRun) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if e.Attrs[AttrOutcome] == "failed" {
		return f.fail(e, set, fmt.Errorf("it was not saved: %s", e.Attrs[AttrError]))
	}
	if e.Path == "" {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.dirs = append(f.dirs, e)
		return nil
	}
	if f.dry {
		if set.settled() {
			return nil // the first operation would have
		}
		return f.wouldPut(ctx, e)
	}
	switch {
	case e.Type == repository.Directory:
		return f.directory(ctx, e, set)
	case e.HardLink != 0 && f.another(e):
		f.links = append(f.links, laterLink{e, set})
		return nil
	case isPartial(e):
		f.work.Go(func() error { return f.finish(e, set, f.partial(ctx, e, set)) })
		return nil
	case e.Type == repository.Regular:
		f.work.Go(func() error {
			planned, err := f.plan(ctx, e, set)
			if planned {
				return nil
			}
			return f.finish(e, set, err)
		})
		return nil
	}
	if set.holdsBack() {
		f.mu.Lock()
		set.together.specials = append(set.together.specials, e)
		f.mu.Unlock()
		return nil
	}
	return f.finish(e, set, f.special(ctx, e))
}

// another reports whether a name of the same file was met before; the first one
// met is entered.
func (f *filler) another(e *repository.Entry) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.names[e.HardLink] != nil {
		return true
	}
	f.names[e.HardLink] = &linked{name: e.Path}
	return false
}

// errKept says that what is there was left as it is.
var errKept = errors.New("kept")

// errIdentical says that what is there has the same bytes.
var errIdentical = errors.New("identical")

// finish counts what came of an entry.
func (f *filler) finish(e *repository.Entry, set *setRun, err error) error {
	action := "restored"
	switch {
	case err == nil:
	case errors.Is(err, errHeld):
		return nil
	case errors.Is(err, errIdentical):
		action = "identical"
	case errors.Is(err, errKept):
		action = "kept"
	case errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, syscall.ENOSPC):
		return fmt.Errorf("restore %s: %w", f.shown(e.Path), err)
	default:
		return f.fail(e, set, err)
	}
	if action != "kept" {
		set.note(e.Path)
	}
	f.mu.Lock()
	if !set.settled() { // else it was counted when it was written
		f.countLocked(e)
		if action != "restored" && e.Type == repository.Regular {
			f.totals.Unchanged++
		}
	}
	if l := f.names[e.HardLink]; l != nil && l.name == e.Path {
		l.ok = action != "kept"
	}
	if set != nil {
		if e.Type == repository.Regular {
			set.result.Files++
			set.result.Bytes += e.Size
		}
		set.written = set.written || action == "restored"
	}
	totals, tell := f.totals, time.Since(f.told) > 100*time.Millisecond
	if tell {
		f.told = time.Now()
	}
	f.mu.Unlock()
	f.rep.File(FileEvent{Path: f.shown(e.Path), Size: e.Size, Action: action})
	if tell {
		f.rep.Totals(totals)
	}
	return nil
}

func (f *filler) fail(e *repository.Entry, set *setRun, err error) error {
	failure := Failure{Path: f.shown(e.Path), Writer: e.Attrs[AttrWriter], Component: e.Attrs[AttrComponent], Error: err.Error()}
	f.mu.Lock()
	f.failed++
	f.totals.Failed++
	if len(f.failures) < maxLeftOut {
		f.failures = append(f.failures, failure)
	}
	if set != nil {
		var lacks *session.AttributeError
		set.written = set.written || errors.As(err, &lacks) // it has its bytes and its name
		set.result.Succeeded = false
		if set.result.Error == "" {
			set.result.Error = failure.Path + ": " + failure.Error
		}
	}
	f.mu.Unlock()
	f.rep.File(FileEvent{Path: failure.Path, Size: e.Size, Action: "failed", Error: failure.Error})
	return nil
}

func (f *filler) wouldPut(ctx context.Context, e *repository.Entry) error {
	action := "would restore"
	if e.Type == repository.Directory {
		return nil
	}
	if there, err := f.target.Lstat(ctx, e.Path); err == nil && !f.replace(there, e) {
		action = "would keep"
	}
	f.countLocked(e)
	f.rep.File(FileEvent{Path: f.shown(e.Path), Size: e.Size, Action: action})
	return nil
}

// countLocked adds an entry to the totals, as a backup does. f.mu is held, or
// nothing else is under way.
func (f *filler) countLocked(e *repository.Entry) {
	if e.Type != repository.Regular {
		f.totals.Others++
		return
	}
	f.totals.Files++
	f.totals.Bytes += e.Size
}

// replace tells whether what is there gives way.
func (f *filler) replace(there session.Entry, e *repository.Entry) bool {
	if f.mine != nil && f.mine(e) {
		return true
	}
	switch f.overwrite {
	case OverwriteNever:
		return false
	case OverwriteIfNewer:
		return e.ModTime.After(there.Modified)
	}
	return true
}

func (f *filler) directory(ctx context.Context, e *repository.Entry, set *setRun) error {
	err := f.parents(ctx, e.Path)
	existed := false
	if err == nil {
		existed, err = f.target.Mkdir(ctx, e.Path)
	}
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return f.fail(e, set, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.made[e.Path] = true
	if !existed {
		f.fresh[e.Path] = true
		set.note(e.Path)
	}
	if !set.settled() {
		f.totals.Dirs++
	}
	if existed && f.overwrite == OverwriteNever && !set.own(e.Path) {
		return nil
	}
	if existed && set.holdsBack() {
		set.together.dirs = append(set.together.dirs, e)
		return nil
	}
	f.dirs = append(f.dirs, e)
	return nil
}

// parents makes the directories above a name. One that was missing gets the
// attributes it had, if the table knows them; one that is there keeps its own.
func (f *filler) parents(ctx context.Context, name string) error {
	for _, dir := range parentsOf(name) {
		f.mu.Lock()
		made := f.made[dir]
		f.mu.Unlock()
		if made {
			continue
		}
		existed, err := f.target.Mkdir(ctx, dir)
		if err != nil {
			return err
		}
		var e *repository.Entry
		if !existed {
			if e, err = f.likeOf(ctx, dir); err != nil {
				return err
			}
		}
		f.mu.Lock()
		f.made[dir] = true
		if !existed {
			f.fresh[dir] = true
		}
		if e != nil && e.Type == repository.Directory {
			f.dirs = append(f.dirs, e)
		}
		f.mu.Unlock()
	}
	return nil
}

// divert remembers where a diverted entry comes from.
func (f *filler) divert(from, to string, by *route) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.origins.note(from, to, by)
}

// likeOf gives the entry whose attributes a directory gets that was missing: its
// own, or that of the directory it stands for. One above a mapping's destination is
// made as what was mapped, so that who may use that may reach it.
func (f *filler) likeOf(ctx context.Context, dir string) (*repository.Entry, error) {
	f.mu.Lock()
	from, diverted := f.origins.of[dir]
	mapped, leads := f.origins.above[dir]
	f.mu.Unlock()
	names := []string{f.dirBefore(dir)}
	if diverted {
		names[0] = from
	} else if leads {
		names = append(names, mapped)
	}
	for _, name := range names {
		e, err := f.lookup(ctx, name)
		if errors.Is(err, repository.ErrNotFound) {
			continue
		}
		if err != nil || name == dir {
			return e, err
		}
		return withPath(e, dir), nil
	}
	return nil, nil
}

// lookup finds what the record has at a name, or one of the others of which files are
// restored.
func (f *filler) lookup(ctx context.Context, name string) (*repository.Entry, error) {
	e, err := f.table.Lookup(ctx, rootID, name)
	for _, t := range f.others {
		if !errors.Is(err, repository.ErrNotFound) {
			break
		}
		e, err = t.Lookup(ctx, rootID, name)
	}
	return e, err
}

// end restores the content of the files, makes the further names of files, gives
// the directories their attributes, deepest first, and makes all of it durable.
func (f *filler) end(ctx context.Context) error {
	if err := f.work.Wait(); err != nil {
		return err
	}
	if f.dry {
		return nil
	}
	if err := f.contents(ctx); err != nil {
		return err
	}
	for _, l := range f.links {
		if l.set.holdsBack() && l.set.together.givenUp {
			if err := f.fail(l.entry, l.set, errHeldBack); err != nil {
				return err
			}
			continue
		}
		if err := f.finish(l.entry, l.set, f.hardLink(ctx, l.entry)); err != nil {
			return err
		}
	}
	if err := f.dress(ctx); err != nil {
		return err
	}
	f.rep.Totals(f.totals)
	return f.target.Sync(ctx)
}

// dress gives the directories their attributes, deepest first.
func (f *filler) dress(ctx context.Context) error {
	slices.SortStableFunc(f.dirs, func(a, b *repository.Entry) int { return cmp.Compare(depth(b.Path), depth(a.Path)) })
	for _, e := range f.dirs {
		name := e.Path
		if name == "" {
			name = "."
		}
		if err := f.target.SetAttributes(ctx, name, sessionEntry(e)); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			var lacks *session.AttributeError
			if f.elsewhere && e.Attrs[AttrRole] == "parent" && errors.As(err, &lacks) {
				continue
			}
			if err := f.fail(e, nil, err); err != nil {
				return err
			}
		}
	}
	return nil
}

// dressMade gives the directories that a restore has made, and that did not come to
// its end, their attributes: their files' owners, and a writer that works as one of
// them, could not reach those otherwise. What cannot be done changes nothing, as the
// restore has failed.
func (f *filler) dressMade(ctx context.Context) {
	if f.dry {
		return
	}
	slices.SortStableFunc(f.dirs, func(a, b *repository.Entry) int { return cmp.Compare(depth(b.Path), depth(a.Path)) })
	for _, e := range f.dirs {
		if f.fresh[e.Path] {
			_ = f.target.SetAttributes(ctx, e.Path, sessionEntry(e))
		}
	}
}

// contents writes the content of all files that were planned.
func (f *filler) contents(ctx context.Context) error {
	inner, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	f.full = cancel
	f.settle = newSettler(inner, f.target, cancel)
	err := f.restoration.Run(inner, f)
	if serr := f.settle.end(); err == nil {
		err = serr
	}
	if err == nil {
		ready := f.waiting
		f.waiting = nil
		err = f.rename(ctx, ready)
	}
	if err == nil {
		err = f.release(ctx)
	}
	f.abandon()
	if cause := context.Cause(inner); err != nil && ctx.Err() == nil && cause != nil {
		err = fmt.Errorf("restore: %w", cause)
	}
	return err
}

// depth counts the directories above a name; the root has none less than any.
func depth(name string) int {
	if name == "" {
		return -1
	}
	return strings.Count(name, "/")
}

// hardLink makes a further name of a file. Where the first could not be
// restored this one gets the content itself.
func (f *filler) hardLink(ctx context.Context, e *repository.Entry) error {
	first := f.names[e.HardLink]
	if !first.ok {
		first.name = e.Path
		err := f.instead(ctx, e) // its set was given up or released: nothing holds it back
		first.ok = err == nil || errors.Is(err, errIdentical)
		return err
	}
	if err := f.parents(ctx, e.Path); err != nil {
		return err
	}
	there, err := f.target.Lstat(ctx, e.Path)
	if err == nil {
		if !f.replace(there, e) {
			return errKept
		}
		if there.Mode.IsDir() {
			return errors.New("a directory is in its place")
		}
		if of, err := f.target.Lstat(ctx, first.name); err == nil && of.Inode == there.Inode && of.Inode != 0 && there.Links > 1 {
			return errIdentical
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return f.target.Link(ctx, first.name, e.Path)
}

// instead restores the name of a file of which the first could not be.
func (f *filler) instead(ctx context.Context, e *repository.Entry) error {
	if e.Type != repository.Regular {
		return f.special(ctx, e)
	}
	if err := f.parents(ctx, e.Path); err != nil {
		return err
	}
	there, err := f.target.Lstat(ctx, e.Path)
	switch {
	case err == nil && !f.replace(there, e):
		return errKept
	case err == nil && there.Mode.IsDir():
		return errors.New("a directory is in its place")
	case err != nil && !isMissing(err):
		return err
	}
	return f.alone(ctx, e, nil, err == nil)
}

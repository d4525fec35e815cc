package requester

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// areaName is the directory at a volume's root in which shadow copies lie. It
// is never saved.
const areaName = ".sombra"

// neverSaved reports whether a name is that directory's, or one of a file that
// waits beside its place for the host's next start.
func neverSaved(name string) bool { return name == areaName || session.IsStagedName(name) }

// maxTreeDepth bounds how deep a walk goes: a tree without end is broken.
const maxTreeDepth = 4096

// errSkip, returned for a directory, keeps a walk out of it.
var errSkip = errors.New("skip")

// visitor is called for each object a walk finds. An object whose attributes
// cannot be read comes with its error and only its name.
type visitor func(name string, e session.Entry, err error) error

// walk visits everything below the directory, not the directory itself, each
// directory before what is in it, and what is in a directory by name: the order
// of a file table, but see [walker.stream]. Mount points are visited and not
// entered: what is mounted there is a volume of its own (R-SET-16).
func walk(ctx context.Context, t session.Tree, dir string, visit visitor) error {
	return (&walker{tree: t, visit: visit}).run(ctx, dir)
}

// plainName reports whether a name of an object in a directory is one: a service
// may be another host's, and what it says is not believed.
func plainName(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.ContainsAny(name, "/\x00")
}

// dirError says that a directory could not be listed, though it was seen.
type dirError struct{ err error }

func (e *dirError) Error() string { return e.err.Error() }
func (e *dirError) Unwrap() error { return e.err }

// matchSet visits every object of a file set in a tree: what matches its
// pattern, and, if it is recursive, every directory, as all are recreated
// (R-SET-3). A literal name that is not there is visited with fs.ErrNotExist
// (R-SET-5); a pattern may match nothing.
func matchSet(ctx context.Context, t session.Tree, set provider.FileSet, fold bool, visit visitor) error {
	if !set.Recursive && !vss.HasWildcard(set.Pattern) {
		return lookAt(ctx, t, path.Join(set.Dir, set.Pattern), visit)
	}
	found := false
	wants := func(name string) bool {
		match := vss.MatchPattern(set.Pattern, path.Base(name), fold)
		found = found || match
		return match
	}
	err := listObjects(ctx, t, set.Dir, set.Recursive, wants, visit)
	if err == nil && !found {
		return missingLiteral(set, visit)
	}
	return err
}

// lookAt visits the one file of that name.
func lookAt(ctx context.Context, t session.Tree, name string, visit visitor) error {
	e, err := t.Lstat(ctx, name)
	if err == nil && e.Mode.IsDir() {
		err = fmt.Errorf("%s is a directory, not a file", name)
	}
	return ignoreSkip(visit(name, e, err))
}

// listObjects visits the objects in a directory that wants takes, and that are no
// directories; or, recursively, those anywhere below it, and all directories. A
// directory that is not there has nothing in it.
func listObjects(ctx context.Context, t session.Tree, dir string, recursive bool, wants func(name string) bool, visit visitor) error {
	if recursive {
		return treeObjects(ctx, t, dir, wants, visit)
	}
	var inner error
	err := t.ReadDir(ctx, dir, func(e session.Entry, err error) error {
		if !plainName(e.Name) {
			err := &dirError{fmt.Errorf("the service lists an object called %q in it", clip(e.Name, 100))}
			inner = ignoreSkip(visit(dir, session.Entry{Name: path.Base(dir), Mode: fs.ModeDir}, err))
			return inner
		}
		name := path.Join(dir, e.Name)
		if e.Mode.IsDir() && err == nil || neverSaved(name) || !wants(name) {
			return nil
		}
		inner = ignoreSkip(visit(name, e, err))
		return inner
	})
	if inner != nil {
		return inner
	}
	return absentIsEmpty(ctx, err, dir, visit)
}

func treeObjects(ctx context.Context, t session.Tree, dir string, wants func(name string) bool, visit visitor) error {
	if dir != "." {
		e, err := t.Lstat(ctx, dir)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && !e.Mode.IsDir() {
			err = fmt.Errorf("%s is not a directory", dir)
		}
		if err != nil {
			return ignoreSkip(visit(dir, e, err))
		}
		if err := visit(dir, e, nil); err != nil {
			return ignoreSkip(err)
		}
	}
	return walk(ctx, t, dir, func(name string, e session.Entry, err error) error {
		if !e.Mode.IsDir() && !wants(name) {
			return nil
		}
		return visit(name, e, err)
	})
}

// missingLiteral visits a literal name of a recursive set that was found
// nowhere (R-SET-5).
func missingLiteral(set provider.FileSet, visit visitor) error {
	if vss.HasWildcard(set.Pattern) {
		return nil
	}
	return ignoreSkip(visit(path.Join(set.Dir, set.Pattern), session.Entry{Name: set.Pattern}, fs.ErrNotExist))
}

func ignoreSkip(err error) error {
	if err == errSkip {
		return nil
	}
	return err
}

// absentIsEmpty makes a directory that is not there one in which a pattern
// matches nothing, and any other error one of the directory's.
func absentIsEmpty(ctx context.Context, err error, dir string, visit visitor) error {
	switch {
	case err == nil || ctx.Err() != nil:
		return errors.Join(err, ctx.Err())
	case errors.Is(err, fs.ErrNotExist):
		return nil
	}
	return ignoreSkip(visit(dir, session.Entry{Name: path.Base(dir), Mode: fs.ModeDir}, &dirError{err}))
}

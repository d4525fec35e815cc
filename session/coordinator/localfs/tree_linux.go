package localfs

import (
	"context"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// ChangedRanges tells what [session.Tree.ChangedRanges] tells.
type ChangedRanges func(ctx context.Context, base vss.GUID, name string) ([]vss.Range, error)

// TreeOptions say what a tree is.
type TreeOptions struct {
	// Source is what its entries say of themselves.
	Source session.Source
	// Changed compares with an earlier shadow copy; nil where nothing can.
	Changed ChangedRanges
}

type tree struct {
	base  *base
	opts  TreeOptions
	flush flusher // of a live one
}

// OpenTree opens the volume, or the copy of one, whose root is the directory
// root. The path itself may lead through links. What is mounted below it, and
// on btrfs nested subvolumes, are shown as mount points and not entered.
func OpenTree(root string, opts TreeOptions) (session.Tree, error) {
	b, err := openBase(root, true)
	if err != nil {
		return nil, &fs.PathError{Op: "open volume", Path: root, Err: err}
	}
	return &tree{base: b, opts: opts}, nil
}

func openBase(dir string, oneVolume bool) (*base, error) {
	for {
		fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		return newBase(fd, oneVolume)
	}
}

// inArea reports whether a name is the area's or below it.
func inArea(name string) bool {
	return strings.HasPrefix(name, provider.AreaName) && (len(name) == len(provider.AreaName) || name[len(provider.AreaName)] == '/')
}

func (t *tree) check(ctx context.Context, op, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := checkName(op, name); err != nil {
		return err
	}
	if inArea(name) {
		return &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
	}
	return nil
}

func (t *tree) Lstat(ctx context.Context, name string) (session.Entry, error) {
	if err := t.check(ctx, "describe", name); err != nil {
		return session.Entry{}, err
	}
	return t.base.lstat(name, t.opts.Source)
}

func (b *base) lstat(name string, source session.Source) (session.Entry, error) {
	dir, elem, err := b.parent(name)
	if err != nil {
		return session.Entry{}, pathError("describe", name, err)
	}
	defer unix.Close(dir)
	e, err := b.entryAt(dir, procPath(dir), elem, source)
	if err != nil {
		return session.Entry{}, pathError("describe", name, err)
	}
	return e, nil
}

func (t *tree) ReadDir(ctx context.Context, name string, fn func(session.Entry, error) error) error {
	return t.readDir(ctx, name, false, fn)
}

// ReadDirBare implements [session.BareTree].
func (t *tree) ReadDirBare(ctx context.Context, name string, fn func(session.Entry, error) error) error {
	return t.readDir(ctx, name, true, fn)
}

func (t *tree) readDir(ctx context.Context, name string, bare bool, fn func(session.Entry, error) error) error {
	if err := t.check(ctx, "read directory", name); err != nil {
		return err
	}
	skip := ""
	if name == "." {
		skip = provider.AreaName
	}
	return t.base.readDir(ctx, listing{name, name, skip, t.opts.Source, bare}, fn)
}

func (t *tree) Open(ctx context.Context, name string) (session.File, error) {
	if err := t.check(ctx, "open", name); err != nil {
		return nil, err
	}
	f, err := t.base.openFile(name, t.opts.Source)
	if err != nil {
		return nil, err
	}
	if t.opts.Source == session.FromLive {
		if err := t.flush.before(f); err != nil {
			f.Close()
			return nil, err
		}
	}
	return f, nil
}

func (t *tree) ChangedRanges(ctx context.Context, base vss.GUID, name string) ([]vss.Range, error) {
	if err := t.check(ctx, "compare", name); err != nil {
		return nil, err
	}
	if t.opts.Changed == nil {
		return nil, vss.Errorf(vss.ErrNotSupported, "compare", name, "its provider cannot compare shadow copies")
	}
	return t.opts.Changed(ctx, base, name)
}

func (t *tree) Close() error { return t.base.close() }

package localfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// StagedOptions say what the tree of a file-by-file shadow copy is put together
// from.
type StagedOptions struct {
	// Copy is the copy's root ([provider.Copied].Root), with the manifest
	// beside it.
	Copy string
	// Live is the volume's root, and Scope what the copy was asked for. With
	// neither the tree shows the copy alone.
	Live  string
	Scope *provider.Scope
	// Unclaimed: data of no writer is in the copy too.
	Unclaimed bool
	// Changed compares with an earlier shadow copy; nil where nothing can.
	Changed ChangedRanges
}

// staged shows a volume of which some files were copied.
type staged struct {
	opts     StagedOptions
	manifest *provider.Manifest
	scope    *provider.Matcher // nil without live
	copied   *base
	live     *tree // nil: the copy alone
}

// OpenStaged opens the tree of a file-by-file shadow copy. What the copy has is
// shown as the original was, hard links included. A file that the scope claims
// and the copy lacks came into being later and is not there, and the same holds
// for data of no writer if that was copied. Everything else is read live and
// says so in its entry.
func OpenStaged(opts StagedOptions) (session.Tree, error) {
	if (opts.Live == "") != (opts.Scope == nil) {
		return nil, errors.New("open shadow copy: the live volume and the scope go together")
	}
	m, err := provider.ReadManifest(opts.Copy)
	if err != nil {
		return nil, fmt.Errorf("open shadow copy %s: %w", opts.Copy, err)
	}
	s := &staged{opts: opts, manifest: m}
	if s.copied, err = openBase(opts.Copy, true); err != nil {
		return nil, &fs.PathError{Op: "open shadow copy", Path: opts.Copy, Err: err}
	}
	if opts.Live != "" {
		live, err := OpenTree(opts.Live, TreeOptions{Source: session.FromLive})
		if err != nil {
			s.copied.close()
			return nil, err
		}
		s.live = live.(*tree)
		s.scope = provider.NewMatcher(opts.Scope)
	}
	return s, nil
}

// has finds what the copy has of a name. Data of no writer that could not be
// copied is read live; a device node or pipe has no data to miss.
func (s *staged) has(name string) (*provider.ManifestEntry, bool) {
	m, ok := s.manifest.Lookup(name)
	return m, ok && !s.readLive(m)
}

func (s *staged) readLive(m *provider.ManifestEntry) bool {
	return m.Missing != "" && s.live != nil && uint16(m.Mode)&unix.S_IFMT == unix.S_IFREG && !m.Claimed
}

// later reports whether a live object that the copy lacks was made after it.
func (s *staged) later(name string, e session.Entry) bool {
	if e.Mode.IsDir() {
		return false // claims are of files
	}
	if m, ok := s.manifest.Lookup(name); ok && s.readLive(m) {
		return false
	}
	return s.scope.Claimed(name) || s.opts.Unclaimed && s.scope.IsUnclaimed(name)
}

func (s *staged) check(ctx context.Context, op, name string) error {
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

func (s *staged) Lstat(ctx context.Context, name string) (session.Entry, error) {
	if err := s.check(ctx, "describe", name); err != nil {
		return session.Entry{}, err
	}
	if m, ok := s.has(name); ok {
		return entryOfManifest(m), nil
	}
	if s.live == nil {
		return session.Entry{}, &fs.PathError{Op: "describe", Path: name, Err: fs.ErrNotExist}
	}
	e, err := s.live.Lstat(ctx, name)
	if err == nil && s.later(name, e) {
		return session.Entry{}, &fs.PathError{Op: "describe", Path: name, Err: fs.ErrNotExist}
	}
	return e, err
}

// entryOfManifest describes an object as the original was.
func entryOfManifest(m *provider.ManifestEntry) session.Entry {
	_, elem := splitName(m.Path)
	return session.Entry{
		Name:       elem,
		Mode:       fileMode(uint16(m.Mode)),
		Perm:       m.Mode & 0o7777,
		UID:        m.UID,
		GID:        m.GID,
		User:       users.name(m.UID),
		Group:      groups.name(m.GID),
		Size:       m.Size,
		Modified:   m.Modified,
		Accessed:   m.Accessed,
		Changed:    m.Changed,
		Created:    m.Created,
		Inode:      m.Inode,
		Links:      m.Links,
		Device:     m.Device,
		Target:     m.Target,
		XAttrs:     m.XAttrs,
		MountPoint: m.MountPoint,
		Allocated:  m.Allocated,
		Source:     session.FromShadow,
	}
}

func (s *staged) ReadDir(ctx context.Context, name string, fn func(session.Entry, error) error) error {
	return s.readDir(ctx, name, false, fn)
}

// ReadDirBare implements [session.BareTree]. What the copy has is not bare.
func (s *staged) ReadDirBare(ctx context.Context, name string, fn func(session.Entry, error) error) error {
	return s.readDir(ctx, name, true, fn)
}

func (s *staged) readDir(ctx context.Context, name string, bare bool, fn func(session.Entry, error) error) error {
	if err := s.check(ctx, "read directory", name); err != nil {
		return err
	}
	in, known := s.manifest.Lookup(name)
	if known && (uint16(in.Mode)&unix.S_IFMT != unix.S_IFDIR || in.MountPoint) {
		err := error(errCross)
		if !in.MountPoint {
			err = unix.ENOTDIR
		}
		return pathError("read directory", name, err)
	}
	rest := s.manifest.Children(name)
	// upTo gives the copy's objects before a name.
	upTo := func(elem string, all bool) error {
		for len(rest) > 0 {
			_, next := splitName(rest[0].Path)
			if !all && next >= elem {
				return nil
			}
			m := &rest[0]
			rest = rest[1:]
			if s.readLive(m) {
				continue // it was there live, or is no more
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := fn(entryOfManifest(m), nil); err != nil {
				return err
			}
		}
		return nil
	}
	err := s.readLiveDir(ctx, name, known, bare, func(e session.Entry, entryErr error) error {
		if err := upTo(e.Name, false); err != nil {
			return err
		}
		full := join(name, e.Name)
		if m, ok := s.has(full); ok {
			rest = rest[1:]
			return fn(entryOfManifest(m), nil)
		}
		if entryErr == nil && s.later(full, e) {
			return nil
		}
		return fn(e, entryErr)
	})
	if err != nil {
		return err
	}
	return upTo("", true)
}

// errCallback marks an error of the caller's own function, which must reach him
// as it is.
type errCallback struct{ error }

// readLiveDir lists the live directory, if it is one still. Of one that the copy
// has, the live one may be gone.
func (s *staged) readLiveDir(ctx context.Context, name string, known, bare bool, fn func(session.Entry, error) error) error {
	if s.live == nil {
		if !known {
			return &fs.PathError{Op: "read directory", Path: name, Err: fs.ErrNotExist}
		}
		return nil
	}
	err := s.live.readDir(ctx, name, bare, func(e session.Entry, entryErr error) error {
		if err := fn(e, entryErr); err != nil {
			return errCallback{err}
		}
		return nil
	})
	if own, ok := err.(errCallback); ok {
		return own.error
	}
	if known && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrInvalid)) {
		return nil
	}
	return err
}

func (s *staged) Open(ctx context.Context, name string) (session.File, error) {
	if err := s.check(ctx, "open", name); err != nil {
		return nil, err
	}
	m, ok := s.has(name)
	if !ok {
		if s.live == nil {
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		}
		if s.later(name, session.Entry{}) {
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		}
		return s.live.Open(ctx, name)
	}
	if m.Missing != "" {
		return nil, &fs.PathError{Op: "open", Path: name, Err: &nameError{"is not in the shadow copy: " + m.Missing, fs.ErrNotExist}}
	}
	f, err := s.copied.openFile(name, session.FromShadow)
	if err != nil {
		return nil, err
	}
	return &stagedFile{f, m}, nil
}

func (s *staged) ChangedRanges(ctx context.Context, base vss.GUID, name string) ([]vss.Range, error) {
	if err := s.check(ctx, "compare", name); err != nil {
		return nil, err
	}
	if _, ok := s.has(name); !ok || s.opts.Changed == nil {
		return nil, vss.Errorf(vss.ErrNotSupported, "compare", name, "no provider can compare this file with an earlier shadow copy")
	}
	return s.opts.Changed(ctx, base, name)
}

func (s *staged) Close() error {
	err := s.copied.close()
	if s.live != nil {
		err = errors.Join(err, s.live.Close())
	}
	return err
}

// stagedFile has the content of the copy and the attributes of the original.
type stagedFile struct {
	*file
	m *provider.ManifestEntry
}

func (f *stagedFile) Stat(ctx context.Context) (session.Entry, error) {
	now, err := f.file.StatBare(ctx)
	if err != nil {
		return session.Entry{}, err
	}
	return f.original(now.Size), nil
}

// Opened implements [session.BareFile].
func (f *stagedFile) Opened(ctx context.Context) (session.Entry, error) {
	if err := ctx.Err(); err != nil {
		return session.Entry{}, err
	}
	return f.original(int64(f.file.opened.Size)), nil
}

// StatBare implements [session.BareFile]: it is Stat, as nothing is to be saved.
func (f *stagedFile) StatBare(ctx context.Context) (session.Entry, error) { return f.Stat(ctx) }

// original describes the original, with the size of the copy.
func (f *stagedFile) original(size int64) session.Entry {
	e := entryOfManifest(f.m)
	e.Size = size
	return e
}

package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/sombra-backup/sombra/repository/store"
)

// List implements store.Store. Files whose names no object can have are
// passed over, and so is what is no regular file; but a link to a folder in
// which objects should be is an error, or they would seem to be gone.
//
// Another process may have renamed a file into place and not yet synced the
// directory. Whoever builds on what was listed must not lose it, so each
// directory is synced before its files are shown; the files themselves were
// synced before they got their names.
func (s *Store) List(ctx context.Context, prefix string, f func(store.Info) error) error {
	base, err := s.files.Resolve(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("list: %w", err)
	}
	top, err := s.topOf(base, prefix)
	if err != nil {
		return fmt.Errorf("list: %w", err)
	}
	l := &listing{files: s.files, base: base, top: top, prefix: prefix, show: f}
	if fi, err := s.files.Lstat(top); err != nil || !fi.IsDir() {
		if err == nil || errors.Is(err, fs.ErrNotExist) || isNotDir(err) {
			return ctx.Err()
		}
		return fmt.Errorf("list: %w", err)
	}
	return walk(ctx, s.files, top, l.visit, func(err error) error {
		// Gone since it was listed.
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return fmt.Errorf("list: %w", err)
	})
}

// walk calls visit for everything below a folder, itself not included, each
// folder before what is in it; fs.SkipDir leaves out what is in it. What
// failed says of an error of reading a folder decides whether the walk goes on.
func walk(ctx context.Context, fsys files, dir string, visit func(path string, d fs.DirEntry) error, failed func(error) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		return failed(err)
	}
	for _, d := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		path := filepath.Join(dir, d.Name())
		err := visit(path, d)
		if err == fs.SkipDir && d.IsDir() {
			continue
		}
		if err == nil && d.IsDir() {
			err = walk(ctx, fsys, path, visit, failed)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// topOf gives the deepest folder that the prefix names whole.
func (s *Store) topOf(base, prefix string) (string, error) {
	i := strings.LastIndexByte(prefix, '/')
	if i < 0 {
		return base, nil
	}
	if err := store.CheckName(prefix[:i]); err != nil {
		return "", err
	}
	top := base
	for part := range strings.SplitSeq(prefix[:i], "/") {
		top = filepath.Join(top, part)
		if fi, err := s.files.Lstat(top); err == nil && fi.Mode().Type() == fs.ModeSymlink {
			return "", linked(top)
		}
	}
	return top, nil
}

// listing is one call of List.
type listing struct {
	files             files
	base, top, prefix string
	show              func(store.Info) error
	// synced is the folder that was synced last.
	synced string
}

// visit is called for everything below the top.
func (l *listing) visit(path string, d fs.DirEntry) error {
	rel, err := filepath.Rel(l.base, path)
	if err != nil {
		return err
	}
	name := filepath.ToSlash(rel)
	if d.IsDir() {
		if !store.ValidName(name) || !related(name+"/", l.prefix) {
			return fs.SkipDir
		}
		return nil
	}
	if !store.ValidName(name) {
		return nil
	}
	if d.Type() == fs.ModeSymlink && related(name+"/", l.prefix) && (l.prefix != "" || strings.Contains(name, "/")) {
		if fi, err := l.files.Stat(path); err == nil && fi.IsDir() {
			return fmt.Errorf("list: %w", linked(path))
		}
	}
	if !d.Type().IsRegular() || !strings.HasPrefix(name, l.prefix) {
		return nil
	}
	fi, err := d.Info()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if dir := filepath.Dir(path); dir != l.synced {
		// On a file system that became read-only nothing can be built on what
		// is shown, but what can be read of it must be.
		if err := l.files.SyncDir(dir); err != nil && !isReadOnly(err) {
			return fmt.Errorf("list: sync %s: %w", dir, err)
		}
		l.synced = dir
	}
	return l.show(store.Info{Name: name, Size: fi.Size(), ModTime: fi.ModTime()})
}

// related says whether names below dir can begin with prefix.
func related(dir, prefix string) bool {
	return strings.HasPrefix(dir, prefix) || strings.HasPrefix(prefix, dir)
}

// Sweep implements store.Sweeper: it removes temporary files last written to
// longer than age ago. What others keep in the folder is left alone, and what
// this user may not see or remove is left to who may.
func (s *Store) Sweep(ctx context.Context, age time.Duration) error {
	base, err := s.files.Resolve(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return ctx.Err()
	}
	if err == nil {
		err = walk(ctx, s.files, base, func(path string, d fs.DirEntry) error {
			if !d.IsDir() {
				return spared(s.sweepFile(path, d, age))
			}
			rel, err := filepath.Rel(base, path)
			if err == nil && !store.ValidName(filepath.ToSlash(rel)) {
				return fs.SkipDir
			}
			return err
		}, spared)
	}
	if err != nil && err != ctx.Err() {
		return fmt.Errorf("sweep %s: %w", s.dir, err)
	}
	return err
}

// spared passes over what is gone and what this user may not touch.
func spared(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil
	}
	return err
}

// sweepFile removes a file if it is the remains of a Put.
func (s *Store) sweepFile(path string, d fs.DirEntry, age time.Duration) error {
	if !d.Type().IsRegular() || !strings.HasPrefix(d.Name(), tempPrefix) {
		return nil
	}
	fi, err := d.Info()
	if err != nil || time.Since(fi.ModTime()) <= age {
		return err
	}
	return s.files.Remove(path)
}

package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
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
	base, err := filepath.EvalSymlinks(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("list: %w", err)
	}
	top, err := topOf(base, prefix)
	if err != nil {
		return fmt.Errorf("list: %w", err)
	}
	l := &listing{base: base, top: top, prefix: prefix, show: f}
	return filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err != nil {
			// Gone since it was listed, or never there.
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		}
		return l.visit(path, d)
	})
}

// topOf gives the deepest folder that the prefix names whole.
func topOf(base, prefix string) (string, error) {
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
		if fi, err := os.Lstat(top); err == nil && fi.Mode().Type() == fs.ModeSymlink {
			return "", linked(top)
		}
	}
	return top, nil
}

// listing is one call of List.
type listing struct {
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
		if name != "." && (!store.ValidName(name) || !related(name+"/", l.prefix)) {
			return fs.SkipDir
		}
		return nil
	}
	if !store.ValidName(name) {
		return nil
	}
	if d.Type() == fs.ModeSymlink && related(name+"/", l.prefix) && (l.prefix != "" || strings.Contains(name, "/")) {
		if fi, err := os.Stat(path); err == nil && fi.IsDir() {
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
		if err := syncDir(dir); err != nil {
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
	base, err := filepath.EvalSymlinks(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return ctx.Err()
	}
	if err == nil {
		err = filepath.WalkDir(base, func(path string, d fs.DirEntry, err error) error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err == nil && d.IsDir() {
				rel, err := filepath.Rel(base, path)
				if err == nil && rel != "." && !store.ValidName(filepath.ToSlash(rel)) {
					return fs.SkipDir
				}
				return err
			}
			if err == nil {
				err = sweepFile(path, d, age)
			}
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
				return nil
			}
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("sweep %s: %w", s.dir, err)
	}
	return nil
}

// sweepFile removes a file if it is the remains of a Put.
func sweepFile(path string, d fs.DirEntry, age time.Duration) error {
	if !d.Type().IsRegular() || !strings.HasPrefix(d.Name(), tempPrefix) {
		return nil
	}
	fi, err := d.Info()
	if err != nil || time.Since(fi.ModTime()) <= age {
		return err
	}
	return os.Remove(path)
}

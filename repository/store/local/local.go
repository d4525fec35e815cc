// Package local keeps the objects of a repository as files below a folder.
//
// An object is written to a temporary file in its own directory, checked,
// synced, and renamed without replacing; then the directory is synced. So a
// name is either absent or names the whole object, and after Put returned, or
// List showed it, it survives a loss of power. Directories are made when first
// needed, with mode 0700, files with mode 0600 (less what the umask takes away).
//
// The folder itself may be reached through symbolic links. Below it none is
// followed, and only regular files are objects: a medium may come from anywhere,
// and neither a link out of it nor a pipe that nobody writes to may lead astray
// or hold up whoever reads it.
package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/sombra-backup/sombra/repository/store"
)

// tempPrefix begins the names of files not yet complete. No object's name has
// a component that begins with a dot.
const tempPrefix = ".sombra-tmp-"

// Store keeps objects below one folder. Use Open.
type Store struct {
	dir string

	// made holds the directories known to exist and to be durable.
	mu   sync.Mutex
	made map[string]bool
}

// Open gives the store at the folder dir. The folder is made by the first
// Put, so that looking for a repository leaves nothing behind; until then the
// store is empty. A dir that is something else than a folder is an error.
func Open(dir string) (*Store, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if fi, err := os.Stat(abs); err == nil && !fi.IsDir() {
		return nil, fmt.Errorf("open %s: it is not a folder", abs)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return &Store{dir: abs, made: map[string]bool{}}, nil
}

// OpenURL is Open for a store.Registry.
func OpenURL(_ context.Context, u *url.URL) (store.Store, error) {
	return Open(filepath.FromSlash(u.Path))
}

// Dir is the folder's absolute path.
func (s *Store) Dir() string { return s.dir }

// path gives the file of an object.
func (s *Store) path(name string) string { return filepath.Join(s.dir, filepath.FromSlash(name)) }

// Put implements store.Store.
func (s *Store) Put(ctx context.Context, name string, data []byte) (err error) {
	if err := before(ctx, "put", name); err != nil {
		return err
	}
	path := s.path(name)
	dir := filepath.Dir(path)
	if _, err := os.Lstat(path); err == nil {
		return exists(name, dir)
	}
	if err := s.makeDir(dir); err != nil {
		return fmt.Errorf("put %s: %w", name, err)
	}
	temp, err := writeTemp(dir, data)
	if err != nil {
		return fmt.Errorf("put %s: %w", name, err)
	}
	if err := ctx.Err(); err != nil {
		os.Remove(temp)
		return err
	}
	if err := renameNoReplace(temp, path); err != nil {
		os.Remove(temp)
		if errors.Is(err, fs.ErrExist) {
			return exists(name, dir)
		}
		return fmt.Errorf("put %s: %w", name, err)
	}
	if err := syncDir(dir); err != nil {
		return fmt.Errorf("put %s: sync its directory: %w", name, err)
	}
	return nil
}

// exists is what Put gives for a name that is taken. Whoever gave it may have
// been killed before the directory was synced.
func exists(name, dir string) error {
	if err := syncDir(dir); err != nil {
		return fmt.Errorf("put %s: sync its directory: %w", name, err)
	}
	return fmt.Errorf("put %s: %w", name, store.ErrExist)
}

// writeTemp makes a durable file of the data, under a name of its own.
func writeTemp(dir string, data []byte) (name string, err error) {
	f, err := os.CreateTemp(dir, tempPrefix)
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if _, err := f.Write(data); err != nil {
		return "", err
	}
	fi, err := f.Stat()
	if err != nil {
		return "", err
	}
	if fi.Size() != int64(len(data)) {
		return "", fmt.Errorf("wrote %d bytes but the file has %d", len(data), fi.Size())
	}
	if err := f.Sync(); err != nil {
		return "", err
	}
	return f.Name(), f.Close()
}

// makeDir makes dir and its parents durably.
func (s *Store) makeDir(dir string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.makeDirLocked(dir)
}

func (s *Store) makeDirLocked(dir string) error {
	if s.made[dir] {
		return nil
	}
	const separator = string(filepath.Separator)
	below := dir != s.dir && strings.HasPrefix(dir, strings.TrimSuffix(s.dir, separator)+separator)
	stat := os.Stat
	if below {
		stat = os.Lstat
	}
	fi, err := stat(dir)
	switch {
	case err == nil && fi.Mode().Type() == fs.ModeSymlink:
		return linked(dir)
	case err == nil && !fi.IsDir():
		return fmt.Errorf("%s is not a folder", dir)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	parent := filepath.Dir(dir)
	missing := err != nil
	if missing && parent == dir {
		return err
	}
	if missing || below {
		if err := s.makeDirLocked(parent); err != nil {
			return err
		}
	}
	if missing {
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	// A directory of ours that was there already may have been made by a
	// process that was killed before it synced the parent. One above ours is
	// not our business, and may not be ours to open.
	if missing || below {
		if err := syncDir(parent); err != nil {
			return err
		}
	}
	s.made[dir] = true
	return nil
}

// ReadAt implements store.Store.
func (s *Store) ReadAt(ctx context.Context, name string, p []byte, offset int64) (int, error) {
	if err := before(ctx, "read", name); err != nil {
		return 0, err
	}
	f, err := openObject(s.path(name))
	if err != nil {
		return 0, notExist("read", name, err)
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return 0, notExist("read", name, cmp.Or(err, fs.ErrNotExist))
	}
	n, err := f.ReadAt(p, offset)
	if err != nil && err != io.EOF {
		return n, fmt.Errorf("read %s: %w", name, err)
	}
	return n, err
}

// Stat implements store.Store.
func (s *Store) Stat(ctx context.Context, name string) (store.Info, error) {
	if err := before(ctx, "stat", name); err != nil {
		return store.Info{}, err
	}
	fi, err := os.Lstat(s.path(name))
	if err != nil {
		return store.Info{}, notExist("stat", name, err)
	}
	if !fi.Mode().IsRegular() {
		return store.Info{}, fmt.Errorf("stat %s: %w", name, store.ErrNotExist)
	}
	return store.Info{Name: name, Size: fi.Size(), ModTime: fi.ModTime()}, nil
}

// Delete implements store.Store.
func (s *Store) Delete(ctx context.Context, name string) error {
	if err := before(ctx, "delete", name); err != nil {
		return err
	}
	if _, err := s.Stat(ctx, name); err != nil {
		return err
	}
	if err := os.Remove(s.path(name)); err != nil {
		if errors.Is(err, fs.ErrPermission) {
			// Also of files made immutable, and of read-only folders.
			return fmt.Errorf("delete %s: %w: %w", name, store.ErrLocked, err)
		}
		return notExist("delete", name, err)
	}
	return nil
}

// linked says that a link stands where there must be a folder.
func linked(path string) error {
	return fmt.Errorf("%s is a symbolic link, and none is followed inside a repository: put the folder itself there, or mount it there", path)
}

// notExist turns the system's errors for a name that is not there into ours:
// absent, below a file, or no regular file.
func notExist(op, name string, err error) error {
	if errors.Is(err, fs.ErrNotExist) || isNotDir(err) {
		err = store.ErrNotExist
	}
	return fmt.Errorf("%s %s: %w", op, name, err)
}

// before makes the tests common to all methods that name an object.
func before(ctx context.Context, op, name string) error {
	if err := store.CheckName(name); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	return ctx.Err()
}

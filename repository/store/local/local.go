// Package local keeps the objects of a repository as files below a folder.
//
// An object is written to a temporary file in its own folder, checked, synced,
// and renamed without replacing; then the folder is synced. So a name is either
// absent or names the whole object, and after Put returned, or List showed it,
// it survives a loss of power. docs/decisions/local-store-durability.md says
// what else is synced, and why. Folders are made when first needed, with mode
// 0700, files with mode 0600 (less what the umask takes away).
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
	"sync"

	"github.com/sombra-backup/sombra/repository/store"
)

// tempPrefix begins the names of files not yet complete. No object's name has
// a component that begins with a dot.
const tempPrefix = ".sombra-tmp-"

// Store keeps objects below one folder. Use Open.
type Store struct {
	dir   string
	files files

	// made holds the directories known to exist and to be durable.
	mu   sync.Mutex
	made map[string]bool
	// named holds directories whose name the folder above has been synced with.
	named map[string]bool
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
	return open(abs, osFiles{}), nil
}

// open is Open on a file system.
func open(dir string, fsys files) *Store {
	return &Store{dir: dir, files: fsys, made: map[string]bool{}, named: map[string]bool{}}
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
func (s *Store) Put(ctx context.Context, name string, data []byte) error {
	if err := before(ctx, "put", name); err != nil {
		return err
	}
	err := s.put(ctx, name, data)
	if errors.Is(err, fs.ErrNotExist) {
		// A folder that was there is gone: whoever tidied up the disk took it
		// for empty.
		s.forgetDirs()
		err = s.put(ctx, name, data)
	}
	if isFull(err) {
		err = fmt.Errorf("%w: %w", store.ErrFull, err)
	}
	if err != nil && err != ctx.Err() {
		return fmt.Errorf("put %s: %w", name, err)
	}
	return err
}

func (s *Store) put(ctx context.Context, name string, data []byte) error {
	path := s.path(name)
	dir := filepath.Dir(path)
	if _, err := s.files.Lstat(path); err == nil {
		return s.exists(dir)
	}
	if err := s.makeDir(dir); err != nil {
		return err
	}
	temp, written, err := s.writeTemp(dir, data)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		s.files.Remove(temp)
		return err
	}
	if err := s.files.Rename(temp, path); err != nil && !s.renamed(path, written) {
		s.files.Remove(temp)
		if errors.Is(err, fs.ErrExist) {
			return s.exists(dir)
		}
		return err
	} else if err != nil {
		s.files.Remove(temp) // the other of two names, if it is still there
	}
	// If this fails the object may be there all the same. It must stay: another
	// process may have listed it, and synced the folder itself.
	return s.syncNames(dir)
}

// renamed says whether a rename that is said to have failed was done: over a
// network a call may be repeated that succeeded the first time, and one by
// means of two links may get half way.
func (s *Store) renamed(path string, written fs.FileInfo) bool {
	fi, err := s.files.Lstat(path)
	return err == nil && s.files.Same(fi, written)
}

// exists is what Put gives for a name that is taken. Whoever gave it may have
// been killed before the folder was synced.
func (s *Store) exists(dir string) error {
	if err := s.syncNames(dir); err != nil {
		return err
	}
	return store.ErrExist
}

// syncNames makes the names in a folder durable.
func (s *Store) syncNames(dir string) error {
	if err := s.files.SyncDir(dir); err != nil {
		return fmt.Errorf("sync its folder: %w", err)
	}
	return nil
}

// writeTemp makes a durable file of the data, under a name of its own. A file
// that could not be synced is never tried again: the system may have dropped
// what it could not write, and say at the next sync that all is well.
func (s *Store) writeTemp(dir string, data []byte) (name string, written fs.FileInfo, err error) {
	f, err := s.files.CreateTemp(dir)
	if err != nil {
		return "", nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
			s.files.Remove(f.Name())
		}
	}()
	if _, err := f.Write(data); err != nil {
		return "", nil, err
	}
	if written, err = f.Stat(); err != nil {
		return "", nil, err
	}
	if written.Size() != int64(len(data)) {
		return "", nil, fmt.Errorf("wrote %d bytes but the file has %d", len(data), written.Size())
	}
	if err := f.Sync(); err != nil {
		return "", nil, err
	}
	return f.Name(), written, f.Close()
}

// ReadAt implements store.Store.
func (s *Store) ReadAt(ctx context.Context, name string, p []byte, offset int64) (int, error) {
	if err := before(ctx, "read", name); err != nil {
		return 0, err
	}
	f, err := s.files.Open(s.path(name))
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
	fi, err := s.files.Lstat(s.path(name))
	if err != nil {
		return store.Info{}, notExist("stat", name, err)
	}
	if !fi.Mode().IsRegular() {
		return store.Info{}, fmt.Errorf("stat %s: %w", name, store.ErrNotExist)
	}
	return store.Info{Name: name, Size: fi.Size(), ModTime: fi.ModTime()}, nil
}

// Delete implements store.Store. Here a deletion, too, is durable when it
// returns: after a loss of power a record that was forgotten must not be back
// while packs it needed, which were deleted after it, are not.
func (s *Store) Delete(ctx context.Context, name string) error {
	if err := before(ctx, "delete", name); err != nil {
		return err
	}
	if _, err := s.Stat(ctx, name); err != nil {
		return err
	}
	if err := s.files.Remove(s.path(name)); err != nil {
		if errors.Is(err, fs.ErrPermission) {
			// Also of files made immutable, and of read-only folders.
			return fmt.Errorf("delete %s: %w: %w", name, store.ErrLocked, err)
		}
		return notExist("delete", name, err)
	}
	if err := s.syncNames(filepath.Dir(s.path(name))); err != nil {
		return fmt.Errorf("delete %s: %w", name, err)
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

package local

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
)

// makeDir makes dir and its parents durably.
func (s *Store) makeDir(dir string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.makeDirLocked(dir)
}

// forgetDirs has the folders looked at anew.
func (s *Store) forgetDirs() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.made)
	clear(s.named)
}

func (s *Store) makeDirLocked(dir string) error {
	if s.made[dir] {
		return nil
	}
	const separator = string(filepath.Separator)
	below := dir != s.dir && strings.HasPrefix(dir, strings.TrimSuffix(s.dir, separator)+separator)
	there, err := s.isDir(dir, below)
	if err != nil {
		return err
	}
	parent := filepath.Dir(dir)
	if !there && parent == dir {
		return fmt.Errorf("%s: %w", dir, fs.ErrNotExist)
	}
	if !there || below {
		if err := s.makeDirLocked(parent); err != nil {
			return err
		}
	}
	if !there {
		if err := s.files.Mkdir(dir); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	// A folder that was there already may have been made by a process that was
	// killed before it synced the folder above.
	switch {
	case there && s.named[dir]:
	case below:
		err = s.syncFolders(parent)
	case !there && dir != s.dir:
		err = s.files.SyncDir(parent)
	case dir == s.dir:
		err = s.syncAbove()
	}
	if err != nil {
		return fmt.Errorf("sync the folder that %s is in: %w", dir, err)
	}
	s.made[dir] = true
	return nil
}

// syncFolders makes the names in a folder of the store durable, and remembers which
// they are: a store has hundreds of folders in few, and each name is synced once.
func (s *Store) syncFolders(dir string) error {
	entries, err := s.files.ReadDir(dir) // before, so that what comes later is not among them
	if err != nil {
		return err
	}
	if err := s.files.SyncDir(dir); err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			s.named[filepath.Join(dir, e.Name())] = true
		}
	}
	return nil
}

// isDir says whether the folder is there; what is there and no folder is an
// error, and below the store's own folder so is a link.
func (s *Store) isDir(dir string, below bool) (bool, error) {
	stat := s.files.Stat
	if below {
		stat = s.files.Lstat
	}
	fi, err := stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	case fi.Mode().Type() == fs.ModeSymlink:
		return false, linked(dir)
	case !fi.IsDir():
		return false, fmt.Errorf("%s is not a folder", dir)
	}
	return true, nil
}

// syncAbove makes the store's own folder durable, whoever made it and those
// above it, perhaps with mkdir a moment ago.
func (s *Store) syncAbove() error {
	real, err := s.files.Resolve(s.dir)
	if err != nil {
		return err
	}
	return s.files.SyncAbove(real)
}

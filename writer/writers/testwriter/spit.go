package testwriter

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// spit is the files copied to alternate paths for a backup (T-5).
type spit struct {
	copies  []spitFile
	madeDir []string // innermost first
}

type spitFile struct {
	original, copy string
	deleted        bool // the original was
}

// copyOut copies the files of all file sets with an alternate path there, and
// with deletes removes the originals.
func (s *spit) copyOut(p *plan, deletes bool, j *journal) error {
	for _, m := range p.members {
		for _, f := range m.Files {
			if f.AlternatePath == "" {
				continue
			}
			if err := s.copySet(p, f, deletes); err != nil {
				return err
			}
			j.detail("Freeze: %s copied to %s", f.FileSpec, f.AlternatePath)
		}
	}
	return nil
}

func (s *spit) copySet(p *plan, f File, deletes bool) error {
	from, err := p.env.expand(f.Path)
	if err != nil {
		return err
	}
	to, err := p.env.expand(f.AlternatePath)
	if err != nil {
		return err
	}
	names, err := list(from, f.FileSpec, p.style)
	if err != nil {
		return err
	}
	for _, name := range names {
		original, copied := filepath.Join(from, name), filepath.Join(to, name)
		if p.exclude.matches(original) || p.style.Within(to, original) {
			continue
		}
		made, err := makeDirs(filepath.Dir(copied))
		s.madeDir = append(made, s.madeDir...)
		if err != nil {
			return err
		}
		s.copies = append(s.copies, spitFile{original: original, copy: copied})
		if err := copyFile(original, copied); err != nil {
			return err
		}
		if !deletes {
			continue
		}
		s.copies[len(s.copies)-1].deleted = true
		if err := os.Remove(original); err != nil {
			return err
		}
	}
	return nil
}

// undo puts deleted originals back and removes the copies: there will be no
// shadow copy.
func (s *spit) undo() error {
	var errs []error
	for _, f := range s.copies {
		if !f.deleted {
			continue
		}
		if _, err := os.Lstat(f.original); errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, copyFile(f.copy, f.original))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err // the copies are all there is
	}
	return s.clean()
}

// clean removes what copyOut made, as far as nobody else put files there.
func (s *spit) clean() error {
	var paths []string
	for _, f := range s.copies {
		paths = append(paths, f.copy)
	}
	err := remove(paths)
	for _, dir := range s.madeDir {
		os.Remove(dir) // one that is not empty stays
	}
	*s = spit{}
	return err
}

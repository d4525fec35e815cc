package testwriter

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sombra-backup/sombra/vss"
)

// maxFiles bounds how many files of one file set are looked at.
const maxFiles = 200_000

// environment is variables by which paths are expanded, before those of the
// process: a writer host has none of the service's, so those that are wanted
// are given to it.
type environment map[string]string

func (env environment) lookup(name string) (string, bool) {
	if v, ok := env[name]; ok {
		return v, true
	}
	return os.LookupEnv(name)
}

// expand resolves the environment in a path.
func (env environment) expand(path string) (string, error) {
	p, err := vss.ExpandEnv(path, env.lookup)
	if err != nil {
		return "", err
	}
	if !filepath.IsAbs(p) {
		return "", fmt.Errorf("%s: %q is not a full path of this host", path, p)
	}
	return filepath.Clean(p), nil
}

// list gives the regular files that match a specification below an expanded
// directory, as paths relative to it. A directory that is not there has none.
func list(dir string, spec vss.FileSpec, style vss.PathStyle) ([]string, error) {
	var found []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case d.IsDir():
			if p != dir && !spec.Recursive {
				return filepath.SkipDir
			}
			return nil
		case !d.Type().IsRegular() || !vss.MatchPattern(spec.Pattern, d.Name(), style.Fold()):
			return nil
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		if found = append(found, rel); len(found) > maxFiles {
			return fmt.Errorf("%s: more than %d files", spec, maxFiles)
		}
		return nil
	})
	return found, err
}

// matcher tests paths against specifications that have been expanded.
type matcher struct {
	specs []vss.FileSpec
	style vss.PathStyle
}

func newMatcher(specs []vss.FileSpec, style vss.PathStyle, env environment) (*matcher, error) {
	m := &matcher{style: style}
	for _, s := range specs {
		dir, err := env.expand(s.Path)
		if err != nil {
			return nil, err
		}
		s.Path = dir
		m.specs = append(m.specs, s)
	}
	return m, nil
}

func (m *matcher) matches(path string) bool {
	for _, s := range m.specs {
		if s.MatchesPath(path, m.style) {
			return true
		}
	}
	return false
}

// copyFile copies content, mode and time of modification of a regular file.
func copyFile(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, info.Mode().Perm())
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, out.Close())
		if err == nil {
			err = os.Chtimes(to, info.ModTime(), info.ModTime())
		}
	}()
	_, err = io.Copy(out, in)
	return err
}

// makeDirs makes a directory and those above it, and gives those it made,
// innermost first.
func makeDirs(dir string) (made []string, err error) {
	for d := dir; ; d = filepath.Dir(d) {
		if _, err := os.Lstat(d); err == nil {
			break
		}
		made = append(made, d)
	}
	return made, os.MkdirAll(dir, 0o777)
}

package writertest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/vss"
)

// file is one file of a writer's components.
type file struct {
	from string // where it is read: the alternate path, if the set has one
	to   string // where it belongs
}

// list gives the files of all components of a document, without those it
// excludes.
func list(doc *metadata.WriterMetadata) ([]file, error) {
	var all []file
	seen := make(map[string]bool)
	for _, c := range doc.Components() {
		for _, set := range c.FileSets {
			spec, err := set.FileSpec.Expand(os.LookupEnv)
			if err != nil {
				return nil, err
			}
			root := spec.Path
			if set.AlternatePath != "" {
				if root, err = vss.ExpandEnv(set.AlternatePath, os.LookupEnv); err != nil {
					return nil, err
				}
			}
			found, err := match(spec, root, doc.ExcludeFiles())
			if err != nil {
				return nil, err
			}
			for _, f := range found {
				if !seen[f.to] {
					seen[f.to] = true
					all = append(all, f)
				}
			}
		}
	}
	return all, nil
}

// match lists the files of one set, read below root.
func match(spec vss.FileSpec, root string, exclude []vss.FileSpec) ([]file, error) {
	var found []file
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if d.IsDir() {
			if path != root && !spec.Recursive {
				return fs.SkipDir
			}
			return nil
		}
		to := filepath.Join(spec.Path, strings.TrimPrefix(path, root))
		excluded := slices.ContainsFunc(exclude, func(x vss.FileSpec) bool { return x.MatchesPath(to, vss.POSIX) })
		if d.Type().IsRegular() && !excluded && spec.MatchesPath(to, vss.POSIX) {
			found = append(found, file{from: path, to: to})
		}
		return nil
	})
	return found, err
}

// hashAll reads every file of a document, opening and closing each, as a
// provider would.
func hashAll(doc *metadata.WriterMetadata) (map[string]string, error) {
	files, err := list(doc)
	if err != nil {
		return nil, err
	}
	hashes := make(map[string]string)
	for _, f := range files {
		h := sha256.New()
		if err := read(f.from, h); err != nil {
			return nil, err
		}
		hashes[f.from] = fmt.Sprintf("%x", h.Sum(nil))
	}
	return hashes, nil
}

func read(path string, to io.Writer) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(to, f)
	return err
}

// differences says which files changed, came or went.
func differences(before, after map[string]string) error {
	var errs []error
	if len(before) == 0 {
		errs = append(errs, errors.New("the components have no files, so nothing can be said of their stillness"))
	}
	for path, hash := range before {
		switch now, ok := after[path]; {
		case !ok:
			errs = append(errs, fmt.Errorf("%s vanished while frozen", path))
		case now != hash:
			errs = append(errs, fmt.Errorf("%s changed while frozen", path))
		}
	}
	for path := range after {
		if _, ok := before[path]; !ok {
			errs = append(errs, fmt.Errorf("%s appeared while frozen", path))
		}
	}
	return errors.Join(errs...)
}

// saved is a copy of the files of a document: where each belongs, and where its
// copy lies.
type saved map[string]string

// save copies the files of a document to dir.
func save(doc *metadata.WriterMetadata, dir string) (saved, error) {
	files, err := list(doc)
	if err != nil {
		return nil, err
	}
	copies := make(saved)
	for i, f := range files {
		to := filepath.Join(dir, fmt.Sprint(i))
		if err := copyFile(f.from, to); err != nil {
			return nil, err
		}
		copies[f.to] = to
	}
	return copies, nil
}

func copyFile(from, to string) error {
	st, err := os.Stat(from)
	if err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, st.Mode().Perm())
	if err != nil {
		return err
	}
	err = read(from, out)
	if e := out.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	return keepOwner(st, to)
}

// restore puts every file where it belongs, as the requester does: under
// another name first, then renamed. What else lies there is left alone.
func (s saved) restore() error {
	for to, from := range s {
		st, err := os.Stat(from)
		if err != nil {
			return err
		}
		if err := makeDir(st, filepath.Dir(to)); err != nil {
			return err
		}
		part := to + ".writertest-part"
		if err := copyFile(from, part); err != nil {
			return err
		}
		if err := os.Rename(part, to); err != nil {
			return err
		}
	}
	return nil
}

// makeDir makes a directory and those above it that are missing, with the owner of
// the file that is to be in it.
func makeDir(file fs.FileInfo, dir string) error {
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := makeDir(file, filepath.Dir(dir)); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	return keepOwner(file, dir)
}

package provider

import (
	"iter"
	"path"
	"strings"

	"github.com/sombra-backup/sombra/vss"
)

// SetIndex finds the file sets that a name is in without trying each of them:
// a writer may declare tens of thousands, and every file of a volume is looked
// up. The time of a look-up goes with the depth of the sets and the number of
// patterns that begin as the name does, not with the number of sets.
//
// It is filled by one goroutine and may then be read by many. The zero SetIndex
// is empty and compares names exactly; see NewSetIndex.
type SetIndex[T any] struct {
	fold bool
	dirs map[string]*indexedDir[T]
	// above holds each set's directory and the directories above it, with
	// the names in it that lead to a set.
	above map[string][]string
	// depth is how many names lead to the deepest recursive set; counted
	// from one, zero if there is none. No directory further down is looked
	// up, however deep a file lies.
	depth int
}

// indexedDir is the sets of one directory.
type indexedDir[T any] struct {
	here  patterns[T] // files directly in it
	below patterns[T] // files in it or anywhere below
}

// NewSetIndex makes an empty index; with fold names are compared without regard
// to case.
func NewSetIndex[T any](fold bool) *SetIndex[T] { return &SetIndex[T]{fold: fold} }

// Add enters a set with what is to be found by it.
func (x *SetIndex[T]) Add(s FileSet, value T) {
	if x.dirs == nil {
		x.dirs, x.above = map[string]*indexedDir[T]{}, map[string][]string{}
	}
	key := nameKey(s.Dir, x.fold)
	d := x.dirs[key]
	if d == nil {
		d = &indexedDir[T]{}
		x.dirs[key] = d
		x.lead(key)
	}
	if s.Recursive {
		x.depth = max(x.depth, depthOf(key)+1)
		d.below.add(s.Pattern, x.fold, value)
	} else {
		d.here.add(s.Pattern, x.fold, value)
	}
}

// lead notes the way to a directory.
func (x *SetIndex[T]) lead(dir string) {
	if _, known := x.above[dir]; known {
		return
	}
	x.above[dir] = nil
	for dir != "." {
		up := path.Dir(dir)
		_, known := x.above[up]
		x.above[up] = append(x.above[up], path.Base(dir))
		if known {
			return
		}
		dir = up
	}
}

// Each calls fn with the value of every set that has the file called name
// (slash-separated, from the volume's root), until fn returns false. Sets of
// nearer directories come first.
func (x *SetIndex[T]) Each(name string, fn func(T) bool) {
	if len(x.dirs) == 0 {
		return
	}
	name = nameKey(name, x.fold)
	dir, base := path.Split(name)
	if dir = strings.TrimSuffix(dir, "/"); dir == "" {
		dir = "."
	}
	if d := x.dirs[dir]; d != nil && !d.here.each(base, x.fold, fn) {
		return
	}
	for up := range x.upwards(dir) {
		if d := x.dirs[up]; d != nil && !d.below.each(base, x.fold, fn) {
			return
		}
	}
}

// upwards gives the directories from dir up that may have recursive sets.
func (x *SetIndex[T]) upwards(dir string) iter.Seq[string] {
	return func(yield func(string) bool) {
		if x.depth == 0 {
			return
		}
		for up := head(dir, x.depth-1); yield(up) && up != "."; {
			up = path.Dir(up)
		}
	}
}

// depthOf counts the names in a directory's path.
func depthOf(dir string) int {
	if dir == "." {
		return 0
	}
	return strings.Count(dir, "/") + 1
}

// head gives the first n names of a directory's path.
func head(dir string, n int) string {
	if n == 0 {
		return "."
	}
	for i := range len(dir) {
		if dir[i] == '/' {
			if n--; n == 0 {
				return dir[:i]
			}
		}
	}
	return dir
}

// Matches reports whether any set has the file called name.
func (x *SetIndex[T]) Matches(name string) (found bool) {
	x.Each(name, func(T) bool {
		found = true
		return false
	})
	return found
}

// Near calls fn, until it returns false, with the value of every set with
// wildcards in the directory of s, and of every recursive set there or in a
// directory above: those besides what names one file that can share files with s
// and are not found from below.
func (x *SetIndex[T]) Near(s FileSet, fn func(T) bool) {
	if len(x.dirs) == 0 {
		return
	}
	dir := nameKey(s.Dir, x.fold)
	if d := x.dirs[dir]; d != nil && !each(d.here.wilds, fn) {
		return
	}
	for up := range x.upwards(dir) {
		if d := x.dirs[up]; d != nil && !each(d.below.all, fn) {
			return
		}
	}
}

// Covers reports whether files in the directory dir can be in a set.
func (x *SetIndex[T]) Covers(dir string) bool {
	dir = nameKey(dir, x.fold)
	if x.dirs[dir] != nil {
		return true
	}
	for up := range x.upwards(dir) {
		if d := x.dirs[up]; d != nil && len(d.below.all) > 0 {
			return true
		}
	}
	return false
}

// Reaches reports whether a walk looking for files of the sets must enter the
// directory dir.
func (x *SetIndex[T]) Reaches(dir string) bool {
	_, above := x.above[nameKey(dir, x.fold)]
	return above || x.Covers(dir)
}

// Steps tells which names in a directory a walk looking for files of the sets
// must look at: those that lead to a set, or all of them.
func (x *SetIndex[T]) Steps(dir string) (names []string, all bool) {
	if x.fold || x.Covers(dir) {
		return nil, true
	}
	return x.above[dir], false
}

// nameKey is what two names have in common that are compared as equal.
func nameKey(name string, fold bool) string {
	if fold {
		return vss.Windows.NameKey(name)
	}
	return name
}

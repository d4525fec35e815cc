package provider

import (
	"path"
	"strings"

	"github.com/sombra-backup/sombra/vss"
)

// FileSet is a file specification with its directory expressed from the root
// of one volume: slash-separated, no leading slash, "." for the root itself.
type FileSet struct {
	Dir       string
	Pattern   string // the model's wildcards: *, ? and *.*
	Recursive bool
}

// Matches reports whether the file called name (slash-separated, from the
// volume's root) is in the set. Names are compared exactly, or without regard
// to case if fold is set.
func (s FileSet) Matches(name string, fold bool) bool {
	dir, base := path.Split(name)
	dir = strings.TrimSuffix(dir, "/")
	if dir == "" {
		dir = "."
	}
	return (sameDir(s.Dir, dir, fold) || s.Recursive && belowDir(s.Dir, dir, fold)) &&
		vss.MatchPattern(s.Pattern, base, fold)
}

// Covers reports whether files in the directory dir can be in the set.
func (s FileSet) Covers(dir string, fold bool) bool {
	return sameDir(s.Dir, dir, fold) || s.Recursive && belowDir(s.Dir, dir, fold)
}

// Reaches reports whether the set's directory is dir or lies anywhere below
// it, so that a walk looking for the set's files must enter dir.
func (s FileSet) Reaches(dir string, fold bool) bool {
	return s.Covers(dir, fold) || belowDir(dir, s.Dir, fold)
}

func sameDir(a, b string, fold bool) bool {
	return a == b || fold && nameKey(a, true) == nameKey(b, true)
}

// belowDir reports whether dir lies strictly below top.
func belowDir(top, dir string, fold bool) bool {
	if top == "." {
		return dir != "."
	}
	if fold {
		top, dir = nameKey(top, true), nameKey(dir, true)
	}
	return len(dir) > len(top) && dir[len(top)] == '/' && dir[:len(top)] == top
}

// Claim is what one writer says of one volume: the files of its chosen
// components, less its excludes, which hold for all of them (R-SET-10).
type Claim struct {
	// Writer is the writer's instance id, as vss.GUID's String gives it: the
	// one in its document, under which its components were added. The
	// service goes by it to know which writers' files must be still, and
	// refuses a claim of a writer it does not know. Providers ignore it.
	Writer  string
	Files   []FileSet
	Exclude []FileSet
}

// Has reports whether the writer claims the file called name.
func (c Claim) Has(name string, fold bool) bool {
	return anyMatches(c.Files, name, fold) && !anyMatches(c.Exclude, name, fold)
}

// Scope is the candidate files of one volume in one set: what a file-by-file
// provider copies. Providers of whole volumes ignore it.
//
// Its methods try every set: [NewMatcher] makes what answers the same for many
// names.
type Scope struct {
	// Fold compares names without regard to case.
	Fold bool
	// Claims are the files of chosen components. They must be copied within
	// the hold.
	Claims []Claim
	// Foreign are claims of components that were not chosen. Their files
	// are neither claimed here nor data of no writer.
	Foreign []Claim
	// Unclaimed is where data of no writer was chosen.
	Unclaimed []FileSet
	// Exclude holds for data of no writer: the requester's own excludes.
	Exclude []FileSet
}

// Claimed reports whether a chosen component claims the file called name.
func (s *Scope) Claimed(name string) bool {
	for _, c := range s.Claims {
		if c.Has(name, s.Fold) {
			return true
		}
	}
	return false
}

// IsUnclaimed reports whether the file called name is data of no writer that
// was chosen: in Unclaimed, excluded by nobody, and in nobody's file sets.
// What a writer excludes does not come back as data of no writer (R-SET-10).
func (s *Scope) IsUnclaimed(name string) bool {
	if !anyMatches(s.Unclaimed, name, s.Fold) || anyMatches(s.Exclude, name, s.Fold) {
		return false
	}
	for _, list := range [][]Claim{s.Claims, s.Foreign} {
		for _, c := range list {
			if anyMatches(c.Files, name, s.Fold) || anyMatches(c.Exclude, name, s.Fold) {
				return false
			}
		}
	}
	return true
}

// Enter reports whether a walk for the claimed files (and, if unclaimed is
// set, for data of no writer) must enter the directory dir.
func (s *Scope) Enter(dir string, unclaimed bool) bool {
	for _, c := range s.Claims {
		for _, f := range c.Files {
			if f.Reaches(dir, s.Fold) {
				return true
			}
		}
	}
	if unclaimed {
		for _, f := range s.Unclaimed {
			if f.Reaches(dir, s.Fold) {
				return true
			}
		}
	}
	return false
}

func anyMatches(sets []FileSet, name string, fold bool) bool {
	for _, s := range sets {
		if s.Matches(name, fold) {
			return true
		}
	}
	return false
}

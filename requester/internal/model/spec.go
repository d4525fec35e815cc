package model

import "strings"

// Spec is a file specification.
type Spec struct {
	Dir       string // absolute
	Pattern   string
	Recursive bool
}

// split divides a path into its directory and its last name.
func split(path string) (dir, name string) {
	i := strings.LastIndexByte(path, '/')
	return path[:i], path[i+1:]
}

// Has reports whether a file belongs to the specification (R-SET-1 to R-SET-4).
func (s Spec) Has(path string) bool {
	dir, name := split(path)
	in := dir == s.Dir || s.Recursive && strings.HasPrefix(dir, s.Dir+"/")
	return in && Fits(s.Pattern, name)
}

// Fits reports whether a name fits a pattern: "*" is any run of characters, "?"
// one character, "*.*" the same as "*" (R-SET-2).
func Fits(pattern, name string) bool {
	if pattern == "*.*" {
		pattern = "*"
	}
	return fits([]rune(pattern), []rune(name))
}

func fits(pattern, name []rune) bool {
	if len(pattern) == 0 {
		return len(name) == 0
	}
	if pattern[0] == '*' {
		for skip := 0; skip <= len(name); skip++ {
			if fits(pattern[1:], name[skip:]) {
				return true
			}
		}
		return false
	}
	return len(name) > 0 && (pattern[0] == '?' || pattern[0] == name[0]) && fits(pattern[1:], name[1:])
}

// same reports whether two specifications are equal in all three parts (R-SET-33).
func (s Spec) same(o Spec) bool {
	all := func(p string) string {
		if p == "*.*" {
			return "*"
		}
		return p
	}
	return s.Dir == o.Dir && all(s.Pattern) == all(o.Pattern) && s.Recursive == o.Recursive
}

// within reports whether every file that may belong to s belongs to o: names made
// of the letters that patterns here have stand for all.
func (s Spec) within(o Spec) bool {
	dirs := []string{s.Dir, s.Dir + "/any/where"}
	for _, dir := range dirs {
		for _, name := range []string{"one", "two", "x.db", "y.log", "q", "any", "owo", s.Pattern} {
			if path := dir + "/" + name; s.Has(path) && !o.Has(path) {
				return false
			}
		}
	}
	return true
}

func anyHas(list []Spec, path string) bool {
	for _, s := range list {
		if s.Has(path) {
			return true
		}
	}
	return false
}

// Dirs gives those of the directories that the specification has recreated: with
// recursion every one at and below its path (R-SET-3).
func (s Spec) Dirs(dirs []string) (out []string) {
	for _, d := range dirs {
		if s.Recursive && (d == s.Dir || strings.HasPrefix(d, s.Dir+"/")) {
			out = append(out, d)
		}
	}
	return out
}

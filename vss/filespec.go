package vss

import "strings"

// FileSpec is the file specification of a file set (R-SET-1): a directory, a
// pattern for names in it, and whether the whole tree below is meant. Path may
// hold %NAME% and a separator at its end, but no wildcards; Pattern has no
// directory part.
type FileSpec struct {
	Path      string
	Pattern   string
	Recursive bool
}

// String gives the specification for messages, such as `C:\data\*.db (with
// subdirectories)`.
func (f FileSpec) String() string {
	sep := "/"
	if strings.Contains(f.Path, `\`) || f.Path != "" && !strings.Contains(f.Path, "/") {
		sep = `\`
	}
	text := strings.TrimSuffix(f.Path, sep) + sep + f.Pattern
	if f.Recursive {
		text += " (with subdirectories)"
	}
	return text
}

// Matches reports whether the file name in directory dir belongs to the set
// (R-SET-2..4). %NAME% must be expanded in f.Path before, see [FileSpec.Expand].
func (f FileSpec) Matches(dir, name string, style PathStyle) bool {
	if !MatchPattern(f.Pattern, name, style.Fold()) {
		return false
	}
	if f.Recursive {
		return style.Within(f.Path, dir)
	}
	return style.Equal(f.Path, dir)
}

// MatchesPath is Matches for a whole path.
func (f FileSpec) MatchesPath(path string, style PathStyle) bool {
	dir, name := style.Split(path)
	return name != "" && f.Matches(dir, name, style)
}

// Equal reports whether two specifications are the same in all three parts, as
// R-RES-18 (mappings), R-RES-21 (new targets) and R-SET-33 (differenced files)
// want it: case counts only where the style says so, a separator at the end of
// the path never does, and "*.*" is "*".
func (f FileSpec) Equal(g FileSpec, style PathStyle) bool { return f.Key(style) == g.Key(style) }

// Key gives a text that is equal for equal specifications, for use in maps.
func (f FileSpec) Key(style PathStyle) string {
	pattern := f.Pattern
	if pattern == "*.*" {
		pattern = "*"
	}
	depth := "\x00-"
	if f.Recursive {
		depth = "\x00r"
	}
	return style.Key(f.Path) + "\x00" + style.NameKey(pattern) + depth
}

// Overlaps reports whether some file could belong to both sets: their
// directories meet and some name matches both patterns ([PatternsMeet]).
// (R-SET-6)
func (f FileSpec) Overlaps(g FileSpec, style PathStyle) bool {
	meet := style.Equal(f.Path, g.Path) ||
		f.Recursive && style.Within(f.Path, g.Path) ||
		g.Recursive && style.Within(g.Path, f.Path)
	return meet && PatternsMeet(f.Pattern, g.Pattern, style.Fold())
}

// Expand gives the specification with %NAME% resolved in its path.
func (f FileSpec) Expand(lookup func(string) (string, bool)) (FileSpec, error) {
	path, err := ExpandEnv(f.Path, lookup)
	if err != nil {
		return FileSpec{}, err
	}
	f.Path = path
	return f, nil
}

// Validate checks the form R-SET-1 asks for: a path without wildcards and a
// pattern that is not empty and has no directory part.
func (f FileSpec) Validate(style PathStyle) error {
	path := strings.TrimPrefix(f.Path, `\\?\`) // here "?" is no wildcard
	switch {
	case f.Path == "":
		return Errorf(ErrInvalidArgument, "check", "file specification", "path is empty")
	case HasWildcard(path) && style == Windows:
		return Errorf(ErrInvalidArgument, "check", "file specification", "path %q holds a wildcard", f.Path)
	case f.Pattern == "":
		return Errorf(ErrInvalidArgument, "check", "file specification", "no pattern for path %q", f.Path)
	}
	for i := 0; i < len(f.Pattern); i++ {
		if style.isSep("", f.Pattern[i]) {
			return Errorf(ErrInvalidArgument, "check", "file specification", "pattern %q has a directory part", f.Pattern)
		}
	}
	return nil
}

// ExpandEnv resolves %NAME% in a path (R-SET-8). A name that lookup does not
// know is [ErrObjectNotFound] and named in the error. A percent sign that begins
// no name (none closes it in the same path part) stays as it is. What a value
// holds is not expanded again.
func ExpandEnv(path string, lookup func(string) (string, bool)) (string, error) {
	if !strings.Contains(path, "%") {
		return path, nil
	}
	var b strings.Builder
	rest := path
	for {
		i := strings.IndexByte(rest, '%')
		if i < 0 {
			b.WriteString(rest)
			return b.String(), nil
		}
		b.WriteString(rest[:i])
		rest = rest[i:]
		end := strings.IndexByte(rest[1:], '%')
		if end <= 0 || strings.ContainsAny(rest[1:1+end], `\/=`) {
			b.WriteByte('%')
			rest = rest[1:]
			continue
		}
		name := rest[1 : 1+end]
		value, ok := lookup(name)
		if !ok {
			return "", Errorf(ErrObjectNotFound, "expand", path, "environment variable %q is not set", name)
		}
		b.WriteString(value)
		rest = rest[2+end:]
	}
}

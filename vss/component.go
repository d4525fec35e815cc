package vss

import (
	"strings"
	"unicode/utf8"
)

// ComponentID is what identifies a component: the writer's class, the logical
// path and the name (R-SEL-1). Parts are compared exactly, as the model fixes
// no folding for them; a ComponentID is comparable and serves as a map key.
type ComponentID struct {
	WriterClass GUID
	LogicalPath string // parts separated by "\", empty at the root
	Name        string
}

// FullPath gives logical path and name joined by "\", only the name at the
// root.
func (c ComponentID) FullPath() string { return FullPath(c.LogicalPath, c.Name) }

// String gives the full path with the writer's class before it.
func (c ComponentID) String() string { return c.WriterClass.String() + ":" + c.FullPath() }

// IsDescendantOf reports whether c lies below a: both belong to one writer
// class, and c's logical path is a's full path or begins with it and "\". A
// component is not its own descendant. Descent goes by path text; parts between
// need not be components (R-SEL-4).
func (c ComponentID) IsDescendantOf(a ComponentID) bool {
	return c.WriterClass == a.WriterClass && IsDescendant(c.LogicalPath, a.FullPath())
}

// IsDescendant reports whether a component with the given logical path lies
// below the component with the given full path.
func IsDescendant(logicalPath, fullPath string) bool {
	if fullPath == "" || !strings.HasPrefix(logicalPath, fullPath) {
		return false
	}
	return len(logicalPath) == len(fullPath) || logicalPath[len(fullPath)] == '\\'
}

// FullPath joins a logical path and a component name.
func FullPath(logicalPath, name string) string {
	if logicalPath == "" {
		return name
	}
	return logicalPath + `\` + name
}

// SplitFullPath splits at the last "\": the name holds none (R-SEL-3).
func SplitFullPath(full string) (logicalPath, name string) {
	full = NormalizeLogicalPath(full)
	i := strings.LastIndexByte(full, '\\')
	if i < 0 {
		return "", full
	}
	return full[:i], full[i+1:]
}

// NormalizeLogicalPath is the project's reading of D-18: one leading "\" and
// trailing ones are dropped, so that "\Registry" is "Registry" and "\" is the
// root. Two leading ones mark a remote path (R-SEL-34) and are kept.
func NormalizeLogicalPath(path string) string {
	if strings.HasPrefix(path, `\`) && !strings.HasPrefix(path, `\\`) {
		path = path[1:]
	}
	return strings.TrimRight(path, `\`)
}

// MaxNameLength bounds component names and logical paths, in bytes.
const MaxNameLength = 32 << 10

// ValidateComponentName checks R-SEL-3: a name is required, holds no "\" and is
// text. The error is [ErrInvalidArgument].
func ValidateComponentName(name string) error {
	switch {
	case name == "":
		return Errorf(ErrInvalidArgument, "check", "component name", "it is empty")
	case strings.Contains(name, `\`):
		return Errorf(ErrInvalidArgument, "check", "component name", `%.100q holds a backslash`, name)
	}
	return validateText("component name", name)
}

// ValidateLogicalPath checks R-SEL-3: parts separated by "\" without empty
// parts; the empty path is the root. The error is [ErrInvalidArgument].
func ValidateLogicalPath(path string) error {
	if path == "" {
		return nil
	}
	for part := range strings.SplitSeq(path, `\`) {
		if part == "" {
			return Errorf(ErrInvalidArgument, "check", "logical path", `%.100q has an empty part; the root is the empty path, and no path begins or ends with a backslash`, path)
		}
	}
	return validateText("logical path", path)
}

func validateText(what, s string) error {
	if len(s) > MaxNameLength {
		return Errorf(ErrInvalidArgument, "check", what, "it has %d bytes, more than %d", len(s), MaxNameLength)
	}
	if !utf8.ValidString(s) || strings.ContainsRune(s, 0) {
		return Errorf(ErrInvalidArgument, "check", what, "%.100q is not text", s)
	}
	return nil
}

// ParseRemotePath takes the machine off the logical path of a remote dependency
// (R-SEL-34, D-4): `\\Computer\Path` gives "Computer" and "Path". ok is false
// for a path without the prefix.
func ParseRemotePath(logicalPath string) (computer, path string, ok bool) {
	rest, found := strings.CutPrefix(logicalPath, `\\`)
	if !found {
		return "", logicalPath, false
	}
	computer, path, _ = strings.Cut(rest, `\`)
	if computer == "" {
		return "", logicalPath, false
	}
	return computer, NormalizeLogicalPath(path), true
}

// RemotePath puts a machine before a logical path, the reverse of
// ParseRemotePath.
func RemotePath(computer, logicalPath string) string {
	if logicalPath == "" {
		return `\\` + computer
	}
	return `\\` + computer + `\` + logicalPath
}

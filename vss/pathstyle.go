package vss

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// PathStyle says how a host writes paths, which need not be the host the
// program runs on. All methods work on text alone: no file is looked at, links
// are not known, and "." and ".." are resolved as text.
type PathStyle uint8

const (
	// POSIX separates by "/" and compares exactly.
	POSIX PathStyle = 0
	// Windows separates by "\" (and takes "/" for one, except in paths that
	// begin with "\\?\") and compares without regard to case.
	Windows PathStyle = 1
)

// String gives "posix" or "windows".
func (s PathStyle) String() string {
	if s == Windows {
		return "windows"
	}
	return "posix"
}

// Separator gives the separator the style writes.
func (s PathStyle) Separator() byte {
	if s == Windows {
		return '\\'
	}
	return '/'
}

// Fold reports whether names that differ in case alone are equal.
func (s PathStyle) Fold() bool { return s == Windows }

// isSep reports whether c separates names in path.
func (s PathStyle) isSep(path string, c byte) bool {
	if s != Windows {
		return c == '/'
	}
	return c == '\\' || c == '/' && !verbatim(path)
}

// verbatim reports whether a Windows path is taken literally: it begins with
// "\\?\" and a name.
func verbatim(path string) bool {
	return len(path) > 4 && path[:4] == `\\?\` && path[4] != '\\' && path[4] != '/'
}

// VolumeName gives the part of a path that names the volume, without a
// separator after it: "C:", `\\server\share`, `\\?\Volume{...}`, `\\?\C:`,
// `\\?\GLOBALROOT\Device\X`. It is empty for POSIX paths, for paths without a
// volume such as `\System Volume Information`, and for relative ones.
func (s PathStyle) VolumeName(path string) string {
	if s != Windows {
		return ""
	}
	if len(path) >= 2 && path[1] == ':' && isLetter(path[0]) {
		return path[:2]
	}
	if len(path) < 3 || !s.isSep(path, path[0]) || !s.isSep(path, path[1]) || s.isSep(path, path[2]) {
		return ""
	}
	v := s.firstNames(path, 2)
	if path[2] == '?' || path[2] == '.' {
		// \\?\UNC\server\share, \\?\GLOBALROOT\Device\HarddiskVolumeShadowCopy1
		kind := strings.TrimLeft(v[min(3, len(v)):], `\/`)
		if strings.EqualFold(kind, "UNC") || strings.EqualFold(kind, "GLOBALROOT") {
			if longer := s.firstNames(path, 4); longer != "" {
				return longer
			}
		}
	}
	return v
}

// firstNames gives the beginning of path up to the end of the count-th name
// after two separators, "" if it has fewer names.
func (s PathStyle) firstNames(path string, count int) string {
	inName := true
	for i := 2; i < len(path); i++ {
		sep := s.isSep(path, path[i])
		if sep && inName {
			if count--; count == 0 {
				return path[:i]
			}
		}
		inName = !sep
	}
	if inName && count == 1 {
		return path
	}
	return ""
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

// IsAbs reports whether a path is complete: from "/" on POSIX, with a volume
// and from its root on Windows.
func (s PathStyle) IsAbs(path string) bool {
	if s != Windows {
		return strings.HasPrefix(path, "/")
	}
	v := s.VolumeName(path)
	if v == "" {
		return false
	}
	return len(v) > 2 || len(path) > 2 && s.isSep(path, path[2])
}

// Clean gives the shortest equal path as text: separators are the style's own
// and single, "." and ".." are resolved (".." at a root stays at the root), and
// none is at the end except for a root. The empty path stays empty.
func (s PathStyle) Clean(path string) string {
	if path == "" {
		return ""
	}
	sep := string(s.Separator())
	volume := s.VolumeName(path)
	rest := path[len(volume):]
	rooted := rest != "" && s.isSep(path, rest[0]) || len(volume) > 2
	kept := make([]string, 0, 16)
	for _, name := range s.fields(path, rest) {
		switch {
		case name == ".":
		case name == ".." && len(kept) > 0 && kept[len(kept)-1] != "..":
			kept = kept[:len(kept)-1]
		case name == ".." && rooted:
		default:
			kept = append(kept, name)
		}
	}
	if s == Windows && len(volume) > 2 {
		volume = s.cleanVolume(volume)
	}
	out := strings.Join(kept, sep)
	switch {
	case rooted && len(volume) > 2 && out == "":
		// \\server\share and \\?\Volume{...} name their root by themselves.
		return volume + sep
	case rooted:
		return volume + sep + out
	case volume == "" && out == "":
		return "."
	case volume == "" && s.VolumeName(out) != "":
		return "." + sep + out // a name such as "A:" must not turn into a drive
	}
	return volume + out
}

func (s PathStyle) cleanVolume(v string) string {
	return `\\` + strings.Join(s.fields(v, v), `\`)
}

// fields splits rest, a part of path, at separators and drops empty names.
func (s PathStyle) fields(path, rest string) []string {
	return strings.FieldsFunc(rest, func(r rune) bool {
		return r < utf8.RuneSelf && s.isSep(path, byte(r))
	})
}

// Names gives the names of a path below its volume and root, cleaned: "a", "b"
// for `C:\a\b` and for "/a/b".
func (s PathStyle) Names(path string) []string {
	c := s.Clean(path)
	names := s.fields(c, c[len(s.VolumeName(c)):])
	if len(names) > 1 && names[0] == "." {
		names = names[1:]
	}
	return names
}

// Join joins a path and names below it with the style's separator and cleans
// the result; empty parts are left out, and separators at the beginning of all
// but the first make no difference.
func (s PathStyle) Join(names ...string) string {
	joined := ""
	for _, name := range names {
		if joined == "" {
			joined = s.Clean(name)
			continue
		}
		for name != "" && s.isSep(joined, name[0]) {
			name = name[1:]
		}
		drive := len(joined) == 2 && s.VolumeName(joined) != "" // "C:" and "a" are "C:a"
		if name != "" && !drive && joined[len(joined)-1] != s.Separator() {
			joined += string(s.Separator())
		}
		joined += name
	}
	return s.Clean(joined)
}

// Split cleans a path and splits it into its directory and its last name; a
// root has itself as directory and no name.
func (s PathStyle) Split(path string) (dir, name string) {
	c := s.Clean(path)
	start := len(s.VolumeName(c))
	i := strings.LastIndexByte(c[start:], s.Separator())
	if i < 0 {
		return c[:start], c[start:]
	}
	i += start
	if i == start {
		return c[:i+1], c[i+1:] // the root keeps its separator
	}
	return c[:i], c[i+1:]
}

// Base gives the last name of a path, "" for a root.
func (s PathStyle) Base(path string) string { _, name := s.Split(path); return name }

// Dir gives the directory of a path, the root itself for a root.
func (s PathStyle) Dir(path string) string { dir, _ := s.Split(path); return dir }

// Rel gives target's path from base, "" if they are equal; ok is false if
// target does not lie at or below base.
func (s PathStyle) Rel(base, target string) (rel string, ok bool) {
	b, t := s.Clean(base), s.Clean(target)
	if b == "" || t == "" {
		return "", b == t
	}
	if b == t {
		return "", true
	}
	bn, tn := s.Names(b), s.Names(t)
	if len(bn) > len(tn) || !s.sameRoot(b, t) {
		return "", false
	}
	if len(bn) == 1 && bn[0] == "." {
		return strings.Join(tn, string(s.Separator())), tn[0] != ".."
	}
	for i := range bn {
		if !s.EqualName(bn[i], tn[i]) {
			return "", false
		}
	}
	return strings.Join(tn[len(bn):], string(s.Separator())), true
}

// sameRoot compares what precedes the names of two clean paths.
func (s PathStyle) sameRoot(a, b string) bool {
	va, vb := s.VolumeName(a), s.VolumeName(b)
	rooted := func(p, v string) bool { return len(p) > len(v) && p[len(v)] == s.Separator() }
	return s.EqualName(va, vb) && rooted(a, va) == rooted(b, vb)
}

// Within reports whether path is dir or lies below it.
func (s PathStyle) Within(dir, path string) bool { _, ok := s.Rel(dir, path); return ok }

// Equal reports whether two paths are the same text after cleaning, with case
// folded where the style folds; a separator at the end makes no difference.
func (s PathStyle) Equal(a, b string) bool { return s.Key(a) == s.Key(b) }

// EqualName compares two names, or two other texts, as the style compares
// them.
func (s PathStyle) EqualName(a, b string) bool {
	if a == b {
		return true
	}
	return s == Windows && foldName(a) == foldName(b)
}

// Key gives a text that is equal for equal paths, for use in maps.
func (s PathStyle) Key(path string) string { return s.NameKey(s.Clean(path)) }

// NameKey is Key for one name or pattern, which is not cleaned.
func (s PathStyle) NameKey(name string) string {
	if s == Windows {
		return foldName(name)
	}
	return name
}

// foldName maps each rune as NTFS maps it when it compares names, byte for byte
// where the text is no UTF-8.
func foldName(s string) string {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c >= utf8.RuneSelf || 'a' <= c && c <= 'z' {
			return foldSlow(s)
		}
	}
	return s
}

func foldSlow(s string) string {
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n <= 1 {
			b = append(b, s[i])
			i++
			continue
		}
		b = utf8.AppendRune(b, foldRune(r))
		i += n
	}
	return string(b)
}

// foldRune upper-cases one rune as a Windows file system does: rune by rune, in
// the basic plane only, and never from another letter to an ASCII one (dotless
// i and long s stay themselves).
func foldRune(r rune) rune {
	switch {
	case r < utf8.RuneSelf:
		if 'a' <= r && r <= 'z' {
			return r - 'a' + 'A'
		}
		return r
	case r > 0xFFFF:
		return r
	}
	if u := unicode.ToUpper(r); u >= utf8.RuneSelf && u <= 0xFFFF {
		return u
	}
	return r
}

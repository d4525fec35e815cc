package metadata

import (
	"github.com/sombra-backup/sombra/vss"
)

// FileSetRef is a file set and the component it belongs to.
type FileSetRef struct {
	Component *ComponentInfo
	Set       *FileSet
}

// UnresolvedFileSet is a file set whose path names an environment variable that
// is not set.
type UnresolvedFileSet struct {
	FileSetRef
	Err error
}

// FileSetIndex answers in constant time what else would need a walk over all
// file sets of a writer, of which there can be tens of thousands. It does not
// follow later changes of the document. It is safe for concurrent use.
type FileSetIndex struct {
	style      vss.PathStyle
	lookup     func(string) (string, bool)
	bySpec     map[string][]FileSetRef
	mappings   map[string]AlternateLocationMapping
	dirs       map[string]*dirSets
	unresolved []UnresolvedFileSet
}

// dirSets are the file sets of one directory.
type dirSets struct {
	literal   map[string][]FileSetRef // by folded name, without subdirectories
	patterns  []FileSetRef            // without subdirectories
	recursive []FileSetRef
}

// IndexFileSets makes an index of all file sets and mappings. Paths are resolved
// with lookup (R-SET-8), which may be nil if no path holds %NAME%.
func (m *WriterMetadata) IndexFileSets(style vss.PathStyle, lookup func(string) (string, bool)) *FileSetIndex {
	x := &FileSetIndex{
		style:    style,
		lookup:   lookup,
		bySpec:   make(map[string][]FileSetRef),
		mappings: make(map[string]AlternateLocationMapping, len(m.mappings)),
		dirs:     make(map[string]*dirSets),
	}
	for _, c := range m.components {
		for i := range c.FileSets {
			x.add(FileSetRef{c, &c.FileSets[i]})
		}
	}
	for _, a := range m.mappings {
		if spec, err := x.expand(a.FileSpec); err == nil {
			x.mappings[spec.Key(style)] = a
		}
	}
	return x
}

func (x *FileSetIndex) expand(spec vss.FileSpec) (vss.FileSpec, error) {
	if x.lookup == nil {
		return spec, nil
	}
	return spec.Expand(x.lookup)
}

// key resolves a specification and gives its key.
func (x *FileSetIndex) key(spec vss.FileSpec) string {
	if resolved, err := x.expand(spec); err == nil {
		spec = resolved
	}
	return spec.Key(x.style)
}

func (x *FileSetIndex) add(ref FileSetRef) {
	spec, err := x.expand(ref.Set.FileSpec)
	if err != nil {
		x.unresolved = append(x.unresolved, UnresolvedFileSet{ref, err})
		return
	}
	key := spec.Key(x.style)
	x.bySpec[key] = append(x.bySpec[key], ref)
	dirKey := x.style.Key(spec.Path)
	d := x.dirs[dirKey]
	if d == nil {
		d = &dirSets{}
		x.dirs[dirKey] = d
	}
	switch {
	case spec.Recursive:
		d.recursive = append(d.recursive, ref)
	case vss.HasWildcard(spec.Pattern):
		d.patterns = append(d.patterns, ref)
	default:
		if d.literal == nil {
			d.literal = make(map[string][]FileSetRef)
		}
		name := x.style.NameKey(spec.Pattern)
		d.literal[name] = append(d.literal[name], ref)
	}
}

// Unresolved gives the file sets left out because their path could not be
// resolved; the components they belong to cannot be saved whole.
func (x *FileSetIndex) Unresolved() []UnresolvedFileSet { return x.unresolved }

// Find gives the file sets that equal a specification in all three parts
// (R-RES-18, R-RES-21, R-SET-33), after %NAME% is resolved in both.
func (x *FileSetIndex) Find(spec vss.FileSpec) []FileSetRef { return x.bySpec[x.key(spec)] }

// Mapping gives the alternate location mapping of a file set (R-RES-18).
func (x *FileSetIndex) Mapping(spec vss.FileSpec) (AlternateLocationMapping, bool) {
	a, ok := x.mappings[x.key(spec)]
	return a, ok
}

// Claims gives the file sets a file belongs to by its normal path, as a rule
// one (R-SET-6). Its time depends on the depth of the path and the number of
// patterns in the directories above it.
func (x *FileSetIndex) Claims(dir, name string) []FileSetRef {
	var out []FileSetRef
	fold := x.style.Fold()
	match := func(refs []FileSetRef) {
		for _, r := range refs {
			if vss.MatchPattern(r.Set.Pattern, name, fold) {
				out = append(out, r)
			}
		}
	}
	dir = x.style.Clean(dir)
	if d := x.dirs[x.style.NameKey(dir)]; d != nil {
		out = append(out, d.literal[x.style.NameKey(name)]...)
		match(d.patterns)
	}
	for {
		if d := x.dirs[x.style.NameKey(dir)]; d != nil {
			match(d.recursive)
		}
		up := x.style.Dir(dir)
		if up == dir || up == "" {
			return out
		}
		dir = up
	}
}

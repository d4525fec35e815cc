package requester

import (
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/vss"
)

// oracleWriters is a plain model of what a backup copies, over lists of names.
type oracleWriters struct{ list []oracleWriter }

type oracleWriter struct {
	name  string
	tree  oracle
	specs map[string][]vss.FileSpec // by component
	out   []vss.FileSpec            // excludes
}

// random makes a writer of the host and its model.
func (o *oracleWriters) random(t *testing.T, r *rand.Rand, h *memHost, name string, dirs []string) {
	w := oracleWriter{name: name, tree: oracle{selectable: map[string]bool{}}, specs: map[string][]vss.FileSpec{}}
	some := func() vss.FileSpec {
		return spec("/"+dirs[r.IntN(len(dirs))], []string{"*", "*.db", "one", "?wo", "*.*"}[r.IntN(5)], r.IntN(2) == 0)
	}
	h.writer(t, name, func(m *metadata.WriterMetadata) (errs []error) {
		for _, full := range []string{"a", `a\b`, `a\b\c`, "d", `d\e`} {
			if r.IntN(3) == 0 {
				continue
			}
			w.tree.all = append(w.tree.all, full)
			w.tree.selectable[full] = r.IntN(2) == 0
			seen := map[string]bool{}
			for range r.IntN(3) {
				s := some()
				if key := s.Key(vss.POSIX); !seen[key] {
					seen[key] = true
					w.specs[full] = append(w.specs[full], s)
				}
			}
			errs = append(errs, fileGroup(m, full, w.tree.selectable[full], w.specs[full]...))
		}
		if r.IntN(3) == 0 {
			s := some()
			w.out = append(w.out, s)
			errs = append(errs, m.AddExcludeFiles(s))
		}
		return errs
	})
	o.list = append(o.list, w)
}

func specHas(s vss.FileSpec, file string) bool {
	dir, base := "/"+path.Dir(file), path.Base(file)
	if dir != s.Path && !(s.Recursive && strings.HasPrefix(dir, s.Path+"/")) {
		return false
	}
	pattern := s.Pattern
	if pattern == "*.*" {
		pattern = "*"
	}
	ok, err := path.Match(pattern, base)
	return ok && err == nil
}

func anySpec(list []vss.FileSpec, file string) bool {
	return slices.ContainsFunc(list, func(s vss.FileSpec) bool { return specHas(s, file) })
}

func (w *oracleWriter) claims(comp, file string) bool {
	return anySpec(w.specs[comp], file) && !anySpec(w.out, file)
}

// included gives the components that take part if every component with a file
// under the paths is wanted.
func (w *oracleWriter) included(files map[string]string, under func(string) bool) []string {
	wanted := map[string]bool{}
	for _, c := range w.tree.all {
		for f := range files {
			if under(f) && w.claims(c, f) {
				wanted[w.tree.raise(c)] = true
			}
		}
	}
	return w.tree.included(w.tree.explicit(wanted))
}

// raise gives what brings a component in: its nearest selectable ancestor if it
// cannot be chosen itself.
func (o oracle) raise(full string) string {
	if o.selectable[full] {
		return full
	}
	best := full
	for _, a := range o.above(full) {
		if o.selectable[a] && (best == full || len(a) > len(best)) {
			best = a
		}
	}
	return best
}

// copied is what a backup holds, and whether two writers claim one file.
func (o *oracleWriters) copied(files map[string]string, req Request) (out map[string]string, conflict bool) {
	under := func(f string) bool {
		return slices.ContainsFunc(req.Paths, func(p string) bool { return strings.HasPrefix("/"+f, p+"/") })
	}
	out = map[string]string{}
	taken := map[string]string{}
	for _, w := range o.list {
		for _, c := range w.included(files, under) {
			for f := range files {
				if !w.claims(c, f) {
					continue
				}
				if by := taken[f]; by != "" && by != w.name {
					conflict = true
				}
				taken[f] = w.name
				out[f] = files[f]
			}
		}
	}
	for f := range files {
		if !under(f) || taken[f] != "" {
			continue
		}
		claimed, excluded := false, false
		for _, w := range o.list {
			for _, c := range w.tree.all {
				claimed = claimed || w.claims(c, f)
			}
			excluded = excluded || anySpec(w.out, f)
		}
		if claimed && req.AsPlainFiles || !claimed && !excluded {
			out[f] = files[f]
		}
	}
	return out, conflict
}

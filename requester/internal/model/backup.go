package model

import (
	"slices"
	"strings"

	"github.com/sombra-backup/sombra/vss"
)

// Host is what a backup finds: the files of the shadow copy and the live ones.
type Host struct{ Shadow, Live Tree }

// Ask is what a backup is asked for.
type Ask struct {
	Type      vss.BackupType
	Strict    bool // --strict-type
	NoPartial bool
	// Explicit gives the explicit components of each writer.
	Explicit map[string][]string
	// Paths and Exclude choose data that no writer claims, AsPlainFiles also what
	// writers claim and is not chosen.
	Paths        []string
	AsPlainFiles bool
}

// Backup makes the record that a backup must make, and adds it to the history.
func (h *History) Backup(writers []Writer, host Host, ask Ask) *Record {
	rec := &Record{Parts: map[ID]Part{}, Files: map[string]Entry{}}
	for i := range writers {
		w := &writers[i]
		for _, explicit := range ask.Explicit[w.Name] {
			c := ID{w.Name, explicit}
			p := h.Decide(w, explicit, ask.Type, ask.Strict)
			if p.Out {
				rec.Parts[c] = p
				continue
			}
			s := &saver{w: w, host: host, part: p, of: c, to: rec.Files, noPartial: ask.NoPartial}
			if p.Base >= 0 {
				s.base = (*h)[p.Base].Files
			}
			for _, m := range w.Members(explicit) {
				s.members = append(s.members, w.component(m))
			}
			s.save()
			p.Failed = s.lacks() || s.refusesRanges()
			rec.Parts[c] = p
		}
	}
	rec.unclaimed(writers, host, ask)
	*h = append(*h, rec)
	return rec
}

// saver makes one component set's part of a record.
type saver struct {
	w         *Writer
	host      Host
	part      Part
	of        ID
	members   []*Component
	base      map[string]Entry // nil if there is none
	to        map[string]Entry
	noPartial bool
}

// found is a file of the set as it is now.
type found struct {
	set  *Set // nil if it is in none
	now  File
	live File
}

// source gives the files of a specification, under their normal paths, as they
// are where they are read: at the alternate path if there is one (R-SET-12). The
// excludes are tested against the normal path (R-SET-11).
func (s *saver) source(spec Spec, alternate string) map[string]found {
	out := map[string]found{}
	from := spec
	if alternate != "" {
		from.Dir = alternate
	}
	for path, now := range s.host.Shadow {
		if from.Has(path) {
			normal := spec.Dir + strings.TrimPrefix(path, from.Dir)
			if !s.w.excludes(normal) {
				out[normal] = found{now: now, live: s.host.Live[path]}
			}
		}
	}
	return out
}

func (s *saver) save() {
	files := map[string]found{}
	for _, c := range s.members {
		for i := range c.Sets {
			for path, f := range s.source(c.Sets[i].Spec, c.Sets[i].Alternate) {
				f.set = &c.Sets[i]
				files[path] = f
			}
		}
	}
	done := map[string]bool{}
	if s.base != nil && s.w.usesTimes(s.part.Type) {
		s.differenced(files, done)
	}
	if !s.noPartial {
		s.partial(files, done)
	}
	if s.builds() {
		s.stayed(files, done)
	}
	for path, f := range files {
		if !done[path] {
			s.byMask(path, f)
		}
	}
}

// lacks reports whether a file that a specification names is not there (R-SET-5),
// though it is not one that the backup brings into being (R-SET-29).
func (s *saver) lacks() bool {
	for _, c := range s.members {
		for _, set := range c.Sets {
			named := !strings.ContainsAny(set.Pattern, "*?") && set.Mask&0x10000 == 0
			from := set.Spec
			if set.Alternate != "" {
				from.Dir = set.Alternate
			}
			met := false
			for path := range s.host.Shadow {
				met = met || from.Has(path)
			}
			if named && !met && s.lists(set) {
				return true
			}
		}
	}
	return false
}

// refusesRanges reports whether the writer lists ranges though it was told that
// none are taken (R-SET-35). Those of what it excludes say nothing (R-SET-45).
func (s *saver) refusesRanges() bool {
	for _, c := range s.members {
		for _, p := range c.Partial {
			if s.noPartial && !s.w.excludes(p.Path) {
				return true
			}
		}
	}
	return false
}

// lists reports whether the record has the files of a set.
func (s *saver) lists(set Set) bool {
	return s.part.due(set) || s.builds() && set.Due(vss.BackupTypeFull)
}

// builds reports whether what the type does not save comes from the base.
func (s *saver) builds() bool {
	return s.part.Type == vss.BackupTypeIncremental || s.part.Type == vss.BackupTypeDifferential
}

// differenced does what the writer gave times for; it goes before all else
// (R-SET-41, R-SET-42).
func (s *saver) differenced(files map[string]found, done map[string]bool) {
	for _, c := range s.members {
		for _, d := range c.Differenced {
			matches := s.source(d.Spec, "")
			for path, f := range files {
				if f.set.same(d.Spec) { // R-SET-33, R-SET-43
					matches[path] = f
				} else {
					delete(matches, path)
				}
			}
			for path, f := range matches {
				done[path] = true
				switch {
				case f.now.Time > d.After: // also with zero: it is as it was, or is read
					s.put(path, f, whole(f.now))
				case s.had(path):
					s.keep(path)
				case f.set != nil: // the base lacks it: the record would not be complete
					s.put(path, f, whole(f.now))
				}
			}
		}
	}
}

// partial does what the writer gave ranges for (R-SET-35, R-SET-36). Where the
// base has all of the file the rest is from there, if it is the same file, else all
// of it is read. Where an incremental or differential backup has no rest to take
// all of it is read, too. In other backups the ranges are all there is.
func (s *saver) partial(files map[string]found, done map[string]bool) {
	ranges := map[string][]Range{}
	for _, c := range s.members {
		for _, p := range c.Partial {
			if !done[p.Path] && !s.w.excludes(p.Path) { // R-SET-42, R-SET-45
				ranges[p.Path] = append(ranges[p.Path], p.Ranges...)
			}
		}
	}
	for path, list := range ranges {
		f, in := files[path]
		if !in {
			f.now, in = s.host.Shadow[path]
		}
		if !in {
			continue
		}
		done[path] = true
		aside := f.set != nil && f.set.Alternate != "" // made for each backup
		was, ok := s.base[path]
		ok = ok && was.Of == s.of
		changes := s.part.Asked == vss.BackupTypeIncremental || s.part.Asked == vss.BackupTypeDifferential
		switch {
		case changes && !ok, s.part.Asked == vss.BackupTypeLog && s.part.Base < 0:
			s.put(path, f, whole(f.now)) // nothing has the rest
		case !ok || was.Known != nil:
			s.put(path, f, onlyRanges(f.now, list))
		case aside || s.base[path].file == f.now.ID:
			s.put(path, f, patched(s.base[path].Data, f.now, list))
		default: // another file in its place
			s.put(path, f, whole(f.now))
		}
	}
}

// stayed keeps what the base has of files in no file set that its writer listed
// then, and lists no more, as long as they are there.
func (s *saver) stayed(files map[string]found, done map[string]bool) {
	for path, e := range s.base {
		_, in := files[path]
		_, there := s.host.Shadow[path]
		if e.listed && e.Of == s.of && !in && there && !done[path] && !s.w.excludes(path) {
			s.keep(path)
		}
	}
}

// byMask does what the writer says nothing more of.
func (s *saver) byMask(path string, f found) {
	switch {
	case s.part.due(*f.set): // R-SET-26: whole, whatever its age
		s.put(path, f, whole(f.now))
	case !s.lists(*f.set):
	case s.had(path):
		s.keep(path)
	default: // the record is complete
		s.put(path, f, whole(f.now))
	}
}

func (s *saver) put(path string, f found, h Held) {
	e := Entry{Held: h, Of: s.of, Shadow: true, file: f.now.ID, listed: f.set == nil}
	if f.set != nil {
		e.Shadow = s.part.needsShadow(*f.set)
		e.Carried = f.set.Log || !f.set.Due(vss.BackupTypeFull)
	}
	s.to[path] = e
}

// had reports whether the base holds a file, and all of it, for this component.
func (s *saver) had(path string) bool {
	e, ok := s.base[path]
	return ok && e.Of == s.of && e.Known == nil
}

func (s *saver) keep(path string) { s.to[path] = s.base[path] }

// unclaimed adds data that is nobody's, and claimed data that is wanted plain.
func (r *Record) unclaimed(writers []Writer, host Host, ask Ask) {
	for path, f := range host.Shadow {
		under := slices.ContainsFunc(ask.Paths, func(p string) bool { return below(path, p) })
		if _, taken := r.Files[path]; taken || !under {
			continue
		}
		claimed, mine, excluded := false, false, false
		for i := range writers {
			w := &writers[i]
			for j := range w.Components {
				c := &w.Components[j]
				claims, has := w.claims(c, path), r.has(w, c.Path)
				claimed = claimed || claims
				// What a component that takes part is read from is no data of its own.
				mine = mine || has && (claims || c.reads(path))
			}
			excluded = excluded || w.excludes(path)
		}
		if !mine && (claimed && ask.AsPlainFiles || !claimed && !excluded) {
			r.Files[path] = Entry{Held: whole(f)}
		}
	}
}

// has reports whether a component has a part in the record.
func (r *Record) has(w *Writer, component string) bool {
	for c, p := range r.Parts {
		if c.Writer == w.Name && !p.Out && slices.Contains(w.Members(c.Component), component) {
			return true
		}
	}
	return false
}

// reads reports whether a path is where the component's files are read from,
// and is not their own.
func (c *Component) reads(path string) bool {
	for _, s := range c.Sets {
		from := s.Spec
		from.Dir = s.Alternate
		if s.Alternate != "" && from.Has(path) {
			return true
		}
	}
	return false
}

// Conflict reports whether two writers claim one file of what is chosen.
func Conflict(writers []Writer, tree Tree, explicit map[string][]string) bool {
	for path := range tree {
		n := 0
		for i := range writers {
			w := &writers[i]
			claims := false
			for _, e := range explicit[w.Name] {
				for _, m := range w.Members(e) {
					claims = claims || w.claims(w.component(m), path)
				}
			}
			if claims {
				n++
			}
		}
		if n > 1 {
			return true
		}
	}
	return false
}

// Wanted gives the components with a file under the paths. Files that are read
// from elsewhere, or come with the backup, need not be there yet: their place
// decides.
func Wanted(w *Writer, tree Tree, paths []string) (out []string) {
	for i := range w.Components {
		c := &w.Components[i]
		if slices.ContainsFunc(paths, func(p string) bool { return w.touches(c, tree, p) }) {
			out = append(out, c.Path)
		}
	}
	return out
}

// below reports whether a path is top or lies below it.
func below(path, top string) bool { return path == top || strings.HasPrefix(path, top+"/") }

func (w *Writer) touches(c *Component, tree Tree, under string) bool {
	for path := range tree {
		if below(path, under) && w.claims(c, path) {
			return true
		}
	}
	for _, s := range c.Sets {
		if s.Alternate == "" && s.Mask&0x10000 == 0 {
			continue
		}
		if _, file := tree[under]; file { // the path is this one file
			if s.Has(under) && !w.excludes(under) {
				return true
			}
			continue
		}
		dir := s.Dir
		if s.Recursive && below(under, s.Dir) {
			dir = under
		}
		at := Spec{dir, s.Pattern, s.Recursive}
		if below(dir, under) && !slices.ContainsFunc(w.Excludes, at.within) {
			return true
		}
	}
	return false
}

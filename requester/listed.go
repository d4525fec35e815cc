package requester

import (
	"fmt"
	"path"
	"time"

	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/vss"
)

// Listed is one entry of a writer's lists of differenced and partial files
// (GetDifferencedFile, GetPartialFile), with its place on the host.
type Listed struct {
	// Component is the explicit component in whose part of the document it is.
	Component *Component
	// Spec has a partial file's name as its pattern.
	Spec vss.FileSpec
	// Partial tells a partial file from differenced ones.
	Partial bool
	// Since is of differenced files: those modified after it are to be saved;
	// zero leaves it to our records (R-SET-31).
	Since vss.FileTime
	// Ranges are of a partial file, or are in the ranges file of the host that
	// RangesFile names (R-SET-38).
	Ranges     vss.Ranges
	RangesFile string
	// Places are where it is: one, and of a recursive specification one more for
	// each volume nested below it.
	Places []ListedPlace
	// Err says why it cannot be placed, or what else is wrong with it.
	Err error
}

// ListedPlace is a directory of a volume that a [Listed] has files in.
type ListedPlace struct {
	Volume, Dir string
	Nested      bool
}

// ListRules is what [PlanListed] goes by.
type ListRules struct {
	Claims *Claims
	// Typing is of an explicit component.
	Typing func(*Component) Typing
	// Volume says why files that are in no specification cannot be taken from a
	// volume (R-SET-34); "" if they can.
	Volume func(id string) string
	// Copied reports whether there is a shadow copy of a volume.
	Copied func(id string) bool
	// NoPartial: the writers were told that no partial files are taken.
	NoPartial bool
}

// Since tells which of a set's files are saved: those modified after one of the
// times and, with Records, those that our record of the base does not have.
type Since struct {
	Times   []time.Time
	Records bool
}

// After reports whether a file modified then is saved whatever our records say.
func (s *Since) After(modified time.Time) bool {
	for _, t := range s.Times {
		if modified.After(t) {
			return true
		}
	}
	return false
}

func (s *Since) add(t vss.FileTime) {
	if t.IsZero() {
		s.Records = true
	} else {
		s.Times = append(s.Times, t.Time())
	}
}

// ListedSet is a set of differenced files that equals none of the component's
// file specifications, and adds files to it.
type ListedSet struct {
	*Claim
	Since
	Defining *Component
}

// PartialFile is one file of which a writer wants ranges saved.
type PartialFile struct {
	// Claim has the file alone as its set; its File is the specification that
	// the file is one of, or else one made of the entry.
	*Claim
	Defining *Component
	// New: no specification of the component has it (R-SET-34).
	New bool
	// Ranges are as the writer gave them: in any order, overlapping, empty.
	Ranges vss.Ranges
	// Files are the ranges files that have more of them.
	Files []string
	// Err says why the ranges are not known.
	Err error
}

// Fault is a mistake in a writer's lists.
type Fault struct {
	Component *Component // the explicit one
	// Path is of the file or file specification, as the writer has it.
	Path string
	Text string
	// Fails: the component is not saved as its writer wanted.
	Fails bool
}

// ListedPlan is what the lists of all writers come to.
type ListedPlan struct {
	// Sets are the file specifications that differenced ones equal.
	Sets map[*FileSet]*Since
	// New are the differenced files that equal none, in the document's order.
	New []*ListedSet
	// Partial are the partial files, in the order of their first entries.
	Partial []*PartialFile
	Faults  []Fault

	places map[placeKey]*PartialFile
}

// placeKey tells files apart, by names folded as the host folds them.
type placeKey struct{ volume, name string }

// PartialAt gives the partial file that has the name on a volume, or nil.
func (p *ListedPlan) PartialAt(volume, name string, style vss.PathStyle) *PartialFile {
	if p == nil || len(p.places) == 0 {
		return nil
	}
	return p.places[placeKey{volume, style.NameKey(name)}]
}

// Of gives what differenced files a specification equals, nil for none.
func (p *ListedPlan) Of(f *FileSet) *Since {
	if p == nil {
		return nil
	}
	return p.Sets[f]
}

// PlanListed decides what the lists of differenced and partial files mean. The
// rules, in the order of work (R-SET-41):
//
//   - Differenced files count in incremental and differential backups of writers
//     that have LAST_MODIFY (R-SET-32). A set equals one of the component's
//     specifications, or its subcomponents', in all three parts, or meets none of
//     any component and is new (R-SET-33, D-15).
//   - A partial file may be one of a larger specification of the component, or
//     new; never one of another component's (D-15, R-SET-36).
//   - What is new lies on a volume of the set (R-SET-34).
//   - A file that is both is a differenced one, and that is a fault (R-SET-42).
//   - What the writer excludes is not taken (R-SET-45).
//   - A set or file listed more than once has the times and ranges of all entries.
//
// It is a pure function.
func PlanListed(list []Listed, rules ListRules) *ListedPlan {
	p := &listPlanner{ListRules: rules, plan: &ListedPlan{Sets: map[*FileSet]*Since{}, places: map[placeKey]*PartialFile{}},
		dirs: map[placeKey][]*Claim{}, fresh: map[listedKey]*ListedSet{}, index: map[string]*provider.SetIndex[*ListedSet]{}}
	for _, claims := range rules.Claims.list {
		for _, cl := range claims {
			key := p.place(cl.Volume, cl.Set.Dir)
			p.dirs[key] = append(p.dirs[key], cl)
		}
	}
	for i := range list {
		if !list[i].Partial {
			p.differenced(&list[i])
		}
	}
	for i := range list {
		if list[i].Partial {
			p.partial(&list[i])
		}
	}
	return p.plan
}

// listedKey is what two file sets have in common that are equal in all parts.
type listedKey struct {
	placeKey
	pattern   string
	recursive bool
	defining  *Component
}

type listPlanner struct {
	ListRules
	plan  *ListedPlan
	dirs  map[placeKey][]*Claim // by the directory of their set
	fresh map[listedKey]*ListedSet
	index map[string]*provider.SetIndex[*ListedSet] // of the new sets, by volume
}

func (p *listPlanner) place(volume, name string) placeKey {
	return placeKey{volume, p.Claims.style.NameKey(name)}
}

func (p *listPlanner) key(def *Component, volume string, s provider.FileSet) listedKey {
	pattern := s.Pattern
	if pattern == "*.*" {
		pattern = "*"
	}
	return listedKey{p.place(volume, s.Dir), p.Claims.style.NameKey(pattern), s.Recursive, def}
}

func (p *listPlanner) fault(l *Listed, fails bool, format string, args ...any) {
	p.plan.Faults = append(p.plan.Faults, Fault{l.Component, specPath(l.Spec, p.Claims.style), fmt.Sprintf(format, args...), fails})
}

// specPath is a specification's path and pattern as one path of the host.
func specPath(s vss.FileSpec, style vss.PathStyle) string { return withSep(style, s.Path) + s.Pattern }

// differenced enters a set of differenced files.
func (p *listPlanner) differenced(l *Listed) {
	typing := p.Typing(l.Component)
	if typing.LeftOut != "" || !typing.Fills() {
		return // R-SET-32
	}
	schema := l.Component.Writer.Schema
	switch {
	case !schema.Supports(typing.Type) || schema&vss.SchemaLastModify == 0:
		p.fault(l, false, "its writer lists it as differenced files and does not declare VSS_BS_LAST_MODIFY, "+
			"so that its files are saved as others are") // R-SET-32
		return
	case l.Err != nil:
		p.fault(l, true, "its writer lists it as differenced files: %v", l.Err)
		return
	}
	if p.equals(l, &typing) {
		return
	}
	for _, at := range l.Places {
		if !p.newSet(l, at) {
			return
		}
	}
}

// equals finds the specifications of the component set that a differenced one
// equals (R-SET-33).
func (p *listPlanner) equals(l *Listed, typing *Typing) (found bool) {
	for _, at := range l.Places {
		want := p.key(nil, at.Volume, provider.FileSet{Dir: at.Dir, Pattern: l.Spec.Pattern, Recursive: l.Spec.Recursive})
		for _, cl := range p.dirs[want.placeKey] {
			if at.Nested || cl.Nested || !has(l.Component, cl.Component) || p.key(nil, cl.Volume, cl.Set) != want {
				continue
			}
			found = true
			if typing.FromShadow(cl.File) && !p.Copied(cl.From) && !typing.Lists(cl.File) {
				p.fault(l, true, "it is to be read from the shadow copy only, and its volume was left out of the set, as the mask has "+
					"nothing of it saved in this type of backup") // R-SET-27
				continue
			}
			s := p.plan.Sets[cl.File]
			if s == nil {
				s = &Since{}
				p.plan.Sets[cl.File] = s
			}
			s.add(l.Since)
		}
	}
	return found
}

// newSet enters a set that equals none, at one of its places.
func (p *listPlanner) newSet(l *Listed, at ListedPlace) bool {
	set := provider.FileSet{Dir: at.Dir, Pattern: l.Spec.Pattern, Recursive: l.Spec.Recursive}
	if s := p.fresh[p.key(l.Component, at.Volume, set)]; s != nil {
		s.add(l.Since)
		return true
	}
	if cl := p.meets(at.Volume, set); cl != nil {
		p.fault(l, true, "its writer lists it as differenced files, and it shares files with the file specification %s of %s without being "+
			"equal to it", cl.File.Spec, cl.Component.Label()) // R-SET-33
		return false
	}
	if why := p.Volume(at.Volume); why != "" {
		p.fault(l, true, "its writer adds it as differenced files, and %s", why) // R-SET-34
		return false
	}
	s := &ListedSet{Defining: l.Component, Claim: &Claim{Component: l.Component, Volume: at.Volume, From: at.Volume, Dir: at.Dir, Nested: at.Nested, Set: set,
		File: &FileSet{Spec: l.Spec, Mask: vss.DefaultFileSpecBackupType}}}
	s.add(l.Since)
	p.fresh[p.key(l.Component, at.Volume, set)] = s
	p.plan.New = append(p.plan.New, s)
	if p.index[at.Volume] == nil {
		p.index[at.Volume] = provider.NewSetIndex[*ListedSet](p.Claims.fold)
	}
	p.index[at.Volume].Add(set, s)
	return true
}

// meets finds a claim of any component that could share files with a set.
func (p *listPlanner) meets(volume string, set provider.FileSet) *Claim {
	x := &Claim{Volume: volume, Set: set}
	fold := p.Claims.fold
	for dir := set.Dir; ; dir = path.Dir(dir) {
		for _, cl := range p.dirs[p.place(volume, dir)] {
			if setsMeet(x, cl, fold) {
				return cl
			}
		}
		if dir == "." || dir == "/" {
			break
		}
	}
	if !set.Recursive {
		return nil
	}
	for key, claims := range p.dirs {
		if key.volume != volume {
			continue
		}
		for _, cl := range claims {
			if setsMeet(x, cl, fold) {
				return cl
			}
		}
	}
	return nil
}

// partial enters a partial file.
func (p *listPlanner) partial(l *Listed) {
	typing := p.Typing(l.Component)
	if typing.LeftOut != "" {
		return
	}
	if l.Err != nil && len(l.Places) == 0 {
		p.fault(l, true, "its writer lists it as a partial file: %v", l.Err)
		return
	}
	at := l.Places[0]
	name := path.Join(at.Dir, l.Spec.Pattern)
	if p.Claims.Excludes(l.Component.Writer, at.Volume, name) {
		return // R-SET-45
	}
	switch {
	case p.NoPartial:
		p.fault(l, true, "its writer lists it as a partial file, and was told that none are taken (--no-partial)") // R-SET-35
		return
	case l.Err != nil:
		p.fault(l, true, "its writer lists it as a partial file: %v", l.Err)
		return
	}
	own, other := p.owners(l, at.Volume, name)
	if p.isDifferenced(l, at.Volume, name, own) {
		p.fault(l, false, "its writer lists it both as a differenced and as a partial file; it is taken as a differenced one") // R-SET-42
		return
	}
	key := p.place(at.Volume, name)
	f := p.plan.places[key]
	if f != nil && f.Defining != l.Component {
		p.fault(l, true, "it is listed as a partial file of %s too", f.Defining.Label())
		return
	}
	if f == nil {
		if f = p.newPartial(l, at, own, other, &typing); f == nil {
			return
		}
		p.plan.places[key] = f
		p.plan.Partial = append(p.plan.Partial, f)
	}
	f.Ranges = append(f.Ranges, l.Ranges...)
	if l.RangesFile != "" {
		f.Files = append(f.Files, l.RangesFile)
	}
}

// newPartial is a partial file when it is met first; nil after a fault.
func (p *listPlanner) newPartial(l *Listed, at ListedPlace, own, other *Claim, typing *Typing) *PartialFile {
	set := provider.FileSet{Dir: at.Dir, Pattern: l.Spec.Pattern}
	switch {
	case own != nil:
		if typing.FromShadow(own.File) && !p.Copied(own.From) {
			p.fault(l, true, "it is to be read from the shadow copy only, and there is none of its volume") // R-SET-27
			return nil
		}
		cl := *own
		cl.Set = set
		if below := relName(own.Set.Dir, at.Dir); below != "" {
			cl.Dir = path.Join(own.Dir, below)
		}
		return &PartialFile{Claim: &cl, Defining: l.Component}
	case other != nil:
		p.fault(l, true, "its writer lists it as a partial file, and it is in the file specification %s of %s", other.File.Spec, other.Component.Label()) // D-15
		return nil
	}
	if why := p.Volume(at.Volume); why != "" {
		p.fault(l, true, "its writer adds it as a partial file, and %s", why) // R-SET-34
		return nil
	}
	return &PartialFile{New: true, Defining: l.Component, Claim: &Claim{Component: l.Component, Volume: at.Volume, From: at.Volume, Dir: at.Dir, Set: set,
		File: &FileSet{Spec: l.Spec, Mask: vss.DefaultFileSpecBackupType}}}
}

// owners finds the claim of the component set that has a file, and one of
// another component's.
func (p *listPlanner) owners(l *Listed, volume, name string) (own, other *Claim) {
	for _, cl := range p.Claims.Find(volume, name).Claims {
		switch {
		case !has(l.Component, cl.Component):
			other = cl
		case own == nil && !(cl.Alternate && cl.Nested):
			own = cl
		}
	}
	return own, other
}

// isDifferenced reports whether a file is in a set of differenced ones.
func (p *listPlanner) isDifferenced(l *Listed, volume, name string, own *Claim) bool {
	if own != nil && p.plan.Sets[own.File] != nil {
		return true
	}
	found := false
	if x := p.index[volume]; x != nil {
		x.Each(name, func(s *ListedSet) bool {
			found = s.Defining == l.Component
			return !found
		})
	}
	return found
}

// has reports whether a component is in the set that another defines.
func has(def, c *Component) bool {
	return def == c || def.Writer == c.Writer && def.Selectable && vss.IsDescendant(c.LogicalPath, def.FullPath())
}

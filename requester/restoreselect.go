package requester

import (
	"fmt"
	"slices"
)

// RestoreSet is one component set chosen for restore.
type RestoreSet struct {
	// Component was explicit in the backup.
	Component *Component
	// Subcomponents, if any, are all of the set that is restored (R-SEL-23);
	// each with what is below it (R-SEL-26).
	Subcomponents []*Component
	Why           string
}

// Covers reports whether the files of a member are restored with the set.
func (r *RestoreSet) Covers(m *Component) bool {
	if len(r.Subcomponents) == 0 {
		return true
	}
	for _, s := range r.Subcomponents {
		if m == s || m.ID().IsDescendantOf(s.ID()) {
			return true
		}
	}
	return false
}

// RestoreWish is what a restore selection is made from.
type RestoreWish struct {
	// Wanted gives components and why; nil means every explicit one.
	Wanted map[*Component]string
	// Excluded gives components to leave out.
	Excluded map[*Component]string
}

// RestoreSelection is what [SelectForRestore] chose.
type RestoreSelection struct {
	Sets []*RestoreSet
	Out  map[*Component]Bar
	// Remote are dependencies on other machines.
	Remote map[*Component][]Dependency
}

// SelectForRestore applies the rules of selection for restore. explicit are the
// components that were explicit in the backup, and defining gives for every
// component that took part in it its explicit one.
//
// What was explicit may be selected, whatever its flag (R-SEL-22); what was
// implicit only if it is selectable for restore, through its defining component
// (R-SEL-24); anything else comes with its set alone (R-SEL-27). Dependencies
// hold as in a backup (R-SEL-31).
func SelectForRestore(explicit []*Component, defining map[*Component]*Component, wish RestoreWish) (*RestoreSelection, error) {
	r := &restoreSelector{explicit: explicit, defining: defining, out: map[*Component]Bar{}}
	for c, by := range wish.Excluded {
		def := defining[c]
		switch {
		case def == nil:
		case def == c:
			r.out[c] = Bar{Why: "excluded by " + by, Asked: true}
		case hasKey(wish.Excluded, def):
		default:
			return nil, fmt.Errorf("%s cannot be left out alone: it is in the set of %s; name the members to restore instead", c.Label(), def.FullPath())
		}
	}
	chosen := map[*Component]*RestoreSet{}
	if wish.Wanted == nil {
		for _, c := range explicit {
			chosen[c] = &RestoreSet{Component: c, Why: "everything"}
		}
	} else if err := r.named(chosen, wish.Wanted); err != nil {
		return nil, err
	}
	for {
		if r.depend(chosen) {
			break
		}
	}
	return r.result(chosen), nil
}

type restoreSelector struct {
	explicit []*Component
	defining map[*Component]*Component
	out      map[*Component]Bar
}

func hasKey(m map[*Component]string, c *Component) bool { _, ok := m[c]; return ok }

// named enters what was named: explicit components whole, members through
// their defining component.
func (r *restoreSelector) named(chosen map[*Component]*RestoreSet, wanted map[*Component]string) error {
	for _, c := range r.explicit {
		if why, ok := wanted[c]; ok {
			chosen[c] = &RestoreSet{Component: c, Why: why}
		}
	}
	for _, def := range r.explicit {
		for _, m := range def.Members() {
			why, ok := wanted[m]
			if !ok || hasKey(wanted, def) || r.defining[m] != def {
				continue
			}
			if !m.SelectableForRestore {
				return r.notAlone(def, m)
			}
			set := chosen[def]
			if set == nil {
				set = &RestoreSet{Component: def, Why: why}
				chosen[def] = set
			}
			if !coveredBy(set.Subcomponents, m) {
				set.Subcomponents = slices.DeleteFunc(set.Subcomponents, func(s *Component) bool { return coveredBy([]*Component{m}, s) })
				set.Subcomponents = append(set.Subcomponents, m)
			}
		}
	}
	for c := range wanted {
		if r.defining[c] == nil {
			if r.anyOfWriter(wanted, c) {
				continue // named with its writer, of which other components are there
			}
			return fmt.Errorf("%s is not in this backup", c.Label())
		}
	}
	return nil
}

func (r *restoreSelector) anyOfWriter(wanted map[*Component]string, c *Component) bool {
	for _, e := range r.explicit {
		if e.Writer == c.Writer && wanted[e] == wanted[c] && hasKey(wanted, e) {
			return true
		}
	}
	return false
}

// coveredBy: the member lies below one already named, which defines a restore
// set (R-SEL-26).
func coveredBy(list []*Component, m *Component) bool {
	for _, s := range list {
		if m == s || m.ID().IsDescendantOf(s.ID()) {
			return true
		}
	}
	return false
}

func (r *restoreSelector) notAlone(def, m *Component) error {
	for _, a := range m.ancestors {
		if a == def {
			break
		}
		if a.SelectableForRestore {
			return fmt.Errorf("%s cannot be restored alone; restore %s", m.Label(), a.FullPath()) // R-SEL-27
		}
	}
	return fmt.Errorf("%s cannot be restored alone; restore %s", m.Label(), def.FullPath()) // R-SEL-27
}

// depend sees to the dependencies of what is chosen: true when nothing is left
// to do.
func (r *restoreSelector) depend(chosen map[*Component]*RestoreSet) bool {
	for c := range r.out {
		delete(chosen, c)
	}
	for _, def := range r.explicit {
		set := chosen[def]
		if set == nil {
			continue
		}
		for _, m := range def.Set() {
			if !set.Covers(m) {
				continue
			}
			for _, d := range m.Dependencies {
				if d.Computer != "" {
					continue
				}
				if changed := r.pull(chosen, def, m, d); changed {
					return false
				}
			}
		}
	}
	return true
}

// pull adds the target of one dependency, or bars what depends on it.
func (r *restoreSelector) pull(chosen map[*Component]*RestoreSet, def, m *Component, d Dependency) (changed bool) {
	var target *Component
	for t, tdef := range r.defining {
		if t.Writer.Class != d.Class || t.LogicalPath != d.LogicalPath || t.Name != d.Name {
			continue
		}
		if set := chosen[tdef]; set != nil && set.Covers(t) {
			return false
		}
		target = tdef
	}
	if target == nil {
		r.out[def] = Bar{Why: fmt.Sprintf("%s depends on %s, which is not in this backup", m.FullPath(), d)}
		return true
	}
	if bar, barred := r.out[target]; barred {
		r.out[def] = Bar{Why: fmt.Sprintf("%s depends on %s, which is left out: %s", m.FullPath(), target.Label(), bar.Why)}
		return true
	}
	// A narrowed set is widened: the target must be there.
	chosen[target] = &RestoreSet{Component: target, Why: m.Label() + " depends on it"}
	return true
}

func (r *restoreSelector) result(chosen map[*Component]*RestoreSet) *RestoreSelection {
	out := &RestoreSelection{Out: r.out, Remote: map[*Component][]Dependency{}}
	for _, c := range r.explicit {
		set := chosen[c]
		if set == nil {
			continue
		}
		out.Sets = append(out.Sets, set)
		for _, m := range c.Set() {
			for _, d := range m.Dependencies {
				if d.Computer != "" && set.Covers(m) {
					out.Remote[m] = append(out.Remote[m], d)
				}
			}
		}
	}
	return out
}
